"""Rows prepared per second against the plain way: spaCy's whole pipeline twice per row, and a loop over the
dictionary for each token.

Both sides do the same steps with the same dictionary: white space, contractions, abbreviations, emoji to words,
and names of people, places and works as a hint. The plain side is what is mostly found in notebooks: for each row
`nlp(row)` once for its tokens and once for its entities, each token compared with each entry of the dictionary,
and `emoji.demojize`. Rows are distinct and nothing is remembered between rounds. The rounds alternate, the medians
are compared. `ratio_cpu` compares seconds of the processor instead, which other work on the machine does not
change. `plain_lookup_rows_per_s` is the plain side with a lookup instead of the loop, for comparison.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import emoji
import pyarrow.parquet as pq
import spacy

import benchmarks
from engine.text import entities
from engine.text.dictionary import entries
from engine.text.preparing import NO_ENTITIES, prepare
from workspace.facts import Preparation

BUNDLED = Path(__file__).resolve().parents[1] / "workspace" / "bundled" / "tweets.parquet"
ROWS_QUICK, ROWS = 150, 500
ROUNDS_QUICK, ROUNDS = 3, 5
ALL = Preparation(whitespace=True, contractions=True, slang=True, emoji=True, entities=True)
STEPS = {
    "whitespace": Preparation(whitespace=True),
    "lowercase": Preparation(lowercase=True),
    "contractions": Preparation(contractions=True),
    "slang": Preparation(slang=True),
    "emoji": Preparation(emoji=True),
    "entities": Preparation(entities=True),
    "compression": Preparation(max_tokens=16),
}


def run(quick: bool, data: Path | None) -> dict[str, object]:
    """Measure; `ratio` is our median rows per second over the plain side's. `--data` takes hutto_tweets.parquet
    from there instead of the tweets that come along."""
    file = BUNDLED if data is None else benchmarks.need(data, "hutto_tweets.parquet")
    texts = pq.read_table(file).column("text").to_pylist()[: ROWS_QUICK if quick else ROWS]
    rows: list[str] = list(dict.fromkeys(texts))
    finder = entities.finder()
    if finder is None:
        raise benchmarks.MissingData(NO_ENTITIES)
    plain = _Plain()
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: [plain.prepare(row) for row in rows],
        "winnow": lambda: _fresh(finder, rows, ALL),
        "plain_lookup": lambda: [plain.prepare(row, loop=False) for row in rows],
    }
    _fresh(finder, rows[:50], ALL)
    [plain.prepare(row) for row in rows[:10]]
    rates: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS_QUICK if quick else ROUNDS):
        for name, work in ways.items():
            spent = time.process_time()
            rates[name].append(_rate(rows, work))
            cpu[name].append(time.process_time() - spent)
        print(f"round {number + 1}: " + ", ".join(f"{name} {rate[-1]:.0f} rows/s" for name, rate in rates.items()))
    steps = {
        f"{name}_rows_per_s": round(
            statistics.median(_rate(rows, partial(_fresh, finder, rows, step)) for _ in "123")
        )
        for name, step in STEPS.items()
    }
    medians = {name: statistics.median(rate) for name, rate in rates.items()}
    return {
        "benchmark": "text",
        "ratio": round(medians["winnow"] / medians["plain"], 2),
        "ratio_cpu": round(statistics.median(cpu["plain"]) / statistics.median(cpu["winnow"]), 2),
        "ratio_lookup": round(medians["winnow"] / medians["plain_lookup"], 2),
        **{f"{name}_rows_per_s": round(rate, 1) for name, rate in medians.items()},
        **steps,
        "rows": len(rows),
        "rounds": len(rates["plain"]),
        "entries": len(entries(("slang", "contraction"))),
    }


class _Plain:
    """The peer, row by row."""

    def __init__(self) -> None:
        self._nlp: Any = next(spacy.load(name) for name in entities.MODELS if spacy.util.is_package(name))
        self._dictionary = entries(("slang", "contraction"))

    def prepare(self, row: str, loop: bool = True) -> str:
        text = emoji.demojize(" ".join(row.split()), delimiters=(" ", " ")).replace("_", " ")
        words = []
        for token in text.split(" "):
            word = token
            if loop:
                for written, meaning in self._dictionary.items():
                    if token.lower() == written:
                        word = meaning
            else:
                word = self._dictionary.get(token.lower(), token)
            words.append(word)
        tokens = [token.text_with_ws for token in self._nlp(" ".join(words))]
        text = "".join(tokens)
        found = [
            (entity.text, entity.label_) for entity in self._nlp(text).ents if entity.label_ in entities.TYPES
        ]
        return text + entities.hint([entities.Entity(*pair) for pair in dict.fromkeys(found)])


def _fresh(finder: entities.Finder, rows: Sequence[str], preparation: Preparation) -> object:
    finder.forget()
    return prepare(rows, preparation)


def _rate(rows: Sequence[str], work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return len(rows) / (time.perf_counter() - started)
