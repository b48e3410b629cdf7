"""What a calibrator works on: the scores of rows without bias, and each voice that went into them, as arrays.

A calibrator that was fitted keeps how it read the answers (`Reading`): the bias of a model moves a little with
every row it answers, and scores read with another bias would not be those the calibrator was fitted on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from workspace.calibrators import newest
from workspace.links import read_links
from workspace.runs import read_spec
from workspace.store import Connection
from workspace.voices import (
    FIRM,
    Parameters,
    dimension_of,
    fixes,
    own_sql,
    said_by,
    scores_of,
    shape_of,
    too_much,
)

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """How answers are read: `biases` of the run and then of each run that votes with it, a number for each label;
    `phrasings`, the bias of each way the run put its question, empty for only one; `voters` with their weights.
    """

    biases: tuple[tuple[float, ...], ...]
    phrasings: tuple[tuple[float, ...], ...]
    voters: tuple[tuple[str, float], ...]

    @property
    def voices(self) -> int:
        """How many voices a row has: each phrasing, or the run as a whole for only one, and who votes with it."""
        return max(1, len(self.phrasings)) + len(self.voters)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can say it."""
        return {
            "biases": [list(one) for one in self.biases],
            "phrasings": [list(one) for one in self.phrasings],
            "voters": [list(one) for one in self.voters],
        }

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Reading:
        """What `to_dict` made. Raises KeyError for anything else."""
        return cls(
            tuple(tuple(map(float, one)) for one in said["biases"]),
            tuple(tuple(map(float, one)) for one in said["phrasings"]),
            tuple((str(run_id), float(weight)) for run_id, weight in said["voters"]),
        )


@dataclass(frozen=True)
class Scores:
    """n rows: `row_ids`; `source` [n], numbers that stand for the answers read; `base` [n, k] and `voices`
    [n, v, k], scores without bias: natural logarithms of probabilities, normalised, or log-odds for `multi`."""

    row_ids: list[str]
    source: npt.NDArray[np.uint64]
    base: FloatArray
    voices: FloatArray


def read_now(con: Connection, run_id: str, dimension: str) -> Reading:
    """How the answers of a run are read today. Raises RunError for an unknown run or dimension."""
    spec = read_spec(con, run_id)
    asked = dimension_of(spec, dimension)
    shape = shape_of(asked)
    sql, parameters, voters = own_sql(con, spec, dimension, read_links(con, run_id))
    calibrator = newest(con, run_id, dimension)
    if calibrator is not None and fixes(calibrator, said_by(voters)):
        return Reading.from_dict(calibrator.parameters["reading"])
    biases = ", ".join(f"(select biases from bias{place})" for place in range(len(voters) + 1))
    # The run's phrasings in one list after the other, each as wide as there are labels.
    found = con.execute(
        f"""with {sql},
            told as (
                select unnest(phrasings) as logprobs, generate_subscripts(phrasings, 1) as phrasing
                from said0 where answered and not ruled and len(phrasings) > 1
            ),
            flat as (
                select phrasing, generate_subscripts(scores, 1) as place, unnest(scores) as value
                from (select phrasing, {scores_of("logprobs", shape)} as scores from told
                      where len(logprobs) = len($labels::varchar[]))
            ),
            leaning as (
                select phrasing, list({too_much(shape)} order by place) as bias from (
                    select phrasing, place, coalesce(round(avg(value) filter (isfinite(value)), 12), 0.0) as mean
                    from flat group by phrasing, place
                ) group by phrasing
            )
            select (select list(bias order by phrasing) from leaning), {biases}""",
        parameters,
    ).fetchall()[0]
    phrasings, each = found[0] or [], found[1:]
    return Reading(
        tuple(tuple(bias) if bias else (0.0,) * len(asked.labels) for bias in each),
        tuple(tuple(bias) for bias in phrasings),
        tuple((str(voter), float(str(weight))) for voter, weight in said_by(voters)),
    )


