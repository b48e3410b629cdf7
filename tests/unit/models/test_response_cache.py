"""Answers that were computed before: the same ones, marked, and never more than a saving of time."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.labeler import Answer, LoadedModel, Progress
from engine.models import response_cache
from engine.models.catalog import user_cache
from engine.models.embedding_labeler import EmbeddingLabeler
from engine.models.opening import open_labeler
from engine.models.response_cache import CACHED, Answers, Cached, key_of, question_of
from tests.unit.models.examples import ROWS, TOPIC, run_of, task_of
from workspace.facts import ModelSpec, RunSpec, Settings

MODEL = ModelSpec("llama_cpp", "likeness", "", "d1" * 16)
SPEC = run_of(task_of(), MODEL)


class Watched:
    """A real labeler that remembers what it was asked; rows with "broken" in them fail."""

    def __init__(self, spec: RunSpec = SPEC) -> None:
        self._inner = EmbeddingLabeler(spec.dimensions)
        self.asked: list[str] = []
        self.closed = False

    @property
    def loaded(self) -> LoadedModel:
        return self._inner.loaded

    def ask(self, rows: Sequence[str], progress: Progress | None = None) -> list[tuple[Answer, ...]]:
        self.asked += rows
        found = self._inner.ask(rows, progress)
        wrong = Answer((), 7, 3, 0.5, error="The server failed.")
        return [
            (wrong, *answers[1:]) if "broken" in row else answers for row, answers in zip(rows, found, strict=True)
        ]

    def close(self) -> None:
        self.closed = True


def test_a_row_is_computed_once_and_its_answer_marked_afterwards() -> None:
    inner, heard = Watched(), list[int]()
    labeler = Cached(inner, SPEC)
    first = labeler.ask(ROWS[:3])
    again = labeler.ask([*ROWS, ROWS[0]], heard.append)
    assert inner.asked == list(ROWS)
    assert heard == [4, 6]  # four were known
    assert [len(row) for row in again] == [3] * 6
    for row, known in zip(first, again, strict=False):
        for answer, hit in zip(row, known, strict=True):
            assert hit.logprobs == answer.logprobs
            assert hit.warnings == (*answer.warnings, CACHED)
            assert (hit.seconds, hit.prompt_tokens, hit.completion_tokens) == (0, 0, 0)
    assert again[5] == again[0]
    assert all(CACHED not in answer.warnings for answer in again[3])
    labeler.close()
    assert inner.closed


def test_another_process_of_the_same_user_finds_it_too() -> None:
    one = Cached(Watched(), SPEC)
    one.ask(ROWS)
    one.close()
    inner = Watched()
    other = Cached(inner, SPEC)
    assert all(CACHED in answer.warnings for row in other.ask(ROWS) for answer in row)
    assert inner.asked == []
    other.close()


@pytest.mark.parametrize(
    "changed",
    [
        {"model": msgspec.structs.replace(MODEL, digest="d2" * 16)},
        {"settings": Settings(samples=3)},
        {"settings": Settings(temperature=0.7)},
        {"dimensions": SPEC.dimensions[:1]},
        {"dimensions": (msgspec.structs.replace(SPEC.dimensions[0], system="Otherwise."), *SPEC.dimensions[1:])},
        {"dimensions": (msgspec.structs.replace(SPEC.dimensions[0], phrasings=("plain",)), *SPEC.dimensions[1:])},
    ],
)
def test_whatever_changes_the_answer_changes_the_key(changed: dict[str, object]) -> None:
    loaded = Watched().loaded
    other = msgspec.structs.replace(SPEC, **changed)
    assert question_of(other, loaded) != question_of(SPEC, loaded)
    assert question_of(SPEC, msgspec.structs.replace(loaded, build="newer")) != question_of(SPEC, loaded)


def test_what_does_not_change_the_answer_does_not_change_the_key() -> None:
    loaded = Watched().loaded
    other = msgspec.structs.replace(SPEC, run_id="another", settings=Settings(timeout=5.0, budget=1.0))
    assert question_of(other, loaded) == question_of(SPEC, loaded)


def test_errors_are_asked_again() -> None:
    inner = Watched()
    labeler = Cached(inner, SPEC)
    for _ in range(2):
        (row,) = labeler.ask(["a broken one"])
        assert row[0].error
    assert inner.asked == ["a broken one"] * 2
    labeler.close()


def test_it_can_be_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(response_cache.SWITCH)
    assert response_cache.wanted(SPEC)
    assert not response_cache.wanted(msgspec.structs.replace(SPEC, settings=Settings(cache=False)))
    assert not response_cache.wanted(msgspec.structs.replace(SPEC, model=ModelSpec("embedding", "", "", "")))
    monkeypatch.setenv(response_cache.SWITCH, "off")
    assert not response_cache.wanted(SPEC)


def test_a_run_on_the_embedded_model_is_opened_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.models import catalog

    monkeypatch.delenv(response_cache.SWITCH)
    spec = run_of(task_of(TOPIC), catalog.embedded())
    labeler = open_labeler(spec)
    for expected in (False, True):
        ((answer,),) = labeler.ask(ROWS[:1])
        assert (CACHED in answer.warnings) is expected
    labeler.close()


def test_no_text_is_in_the_file_and_nobody_else_may_read_it() -> None:
    secret = "my neighbour's diagnosis 4711"
    labeler = Cached(Watched(), SPEC)
    labeler.ask([secret])
    files = sorted(user_cache().glob("answers.sqlite*"))
    assert len(files) == 3  # with its journals, while it is open
    for file in files:
        assert secret.encode() not in file.read_bytes()
        if sys.platform != "win32":
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
    labeler.close()


def test_a_damaged_file_is_set_aside_and_begun_anew(tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    file.write_bytes(b"this is no database" * 1000)
    for expected in (False, True):
        labeler = Cached(Watched(), SPEC, file)
        assert (CACHED in labeler.ask(ROWS)[0][0].warnings) is expected
        labeler.close()
    assert (tmp_path / "answers.sqlite.damaged").read_bytes().startswith(b"this is no database")


def test_pages_overwritten_under_it_cost_a_computation(tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    answers = Answers(file)
    kept = {key_of(b"q", f"row {n}"): (Answer((-0.1, -2.0), 1, 0, 0.1),) for n in range(2000)}
    answers.put(kept)
    answers.close()
    raw = bytearray(file.read_bytes())
    raw[4096 : len(raw) : 7] = b"\xa5" * len(range(4096, len(raw), 7))
    file.write_bytes(raw)
    for _ in range(2):  # found out, and begun anew
        damaged = Answers(file)
        found = damaged.get(list(kept))
        assert all(kept[key] == value for key, value in found.items())
        damaged.put(kept)
        damaged.close()
    healed = Answers(file)
    assert healed.get(list(kept)) == kept
    healed.close()


def test_a_value_that_was_changed_is_not_an_answer(tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    key = key_of(b"q", "row")
    answers = Answers(file)
    answers.put({key: (Answer((-0.1, -2.0), 1, 0, 0.1),)})
    with sqlite3.connect(file) as con:
        (value,) = con.execute("select value from answers").fetchone()
        con.execute("update answers set value = ?", (value[:-1] + b"\x00",))
    con.close()
    assert answers.get([key]) == {}
    answers.close()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="a folder nobody may write in is for root a file")
def test_where_nothing_can_be_written_every_row_is_computed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    inner = Watched()
    labeler = Cached(inner, SPEC, tmp_path / "file" / "answers.sqlite")
    for _ in range(2):
        assert CACHED not in labeler.ask(ROWS[:1])[0][0].warnings
    assert len(inner.asked) == 2
    labeler.close()


def test_a_full_disk_costs_only_the_keeping(tmp_path: Path) -> None:
    answers = Answers(tmp_path / "answers.sqlite")
    assert answers._con is not None
    answers._con.execute("pragma max_page_count = 8")
    answers.put({key_of(b"q", str(n)): (Answer((-1.0,) * 50, 0, 0, 0.0),) for n in range(500)})
    assert answers.get([key_of(b"q", "1")]) == {}
    answers.put({key_of(b"q", "1"): (Answer((-1.0,), 0, 0, 0.0),)})
    assert list(answers.get([key_of(b"q", "1")])) == [key_of(b"q", "1")]
    answers.close()


def test_it_stays_within_its_bound_by_forgetting_what_was_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1_000_000.0]
    monkeypatch.setattr("time.time", lambda: clock[0])
    most = 400_000
    answers = Answers(tmp_path / "answers.sqlite", most)
    favourite = key_of(b"q", "favourite")
    answers.put({favourite: (Answer((-1.0,) * 20, 0, 0, 0.0),)})
    for turn in range(40):
        clock[0] += 4000
        answers.put({key_of(b"q", f"{turn} {n}"): (Answer((-1.0,) * 20, 0, 0, 0.0),) for n in range(100)})
        assert answers._bytes() <= most
        assert favourite in answers.get([favourite])
    assert answers.get([key_of(b"q", "0 0")]) == {}
    assert len(answers.get([key_of(b"q", f"39 {n}") for n in range(100)])) == 100
    answers.close()
    assert (tmp_path / "answers.sqlite").stat().st_size <= most * 1.5


def test_several_may_write_at_once(tmp_path: Path) -> None:
    def work(number: int) -> int:
        answers = Answers(tmp_path / "answers.sqlite")
        for turn in range(10):
            answers.put({key_of(b"q", f"{number} {turn} {n}"): (Answer((-1.0,), 0, 0, 0.0),) for n in range(20)})
        found = answers.get([key_of(b"q", f"{number} {turn} {n}") for turn in range(10) for n in range(20)])
        answers.close()
        return len(found)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [200] * 4


texts = st.lists(st.text(st.characters(), max_size=8), max_size=6)


@settings(max_examples=25)
@given(st.lists(texts, max_size=4))
def test_with_it_or_without_the_answers_are_the_same(batches: list[list[str]]) -> None:
    spec = run_of(task_of(TOPIC), MODEL)
    plain = EmbeddingLabeler(spec.dimensions)
    cached = Cached(Watched(spec), spec)
    for rows in batches:
        for (expected,), (found,) in zip(plain.ask(rows), cached.ask(rows), strict=True):
            assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-5)
    cached.close()
