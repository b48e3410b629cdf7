"""What is done to texts before a model reads them: switches, before and after, and what the prefilter catches."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby
from typing import Any

import msgspec
import streamlit as st

from engine.prompt import preparation_of, rules_of
from engine.text.entities import finder
from engine.text.prefilter import preview
from engine.text.preparing import NO_ENTITIES, PreparedText, prepare
from studio import task_draft, ui
from studio.runtime import Studio
from studio.words import number, plural, short
from workspace import rows
from workspace.facts import Preparation, RowRule
from workspace.task import Task, TextSteps

SAMPLE = 100  # rows that are prepared for the preview
CHARACTERS = 300_000  # of those rows together
SHOWN = 6  # of them side by side
SEARCHED = 2000  # rows the prefilter is tried on
LONGEST = 1500  # characters of a text that are shown
STEPS = {
    "conversation": ("Conversations", "Lists of messages become turns, after a line on their structure"),
    "whitespace": ("White space", "Runs of spaces and empty lines become one"),
    "contractions": ("Contractions", "“don't” becomes “do not”"),
    "slang": ("Abbreviations", "“imo” becomes “in my opinion”"),
    "emoji": ("Emoji", "❤️ becomes “red heart”"),
    "lowercase": ("Lower case", "Where capitals say nothing"),
    "entities": ("Names", "People, places and organisations are pointed out after the text"),
}
Part = tuple[str, bool]  # a piece of a text, and whether it changed


def draw(studio: Studio) -> None:
    """The whole section: a task, its steps with their effect on rows of this workspace, and its prefilter."""
    sample = _sample(studio)
    if not sample:
        st.caption("Load a file first: what the steps do is shown on its rows")
        return
    choices = task_draft.known(studio)
    titles = task_draft.titles(choices)
    chosen = st.selectbox(
        "Task", list(choices), format_func=lambda name: titles.get(name, name), key="prepare_task", width=320
    )
    task = choices[chosen]
    switches, effect = st.columns([2, 3], gap="large")
    with switches:
        ui.section("Steps")
        wanted = _switches(task, sample)
        _save(studio, task, wanted)
    with effect:
        _effect(prepare(sample, wanted))
    ui.section("Prefilter")
    _prefilter(studio, task, wanted)


def _sample(studio: Studio) -> list[str]:
    """The first rows, and of long ones fewer: everything here is done again at each click."""
    texts: list[str] = []
    for row in rows.page(studio.store, limit=SAMPLE):
        texts.append(row.text)
        if sum(map(len, texts)) > CHARACTERS:
            break
    return texts


def _switches(task: Task, sample: Sequence[str]) -> Preparation:
    """The switches of all steps, each with how many rows of the sample it changes by itself."""
    now = preparation_of(task)
    chosen: dict[str, Any] = {}
    with st.container(border=True, gap="small", key="prepare_steps"):
        for step, (title, meaning) in STEPS.items():
            with st.container(gap=None):
                key = f"step_{step}_{task.name}"
                on = st.session_state.get(key, getattr(now, step))
                turns = step != "conversation" and chosen["conversation"]
                chosen[step] = st.toggle(
                    title + _reach(sample, step, on, turns), value=getattr(now, step), key=key
                )
                st.caption(meaning)
        if chosen["entities"] and finder() is None:
            st.caption(f":material/info: {NO_ENTITIES}")
        chosen["max_tokens"] = st.number_input(
            "Compress to about so many tokens",
            min_value=0,
            max_value=1_000_000,
            value=now.max_tokens,
            step=50,
            key=f"step_max_tokens_{task.name}",
            help="0: never. The beginning and the end stay, and the sentences between them that say most.",
        )
        written = st.text_area(
            "Abbreviations of your own",
            value="\n".join(f"{word} = {meaning}" for word, meaning in now.expansions.items()),
            key=f"step_expansions_{task.name}",
            placeholder="ttyl = talk to you later",
            help="One per line. They come before those that come along.",
        )
        chosen["expansions"], refused = expansions(written)
        if refused:
            st.caption(f":material/info: Not read: “{short(refused, 40)}”. Write word = meaning.")
    return Preparation(**chosen)


def _reach(sample: Sequence[str], step: str, on: bool, turns: bool) -> str:
    """How many rows the step changes by itself; of conversations, if they are `turns`, what was said counts."""
    if step == "entities" and not on:  # the model that finds names loads for a second; not before it is asked for
        return ""
    before = prepare(sample, Preparation(conversation=turns))
    after = prepare(sample, msgspec.convert({"conversation": turns, step: True}, Preparation))
    changed = sum(old.text != new.text for old, new in zip(before, after, strict=True))
    return f" :small[:gray[{number(changed)} of {plural(len(sample), 'row')}]]"


def expansions(written: str) -> tuple[dict[str, str], str]:
    """The abbreviations of lines "word = meaning", and the first line that is none."""
    found: dict[str, str] = {}
    refused = ""
    for line in written.splitlines():
        word, sign, meaning = (part.strip() for part in line.partition("="))
        if word and sign and meaning:
            found[word] = meaning
        elif line.strip():
            refused = refused or line.strip()
    return found, refused


def _save(studio: Studio, task: Task, wanted: Preparation) -> None:
    same = wanted == preparation_of(task)
    if st.button("Save for this task", key="save_steps", icon=":material/save:", type="primary", disabled=same):
        steps = TextSteps(**msgspec.structs.asdict(wanted))
        studio.save_task(task.model_copy(update={"text": steps}))
        st.session_state["steps_saved"] = task.shown_title
        st.rerun()
    if title := st.session_state.pop("steps_saved", None):
        st.success(f"“{title}” is saved. Runs started from now on read texts so.", icon=":material/check_circle:")
    elif not same:
        st.caption("Not saved yet: runs still read texts as the task says")


def _effect(found: Sequence[PreparedText]) -> None:
    changed = [(place, text) for place, text in enumerate(found) if text.text != text.raw]
    ui.section("Before and after")
    st.caption(
        f"{plural(len(changed), 'row')} of the first {number(len(found))} "
        f"{'changes' if len(changed) == 1 else 'change'}. The rows themselves stay as they are."
    )
    for place, text in changed[:SHOWN]:
        before, after = marks(text)
        with st.container(border=True, key=f"prepared_{place}"):
            st.html(_pair(place + 1, before, after))


def marks(found: PreparedText) -> tuple[list[Part], list[Part]]:
    """The raw and the prepared text in pieces, each with whether it changed."""
    before: list[Part] = []
    after: list[Part] = []
    done = 0
    for at, to, start, end, each in found.alignment.pieces():
        if start > done:
            before.append((found.raw[done:start], True))
        if each:  # the same characters, but for their case
            pairs = zip(found.raw[start:end], found.text[at:to], strict=True)
            for differs, group in groupby(pairs, key=lambda pair: pair[0] != pair[1]):
                old, new = zip(*group, strict=True)
                before.append(("".join(old), differs))
                after.append(("".join(new), differs))
        else:
            if end > max(start, done):
                before.append((found.raw[max(start, done) : end], True))
            after.append((found.text[at:to], True))
        done = max(done, end)
    if done < len(found.raw):
        before.append((found.raw[done:], True))
    return before, after


def _pair(row: int, before: Sequence[Part], after: Sequence[Part]) -> str:
    sides = (("Row " + number(row), before, "#c7812b"), ("What the model reads", after, "#3a8f66"))
    cells = "".join(
        f'<div style="min-width: 0"><div style="opacity: 0.64; font-size: 0.87em; margin-bottom: 4px">{name}</div>'
        f'<div style="white-space: pre-wrap; overflow-wrap: anywhere; max-height: 18em; overflow-y: auto">'
        f"{_marked(parts, colour)}</div></div>"
        for name, parts, colour in sides
    )
    return f'<div style="display: grid; grid-template-columns: 1fr 1fr; gap: 24px">{cells}</div>'


def _marked(parts: Sequence[Part], colour: str) -> str:
    style = f"background: color-mix(in srgb, {colour} 26%, transparent); color: inherit; border-radius: 3px"
    html, left = [], LONGEST
    for text, changed in parts:
        cut = text[:left]
        left -= len(cut)
        html.append(f'<mark style="{style}">{escape(_visible(cut))}</mark>' if changed and cut else escape(cut))
    return "".join(html) + ("…" if left <= 0 else "")


def _visible(text: str) -> str:
    """Changed white space as signs, since a mark around a line break shows nothing."""
    if text.strip():
        return text
    return text.replace("\r", "␍").replace("\t", "⇥").replace("\n", "↵\n").replace(" ", "·")


def _prefilter(studio: Studio, task: Task, wanted: Preparation) -> None:
    rules = rules_of(task)
    if not rules:
        st.caption(
            "This task has no rules that decide about rows before a model reads them. "
            "They are written into the task as text, under `prefilter`."
        )
        ui.go_to("task", "Open the task")
        return
    searched = [row.text for row in rows.page(studio.store, limit=SEARCHED)]
    with ui.guarded():
        caught = preview(rules, searched, wanted.conversation)
        total = sum(rule.texts for rule in caught)
        st.caption(
            f"{plural(total, 'row')} of the first {number(len(searched))} would never reach a model. "
            "The first rule that matches counts."
        )
        ui.table(
            [
                {
                    "Rule": rule.name,
                    "Looks for": ", ".join(rule.keywords) or rule.pattern,
                    "Then": _outcome(rule),
                    "Rows": found.texts,
                    "For example": " / ".join(short(searched[place], 70) for place in found.examples[:3]),
                }
                for rule, found in zip(rules, caught, strict=True)
            ],
            key="prefilter_rules",
            alt_text="What each rule of the prefilter catches",
            columns={
                "Rows": st.column_config.NumberColumn(width=70, format="localized"),
                "For example": st.column_config.TextColumn(width=480),
            },
        )


def _outcome(rule: RowRule) -> str:
    if rule.drop:
        return "left out"
    return ", ".join(f"{dimension}: {label}" for dimension, label in rule.labels.items())
