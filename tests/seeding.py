"""Workspaces with real rows, facts and runs for tests, made in milliseconds and without a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from workspace import arrivals, runs, tasks
from workspace.arrivals import Arrival
from workspace.facts import DimensionSpec, Fact, ModelSpec, RunSpec
from workspace.facts import run_id as id_of_run
from workspace.ids import content_id, row_id
from workspace.store import Connection, Store, open_store
from workspace.task import Dimension, Label, Task

MODEL = ModelSpec(backend="llama_cpp", name="SmolLM2-135M-Instruct", path="/nowhere/model.gguf", digest="d1" * 16)
SENTIMENT = ("positive", "negative", "neutral")


def task_of(labels: Sequence[str], name: str = "sentiment") -> Task:
    """A task with one dimension of the same name."""
    return Task(
        name=name,
        title=name.capitalize(),
        dimensions=(
            Dimension(
                name=name,
                question="What feeling does the message express?",
                labels=tuple(Label(name=label, description=f"texts that are {label}") for label in labels),
            ),
        ),
    )


def add_rows(
    store: Store, texts: Sequence[str], domains: Sequence[str] | None = None, *, first: int = 0
) -> list[str]:
    """Rows with these texts, in order and numbered from `first` on; returns their ids."""
    ids = [row_id(text) for text in texts]
    kinds = list(domains or [""] * len(texts))

    def work(con: Connection) -> None:
        con.execute(
            """insert into rows by name
               select unnest($numbers) as row_no, unnest($ids) as id, unnest($texts) as text,
                      unnest($domains) as domain, '' as external_id, 'seed' as import_id""",
            {
                "numbers": list(range(first, first + len(texts))),
                "ids": ids,
                "texts": list(texts),
                "domains": kinds,
            },
        )

    store.write(work)
    return ids


def spec_of(store: Store, task: Task) -> RunSpec:
    """A saved run of this task, with no rows yet."""
    task_id = tasks.save(store, task)
    dimensions = tuple(
        DimensionSpec(d.name, d.kind, d.label_names, d.label_names, "Label the text.", "{text}")
        for d in task.dimensions
    )
    prompt_id = content_id(["prompt", task_id])
    runs.save_prompt(store, prompt_id, task_id, "{}")
    spec = RunSpec(id_of_run(task_id, prompt_id, MODEL.digest), task_id, task.name, prompt_id, MODEL, dimensions)
    runs.create(store, spec)
    return spec


def fact_of(
    run_id: str, row_id: str, dimension: str, labels: Sequence[str], shares: Sequence[float], **changes: Any
) -> Fact:
    """What a model said of one row: the probability of each label. `changes` replaces any other field."""
    best = max(range(len(shares)), key=shares.__getitem__)
    fact = Fact(
        author="seed",
        seq=0,
        run_id=run_id,
        row_id=row_id,
        dimension=dimension,
        labeler="model",
        slot=0,
        kind="label",
        label=labels[best],
        logprobs=tuple(math.log(share) for share in shares),
        confidence=shares[best],
        model_digest=MODEL.digest,
        prompt_id="prompt",
        node="seed",
        claim="seed",
        epoch=0,
        seconds=0.01,
        prompt_tokens=20,
        completion_tokens=0,
        warnings=(),
        error="",
        made_at=1.7e9,
    )
    return msgspec.structs.replace(fact, **changes)


def facts_for(spec: RunSpec, ids: Sequence[str], *, author: str = "seed", first: int = 0) -> list[Fact]:
    """An answer for every row in every dimension: confidence rises with the row, labels take turns."""
    made: list[Fact] = []
    for index, id in enumerate(ids):
        for dimension in spec.dimensions:
            count = len(dimension.labels)
            best = 0.34 + 0.6 * (index + 1) / (len(ids) + 1)
            shares = [(1 - best) / (count - 1)] * count
            shares[index % count] = best
            seq = first + len(made)
            made.append(fact_of(spec.run_id, id, dimension.name, dimension.labels, shares, author=author, seq=seq))
    return made


def ingest(store: Store, facts: Sequence[Fact]) -> int:
    """What the logs of these facts' authors bring, in any order; returns how many were new.

    Numbers missing between two facts of an author were other entries of that log. What comes before the first one
    has to be here already.
    """
    new = 0
    ordered = sorted(facts, key=lambda fact: (fact.author, fact.seq))
    for author, log in groupby(ordered, key=lambda fact: fact.author):
        each = list({fact.seq: fact for fact in log}.values())
        new += arrivals.take(store, Arrival(author, each[0].seq, each[-1].seq + 1, facts=each))
    return new


def seed(
    store: Store,
    texts: Sequence[str],
    labels: Sequence[str] = SENTIMENT,
    *,
    names: Sequence[str] = ("sentiment",),
    labeled: int | None = None,
) -> list[RunSpec]:
    """Rows and, per name, a task with a run whose first `labeled` rows (all by default) are answered."""
    ids = add_rows(store, texts)
    specs = []
    for name in names:
        spec = spec_of(store, task_of(labels, name))
        runs.plan(store, spec.run_id, limit=None)
        ingest(store, facts_for(spec, ids[:labeled], author=f"seed-{name}"))
        specs.append(spec)
    return specs


def seeded_file(
    path: Path, texts: Sequence[str], labels: Sequence[str] = SENTIMENT, *, names: Sequence[str] = ("sentiment",)
) -> list[RunSpec]:
    """A workspace file with `seed` in it, closed again."""
    store = open_store(path)
    try:
        return seed(store, texts, labels, names=names)
    finally:
        store.close()
