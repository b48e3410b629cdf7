"""The columns of an export that say which rows a promise accepted.

Their names depend on the task of the run alone, so a column keeps its name when another promise comes or goes:
`D_accepted` for the dimension D, `D_L_accepted` for its label L, with a number behind it where another column
could have that name. DuckDB takes names for the same that differ in capitals only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from workspace import promises
from workspace.answers import shape_of
from workspace.facts import RunSpec
from workspace.promises import WHOLE, Kept
from workspace.runs import read_spec
from workspace.store import Connection, Store, sql_string

_OF_ROW = ("id", "text", "domain", "external_id")
_OF_ALL = ("overall", "tier", "broken_rules", "warnings")
_OF_EACH = ("value", "spread", "confidence", "decided_by", "explanation", "gold")


class Told(msgspec.Struct, frozen=True):
    """A promise that holds, and the column that says which rows it is about."""

    kept: Kept
    column: str


def told(store: Store, run_id: str) -> list[Told]:
    """Every promise of a run that holds now, in the order of its columns. Raises RunError for an unknown run."""
    with store.read() as con:
        spec = read_spec(con, run_id)
        return [one for asked in spec.dimensions for one in read_told(con, spec, asked.name)]


def read_told(con: Connection, spec: RunSpec, dimension: str) -> list[Told]:
    """Those of one dimension, for those who already hold a cursor."""
    kept = promises.read_all(con, spec.run_id, dimension)
    names = _names(spec) if kept else {}
    return [Told(one, names[dimension, one.label]) for one in kept]


def columns(con: Connection, run_id: str, dimension: str, table: str) -> list[tuple[str, str]]:
    """(name, SQL) of these columns of a dimension whose current labels are in `table`, beside the rows `r`."""
    return [
        (
            one.column,
            f"""coalesce({table}.label is not null and ({table}.human or r.id in (
                select row_id from accepted where promise = {sql_string(one.kept.id)})), false)""",
        )
        for one in read_told(con, read_spec(con, run_id), dimension)
    ]


def distinct(names: Iterable[str]) -> list[str]:
    """The same names, with a number behind those that came before in any capitals: `text`, `Text_1`."""
    taken: set[str] = set()
    return [_free(name, taken) for name in names]


def _names(spec: RunSpec) -> dict[tuple[str, str], str]:
    """The column of each dimension and label there could be a promise about."""
    taken = {*_OF_ROW, *(f"row_{name}" for name in _OF_ROW), *_OF_ALL}
    for asked in spec.dimensions:
        taken |= {asked.name, *(f"{asked.name}_{part}" for part in _OF_EACH)}
    found = {(asked.name, WHOLE): _free(f"{asked.name}_accepted", taken) for asked in spec.dimensions}
    for asked in spec.dimensions:
        for label in asked.labels if shape_of(asked) == "multi" else ():
            # A header is one line, whatever a label looks like.
            found[asked.name, label] = _free(f"{asked.name}_{_CONTROL.sub(' ', label)}_accepted", taken)
    return found


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _free(name: str, taken: set[str]) -> str:
    candidate, number = name, 0
    while candidate.casefold() in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate.casefold())
    return candidate
