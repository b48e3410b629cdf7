"""Asks the models about labelled rows and keeps their answers in `benchmarks/data/answers.npz`.

The collections, their questions and phrasings are those of `benchmarks/accuracy.py`, but with the shares of labels
the collections have. Goes on where it was stopped: rows whose answers are kept are not asked again, and what is
done is saved every few rows. `--quick` asks the first rows again and compares them with what is kept.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

import benchmarks
from benchmarks._answers import BY_NAME, FILE, Answers, store, stored
from benchmarks.accuracy import PHRASINGS, Collection, Integers, ask, beginnings, dimension_of, sample
from engine.models import catalog
from workspace.facts import ModelSpec, Phrasing

ROWS = {"trec_questions": 2000, "sms_spam": 2000, "hutto_tweets": 2000, "bbc_news": 1000}
ROWS_LARGER = dict.fromkeys(ROWS, 500)
PART = 100  # rows between two savings
CHECKED = 8  # rows asked again by --quick
TOGETHER: tuple[tuple[Phrasing, ...], ...] = (("words", "plain"), ("letters",))  # with one prompt


def run(quick: bool, data: Path | None, qwen: Path | None) -> dict[str, object]:
    """`rows` are those kept by model and collection, `asked` those asked now. With `--quick` `max_abs_diff` is the
    greatest difference, in nats, from what is kept."""
    for collection in BY_NAME.values():
        benchmarks.need(data, collection.file)
    assert data is not None
    models = [("smollm2", catalog.embedded(), ROWS)]
    if qwen is not None:
        models.append(("qwen", catalog.resolve(str(qwen)), ROWS_LARGER))
    result: dict[str, object] = {"benchmark": "make_answers"}
    if quick:
        result["max_abs_diff"] = max(
            _difference(data, spec, kept)
            for name, spec, _ in models
            for (model, _), kept in stored().items()
            if model == name
        )
    else:
        result["asked"] = {name: complete(data, name, spec, rows) for name, spec, rows in models}
    result["rows"] = {f"{model}, {collection}": len(kept.gold) for (model, collection), kept in stored().items()}
    result["bytes"] = FILE.stat().st_size
    return result


def complete(data: Path, model: str, spec: ModelSpec, rows: dict[str, int], file: Path = FILE) -> int:
    """Ask a model what of `rows` by collection is missing in the file, a part of each in turn; returns how many
    rows that were. Raises MissingData where the file holds answers of other weights by the same name."""
    if any(kept.digest != spec.digest for (name, _), kept in stored(file).items() if name == model):
        raise benchmarks.MissingData(f"The answers of {model} in {file.name} are not those of {spec.path}.")
    asked = 0
    for end in range(PART, max(rows.values()) + PART, PART):
        for name, count in rows.items():
            asked += _extend(data, model, spec, name, min(end, count), count, file)
    return asked


def _extend(data: Path, model: str, spec: ModelSpec, name: str, end: int, count: int, file: Path) -> int:
    """Ask rows of a collection until there are `end` of the `count` wanted; returns how many that were."""
    began = time.perf_counter()
    collection = BY_NAME[name]
    labels = dimension_of(collection, ("words",)).labels
    places, gold = sample(data, collection, labels, end, balanced=False)
    kept = stored(file).get((model, name))
    done = len(kept.gold) if kept else 0
    if done >= len(places):
        return 0
    logprobs = _ask(data, spec, collection, places[done:])
    if kept:
        logprobs = np.concatenate([kept.logprobs, logprobs])
    found = Answers(model, name, tuple(labels), logprobs, gold, places, spec.digest)
    store((stored(file) | {(model, name): found}).values(), file)
    rate = (len(places) - done) / (time.perf_counter() - began)
    print(f"{spec.name}, {name}: {len(places)} of {count} rows, {rate:.1f} a second", flush=True)
    return len(places) - done


def _ask(data: Path, spec: ModelSpec, collection: Collection, places: Integers) -> npt.NDArray[np.float32]:
    """[rows, phrasings, labels]"""
    texts = beginnings(data, collection, places)
    found: dict[Phrasing, npt.NDArray[np.float64]] = {}
    for together in TOGETHER:
        logprobs, _ = ask(spec, dimension_of(collection, together), texts)
        found |= {phrasing: logprobs[:, number] for number, phrasing in enumerate(together)}
    return np.stack([found[phrasing] for phrasing in PHRASINGS], axis=1).astype(np.float32)


def _difference(data: Path, spec: ModelSpec, kept: Answers) -> float:
    again = _ask(data, spec, kept.about, kept.rows[:CHECKED])
    return float(np.abs(again - kept.logprobs[:CHECKED]).max())


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["make_answers", *sys.argv[1:]]))
