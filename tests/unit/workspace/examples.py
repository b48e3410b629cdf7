"""What the tests of the workspace start from."""

from __future__ import annotations

from collections.abc import Sequence

from tests.seeding import SENTIMENT, add_rows, facts_for, ingest, spec_of, task_of
from workspace import runs
from workspace.facts import RunSpec
from workspace.store import Store


def labeled_run(
    store: Store, texts: Sequence[str], *, labeled: int | None = None, domains: Sequence[str] | None = None
) -> RunSpec:
    """Rows and a sentiment run over all of them whose first `labeled` rows (all by default) are answered."""
    ids = add_rows(store, texts, domains)
    spec = spec_of(store, task_of(SENTIMENT))
    runs.plan(store, spec.run_id, limit=None)
    ingest(store, facts_for(spec, ids[:labeled]))
    return spec


def texts(number: int) -> list[str]:
    return [f"text {index}" for index in range(number)]
