"""Runs that speak about the rows of another one: other models that vote, decide in its place, or say why.

A linked run is an ordinary run of the same task. All answers stay as they were given; the link says what becomes
of them when labels are read (see `workspace.answers`), and removing it undoes that.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Literal

import msgspec

from workspace.errors import RunError
from workspace.runs import read_spec
from workspace.store import Connection, Store, moment

Kind = Literal["arbitrate", "vote", "explain"]
KINDS: tuple[Kind, ...] = ("arbitrate", "vote", "explain")


class Link(msgspec.Struct, frozen=True):
    """What the run `other_id` is to `run_id`.

    arbitrate: where it has an answer, that one counts; the newest of several such links wins. vote: its answers
    are pooled with those of the run, which has the weight 1 itself. explain: its explanations are shown.
    """

    run_id: str
    other_id: str
    kind: Kind
    weight: float  # of a vote; above 0
    created_at: datetime


def add(store: Store, run_id: str, other_id: str, kind: Kind, weight: float = 1.0) -> None:
    """Link a run to another one; linking them again in the same way changes the weight.

    Raises RunError when one of them is not here, both are the same, or they are about different tasks.
    """
    if kind not in KINDS:
        raise RunError(f"'{kind}' is no way to link runs.", f"There are {', '.join(KINDS)}.")
    if run_id == other_id:
        raise RunError("A run cannot be linked to itself.", "Choose another run; nothing was changed.")
    if not (math.isfinite(weight) and weight > 0):
        raise RunError(f"{weight} is no weight of a vote.", "Use a number above 0, or remove the link.")

    def work(con: Connection) -> None:
        if read_spec(con, run_id).task_name != read_spec(con, other_id).task_name:
            raise RunError("These runs are about different tasks.", "Nothing was changed.")
        key = [run_id, other_id, kind]
        known = con.execute("select 1 from links where run_id = ? and other_id = ? and kind = ?", key).fetchall()
        if known:
            con.execute(
                "update links set weight = ? where run_id = ? and other_id = ? and kind = ?", [weight, *key]
            ).fetchall()
        else:
            con.execute("insert into links values (?, ?, ?, ?, now())", [*key, weight]).fetchall()

    store.write(work)


def remove(store: Store, run_id: str, other_id: str, kind: Kind) -> None:
    """Take a link away; the other run and its answers stay. Removing what is not there changes nothing."""
    store.write(
        lambda con: con.execute(
            "delete from links where run_id = ? and other_id = ? and kind = ?", [run_id, other_id, kind]
        ).fetchall()
    )


def of(store: Store, run_id: str) -> list[Link]:
    """The links of a run, newest first."""
    with store.read() as con:
        return read_links(con, run_id)


def read_links(con: Connection, run_id: str) -> list[Link]:
    """As `of`, for those who already hold a cursor."""
    found = con.execute(
        """select run_id, other_id, kind, weight, epoch_us(created_at) from links
           where run_id = ? order by created_at desc, rowid desc""",
        [run_id],
    ).fetchall()
    return [Link(run, other, kind, weight, moment(at)) for run, other, kind, weight, at in found]
