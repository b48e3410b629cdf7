"""The review component: one row at a time, decided by keyboard, saved through the API behind the person's back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from studio.answering import VERSION
from workspace.decisions import Order
from workspace.task import Dimension

FOLDER = Path(__file__).resolve().parent
# One module, in this order; the last one exports.
SCRIPTS = ("outbox.js", "deck.js", "labels.js", "scale.js", "others.js", "view.js", "review.js")
API = f"/api/v{VERSION}"


@cache
def _component() -> Any:
    return st.components.v2.component(
        "winnow_review",
        html=(FOLDER / "review.html").read_text(encoding="utf-8"),
        css=(FOLDER / "review.css").read_text(encoding="utf-8"),
        js="\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS),
    )


def settings(
    workspace: Path,
    run_id: str,
    dimension: Dimension,
    *,
    reviewer: str,
    order: Order,
    domain: str | None,
    blind: bool,
    among: Sequence[str] = (),
) -> dict[str, Any]:
    """What the component needs to know. When any of it changes it starts a new deck and saves the old one.

    `among`: the rows of the order "chosen".
    """
    described = {label.name: label.description for label in dimension.labels}
    return {
        "api": f"{API}/review",
        "runs": f"{API}/runs",
        # Tells the workspaces apart that were ever served at this address; see outbox.js.
        "workspace": hashlib.blake2b(str(workspace).encode(), digest_size=8).hexdigest(),
        "run": run_id,
        "dimension": dimension.name,
        "kind": dimension.kind,
        "labels": [{"name": name, "description": described.get(name, "")} for name in dimension.label_names],
        "reviewer": reviewer,
        "order": order,
        "domain": domain,
        "blind": blind,
        "among": list(among),
    }


def review(data: dict[str, Any], *, key: str) -> bool:
    """Show the deck. True in the one rerun after the person has decided the last waiting row."""
    result = _component()(key=key, data=data, on_finished_change=lambda: None)
    return bool(result.finished)
