"""Which map from scores to probabilities suits a run: all kinds the library has, compared on rows left out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from calibration import Estimate, fit_temperature
from calibration.calibrators import Calibrator as Plain
from calibration.calibrators import from_json
from calibration.choosing import TITLES, choose
from calibration.folds import FOLDS, deal_folds
from calibration.head import Head, LabelsHead, cross_fit_head, fit_head
from calibration.logprobs import LOG_FLOOR, log_softmax
from calibration.shrinkage import DomainCalibrator, fit_by_domain
from engine.models import embeddings
from engine.models.embeddings import Vectors
from workspace.adjusted import Rows
from workspace.calibrators import AT_ONCE, Calibrator
from workspace.scores import Scores, yes_or_no
from workspace.truth import Evidence

FloatArray = npt.NDArray[np.float64]
BY_DOMAIN, BY_LABEL, HEAD = "by_domain", "by_label", "head"
TITLES_HERE = TITLES | {
    BY_DOMAIN: "a map for each domain, drawn towards what all have in common",
    BY_LABEL: "a map for each label, drawn towards what all have in common",
    HEAD: "a learned head that weighs all phrasings and the text",
}
FEW_ROWS = 20  # with fewer nothing but the simple methods is tried
MOST_ROWS = 20_000  # that are fitted on; more change nothing and take long
AT_A_TIME = 2_000  # rows whose embeddings are computed together; they take 12 MB
MOST_FOR_HEAD = 1_000  # it takes longer; all further rows judge it without having been seen


class Apply(Protocol):
    """What was fitted: the log-probabilities [n, k] of the rows of some evidence, or of rows to be labeled."""

    def to_json(self) -> str:
        """As JSON text."""
        ...


@dataclass(frozen=True)
class Tried:
    """A method with its log loss in nats on rows left out."""

    method: str
    title: str
    log_loss: Estimate
    chosen: bool


@dataclass(frozen=True, eq=False)
class Fit:
    """What was chosen. `out_of_fold` [n, k]: each row of the evidence under a fit that has not seen it."""

    method: str
    fitted: Apply
    temperature: float  # for rows it has not come to yet
    out_of_fold: FloatArray
    tried: tuple[Tried, ...]
    why: str

    def parameters(self, evidence: Evidence) -> dict[str, Any]:
        """As they are kept with a calibrator of the workspace."""
        if self.method in AT_ONCE:
            return {"temperature": self.temperature}
        return {
            "temperature": self.temperature,
            "reading": evidence.reading.to_dict(),
            "map": json.loads(self.fitted.to_json()),
        }


def best_fit(evidence: Evidence, vectors: Vectors | None = None) -> Fit:
    """The simplest map that does as well as any on rows left out.

    The methods without anything beside the scores are compared by `calibration.choosing.choose`; its choice then
    stands against maps by domain, for a multi dimension by label, and against a learned head, by the same rule.
    `vectors` [rows, e], embeddings of the texts, are for the head.
    """
    logprobs, truth = evidence.logprobs, evidence.truth
    choice = choose(logprobs, truth)
    losses = dict(choice.losses)
    found: list[tuple[str, Apply, FloatArray]] = [(choice.method, choice.calibrator, choice.out_of_fold)]
    method, groups = _groups(evidence)
    if evidence.rows >= FEW_ROWS and len(set(groups)) > 1:
        by_group = fit_by_domain(logprobs, truth, groups)
        crossed = _crossed(evidence, groups)
        losses[method] = _loss(_row_losses(crossed, truth))
        found.append((method, by_group, crossed))
    if evidence.rows >= FEW_ROWS:
        head, crossed = _head(evidence, vectors)
        losses[HEAD] = _loss(_row_losses(crossed, truth))
        found.append((HEAD, head, crossed))
    chosen, why = _simplest(found, truth, labels_of(evidence), choice.why)
    name, fitted, out_of_fold = found[chosen]
    tried = tuple(Tried(one, TITLES_HERE[one], loss, one == name) for one, loss in losses.items())
    temperature = float(getattr(fitted, "value", 0.0)) or (
        1.0 if name == "none" else fit_temperature(logprobs, truth).value
    )
    return Fit(name, fitted, temperature, out_of_fold, tried, why)


def mapper(calibrator: Calibrator, labels: Sequence[str], *, several: bool) -> Callable[[Rows], FloatArray]:
    """What `workspace.adjusted.apply` calls for a calibrator of the workspace: scores [n, k] to scores [n, k].

    Raises ValueError for parameters this version does not know.
    """
    document = json.dumps(calibrator.parameters["map"])
    if calibrator.method in (BY_DOMAIN, BY_LABEL):
        by_domain = DomainCalibrator.from_json(document)
        if calibrator.method == BY_DOMAIN:
            return lambda rows: by_domain.apply(rows.scores.base, rows.domains)
        return lambda rows: _each_label(
            rows.scores.base, lambda logprobs: by_domain.apply(logprobs, list(labels) * len(rows.scores.base))
        )
    if calibrator.method == HEAD:
        head = (LabelsHead if several else Head).from_json(document)
        return lambda rows: _in_parts(head, rows)
    plain: Plain = from_json(document)
    if several:
        return lambda rows: _each_label(rows.scores.base, plain.apply)
    return lambda rows: plain.apply(rows.scores.base)


def applied(calibrator: Calibrator, evidence: Evidence, texts: Sequence[str]) -> FloatArray:
    """Log-probabilities [n, k] that a calibrator of the workspace gives to answers read as it reads them.

    `texts` of the answers count only where `reads_texts`. Raises ValueError or KeyError for parameters this
    version does not know.
    """
    several, each = any(evidence.names), labels_of(evidence)
    labels = tuple(dict.fromkeys(evidence.names)) if several else evidence.labels
    base, voices, _ = _by_row(evidence)
    scores = Scores(evidence.row_ids[::each], np.zeros(len(base), dtype=np.uint64), base, voices)
    mapped = mapper(calibrator, labels, several=several)(
        Rows(scores, evidence.domains[::each], list(texts)[::each])
    )
    return yes_or_no(mapped.reshape(-1)) if several else log_softmax(mapped)


def embedded(texts: Sequence[str]) -> Vectors | None:
    """Embeddings [n, e] of texts, None where they are not installed."""
    return embeddings.embed(texts) if embeddings.ready() else None


def labels_of(evidence: Evidence) -> int:
    """How many answers there are about each row: one, or one for each label of a multi dimension."""
    return max(1, len(set(evidence.names)))


def reads_texts(calibrator: Calibrator) -> bool:
    """Whether a calibrator looks at the texts of the rows too."""
    return calibrator.method == HEAD


def held_out(evidence: Evidence, out_of_fold: FloatArray, labels: int) -> dict[str, list[float]]:
    """Out-of-fold scores by row, as they are kept with a calibrator: log-odds [labels] for a multi dimension."""
    if not any(evidence.names):
        return dict(zip(evidence.row_ids, out_of_fold.tolist(), strict=True))
    odds = (out_of_fold[:, 0] - out_of_fold[:, 1]).reshape(-1, labels)
    return dict(zip(evidence.row_ids[::labels], odds.tolist(), strict=True))


def first_rows(evidence: Evidence) -> Evidence:
    """As many rows as are fitted on. Ids are hashes, so the first ones are a sample by chance."""
    each = max(1, len(evidence.row_ids) // max(1, evidence.rows))
    return evidence if evidence.rows <= MOST_ROWS else evidence.pick(range(MOST_ROWS * each))


def _in_parts(head: Head, rows: Rows) -> FloatArray:
    """The scores a head gives to many rows, with the embeddings of only some of them in memory at a time."""
    base, voices = rows.scores.base, rows.scores.voices
    parts = [slice(start, start + AT_A_TIME) for start in range(0, len(base), AT_A_TIME)]
    found = [head.apply(base[part], voices[part], embedded(rows.texts[part])) for part in parts]
    return np.concatenate(found) if found else np.empty_like(base)


def _each_label(odds: FloatArray, apply: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """A map of yes and no, used on the log-odds of every label [n, k]."""
    both = apply(yes_or_no(odds.reshape(-1)))
    mapped: FloatArray = (both[:, 0] - both[:, 1]).reshape(odds.shape)
    return mapped


def folds_of(evidence: Evidence) -> npt.NDArray[np.int64]:
    """The fold of each answer; all labels of a row are in the same one."""
    if not any(evidence.names):
        return deal_folds(evidence.logprobs, evidence.truth)
    order = {row_id: place for place, row_id in enumerate(dict.fromkeys(evidence.row_ids))}
    return np.array([order[row_id] % FOLDS for row_id in evidence.row_ids], dtype=np.int64)


def _groups(evidence: Evidence) -> tuple[str, list[str]]:
    return (BY_LABEL, evidence.names) if any(evidence.names) else (BY_DOMAIN, evidence.domains)


def _crossed(evidence: Evidence, groups: Sequence[str]) -> FloatArray:
    """Every row under a map by group that was fitted on the other folds."""
    logprobs, truth = evidence.logprobs, evidence.truth
    fold = folds_of(evidence)
    names = np.array(groups, dtype=object)
    result = np.empty_like(logprobs)
    for number in np.unique(fold):
        out = fold == number
        fitted = fit_by_domain(logprobs[~out], truth[~out], names[~out].tolist())
        result[out] = fitted.apply(logprobs[out], names[out].tolist())
    return result


def _head(evidence: Evidence, vectors: Vectors | None) -> tuple[Head, FloatArray]:
    """A head, and every answer under one that has not seen its row."""
    base, voices, truth = _by_row(evidence)
    seen, rest = slice(0, MOST_FOR_HEAD), slice(MOST_FOR_HEAD, None)
    first = None if vectors is None else vectors[seen]
    head = fit_head(base[seen], truth[seen], voices=voices[seen], embeddings=first)
    crossed = cross_fit_head(base[seen], truth[seen], voices=voices[seen], embeddings=first)
    if len(base) > MOST_FOR_HEAD:
        others = head.apply(base[rest], voices[rest], None if vectors is None else vectors[rest])
        crossed = np.concatenate([crossed, others])
    return head, yes_or_no(crossed.reshape(-1)) if any(evidence.names) else crossed


def _by_row(evidence: Evidence) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
    """Base [n, k], voices [n, v, k] and truth of rows: label indices [n], of a multi dimension 0 or 1 [n, k]."""
    if not any(evidence.names):
        return evidence.logprobs, evidence.voices, evidence.truth
    k, voices = labels_of(evidence), evidence.voices
    odds = (evidence.logprobs[:, 0] - evidence.logprobs[:, 1]).reshape(-1, k)
    heard = (voices[..., 0] - voices[..., 1]).reshape(-1, k, voices.shape[1]).transpose(0, 2, 1)
    return odds, heard, 1 - evidence.truth.reshape(-1, k)


def _row_losses(logprobs: FloatArray, truth: npt.NDArray[np.int64]) -> FloatArray:
    true = np.take_along_axis(log_softmax(logprobs), truth[:, None], axis=1)[:, 0]
    losses: FloatArray = -np.maximum(true, LOG_FLOOR)
    return losses


def _loss(losses: FloatArray) -> Estimate:
    value = float(losses.mean())
    half = 1.96 * float(losses.std(ddof=1) / np.sqrt(len(losses))) if len(losses) > 1 else float("inf")
    return Estimate(value, max(0.0, value - half), value + half)


def _simplest(
    found: Sequence[tuple[str, Apply, FloatArray]], truth: npt.NDArray[np.int64], each: int, why: str
) -> tuple[int, str]:
    """The first one that is within a standard error of the best, with the reason in a sentence. `each`: answers
    of one row, which hang together and count once."""
    if len(found) == 1 or not len(truth):
        return 0, why
    losses = [_row_losses(one, truth).reshape(-1, each).mean(axis=1) for _, _, one in found]
    means = [float(one.mean()) for one in losses]
    best = int(np.argmin(means))
    gains = [one - losses[best] for one in losses]
    good = [gain.mean() <= gain.std(ddof=1) / np.sqrt(len(gain)) for gain in gains]
    place = good.index(True)  # the best one is as good as itself
    if place == 0:
        return 0, why
    name, first = TITLES_HERE[found[place][0]], TITLES_HERE[found[0][0]]
    return place, (
        f"On rows left out, {name} has a log loss of {means[place]:.3f}, against {means[0]:.3f} for {first}: more "
        "than chance explains."
    )
