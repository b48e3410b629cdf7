"""Which form of the weights is used: with the real model and real child processes, some of which die."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.models import tuning
from engine.models.catalog import embedded, user_cache
from engine.models.llama_native import physical_cores
from engine.models.trial import Measured, Request
from engine.models.tuning import BOUND, Form, _best_threads, _chosen, _Seen, fastest_form, known

# A child as the real one is spoken to, for what the real one does on other machines. Each line is a form.
CHILD = """
import json, os, sys, time
request = json.loads(sys.argv[1])
if request["type"] == "Conversion":
    open(request["target"], "w").write(request["form"])
    print(json.dumps({"tokens_per_s": {}}))
    sys.exit()
path = request["path"]
form = path.split(".")[-2] if "weights" in path else "plain" if not request["rearranged"] else "original"
open(os.environ["TRIED"], "a").write(form + "\\n")
act = json.loads(os.environ["ACTS"]).get(form, "100 0.0")
if act == "crash":
    os.abort()
if act == "hang":
    time.sleep(60)
if act == "garbage":
    print("not json")
    sys.exit()
speed, off = map(float, act.split())
speeds = {str(n): speed * n for n in request["threads"]}
print(json.dumps({"tokens_per_s": speeds, "logprobs": [[-0.5 + off, -1.0]]}))
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("WINNOW_WEIGHTS")
    return user_cache()


