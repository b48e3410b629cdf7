"""Several people labeled the same rows: what is probably true, and how good each of them is, without an answer
key.

`ratings` has shape [units, columns]: indices of labels, -1 where a label is missing. Each column is one person's,
unless `people` says whose it is: somebody who labeled rows twice has two columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.logprobs import FloatArray, IntArray

ROUNDS = 500
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Consensus:
    """What several people's labels say together.

    `posterior` [units, labels]: how probable each label is for each unit; uniform shares `shares` [labels] for a
    unit nobody labeled. `confusion` [people, labels, labels]: how often each person gives the second label when
    the first is true. `log_likelihood` in nats, after `rounds` of fitting. `why_not`: empty, or a sentence
    saying why people could not be told apart; then `posterior` is the share of the votes, and `confusion` what
    that makes it.
    """

    posterior: FloatArray
    shares: FloatArray
    confusion: FloatArray
    log_likelihood: float
    rounds: int
    why_not: str = ""

    @property
    def label(self) -> IntArray:
        """The most probable label of every unit [units]; a tie goes to the first label."""
        best: IntArray = self.posterior.argmax(axis=1).astype(np.int64)
        return best

    @property
    def skill(self) -> FloatArray:
        """How often each person is right [people], 0..1, for rows as they come."""
        right: FloatArray = np.einsum("pll,l->p", self.confusion, self.shares)
        return right


def dawid_skene(
    ratings: npt.ArrayLike,
    labels: int,
    *,
    people: npt.ArrayLike | None = None,
    prior: float = 0.0,
    rounds: int = ROUNDS,
) -> Consensus:
    """Expectation maximisation from majority votes: true labels and each person's errors explain each other.

    It assumes that, given the true label, people err independently of each other; where they copy or share a
    misunderstanding it believes them too much. `prior` adds so many imagined answers to every entry of every
    confusion matrix, spread evenly: with few rows per person, 0.1 or so keeps a label somebody never gave from
    being impossible. The likelihood (times the prior) never falls from one round to the next; there are at most
    `rounds`.

    Source: Dawid, Skene 1979, "Maximum likelihood estimation of observer error-rates using the EM algorithm";
    the start by shares of votes as there. Raises ValueError for wrong shapes, labels out of 0..labels-1, no rating
    at all or a negative prior.
    """
    counts, number = _counts(ratings, labels, people)
    if prior < 0:
        raise ValueError("a prior is a number of imagined answers, zero or more")
    votes = counts.reshape(len(counts), number, labels).sum(axis=1)
    given = votes.sum(axis=1, keepdims=True)
    labeled = given[:, 0] > 0
    posterior = votes[labeled] / given[labeled]
    answers = counts[labeled]
    shares, confusion = _maximise(posterior, answers, number, prior)
    why_not = ""
    if not (given >= 2).any():
        why_not = "No row was labeled twice, so people cannot be compared."
    elif number < 2:
        why_not = "Only one person labeled these rows, so there is nobody to compare with."
    likelihood, before, done = _likelihood(answers, shares, confusion)[0], -np.inf, 0
    while not why_not and done < rounds:
        likelihood, posterior = _likelihood(answers, shares, confusion)
        if likelihood - before <= _TOLERANCE * len(answers) and done > 1:
            break
        shares, confusion = _maximise(posterior, answers, number, prior)
        before, done = likelihood, done + 1
    whole = np.tile(shares, (len(counts), 1))
    whole[labeled] = posterior
    return Consensus(whole, shares, confusion, float(likelihood), done, why_not)


def _maximise(
    posterior: FloatArray, answers: FloatArray, people: int, prior: float
) -> tuple[FloatArray, FloatArray]:
    """Shares and confusion matrices from the probable true labels. Where somebody never saw a label, or no row has
    it, every answer is as likely as another."""
    labels = posterior.shape[1]
    shares: FloatArray = posterior.mean(axis=0)
    seen = (posterior.T @ answers).reshape(labels, people, labels).transpose(1, 0, 2) + prior
    total = seen.sum(axis=2, keepdims=True)
    confusion: FloatArray = np.divide(seen, total, out=np.full_like(seen, 1 / labels), where=total > 0)
    return shares, confusion


def _likelihood(answers: FloatArray, shares: FloatArray, confusion: FloatArray) -> tuple[float, FloatArray]:
    """Log-likelihood of the answers, and the probable true labels [units, labels]."""
    people, labels, _ = confusion.shape
    # The smallest number instead of nothing: 0 * log 0 is 0 for an answer that was not given.
    tiny = np.finfo(np.float64).tiny
    weights = np.log(np.maximum(confusion, tiny)).transpose(1, 0, 2).reshape(labels, people * labels)
    joint = answers @ weights.T + np.log(np.maximum(shares, tiny))
    top = joint.max(axis=1, keepdims=True)
    chances = np.exp(joint - top)
    total = chances.sum(axis=1, keepdims=True)
    return float((top + np.log(total)).sum()), chances / total


def _counts(ratings: npt.ArrayLike, labels: int, people: npt.ArrayLike | None) -> tuple[FloatArray, int]:
    """[units, people * labels]: how often each person gave each label; and the number of people."""
    table = np.asarray(ratings)
    if table.ndim != 2 or (table.size and not np.issubdtype(table.dtype, np.integer)):
        raise ValueError(f"ratings are label indices [units, columns], not {table.shape} {table.dtype}")
    who = np.arange(table.shape[1]) if people is None else np.asarray(people, dtype=np.int64)
    if who.shape != (table.shape[1],) or (who.size and who.min() < 0):
        raise ValueError(f"{table.shape[1]} columns need as many people, numbered from 0")
    unit, column = np.nonzero(table >= 0)
    if unit.size == 0:
        raise ValueError("nobody labeled anything")
    if int(table.max()) >= labels:
        raise ValueError(f"label indices must lie in 0..{labels - 1}")
    number = int(who.max()) + 1
    cells = number * labels
    place = unit * cells + who[column] * labels + table[unit, column]
    counts = np.bincount(place, minlength=len(table) * cells).reshape(len(table), cells)
    return counts.astype(np.float64), number
