"""The target error as something to take hold of: a handle on the line of the risk-coverage figure."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

FOLDER = Path(__file__).resolve().parent


@cache
def _component() -> Any:
    return st.components.v2.component("winnow_target", js=(FOLDER / "target.js").read_text(encoding="utf-8"))


def draggable(chart: str, slider: str, *, least: int, most: int, target: int) -> None:
    """Let people drag the target line of the figure of key `chart`, in whole percents from `least` to `most`.

    What they choose becomes the value of the widget of key `slider`, whose value is `target` now. Where the script
    cannot run the figure shows its line all the same.
    """
    key = f"{chart}_target"

    def follow() -> None:
        chosen = st.session_state[key].target
        if isinstance(chosen, int | float):
            st.session_state[slider] = min(max(round(chosen), least), most)

    data = {"chart": chart, "least": least, "most": most, "target": target}
    _component()(key=key, data=data, height="content", on_target_change=follow)
