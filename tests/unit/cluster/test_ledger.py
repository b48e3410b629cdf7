"""The ledger: durable, private, gapless, quick to open, and honest when it cannot write."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.cluster.ledger import Ledger, LedgerFailed, row_key
from tests.unit.cluster import examples
from workspace.errors import EngineError
from workspace.facts import Fact

BIG = 8 << 20
# The batch's positions, the rows of one message and what is selected from them.
ALLOWED_WALKS = {"j", "i", "incoming", "(subquery-3)"}


def read(ledger: Ledger, after: int = 0, limit: int = 10_000, max_bytes: int = BIG) -> list[Fact]:
    return [msgspec.msgpack.decode(body, type=Fact) for body in ledger.facts(after, limit, max_bytes)]


def filled(path: Path, count: int = 10) -> tuple[Ledger, int]:
    ledger = Ledger(path, "here")
    run = ledger.open_run(examples.spec()).number
    ledger.add_rows(run, examples.rows(count))
    return ledger, run


def test_facts_are_numbered_without_gaps_and_survive_reopening(tmp_path: Path) -> None:
    ledger, run = filled(tmp_path / "ledger.sqlite")
    rows = examples.rows(10)
    written = [(i, examples.fact(examples.spec(), rows[i][0])) for i in range(10)]
    assert ledger.append(run, 0, written[:4]) == 4
    assert ledger.append(run, 0, written[4:]) == 6
    before = read(ledger)
    author = ledger.author
    ledger.close()
    ledger = Ledger(tmp_path / "ledger.sqlite", "renamed")
    assert read(ledger) == before
    assert [fact.seq for fact in before] == list(range(10))
    assert {fact.author for fact in before} == {author} == {ledger.author}
    assert ledger.next_seq == 10
    assert ledger.answered(run, 0) == [(i, 0) for i in range(10)]
    ledger.close()


def test_a_row_is_answered_once(tmp_path: Path) -> None:
    ledger, run = filled(tmp_path / "ledger.sqlite")
    fact = examples.fact(examples.spec(), examples.rows(1)[0][0])
    assert ledger.append(run, 0, [(0, fact)]) == 1
    again = msgspec.structs.replace(fact, label="bad")
    assert ledger.append(run, 0, [(0, again), (1, again)]) == 1
    assert [(fact.seq, fact.label) for fact in read(ledger)] == [(0, "good"), (1, "bad")]
    ledger.close()


def test_pages_hold_whole_facts_up_to_a_size_and_at_least_one(tmp_path: Path) -> None:
    ledger, run = filled(tmp_path / "ledger.sqlite")
    ledger.append(run, 0, [(i, examples.fact(examples.spec(), "r" * 32)) for i in range(10)])
    assert len(read(ledger, max_bytes=1)) == 1
    assert [fact.seq for fact in read(ledger, after=3, limit=4)] == [3, 4, 5, 6]
    assert read(ledger, after=10) == []
    ledger.close()


@given(
    chunks=st.lists(st.lists(st.integers(0, 30), max_size=12), max_size=6),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_planned_once_in_order_of_arrival(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[list[int]]
) -> None:
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "l.sqlite")
    first, second = ledger.open_run(examples.spec()).number, ledger.open_run(examples.spec(prompt="q")).number
    pool = examples.rows(31)
    expected: list[tuple[str, str]] = []
    for chunk in chunks:
        rows = [pool[i] for i in chunk]
        expected += [row for row in dict.fromkeys(rows) if row not in expected]
        for run in (first, second):
            assert ledger.add_rows(run, rows)[0] == len(expected)
    for run in (first, second):
        assert ledger.texts(run, range(len(expected))) == expected
        assert ledger.texts(run, list(reversed(range(len(expected))))) == expected[::-1]
    ledger.close()


def test_a_done_run_that_grows_is_no_longer_done(tmp_path: Path) -> None:
    ledger, run = filled(tmp_path / "ledger.sqlite")
    ledger.set_state(run, "done")
    assert ledger.add_rows(run, examples.rows(10), "adding") == (10, "done", "")
    assert ledger.add_rows(run, examples.rows(11), "adding") == (11, "paused", "adding")
    ledger.close()
    ledger = Ledger(tmp_path / "ledger.sqlite")
    assert [(kept.state, kept.note, kept.rows) for kept in ledger.runs()] == [("paused", "adding", 11)]
    ledger.close()


def test_failed_rows_are_remembered(tmp_path: Path) -> None:
    ledger, run = filled(tmp_path / "ledger.sqlite")
    kinds = ["label", "error", "label", "error"]
    ledger.append(run, 0, [(i, examples.fact(examples.spec(), "r", kind=kind)) for i, kind in enumerate(kinds)])
    assert ledger.failed_rows(run) == [1, 3]
    ledger.close()


def test_the_row_key_tells_run_row_and_dimension_apart() -> None:
    run = examples.spec("mood", "short")
    facts = [examples.fact(run, row, name) for row in ("a", "b") for name in ("mood", "short")]
    assert len({row_key(fact) for fact in facts}) == 4
    assert row_key(facts[0]) == row_key(msgspec.structs.replace(facts[0], label="bad", seq=9))


def test_a_batch_is_looked_up_and_never_searched_for(tmp_path: Path) -> None:
    """Walking over all 100,000 rows of a run for each batch would take longer than the model does."""
    ledger, run = filled(tmp_path / "ledger.sqlite")
    asked: list[str] = []
    ledger._con.set_trace_callback(asked.append)
    ledger.texts(run, [3, 1])
    ledger.answered(run, 0)
    ledger.failed_rows(run)
    ledger.facts(0, 10, BIG)
    ledger.add_rows(run, examples.rows(3))
    ledger._con.set_trace_callback(None)
    plans = {
        sql: [step[3] for step in ledger._con.execute(f"explain query plan {sql}")]
        for sql in asked
        if sql.startswith(("select", "insert"))
    }
    assert len(plans) >= 6
    for sql, steps in plans.items():
        walked = [step for step in steps if step.startswith("SCAN") and step.split()[1] not in ALLOWED_WALKS]
        # Searching a run's rows by the run alone is a walk over all of them.
        walked += [step for step in steps if step.startswith("SEARCH p ") and step.endswith("(run=?)")]
        assert not walked, sql
    ledger.close()


@pytest.mark.skipif(os.name == "nt", reason="file modes are Unix")
def test_everything_is_for_the_owner_only(tmp_path: Path) -> None:
    ledger, _ = filled(tmp_path / "new" / "ledger.sqlite")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "new").iterdir()}
    assert "ledger.sqlite-wal" in modes
    assert set(modes.values()) == {0o600}
    ledger.close()


def test_a_write_that_fails_stops_the_ledger_for_good(tmp_path: Path) -> None:
    ledger, run = filled(tmp_path / "ledger.sqlite")
    facts = [(i, examples.fact(examples.spec(), "r")) for i in range(10)]
    ledger.append(run, 0, facts[:2])
    # The disk is full: no page more than the file has.
    ledger._con.execute("pragma max_page_count = 1")
    big = msgspec.structs.replace(facts[2][1], error="x" * 1_000_000)
    with pytest.raises(LedgerFailed, match="could not be written"):
        ledger.append(run, 0, [(2, big)])
    ledger._con.execute("pragma max_page_count = 1000000")
    for use in (lambda: ledger.append(run, 0, facts[3:4]), lambda: ledger.facts(0, 10, BIG), ledger.runs):
        with pytest.raises(LedgerFailed):
            use()
    assert ledger.next_seq == 2
    ledger.close()
    ledger = Ledger(tmp_path / "ledger.sqlite")
    assert [fact.seq for fact in read(ledger)] == [0, 1]
    assert ledger.append(run, 0, facts[3:4]) == 1
    ledger.close()


def test_a_damaged_or_newer_file_is_refused_in_words(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.sqlite"
    damaged.write_bytes(b"this is no ledger, it is a letter. " * 400)
    with pytest.raises(EngineError, match="could not be written"):
        Ledger(damaged)
    ledger = Ledger(tmp_path / "newer.sqlite")
    ledger._con.execute("pragma user_version = 99")
    ledger.close()
    with pytest.raises(EngineError, match="newer Winnow"):
        Ledger(tmp_path / "newer.sqlite")


KILLED = """
import os, signal, sys
from pathlib import Path
from engine.cluster.ledger import Ledger
from tests.unit.cluster import examples
ledger = Ledger(Path(sys.argv[1]))
run = ledger.open_run(examples.spec()).number
ledger.add_rows(run, examples.rows(1000))
for start in range(0, 1000, 10):
    ledger.append(run, 0, [(i, examples.fact(examples.spec(), str(i))) for i in range(start, start + 10)])
    print(start + 10, flush=True)
"""


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        acknowledged = 0
        for line in process.stdout:
            acknowledged = int(line)
            if acknowledged >= 200:
                process.kill()
    ledger = Ledger(path)
    facts = read(ledger)
    assert len(facts) >= acknowledged >= 200
    assert len(facts) % 10 == 0
    assert [fact.seq for fact in facts] == list(range(len(facts)))
    assert len(ledger.answered(1, 0)) == len(facts)
    ledger.close()
