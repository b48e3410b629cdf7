"""Calibrators of a run: kept one after the other, the newest one is in force.

What a temperature does is computed where labels are read. With a `reading` among its parameters (see
`workspace.fixing`) the answers are read as they were then, whatever is answered later. Every other calibrator has
adjusted the scores of each row beforehand (see `workspace.adjusted`); its `temperature` is for rows it has not
come to yet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from workspace.ids import content_id
from workspace.rows import scalar
from workspace.store import Connection, Store, moment

NONE = "none"  # the method that takes the calibrator before it out of force
FIXED = "reading"  # corrects nothing, and has the answers read as they were (see `workspace.fixing`)
AT_ONCE = frozenset({NONE, FIXED, "temperature", "lower_temperature"})  # methods all said by their temperature


class Calibrator(msgspec.Struct, frozen=True):
    """What corrects a run's probabilities for one dimension, and the evidence it was fitted on."""

    id: str
    run_id: str
    dimension: str
    method: str
    parameters: dict[str, Any]
    evidence: dict[str, Any]
    fitted_at: datetime

    @property
    def temperature(self) -> float:
        """The temperature to divide log-probabilities by; 1 changes nothing."""
        value = self.parameters.get("temperature", 1.0)
        return float(value)

    @property
    def adjusts(self) -> bool:
        """Whether it works through scores of every row that were computed beforehand."""
        return self.method not in AT_ONCE

    @property
    def corrects(self) -> bool:
        """Whether it makes probabilities others than they are without any calibrator."""
        return self.method not in (NONE, FIXED)


def save(
    store: Store,
    run_id: str,
    dimension: str,
    method: str,
    parameters: Mapping[str, Any],
    evidence: Mapping[str, Any],
    held_out: Mapping[str, Sequence[float]] | None = None,
) -> Calibrator:
    """Put a calibrator into force. Parameters and evidence are anything JSON can say.

    `held_out`: by row it was fitted on, the scores a fit without that row gives it. What the calibrators before it
    had computed is dropped.
    """
    known = {} if held_out is None else held_out

    def work(con: Connection) -> Calibrator:
        found = insert(con, run_id, dimension, method, parameters, evidence)
        for table in ("adjusted", "out_of_fold"):
            con.execute(
                f"""delete from {table} where calibrator in
                    (select id from calibrators where run_id = ? and dimension = ? and id <> ?)""",
                [run_id, dimension, found.id],
            ).fetchall()
        con.execute(
            "insert into out_of_fold select $1, unnest($2::varchar[]), unnest($3::double[][])",
            [found.id, list(known), [list(scores) for scores in known.values()]],
        ).fetchall()
        return found

    return store.write(work)


def insert(
    con: Connection,
    run_id: str,
    dimension: str,
    method: str,
    parameters: Mapping[str, Any],
    evidence: Mapping[str, Any],
    fitted_at: datetime | None = None,
) -> Calibrator:
    """Only the entry, for those who write already; what the one before had computed stays.

    `fitted_at`, now if not given, may be that of the one in force, not before it.
    """
    texts = [json.dumps(dict(value), sort_keys=True) for value in (parameters, evidence)]
    place = str(scalar(con, "select count(*) from calibrators"))
    id = content_id(["calibrator", run_id, dimension, method, *texts, place])
    con.execute(
        "insert into calibrators values (?, ?, ?, ?, ?, ?, coalesce(?::timestamptz, now()))",
        [id, run_id, dimension, method, *texts, fitted_at],
    ).fetchall()
    found = newest(con, run_id, dimension)
    assert found is not None  # inserted above
    return found


def active(store: Store, run_id: str, dimension: str) -> Calibrator | None:
    """The calibrator in force, or None; one that only fixes how answers are read corrects nothing and is none."""
    with store.read() as con:
        found = newest(con, run_id, dimension)
    return found if found is not None and found.corrects else None


def fitted_on(store: Store, calibrator_id: str) -> frozenset[str]:
    """The rows the newest calibrator of a run was fitted on; none of one that was saved without `held_out`."""
    with store.read() as con:
        found = con.execute("select row_id from out_of_fold where calibrator = ?", [calibrator_id]).fetchall()
    return frozenset(row_id for (row_id,) in found)


def clear(store: Store, run_id: str, dimension: str) -> None:
    """Show probabilities uncalibrated again; the calibrators before stay on record."""
    save(store, run_id, dimension, NONE, {}, {})


def adjusting(store: Store) -> list[tuple[str, str]]:
    """Run and dimension of every calibrator in force that computes the scores of each row beforehand."""
    with store.read() as con:
        found = con.execute(
            """select run_id, dimension, method from calibrators
               qualify row_number() over (partition by run_id, dimension order by fitted_at desc, rowid desc) = 1
               order by run_id, dimension"""
        ).fetchall()
    return [(run_id, dimension) for run_id, dimension, method in found if method not in AT_ONCE]


def adjusted_rows(store: Store, run_id: str, dimension: str) -> int:
    """How many scores the calibrator in force has computed; it changes whenever labels are read differently."""
    with store.read() as con:
        found = newest(con, run_id, dimension)
        return scalar(con, "select count(*) from adjusted where calibrator = ?", [found.id]) if found else 0


def facts_known(store: Store) -> int:
    """How many facts there are; a number that is read in no time."""
    with store.read() as con:
        return scalar(con, "select count(*) from facts")


def newest(con: Connection, run_id: str, dimension: str) -> Calibrator | None:
    """The newest entry, method 'none' included; for those who already hold a cursor."""
    found = con.execute(
        """select id, method, parameters, evidence, epoch_us(fitted_at) from calibrators
           where run_id = ? and dimension = ? order by fitted_at desc, rowid desc limit 1""",
        [run_id, dimension],
    ).fetchall()
    if not found:
        return None
    (row,) = found
    parameters, evidence = json.loads(row[2]), json.loads(row[3])
    return Calibrator(row[0], run_id, dimension, row[1], parameters, evidence, moment(row[4]))
