"""How often the labels are right, by how the question is put: against people's labels, and against JSON answers.

Four collections with labels of their own, drawn with a fixed seed. Every row is asked in the phrasings of
`workspace.facts.Phrasing`; a mean of several is that of their log-probabilities. `words` and `plain` are asked
with one prompt; `letters` needs letters in it, so it and the mean of three are from another. Raw is the likeliest
label; corrected is it after half of each label's mean log-probability over the rows was taken out, which needs no
labels (`calibration.correct_label_bias`). JSON is the same model with the same instructions in
`benchmarks/_json_loop.py`, on the first rows only, since it is slow. Prints a Markdown table before the JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

import benchmarks
from benchmarks._json_loop import JsonLoop
from calibration import correct_label_bias
from engine.models import catalog
from engine.models.llama_cpp import LlamaScorer
from engine.prompt import prompt_for
from workspace.facts import DimensionSpec, ModelSpec, Phrasing
from workspace.task import parse_task

BUNDLED = Path(__file__).resolve().parents[1] / "workspace" / "bundled"
PHRASINGS: tuple[Phrasing, ...] = ("words", "plain", "letters")
COMPARED: tuple[tuple[Phrasing, ...], ...] = (("words",), ("plain",), ("letters",), ("words", "plain"), PHRASINGS)
ROWS_QUICK, ROWS = 120, 600
JSON_ROWS_QUICK, JSON_ROWS = 16, 120
FEWER = 4  # times fewer rows of a larger model
COST_ROWS = 24
CHARACTERS = 400  # of a row that are read; news are longer

NEWS = """
name: news
dimensions:
  - name: topic
    question: What is the news article about?
    labels: [business, entertainment, politics, sports, tech]
