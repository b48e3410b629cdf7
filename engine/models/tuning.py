"""In which form and with how many threads a model reads fastest on this very machine, tried once and remembered.

Three things differ between machines by a factor of two to five. llama.cpp has kernels that rearrange weights
(AMX, repacking): the fastest where they work, slower than the plain ones for some formats on some processors,
and some virtual machines announce AMX and then fault, which takes the process down. Its kernels for weights of
32 or 16 bits often read a prompt faster than those for the four bits a small model comes in. And more threads
are not always better.

So at first use every form is timed in a child process that may crash (`engine.models.trial`), and what was found
is kept in the user's cache folder; `known` tells it. WINNOW_WEIGHTS names a form (`original`, `f32`, `f16`,
`bf16`) that is used without any timing.

**Exactness.** The weights a quantized file stands for are exactly what its unpacked 32-bit copy holds. Against
that copy, over 12 texts and 12 words, a log-probability of a form may differ by BOUND = 0.2 at the most, and
never by more than those of the file as it came, whose kernels round what they multiply to eight bits. On
SmolLM2-135M Q4_1 and a processor with AVX-512 the file itself differs by 0.63 at the most, 16-bit floats by
0.02, bfloat16 by 0.12 (0.02 on average): every form that is taken is nearer to the weights than the file as it
comes.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import filelock
import llama_cpp
import msgspec
import numpy as np
import psutil

from engine.models.catalog import digest, user_cache
from engine.models.devices import logical_cores
from engine.models.llama_native import build, physical_cores
from engine.models.trial import FILE_TYPES, Conversion, Measured, Request
from workspace.errors import ModelError

BOUND = 0.2  # largest difference of a log-probability that counts as the same
CONVERTED_BELOW = 200 << 20  # bytes of a file that is worth copying into another format
TIMED_BELOW = 6 << 30  # bytes of a file that is worth loading twice before its first use
WORTH_IT = 1.2  # times faster, to justify the memory of a copy
AS_GOOD = 0.95  # of the speed of the fastest copy, for a smaller one to be preferred
MORE_THREADS, FEWER_THREADS = 1.15, 1.5  # times faster than one thread for each core; a busy moment proves nothing
TOKENS = 128  # read in one round of a trial
SECONDS = 180.0  # after which no further form is tried; what was found by then stands
PATIENCE = 120.0  # seconds for one trial
LISTEN = 0.5  # seconds between signs of life while a trial runs
_KEPT = 200  # models remembered
_ROOT = Path(__file__).resolve().parents[2]

Heard = Callable[[], None]


class Trial(msgspec.Struct, frozen=True):
    """One form, tried."""

    name: str  # "original", "f32", "f16" or "bf16"
    rearranged: bool
    tokens_per_s: float  # of a prompt, one thread; 0 where it crashed, failed or did not end
    difference: float | None = None  # largest of a log-probability from the exact weights, where that was measured


class Form(msgspec.Struct, frozen=True):
    """How a model is loaded here, and what was measured to find that out (nothing where there was no choice)."""

    path: str  # of the weights to load
    rearranged: bool  # whether kernels are allowed that need the weights in another order than the file's
    name: str  # of the weights: "original", "f32", "f16" or "bf16"
    threads: int
    trials: tuple[Trial, ...] = ()
    by_threads: dict[int, float] = {}  # prompt tokens per second of the chosen form, by the clock
    cpu: str = ""
    build: str = ""
    seconds: float = 0.0  # the trials took


def fastest_form(path: str, waiting: Heard | None = None) -> Form:
    """The form to load the model at `path` in. The first call for a model takes up to half a minute on a small
    machine; `waiting` is called every second or so. Never raises for a model that cannot be loaded: loading it
    will say why."""
    wait = waiting or (lambda: None)
    asked = os.environ.get("WINNOW_WEIGHTS", "")
    plain = Form(path, rearranged=not _risky(), name="original", threads=physical_cores())
    try:
        size = os.stat(path).st_size
    except OSError:
        return plain
    choice = not asked and not llama_cpp.llama_supports_gpu_offload() and _fits(size, TIMED_BELOW, 2)
    if not choice and not _risky() and asked not in FILE_TYPES:
        return plain
    with _alone(wait):
        found = known(path)
        if found is None:
            found = _tuned(plain, size, asked, choice, _Trials(wait))
            if any(trial.tokens_per_s for trial in found.trials):
                _remember(path, found)
    return found


def known(path: str) -> Form | None:
    """What was found out about the model at `path` on this machine; None when it has not been tried, or on another
    processor, with another build of llama.cpp or under another WINNOW_WEIGHTS. Starts nothing."""
    with contextlib.suppress(ModelError, OSError):
        found = _remembered().get(_key(path))
        if found is not None and found.name == "original":
            return msgspec.structs.replace(found, path=path)  # the same weights may lie elsewhere by now
        if found is not None and Path(found.path).is_file():
            return found
    return None


def rearranging_works(path: str) -> bool:
    """Whether this model can be loaded with the kernels that rearrange weights, which is llama.cpp's default."""
    if not _risky():
        return True
    return any(trial.rearranged and trial.tokens_per_s > 0 for trial in fastest_form(path).trials)


