"""The models of this machine: listed, added, tried out and removed; for the command line and the Models page."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from engine.cluster.capacity import look
from engine.labeler import Answer
from engine.models import catalog, downloads, known, reachable, servers, speeds
from engine.models.known import KnownModel
from engine.models.speeds import Speed
from engine.prompt import prompt_for
from workspace import tasks
from workspace.errors import ModelError
from workspace.facts import ModelSpec, RunSpec, Settings
from workspace.kinds import label_of

Place = Literal["built in", "models folder", "Ollama", "server"]
Report = Callable[[float, str], None]  # share done, 0 to 1, and what is being done
Asked = Callable[[], bool]

TASK = "sentiment"  # of the bundled ones, for a test
ROWS = (
    "Thank you so much, this made my whole week!",
    "The parcel arrived broken and nobody answers my mails.",
    "The meeting was moved to three o'clock.",
    "I can't stop smiling about the news :)",
    "Waited two hours for nothing. Never again.",
)


class Installed(msgspec.Struct, frozen=True):
    """A model that can be used at once. `size` is bytes, 0 unknown; `problem` why it does not fit this machine."""

    model: ModelSpec
    asked_as: str
    place: Place
    size: int
    problem: str = ""
    speed: Speed | None = None
    removable: bool = False


class Offer(msgspec.Struct, frozen=True):
    """A model of the catalog; `problem` says why it does not fit this machine."""

    known: KnownModel
    installed: bool
    problem: str


class Overview(msgspec.Struct, frozen=True):
    """All there is to choose from; `unreachable` are servers that were added and do not answer."""

    installed: list[Installed]
    offers: list[Offer]
    unreachable: list[reachable.Reachable]


class Tested(msgspec.Struct, frozen=True):
    """What a model did with five rows: the label of each (or "" and why not), and how fast."""

    speed: Speed
    labels: tuple[tuple[str, str, float, str], ...]  # row, label, confidence, error
    weights: str  # in which form they are fastest here, "" where nothing was timed


def overview() -> Overview:
    """Models of this machine and its servers, and what the catalog has. May take seconds: servers are asked."""
    machine, tested = look(), speeds.known()
    found = []
    for model in catalog.files():
        size = Path(model.path).stat().st_size
        own = _in_folder(model) is not None
        place: Place = "models folder" if own else "built in"
        found.append(
            Installed(
                model,
                catalog.asked_as(model),
                place,
                size,
                machine.fits(size),
                tested.get(model.digest),
                removable=own,
            )
        )
    with contextlib.suppress(ModelError):
        likeness = catalog.likeness()
        found.append(
            Installed(likeness, catalog.asked_as(likeness), "built in", 0, "", tested.get(likeness.digest))
        )
    here = reachable.look()
    for server in here:
        kind: Place = "Ollama" if server.server.kind == "ollama" else "server"
        for model in server.models:
            size = server.sizes.get(model.digest, 0)
            found.append(Installed(model, catalog.asked_as(model), kind, size, speed=tested.get(model.digest)))
    names = {Path(item.model.path).name.casefold() for item in found if item.place == "models folder"}
    names |= {f"{item.model.name}.gguf".casefold() for item in found if item.place == "models folder"}
    offers = [Offer(one, one.file.casefold() in names, machine.fits(one.size)) for one in known.KNOWN]
    lost = [one for one in here if one.problem and one.server.name != servers.OLLAMA]
    return Overview(found, offers, lost)


def add(
    what: str,
    report: Report | None = None,
    cancelled: Asked | None = None,
    *,
    name: str = "",
    sha256: str = "",
    link: bool = False,
) -> ModelSpec:
    """Bring a model here: a name of the catalog, hf:OWNER/NAME/FILE.gguf[@REVISION], a web address, ollama:NAME or
    the path of a GGUF file. Returns it as it can be used now. Raises ModelError; nothing half done can be used.
    """
    wanted, tell = what.strip(), report or (lambda _share, _words: None)

    def bytes_done(done: int, total: int) -> None:
        tell(done / total if total else 0.0, f"{_size(done)} of {_size(total)}" if total else _size(done))

    if wanted.startswith("ollama:"):
        _pull(wanted.partition(":")[2], tell, cancelled)
        reachable.look(again=True)
        return servers.resolve(wanted)
    if wanted.startswith("openai:"):
        raise ModelError(
            "A server is added by its name and address.", "winnow models add openai:NAME https://ADDRESS/v1"
        )
    listed = known.find(wanted)
    if listed is not None or wanted.startswith("hf:"):
        tell(0.0, "Asking the Hugging Face Hub")
        repository, file, revision = (listed.repository, listed.file, "main") if listed else _on_hub(wanted)
        source = downloads.from_hub(repository, file, revision)
    elif "://" in wanted:
        source = downloads.from_url(wanted, name, sha256)
    else:
        path = Path(wanted).expanduser()
        if not wanted.casefold().endswith(".gguf") and not path.is_file():
            raise ModelError(
                f"'{what}' is not known here.",
                "Give a name of the list, a path, a web address, hf:OWNER/NAME/FILE.gguf or ollama:NAME.",
            )
        return catalog.resolve(str(downloads.from_path(path, bytes_done, cancelled, link=link)))
    return catalog.resolve(str(downloads.download(source, bytes_done, cancelled)))


def add_server(name: str, address: str) -> servers.Server:
    """Remember an OpenAI-compatible or an Ollama server. `name` may be written openai:NAME or ollama:NAME."""
    kind, _, rest = name.partition(":")
    if kind in ("openai", "ollama") and rest:
        return servers.add(rest, "ollama" if kind == "ollama" else "openai", address)
    return servers.add(name, "openai", address)


def try_out(model: ModelSpec, report: Report | None = None) -> Tested:
    """Have a model label five rows in a process of its own, and remember how it did. Raises WinnowError."""
    from engine.worker_process import WorkerProcess

    tell = report or (lambda _share, _words: None)
    task = tasks.bundled()[TASK]
    prompt = prompt_for(task)
    # A run of its own each time: what servers spend on one is kept by its id.
    spec = RunSpec(
        f"test-{time.time_ns()}",
        "test",
        task.name,
        prompt.id,
        model,
        prompt.dimensions,
        settings=Settings(cache=False),
    )
    tell(0.05, f"Loading {model.name}")
    with WorkerProcess() as worker:
        loaded = worker.start(
            spec,
            catalog.user_cache() / "test.log",
            lambda share: tell(0.05 + 0.6 * share, f"Loading {model.name}"),
        )
        tell(0.7, "Labeling five rows")
        began = time.perf_counter()
        answers = [
            row[0] for row in worker.score(ROWS, lambda rows: tell(0.7 + 0.05 * rows, "Labeling five rows"))
        ]
        seconds = time.perf_counter() - began
    readable = sum(not answer.error for answer in answers)
    speed = Speed(
        len(ROWS),
        seconds,
        sum(answer.prompt_tokens + answer.completion_tokens for answer in answers),
        readable / len(ROWS),
        loaded.seconds,
        loaded.build,
        loaded.capabilities,
        time.time(),
    )
    speeds.remember(model.digest, speed)
    labels = task.dimensions[0].label_names
    told = tuple(_told(row, answer, labels) for row, answer in zip(ROWS, answers, strict=True))
    return Tested(speed, told, weights_of(model))


def weights_of(model: ModelSpec) -> str:
    """In which form the weights were found to be fastest on this machine; "" where that was not timed."""
    if model.backend != "llama_cpp":
        return ""
    from engine.models import tuning

    form = tuning.known(model.path)
    if form is None:
        return ""
    speed = max(form.by_threads.values(), default=0.0)
    tokens = f", {speed:,.0f} tokens per second" if speed else ""
    kernels = "with" if form.rearranged else "without"
    shown = "as in the file" if form.name == "original" else f"as {form.name}"
    return f"{shown}, {kernels} rearranged weights, {form.threads} threads{tokens}"


def removable(asked: str) -> str:
    """What would be removed, in words. Raises ModelError when that is nothing of ours."""
    server = _server(asked)
    if server is not None:
        return f"the server {server.name} ({server.address}); its models stay there"
    model = catalog.resolve(asked)
    if model.backend == "ollama":
        raise ModelError("Models of Ollama are removed by Ollama.", f"Use: ollama rm {model.name}")
    path = _in_folder(model)
    if path is None:
        raise ModelError(f"{model.name} is not in the models folder.", "Only models that were added are removed.")
    return f"{path} ({_size(0 if path.is_symlink() else path.stat().st_size)})"


def remove(asked: str) -> None:
    """Remove a file of the models folder, or forget a server. Raises ModelError."""
    removable(asked)
    server = _server(asked)
    if server is not None:
        servers.remove(server.name)
        return
    model = catalog.resolve(asked)
    path = _in_folder(model)
    assert path is not None
    try:
        path.unlink()
        for unpacked in (catalog.user_cache() / "weights").glob(f"{model.digest}.*"):
            unpacked.unlink()
    except OSError as error:
        raise ModelError(f"{path.name} cannot be removed.", "Is it in use?", str(error)) from error


def _server(asked: str) -> servers.Server | None:
    kind, _, rest = asked.strip().partition(":")
    name = (rest if kind in catalog.SERVED else asked.strip()).casefold()
    return next((one for one in servers.known() if one.name == name), None)


def _in_folder(model: ModelSpec) -> Path | None:
    """The file of the models folder that is this model, a link to it included."""
    for file in sorted(catalog.models_folder().glob("*.gguf")):
        if model.backend == "llama_cpp" and str(file.resolve()) == model.path:
            return file
    return None


def _on_hub(wanted: str) -> tuple[str, str, str]:
    address, _, revision = wanted.removeprefix("hf:").partition("@")
    parts = address.strip("/").split("/", 2)
    if len(parts) < 3 or not parts[2].casefold().endswith(".gguf"):
        raise ModelError(f"'{wanted}' names no file of the Hub.", "Write it hf:OWNER/NAME/FILE.gguf.")
    return f"{parts[0]}/{parts[1]}", parts[2], revision or "main"


def _pull(name: str, tell: Report, cancelled: Asked | None) -> None:
    from engine.models import ollama_labeler

    def heard(doing: str, done: int, total: int) -> None:
        if cancelled is not None and cancelled():
            raise ModelError("Adding the model was stopped.", "Ollama keeps what has arrived.")
        tell(done / total if total else 0.0, doing)

    ollama_labeler.pull(name, heard)


def _told(row: str, answer: Answer, labels: tuple[str, ...]) -> tuple[str, str, float, str]:
    if answer.error or not answer.logprobs:
        return row, "", 0.0, answer.error
    label, confidence = label_of("single", labels, answer.logprobs)
    return row, label, confidence, ""


def _size(size: int) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
