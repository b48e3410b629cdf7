"""What reviewers decide: events, written once, undone by further events; and the queue of what to decide next."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from workspace import draws, reviewers, rules
from workspace.clocks import Clocks
from workspace.current import current_sql, dimension_of, judged_sql
from workspace.errors import WinnowError
from workspace.facts import DimensionSpec
from workspace.links import read_links
from workspace.rows import scalar
from workspace.runs import read_spec
from workspace.store import Connection, Store, moment
from workspace.task import join_labels, split_labels

ACTIONS = ("approve", "reject", "modify", "skip", "undo")
Action = Literal["approve", "reject", "modify", "skip", "undo"]
Order = Literal["uncertain", "random", "confident", "file", "flagged", "sample", "second", "chosen"]

_ORDERS: dict[Order, str] = {
    "uncertain": "model_confidence, row_id",
    "confident": "model_confidence desc, row_id",
    # An id is a SHA-256 of the text: this order has nothing to do with what the model thinks of a row.
    "random": "row_id",
    "file": "row_no",
    "flagged": "model_confidence, row_id",  # only rows that break a rule of the task
    "sample": "row_id",
    "second": "row_id",  # only rows that another person has decided blind
    "chosen": "row_no",  # here the place among the chosen ones
}


class DecisionEvent(msgspec.Struct, frozen=True):
    """One key press of a reviewer. `seq` counts from 0 without gaps within the session of a browser tab.

    `label` is empty for reject, skip and undo; an approve without a label approves `shown["suggestion"]`.
    `seconds` is the time spent looking; `shown` what was on screen (suggestion, confidence, probabilities);
    `blind` says that the suggestion was hidden. An undo names the event it takes back: `undoes`, of this session
    or of `undoes_session`. `decided_at` is seconds since 1970-01-01 UTC, 0 for now.
    """

    seq: int
    row_id: str
    action: Action
    label: str = ""
    seconds: float = 0.0
    comment: str = ""
    blind: bool = False
    shown: dict[str, Any] = {}
    undoes: int | None = None
    undoes_session: str | None = None
    decided_at: float = 0.0


class QueueItem(msgspec.Struct, frozen=True):
    """A row to decide on; `broken` are the messages of the rules it breaks, in the queue of flagged rows.

    In a blind queue suggestion and confidence are None and all that tells what the model said is empty.
    """

    row_id: str
    row_no: int
    text: str
    domain: str
    suggestion: str | None
    confidence: float | None
    probabilities: tuple[float, ...]
    value: float | None = None
    spread: float | None = None
    labeler: str = ""
    explanation: str = ""
    broken: tuple[str, ...] = ()


class HistoryItem(msgspec.Struct, frozen=True):
    """A past decision; `undone` when an undo took it back. (`session`, `seq`) is what an undo has to name."""

    session: str
    seq: int
    row_id: str
    row_no: int
    text: str
    action: Action
    label: str
    reviewer: str
    comment: str
    seconds: float
    blind: bool
    undone: bool
    suggestion: str | None
    confidence: float | None
    decided_at: datetime


class Counts(msgspec.Struct, frozen=True):
    """Rows of a run by what people decided. Every answered row is waiting, skipped or decided.

    decided = approved + modified + rejected; `blind` of them were decided with the suggestion hidden.
    `median_seconds` is the time a decision takes, over all standing decisions of the task; None before the first.
    """

    waiting: int
    approved: int
    modified: int
    rejected: int
    skipped: int
    decided: int
    blind: int
    median_seconds: float | None

    @property
    def answered(self) -> int:
        """Rows with an answer of a model, or decided without one."""
        return self.waiting + self.skipped + self.decided


def record(
    store: Store, *, session: str, run_id: str, dimension: str, reviewer: str, events: Sequence[DecisionEvent]
) -> int:
    """Keep events, each (session, seq) once; returns the largest seq up to which the session is complete, or -1.

    Events may come again, out of order and from several requests at once. Those after a gap are kept but not
    acknowledged until the gap is filled. Raises WinnowError, keeping none of them, when an event makes no sense.
    """
    name = reviewers.known_as(reviewer)
    if name.casefold() in ("model", "human"):
        raise WinnowError("A reviewer cannot be called 'model' or 'human'.", "Choose another name.")
    if not session:
        raise WinnowError("A decision needs a session.", "Reload the page and decide again.")

    def work(con: Connection) -> int:
        spec = read_spec(con, run_id)
        asked = dimension_of(spec, dimension)
        saved = con.execute("select seq, epoch_us(decided_at) from decisions where session = ?", [session])
        known: dict[int, int] = dict(saved.fetchall())
        now = time.time()
        latest = max(known.values(), default=0) / 1e6
        clocks = Clocks(con, session, spec.task_name, dimension, [event.row_id for event in events])
        for event in sorted(events, key=lambda event: event.seq):
            label = _checked_label(event, asked)
            if event.seq in known:
                continue
            # A browser's clock may be ahead or step back; decisions of one session keep their order.
            latest = max(min(event.decided_at or now, now), latest)
            known[event.seq] = 0
            con.execute(
                "insert into decisions values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, now(), ?)",
                [
                    session,
                    event.seq,
                    run_id,
                    spec.task_name,
                    event.row_id,
                    dimension,
                    event.action,
                    label,
                    name,
                    event.seconds,
                    event.comment,
                    event.blind,
                    json.dumps(event.shown, sort_keys=True),
                    event.undoes,
                    event.undoes_session,
                    datetime.fromtimestamp(latest, UTC),
                    clocks.of(event, round(latest * 1e6)),
                ],
            ).fetchall()
        acknowledged = -1
        while acknowledged + 1 in known:
            acknowledged += 1
        return acknowledged

    return store.write(work)


def _checked_label(event: DecisionEvent, asked: DimensionSpec) -> str:
    """The label to keep for an event. Raises WinnowError for an event that makes no sense."""
    if event.action not in ACTIONS or event.seq < 0:
        raise WinnowError(f"'{event.action}' number {event.seq} is not a decision.", "Reload the page.")
    if event.action == "undo":
        if event.undoes is None:
            raise WinnowError("An undo has to say which decision it takes back.", "Reload the page.")
        return ""
    if event.action in ("reject", "skip"):
        return ""
    label = event.label or str(event.shown.get("suggestion") or "")
    if asked.kind == "multi":
        chosen = split_labels(label)
        unknown = [name for name in chosen if name not in asked.labels]
        label = join_labels(chosen, asked.labels)
    else:
        unknown = [] if label in asked.labels else [label]
    if unknown:
        raise WinnowError(
            f"'{unknown[0]}' is not one of the labels {', '.join(asked.labels)}.", "Reload the page."
        )
    return label


def queue(
    store: Store,
    run_id: str,
    dimension: str,
    *,
    session: str,
    exclude: Sequence[str] = (),
    limit: int = 50,
    order: Order = "uncertain",
    domain: str | None = None,
    blind: bool = False,
    among: Sequence[str] = (),
    reviewer: str = "",
) -> list[QueueItem]:
    """The next rows to decide: answered by the model, not judged by anybody, not in `exclude`.

    Least confident first by default, by corrected and calibrated confidence; "random" is a sample that may be
    used for calibration, "flagged" those that break a rule, least confident first. Rows skipped in this session
    are left out, rows skipped in others come last. "sample" are rows that were drawn to be checked and wait, as
    `workspace.draws` says, always blind. "second" are rows others have decided blind and `reviewer` has not
    judged, in an order that has nothing to do with what anybody said. "chosen" are the rows of `among` in their
    order, judged before or not, until this session has judged them.
    """
    if order == "sample":
        drawn = draws.to_check(
            store, run_id, dimension, session=session, exclude=exclude, limit=limit, domain=domain
        )
        return [QueueItem(*row, None, None, ()) for row in drawn]
    with store.read() as con:
        con.execute("begin")
        outcome = rules.prepare(con, run_id) if order == "flagged" else None
        if order == "flagged" and outcome is None:
            return []
        messages = [rule.message for rule in outcome.task.rules] if outcome else []
        cte, parameters = current_sql(con, run_id, dimension)
        needs_rows = domain is not None or order == "file"
        number = "r.row_no" if needs_rows else "0"
        open_rows = "anti join judged j on j.row_id = a.row_id"
        if order == "chosen":
            number = "list_position($among::varchar[], a.row_id)"
            open_rows = """anti join (from standing where session = $session) j on j.row_id = a.row_id
                semi join (select unnest($among::varchar[]) as row_id) c on c.row_id = a.row_id"""
        if order == "second":
            open_rows = f"semi join ({reviewers.UNSEEN}) c on c.row_id = a.row_id"
        found = con.execute(
            f"""{cte}, skipped as (
                select row_id, bool_or(session = $session) as here
                from standing where action = 'skip' group by row_id
            ), waiting as (
                select a.row_id, a.model_label, a.model_confidence, a.probabilities,
                       a.value, a.spread, a.labeler, a.explanation, {"o.broken" if outcome else "[]"} as broken,
                       {number} as row_no, s.row_id is not null as later
                from answers a {open_rows}
                left join skipped s on s.row_id = a.row_id
                {"join rows r on r.id = a.row_id" if needs_rows else ""}
                {"join outcome o on o.row_id = a.row_id and len(o.broken) > 0" if outcome else ""}
                where a.answered and not coalesce(s.here, false)
                  and a.row_id not in (select unnest($exclude::varchar[]))
                  {"and r.domain = $domain" if domain is not None else ""}
                order by later, {_ORDERS[order]} limit $limit
            ), chosen as (select *, row_number() over (order by later, {_ORDERS[order]}) as place from waiting)
            select c.row_id, r.row_no, r.text, coalesce(r.domain, ''),
                   c.model_label, c.model_confidence, c.probabilities, c.value, c.spread, c.labeler, c.explanation,
                   c.broken
            from chosen c join rows r on r.id = c.row_id order by place""",
            {
                **parameters,
                "session": session,
                "exclude": list(exclude),
                "limit": limit,
                **({"domain": domain} if domain is not None else {}),
                **({"among": list(among)} if order == "chosen" else {}),
                **({"reviewer": reviewers.known_as(reviewer)} if order == "second" else {}),
            },
        ).fetchall()
    if blind:
        return [
            QueueItem(row_id, row_no, text, where, None, None, ()) for row_id, row_no, text, where, *_ in found
        ]
    names = QueueItem.__struct_fields__
    return [
        msgspec.convert(
            dict(zip(names, (*row, [messages[rule] for rule in broken]), strict=True)),
            QueueItem,  # lists become tuples
        )
        for *row, broken in found
    ]


def history(
    store: Store, run_id: str, dimension: str, *, reviewer: str | None = None, limit: int = 50
) -> list[HistoryItem]:
    """Past decisions on this dimension of the run's task, newest first, undone ones too."""
    with store.read() as con:
        cte, parameters = judged_sql(read_spec(con, run_id).task_name, dimension)
        found = con.execute(
            f"""{cte}, chosen as (
                select d.*, u.seq is not null as undone
                from decisions d left join (select distinct session, seq from undone) u
                    on u.session = d.session and u.seq = d.seq
                where d.task_name = $task and d.dimension = $dimension and d.action <> 'undo'
                  and ($reviewer is null or d.reviewer = $reviewer)
                order by d.decided_at desc, d.session desc, d.seq desc limit $limit
            )
            select c.shown, epoch_us(c.decided_at), c.session, c.seq, c.row_id, coalesce(r.row_no, -1),
                   coalesce(r.text, ''), c.action, c.label, c.reviewer, c.comment, c.seconds, c.blind, c.undone
            from chosen c left join rows r on r.id = c.row_id
            order by c.decided_at desc, c.session desc, c.seq desc""",
            {**parameters, "reviewer": reviewer, "limit": limit},
        ).fetchall()
    return [_history_item(*row) for row in found]