def scores_sql(
    con: Connection, run_id: str, dimension: str, reading: Reading, within: str = ""
) -> tuple[str, Parameters]:
    """CTEs, without "with", that define `scores` (row_id, source, node, base, and voices for `arrays`) of the rows
    a model has answered, and their parameters. The same runs must vote as in `reading`. `within`, a condition on
    `row_id`, leaves the others out before anything is computed. Raises RunError for an unknown run or dimension.
    """
    spec = read_spec(con, run_id)
    sql, parameters, voters = own_sql(con, spec, dimension, read_links(con, run_id), reading.biases, within)
    nothing = "list_transform($labels::varchar[], lambda name: 'nan'::double)"
    columns = ["own.row_id", "own.source", "own.node", "own.corrected as base"]
    if reading.phrasings:
        parameters["wide"] = len(reading.phrasings) * len(reading.biases[0])
        columns.append(
            f"""case when len(flatten(said0.phrasings)) = $wide then flatten(said0.phrasings)
            else flatten([{", ".join([nothing] * len(reading.phrasings))}]) end as phrasings"""
        )
    elif reading.voters:
        columns.append(f"case when voice0.answered then voice0.corrected else {nothing} end as voice0")
    columns += [
        f"case when voice{at}.answered then voice{at}.corrected else {nothing} end as voice{at}"
        for at in range(1, len(voters) + 1)
    ]
    joins = "join said0 on said0.row_id = own.row_id " if reading.phrasings else ""
    joins += "join voice0 on voice0.row_id = own.row_id " if reading.voters and not reading.phrasings else ""
    joins += " ".join(f"left join voice{at} on voice{at}.row_id = own.row_id" for at in range(1, len(voters) + 1))
    return (
        f"""{sql},
scores as (
    select {", ".join(columns)} from own {joins} where own.answered and not own.ruled
)""",
        parameters,
    )


def arrays(table: pa.Table, reading: Reading, *, several: bool) -> Scores:
    """The rows of `scores` as arrays; `several` for a multi dimension. A missing voice says what all say."""
    n, k = table.num_rows, len(reading.biases[0])

    def numbers(name: str, *shape: int) -> FloatArray:
        flat = table.column(name).combine_chunks().flatten() if n else pa.array([], pa.float64())
        return np.asarray(flat.to_numpy(zero_copy_only=False), dtype=np.float64).reshape(n, *shape)

    base = _level(numbers("base", k), several=several)
    heard = []
    if reading.phrasings:
        told = numbers("phrasings", len(reading.phrasings), k)
        heard.append((_log_odds(told) if several else told) - np.asarray(reading.phrasings))
    elif reading.voters:
        heard.append(numbers("voice0", 1, k))
    heard += [numbers(f"voice{at}", 1, k) for at in range(1, len(reading.voters) + 1)]
    voices = np.concatenate(heard, axis=1) if heard else base[:, None, :]
    missing = np.isnan(voices).any(axis=2, keepdims=True)
    voices = np.where(missing, base[:, None, :], voices)
    return Scores(
        table.column("row_id").to_pylist(),
        np.asarray(table.column("source").to_numpy(), dtype=np.uint64),
        base,
        _level(voices, several=several),
    )


def yes_or_no(odds: FloatArray) -> FloatArray:
    """Log-odds [...] as the log-probabilities [..., 2] of yes and no."""
    both: FloatArray = np.stack([-np.logaddexp(0.0, -odds), -np.logaddexp(0.0, odds)], axis=-1)
    return both


def _log_odds(logprobs: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        odds = logprobs - np.log(-np.expm1(np.minimum(logprobs, 0.0)))
    return np.where(np.isnan(logprobs), np.nan, np.clip(np.nan_to_num(odds, nan=0.0), -FIRM, FIRM))


def _level(scores: FloatArray, *, several: bool) -> FloatArray:
    """Scores [..., k] made comparable: log-probabilities that sum to one after `exp`; log-odds stay."""
    if several or not scores.size:
        return scores
    top = scores.max(axis=-1, keepdims=True)
    shifted = np.where(np.isneginf(top), 0.0, scores - np.where(np.isneginf(top), 0.0, top))
    level: FloatArray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return level
