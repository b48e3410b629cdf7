"""Does the learned head know the labels better than the models, and better than a student of the texts alone?

On the answers kept in `benchmarks/data` (words, plain and letters of each model; shares of labels as in the
collections), for 0, 30, 100 and 300 labels drawn by lot, all on the rows not drawn:

- raw: the mean of the phrasings' log-probabilities;
- corrected: after half of each label's mean log-probability over all rows was taken out, without labels;
- student: logistic regression on static embeddings of the texts, its regularisation chosen by cross-validated log
  loss on the same labels, as for any student without a language model;
- head: `calibration.fit_head` on the corrected mean, each corrected phrasing and the same embeddings.

The interval is that within which nine of ten draws lie. `worst_gap` is by how much the head's mean accuracy is at
most below the best of the others, on any collection with any number of labels; `worst_loss_gap` the same for
log loss (in nats). `fit_s` is the median time of one fit with the most labels, in seconds of the
processor. Prints Markdown tables before the JSON.

With `--qwen FILE` a larger model too: by the answers kept where they are of these very weights; otherwise it is
asked now, for an hour or so on a few cores, or minutes with `--quick`, which then takes one collection. What it
answers is kept in the user's cache, so that it goes on where it was stopped.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from sklearn.linear_model import LogisticRegression

import benchmarks
from benchmarks._answers import BY_NAME, TITLES, Answers, stored
from benchmarks.make_answers import ROWS_LARGER, complete
from calibration import correct_label_bias, deal_folds, fit_head, log_loss, log_softmax
from engine.models import catalog, embeddings
from workspace.facts import ModelSpec

BUDGETS = (0, 30, 100, 300)
DRAWS_QUICK, DRAWS = 2, 20
WAYS = ("raw", "corrected", "student", "head")
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)  # inverse, of the student's regularisation
ENOUGH = 100  # rows left to be tested on

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Measured = dict[str, dict[str, list[float]]]  # way -> "accuracy", "log_loss" -> of each draw


@dataclass(frozen=True)
class Material:
    """Of n rows, all without labels but `gold`."""

    raw: Floats  # [n, k]
    base: Floats  # [n, k]
    voices: Floats  # [n, v, k]
    vectors: Floats  # [n, 256]
    gold: Integers  # [n]


def run(quick: bool, data: Path | None, qwen: Path | None) -> dict[str, object]:
    """Means and intervals [mean, low, high] by model, collection, number of labels and way; `models` are names."""
    draws = DRAWS_QUICK if quick else DRAWS
    asked = {"smollm2": catalog.embedded()} | ({"qwen": catalog.resolve(str(qwen))} if qwen else {})
    names = {model: spec.name for model, spec in asked.items()}
    result: dict[str, object] = {"benchmark": "head", "draws": draws, "models": names}
    gaps: list[tuple[float, float, str]] = []
    seconds: list[float] = []
    for model, spec in asked.items():
        found: dict[str, dict[int, Measured]] = {}
        for answers in _answers_of(model, spec, quick, data):
            found[answers.collection] = _collection(_material(answers, data), draws, seconds)
            ways = found[answers.collection].items()
            gaps += [(*_gap(way), f"{model}, {answers.collection}, {budget}") for budget, way in ways]
        _table(spec.name, found)
        result[model] = {c: {n: _summary(ways) for n, ways in by.items()} for c, by in found.items()}
    worst, worst_loss = max(gaps), max(gaps, key=lambda gap: gap[1])
    result |= {"worst_gap": round(worst[0], 4), "worst_gap_at": worst[2]}
    result |= {"worst_loss_gap": round(worst_loss[1], 4), "worst_loss_gap_at": worst_loss[2]}
    return result | ({"fit_s": round(statistics.median(seconds), 3)} if seconds else {})


def _answers_of(model: str, spec: ModelSpec, quick: bool, data: Path | None) -> list[Answers]:
    """Of each collection what these weights answered: kept with the benchmarks, or else asked now."""
    kept = [answers for answers in stored().values() if answers.digest == spec.digest]
    if kept:
        return kept
    for collection in ROWS_LARGER:
        benchmarks.need(data, BY_NAME[collection].file)
    assert data is not None
    rows = dict.fromkeys(list(ROWS_LARGER)[:1], BUDGETS[1] + ENOUGH) if quick else ROWS_LARGER
    file = catalog.user_cache() / "benchmarks" / f"answers-{spec.digest}.npz"
    print(
        f"No answers of {spec.name} with these weights are kept: asking {sum(rows.values())} rows now.", flush=True
    )
    complete(data, model, spec, rows, file)
    return [answers for (_, collection), answers in stored(file).items() if collection in rows]


def _material(answers: Answers, data: Path | None) -> Material:
    file = benchmarks.need(data, answers.about.file)
    texts = pq.read_table(file, columns=[answers.about.text]).column(0).take(answers.rows).to_pylist()
    logprobs = answers.logprobs.astype(np.float64)
    return Material(
        log_softmax(answers.mean),
        correct_label_bias(answers.mean),
        np.stack([correct_label_bias(phrasing) for phrasing in logprobs.transpose(1, 0, 2)], axis=1),
        embeddings.embed(texts).astype(np.float64),
        answers.gold,
    )


def _collection(rows: Material, draws: int, seconds: list[float]) -> dict[int, Measured]:
    found: dict[int, Measured] = {}
    for budget in BUDGETS:
        if len(rows.gold) - budget < ENOUGH:
            continue
        ways: Measured = {way: {"accuracy": [], "log_loss": []} for way in WAYS}
        for draw in range(draws if budget else 1):
            order = np.random.default_rng(draw).permutation(len(rows.gold))
            drawn, rest = order[:budget], order[budget:]
            said = {"raw": rows.raw[rest], "corrected": rows.base[rest]}
            if budget:
                said["student"] = _student(rows, drawn, rest)
            began = time.process_time()
            head = fit_head(
                rows.base[drawn], rows.gold[drawn], voices=rows.voices[drawn], embeddings=rows.vectors[drawn]
            )
            if budget == BUDGETS[-1]:
                seconds.append(time.process_time() - began)
            said["head"] = head.apply(rows.base[rest], rows.voices[rest], rows.vectors[rest])
            for way, logprobs in said.items():
                ways[way]["accuracy"].append(float((logprobs.argmax(axis=1) == rows.gold[rest]).mean()))
                ways[way]["log_loss"].append(log_loss(logprobs, rows.gold[rest]))
        found[budget] = {way: measures for way, measures in ways.items() if measures["accuracy"]}
    return found


def _student(rows: Material, drawn: Integers, rest: Integers) -> Floats:
    """Log-probabilities [rest, k] of a student of the embeddings alone."""
    vectors, gold, k = rows.vectors[drawn], rows.gold[drawn], rows.base.shape[1]
    fold = deal_folds(np.zeros((len(gold), k)), gold)
    losses = []
    for strength in STRENGTHS:
        left_out = np.empty((len(gold), k))
        for number in range(5):
            left_out[fold == number] = _learn(
                vectors[fold != number], gold[fold != number], vectors[fold == number], k, strength
            )
        losses.append(log_loss(left_out, gold))
    return _learn(vectors, gold, rows.vectors[rest], k, STRENGTHS[int(np.argmin(losses))])


def _learn(vectors: Floats, gold: Integers, asked: Floats, k: int, strength: float) -> Floats:
    """Labels it has not seen get what Laplace's rule leaves them."""
    seen = np.unique(gold)
    result = np.full((len(asked), k), -np.log(len(gold) + k))
    known = np.log1p(-(k - len(seen)) / (len(gold) + k))
    if len(seen) == 1:
        result[:, seen] = known
    else:
        fitted = LogisticRegression(C=strength, max_iter=1000).fit(vectors, gold)
        result[:, seen] = fitted.predict_log_proba(asked) + known
    return log_softmax(result)


