"""What a task does beside asking: how texts are prepared, rows that need no model, rules between the answers, and
one score made of several. Each part is an expander that says how much is in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from studio.form_tables import figure, joined, parted, table
from studio.words import plural

STEPS = {
    "whitespace": "Runs of spaces and empty lines become one",
    "lowercase": "Everything in lower case",
    "contractions": "Contractions are written out: don't, do not",
    "slang": "Slang and abbreviations are written out: imo, in my opinion",
    "emoji": "Emoji become their names",
    "entities": "Names of people, places and things are pointed out after the text",
    "conversation": "Conversations are recognised and shown turn by turn",
}
KEYWORDS = ","  # between keywords in one cell
MOST_COLUMNS = 4  # dimensions whose labels fit beside a prefilter rule


def text_steps(base: dict[str, Any], key: str) -> dict[str, Any]:
    """What is done to a text before a model reads it."""
    on = sum(1 for step in STEPS if base.get(step)) + bool(base.get("expansions")) + bool(base.get("max_tokens"))
    with st.expander(_titled("Text before a model reads it", on, "step"), key=f"{key}_steps"):
        st.caption("The rows themselves never change. See what each step does on the Data page.")
        data: dict[str, Any] = {
            step: st.toggle(says, base.get(step, False), key=f"{key}_{step}") for step, says in STEPS.items()
        }
        tokens = st.number_input(
            "Longest text, in tokens",
            min_value=0,
            max_value=1_000_000,
            value=base.get("max_tokens", 0),
            step=100,
            key=f"{key}_max_tokens",
            help="Longer ones are shortened: beginning, end and the most telling sentences stay. 0: never.",
        )
        data["max_tokens"] = int(tokens)
        st.markdown("Abbreviations of your own")
        own = [{"short": short, "means": means} for short, means in base.get("expansions", {}).items()]
        columns = {
            "short": st.column_config.TextColumn("Short", width="small"),
            "means": st.column_config.TextColumn("What it stands for", width="large"),
        }
        pairs = table(own, columns, key=f"{key}_expansions", alt="Abbreviations and what they stand for")
        data["expansions"] = {pair["short"]: pair.get("means", "") for pair in pairs if "short" in pair}
    return {name: value for name, value in data.items() if value}


def prefilter(base: list[dict[str, Any]], key: str, dimensions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that need no model: a rule drops them or gives them their labels."""
    with st.expander(_titled("Rows that need no model", len(base), "rule"), key=f"{key}_prefilter_part"):
        st.caption(
            "The first rule that fits a row leaves it out or labels it. Keywords are whole words, in any case."
        )
        columns: dict[str, Any] = {
            "name": st.column_config.TextColumn("Rule", width="small", help="Lower case, digits and underscores"),
            "keywords": st.column_config.TextColumn("Keywords", width=130, help="With commas between them"),
            "pattern": st.column_config.TextColumn(
                "or a pattern", width=180, help="A regular expression instead of keywords"
            ),
            "drop": st.column_config.CheckboxColumn("Leave out", width=90),
        }
        beside = len(dimensions) <= MOST_COLUMNS
        if beside:
            columns |= {f"label of {each['name']}": _label_column(each) for each in dimensions}
        elif any(rule.get("labels") for rule in base):
            st.caption("Labels that rules give to this many dimensions are written in the text view.")
        words = [rule.get("keywords", []) for rule in base]
        cells = [
            {**rule, "keywords": joined(keywords, KEYWORDS)}
            | {f"label of {name}": label for name, label in rule.get("labels", {}).items()}
            for rule, keywords in zip(base, words, strict=True)
        ]
        given = {rule.get("name"): rule.get("labels", {}) for rule in base}
        rules = table(cells, columns, key=f"{key}_prefilter", alt="Rules of the prefilter")
    return [_rule(rule, words, {} if beside else given.get(rule.get("name"), {})) for rule in rules]


def _rule(cells: dict[str, Any], words: Sequence[Sequence[str]], labels: dict[str, str]) -> dict[str, Any]:
    opening = "label of "
    rule = {name: value for name, value in cells.items() if not name.startswith(opening)}
    if "keywords" in rule:
        rule["keywords"] = parted(rule["keywords"], KEYWORDS, words)
    labels = labels | {name[len(opening) :]: label for name, label in cells.items() if name.startswith(opening)}
    return {"name": "", **rule, **({"labels": labels} if labels else {})}


def _label_column(dimension: dict[str, Any]) -> Any:
    title = f"Label of {dimension['name']}"
    if dimension["kind"] == "multi":
        return st.column_config.TextColumn(title, help="Several with | between them, (none) for none of them")
    names = [str(label["name"]) for label in dimension.get("labels", [])]
    if dimension["kind"] == "score":
        names = [str(figure) for figure in range(dimension["minimum"], dimension["maximum"] + 1)]
    return st.column_config.SelectboxColumn(title, options=names or ["yes", "no"])


def between(base: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """Rules that the answers to a row should satisfy together."""
    with st.expander(_titled("Rules between the answers", len(base), "rule"), key=f"{key}_rules_part"):
        st.caption(
            "Conditions over dimensions that every row should satisfy, for example "
            "`sentiment <> 'angry' or urgency >= 3`. Rows that break one are flagged for review."
        )
        columns = {
            "expression": st.column_config.TextColumn("Condition", width=270),
            "message": st.column_config.TextColumn("What to say where it is broken", width="medium"),
        }
        rules = table(base, columns, key=f"{key}_rules", alt="Rules between the answers")
    return [{"expression": "", "message": "", **rule} for rule in rules]


def overall(base: dict[str, Any], key: str, scores: Sequence[str]) -> dict[str, Any]:
    """Weights, gates and tiers of a task with scores; as they were where there is none."""
    had = {name: base[name] for name in ("weights", "gates", "tiers") if base.get(name)}
    if not scores and not had:
        return {}
    count = len(base.get("tiers", {}))
    with st.expander(_titled("Overall score and tiers", count, "tier"), key=f"{key}_overall"):
        st.caption("Counted from the answers whenever they are shown: a change needs no new labels.")
        weights: dict[str, Any] = {}
        with st.container(horizontal=True):
            for name in scores:
                weight = st.number_input(
                    f"Weight of {name}",
                    min_value=0.0,
                    max_value=1e6,
                    value=float(base.get("weights", {}).get(name, 0)),
                    step=0.5,
                    key=f"{key}_weight_{name}",
                    width=150,
                )
                if weight:
                    weights[name] = figure(weight)
        st.markdown("Gates: where the condition is true, the overall score is so much at most")
        gates = table(
            base.get("gates", []),
            {
                "when": st.column_config.TextColumn("Condition", width="large"),
                "cap": st.column_config.NumberColumn("At most", width="small"),
            },
            key=f"{key}_gates",
            alt="Gates of the overall score",
        )
        st.markdown("Tiers: the first whose condition is true; `overall` is the overall score")
        tiers = table(
            [{"name": name, "expression": text} for name, text in base.get("tiers", {}).items()],
            {
                "name": st.column_config.TextColumn("Tier", width="small"),
                "expression": st.column_config.TextColumn("Condition", width="large"),
            },
            key=f"{key}_tiers",
            alt="Tiers",
        )
    return {
        "weights": weights,
        "gates": [
            {"when": "", **gate, **({"cap": figure(gate["cap"])} if "cap" in gate else {})} for gate in gates
        ],
        "tiers": {tier["name"]: tier.get("expression", "") for tier in tiers if "name" in tier},
    }


def _titled(title: str, count: int, one: str) -> str:
    return f"{title}: {plural(count, one)}" if count else title
