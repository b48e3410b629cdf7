"""The rows of a workspace: counted, paged and looked up."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from workspace.store import Connection, Store

_COLUMNS = """
    select r.row_no, r.id, r.text, coalesce(r.domain, ''), coalesce(r.external_id, ''),
           1 + coalesce(p.times, 0)::bigint
    from chosen r left join (
        select row_id, sum(times) as times from repeats
        where row_id in (select id from chosen) group by row_id
    ) p on p.row_id = r.id
    order by r.row_no
"""


class Row(msgspec.Struct, frozen=True):
    """One text. `row_no` counts from 0 in the order of loading; `times` is how often the text was seen."""

    row_no: int
    id: str
    text: str
    domain: str
    external_id: str
    times: int


def count(store: Store, domain: str | None = None) -> int:
    """Rows in the workspace, or of one domain."""
    with store.read() as con:
        return scalar(con, "select count(*) from rows where $1 is null or domain = $1", [domain])


def page(store: Store, after: int = -1, limit: int = 50, search: str = "", domain: str | None = None) -> list[Row]:
    """Up to `limit` rows with `row_no` above `after`, in loading order; `search` is looked for in any case."""
    with store.read() as con:
        found = con.execute(
            f"""with chosen as materialized (
                    select * from rows
                    where row_no > $after and ($domain is null or domain = $domain)
                      and ($search = '' or contains(lower(text), lower($search)))
                    order by row_no limit $limit
                ) {_COLUMNS}""",
            {"after": after, "limit": limit, "search": search, "domain": domain},
        ).fetchall()
    return [Row(*values) for values in found]


def domains(store: Store) -> list[tuple[str, int]]:
    """Domains with their number of rows, largest first. Rows without a domain are not among them."""
    with store.read() as con:
        return con.execute(
            "select domain, count(*) from rows where domain <> '' group by domain order by 2 desc, 1"
        ).fetchall()


def get(store: Store, ids: Sequence[str]) -> dict[str, Row]:
    """The rows of these ids by id; unknown ids are left out."""
    with store.read() as con:
        found = con.execute(
            f"""with chosen as materialized (
                    select * from rows where id in (select unnest($1::varchar[]))
                ) {_COLUMNS}""",
            [list(ids)],
        ).fetchall()
    return {values[1]: Row(*values) for values in found}


def scalar(con: Connection, sql: str, parameters: object = None) -> int:
    """The one whole number a query answers with, 0 for null. Leaves no result open on the connection."""
    found = con.execute(sql, parameters).fetchall()
    return int(found[0][0] or 0) if found else 0
