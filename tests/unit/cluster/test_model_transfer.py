"""Models on their way between machines: real files and threads, processes that are killed, disks that are full."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.cluster import model_files, model_transfer
from engine.cluster.messages import PIECE_BYTES, ModelAsk, ModelOffer, ModelPart, ModelWant, decode, encode
from engine.cluster.model_fetch import Transfer
from engine.cluster.model_files import Library, PartFile, file_name
from engine.cluster.model_transfer import MODEL_MESSAGES, ModelTraveler, words
from engine.models import catalog
from engine.models.llama_native import NativeModel
from tests.waiting import wait_for
from workspace.errors import ModelError

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 60.0


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / name))


@pytest.fixture(scope="session")
def second_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model under another name of the same length: another digest, and it labels just as well."""
    content = Path(catalog.embedded().path).read_bytes()
    name = b"Smollm2 135M 8k"
    assert content.count(name) >= 1
    path = tmp_path_factory.mktemp("theirs") / "Second.Q4_1.gguf"
    path.write_bytes(content.replace(name, b"Another 135M 8k", 1))
    return path


def digest_of(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def small_model(path: Path, pieces: int = 5) -> str:
    """A file that looks like a model, of some full pieces and a short one; returns its digest."""
    content = b"GGUF" + b"".join(bytes([number]) * PIECE_BYTES for number in range(pieces)) + b"end"
    path.write_bytes(content)
    return digest_of(content)


class Machine:
    """A machine on a network of calls: messages go through the wire format, and each arrives on a later turn."""

    def __init__(self, name: str, folder: Path, files: dict[str, Path], others: dict[str, Machine]) -> None:
        self.name = name
        self.folder = folder
        self.files = files
        self.others = others
        self.ready: dict[str, Path] = {}
        self.sent: list[ModelWant | ModelOffer | ModelAsk | ModelPart] = []
        self.change: Callable[[ModelPart], ModelPart] = lambda part: part
        self.hold: Callable[[], bool] = lambda: False  # while true, pieces wait here
        self.traveler = ModelTraveler(
            self.send, self.ready.__setitem__, find=files.get, fits=lambda size: "", folder=folder
        )
        others[name] = self

    @property
    def served(self) -> int:
        return sum(isinstance(message, ModelPart) for message in self.sent)

    def send(self, to: str, message: object) -> None:
        assert isinstance(message, MODEL_MESSAGES)
        if isinstance(message, ModelPart) and self.hold():
            asyncio.get_running_loop().call_later(0.005, self.send, to, message)
            return
        self.sent.append(message)
        if isinstance(message, ModelPart):
            message = self.change(message)
        again = decode(encode(message))
        assert isinstance(again, MODEL_MESSAGES)
        if to in self.others:
            asyncio.get_running_loop().call_soon(self.others[to].traveler.hear, self.name, again)

    def tick(self) -> None:
        self.traveler.tick([name for name in self.others if name != self.name])


class Bench:
    """Machines that exchange models until something is true."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machines: dict[str, Machine] = {}

    def add(self, name: str, *files: Path) -> Machine:
        known = {digest_of(file.read_bytes()): file for file in files}
        return Machine(name, self.folder / name, known, self.machines)

    async def until(self, done: Callable[[], object], tick: bool = True) -> None:
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while not done():
            assert asyncio.get_running_loop().time() < deadline, [
                machine.traveler.transfers() for machine in self.machines.values()
            ]
            for machine in list(self.machines.values()):
                if tick:
                    machine.tick()
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        for machine in self.machines.values():
            await machine.traveler.close()


def run(bench: Bench, work: Callable[[], object], done: Callable[[], object]) -> None:
    async def main() -> None:
        try:
            work()
            await bench.until(done)
        finally:
            await bench.close()

    asyncio.run(main())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_a_model_comes_whole_and_can_be_loaded(bench: Bench, second_model: Path) -> None:
    has, lacks = bench.add("has", second_model), bench.add("lacks")
    digest = digest_of(second_model.read_bytes())
    assert digest != catalog.embedded().digest
    run(bench, lambda: lacks.traveler.want(digest, "Another model"), lambda: lacks.ready)
    path = lacks.ready[digest]
    assert path == bench.folder / "lacks" / "Another-model.gguf"
    assert path.read_bytes() == second_model.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert left_over(lacks.folder) == []
    assert lacks.traveler.transfers() == ()
    pieces = [message.piece for message in lacks.sent if isinstance(message, ModelAsk)]
    assert sorted(pieces) == list(range(len(pieces)))  # each asked once
    assert has.ready == {}
    model = NativeModel(str(path), rearranged=False)
    try:
        assert model.tokens("What a lovely day!", special=False)
    finally:
        model.close()


def test_pieces_come_from_all_who_have_the_model(bench: Bench, tmp_path: Path) -> None:
    digest = small_model(tmp_path / "m.gguf", 12)
    one, two, lacks = bench.add("one", tmp_path / "m.gguf"), bench.add("two", tmp_path / "m.gguf"), bench.add("me")
    one.hold = two.hold = lambda: not (one.sent and two.sent)  # until both have offered it
    run(bench, lambda: lacks.traveler.want(digest, "M"), lambda: lacks.ready)
    assert min(one.served, two.served) > 0
    assert one.served + two.served == 13


def test_a_damaged_piece_of_one_machine_comes_right_from_another(bench: Bench, tmp_path: Path) -> None:
    digest = small_model(tmp_path / "m.gguf")
    bad, good, lacks = (
        bench.add("bad", tmp_path / "m.gguf"),
        bench.add("good", tmp_path / "m.gguf"),
        bench.add("me"),
    )
    bad.change = lambda part: ModelPart(part.digest, part.piece, part.data[:-1] + b"?")
    good.hold = lambda: bad.served == 0
    run(bench, lambda: lacks.traveler.want(digest, "M"), lambda: lacks.ready)
    assert digest_of(lacks.ready[digest].read_bytes()) == digest
    assert bad.served == 1  # then it was left alone
    assert good.served == 6


def test_a_machine_that_leaves_in_the_middle_is_replaced(bench: Bench, tmp_path: Path) -> None:
    digest = small_model(tmp_path / "m.gguf", 30)
    first, lacks = bench.add("first", tmp_path / "m.gguf"), bench.add("me")
    first.hold = lambda: first.served == 10

    async def main() -> None:
        lacks.traveler.want(digest, "M")
        await bench.until(lambda: lacks.traveler.transfers()[0].done >= 5 * PIECE_BYTES)
        del bench.machines["first"]
        lacks.traveler.gone("first")
        bench.add("second", tmp_path / "m.gguf")
        await bench.until(lambda: lacks.ready)
        await first.traveler.close()
        await bench.close()

    # Not to wait for the next time everybody is asked.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.cluster.model_fetch.ASK_AROUND", 0.05)
        asyncio.run(main())
    assert digest_of(lacks.ready[digest].read_bytes()) == digest
    assert bench.machines["second"].served <= 31 - 5  # what had come was not asked again


CHILD = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.unit.cluster.test_model_transfer import Bench

async def main():
    bench = Bench(Path({folder!r}))
    has, lacks = bench.add("has", Path({model!r})), bench.add("me")
    has.hold = lambda: has.served == {serves}
    lacks.traveler.want({digest!r}, "M")
    shown = -1
    def done():
        nonlocal shown
        for transfer in lacks.traveler.transfers():
            if (transfer.done, transfer.problem) != shown:
                shown = (transfer.done, transfer.problem)
                print(transfer.done, transfer.problem, flush=True)
        return lacks.ready
    await bench.until(done)
    await bench.close()
    print("ready", flush=True)

{before}
asyncio.run(main())
"""


def child(tmp_path: Path, model: Path, digest: str, before: str = "", serves: int = -1) -> subprocess.Popen[str]:
    names = {"root": str(ROOT), "folder": str(tmp_path), "model": str(model), "digest": digest}
    code = CHILD.format(**names, before=before, serves=serves)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path)