def cpu() -> str:
    """The processor as its maker calls it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _tuned(plain: Form, size: int, asked: str, choice: bool, trials: _Trials) -> Form:
    """Try what there is to try and choose. With `choice` the file as it came is timed either way."""
    seen: list[_Seen] = []
    created: list[str] = []
    for rearranged in (True, False) if choice or _risky() else ():
        if choice or not any(one.speed for one in seen):
            measured = trials.run(_request(plain.path, rearranged, size))
            seen.append(_Seen("original", plain.path, rearranged, measured))
    own = max(seen, key=lambda one: one.speed, default=_Seen("original", plain.path, plain.rearranged, None))
    works = not seen or seen[0].speed > 0
    names = [asked] if asked in FILE_TYPES else FILE_TYPES if choice and own.speed else ()
    for name in names if _fits(size, CONVERTED_BELOW, 16) else ():
        file, made = _converted(plain.path, name, trials)
        created += [file] if made else []
        if file:
            seen.append(_Seen(name, file, works, trials.run(_request(file, works, size))))
    best = _chosen(own, seen, asked)
    for file in created:
        if file != best.file:
            with contextlib.suppress(OSError):
                os.unlink(file)
    threads = _threads_timed(best, size, trials) if choice and best.speed else {}
    return Form(
        best.file,
        best.rearranged,
        best.name,
        _best_threads(threads, plain.threads),
        tuple(one.trial(_exact(seen)) for one in seen),
        threads,
        cpu(),
        build(),
        round(trials.seconds, 1),
    )


class _Seen(msgspec.Struct, frozen=True):
    """A form and what its trial said, None where it crashed, failed or did not end."""

    name: str
    file: str
    rearranged: bool
    measured: Measured | None

    @property
    def speed(self) -> float:
        return self.measured.tokens_per_s[1] if self.measured is not None else 0.0

    def difference(self, exact: Measured | None) -> float | None:
        """Largest difference of a log-probability."""
        if self.measured is None or exact is None:
            return None
        return float(np.abs(np.subtract(self.measured.logprobs, exact.logprobs)).max())

    def trial(self, exact: Measured | None) -> Trial:
        return Trial(self.name, self.rearranged, round(self.speed, 1), self.difference(exact))


def _exact(seen: Sequence[_Seen]) -> Measured | None:
    return next((one.measured for one in seen if one.name == "f32"), None)


def _chosen(own: _Seen, seen: Sequence[_Seen], asked: str) -> _Seen:
    """The fastest of those that are exact; the file as it came (`own`) where a copy gains little."""
    if asked:
        return next((one for one in seen if one.name == asked and one.speed), own)
    exact = _exact(seen)
    bound = min(BOUND, own.difference(exact) or 0.0)
    copies = [one for one in seen if one.name != "original" and one.speed > own.speed * WORTH_IT]
    copies = [one for one in copies if (found := one.difference(exact)) is not None and found <= bound]
    good = [one for one in copies if one.speed >= AS_GOOD * max(copy.speed for copy in copies)]
    return min(good, key=lambda one: (one.name == "f32", -one.speed), default=own)


def _threads_timed(best: _Seen, size: int, trials: _Trials) -> dict[int, float]:
    counts = tuple(sorted({1, physical_cores(), logical_cores()}))
    request = msgspec.structs.replace(_request(best.file, best.rearranged, size), probe=False, threads=counts)
    measured = trials.run(request) if len(counts) > 1 else best.measured
    return {count: round(speed, 1) for count, speed in measured.tokens_per_s.items()} if measured else {}


def _best_threads(speeds: dict[int, float], usual: int) -> int:
    """One thread for each core, unless another number is clearly faster: a busy moment proves nothing."""
    if not speeds.get(usual):
        return usual
    best = max(speeds, key=speeds.__getitem__)
    return best if speeds[best] > speeds[usual] * (MORE_THREADS if best > usual else FEWER_THREADS) else usual


def _request(path: str, rearranged: bool, size: int) -> Request:
    return Request(path, rearranged, tokens=TOKENS if size < CONVERTED_BELOW else TOKENS // 2)


def _converted(path: str, name: str, trials: _Trials) -> tuple[str, bool]:
    """The same weights in another format, in the cache folder, and whether they were not there before; "" where
    there is no room or llama.cpp cannot do it."""
    folder = user_cache() / "weights"
    temporary = folder / f"{os.getpid()}.{name}.part"
    try:
        for left in folder.glob("*.part"):  # of a process that was killed; no other one is converting just now
            left.unlink()
        target = folder / f"{digest(Path(path))}.{name}.gguf"
        if target.is_file():
            return str(target), False
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < 20 * os.stat(path).st_size:
            return "", False
        if trials.run(Conversion(path, str(temporary), name)) is None:
            return "", False
        os.replace(temporary, target)
        return str(target), True
    except (OSError, ModelError):
        return "", False
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


class _Trials:
    """Child processes, one after the other, until the time is up."""

    command = (sys.executable, "-P", "-m", "engine.models.trial")
    patience = PATIENCE

    def __init__(self, wait: Heard) -> None:
        self._wait = wait
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def run(self, request: Request | Conversion) -> Measured | None:
        """What a child saw; None where it crashes, fails or does not end, or no time is left to try."""
        self._wait()
        if self.seconds > SECONDS:
            return None
        environment = {**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONUTF8": "1", "GGML_NO_BACKTRACE": "1"}
        environment.setdefault("OMP_WAIT_POLICY", "passive")  # as the worker has it
        with contextlib.suppress(OSError, msgspec.DecodeError, IndexError):
            child = subprocess.Popen(
                [*self.command, msgspec.json.encode(request).decode()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            said = self._heard(child)
            if child.returncode == 0:
                return msgspec.json.decode(said.splitlines()[-1], type=Measured)
        return None

    def _heard(self, child: subprocess.Popen[bytes]) -> bytes:
        ends = time.monotonic() + self.patience
        try:
            while True:
                try:
                    return child.communicate(timeout=LISTEN)[0]
                except subprocess.TimeoutExpired:
                    self._wait()
                if time.monotonic() > ends:
                    return b""
        finally:
            # `wait` of the caller may raise: no child is left behind then either.
            child.kill()
            child.wait()


def _fits(size: int, limit: int, times: int) -> bool:
    """Whether a file of `size` bytes is below a limit and so many times of it fit into the memory that is free."""
    return size < limit and size * times < psutil.virtual_memory().available


def _risky() -> bool:
    """Some virtual machines announce AMX and fault when it is used."""
    return b"AMX" in llama_cpp.llama_print_system_info()


def _key(path: str) -> str:
    """Changes with anything that may change the outcome: weights, processor, cores, library, what is asked for."""
    library = os.stat(llama_cpp.__file__)
    parts = [
        digest(Path(path)),
        cpu(),
        platform.release(),
        str(logical_cores()),
        build(),
        str(library.st_mtime_ns),
    ]
    return " ".join([*parts, os.environ.get("WINNOW_WEIGHTS", "")]).strip()


def _remembered() -> dict[str, Form]:
    try:
        return msgspec.json.decode(_file().read_bytes(), type=dict[str, Form])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}


def _remember(path: str, form: Form) -> None:
    # Where it cannot be written, the forms are tried again next time.
    with contextlib.suppress(OSError, ModelError):
        entries = list({**_remembered(), _key(path): form}.items())[-_KEPT:]
        temporary = _file().with_suffix(f".{os.getpid()}")
        temporary.write_bytes(msgspec.json.encode(dict(entries)))
        os.replace(temporary, _file())


def _file() -> Path:
    return user_cache() / "tuning.json"


@contextlib.contextmanager
def _alone(wait: Heard) -> Iterator[None]:
    """One process at a time tries forms: others would disturb its timing, and need only wait for what it finds."""
    lock = filelock.FileLock(_file().with_suffix(".lock"))
    held = False
    with contextlib.suppress(OSError):
        _file().parent.mkdir(parents=True, exist_ok=True)
        while not held:
            try:
                lock.acquire(timeout=LISTEN)
                held = True
            except filelock.Timeout:
                wait()
    try:
        yield
    finally:
        if held:
            lock.release()
