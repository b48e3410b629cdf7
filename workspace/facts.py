"""What travels between studio, engine and worker: a run's specification, its rows, and the facts it yields."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from workspace.ids import content_id
from workspace.machines import Cluster

RunState = Literal["running", "paused", "cancelled", "done"]
FactKind = Literal["label", "error", "drop"]  # drop: a rule of the prefilter left the row out
BACKENDS = ("llama_cpp", "ollama", "openai", "embedding")
Phrasing = Literal["words", "plain", "letters"]


class ModelSpec(msgspec.Struct, frozen=True):
    """A model as a run names it.

    `digest` is what makes it that model wherever it runs: BLAKE2b-128 of the weights for a file, the digest the
    server tells for Ollama, a content address of server and name for an OpenAI-compatible one, of the version of
    the embeddings for `embedding`.
    """

    backend: str  # of BACKENDS; what another machine names may be unknown here
    name: str  # what people see, e.g. "SmolLM2-135M-Instruct"; for a server, its name for the model
    path: str  # where the weights lie on this machine, or the server's address; each machine's own
    digest: str


class DimensionSpec(msgspec.Struct, frozen=True):
    """How one dimension is asked.

    `system` and `user` become chat messages; `user` contains the marker `{text}` exactly once, near its end.
    Dimensions with equal `system` and `user` are asked together, sharing what the model computed of the row.
    `labels` are the task's names and `words` what the model is asked to say for each, in the same order.
    `meanings` say what each label means, for models that compare instead of read; empty where the task does not.
    `cue` opens the model's answer, e.g. "language:", and tells apart dimensions that are asked together; "" where
    there is only one. `after` are dimensions before this one whose answers the model is told.
    """

    name: str
    kind: str  # of workspace.task.Kind
    labels: tuple[str, ...]
    words: tuple[str, ...]
    system: str
    user: str
    cue: str = ""
    after: tuple[str, ...] = ()
    phrasings: tuple[Phrasing, ...] = ("words",)
    explain: bool = False  # also say in a sentence why
    meanings: tuple[str, ...] = ()


class RowRule(msgspec.Struct, frozen=True):
    """A rule of the prefilter: what it catches, and what becomes of the row. The first that matches counts.

    Either `keywords` (whole words, in any case) or `pattern` (a regular expression). `labels` gives a label to
    each dimension it names; with `drop` the row is left out.
    """

    name: str
    keywords: tuple[str, ...] = ()
    pattern: str = ""
    drop: bool = False
    labels: dict[str, str] = {}


class Preparation(msgspec.Struct, frozen=True):
    """What is done to a text before a model reads it; `engine.text.preparing` says in which order.

    The row itself never changes.
    """

    whitespace: bool = False  # runs of white space become one space, or one line break
    lowercase: bool = False
    contractions: bool = False  # "don't" becomes "do not"
    slang: bool = False  # "imo" becomes "in my opinion"
    expansions: dict[str, str] = {}  # abbreviations of one's own, in any case, before those that come along
    emoji: bool = False  # an emoji becomes its name
    entities: bool = False  # named entities as a hint after the text
    conversation: bool = False  # recognised conversations become turns, with what their structure says
    max_tokens: int = 0  # longer texts are compressed to about so many; 0 never


class Settings(msgspec.Struct, frozen=True):
    """How a run asks. What changes the answers (`samples`, `temperature`) is part of the run's id."""

    samples: Annotated[int, Meta(ge=1, le=100)] = 1  # answers drawn for a row from a model without probabilities
    temperature: Annotated[float, Meta(ge=0, le=5)] = 0.0  # of those draws
    repairs: Annotated[int, Meta(ge=0, le=20)] = 2  # times a reply that cannot be read is asked for again
    retries: Annotated[int, Meta(ge=0, le=100)] = 5  # times a server that fails or is busy is asked again
    timeout: Annotated[float, Meta(gt=0, le=86_400)] = 120.0  # seconds for one reply of a server
    concurrency: Annotated[int, Meta(ge=0, le=1000)] = 0  # requests at a time to a server; 0: as many as it bears
    cache: bool = True  # answers this machine has computed before are taken from its cache
    budget: Annotated[float, Meta(ge=0)] | None = None  # a run stops before it costs more than this
    price_in: Annotated[float, Meta(ge=0)] = 0.0  # per million prompt tokens, in the currency of the budget
    price_out: Annotated[float, Meta(ge=0)] = 0.0  # per million tokens of replies


class RunSpec(msgspec.Struct, frozen=True):
    """task x prompt x model. Rows are planned into a run and may be added later; they are not part of its id."""

    run_id: str
    task_id: str
    task_name: str
    prompt_id: str
    model: ModelSpec
    dimensions: tuple[DimensionSpec, ...]
    preparation: Preparation = Preparation()
    rules: tuple[RowRule, ...] = ()
    settings: Settings = Settings()


class Fact(msgspec.Struct, frozen=True, array_like=True):
    """A prediction, written once and never changed; keyed by (run, row, dimension, labeler, slot).

    (`author`, `seq`) is its place in its author's append-only log, `seq` counting from 0 without gaps.
    `logprobs` are natural logarithms of the probabilities of the dimension's labels in task order, exactly as the
    model gave them: no correction, no calibration. They sum to one after `exp`, but for the kind `multi`, where
    each is the probability that this label applies. Empty for an error and for a row that was left out.
    `label` is a label name; for `multi` those at one half or more, see `workspace.task.join_labels`.
    `phrasings` are the same numbers for each way the question was put; their mean is `logprobs`. Empty for one.
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
    phrasings: tuple[tuple[float, ...], ...] = ()
    reply: str = ""  # what the model said, where it could not be read
    explanation: str = ""


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


def run_id(task_id: str, prompt_id: str, model_digest: str, settings: Settings | None = None) -> str:
    """The same task, prompt and model is the same run: starting it twice continues it."""
    parts = ["run", task_id, prompt_id, model_digest]
    if settings is not None and settings.samples > 1:
        parts.append(f"{settings.samples} at {settings.temperature}")
    return content_id(parts)
