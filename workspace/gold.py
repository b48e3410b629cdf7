"""Labels that came with the rows, read as answers to a dimension."""

from __future__ import annotations

from workspace import kinds
from workspace.facts import DimensionSpec
from workspace.store import Connection

Parameters = dict[str, object]


def gold_sql(con: Connection, asked: DimensionSpec) -> tuple[str, Parameters]:
    """The CTE, without "with", that defines `known` (row_id, label): the newest gold label of each row as
    `workspace.kinds.reader` reads it; what is no label of the dimension is left out. Needs `$dimension`."""
    read = kinds.reader(asked.kind, asked.labels)
    found = con.execute("select distinct label from gold where dimension = ?", [asked.name]).fetchall()
    meant = {
        written: label for (written,) in found if written is not None and (label := read(written)) is not None
    }
    sql = """meant as (select unnest($written::varchar[]) as written, unnest($meant::varchar[]) as label),
known as (
    select g.row_id, m.label from (
        select row_id, arg_max(label, rowid) as written from gold where dimension = $dimension group by row_id
    ) g join meant m using (written)
)"""
    return sql, {"written": list(meant), "meant": list(meant.values())}
