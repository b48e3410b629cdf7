"""The ledger: durable, private, gapless, quick to open, and honest when it cannot write."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engine.cluster.entries import (
    BlockFound,
    Decided,
    Entry,
    Member,
    MemberRevoked,
    MemberSet,
    RowsPlanned,
    Sealed,
    StateSet,
    decode,
    encode,
    member_of,
)
from engine.cluster.ledger import MAX_ADDRESSES, Ledger, LedgerFailed, tag_of
from engine.cluster.messages import NOBODY, Epoch
from tests.unit.cluster.logs import ME, PEER, RUN, THIRD, Log, author, some_rows
from workspace.errors import EngineError

BIG = 8 << 20
MEMBER = Member(PEER, "k" * 40, "loft", 1)
# What is walked over: the ids that were asked for, and the two rows of a union.
ALLOWED_WALKS = {"j", "CONSTANT"}
same_folder = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def logs_of(ledger: Ledger) -> dict[str, list[Entry]]:
    return {name: ledger.read(name, 0, 1 << 40, 1 << 20) for name in ledger.vector()}


def story(count: int = 3, name: str = "", texts: int = 8) -> Log:
    """A log with a run, a block and `count` batches of answers to it."""
    log = Log(name or author())
    log.open()
    rows = some_rows(texts)
    block = log.plan(rows)
    for i in range(count):
        log.label((log.author, block.seq), rows, range(1 + i % texts))
    return log


def found(entries: Iterable[Entry | BlockFound]) -> list[BlockFound]:
    return [part for part in entries if isinstance(part, BlockFound)]


def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite", ME)
    log = story(3)
    blocks = ledger.write(log.entries)
    assert blocks == [BlockFound(RUN.run_id, (log.author, 1), 8, {})]
    for _ in range(2):
        assert ledger.vector() == {log.author: 8}
        assert list(ledger.replay()) == [log.entries[0], *blocks, *log.entries[2:]]
        assert ledger.read(log.author, 0, BIG) == log.entries
        mine, cluster = ledger.author, ledger.cluster
        ledger.close()
        ledger = Ledger(tmp_path / "l.sqlite", ME)
        assert (ledger.author, ledger.cluster) == (mine, cluster)
    assert member_of(ledger.author) == ME
    assert len(ledger.cluster) == 32
    ledger.close()


def test_pages_hold_whole_entries_up_to_a_size_and_at_least_one(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite", ME)
    log = story(5)
    ledger.write(log.entries)
    first, second = (len(entry.body) for entry in log.entries[:2])
    assert ledger.read(log.author, 0, 1) == log.entries[:1]
    assert ledger.read(log.author, 0, first + second) == log.entries[:2]
    assert ledger.read(log.author, 0, first + second - 1) == log.entries[:1]
    assert ledger.read(log.author, 1, BIG, limit=2) == log.entries[1:3]
    inside = next(entry for entry in log.entries if entry.count > 1)
    assert ledger.read(log.author, inside.seq + 1, BIG, limit=1) == [inside]
    assert ledger.read(log.author, log.end, BIG) == []
    assert ledger.read(author(THIRD), 0, BIG) == []
    ledger.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda log: log.entries[1:], "entry 1 leaves a gap, the log ends before 0"),
        (lambda log: [*log.entries[:3], log.entries[4]], "leaves a gap"),
        (
            lambda log: [*log.entries, msgspec.structs.replace(log.entries[4], seq=log.entries[4].seq + 1)],
            "divided",
        ),
        (lambda log: [*log.entries, msgspec.structs.replace(log.entries[4], count=1)], "divided otherwise"),
    ],
    ids=["no beginning", "hole", "inside an entry", "other length"],
)
@pytest.mark.parametrize("before", [0, 1])
def test_a_log_has_no_gaps_and_one_division(
    tmp_path: Path, change: Callable[[Log], list[Entry]], message: str, before: int
) -> None:
    """Whether the entries it does not follow lie on the disk or come in the same breath."""
    log, other = story(4), story(1, author(PEER))
    entries = change(log)
    ledger = Ledger(tmp_path / "l.sqlite", ME)
    if before:
        ledger.write(entries[:-1] if entries[0].seq == 0 else [])
    held = ledger.vector()
    with pytest.raises(ValueError, match=f"{log.author}: .*{message}"):
        ledger.write([*other.entries, *(entries[-1:] if before and entries[0].seq == 0 else entries)])
    assert ledger.vector() == held
    ledger.write([*log.entries, *other.entries])
    assert logs_of(ledger) == {log.author: log.entries, other.author: other.entries}
    ledger.close()


def test_the_first_entry_at_a_place_stays_whatever_is_said_later(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite", ME)
    log = story(2)
    ledger.write(log.entries)
    lie = msgspec.structs.replace(log.entries[0], body=encode(MemberRevoked(PEER, "loft")))
    assert ledger.write([lie, *log.entries]) == []
    assert ledger.read(log.author, 0, BIG) == log.entries
    ledger.close()


@pytest.mark.parametrize("body", [b"\x93\xa4rows\xa1r\x90", b"\x93\xa4rows\xa1\xff\x91\x93\xa1a\xa1b\xa1c"])
def test_rows_that_cannot_be_read_are_refused(tmp_path: Path, body: bytes) -> None:
    ledger = Ledger(tmp_path / "l.sqlite", ME)
    with pytest.raises(ValueError, match="entry 0 cannot be read"):
        ledger.write([Entry(author(), 0, 1, body)])
    assert ledger.vector() == {}
    ledger.close()


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Log], list[list[list[Entry]]]]:
    """Logs of three authors and two deliveries of all of them, cut and shuffled, some of it twice."""
    pool = some_rows(12)
    logs = [Log(author(member)) for member in (ME, PEER, THIRD)]
    for log in logs:
        for _ in range(draw(st.integers(0, 5))):
            run = draw(st.sampled_from(["run", "other"]))
            if draw(st.booleans()):
                log.plan(draw(st.lists(st.sampled_from(pool), min_size=1, max_size=6)), run)
            else:
                log.label((log.author, 0), pool, range(draw(st.integers(1, 4))))
    orders = []
    for _ in range(2):
        left = [list(log.entries) for log in logs]
        order: list[list[Entry]] = []
        while any(left):
            part: list[Entry] = []
            for _ in range(draw(st.integers(1, 4))):
                turn = draw(st.sampled_from([entries for entries in left if entries] or [[]]))
                part += [turn.pop(0)] if turn else []
            again = draw(st.sampled_from(logs))
            known = [e for done in order for e in done if e.author == again.author]
            order.append([*known[draw(st.integers(0, 3)) :], *part])
        orders.append(order)
    return logs, orders


@given(deliveries())
@same_folder
def test_the_union_is_the_same_in_whatever_order_it_comes(
    tmp_path_factory: pytest.TempPathFactory, told: tuple[list[Log], list[list[list[Entry]]]]
) -> None:
    logs, orders = told
    written = {log.author: log.entries for log in logs if log.entries}
    ends = {name: entries[-1].end for name, entries in written.items()}
    for order in orders:
        folder = tmp_path_factory.mktemp("ledger")
        ledger = Ledger(folder / "l.sqlite", ME)
        blocks = [block for part in order for block in ledger.write(part)]
        ledger.close()
        ledger = Ledger(folder / "l.sqlite", ME)
        assert ledger.vector() == ends
        assert logs_of(ledger) == written
        replayed = list(ledger.replay())
        assert found(replayed) == blocks
        for name, entries in written.items():
            rest = [part for part in replayed if isinstance(part, Entry) and part.author == name]
            assert rest == [entry for entry in entries if not isinstance(decode(entry.body), RowsPlanned)]
            assert ledger.audit(name, ends[name]) == summed(entries)
        check_places(ledger, written, blocks)
        ledger.close()
        shutil.rmtree(folder)


def check_places(ledger: Ledger, written: dict[str, list[Entry]], blocks: list[BlockFound]) -> None:
    """Each row of a run has one place, and every other place says which."""
    first: dict[tuple[str, str], tuple[tuple[str, int], int]] = {}
    for block in blocks:
        name, seq = block.block
        body = decode(next(entry.body for entry in written[name] if entry.seq == seq))
        assert isinstance(body, RowsPlanned)
        assert ledger.rows(block.block, range(block.count)) == list(body.rows)
        elsewhere = {}
        for at, row in enumerate(body.rows):
            place = first.setdefault((body.run_id, row[0]), (block.block, at))
            if place != (block.block, at):
                elsewhere[at] = place
        assert block.elsewhere == elsewhere
    for run_id in ("run", "other", "unknown"):
        pool = some_rows(14)
        missing = [row for row in pool if (run_id, row[0]) not in first]
        assert ledger.unplanned(run_id, [*pool, *pool]) == missing


def summed(entries: Iterable[Entry]) -> tuple[int, bytes]:
    total = count = 0
    for entry in entries:
        raw = entry.seq.to_bytes(8, "big") + entry.count.to_bytes(8, "big") + entry.body
        total += int.from_bytes(hashlib.blake2b(raw, digest_size=16).digest(), "big")
        count += 1
    return count, (total % (1 << 128)).to_bytes(16, "big")


def test_an_audit_covers_the_entries_before_an_end_and_goes_on_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.cluster.ledger.AUDIT_STEP", 4)
    ledger = Ledger(tmp_path / "l.sqlite", ME)
    log = story(40)
    ledger.write(log.entries[:20])
    for entries in (log.entries[:20], log.entries):
        ledger.write(entries)
        for known in (len(entries), 7, 0, len(entries) // 2):
            end = entries[known - 1].end if known else 0
            assert ledger.audit(log.author, end) == summed(entries[:known])
    inside = next(entry for entry in log.entries if entry.count > 1)
    assert ledger.audit(log.author, inside.end - 1)[0] == log.entries.index(inside)
    assert ledger.audit(author(THIRD), 5) == (0, bytes(16))
    ledger.close()


def test_an_audit_sees_a_changed_byte(tmp_path: Path) -> None:
    log = story(3)
    ledger = Ledger(tmp_path / "l.sqlite", ME)
    ledger.write(log.entries)
    changed = log.entries[3].body[:-1] + b"\x01"
    ledger._con.execute("update entry set body = ? where number = 4", [changed])
    assert ledger.audit(log.author, log.end)[0] == summed(log.entries)[0]
    assert ledger.audit(log.author, log.end) != summed(log.entries)
    ledger.close()


def test_rows_come_in_the_order_asked_and_unknown_blocks_are_said_so(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite", ME)
    log, rows = Log(author()), some_rows(30)
    for i in range(10):  # more than are remembered
        log.plan(rows[3 * i : 3 * i + 3])
    ledger.write(log.entries)
    for _ in range(2):
        for i in range(10):
            expected = [rows[3 * i + 2], rows[3 * i], rows[3 * i + 2]]
            assert ledger.rows((log.author, i), (2, 0, 2)) == expected
    for block, place in [((log.author, 10), 0), ((author(THIRD), 0), 0), ((log.author, 0), 3)]:
        with pytest.raises(LookupError):
            ledger.rows(block, [place])
    ledger.close()


def test_starting_reads_no_texts(tmp_path: Path) -> None:
    """Proven by a file whose texts cannot be read any more: a start does not notice."""
    path = tmp_path / "l.sqlite"
    ledger = Ledger(path, ME)
    log = story(2, texts=1)
    log.plan([("f" * 32, "x" * 100_000, "")])
    ledger.write(log.entries)
    page = ledger._con.execute("pragma page_size").fetchone()[0]
    ledger.close()
    raw = bytearray(path.read_bytes())
    holding = [at for at in range(0, len(raw), page) if raw[at + 4 : at + page] == b"x" * (page - 4)]
    assert len(holding) > 20
    for at in holding:
        raw[at : at + 4] = b"\xff\xff\xff\xff"  # where the text goes on: nowhere
    path.write_bytes(raw)
    ledger = Ledger(path, ME)
    assert len(list(ledger.replay())) == len(log.entries)
    assert ledger.vector() == {log.author: log.end}
    with pytest.raises(LedgerFailed):
        ledger.rows((log.author, log.end - 1), [0])
    ledger.close()


def test_the_highest_epoch_is_kept(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite", ME)
    assert ledger.epoch_max == NOBODY
    log = story(1)
    ledger.write([], Epoch(3, "b"))
    ledger.write(log.entries, Epoch(2, "z"))
    assert ledger.epoch_max == Epoch(3, "b")
    with pytest.raises(ValueError, match="gap"):
        ledger.write([Entry(author(PEER), 1, 1, b"")], Epoch(9, "b"))
    ledger.write([], Epoch(3, "c"))
    ledger.close()
    ledger = Ledger(tmp_path / "l.sqlite", ME)
    assert ledger.epoch_max == Epoch(3, "c")
    ledger.close()


def test_a_cluster_is_joined_before_anybody_else_is_known(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite", ME)
    mine = Log(ledger.author)
    mine.add(MemberSet(msgspec.structs.replace(MEMBER, id=ME, rank=0), 1))
    ledger.write(mine.entries)
    ledger.join("c" * 32)
    ledger.close()
    ledger = Ledger(tmp_path / "l.sqlite", ME)
    assert ledger.cluster == "c" * 32
    mine.add(MemberSet(MEMBER, 2))
    ledger.write(mine.entries)
    ledger.join("c" * 32)
    with pytest.raises(EngineError, match="another cluster"):
        ledger.join("d" * 32)
    assert ledger.cluster == "c" * 32
    ledger.close()


def test_a_ledger_with_logs_of_others_joins_no_other_cluster(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite", ME)
    ledger.write(story(1, author(PEER)).entries)
    with pytest.raises(EngineError, match="another cluster"):
        ledger.join("d" * 32)
    ledger.close()


def test_another_identity_is_another_author_and_keeps_the_logs(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite", ME)
    log = story(2, ledger.author)
    ledger.write(log.entries)
    ledger.close()
    ledger = Ledger(tmp_path / "l.sqlite", PEER)
    assert member_of(ledger.author) == PEER
    assert logs_of(ledger) == {log.author: log.entries}
    again = ledger.author
    ledger.close()
    ledger = Ledger(tmp_path / "l.sqlite", PEER)
    assert ledger.author == again
    ledger.close()


def test_a_copied_ledger_never_writes_on_in_the_log_of_the_first(tmp_path: Path) -> None:
    """Two files that number on alike would give two facts one name."""
    ledger = Ledger(tmp_path / "l.sqlite", ME)
    log = story(2, ledger.author)
    ledger.write(log.entries)
    ledger.close()
    shutil.copy(tmp_path / "l.sqlite", tmp_path / "copy.sqlite")
    copy = Ledger(tmp_path / "copy.sqlite", ME)
    assert copy.author != log.author
    assert member_of(copy.author) == ME
    assert logs_of(copy) == {log.author: log.entries}
    copy.close()
    os.rename(tmp_path / "l.sqlite", tmp_path / "moved.sqlite")
    ledger = Ledger(tmp_path / "moved.sqlite", ME)
    assert ledger.author == log.author
    ledger.close()


def test_a_machine_set_back_begins_another_log(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite", ME)
    log = story(2, ledger.author)
    ledger.write(log.entries)
    fresh = ledger.new_log()
    assert fresh == ledger.author != log.author
    assert member_of(fresh) == ME
    ledger.close()
    ledger = Ledger(tmp_path / "l.sqlite", ME)
    assert ledger.author == fresh
    assert logs_of(ledger) == {log.author: log.entries}
    ledger.close()


def test_what_this_machine_alone_knows_is_kept(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite", ME)
    assert ledger.setting("name") == ""
    ledger.set_setting("name", "desk")
    ledger.set_setting("name", "loft")
    for path in ("/a", "/b", "/b"):
        ledger.remember_model("d" * 32, path)
    for i in range(MAX_ADDRESSES + 4):
        ledger.remember_address(PEER, f"10.0.0.{i}:47000")
    for address in ("10.0.0.8:47000", "10.0.0.9:47000", "10.0.0.9:47000"):
        ledger.remember_address(PEER, address)
    ledger.remember_address(THIRD, "10.0.1.1:47000")
    ledger.close()
    ledger = Ledger(tmp_path / "l.sqlite", ME)
    assert ledger.setting("name") == "loft"
    assert ledger.models() == {"d" * 32: "/b"}
    latest = [9, 8, *(i for i in range(MAX_ADDRESSES + 3, 3, -1) if i not in (8, 9))]
    assert ledger.addresses() == {
        PEER: [f"10.0.0.{i}:47000" for i in latest],
        THIRD: ["10.0.1.1:47000"],
    }
    assert ledger.vector() == {}
    ledger.close()


@pytest.mark.parametrize(
    ("body", "tag"),
    [
        (RowsPlanned("r", (("a", "b", ""),)), "rows"),
        (StateSet("r", "running", "", 1), "state"),
        (Decided("t", "d", "r", "", "good", True, "{}", 1), "human"),
        (MemberSet(MEMBER, 1), "member"),
        (MemberRevoked(PEER, "loft"), "revoke"),
        (Sealed("r", {}), "seal"),
        (decode(story(1).entries[0].body), "run"),
        (decode(story(1).entries[2].body), "label"),
    ],
)
def test_the_kind_of_an_entry_is_seen_however_it_is_written(body: object, tag: str) -> None:
    raw = msgspec.msgpack.encode(body)
    assert tag_of(raw) == tag
    long_array = b"\xdc\x00" + bytes([raw[0] & 0x0F]) + raw[1:]
    long_word = raw[:1] + b"\xd9" + bytes([len(tag)]) + raw[2:]
    for unusual in (long_array, long_word):
        assert decode(unusual) == body
        assert tag_of(unusual) == tag


@given(st.binary(max_size=12))
@example(b"\x91" * 100_000)
def test_bytes_that_are_no_entry_have_no_kind_that_matters(raw: bytes) -> None:
    assert isinstance(tag_of(raw), str)


def test_nothing_that_happens_often_walks_over_the_ledger(tmp_path: Path) -> None:
    """Walking over all 100,000 rows of a run for each batch would take longer than the model does."""
    ledger = Ledger(tmp_path / "l.sqlite", ME)
    log = story(4)
    asked: list[str] = []
    ledger.write(log.entries[:2])
    ledger._con.set_trace_callback(asked.append)
    log.plan(some_rows(10))  # of which 8 are planned already
    ledger.write(log.entries)
    ledger.rows((log.author, 1), [3, 1])
    ledger.unplanned(RUN.run_id, some_rows(9))
    ledger.read(log.author, 3, BIG)
    ledger.audit(log.author, log.end)
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
        assert not walked, (sql, steps)
    ledger.close()


@pytest.mark.skipif(os.name == "nt", reason="file modes are Unix")
def test_everything_is_for_the_owner_only(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "new" / "ledger.sqlite", ME)
    ledger.write(story(1).entries)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "new").iterdir()}
    assert "ledger.sqlite-wal" in modes
    assert set(modes.values()) == {0o600}
    ledger.close()


def test_a_write_that_fails_stops_the_ledger_for_good(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite", ME)
    log = story(2)
    ledger.write(log.entries)
    big = Log(author(PEER))
    big.plan([("a" * 32, "x" * 1_000_000, "")])
    # The disk is full: no page more than the file has.
    ledger._con.execute("pragma max_page_count = 1")
    with pytest.raises(LedgerFailed, match="could not be written"):
        ledger.write(big.entries, Epoch(5, "b"))
    ledger._con.execute("pragma max_page_count = 1000000")
    for use in (
        lambda: ledger.write(big.entries),
        lambda: ledger.write([]),
        lambda: ledger.read(log.author, 0, BIG),
        lambda: list(ledger.replay()),
        lambda: ledger.rows((log.author, 1), [0]),
        lambda: ledger.unplanned(RUN.run_id, some_rows(1)),
        lambda: ledger.set_setting("name", "desk"),
        ledger.models,
    ):
        with pytest.raises(LedgerFailed):
            use()
    assert (ledger.vector(), ledger.epoch_max) == ({log.author: log.end}, NOBODY)
    ledger.close()
    ledger = Ledger(tmp_path / "l.sqlite", ME)
    assert (logs_of(ledger), ledger.epoch_max) == ({log.author: log.entries}, NOBODY)
    ledger.write(big.entries)
    ledger.close()


def test_a_damaged_or_foreign_file_is_refused_in_words(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.sqlite"
    damaged.write_bytes(b"this is no ledger, it is a letter. " * 400)
    with pytest.raises(LedgerFailed, match="could not be written"):
        Ledger(damaged, ME)
    ledger = Ledger(tmp_path / "newer.sqlite", ME)
    ledger._con.execute("pragma user_version = 99")
    ledger.close()
    with pytest.raises(EngineError, match="another version of Winnow"):
        Ledger(tmp_path / "newer.sqlite", ME)


KILLED = """
import sys
from pathlib import Path
from engine.cluster.ledger import Ledger
from engine.cluster.messages import Epoch
from tests.unit.cluster.test_ledger import long_story
ledger = Ledger(Path(sys.argv[1]), "1" * 32)
for number, part in enumerate(long_story()):
    ledger.write(part, Epoch(number, "b"))
    print(number, flush=True)
"""


def long_story() -> list[list[Entry]]:
    """Writes of two authors, several entries each."""
    logs, rows = [Log(author()), Log(author(PEER))], some_rows(500)
    parts = []
    for i in range(400):
        part = []
        for log in logs:
            block = log.plan(rows[i : i + 4], "run")
            part += [block, log.label((log.author, block.seq), rows[i : i + 4], range(4))]
        parts.append(part)
    return parts


def test_what_was_acknowledged_survives_a_kill_and_half_a_write_does_not(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        acknowledged = -1
        for line in process.stdout:
            acknowledged = int(line)
            if acknowledged >= 60:
                process.kill()
    ledger = Ledger(path, ME)
    parts = long_story()
    number = ledger.epoch_max.number
    assert 60 <= acknowledged <= number < 399
    expected: dict[str, list[Entry]] = {}
    for entry in (entry for part in parts[: number + 1] for entry in part):
        expected.setdefault(entry.author, []).append(entry)
    assert logs_of(ledger) == expected
    check_places(ledger, expected, found(ledger.replay()))
    ledger.write([entry for part in parts for entry in part])  # and goes on where it was
    ledger.close()
