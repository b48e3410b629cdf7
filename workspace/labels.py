"""Current labels of a run: shares, pages, what each labeler said of a row, and what is known to be true."""

from __future__ import annotations

from typing import Literal

import msgspec

from workspace.answers import RULE, answers_sql, dimension_of, shape_of
from workspace.current import current_sql, judged_sql
from workspace.errors import RunError
from workspace.facts import RunSpec
from workspace.links import Kind as LinkKind
from workspace.links import Link, read_links
from workspace.runs import read_spec
from workspace.store import Connection, Store
from workspace.task import NO_LABELS, SEPARATOR
from workspace.truth import Evidence, Source, evidence

__all__ = ["CurrentLabel", "Evidence", "Said", "Source", "answers", "below", "evidence", "page", "shares"]


class CurrentLabel(msgspec.Struct, frozen=True):
    """What a row is labeled now.

    `label` and `confidence` are None when a person rejected the suggestion, the model failed (`error`) or a rule
    of the prefilter left the row out (`dropped` is its name). `decided_by` is 'model' or the reviewer's name; a
    person's label has confidence 1. `probabilities` are the model's, corrected and calibrated, in the order of the
    dimension's labels; empty when it gave none. `value` and `spread` are those of a score, None for other kinds.
    `labeler` names the models whose answer counts, or the rule ("rule:NAME"); empty when nothing answered.
    """

    row_id: str
    row_no: int
    text: str
    domain: str
    label: str | None
    confidence: float | None
    probabilities: tuple[float, ...]
    decided_by: str
    gold: str | None
    warnings: tuple[str, ...]
    error: str
    value: float | None = None
    spread: float | None = None
    labeler: str = ""
    explanation: str = ""
    dropped: str = ""


class Said(msgspec.Struct, frozen=True):
    """What one labeler says of a row, with its own bias and calibrator; a person's decision too.

    `labeler` is 'model', 'rule' or 'human'; `model`, `node` and `kind` (how its run is linked, '' for the run
    itself) are those of a model, `reviewer` that of a person. `counts`: it is what the row is labeled by, or a
    part of it. `label` is None when the model failed (`error`, and its `reply` where that could not be read), when
    a rule left the row out and when a person rejected.
    """

    labeler: Literal["model", "rule", "human"]
    label: str | None
    confidence: float | None
    counts: bool
    run_id: str = ""
    kind: LinkKind | Literal[""] = ""
    model: str = ""
    node: str = ""
    reviewer: str = ""
    probabilities: tuple[float, ...] = ()
    value: float | None = None
    spread: float | None = None
    explanation: str = ""
    warnings: tuple[str, ...] = ()
    error: str = ""
    reply: str = ""
    comment: str = ""


def shares(store: Store, run_id: str, dimension: str) -> list[tuple[str, int]]:
    """Rows by current label, every label of the dimension in task order, those without rows too.

    multi: rows that have the label, so that a row may count several times, and at last "(none)". score: rows by
    the figure next to their value. See `workspace.kinds.by_level` for hierarchical labels.
    """
    with store.read() as con:
        cte, parameters = current_sql(con, run_id, dimension)
        asked = dimension_of(read_spec(con, run_id), dimension)
        found = con.execute(
            f"{cte} select label, count(*) from current_labels where label is not null group by label", parameters
        ).fetchall()
    numbers = dict.fromkeys(asked.labels, 0) | ({NO_LABELS: 0} if asked.kind == "multi" else {})
    for written, number in found:
        for label in written.split(SEPARATOR) if asked.kind == "multi" else (written,):
            if label in numbers:
                numbers[label] += number
    return list(numbers.items())


def page(
    store: Store,
    run_id: str,
    dimension: str,
    *,
    after: int = -1,
    limit: int = 50,
    label: str | None = None,
    decided_by: str | None = None,
    low: float = 0.0,
    high: float = 1.0,
) -> list[CurrentLabel]:
    """Up to `limit` rows with `row_no` above `after`, in loading order.

    `label`: only rows with this label (of a multi dimension, among others). `decided_by` is 'model', 'human'
    (anybody) or one reviewer. `low` and `high` bound the confidence, both included; no confidence counts as 0.
    Raises RunError for an unknown run or dimension.
    """
    with store.read() as con:
        cte, parameters = current_sql(con, run_id, dimension)
        several = shape_of(dimension_of(read_spec(con, run_id), dimension)) == "multi"
        has = f"list_contains(string_split(c.label, '{SEPARATOR}'), $label)" if several else "c.label = $label"
        found = con.execute(
            f"""{cte}, chosen as (
                select r.row_no, r.text, r.domain, c.* from current_labels c join rows r on r.id = c.row_id
                where r.row_no > $after
                  and ($label is null or {has})
                  and ($by is null or c.decided_by = $by or ($by = 'human' and c.human))
                  and coalesce(c.confidence, 0.0) between $low and $high
                order by r.row_no limit $limit
            )
            select c.row_id, c.row_no, c.text, coalesce(c.domain, ''), c.label, c.confidence,
                   coalesce(c.probabilities, []), c.decided_by, g.label, c.warnings, c.error,
                   c.value, c.spread, c.labeler, c.explanation, c.dropped
            from chosen c left join (
                select row_id, arg_max(label, rowid) as label from gold
                where dimension = $dimension group by row_id
            ) g on g.row_id = c.row_id
            order by c.row_no""",
            {
                **parameters,
                "after": after,
                "limit": limit,
                "label": label,
                "by": decided_by,
                "low": low,
                "high": high,
            },
        ).fetchall()
    names = CurrentLabel.__struct_fields__
    return [
        msgspec.convert(dict(zip(names, row, strict=True)), CurrentLabel)  # lists become tuples
        for row in found
    ]


