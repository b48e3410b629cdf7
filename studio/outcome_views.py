"""What came out of a run besides labels: broken rules, tiers, what the prefilter caught, what it took."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from studio import ui
from studio.runtime import Studio
from studio.words import duration, number, plural, short
from workspace import monitor, rows, rules

EXAMPLES = 3


def draw(studio: Studio, run_id: str) -> None:
    """Everything there is to say about this run; what it does not have is left out."""
    with ui.guarded():
        _rules(studio, run_id)
        _tiers(studio, run_id)
    _monitor(studio, run_id)


def _rules(studio: Studio, run_id: str) -> None:
    found = rules.broken(studio.store, run_id)
    if not found:
        return
    st.markdown("**Rules between dimensions**")
    for broken in found:
        if broken.problem:
            said = f"{broken.message.rstrip('.')}: cannot be checked. {broken.problem}"
            st.markdown(f":orange[:material/help:] {said}")
            continue
        if not broken.rows:
            st.markdown(f":green[:material/check_circle:] {broken.message.rstrip('.')}: kept by all rows")
            continue
        with st.expander(f"{broken.message.rstrip('.')}: {plural(broken.rows, 'row')}", icon=":material/flag:"):
            st.code(broken.expression, language="sql")
            _examples(studio, broken.examples)
    if any(broken.rows for broken in found):
        ui.go_to("review", "Review the rows that break a rule", query={"run": run_id, "order": "flagged"})


def _tiers(studio: Studio, run_id: str) -> None:
    found = rules.tiers(studio.store, run_id)
    if found:
        st.markdown("**Tiers**")
        ui.share_bars([(tier or "no tier", count) for tier, count in found], key="tier_bars")


def _examples(studio: Studio, row_ids: Sequence[str]) -> None:
    found = rows.get(studio.store, row_ids[:EXAMPLES])
    for row_id in row_ids[:EXAMPLES]:
        st.caption(short(found[row_id].text, 300))


def _monitor(studio: Studio, run_id: str) -> None:
    stats = monitor.stats(studio.store, run_id)
    for rule in stats["rules"]:
        what = "left out" if rule["dropped"] else "labeled"
        with st.expander(
            f"Prefilter {rule['rule']}: {plural(rule['rows'], 'row')} {what}", icon=":material/filter_alt:"
        ):
            for example in rule["examples"][:EXAMPLES]:
                st.caption(example["text"])
    st.markdown("**What it took**")
    took = [
        ("Tokens read", number(stats["prompt_tokens"])),
        ("Tokens written", number(stats["completion_tokens"])),
        ("Computing time, all machines", duration(stats["seconds"])),
        ("Answers from the cache", number(stats["cached"])),
    ]
    if stats["cost"] is not None:
        took.append(("Cost", f"{stats['cost']:.2f}"))
    took += [(f"Warning: {code.replace('_', ' ')}", number(count)) for code, count in stats["warnings"].items()]
    ui.table([{"What": what, "How much": much} for what, much in took], key="stats_table", alt_text="What it took")
    if len(stats["nodes"]) > 1:
        ui.table(
            [
                {
                    "Machine": node["node"],
                    "Rows": node["answered_rows"],
                    "Rows/s": round(node["rows_per_s"] or 0.0, 1),
                    "Tokens/s": round(node["tokens_per_s"] or 0.0),
                }
                for node in stats["nodes"]
            ],
            key="stats_nodes",
            alt_text="What each machine did",
        )
