"""The data that comes with Winnow, so that every page has something to show from the first minute."""

from __future__ import annotations

from pathlib import Path

import msgspec

from workspace.columns import Mapping

_FOLDER = Path(__file__).with_name("bundled")


class Sample(msgspec.Struct, frozen=True):
    """A bundled file. `task` names the bundled task it goes with, `gold` maps its dimensions to columns."""

    name: str
    title: str
    path: Path
    task: str
    text_column: str
    id_column: str
    gold_column: str  # of the task's first dimension
    domain_column: str | None
    gold: dict[str, str]
    attribution: str

    @property
    def mapping(self) -> Mapping:
        """How to load it with everything in it."""
        return Mapping((self.text_column,), None, self.id_column, self.domain_column, self.gold)


BUNDLED: tuple[Sample, ...] = (
    Sample(
        name="tweets",
        title="500 tweets with 20 human ratings each",
        path=_FOLDER / "tweets.parquet",
        task="sentiment",
        text_column="text",
        id_column="id",
        gold_column="sentiment",
        domain_column=None,
        gold={"sentiment": "sentiment"},
        attribution="C.J. Hutto and Eric Gilbert, VADER (2014), MIT License",
    ),
    Sample(
        name="questions",
        title="62 questions, half of which need a web search",
        path=_FOLDER / "questions.csv",
        task="search_needed",
        text_column="question",
        id_column="id",
        gold_column="search_needed",
        domain_column="domain",
        gold={"search_needed": "search_needed", "domain": "domain"},
        attribution="Written for Winnow, MIT License",
    ),
)


def sample(name: str) -> Sample:
    """The bundled sample of that name. Raises KeyError when there is none."""
    for found in BUNDLED:
        if found.name == name:
            return found
    raise KeyError(name)
