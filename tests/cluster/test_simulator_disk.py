"""The simulator's disk keeps the rules of the real ledger: the same writes lead to the same answers."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.cluster.entries import BlockFound, Entry, RowsPlanned, StateSet, encode
from engine.cluster.ledger import Ledger
from engine.cluster.messages import Epoch
from engine.cluster.testing.disk import Disk

MEMBER = "a" * 32
AUTHORS = [f"{MEMBER}.{'1' * 16}", f"{'b' * 32}.{'2' * 16}"]
ROWS = [(f"row-{i}", "text", "") for i in range(5)]

blocks = st.builds(
    lambda run, rows: RowsPlanned(run, tuple(rows)),
    st.sampled_from(["run-0", "run-1"]),
    st.lists(st.sampled_from(ROWS), min_size=1, max_size=6),  # a row may be there twice
)
states = st.builds(
    StateSet, st.just("run-0"), st.sampled_from(["running", "paused"]), st.just(""), st.integers(1, 9)
)
# Where an entry begins, counted from the end of its log: 0 joins on, -1 is there already, 1 leaves a gap.
writes = st.lists(
    st.tuples(
        st.lists(
            st.tuples(st.sampled_from(AUTHORS), st.sampled_from([0, 0, 0, 0, -1, 1]), st.one_of(blocks, states)),
            max_size=4,
        ),
        st.one_of(st.none(), st.builds(Epoch, st.integers(1, 3), st.sampled_from(AUTHORS))),
    ),
    max_size=6,
)


def written(ledger: Ledger | Disk, entries: list[Entry], epoch: Epoch | None) -> list[BlockFound] | str:
    try:
        return ledger.write(entries, epoch)
    except ValueError:
        return "refused"


@settings(max_examples=60)
@given(writes)
def test_the_same_writes_lead_to_the_same_answers(
    steps: list[tuple[list[tuple[str, int, RowsPlanned | StateSet]], Epoch | None]],
) -> None:
    with TemporaryDirectory() as folder:
        ledger, disk = Ledger(Path(folder) / "ledger.sqlite", MEMBER), Disk(AUTHORS[0], "")
        for said, epoch in steps:
            ends = dict(disk.ends)
            entries = []
            for author, place, body in said:
                seq = max(0, ends.get(author, 0) + place)
                entries.append(Entry(author, seq, 1, encode(body)))
                ends[author] = max(ends.get(author, 0), seq + 1)
            assert written(disk, entries, epoch) == written(ledger, entries, epoch)
            assert disk.ends == ledger.vector()
            assert disk.epoch_max == ledger.epoch_max
        assert list(disk.replay()) == list(ledger.replay())
        for author in AUTHORS:
            assert disk.read(author, 0, 3) == ledger.read(author, 0, 1 << 20, 3)
        for run in ("run-0", "run-1"):
            assert disk.unplanned(run, ROWS) == ledger.unplanned(run, ROWS)
        for found in disk.replay():
            if isinstance(found, BlockFound):
                at = range(found.count)
                assert disk.rows(found.block, at) == ledger.rows(found.block, at)
        ledger.close()