def _gap(ways: Measured) -> tuple[float, float]:
    """By how much the head is worse than the best of the others: in accuracy, in log loss."""
    mean = {way: [statistics.fmean(values) for values in measures.values()] for way, measures in ways.items()}
    others = [values for way, values in mean.items() if way != "head"]
    return max(o[0] for o in others) - mean["head"][0], mean["head"][1] - min(o[1] for o in others)


def _summary(ways: Measured) -> dict[str, dict[str, list[float]]]:
    return {way: {what: _interval(values) for what, values in measures.items()} for way, measures in ways.items()}


def _interval(values: list[float]) -> list[float]:
    return [round(float(value), 3) for value in (np.mean(values), *np.quantile(values, (0.05, 0.95)))]


def _table(model: str, found: dict[str, dict[int, Measured]]) -> None:
    print(f"\n| {model}: accuracy [nine of ten draws] / log loss | labels | " + " | ".join(WAYS) + " |")
    print("|---" * (len(WAYS) + 2) + "|")
    for collection, budgets in found.items():
        for budget, ways in budgets.items():
            best = max(statistics.fmean(measures["accuracy"]) for measures in ways.values())
            cells = [_cell(ways[way], best) if way in ways else "–" for way in WAYS]
            print(f"| {TITLES[collection]} | {budget} | " + " | ".join(cells) + " |")
    print(flush=True)


def _cell(measures: dict[str, list[float]], best: float) -> str:
    mean, low, high = _interval(measures["accuracy"])
    written = f"**{mean:.3f}**" if statistics.fmean(measures["accuracy"]) == best else f"{mean:.3f}"
    spread = f" [{low:.2f}–{high:.2f}]" if len(measures["accuracy"]) > 1 else ""
    return f"{written}{spread} / {statistics.fmean(measures['log_loss']):.2f}"
