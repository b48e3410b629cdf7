"""Loading a file: naming it, saying what its columns are, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from studio import sources, ui
from studio.jobs import Job
from studio.runtime import Studio
from studio.words import file_size, number, plural
from workspace import intake, rows, tasks
from workspace.task import Dimension

ROW_COLUMNS: dict[str, Any] = {
    "Row": st.column_config.NumberColumn(width=70, format="localized"),
    "Text": st.column_config.TextColumn(width=620),
    "Seen": st.column_config.NumberColumn(width=70, help="How often this text was in the files loaded"),
}
ENCODINGS = {"Detect": None, "UTF-8": "utf-8", "Latin-1": "latin-1", "UTF-16": "utf-16"}
REJECTS_SHOWN = 1000


def as_table(found: Sequence[rows.Row]) -> list[dict[str, Any]]:
    """Rows of the workspace for `ui.table`; columns nobody filled are left out."""
    table = []
    for row in found:
        line: dict[str, Any] = {"Row": row.row_no + 1, "Text": row.text}
        if any(other.domain for other in found):
            line["Domain"] = row.domain
        if any(other.external_id for other in found):
            line["Id in the file"] = row.external_id
        if any(other.times > 1 for other in found):
            line["Seen"] = row.times
        table.append(line)
    return table


def draw(studio: Studio) -> None:
    """The whole form: choose a file, look at it, say what its columns are, load it."""
    turn = st.session_state.setdefault("upload_turn", 0)
    by_path, by_upload = st.columns([3, 2], gap="medium")
    with by_path:
        named = st.text_input("Path on this machine", key="load_path", placeholder="/home/you/tweets.csv")
        st.caption(
            "CSV, TSV, JSONL, JSON, Parquet or plain text, of any size. The file is read where it lies and "
            "never changed."
        )
    with by_upload:
        upload = st.file_uploader("Or upload it from this browser", key=f"upload_{turn}")
    if upload is not None:
        # Copied to disk and the widget renewed at once: Streamlit would hold the file in memory otherwise.
        st.session_state["uploaded"] = str(sources.keep_upload(upload.name, upload))
        st.session_state["upload_turn"] = turn + 1
        st.rerun()
    uploaded = st.session_state.get("uploaded")
    if uploaded and not Path(uploaded).exists():
        uploaded = None
    with ui.guarded():
        if named:
            _describe(studio, sources.chosen_path(named))
        elif uploaded:
            _describe(studio, Path(uploaded))


def _describe(studio: Studio, path: Path) -> None:
    with st.expander("Characters look wrong?", icon=":material/translate:"):
        encoding = ENCODINGS[st.selectbox("Encoding of the file", list(ENCODINGS), key="encoding")]
    seen = sources.preview(path, encoding)
    facts = [path.name, seen.format.upper(), file_size(path.stat().st_size), seen.encoding]
    if seen.lines is not None:
        facts.append(plural(seen.lines, "line"))
    st.caption(", ".join(str(fact) for fact in facts if fact))
    for note in seen.notes:
        st.caption(f":material/info: {note}")
    ui.table(seen.rows, key="preview", alt_text=f"First rows of {path.name}")

    mapping = _mapping(studio, seen)
    if not mapping.text:
        st.caption("Choose at least one column that holds the text to label")
        return
    if seen.rows:
        st.caption("The first row as it will be read")
        pieces = mapping.pieces()
        first = "".join(seen.rows[0].get(piece, "") if column else piece for column, piece in pieces)
        st.code(first, language=None, wrap_lines=True)
    words = f"Load {plural(seen.lines, 'row')}" if seen.lines else "Load the file"
    if st.button(words, key="load", icon=":material/download:", type="primary"):
        job = studio.load_file(path, mapping, encoding=encoding, source=path.name)
        job.afterwards(lambda: sources.drop_upload(path))
        st.session_state["load_started"] = True
        st.session_state.pop("uploaded", None)
        st.rerun()


def _mapping(studio: Studio, seen: intake.Preview) -> intake.Mapping:
    guess = seen.suggestion
    text = st.multiselect(
        "Text to label", seen.columns, default=list(guess.text), key="text_columns", help="One column or several"
    )
    template = None
    if len(text) > 1:
        usual = guess.template or "\n".join(f"{{{column}}}" for column in text)
        template = st.text_area(
            "How they are put together", value=usual, key="template", help="{column} stands for the cell"
        )
    with st.container(horizontal=True):
        others = [column for column in seen.columns if column not in text]
        id_column = _column("Id", others, guess.id, "What the file calls a row")
        domain = _column("Domain", others, guess.domain, "What kind of text it is; results are shown per domain")
    gold = _gold(studio, seen, others)
    return intake.Mapping(text=tuple(text), template=template, id=id_column, domain=domain, gold=gold)


def _column(label: str, columns: list[str], guess: str | None, meaning: str) -> str | None:
    return st.selectbox(
        label,
        columns,
        index=columns.index(guess) if guess in columns else None,
        placeholder="None",
        key=f"column_{label.lower()}",
        help=meaning,
    )


def _gold(studio: Studio, seen: intake.Preview, columns: list[str]) -> dict[str, str]:
    known = {**tasks.bundled(), **{saved.name: saved.task for saved in tasks.newest(studio.store)}}
    gold: dict[str, str] = {}
    guesses = {
        dimension.name: _gold_column(dimension, seen, columns)
        for task in known.values()
        for dimension in task.dimensions
    }
    with st.expander(
        "Does the file hold labels people gave?", icon=":material/verified:", expanded=any(guesses.values())
    ):
        st.caption("They are never shown to the model; they tell how often it is right.")
        for task in known.values():
            for dimension in task.dimensions:
                name = dimension.name
                column = _column(f"{name} ({task.shown_title})", columns, guesses[name], dimension.question)
                if column:
                    gold[name] = column
    return gold


def _gold_column(dimension: Dimension, seen: intake.Preview, columns: list[str]) -> str | None:
    """The column whose cells are labels of this dimension, the one that is called like it first."""
    names = {name.casefold() for name in dimension.label_names}
    for column in sorted(columns, key=lambda column: dimension.name not in column.casefold()):
        cells = {row.get(column, "").strip().casefold() for row in seen.rows} - {""}
        if cells and cells <= names:
            return column
    return None


def show_result(studio: Studio, job: Job[intake.LoadResult]) -> None:
    """What loading ended with: counts in words, rejected lines, or the error."""
    with st.container(key="load_result"):
        if job.error is not None:
            ui.show_error(job.error)
        elif job.result is not None:
            st.success(in_words(job.result), icon=":material/check_circle:")
            if job.result.rejected:
                show_rejects(studio, job.result.import_id)
        if st.button("Close", key="close_result", icon=":material/close:", type="tertiary"):
            studio.jobs.forget("load")
            st.rerun()


def in_words(result: intake.LoadResult) -> str:
    """ "1,204 rows added, 3 repeated, 2 rejected"."""
    if result.already_loaded:
        return "This file is already loaded, nothing was added"
    parts = [f"{plural(result.added, 'row')} added"]
    if result.repeated:
        parts.append(f"{number(result.repeated)} repeated")
    if result.rejected:
        parts.append(f"{number(result.rejected)} rejected")
    return ", ".join(parts)


def show_rejects(studio: Studio, import_id: str) -> None:
    """Lines that could not be read, with the reason for each, and a file of them to repair."""
    found = intake.rejects(studio.store, import_id, limit=REJECTS_SHOWN)
    table = [{"Line": reject.line, "Reason": reject.reason, "Content": reject.content} for reject in found]
    ui.table(
        table,
        key=f"rejects_{import_id}",
        alt_text="Rejected lines",
        columns={
            "Line": st.column_config.NumberColumn(width=70, format="localized"),
            "Content": st.column_config.TextColumn(width=480),
        },
    )
    st.download_button(
        "Download the rejected lines",
        data=lambda: pd.DataFrame(table).to_csv(index=False).encode(),
        file_name="rejected.csv",
        mime="text/csv",
        key=f"download_rejects_{import_id}",
        icon=":material/download:",
        on_click="ignore",
    )
