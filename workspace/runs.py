"""Runs: a task asked of a model with a prompt, and the rows planned into it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec
import pyarrow as pa

from workspace import tally
from workspace.errors import RunError
from workspace.facts import RunSpec
from workspace.rows import scalar
from workspace.store import Connection, Store, moment

Sample = Literal["first", "random"]


class RunRecord(msgspec.Struct, frozen=True):
    """A run as lists show it.

    Of the rows that were answered in every dimension, `labeled_rows` have a label in each, `failed_rows` an error
    in at least one, and `dropped_rows` are the others: those a rule of the prefilter left out. Rows the engine has
    not come to are `rows_left`. `part_of` is the run it has a say in (see `workspace.links`), "" for none.
    """

    id: str
    task_id: str
    task_name: str
    task_title: str
    model_name: str
    created_at: datetime
    rows: int
    labeled_rows: int
    failed_rows: int
    dropped_rows: int = 0
    part_of: str = ""

    @property
    def rows_left(self) -> int:
        """Planned rows that were not answered in every dimension."""
        return self.rows - self.labeled_rows - self.failed_rows - self.dropped_rows


def save_prompt(store: Store, prompt_id: str, task_id: str, document: str) -> None:
    """Keep the document a prompt id stands for. Keeping it again changes nothing."""
    store.write(lambda con: add_prompt(con, prompt_id, task_id, document))


def add_prompt(con: Connection, prompt_id: str, task_id: str, document: str) -> None:
    """As `save_prompt`, for those who write already."""
    con.execute(
        "insert into prompts select $1, $2, $3, now() where not exists (from prompts where id = $1)",
        [prompt_id, task_id, document],
    ).fetchall()


def create(store: Store, spec: RunSpec, created_at: datetime | None = None) -> None:
    """Keep the specification of a run. Creating it again changes nothing.

    Only where its model lies is learned later, for a run that came from another machine.
    """
    store.write(lambda con: add_run(con, spec, created_at))


def add_run(con: Connection, spec: RunSpec, created_at: datetime | None = None) -> None:
    """As `create`, for those who write already."""
    document = msgspec.json.encode(spec).decode()
    known = con.execute("select spec from runs where id = ?", [spec.run_id]).fetchall()
    if not known:
        con.execute(
            "insert into runs values (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                spec.run_id,
                spec.task_id,
                spec.task_name,
                spec.prompt_id,
                spec.model.name,
                spec.model.digest,
                document,
                created_at or datetime.now(UTC),
            ],
        ).fetchall()
    elif spec.model.path and not msgspec.json.decode(known[0][0], type=RunSpec).model.path:
        con.execute("update runs set spec = ? where id = ?", [document, spec.run_id]).fetchall()


def spec(store: Store, run_id: str) -> RunSpec:
    """What a run asks of whom. Raises RunError when there is no such run."""
    with store.read() as con:
        return read_spec(con, run_id)


def read_spec(con: Connection, run_id: str) -> RunSpec:
    """As `spec`, for those who already hold a cursor."""
    found = con.execute("select spec from runs where id = ?", [run_id]).fetchall()
    if not found:
        raise RunError("This workspace has no such run.", "Choose one of its runs, or start a new one.")
    return msgspec.json.decode(found[0][0], type=RunSpec)


def plan(
    store: Store,
    run_id: str,
    *,
    limit: int | None,
    sample: Sample = "first",
    domain: str | None = None,
    import_id: str | None = None,
) -> int:
    """Let a run grow to `limit` rows, all rows for None; returns how many are new.

    Only rows of `domain` and only rows that came (first or again) with the import `import_id`, when named. Those
    of them the run has already count towards the limit, so the same call twice adds nothing. "first" takes rows
    in loading order. "random" takes the smallest ids: an id is a SHA-256 of the text, so that is an unbiased
    sample, the same on every machine. Rows never leave a run. Raises RunError when there is no such run.
    """
    order = "row_no" if sample == "first" else "id"

    def work(con: Connection) -> int:
        read_spec(con, run_id)
        planned = scalar(con, "select count(*) from run_rows where run_id = ?", [run_id])
        return scalar(
            con,
            f"""insert into run_rows
                with mine as (from run_rows where run_id = $run),
                eligible as (
                    select id, row_no from rows
                    where ($domain is null or domain = $domain)
                      and ($import is null or import_id = $import
                           or id in (select row_id from repeats where import_id = $import))
                ),
                missing as (
                    select $limit - count(*) as number from eligible semi join mine on mine.row_id = eligible.id
                ),
                ranked as (
                    select id, row_number() over (order by {order}) as place
                    from eligible anti join mine on mine.row_id = eligible.id
                )
                select $run, $planned + place - 1, id from ranked, missing where place <= number order by place""",
            {
                "run": run_id,
                "planned": planned,
                "domain": domain,
                "import": import_id,
                "limit": 2**62 if limit is None else limit,
            },
        )

    return store.write(work)


def plan_rows(store: Store, run_id: str, row_ids: Sequence[str]) -> int:
    """Plan these rows into a run, in this order; returns how many are new to it.

    Rows that are not here are left out. Raises RunError when there is no such run.
    """

    def work(con: Connection) -> int:
        read_spec(con, run_id)
        con.register(
            "wanted_rows", pa.table({"id": pa.array(row_ids, type=pa.string()), "place": range(len(row_ids))})
        )
        try:
            return scalar(
                con,
                """insert into run_rows
                   with mine as (from run_rows where run_id = $run),
                   wanted as (select id, min(place) as place from wanted_rows group by id),
                   missing as (
                       select id, row_number() over (order by place) as place
                       from wanted semi join rows on rows.id = wanted.id anti join mine on mine.row_id = wanted.id
                   )
                   select $run, (select count(*) from mine) + place - 1, id from missing order by place""",
                {"run": run_id},
            )
        finally:
            con.unregister("wanted_rows")

    return store.write(work)


def row_ids(store: Store, run_id: str) -> list[str]:
    """The ids of the rows planned into a run, in the order of planning."""
    with store.read() as con:
        found = con.execute("select row_id from run_rows where run_id = ? order by number", [run_id]).fetchall()
    return [row_id for (row_id,) in found]


def planned(store: Store, run_id: str, after: int = 0, limit: int = 10_000) -> list[tuple[str, str]]:
    """(row id, text) of the run's rows number `after` and following, at most `limit`, in the order of planning."""
    with store.read() as con:
        return con.execute(
            """with part as materialized (
                   select number, row_id from run_rows
                   where run_id = $1 and number >= $2 and number < $2 + $3
               )
               select p.row_id, r.text from part p join rows r on r.id = p.row_id order by p.number""",
            [run_id, after, limit],
        ).fetchall()


def list_runs(store: Store) -> list[RunRecord]:
    """All runs, newest first, those that have a say in another one (`part_of`) after all others.

    See `workspace.tally` for how recent their counts are.
    """
    with store.read() as con:
        found = con.execute(
            """
            select r.id, r.task_id, r.task_name,
                   coalesce((select any_value(title) from tasks t where t.id = r.task_id), r.task_name),
                   r.model_name, epoch_us(r.created_at),
                   (select count(*) from run_rows p where p.run_id = r.id),
                   coalesce(l.run_id, ''), json_extract_string(r.spec, '$.dimensions[*].name')
            from runs r left join (select other_id, max(run_id) as run_id from links group by other_id) l
                on l.other_id = r.id
            order by l.run_id is not null, r.created_at desc, r.rowid desc
            """
        ).fetchall()
        counts = tally.of(store, con, {row[0]: row[8] for row in found})
    return [
        RunRecord(id, task_id, task_name, title, model, moment(created), rows, *counts[id], part_of=part_of)
        for id, task_id, task_name, title, model, created, rows, part_of, _ in found
    ]