def below(store: Store, run_id: str, dimension: str | None, confidence: float) -> list[str]:
    """Ids of the rows that should be looked at once more, in ascending order: nobody decided them, and their
    confidence is below this, or the model failed, in that dimension or, for None, in any. Rows a rule left out are
    none of them. Raises RunError for an unknown run or dimension.
    """
    with store.read() as con:
        names = [dimension] if dimension else [asked.name for asked in read_spec(con, run_id).dimensions]
        found: set[str] = set()
        for name in names:
            cte, parameters = current_sql(con, run_id, name)
            rows = con.execute(
                f"""{cte} select row_id from current_labels
                    where not human and dropped = '' and coalesce(confidence, 0.0) < $below""",
                {**parameters, "below": confidence},
            ).fetchall()
            found.update(row_id for (row_id,) in rows)
    return sorted(found)


def answers(store: Store, run_id: str, dimension: str, row_id: str) -> list[Said]:
    """What every labeler says of a row: the run's own model first, then linked runs, newest first, then people.

    Raises RunError for an unknown run or dimension.
    """
    with store.read() as con:
        spec = read_spec(con, run_id)
        dimension_of(spec, dimension)
        links = read_links(con, run_id)
        heard: list[tuple[RunSpec, Link | None]] = [(spec, None)]
        for link in links:
            try:
                other = read_spec(con, link.other_id)
                dimension_of(other, dimension)
            except RunError:
                continue
            heard.append((other, link))
        said = [(link, _said(con, other, dimension, row_id, link)) for other, link in heard]
        people = _people(con, spec.task_name, dimension, row_id)
    models = [one for _, one in said if one is not None]
    judge = next((one for one in models if one.kind == "arbitrate" and one.label is not None), None)
    decided = any(one.counts for one in people)
    dropped = any(one.kind == "" and one.labeler == "rule" for one in models)

    def counts(one: Said) -> bool:
        if decided or one.label is None:
            return False
        if judge is not None:
            return one is judge
        return one.kind == "" or (one.kind == "vote" and not dropped)

    return [msgspec.structs.replace(one, counts=counts(one)) for one in models] + people


def _said(con: Connection, spec: RunSpec, dimension: str, row_id: str, link: Link | None) -> Said | None:
    cte, parameters = answers_sql(con, spec, dimension, [])
    found = con.execute(
        f"""with {cte}, here as (
            select node, reply from facts where run_id = $run and dimension = $dimension and row_id = $row
            order by case kind when 'label' then 0 when 'drop' then 1 else 2 end, author, seq limit 1
        )
        select a.model_label, a.model_confidence, coalesce(a.probabilities, []), a.value, a.spread, a.explanation,
            a.warnings, coalesce(a.error, ''), a.labeler, a.dropped, h.node, coalesce(h.reply, '')
        from answers a, here h where a.row_id = $row""",
        {**parameters, "row": row_id},
    ).fetchall()
    if not found:
        return None
    label, confidence, shown, value, spread, why, warnings, error, labeler, dropped, node, reply = found[0]
    by_rule = bool(dropped) or str(labeler).startswith(RULE)
    return Said(
        labeler="rule" if by_rule else "model",
        label=label,
        confidence=confidence,
        counts=False,
        run_id=spec.run_id,
        kind=link.kind if link else "",
        model=spec.model.name,
        node=node,
        probabilities=tuple(shown),
        value=value,
        spread=spread,
        explanation=why,
        warnings=tuple(warnings),
        error=error,
        reply=reply,
    )


def _people(con: Connection, task_name: str, dimension: str, row_id: str) -> list[Said]:
    """Standing decisions on a row, the one that counts first."""
    cte, parameters = judged_sql(task_name, dimension)
    found = con.execute(
        f"""{cte} select action, label, reviewer, comment from standing
            where row_id = $row and action in ('approve', 'modify', 'reject')
            order by clock desc, session desc, seq desc""",
        {**parameters, "row": row_id},
    ).fetchall()
    return [
        Said(
            labeler="human",
            label=None if action == "reject" else label,
            confidence=None if action == "reject" else 1.0,
            counts=place == 0,
            reviewer=reviewer,
            comment=comment,
        )
        for place, (action, label, reviewer, comment) in enumerate(found)
    ]
