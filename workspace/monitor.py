"""What a run took: tokens, time and warnings of every call, summed up, and written beside an export.

`NAME.stats.json` is `stats` as JSON. `NAME.monitor.jsonl` has one line for each fact, in the order in which they
came: made_at (seconds since 1970-01-01 UTC), row, dimension, node, model, kind, seconds, prompt_tokens,
completion_tokens, warnings, error.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from workspace.accepted import Told, read_told
from workspace.answers import RULE
from workspace.calibrators import newest
from workspace.errors import ExportError
from workspace.facts import RunSpec
from workspace.promises import WHOLE, Kept, Part
from workspace.runs import list_runs, read_spec
from workspace.store import Connection, Store, sql_string

CACHED = "cached"  # the warning of an answer that was computed before
PERCENTILES = (0.5, 0.9, 0.99)
EXAMPLES = 5


def stats(store: Store, run_id: str) -> dict[str, Any]:
    """The sums of a run, ready for JSON. Raises RunError for an unknown run.

    Times are seconds of computing, each row's share of its batch over all dimensions; rates are rows and tokens
    per such second, None where nothing was computed; latencies are of the rows that were. Cached answers and those
    of rules took no model. `cost` is in the currency of the run's prices, None without prices.
    """
    counted = next((run for run in list_runs(store) if run.id == run_id), None)
    with store.read() as con:
        con.execute("begin")  # one state of the facts for all of this
        spec = read_spec(con, run_id)
        con.execute(
            f"""create temp view calls as
                select *, list_contains(warnings, '{CACHED}') as cached,
                    len(list_filter(warnings, lambda w: starts_with(w, '{RULE}'))) > 0 as ruled
                from facts where run_id = {sql_string(run_id)}"""
        )
        (_, total), *nodes = _work(con)
        latency = con.execute(
            f"""select quantile_cont(seconds, {list(PERCENTILES)}) from (
                    select sum(seconds) as seconds from calls
                    where kind = 'label' and not (cached or ruled) group by row_id, node
                )"""
        ).fetchall()[0][0]
        warnings = con.execute(
            f"""select warning, count(*) from (select unnest(warnings) as warning from calls)
                where not starts_with(warning, '{RULE}') group by warning order by 2 desc, 1"""
        ).fetchall()
        errors = con.execute(
            """select error, count(*) from calls where kind = 'error' group by error order by 2 desc, 1 limit 20"""
        ).fetchall()
        prefilter = _prefilter(con)
        calibration = {asked.name: _calibration(con, spec, asked.name) for asked in spec.dimensions}
    settings = spec.settings
    priced = settings.price_in > 0 or settings.price_out > 0
    cost = total["prompt_tokens"] * settings.price_in + total["completion_tokens"] * settings.price_out
    return {
        "run": run_id,
        "task": spec.task_name,
        "model": spec.model.name,
        "dimensions": [asked.name for asked in spec.dimensions],
        "rows": counted.rows if counted else 0,
        "labeled": counted.labeled_rows if counted else 0,
        "failed": counted.failed_rows if counted else 0,
        "dropped": counted.dropped_rows if counted else 0,
        **total,
        "latency": dict(zip((f"p{round(100 * p)}" for p in PERCENTILES), latency or (None,) * 3, strict=True)),
        "cost": cost / 1e6 if priced else None,
        "nodes": [{"node": node, "model": spec.model.name, **work} for node, work in nodes],
        "warnings": dict(warnings),
        "errors": dict(errors),
        "rules": prefilter,
        "calibration": calibration,
    }


class Totals(msgspec.Struct, frozen=True):
    """What a run has taken so far: tokens, answers out of the cache, and `cost`, None without prices."""

    tokens: int
    cached: int
    cost: float | None


def totals(store: Store, run_id: str) -> Totals:
    """The few sums of `stats` that are quick enough to be shown each second while a run works."""
    with store.read() as con:
        settings = read_spec(con, run_id).settings
        read, written, cached = con.execute(
            f"""select coalesce(sum(prompt_tokens), 0)::bigint, coalesce(sum(completion_tokens), 0)::bigint,
                    count_if(list_contains(warnings, '{CACHED}'))
                from facts where run_id = ?""",
            [run_id],
        ).fetchall()[0]
    priced = settings.price_in > 0 or settings.price_out > 0
    cost = (read * settings.price_in + written * settings.price_out) / 1e6
    return Totals(read + written, cached, cost if priced else None)


def write(store: Store, run_id: str, export_path: Path) -> tuple[Path, Path]:
    """Write both files beside an export, replacing those of one before; returns where they are.

    Raises RunError for an unknown run, ExportError when they cannot be written.
    """
    export_path = export_path.expanduser()
    summary = export_path.with_name(f"{export_path.stem}.stats.json")
    lines = export_path.with_name(f"{export_path.stem}.monitor.jsonl")
    halves = [path.with_name(f".{path.name}.{secrets.token_hex(4)}.part") for path in (summary, lines)]
    try:
        halves[0].write_bytes(msgspec.json.format(msgspec.json.encode(stats(store, run_id)), indent=2))
        with store.read() as con:
            _write_lines(con, read_spec(con, run_id), halves[1])
        for half, path in zip(halves, (summary, lines), strict=True):
            os.replace(half, path)
    except (duckdb.Error, OSError) as error:
        raise ExportError(
            f"{summary.name} and {lines.name} could not be written.",
            "Check the space and permissions there. Files that were there before are unchanged.",
            str(error),
        ) from error
    finally:
        for half in halves:
            half.unlink(missing_ok=True)
    return summary, lines


def _write_lines(con: Connection, spec: RunSpec, path: Path) -> None:
    # Facts lie in the order in which they came, and DuckDB writes as it reads: no sorting, memory stays flat.
    con.execute(
        f"""copy (
                select epoch_us(made_at) / 1e6 as made_at, row_id as row, dimension, node,
                    {sql_string(spec.model.name)} as model, kind, seconds, prompt_tokens, completion_tokens,
                    warnings, error
                from facts where run_id = {sql_string(spec.run_id)}
            ) to {sql_string(str(path))} (format json)"""
    ).fetchall()


def _work(con: Connection) -> list[tuple[str, dict[str, Any]]]:
    """All work, under "", and then that of each node, by name."""
    found = con.execute(
        """select coalesce(node, ''), count(*), count(distinct row_id), coalesce(count_if(cached), 0),
               coalesce(count_if(ruled), 0), coalesce(count_if(kind = 'error'), 0),
               coalesce(sum(prompt_tokens), 0)::bigint, coalesce(sum(completion_tokens), 0)::bigint,
               coalesce(sum(seconds), 0.0), count(distinct row_id) filter (not (cached or ruled))
           from calls group by grouping sets ((), (node)) order by grouping(node) desc, node"""
    ).fetchall()
    names = ("answers", "answered_rows", "cached", "by_rules", "errors_in_answers", "prompt_tokens")
    result = []
    for node, *head, replies, seconds, computed in found:
        work: dict[str, Any] = dict(zip(names, head, strict=True))
        work |= {"completion_tokens": replies, "seconds": seconds}
        work["rows_per_s"] = computed / seconds if seconds > 0 else None
        work["tokens_per_s"] = (work["prompt_tokens"] + replies) / seconds if seconds > 0 else None
        result.append((str(node), work))
    return result


def _calibration(con: Connection, spec: RunSpec, dimension: str) -> dict[str, Any]:
    """The calibrator labels are read with, and what a person accepted; None for none."""
    calibrator = newest(con, spec.run_id, dimension)
    if calibrator is not None and not calibrator.corrects:
        calibrator = None
    told = read_told(con, spec, dimension)
    return {
        "calibrator": None
        if calibrator is None
        else {
            "id": calibrator.id,
            "method": calibrator.method,
            "fitted_at": calibrator.fitted_at.isoformat(),
            **calibrator.evidence,
        },
        "promise": next((_promise(one) for one in told if one.kept.label == WHOLE), None),
        "promises_of_labels": {one.kept.label: _promise(one) for one in told if one.kept.label != WHOLE},
    }


def _promise(told: Told) -> dict[str, Any]:
    """A promise in numbers: as a whole, and of each domain where each has one of its own."""
    kept = told.kept
    parts = {part.domain or "": _part(part) for part in kept.parts}
    return {
        "sentence": kept.sentence,
        "column": told.column,
        "epsilon": kept.epsilon,
        "delta": kept.delta,
        "tolerance": kept.tolerance,
        **({**_sums(kept), "domains": parts} if kept.by_domain else parts[""]),
        "accepted_at": kept.kept_at.isoformat(),
    }


def _sums(kept: Kept) -> dict[str, Any]:
    return {"rows": kept.rows, "checked": kept.checked, "wrong": kept.wrong, "bound": kept.bound}


def _part(part: Part) -> dict[str, Any]:
    fields = msgspec.structs.asdict(part)
    del fields["domain"]
    return fields


def _prefilter(con: Connection) -> list[dict[str, Any]]:
    """What each rule caught: whether it left the rows out, how many, and some of them."""
    found = con.execute(
        f"""select rule, bool_or(kind = 'drop'), count(distinct row_id), list(distinct row_id)[:{EXAMPLES}]
            from (
                select row_id, kind, unnest(warnings) as warning, warning[{len(RULE) + 1}:] as rule
                from calls where ruled
            ) where starts_with(warning, '{RULE}') group by rule order by 3 desc, 1"""
    ).fetchall()
    texts: dict[str, str] = dict(
        con.execute(
            "select id, text[:200] from rows where id in (select unnest($1::varchar[]))",
            [[row_id for *_, examples in found for row_id in examples]],
        ).fetchall()
    )
    return [
        {
            "rule": rule,
            "dropped": dropped,
            "rows": rows,
            "examples": [{"row": row_id, "text": texts.get(row_id, "")} for row_id in sorted(examples)],
        }
        for rule, dropped, rows, examples in found
    ]