@pytest.fixture
def machine(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Sets how fast each form is, how it dies, and how far it is off; returns the forms tried by now."""
    tried = tmp_path / "tried"
    tried.touch()
    monkeypatch.setattr(tuning._Trials, "command", (sys.executable, "-c", CHILD))
    monkeypatch.setattr(tuning, "LISTEN", 0.1)
    monkeypatch.setattr(tuning, "_risky", lambda: False)
    monkeypatch.setenv("TRIED", str(tried))

    def acts(**forms: str) -> list[str]:
        monkeypatch.setenv("ACTS", msgspec.json.encode(forms).decode())
        return tried.read_text().split()

    acts()
    return acts


@pytest.fixture
def model(tmp_path: Path) -> str:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF" + bytes(100))
    return str(file)


def test_the_real_model_is_tried_in_every_form_within_the_bound(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "TOKENS", 16)
    monkeypatch.setattr(tuning, "SECONDS", 600.0)  # however busy this machine is
    path = embedded().path
    beats: list[int] = []
    form = fastest_form(path, lambda: beats.append(1))
    assert {trial.name for trial in form.trials} == {"original", "f32", "f16", "bf16"}
    assert all(trial.tokens_per_s > 0 for trial in form.trials if trial.name in ("f32", "f16"))
    differences = {trial.name: trial.difference for trial in form.trials}
    assert differences["f32"] == 0.0
    assert differences["f16"] is not None
    assert differences["f16"] < 0.1
    assert (differences[form.name] or 0.0) <= BOUND or form.name == "original"
    assert set(form.by_threads) >= {1, physical_cores()}
    assert 1 <= form.threads <= max(form.by_threads)
    assert form.cpu
    assert "llama.cpp" in form.build
    assert known(path) == form
    assert beats
    copies = [file.name for file in (cache / "weights").iterdir()]
    assert copies == ([] if form.name == "original" else [Path(form.path).name])


def test_the_fastest_exact_form_is_kept_alone(machine: Callable[..., list[str]], model: str, cache: Path) -> None:
    machine(original="100 0.3", plain="110 0.3", f32="200 0.0", f16="250 0.01", bf16="400 0.1")
    form = fastest_form(model)
    assert (form.name, form.rearranged) == ("bf16", True)
    assert [file.name for file in (cache / "weights").iterdir()] == [Path(form.path).name]
    assert {trial.name: trial.difference for trial in form.trials}["bf16"] == pytest.approx(0.1)


def test_a_form_that_differs_too_much_is_not_taken_however_fast(
    machine: Callable[..., list[str]], model: str
) -> None:
    machine(original="100 0.5", plain="100 0.5", f32="200 0.0", f16="230 0.01", bf16="900 0.25")
    assert fastest_form(model).name == "f16"


def test_a_form_is_never_farther_from_the_weights_than_the_file(
    machine: Callable[..., list[str]], model: str
) -> None:
    machine(original="100 0.05", plain="100 0.05", f32="130 0.0", f16="100 0.0", bf16="900 0.15")
    assert fastest_form(model).name == "f32"


def test_a_child_that_crashes_or_talks_nonsense_is_survived(
    machine: Callable[..., list[str]], model: str, cache: Path
) -> None:
    machine(original="crash", plain="100 0.5", f32="150 0.0", f16="garbage", bf16="crash")
    form = fastest_form(model)
    assert (form.name, form.rearranged) == ("f32", False)
    assert {trial.name for trial in form.trials if trial.tokens_per_s == 0} == {"original", "f16", "bf16"}


def test_a_child_that_hangs_is_ended_and_progress_is_heard_meanwhile(
    machine: Callable[..., list[str]], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning._Trials, "patience", 1.5)
    machine(original="hang", plain="100 0.5", f32="100 0.0", f16="100 0.0", bf16="100 0.0")
    beats: list[int] = []
    form = fastest_form(model, lambda: beats.append(1))
    assert (form.name, form.rearranged) == ("original", False)
    assert len(beats) > 8


def test_where_nothing_works_the_file_is_used_as_it_is_and_nothing_remembered(
    machine: Callable[..., list[str]], model: str
) -> None:
    machine(original="crash", plain="crash")
    form = fastest_form(model)
    assert (form.path, form.name, form.threads) == (model, "original", physical_cores())
    assert known(model) is None


def test_a_remembered_form_is_not_tried_again_until_processor_library_or_weights_change(
    machine: Callable[..., list[str]], model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(f32="300 0.0")
    first = fastest_form(model)
    tried = machine()
    assert fastest_form(model) == first == known(model)
    moved = tmp_path / "elsewhere.gguf"
    moved.write_bytes(Path(model).read_bytes())
    assert fastest_form(str(moved)) == first
    assert machine() == tried
    for name, value in (("cpu", lambda: "another"), ("build", lambda: "newer")):
        with monkeypatch.context() as changed:
            changed.setattr(tuning, name, value)
            assert known(model) is None
            fastest_form(model)
        assert len(machine()) > len(tried)
        tried = machine()
    Path(model).write_bytes(b"GGUF" + bytes(101))
    assert known(model) is None
    fastest_form(model)
    assert len(machine()) > len(tried)


def test_a_copy_that_was_removed_is_made_again(machine: Callable[..., list[str]], model: str) -> None:
    machine(f32="300 0.0")
    form = fastest_form(model)
    Path(form.path).unlink()
    assert known(model) is None
    assert Path(fastest_form(model).path).is_file()


def test_a_form_that_is_asked_for_is_used_without_timing_others(
    machine: Callable[..., list[str]], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINNOW_WEIGHTS", "original")
    assert fastest_form(model).name == "original"
    assert machine() == []
    monkeypatch.setenv("WINNOW_WEIGHTS", "f16")
    assert fastest_form(model).name == "f16"
    assert fastest_form(model).name == "f16"
    assert machine() == ["f16"]


def test_what_is_announced_but_faults_is_found_out_even_when_nothing_else_is_timed(
    machine: Callable[..., list[str]], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "_risky", lambda: True)
    monkeypatch.setenv("WINNOW_WEIGHTS", "original")
    machine(original="crash")
    assert not fastest_form(model).rearranged
    assert not tuning.rearranging_works(model)
    assert machine() == ["original", "plain"]


def test_the_remains_of_a_conversion_that_was_killed_are_removed(
    machine: Callable[..., list[str]], model: str, cache: Path
) -> None:
    (cache / "weights").mkdir(parents=True)
    (cache / "weights" / "123.f32.part").write_bytes(b"half")
    machine()
    fastest_form(model)
    assert list((cache / "weights").iterdir()) == []


def test_a_damaged_memory_is_no_memory(machine: Callable[..., list[str]], model: str, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "tuning.json").write_bytes(b"\xff{")
    machine()
    assert fastest_form(model).name == "original"
    assert known(model) is not None


def test_a_file_that_is_not_there_is_left_to_whoever_loads_it(machine: Callable[..., list[str]]) -> None:
    assert fastest_form("/nowhere/model.gguf").path == "/nowhere/model.gguf"
    assert machine() == []


@given(st.dictionaries(st.sampled_from([1, 2, 4, 8]), st.floats(0.1, 1e4)), st.sampled_from([1, 2, 4]))
def test_the_number_of_threads_is_the_usual_one_or_clearly_faster(speeds: dict[int, float], usual: int) -> None:
    best = _best_threads(speeds, usual)
    assert best == usual or speeds[best] > 1.1 * speeds[usual]
    assert best in (usual, *speeds)


speeds = st.floats(0.0, 1e4)
offs = st.floats(0.0, 1.0)


@given(st.tuples(speeds, offs), st.lists(st.tuples(st.sampled_from(["f32", "f16", "bf16"]), speeds, offs)))
def test_what_is_chosen_is_exact_and_worth_it(
    own: tuple[float, float], copies: list[tuple[str, float, float]]
) -> None:
    def seen(name: str, speed: float, off: float) -> _Seen:
        off = 0.0 if name == "f32" else off
        measured = Measured({1: speed}, ((-0.5 + off, -1.0),)) if speed else None
        return _Seen(name, name, True, measured)

    original = seen("original", *own)
    tried = [seen(*copy) for copy in copies]
    best = _chosen(original, [original, *tried], "")
    if best is not original:
        exact = next(one.measured for one in tried if one.name == "f32")
        assert best.speed > original.speed * 1.1
        assert (best.difference(exact) or 0.0) <= min(BOUND, original.difference(exact) or 0.0) + 1e-12


def test_a_request_survives_the_way_to_the_child() -> None:
    request = Request('/a b/"ü".gguf', True, (1, 2))
    assert msgspec.json.decode(msgspec.json.encode(request), type=Request) == request
    assert msgspec.json.decode(msgspec.json.encode(Form("p", True, "f16", 2)), type=Form).name == "f16"
