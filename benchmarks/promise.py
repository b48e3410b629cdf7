"""How often the promised error is broken in workspaces of real answers, and how much is accepted for it.

Rows, labels and log-probabilities are those of `benchmarks/data/answers.npz`: what models said about collections
with labels of people's. A workspace is a part of the rows of one of them, drawn without replacement (no row is in
a workspace twice, so nothing is learned about a row from its twin), in one of three mixtures of labels: as they
are, evened out, or with all labels but the most frequent thinned out. It asks for all labels, or whether one of
them applies. Of its rows 50, 100, 200 and 500 are checked, each sample containing the smaller ones, and what
follows is what the studio does: label bias taken off all rows without labels, a calibrator chosen and fitted on
the checked rows, out-of-fold confidences for these, those of the fit for the others, and `accept` at several
allowed errors. A head, which takes longer, is learned in some of them; it sees the phrasings but no text.

A promise is broken when more of the accepted rows are wrong than was promised, judged by all rows of the
workspace; one that was not given is not broken. `broken_share` is over all promises asked for, with its worst
setting (a collection, mixture, sample size, allowed error, or pair of the last two, of those with 50 promises or
more) and binomial intervals, in which the workspaces of a series are taken for independent. `oracle_share` is the
largest set above any threshold of the same confidences that keeps the error, found by knowing all labels.
`hand_set`: accepting at a fixed calibrated confidence, and at one of the model's own. `looking`: of series in
which labels are added until the promise is given, how many end in a broken one, without and with `look`.
`choosing`: of samples whose allowed error is raised until a promise is given, how many end in a broken one.
`drawn`: of the first 100 rows uniformly and 100 more, these uniformly as well or from the rows `recommend` says;
`unseen_share` are the accepted rows that nobody had checked, the work a promise saves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from benchmarks._answers import Answers, stored
from calibration import accept, correct_label_bias, draw, log_softmax, top_label
from calibration.choosing import choose
from calibration.head import cross_fit_head, fit_head
from calibration.sampling import recommend

DELTA = 0.05
EPSILONS = (0.02, 0.05, 0.1, 0.2)
SIZES = (50, 100, 200, 500)
MIXTURES = ("as they are", "even", "skewed")
HAND_SET = (0.7, 0.8, 0.9)
SERIES_QUICK, SERIES = 24, 330
WITH_HEAD = 4  # one series in so many
FEWEST_ROWS = 300  # of answers that workspaces are made of
MOST_CHECKED = 0.7  # of the rows of a workspace
THINNED = 0.3
FIRST, MORE = 100, 100  # rows drawn uniformly, and after them in either way
FEWEST_PROMISES = 50  # of a setting that may be called the worst

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Fitted = tuple[Floats, Floats]  # log-probabilities [m, k] of the checked rows out of fold, [N, k] of all rows


@dataclass(frozen=True)
class Workspace:
    """N rows of a collection: normalised log-probabilities of the phrasings [N, v, k], and the truth [N]."""

    name: str
    mixture: str
    voices: Floats
    truth: Integers
    order: Integers  # the rows in the order they are checked

    @property
    def base(self) -> Floats:
        """Mean of the phrasings with the label bias taken off [N, k]."""
        return correct_label_bias(self.voices.mean(axis=1))


@dataclass(frozen=True)
class Outcome:
    """One promise asked for: the settings, the shares of rows accepted, and whether it was broken."""

    series: int
    settings: tuple[str, str, str, str]  # collection, mixture, checked rows, allowed error
    accepted: float
    broken: bool
    paid: tuple[float, bool]  # accepted and broken when this look was one of several
    oracle: float
    by_hand: dict[str, tuple[float, bool]]


@dataclass(frozen=True)
class Drawn:
    """What a sample got accepted: the share of the rows, that nobody had checked of them, and whether it broke."""

    accepted: float
    unseen: float
    broken: bool


def run(quick: bool, data: Path | None) -> dict[str, object]:
    """Shares over all promises; see the module for what they mean. `data` is not needed."""
    del data
    plain: list[Outcome] = []
    headed: list[Outcome] = []
    drawn: dict[str, list[Drawn]] = {"uniform": [], "recommended": []}
    series = SERIES_QUICK if quick else SERIES
    for number, workspace in enumerate(_workspaces(series)):
        plain += _outcomes(number, workspace, _calibrated)
        if MOST_CHECKED * len(workspace.truth) >= FIRST + MORE:
            for epsilon in EPSILONS:
                for name, found in _drawn(workspace, epsilon).items():
                    drawn[name].append(found)
        if number % WITH_HEAD == 0:
            headed += _outcomes(number, workspace, _headed)
        if number % 40 == 39:
            print(f"{number + 1} of {series}: {_broken(plain)}", flush=True)
    _table(plain)
    return {
        "benchmark": "promise",
        "workspaces": len(plain) // len(EPSILONS),
        "promises": len(plain),
        "delta": DELTA,
        **_summary(plain),
        "hand_set": {
            name: {
                "accepted_share": _mean([one.by_hand[name][0] for one in plain]),
                "broken_share": _mean([one.by_hand[name][1] for one in plain]),
            }
            for name in plain[0].by_hand
        },
        "looking": {
            "unpaid": _first_given(plain, lambda one: (one.series, one.settings[3])),
            "paid": _first_given(plain, lambda one: (one.series, one.settings[3]), paid=True),
        },
        "choosing": _first_given(plain, lambda one: (one.series, one.settings[2])),
        "drawn": {
            name: {
                "accepted_share": _mean([one.accepted for one in each]),
                "unseen_share": _mean([one.unseen for one in each]),
                "broken_share": _mean([one.broken for one in each]),
            }
            for name, each in drawn.items()
        },
        "head": {"workspaces": len(headed) // len(EPSILONS), **_summary(headed)},
    }


def _workspaces(series: int) -> Iterator[Workspace]:
    kept = [found for found in stored().values() if len(found.gold) >= FEWEST_ROWS]
    kinds = list(product(MIXTURES, (False, True), kept))
    for number in range(series):
        random = np.random.default_rng(number)
        mixture, one_label, answers = kinds[number % len(kinds)]
        yield _workspace(answers, mixture, one_label, random, number)


def _workspace(
    answers: Answers, mixture: str, one_label: bool, random: np.random.Generator, seed: int
) -> Workspace:
    n, ways, k = answers.logprobs.shape
    voices = log_softmax(answers.logprobs.reshape(n * ways, k).astype(np.float64)).reshape(n, ways, k)
    truth = answers.gold
    if one_label and k > 2:
        # Whether one of the frequent labels applies.
        asked = int(random.choice(np.flatnonzero(np.bincount(truth, minlength=k) >= n / 20)))
        others = np.logaddexp.reduce(np.delete(voices, asked, axis=2), axis=2)
        voices, truth = np.stack([others, voices[:, :, asked]], axis=2), (truth == asked).astype(np.int64)
    share = np.bincount(truth, minlength=voices.shape[2]) / n
    if mixture == "even":
        keep = np.minimum(1.0, share[share >= 0.05].min() / np.maximum(share, 1e-9))
    elif mixture == "skewed":
        keep = np.where(np.arange(share.size) == share.argmax(), 1.0, THINNED)
    else:
        keep = np.full(share.size, 0.7)
    rows = np.flatnonzero(random.random(n) < keep[truth])
    order = draw(np.ones(rows.size), rows.size, seed=seed).places
    name = f"{answers.model} {answers.collection}" + (", one label" if one_label else "")
    return Workspace(name, mixture, voices[rows], truth[rows], order)


def _calibrated(workspace: Workspace, checked: Integers) -> Fitted:
    base = workspace.base
    choice = choose(base[checked], workspace.truth[checked])
    return choice.out_of_fold, choice.calibrator.apply(base)


def _headed(workspace: Workspace, checked: Integers) -> Fitted:
    base, truth = workspace.base, workspace.truth[checked]
    voices = np.stack([correct_label_bias(way) for way in np.moveaxis(workspace.voices, 1, 0)], axis=1)
    head = fit_head(base[checked], truth, voices=voices[checked])
    return cross_fit_head(base[checked], truth, voices=voices[checked]), head.apply(base, voices)


def _outcomes(
    series: int, workspace: Workspace, fitted: Callable[[Workspace, Integers], Fitted]
) -> Iterator[Outcome]:
    total = len(workspace.truth)
    own, own_said = top_label(workspace.voices.mean(axis=1))
    for look, size in enumerate((size for size in SIZES if size <= MOST_CHECKED * total), start=1):
        checked = workspace.order[:size]
        out_of_fold, logprobs = fitted(workspace, checked)
        logprobs[checked] = out_of_fold
        label, said = top_label(logprobs)
        wrong = label != workspace.truth
        for epsilon in EPSILONS:
            once, paid = (
                accept(said, checked, wrong[checked], epsilon=epsilon, delta=DELTA, look=which)
                for which in (None, look)
            )
            by_hand = {f"{at}": _at(said, wrong, at, epsilon) for at in HAND_SET}
            by_hand |= {
                f"{at} of the model's own": _at(own_said, own != workspace.truth, at, epsilon) for at in HAND_SET
            }
            yield Outcome(
                series,
                (workspace.name, workspace.mixture, f"{size} checked", f"error {epsilon}"),
                *_at(said, wrong, once.threshold, epsilon),
                _at(said, wrong, paid.threshold, epsilon),
                _oracle(said, wrong, epsilon),
                by_hand,
            )


def _drawn(workspace: Workspace, epsilon: float) -> dict[str, Drawn]:
    """Both ways to draw `MORE` rows after the first, asked about as often."""
    first, rest = workspace.order[:FIRST], workspace.order[FIRST:]
    said, wrong = _read(workspace, first)
    advice = recommend(said, first, wrong[first], epsilon=epsilon, delta=DELTA, look=2, count=MORE)
    inside = advice.rates == 1
    # As the studio draws: the next rows of the part in the order there is; each part has a sample of its own.
    chosen = np.concatenate([rest[inside[rest]], rest[~inside[rest]]])[:MORE]
    found = {}
    for name, more, part in (("uniform", rest[:MORE], np.ones_like(inside)), ("recommended", chosen, inside)):
        checked = np.concatenate([first, more])
        said, wrong = _read(workspace, checked)
        is_checked = np.isin(np.arange(said.size), checked)
        inclusion = np.where(part, is_checked[part].mean(), is_checked[~part].mean() if not part.all() else 0.0)
        threshold = accept(
            said, checked, wrong[checked], epsilon=epsilon, delta=DELTA, inclusion=inclusion, look=2
        ).threshold
        accepted, broken = _at(said, wrong, threshold, epsilon)
        unseen = (said >= threshold) & ~is_checked if threshold is not None else np.zeros_like(is_checked)
        found[name] = Drawn(accepted, float(unseen.mean()), broken)
    return found


def _read(workspace: Workspace, checked: Integers) -> tuple[Floats, Flags]:
    """Confidences [N] with a calibrator fitted on the checked rows, out of fold for these, and what is wrong."""
    out_of_fold, logprobs = _calibrated(workspace, checked)
    logprobs[checked] = out_of_fold
    label, said = top_label(logprobs)
    return said, label != workspace.truth


def _at(said: Floats, wrong: Flags, threshold: float | None, epsilon: float) -> tuple[float, bool]:
    """The share of rows at or above the threshold, and whether more than epsilon of them are wrong."""
    inside = said >= threshold if threshold is not None else np.zeros(said.size, dtype=np.bool_)
    return float(inside.mean()), bool(inside.any() and wrong[inside].mean() > epsilon)


def _oracle(said: Floats, wrong: Flags, epsilon: float) -> float:
    order = np.argsort(-said, kind="stable")
    error = np.cumsum(wrong[order]) / np.arange(1, said.size + 1)
    last = np.append(np.diff(said[order]) < 0, True)  # rows as sure as each other are taken together
    fine = np.flatnonzero(last & (error <= epsilon))
    return (int(fine[-1]) + 1) / said.size if fine.size else 0.0


def _summary(outcomes: list[Outcome]) -> dict[str, object]:
    groups: dict[str, list[Outcome]] = {}
    for one in outcomes:
        for setting in (*one.settings, ", ".join(one.settings[2:])):
            groups.setdefault(setting, []).append(one)
    large = [name for name, group in groups.items() if len(group) >= FEWEST_PROMISES] or list(groups)
    worst = max(large, key=lambda name: _mean([one.broken for one in groups[name]]))
    return {
        "broken_share": {"overall": _broken(outcomes), "worst": {"setting": worst, **_broken(groups[worst])}},
        "given_share": _mean([one.accepted > 0 for one in outcomes]),
        "accepted_share": _mean([one.accepted for one in outcomes]),
        "oracle_share": _mean([one.oracle for one in outcomes]),
    }


def _broken(outcomes: list[Outcome]) -> dict[str, object]:
    return _share([one.broken for one in outcomes])


def _first_given(
    outcomes: list[Outcome], group: Callable[[Outcome], tuple[int, str]], *, paid: bool = False
) -> dict[str, object]:
    """Of every group the first promise given, in the order they were asked for: how many are broken."""
    ends: dict[tuple[int, str], bool] = {}
    for one in outcomes:
        accepted, broken = one.paid if paid else (one.accepted, one.broken)
        if accepted:
            ends.setdefault(group(one), broken)
    return _share([*ends.values()] + [False] * (len({group(one) for one in outcomes}) - len(ends)))


def _share(broken: list[bool]) -> dict[str, object]:
    interval = binomtest(sum(broken), len(broken)).proportion_ci()
    return {
        "share": _mean(broken),
        "low": round(float(interval.low), 4),
        "high": round(float(interval.high), 4),
        "of": len(broken),
    }


def _mean(values: list[float] | list[bool]) -> float:
    return round(float(np.mean(values)), 4)


def _table(outcomes: list[Outcome]) -> None:
    print(
        "\n| error | checked | broken | accepted | oracle | "
        + " | ".join(f"at {at}: accepted, broken" for at in HAND_SET)
        + " |"
    )
    print("|---" * (5 + len(HAND_SET)) + "|")
    for epsilon, size in product(EPSILONS, SIZES):
        wanted = (f"{size} checked", f"error {epsilon}")
        cell = [one for one in outcomes if one.settings[2:] == wanted]
        if cell:
            shares = [[_mean([one.by_hand[f"{at}"][i] for one in cell]) for i in (0, 1)] for at in HAND_SET]
            print(
                f"| {epsilon:.0%} | {size} | {_mean([one.broken for one in cell]):.1%} | "
                f"{_mean([one.accepted for one in cell]):.1%} | {_mean([one.oracle for one in cell]):.1%} | "
                + " | ".join(f"{accepted:.0%}, {broken:.0%}" for accepted, broken in shares)
                + " |"
            )
    print(flush=True)
