"""What a run will take, before it is started: tokens, time and money, each from at least to at most.

Where this model has answered this task before, what its rows took then is what the next ones will take. Else
tokens come from the lengths of texts and instructions, and time from what tokens and answers of other tasks
took it, or from its test. What nothing is known about is None, not a guess.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from engine.models import speeds
from engine.prompt import prompt_for
from workspace import pace
from workspace.facts import DimensionSpec, ModelSpec, Settings
from workspace.pace import Claim
from workspace.store import Store
from workspace.task import Task

Interval = tuple[float, float]  # at least, at most

# English is about four characters a token, code and other scripts fewer, long plain words more.
CHARACTERS_PER_TOKEN: Interval = (2.5, 5.0)
REPLY_TOKENS: Interval = (1.0, 24.0)  # for one dimension: a single one with probabilities, some more in JSON
REASON_TOKENS: Interval = (10.0, 80.0)  # of an explanation
AROUND_TOKENS = 40.0  # at most, that a chat template and the opening of an answer put around a question
ENOUGH_CLAIMS = 5  # to take the spread among them for the spread of what comes
FEW: Interval = (0.6, 1.6)  # what may be made of fewer, times their mean
TESTED: Interval = (0.4, 2.0)  # what may be made of a test of five rows


class Estimate(msgspec.Struct, frozen=True):
    """What `rows` rows take on one machine, each number from at least to at most.

    `tokens` are those read and written, `seconds` None while this model's pace here is unknown, `money` None where
    no price is set. `basis` says in words what it goes by.
    """

    rows: int
    tokens: Interval
    seconds: Interval | None
    money: Interval | None
    basis: str


def estimate(
    store: Store, task: Task, model: ModelSpec, rows: int, settings: Settings, *, node: str = ""
) -> Estimate:
    """What labeling `rows` rows of a task with a model takes; `node` limits its pace to this machine's."""
    same = pace.claims(store, model.digest, task.name, node)
    if same:
        read = _spread([claim.prompt_tokens / claim.rows for claim in same])
        written = _spread([claim.completion_tokens / claim.rows for claim in same])
        seconds: Interval | None = _spread([claim.seconds / claim.rows for claim in same])
        basis = "what this model took for rows of this task before"
    else:
        read, written = _by_length(store, task, model, settings)
        seconds, basis = _by_other_work(store, model, _sum(read, written), len(task.dimensions), node)
    tokens = _sum(read, written)
    return Estimate(
        rows,
        _times(tokens, rows),
        _times(seconds, rows) if seconds else None,
        _money(read, written, rows, settings),
        basis,
    )


def _by_length(store: Store, task: Task, model: ModelSpec, settings: Settings) -> tuple[Interval, Interval]:
    """Tokens read and written per row, going by characters."""
    if model.backend == "embedding":
        return (0.0, 0.0), (0.0, 0.0)
    texts = pace.lengths(store)
    # The mean of those to come differs from the mean of the sample by a few standard errors.
    error = 2 * texts.deviation / math.sqrt(texts.sample) if texts.sample < texts.rows else 0.0
    most = task.text.max_tokens * CHARACTERS_PER_TOKEN[1] if task.text.max_tokens else math.inf
    text = (min(most, max(0.0, texts.mean - error)), min(most, texts.mean + error))
    dimensions = prompt_for(task).dimensions
    draws = settings.samples
    # A server may be asked for all answers in one request; a model of this machine counts each by itself, though
    # it reads the instructions once.
    together = {(one.system, one.user): len(one.system) for one in dimensions}
    once = _tokens((sum(together.values()) + text[0] * len(together),) * 2)
    least = _tokens((sum(len(one.system) for one in dimensions) + text[0] * len(dimensions),) * 2)
    most_read = _tokens((sum(len(one.system) for one in dimensions) + text[1] * len(dimensions),) * 2)
    around = sum(len(one.phrasings) for one in dimensions) * AROUND_TOKENS
    if model.backend == "llama_cpp":
        return (least[0], most_read[1] + around), (0.0, 0.0)
    return (once[0] * draws, (most_read[1] + around) * draws), _times(_reply(dimensions), draws)


def _by_other_work(
    store: Store, model: ModelSpec, tokens: Interval, answers: int, node: str
) -> tuple[Interval | None, str]:
    """Seconds per row, going by other tasks or the model's test.

    Neither the same time per token is right (instructions are read once for many rows) nor the same time per
    answer (some are longer); the truth lies between the two.
    """
    seen = pace.claims(store, model.digest, None, node)
    if seen:
        each = _times(_spread([claim.seconds / claim.answers for claim in seen]), answers)
        counted = [claim.seconds / _tokens_of(claim) for claim in seen if _tokens_of(claim)]
        return _around(each, _spread(counted) if counted else None, tokens), "what this model took for other tasks"
    tested = speeds.known().get(model.digest)
    if tested is None or not tested.rows_per_s:
        return None, "the lengths of texts and instructions"
    each = _times(TESTED, answers / tested.rows_per_s)
    per_token = _times(TESTED, tested.seconds / tested.tokens) if tested.tokens else None
    return _around(each, per_token, tokens), "the test of this model"


def _around(each: Interval, per_token: Interval | None, tokens: Interval) -> Interval:
    """From the least to the most of two ways to reckon."""
    if per_token is None or not tokens[1]:
        return each
    return min(each[0], per_token[0] * tokens[0]), max(each[1], per_token[1] * tokens[1])


def _spread(values: Sequence[float]) -> Interval:
    """From the least tenth to the most tenth of what was seen; of little that was seen, wider than that."""
    ordered = sorted(values)
    mean = sum(ordered) / len(ordered)
    if len(ordered) < ENOUGH_CLAIMS:
        return min(ordered[0], mean * FEW[0]), max(ordered[-1], mean * FEW[1])
    tenth = len(ordered) // 10
    return ordered[tenth], ordered[-1 - tenth]


def _money(read: Interval, written: Interval, rows: int, settings: Settings) -> Interval | None:
    if not settings.price_in and not settings.price_out:
        return None
    low, high = (
        rows * (read[end] * settings.price_in + written[end] * settings.price_out) / 1e6 for end in (0, 1)
    )
    return low, high


def _reply(dimensions: Sequence[DimensionSpec]) -> Interval:
    reasons = sum(one.explain for one in dimensions)
    return _sum(_times(REPLY_TOKENS, len(dimensions)), _times(REASON_TOKENS, reasons))


def _tokens(characters: Interval) -> Interval:
    return characters[0] / CHARACTERS_PER_TOKEN[1], characters[1] / CHARACTERS_PER_TOKEN[0]


def _tokens_of(claim: Claim) -> int:
    return claim.prompt_tokens + claim.completion_tokens


def _sum(one: Interval, other: Interval) -> Interval:
    return one[0] + other[0], one[1] + other[1]


def _times(interval: Interval, factor: float) -> Interval:
    return interval[0] * factor, interval[1] * factor
