"""A workspace whose labels can be checked: rows with gold, a task of two dimensions, a model that is too sure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from calibration import log_softmax
from calibration.logprobs import FloatArray
from tests.seeding import fact_of, ingest
from tests.unit.calibration.examples import overconfident
from workspace import decisions, intake, runs, tasks
from workspace.facts import DimensionSpec, Fact, ModelSpec, RunSpec, run_id
from workspace.ids import row_id
from workspace.store import Store
from workspace.task import parse_task

TASK = """
name: mood
title: Mood of messages
dimensions:
  - name: mood
    question: What mood does the message have?
    labels: [negative, neutral, positive]
  - name: joke
    kind: boolean
    question: Is the message a joke?
"""
MOODS = ("negative", "neutral", "positive")
DIMENSIONS = (
    DimensionSpec("mood", "single", MOODS, MOODS, "", "{text}"),
    DimensionSpec("joke", "boolean", ("yes", "no"), ("yes", "no"), "", "{text}"),
)
MODEL = ModelSpec("llama_cpp", "Cocksure-1B", "cocksure.gguf", "0" * 32)


def text(number: int) -> str:
    return f"Message {number}: the bus came {number} minutes late and I waited in the rain"


def fill(store: Store, folder: Path, rows: int, *, gold: bool = True) -> str:
    """Load `rows` messages, with gold for the mood if asked, and label all of them; returns the id of the run."""
    scores, truth = overconfident(rows)
    lines = [{"text": text(i), "mood": MOODS[truth[i]]} for i in range(rows)]
    file = folder / "messages.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    columns = {"mood": "mood"} if gold else {}
    intake.load(store, file, intake.Mapping(text=("text",), template=None, id=None, domain=None, gold=columns))
    return label(store, rows, scores)


def label(store: Store, rows: int, scores: FloatArray) -> str:
    """Plan the rows into a run and hand in what the model says about them."""
    task_id = tasks.save(store, parse_task(TASK))
    run = run_id(task_id, "prompt", MODEL.digest)
    runs.create(store, RunSpec(run, task_id, "mood", "prompt", MODEL, DIMENSIONS))
    runs.plan(store, run, limit=None)
    joke = np.tile(np.log([0.3, 0.7]), (rows, 1))
    facts: list[Fact] = []
    for dimension, logprobs in (("mood", log_softmax(scores)), ("joke", joke)):
        labels = MOODS if dimension == "mood" else ("yes", "no")
        for i in range(rows):
            facts.append(
                fact_of(run, row_id(text(i)), dimension, labels, np.exp(logprobs[i]).tolist(), seq=len(facts))
            )
    ingest(store, facts)
    return run


def decide(store: Store, run: str, numbers: range, *, blind: bool, dimension: str = "mood") -> None:
    """One person's decisions: always the true mood, or "no" for the joke."""
    _, truth = overconfident(max(numbers) + 1 if dimension == "mood" else 1)
    events = [
        decisions.DecisionEvent(
            seq=seq,
            row_id=row_id(text(i)),
            action="modify",
            label=MOODS[truth[i]] if dimension == "mood" else "no",
            blind=blind,
        )
        for seq, i in enumerate(numbers)
    ]
    session = f"{dimension}-{blind}"
    decisions.record(store, session=session, run_id=run, dimension=dimension, reviewer="Ada", events=events)
