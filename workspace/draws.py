"""Blind samples of a run: rows drawn by chance, to be decided without seeing what the model said.

Rows are drawn in the order of their ids. An id is a SHA-256 of the text, so this order has nothing to do with what
a text says or what anybody thinks of it, and the first rows in it are a uniform sample, the same on every machine.
Rows whose truth is known already cost nothing and count as part of the sample where the order comes to them.

A draw takes rows from all of the run, or only from a part of it, its *frame*: the surest rows as they were then.
Confidences move later, so the members of a frame are written down. Rows planned after a draw could not be drawn by
it either. Rows with one history, planned between the same two draws and members of the same frames, are a
*stratum*. Nothing that was decided about drawing tells two rows of a stratum apart but their ids, so those drawn
are its first ones in the order, and those checked, up to the first one drawn and unchecked, are a simple random
sample of as many rows of it, whatever frames there were: this is the sample of the stratum, and the share of the
stratum it makes is the `inclusion` of all its rows. Leaving a hard row out for later does not make a sample look
better. Checked are rows with a blind decision or gold; a rejected or skipped row counts as one whose label is
wrong. What was undone waits again. Frames and numbers of rows that follow what was found wrong decide how much is
looked at, never which rows of a stratum; a promise asked for again after that is another look.

From this follows what a promise needs. A frame that lies within all earlier ones, as when ever surer rows are of
interest, is one stratum: all its rows have one inclusion, exactly, and sets of them keep the exact test. A frame
that reaches across strata (rows were planned since, or confidences have changed) is drawn from where the share is
smallest, so that its strata come to one share but for a row each; the first row of every stratum comes first, so
that none is without a sample. Rows outside the frame of strata that have no sample yet, planned since or cut off
by the frame, are drawn up to the smallest share there was: every row has had a chance after a draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from workspace.answers import Parameters, dimension_of
from workspace.current import current_sql, judged_sql
from workspace.errors import RunError
from workspace.facts import DimensionSpec
from workspace.ids import content_id
from workspace.rows import scalar
from workspace.runs import read_spec
from workspace.scores import Reading, read_now
from workspace.store import Connection, Store
from workspace.truth import truth_sql

_NOTICEABLE = 1.2  # times as often


class Drawn(msgspec.Struct, frozen=True):
    """A sample that was drawn: which of its run and dimension, from 1 on, and its rows, all to be checked."""

    number: int
    row_ids: tuple[str, ...]


class Standing(msgspec.Struct, frozen=True):
    """Draws made, rows drawn in all, and those of them still `waiting` to be checked."""

    draws: int
    drawn: int
    waiting: int


@dataclass(frozen=True)
class Sample:
    """What is known of the N answered rows of a run from its sample of m.

    `row_ids` N in ascending order; `confidence` [N], `label` [N], `probabilities` [N, k] and for a score `value`
    [N] of the model, of a row a calibrator was fitted on as a fit without it has them; `stratum` [N], from 0
    on, and `inclusion` [N], the share of it that was checked, 0 where the sample says nothing. `checked` [m]
    places; `truth` [m], None for a rejected or skipped row, of which `skipped` were. `reading` is how the
    answers were read; `domain` [N] the domain of each row, a place in `domains`, which are in order.
    """

    row_ids: list[str]
    confidence: npt.NDArray[np.float64]
    label: list[str]
    probabilities: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]
    stratum: npt.NDArray[np.int64]
    inclusion: npt.NDArray[np.float64]
    checked: npt.NDArray[np.int64]
    truth: list[str | None]
    skipped: int
    standing: Standing
    reading: Reading
    domain: npt.NDArray[np.int64]
    domains: tuple[str, ...]

    def within(self, values: npt.NDArray[np.float64], tolerance: float) -> npt.NDArray[np.float64]:
        """Of a score whose labels are these k values: the probability [N] that the truth is that close."""
        near = np.abs(values[None, :] - self.value[:, None]) <= tolerance
        chances: npt.NDArray[np.float64] = np.where(near, self.probabilities, 0.0).sum(axis=1)
        return np.minimum(chances, 1.0)

    @property
    def uneven(self) -> bool:
        """Whether some rows were drawn noticeably more often than others."""
        chances = self.inclusion[self.inclusion > 0]
        return bool(chances.size and chances.max() > _NOTICEABLE * chances.min())

    @property
    def wrong(self) -> npt.NDArray[np.bool_]:
        """Whether the label of each checked row is wrong [m]."""
        said = [self.label[place] for place in self.checked]
        return np.array([true != label for true, label in zip(self.truth, said, strict=True)], dtype=np.bool_)


def draw(store: Store, run_id: str, dimension: str, rows: int, *, among: Sequence[str] | None = None) -> Drawn:
    """Draw so many more rows to be checked, of all rows planned into the run; fewer where no more are left.

    `among`: ids of the rows it is limited to, the frame; of others it only takes those of strata that have no
    sample yet. Which rows these are may depend on all that is known, but of a row that was not drawn only on what
    the model says. Rows that a rule left out and rows that failed are not drawn. Raises RunError for an unknown
    run or dimension, and when nothing is left to draw.
    """

    def work(con: Connection) -> Drawn:
        spec = read_spec(con, run_id)
        asked = dimension_of(spec, dimension)
        planned = scalar(con, "select count(*) from run_rows where run_id = ?", [run_id])
        number = 1 + scalar(
            con, "select max(number) from draws where run_id = ? and dimension = ?", [run_id, dimension]
        )
        least = 0.0
        if among is not None:
            least = _least(con, run_id, asked, planned)
            con.execute(
                """insert into frames select $run, $dimension, $number, row_id from run_rows
                   where run_id = $run and row_id in (select unnest($among::varchar[]))""",
                {"run": run_id, "dimension": dimension, "number": number, "among": list(among)},
            ).fetchall()
        sql, parameters = _frame(con, run_id, asked, planned)
        found = con.execute(
            f"""{sql}, {_OPEN}
            select row_id, rate from open join reached using (stratum)
            where $everywhere or list_contains(frames, $number) or (share = 0 and rate < $least)
            order by rate, row_id limit $limit""",
            {**parameters, "limit": rows, "number": number, "everywhere": among is None, "least": least},
        ).fetchall()
        if not found:
            raise RunError("Every row was drawn or is known already.", "There is nothing left to draw.")
        con.execute(
            """insert into draws select $id, $run, $task, $dimension, $number, unnest($rows::varchar[]), $planned,
               unnest($rates::double[]), now()""",
            {
                "id": content_id(["draw", run_id, dimension, str(number)]),
                "run": run_id,
                "task": spec.task_name,
                "dimension": dimension,
                "number": number,
                "rows": [row_id for row_id, _ in found],
                "rates": [rate for _, rate in found],
                "planned": planned,
            },
        ).fetchall()
        return Drawn(number, tuple(row_id for row_id, _ in found))

    return store.write(work)


def _least(con: Connection, run_id: str, asked: DimensionSpec, planned: int) -> float:
    """The smallest share of a stratum that was drawn or is known, of those with any."""
    sql, parameters = _frame(con, run_id, asked, planned)
    found = con.execute(f"{sql}, {_OPEN} select min(share) from reached where share > 0", parameters).fetchall()
    return float(found[0][0] or 0)


def standing(store: Store, run_id: str, dimension: str) -> Standing:
    """How far the sample of a run is. Raises RunError for an unknown run or dimension."""
    with store.read() as con:
        return _standing(con, run_id, dimension_of(read_spec(con, run_id), dimension))


def sample(store: Store, run_id: str, dimension: str) -> Sample:
    """What the sample of a run says so far.

    Without any draw the rows are one stratum, and the first ones in the order of ids whose truth is known are its
    sample: all of them where all have gold. Raises RunError for an unknown run or dimension.
    """
    with store.read() as con:
        con.execute("begin")
        asked = dimension_of(read_spec(con, run_id), dimension)
        planned = scalar(con, "select count(*) from run_rows where run_id = ?", [run_id])
        sql, parameters = _frame(con, run_id, asked, planned)
        table: pa.Table = con.sql(
            f"""{sql}, ends as (
                select stratum, max(row_id) filter (drawn) as last, bool_or(drawn) as touched
                from frame group by stratum
            ),
            answered as (
                select f.*, a.model_label, a.model_confidence, a.probabilities, a.value,
                    s.row_id is not null as skipped,
                    late or (touched and not drawn and not known
                        and s.row_id is null and f.row_id < last) as missed,
                    f.row_id <= coalesce(last, f.row_id) as within
                from frame f join answers a using (row_id) join ends using (stratum)
                left join (select distinct row_id from standing where action = 'skip') s using (row_id)
                where a.answered
            ),
            ordered as (
                select *, row_number() over (partition by stratum, missed order by row_id) as place from answered
            ),
            holes as (
                select stratum, count(*) as size,
                    coalesce(min(place) filter (not (within and (known or skipped))), max(place) + 1) as hole
                from ordered where not missed group by stratum
            )
            select row_id, model_label, model_confidence, probabilities, coalesce(value, 'nan'::double) as value,
                dense_rank() over (order by stratum) - 1 as stratum,
                case when missed then 0.0 else (hole - 1) / size end as inclusion,
                not missed and place < hole as checked, truth, known,
                coalesce(r.domain, '') as domain
            from ordered left join holes using (stratum) left join rows r on r.id = row_id order by row_id""",
            params=parameters,
        ).to_arrow_table()
        now = _standing(con, run_id, asked)
        reading = read_now(con, run_id, dimension)
    checked = np.flatnonzero(table.column("checked").to_numpy())
    truth, known = table.column("truth").take(checked).to_pylist(), table.column("known").take(checked).to_pylist()
    domain = table.column("domain").combine_chunks().dictionary_encode()
    named = domain.dictionary.to_pylist()
    order = sorted(range(len(named)), key=named.__getitem__)
    place_of = np.argsort(np.array(order, dtype=np.int64))
    flat = table.column("probabilities").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return Sample(
        row_ids=table.column("row_id").to_pylist(),
        confidence=np.asarray(table.column("model_confidence").to_numpy(), dtype=np.float64),
        label=table.column("model_label").to_pylist(),
        probabilities=np.asarray(flat, dtype=np.float64).reshape(table.num_rows, len(asked.labels)),
        value=np.asarray(table.column("value").to_numpy(), dtype=np.float64),
        stratum=np.asarray(table.column("stratum").to_numpy(), dtype=np.int64),
        inclusion=np.asarray(table.column("inclusion").to_numpy(), dtype=np.float64),
        checked=checked.astype(np.int64),
        truth=truth,
        skipped=known.count(False),
        standing=now,
        reading=reading,
        domain=place_of[domain.indices.to_numpy()].astype(np.int64),
        domains=tuple(named[place] for place in order),
    )


def to_check(
    store: Store,
    run_id: str,
    dimension: str,
    *,
    session: str,
    exclude: Sequence[str],
    limit: int,
    domain: str | None,
) -> list[tuple[str, int, str, str]]:
    """(row id, number, text, domain) of drawn rows that wait to be checked, in the order they were drawn.

    Rows skipped in this session are left out, rows skipped in others come last.
    """
    with store.read() as con:
        asked = dimension_of(read_spec(con, run_id), dimension)
        sql, parameters = _waiting(con, run_id, asked)
        return con.execute(
            f"""{sql}, skipped as (
                select row_id, bool_or(session = $session) as here from standing
                where action = 'skip' group by row_id
            )
            select r.id, r.row_no, r.text, coalesce(r.domain, '')
            from waiting w join rows r on r.id = w.row_id left join skipped s on s.row_id = w.row_id
            where not coalesce(s.here, false) and r.id not in (select unnest($exclude::varchar[]))
                and ($domain is null or r.domain = $domain)
            order by s.row_id is not null, w.number, w.inclusion, r.id limit $limit""",
            {**parameters, "session": session, "exclude": list(exclude), "limit": limit, "domain": domain},
        ).fetchall()


def _frame(con: Connection, run_id: str, asked: DimensionSpec, planned: int) -> tuple[str, Parameters]:
    """CTEs with `frame`: the rows of a run with the numbers of the draws whose frame they are in (`frames`), their
    stratum by name, whether they were planned after the last draw (`late`), their truth, whether it is known, and
    whether they were drawn."""
    cte, parameters = current_sql(con, run_id, asked.name, held_out=True)
    true, more = truth_sql(con, asked)
    ends = con.execute(
        "select distinct planned from draws where run_id = ? and dimension = ? order by 1", [run_id, asked.name]
    ).fetchall()
    sql = f"""{cte}, {true}, {_KNOWN},
