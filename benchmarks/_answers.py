"""What models answered to rows with labels of people's, kept in a small file so that nobody has to ask again.

Made by `benchmarks/make_answers.py`, read by the benchmarks of calibration. The texts are not in it: `rows` says
where they are in the collection's file, which `--data` finds. See `benchmarks/data/README.md`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import benchmarks
from benchmarks.accuracy import COLLECTIONS, PHRASINGS, Collection

FILE = Path(__file__).resolve().parent / "data" / "answers.npz"
MODELS = ("smollm2", "qwen")
BY_NAME = {Path(collection.file).stem: collection for collection in COLLECTIONS.values()}
TITLES = {Path(collection.file).stem: title for title, collection in COLLECTIONS.items()}
_PARTS = ("logprobs", "gold", "rows", "labels", "digest")


@dataclass(frozen=True)
class Answers:
    """Of n rows of a collection, in an order drawn by lot, with its own shares of labels."""

    model: str  # of MODELS
    collection: str  # of BY_NAME
    labels: tuple[str, ...]  # k
    logprobs: npt.NDArray[np.float32]  # [n, phrasings, k], natural, in the order of PHRASINGS
    gold: npt.NDArray[np.int64]  # [n], places in `labels`
    rows: npt.NDArray[np.int64]  # [n], places in the collection's file
    digest: str  # of the model's weights, as `engine.models.catalog.digest` has it

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """Of all phrasings, not normalised: [n, k]."""
        return np.asarray(self.logprobs.mean(axis=1, dtype=np.float64))

    @property
    def about(self) -> Collection:
        """The collection the rows are from."""
        return BY_NAME[self.collection]


def answers(model: str, collection: str, file: Path = FILE) -> Answers:
    """Those kept. Raises MissingData where there are none."""
    kept = stored(file)
    if (model, collection) not in kept:
        raise benchmarks.MissingData(
            f"No answers of {model} to {collection} are kept: python -m benchmarks make_answers --data DIR."
        )
    return kept[model, collection]


def stored(file: Path = FILE) -> dict[tuple[str, str], Answers]:
    """All there are, by model and collection."""
    if not file.is_file():
        return {}
    found = {}
    with np.load(file) as kept:
        for model in MODELS:
            for collection in BY_NAME:
                parts = {
                    part: kept[f"{model}/{collection}/{part}"]
                    for part in _PARTS
                    if f"{model}/{collection}/{part}" in kept
                }
                if parts:
                    found[model, collection] = Answers(
                        model,
                        collection,
                        tuple(str(label) for label in parts["labels"]),
                        parts["logprobs"],
                        parts["gold"].astype(np.int64),
                        parts["rows"].astype(np.int64),
                        str(parts["digest"]),
                    )
    return found


def store(kept: Iterable[Answers], file: Path = FILE) -> None:
    """Write them all, in place of what was there."""
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for one in kept:
        if one.logprobs.shape != (len(one.gold), len(PHRASINGS), len(one.labels)):
            raise ValueError(f"answers of the shape {one.logprobs.shape}")
        key = f"{one.model}/{one.collection}"
        arrays |= {
            f"{key}/logprobs": one.logprobs.astype(np.float32),
            f"{key}/gold": one.gold.astype(np.uint8),
            f"{key}/rows": one.rows.astype(np.uint16),
            f"{key}/labels": np.array(one.labels),
            f"{key}/digest": np.array(one.digest),
        }
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".writing.npz")  # whoever reads meanwhile finds the old file or the new one
    np.savez_compressed(beside, allow_pickle=False, **arrays)
    beside.replace(file)