"""
KINDS = {
    "ABBR": "abbreviation",
    "DESC": "description",
    "ENTY": "entity",
    "HUM": "person",
    "LOC": "location",
    "NUM": "number",
}


@dataclass(frozen=True)
class Collection:
    """Rows with labels: the file, the columns, the task, and what its labels are called there."""

    file: str
    column: str
    task: str  # a bundled task, or a document
    names: dict[str, str]  # labels of the file and of the task, where they differ
    balanced: bool = False  # as many rows of each label
    text: str = "text"


COLLECTIONS = {
    "TREC questions, 6": Collection("trec_questions.parquet", "coarse", "questions", KINDS),
    "SMS spam, 2": Collection("sms_spam.parquet", "label", "spam", {}, balanced=True),
    "tweets, 3": Collection("hutto_tweets.parquet", "majority", "sentiment", {}),
    "BBC news, 5": Collection("bbc_news.parquet", "label", NEWS, {}),
}

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def run(quick: bool, data: Path | None, qwen: Path | None) -> dict[str, object]:
    """Accuracies by model, collection and phrasing: [raw, corrected]; for "json" one number. `tokens_per_row` is
    what a phrasing costs: tokens computed for each row of the first collection."""
    for collection in COLLECTIONS.values():
        benchmarks.need(data, collection.file)
    assert data is not None
    rows, json_rows = (ROWS_QUICK, JSON_ROWS_QUICK) if quick else (ROWS, JSON_ROWS)
    result: dict[str, object] = {"benchmark": "accuracy", "rows": rows, "json_rows": json_rows}
    result["smollm2"] = _model(catalog.embedded(), data, rows, json_rows)
    if qwen is not None:
        larger = catalog.resolve(str(qwen))
        result |= {"rows_qwen": rows // FEWER, "json_rows_qwen": json_rows // FEWER}
        result["qwen"] = _model(larger, data, rows // FEWER, json_rows // FEWER)
    return result


def _model(model: ModelSpec, data: Path, rows: int, json_rows: int) -> dict[str, object]:
    found: dict[str, dict[str, object]] = {}
    cost: dict[str, float] = {}
    for title, collection in COLLECTIONS.items():
        dimension = dimension_of(collection, ("words",))
        places, gold = sample(data, collection, dimension.labels, rows)
        texts = beginnings(data, collection, places)
        scores: dict[str, object] = {}
        for together in (("words", "plain"), PHRASINGS):
            ways, threads = ask(model, dimension_of(collection, together), texts)
            for asked in COMPARED:
                if _title(asked) not in scores and set(asked) <= set(together):
                    mean = ways[:, [together.index(one) for one in asked]].mean(axis=1)
                    scores[_title(asked)] = _accuracies(mean, gold)
        peer = JsonLoop(model.path, threads, [[dimension]])
        said = [label for (label,) in peer.label(texts[:json_rows])]
        peer.close()
        scores["json"] = round(
            float(np.mean([dimension.labels.index(a) == b for a, b in zip(said, gold, strict=False)])), 3
        )
        found[title] = scores
        cost = cost or _costs(model, collection, texts[:COST_ROWS])
        print(f"{model.name}, {title}: {scores}", flush=True)
    _table(model.name, rows, json_rows, found, cost)
    return {**found, "tokens_per_row": cost}


def dimension_of(collection: Collection, phrasings: tuple[Phrasing, ...]) -> DimensionSpec:
    """As the product asks it in these phrasings; only where `letters` is one of them are letters in the prompt."""
    file = BUNDLED / f"{collection.task}.yaml"
    task = parse_task(collection.task if "\n" in collection.task else file.read_text(encoding="utf-8"))
    asked = task.dimensions[0].model_copy(update={"phrasings": phrasings})
    return prompt_for(task.model_copy(update={"dimensions": (asked,)})).dimensions[0]


def ask(model: ModelSpec, dimension: DimensionSpec, texts: list[str]) -> tuple[Floats, int]:
    """Log-probabilities [rows, phrasings, labels], and the number of threads."""
    scorer = LlamaScorer(model.path, [dimension])
    answers = [answer for (answer,) in scorer.ask(texts)]
    scorer.close()
    return np.array([answer.phrasings or (answer.logprobs,) for answer in answers]), scorer.threads


def sample(
    data: Path, collection: Collection, labels: Sequence[str], count: int, *, balanced: bool | None = None
) -> tuple[Integers, Integers]:
    """The places of `count` rows in the file, in an order drawn by lot, and those of their labels in `labels`. As
    many of each label where `balanced` (by default as the collection says); else fewer are the first of more."""
    names = pq.read_table(data / collection.file, columns=[collection.column]).column(0).to_pylist()
    gold = np.array([labels.index(collection.names.get(name, name)) for name in names])
    order = np.random.default_rng(1).permutation(len(gold))
    if collection.balanced if balanced is None else balanced:
        each = [order[gold[order] == label][: count // len(labels)] for label in range(len(labels))]
        order = np.random.default_rng(2).permutation(np.concatenate(each))
    return order[:count], gold[order[:count]]


def beginnings(data: Path, collection: Collection, places: Integers) -> list[str]:
    """What a model reads of the rows at these places."""
    column = pq.read_table(data / collection.file, columns=[collection.text]).column(0)
    return [text[:CHARACTERS] for text in column.take(places).to_pylist()]


def _accuracies(logprobs: Floats, gold: npt.NDArray[np.int64]) -> list[float]:
    """Raw and corrected."""
    return [
        round(float((values.argmax(axis=1) == gold).mean()), 3)
        for values in (logprobs, correct_label_bias(logprobs))
    ]


def _costs(model: ModelSpec, collection: Collection, texts: list[str]) -> dict[str, float]:
    found = {}
    for asked in COMPARED:
        scorer = LlamaScorer(model.path, [dimension_of(collection, asked)])
        scorer.ask(texts[:1])
        before = scorer.tokens
        scorer.ask(texts)
        found[_title(asked)] = round((scorer.tokens - before) / len(texts), 1)
        scorer.close()
    return found


def _title(asked: tuple[Phrasing, ...]) -> str:
    if len(asked) == len(PHRASINGS):
        return "mean of three"
    return " and ".join(asked)


def _table(
    name: str, rows: int, json_rows: int, found: dict[str, dict[str, object]], cost: dict[str, float]
) -> None:
    print(f"\n| {name}, {rows} rows each: raw / corrected | " + " | ".join(found) + " | tokens per row |")
    print("|---" * (len(found) + 2) + "|")
    for asked in [_title(asked) for asked in COMPARED] + ["json"]:
        cells = [scores[asked] for scores in found.values()]
        pairs = [cell if isinstance(cell, list) else [cell] for cell in cells]
        written = [" / ".join(f"{value:.2f}" for value in pair) for pair in pairs]
        label = f"JSON ({json_rows} rows)" if asked == "json" else asked
        print(f"| {label} | " + " | ".join(written) + f" | {cost.get(asked, '–')} |")
    print(flush=True)