def _history_item(shown: str, decided_us: int, *values: Any) -> HistoryItem:
    seen = json.loads(shown)
    last = (seen.get("suggestion"), seen.get("confidence"), moment(decided_us))
    fields: dict[str, Any] = dict(zip(HistoryItem.__struct_fields__, (*values, *last), strict=True))
    return HistoryItem(**fields)


def counts(store: Store, run_id: str, dimension: str) -> Counts:
    """How far people are with a run's dimension. Raises RunError for an unknown run or dimension."""
    with store.read() as con:
        spec = read_spec(con, run_id)
        dimension_of(spec, dimension)
        if read_links(con, run_id):  # other models may have answered where this one failed
            cte, parameters = current_sql(con, run_id, dimension)
            answered = "select row_id from answers where answered"
        else:
            cte, parameters = judged_sql(spec.task_name, dimension)
            answered = "select distinct row_id from facts where run_id = $run and dimension = $dimension"
            answered += " and kind = 'label'"
        cte += f""", answered as ({answered}), skipped as (
            select distinct row_id from standing where action = 'skip'
        ), state as (
            select j.action, j.blind, s.row_id is not null as skipped, a.row_id is not null as answered
            from answered a full join (
                from judged semi join (from run_rows where run_id = $run) p using (row_id)
            ) j on j.row_id = a.row_id
            left join skipped s on s.row_id = a.row_id
        )"""
        row = con.execute(
            f"""{cte} select
                count_if(action is null and not skipped), count_if(action = 'approve'),
                count_if(action = 'modify'), count_if(action = 'reject'),
                count_if(action is null and skipped), count(action), count_if(action is not null and blind),
                (select median(seconds) from standing where seconds > 0)
            from state""",
            {**parameters, "run": run_id},
        ).fetchall()[0]
    return Counts(*row)


def decided_rows(store: Store) -> int:
    """Rows somebody decided on, in any task and dimension."""
    with store.read() as con:
        return scalar(
            con,
            """select count(distinct row_id) from decisions d where action in ('approve', 'modify', 'reject')
               and not exists (from decisions u where u.action = 'undo' and u.undoes = d.seq
                               and coalesce(u.undoes_session, u.session) = d.session)""",
        )