def lines_until(process: subprocess.Popen[str], wanted: Callable[[str], bool]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if wanted(line):
            return line.strip()
    raise AssertionError("the child ended without a word")


def test_a_process_killed_in_the_middle_goes_on_where_it_was(
    bench: Bench, tmp_path: Path, second_model: Path
) -> None:
    digest = digest_of(second_model.read_bytes())
    process = child(tmp_path, second_model, digest, serves=25)
    try:
        lines_until(process, lambda line: int(line.split()[0]) >= 20 * PIECE_BYTES)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    part = tmp_path / "me" / f".{digest}.part"
    with part.open("r+b") as file:  # a piece the crash left wrong
        file.seek(3 * PIECE_BYTES + 17)
        file.write(b"not what was written")
    _, lacks = bench.add("has", second_model), bench.add("me")
    run(bench, lambda: lacks.traveler.want(digest, "M"), lambda: lacks.ready)
    assert lacks.ready[digest].read_bytes() == second_model.read_bytes()
    asked = {message.piece for message in lacks.sent if isinstance(message, ModelAsk)}
    assert 3 in asked
    assert len(asked) <= -(-second_model.stat().st_size // PIECE_BYTES) - 19


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are a POSIX thing")
def test_a_disk_that_is_full_is_said_and_waited_for(tmp_path: Path) -> None:
    digest = small_model(tmp_path / "m.gguf", 8)
    before = (
        f"import resource, signal; resource.setrlimit(resource.RLIMIT_FSIZE, ({3 * PIECE_BYTES}, -1))\n"
        "import engine.cluster.model_fetch as f; f.RETRY = 0.2\n"
        "def more(*_): resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))\n"
        "signal.signal(signal.SIGUSR1, more)\n"
    )
    process = child(tmp_path, tmp_path / "m.gguf", digest, before)
    try:
        line = lines_until(process, lambda line: "written" in line)
        assert "M cannot be written to disk (File too large). Make room; it goes on by itself." in line
        assert not list((tmp_path / "me").glob("*.gguf"))
        process.send_signal(signal.SIGUSR1)
        lines_until(process, lambda line: line.startswith("ready"))
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
    assert digest_of((tmp_path / "me" / "M.gguf").read_bytes()) == digest


def test_too_little_room_is_said_before_anything_comes(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = small_model(tmp_path / "m.gguf")
    lacks, _ = bench.add("me"), bench.add("has", tmp_path / "m.gguf")
    monkeypatch.setattr(model_files, "SPARE_BYTES", 1 << 60)

    def problem() -> str:
        return "".join(transfer.problem for transfer in lacks.traveler.transfers())

    run(bench, lambda: lacks.traveler.want(digest, "M"), lambda: "not enough room" in problem())
    assert not any(isinstance(message, ModelAsk) for message in lacks.sent)
    assert lacks.ready == {}


def test_a_model_too_large_for_the_machine_is_refused(bench: Bench, tmp_path: Path) -> None:
    digest = small_model(tmp_path / "m.gguf")
    lacks, _ = bench.add("me"), bench.add("has", tmp_path / "m.gguf")
    lacks.traveler._fits = lambda size: "It needs 5 GB." if size > PIECE_BYTES else ""
    run(bench, lambda: lacks.traveler.want(digest, "M"), lambda: lacks.traveler.refusals())
    assert not any(isinstance(message, ModelAsk) for message in lacks.sent)


def test_a_file_that_appears_meanwhile_is_taken(bench: Bench, tmp_path: Path) -> None:
    digest = small_model(tmp_path / "m.gguf")
    lacks, _ = bench.add("me"), bench.add("has", tmp_path / "m.gguf")
    lacks.files[digest] = tmp_path / "m.gguf"
    run(bench, lambda: lacks.traveler.want(digest, "M"), lambda: lacks.ready)
    assert lacks.ready == {digest: tmp_path / "m.gguf"}
    assert not any(isinstance(message, ModelAsk) for message in lacks.sent)


def test_what_is_dropped_goes_on_later_from_where_it_was(bench: Bench, tmp_path: Path) -> None:
    digest = small_model(tmp_path / "m.gguf", 30)
    lacks, has = bench.add("me"), bench.add("has", tmp_path / "m.gguf")
    has.hold = lambda: has.served == 10

    async def main() -> None:
        lacks.traveler.want(digest, "M")
        await bench.until(lambda: lacks.traveler.transfers()[0].done >= 5 * PIECE_BYTES)
        lacks.traveler.drop(digest)
        assert lacks.traveler.transfers() == ()
        has.hold = lambda: False
        lacks.traveler.want(digest, "M")
        await bench.until(lambda: lacks.ready)
        await bench.close()

    asyncio.run(main())
    assert digest_of(lacks.ready[digest].read_bytes()) == digest


def test_a_file_that_is_no_model_is_not_put_among_the_models(bench: Bench, tmp_path: Path) -> None:
    content = b"#!/bin/sh\n" * 1000
    (tmp_path / "m.gguf").write_bytes(content)
    lacks, _ = bench.add("me"), bench.add("has", tmp_path / "m.gguf")

    def problem() -> str:
        return "".join(transfer.problem for transfer in lacks.traveler.transfers())

    run(bench, lambda: lacks.traveler.want(digest_of(content), "M"), lambda: "not a GGUF" in problem())
    assert not list(lacks.folder.glob("*.gguf"))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("../../etc/passwd", "etc-passwd"),
        ("..", "model"),
        ("", "model"),
        ("/absolute", "absolute"),
        ("C:\\windows\\x", "C-windows-x"),
        (".hidden", "hidden"),
        ("a\x00b\nc", "a-b-c"),
        ("名前", "model"),
        ("x" * 500, "x" * 80),
        ("Qwen2.5-1.5B-Instruct.Q4_K_M", "Qwen2.5-1.5B-Instruct.Q4_K_M"),
    ],
)
def test_a_name_is_no_way_out_of_the_folder(name: str, file: str) -> None:
    assert file_name(name) == file


def test_a_file_of_the_same_name_is_left_alone(bench: Bench, tmp_path: Path) -> None:
    digest = small_model(tmp_path / "m.gguf")
    lacks, _ = bench.add("me"), bench.add("has", tmp_path / "m.gguf")
    lacks.folder.mkdir()
    mine = lacks.folder / "M.gguf"
    mine.write_bytes(b"GGUF of somebody")
    run(bench, lambda: lacks.traveler.want(digest, "M"), lambda: lacks.ready)
    assert mine.read_bytes() == b"GGUF of somebody"
    assert lacks.ready[digest].name == f"M-{digest[:8]}.gguf"


@pytest.mark.parametrize("digest", ["../x", "", "0" * 31, "Z" * 32, "0" * 31 + "/"])
def test_a_digest_that_is_none_names_no_file(tmp_path: Path, digest: str) -> None:
    part = PartFile(tmp_path / "models", digest)
    with pytest.raises(ModelError):
        part.open(ModelOffer(digest or "x", "m", 4, (bytes(16),)))
    assert not (tmp_path / "models").exists()


def test_one_process_of_a_machine_fetches_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = small_model(tmp_path / "m.gguf")
    offer = Library({digest: tmp_path / "m.gguf"}.get).offer(digest)
    assert offer is not None
    monkeypatch.setattr(model_files, "LOCK_SECONDS", 0.01)
    first, second = PartFile(tmp_path / "models", digest), PartFile(tmp_path / "models", digest)
    assert first.open(offer) == frozenset()
    with pytest.raises(ModelError, match="Another Winnow"):
        second.open(offer)
    first.close()
    assert second.open(offer) == frozenset()
    second.close()


def test_a_library_gives_what_it_finds_by_content_and_nothing_else(tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    digest = small_model(model, 1)
    library = Library({digest: model, "another": model}.get)
    assert library.part(digest, 0).data == b""  # nothing was offered yet
    offer = library.offer(digest)
    assert offer is not None
    assert (offer.size, len(offer.pieces), offer.name) == (PIECE_BYTES + 7, 2, "m")
    assert library.part(digest, 1).data == b"\x00\x00\x00\x00end"
    assert library.part(digest, 2).data == b""
    assert library.offer("another") is None  # the file is not what it is said to be
    assert library.offer("unknown") is None


def test_a_file_that_changed_is_not_given_any_more(tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    digest = small_model(model, 1)
    library = Library({digest: model}.get)
    assert library.offer(digest) is not None
    model.write_bytes(b"GGUF and something else")
    assert library.part(digest, 0).data == b""
    assert library.offer(digest) is None
    model.unlink()
    assert library.offer(digest) is None


def test_a_peer_that_asks_too_much_is_answered_in_part(bench: Bench, tmp_path: Path) -> None:
    digest = small_model(tmp_path / "m.gguf", 2)
    has, greedy = bench.add("has", tmp_path / "m.gguf"), bench.add("greedy")

    async def main() -> None:
        has.traveler.hear("greedy", ModelWant(digest))
        await bench.until(lambda: has.sent)
        for _ in range(500):
            has.traveler.hear("greedy", ModelAsk(digest, 0))
        await bench.until(lambda: len(has.sent) == 1 + model_transfer.MAX_ASKS)
        for number in range(100):
            has.traveler.hear("greedy", ModelWant(f"{number:032x}"))
        assert len(has.traveler._wanted_by) <= model_transfer.MAX_WANTED
        has.traveler.hear("greedy", ModelAsk(digest, 1))
        await bench.until(lambda: len(has.sent) == 2 + model_transfer.MAX_ASKS)
        await bench.close()

    asyncio.run(main())
    assert greedy.ready == {}


def test_stopping_does_not_wait_for_the_rest(bench: Bench, second_model: Path) -> None:
    digest = digest_of(second_model.read_bytes())
    has, lacks = bench.add("has", second_model), bench.add("me")
    has.hold = lambda: has.served == 3

    def started() -> bool:
        return any(transfer.done for transfer in lacks.traveler.transfers())

    run(bench, lambda: lacks.traveler.want(digest, "M"), started)
    assert lacks.ready == {}
    assert left_over(lacks.folder)[-1] == f".{digest}.part"


def test_words_say_how_far_it_is() -> None:
    def transfer(size: int, done: int, problem: str = "") -> Transfer:
        return Transfer("d", "Qwen", size, done, 45e6, 1, problem)

    assert words(transfer(0, 0)) == "Looking for Qwen"
    assert words(transfer(4_700_000_000, 1_200_000_000)) == "Fetching Qwen: 1.2 GB of 4.7 GB, 45 MB/s"
    assert words(transfer(1, 0, "The disk is full.")) == "The disk is full."


def test_abandoned_files_are_removed_after_a_month(tmp_path: Path) -> None:
    digest = small_model(tmp_path / "m.gguf")
    offer = Library({digest: tmp_path / "m.gguf"}.get).offer(digest)
    assert offer is not None
    folder = tmp_path / "models"
    folder.mkdir()
    old, young = folder / f".{'0' * 32}.part", folder / f".{'1' * 32}.part"
    for path in (old, young):
        path.touch()
    os.utime(old, (0, 0))
    part = PartFile(folder, digest)
    part.open(offer)
    part.close()
    wait_for(lambda: not old.exists(), "the old file is gone", 1)
    assert young.exists()