members as (
    select row_id, list(number order by number) as frames
    from frames where run_id = $run and dimension = $dimension group by row_id
),
frame as (
    select p.row_id, m.frames,
        concat_ws('|', len(list_filter($ends::bigint[], lambda stop: stop <= p.number)), m.frames) as stratum,
        len($ends::bigint[]) > 0 and p.number >= list_max($ends::bigint[]) as late,
        k.label as truth, k.row_id is not null as known, d.row_id is not null as drawn
    from run_rows p left join known_rows k using (row_id) left join members m using (row_id)
    left join (select distinct row_id from draws where run_id = $run and dimension = $dimension) d using (row_id)
    where p.run_id = $run and p.number < $planned
)"""
    return sql, {**parameters, **more, "ends": [end for (end,) in ends], "planned": planned}


# Rows that can be drawn, with the share of their stratum that comes before them in the order (`rate`), and what
# that is for the first ones, the next to be drawn (`share`).
_OPEN = """ranked as (
    select f.*, (row_number() over (partition by stratum order by row_id) - 1)
        / count(*) over (partition by stratum) as rate
    from frame f left join answers a using (row_id) where coalesce(a.answered, true)
),
open as (from ranked where not known and not drawn),
reached as (select stratum, min(rate) as share from open group by stratum)"""

# Rows whose truth is known, null where a person who did not see the suggestion found no label right.
_KNOWN = """known_rows as (
    select coalesce(t.row_id, n.row_id) as row_id, t.label
    from true_labels t full join (
        select distinct row_id from standing where action = 'reject' and blind
    ) n on n.row_id = t.row_id
)"""


def _waiting(con: Connection, run_id: str, asked: DimensionSpec) -> tuple[str, Parameters]:
    judged, parameters = judged_sql(read_spec(con, run_id).task_name, asked.name)
    true, more = truth_sql(con, asked)
    sql = f"""{judged}, {true}, {_KNOWN},
waiting as (
    from draws d where run_id = $run and dimension = $dimension
        and not exists (from known_rows k where k.row_id = d.row_id)
        and not exists (
            select 1 from facts f where f.run_id = $run and f.dimension = $dimension and f.row_id = d.row_id
            group by f.row_id having not bool_or(kind = 'label')
        )
)"""
    return sql, {**parameters, **more, "run": run_id}


def _standing(con: Connection, run_id: str, asked: DimensionSpec) -> Standing:
    ((draws, drawn),) = con.execute(
        "select count(distinct number), count(*) from draws where run_id = ? and dimension = ?",
        [run_id, asked.name],
    ).fetchall()
    if not draws:
        return Standing(0, 0, 0)
    sql, parameters = _waiting(con, run_id, asked)
    skipped = "exists (from standing s where s.row_id = waiting.row_id and action = 'skip')"
    return Standing(
        draws, drawn, scalar(con, f"{sql} select count(*) from waiting where not {skipped}", parameters)
    )
