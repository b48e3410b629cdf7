"""What travels between studio, engine and worker: a run's specification, its rows, and the facts it yields."""

from __future__ import annotations

from typing import Literal

import msgspec

from workspace.ids import content_id
from workspace.machines import Cluster

RunState = Literal["running", "paused", "cancelled", "done"]
FactKind = Literal["label", "error"]


class ModelSpec(msgspec.Struct, frozen=True):
    """A model as a run names it. `digest` is BLAKE2b-128 of the weights, so a renamed file is the same model."""

    backend: str  # "llama_cpp"
    name: str  # what people see, e.g. "SmolLM2-135M-Instruct"
    path: str  # where the weights lie on this machine
    digest: str


class DimensionSpec(msgspec.Struct, frozen=True):
    """How one dimension is asked.

    `system` and `user` become chat messages; `user` contains the marker `{text}` exactly once, near its end.
    `labels` are the task's names and `words` what the model is asked to say for each, in the same order.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    words: tuple[str, ...]
    system: str
    user: str


class RunSpec(msgspec.Struct, frozen=True):
    """task x prompt x model. Rows are planned into a run and may be added later; they are not part of its id."""

    run_id: str
    task_id: str
    task_name: str
    prompt_id: str
    model: ModelSpec
    dimensions: tuple[DimensionSpec, ...]


class Fact(msgspec.Struct, frozen=True, array_like=True):
    """A prediction, written once and never changed; keyed by (run, row, dimension, labeler, slot).

    (`author`, `seq`) is its place in its author's append-only log, `seq` counting from 0 without gaps.
    `logprobs` are natural logarithms of the probabilities of the dimension's labels in task order, summing to
    one after `exp`, exactly as the model gave them: no correction, no calibration. Empty for an error.
    """

    author: str
    seq: int
    run_id: str
    row_id: str
    dimension: str
    labeler: str
    slot: int
    kind: FactKind
    label: str
    logprobs: tuple[float, ...]
    confidence: float  # largest raw probability
    model_digest: str
    prompt_id: str
    node: str
    claim: str
    epoch: int
    seconds: float  # this row's share of the batch
    prompt_tokens: int
    completion_tokens: int
    warnings: tuple[str, ...]  # codes, e.g. "truncated"
    error: str
    made_at: float  # seconds since 1970-01-01 UTC


class RunProgress(msgspec.Struct, frozen=True):
    """Where a run stands, as the engine knows it. Rates and times are over the last minute of work."""

    run_id: str
    state: RunState
    rows: int  # planned
    done: int  # rows with every dimension answered (errors included)
    failed: int  # rows of `done` with at least one error
    rows_per_s: float  # 0 while unknown
    seconds_left: float | None  # None while unknown
    note: str  # what the engine is doing in words, e.g. "Loading SmolLM2-135M-Instruct"


class EngineStatus(msgspec.Struct, frozen=True):
    """The engine process at one moment."""

    pid: int
    node: str
    author: str
    vector: dict[str, int]  # facts durable here, of each author
    worker_pid: int  # 0 while no model is loaded
    runs: tuple[RunProgress, ...]
    cluster: Cluster
    copies: dict[str, int] = {}  # by author: machines that hold all this one holds of it, this one included


def run_id(task_id: str, prompt_id: str, model_digest: str) -> str:
    """The same task, prompt and model is the same run: starting it twice continues it."""
    return content_id(["run", task_id, prompt_id, model_digest])
