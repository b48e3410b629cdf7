"""What a leader grants, and what becomes of claims: batch sizes, turns, poison, backups, affinity, leases."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.cluster.blocks import owner_of
from engine.cluster.claims import GIVE_UP_ROWS, POISON_AFTER, TURN, Granted
from engine.cluster.entries import BLOCK_ROWS, ENTRY_BYTES, MemberSet, StateSet
from engine.cluster.messages import Epoch, Grant, Work
from engine.cluster.pace import BATCH_SECONDS, FIRST_BATCH, LARGEST_BATCH
from engine.cluster.plan import ERROR
from tests.unit.cluster.cores import Cores, with_digest
from tests.unit.cluster.examples import dimension, spec


def labeling(rows: int, *names: str, count: int = 1, batch: int = 0, per_block: int = BLOCK_ROWS) -> Cores:
    """Machines with a running run, the first of them leading, everybody holding claims."""
    cores = Cores(count, batch=batch)
    cores.until(lambda: cores.first.is_leader)
    cores.open_run(spec(*names), rows, per_block=per_block)
    cores.until(lambda: all(cores.claims.values()))
    return cores


def test_a_single_machine_labels_everything_once() -> None:
    cores = labeling(1200, "mood", "tone")
    asked: Counter[tuple[int, int]] = Counter()
    while cores.claims[cores.first.me]:
        work = cores.answer().work
        asked.update((work.block[1], place) for place in work.at)
    assert cores.progress().state == "done"
    assert (len(asked), max(asked.values())) == (1200, 1)


def test_a_deadly_row_is_the_only_one_given_up() -> None:
    cores = labeling(100)
    while cores.claims[cores.first.me]:
        if 3 in cores.claims[cores.first.me][0].work.at:
            alone = cores.fail().work.at
        else:
            cores.answer()
    assert alone == (3,)
    assert (cores.progress().failed, cores.progress().done) == (1, 100)


def test_a_batch_that_killed_the_worker_twice_is_split() -> None:
    cores = labeling(8)
    sizes = [len(cores.fail().work.at) for _ in range(6)]
    assert sizes == [8, 8, 4, 4, 2, 2]


def test_a_worker_that_dies_on_every_row_pauses_the_run() -> None:
    cores = labeling(100)
    while cores.progress().state == "running":
        cores.fail()
    assert cores.progress().failed == GIVE_UP_ROWS
    assert "one row after the other" in cores.progress().note


def test_a_row_is_poison_only_when_it_killed_workers_of_two_machines() -> None:
    cores = Cores(2)
    cores.until(lambda: cores.first.is_leader)
    cores.open_run(spec(), 1)
    cores.until(lambda: any(cores.claims.values()))
    (holder,) = (number for number in (0, 1) if cores.claims[cores.ids[number]])
    for _ in range(POISON_AFTER):
        cores.fail(holder)
        cores.pass_time(1.0)
        assert cores.progress().failed == 0
        if cores.claims[cores.ids[1 - holder]]:
            break
    assert cores.claims[cores.ids[1 - holder]], "the other machine has to try it too"
    cores.fail(1 - holder)
    cores.until(lambda: cores.progress().state == "done")
    assert cores.progress().failed == 1


def test_batches_grow_to_the_wanted_time() -> None:
    cores = labeling(10_000)
    sizes = []
    for _ in range(8):
        rows = len(cores.claims[cores.first.me][0].work.at)
        sizes.append(rows)
        cores.answer(seconds=rows / 40)
    assert sizes[0] == FIRST_BATCH
    assert sizes[-1] == 40 * BATCH_SECONDS


@pytest.mark.parametrize(("seconds_per_row", "smallest"), [(2.0, FIRST_BATCH), (30.0, 1)])
def test_only_a_very_slow_model_gets_batches_below_the_first(seconds_per_row: float, smallest: int) -> None:
    cores = labeling(1000)
    for _ in range(8):
        claim = cores.answer(seconds=len(cores.claims[cores.first.me][0].work.at) * seconds_per_row)
    assert len(claim.work.at) == smallest


def test_a_machine_gets_no_larger_claims_than_it_wishes() -> None:
    cores = labeling(2000, batch=16)
    sizes = [len(cores.answer(seconds=0.001).work.at) for _ in range(10)]
    assert set(sizes[2:]) == {16}


def test_blocks_are_worked_off_one_after_the_other() -> None:
    cores = labeling(2 * BLOCK_ROWS + 10, "mood", "tone")
    order = []
    while cores.claims[cores.first.me]:
        order.append(cores.answer().work.block[1])
    assert order == sorted(order)


def test_a_claim_has_no_more_rows_than_its_answers_have_room_for() -> None:
    cores = Cores(1)
    cores.until(lambda: cores.first.is_leader)
    wide = dimension("topic", tuple(f"topic {number}" for number in range(1000)))
    run = msgspec.structs.replace(
        spec(), dimensions=(wide, msgspec.structs.replace(wide, phrasings=("words", "plain", "letters")))
    )
    cores.open_run(run, 2000)
    sizes = [len(cores.answer(seconds=0.001).work.at) for _ in range(10)]
    assert max(sizes) == ENTRY_BYTES // (9 * 5 * 1000)


def test_runs_of_one_model_take_turns() -> None:
    cores = labeling(10_000)
    cores.open_run(spec("mood", prompt="another"), 10_000)
    seen = [cores.answer().work.run_id for _ in range(3 * TURN)]
    changes = [n for n in range(1, len(seen)) if seen[n] != seen[n - 1]]
    assert changes
    assert all(later - sooner == TURN for sooner, later in pairwise(changes))


def test_time_left_follows_the_measured_rate() -> None:
    cores = labeling(1000, "mood", "tone")
    assert cores.progress().seconds_left is None
    for _ in range(20):
        cores.answer(seconds=len(cores.claims[cores.first.me][0].work.at) / 20)
    shown = cores.progress()
    assert shown.rows_per_s == 20.0
    left = cores.first.plan.runs[shown.run_id].left
    assert shown.seconds_left == pytest.approx(left / 20, abs=0.1)


def test_a_done_run_that_grows_goes_on() -> None:
    cores = labeling(8)
    cores.answer()
    assert cores.progress().state == "done"
    cores.open_run(spec(), 5)
    cores.pass_time(1.0)
    cores.answer()
    assert (cores.progress().state, cores.progress().rows) == ("done", 13)


def test_machines_share_the_work_and_no_row_is_done_twice() -> None:
    cores = labeling(3000, count=3, per_block=100)
    asked: Counter[tuple[int, int]] = Counter()
    machines: Counter[int] = Counter()
    while cores.progress().state == "running":
        for number, member in enumerate(cores.ids):
            if cores.claims[member]:
                work = cores.answer(number, seconds=1.0).work
                machines[number] += len(work.at)
                asked.update((work.block[1], place) for place in work.at)
        cores.pass_time(0.1)
    assert (len(asked), max(asked.values())) == (3000, 1)
    assert min(machines.values()) > 700
    assert len({cores.progress(number).done for number in range(3)}) == 1


def test_every_machine_begins_with_blocks_of_its_own() -> None:
    cores = labeling(2000, count=3, per_block=50)
    for member in cores.ids:
        assert {owner_of(claim.work.block, cores.ids) for claim in cores.claims[member]} == {member}


def test_a_run_waits_until_its_rows_are_on_two_machines() -> None:
    cores = Cores(2)
    cores.until(lambda: cores.first.is_leader)
    cores.carry_out(cores.ids[1], [])
    one, other = cores.ids
    cores.until(lambda: cores.first.peers.responsive(other, cores.now))
    # The other machine is there but takes nothing in: what it says arrives, what is sent to it does not.
    cores.cut.add((one, other))
    cores.open_run(spec(), 100)
    cores.pass_time(1.0)
    assert not cores.claims[one]
    cores.cut.clear()
    cores.pass_time(1.5)
    assert cores.claims[one]


def test_a_machine_alone_does_not_wait_for_a_second_copy() -> None:
    cores = labeling(8)
    assert cores.claims[cores.first.me]


def test_a_machine_without_the_model_is_given_nothing() -> None:
    cores = Cores(2)
    cores.until(lambda: cores.first.is_leader)
    cores.open_run(with_digest(spec(), "e" * 32), 100)
    cores.pass_time(3.0)
    assert not any(cores.claims.values())


def test_a_model_that_nobody_can_run_pauses_the_run_and_says_why() -> None:
    cores = labeling(2000, count=2, per_block=50)
    cores.fail(0, "model", "the prompt is too long")
    cores.pass_time(1.0)
    assert cores.progress().state == "running"
    cores.fail(1, "model", "the prompt is too long")
    cores.pass_time(1.0)
    for number in range(2):
        assert (cores.progress(number).state, cores.progress(number).note) == ("paused", "the prompt is too long")


def test_a_paused_run_gives_back_what_has_not_begun() -> None:
    cores = labeling(2000)
    assert len(cores.claims[cores.first.me]) == 2
    pause = StateSet(spec().run_id, "paused", "", cores.first.next_clock())
    cores.carry_out(cores.first.me, cores.first.append([pause]))
    assert len(cores.claims[cores.first.me]) == 1
    cores.answer()
    cores.pass_time(2.0)
    assert not cores.claims[cores.first.me]
    assert cores.progress().done == FIRST_BATCH


def test_a_paused_machine_finishes_what_it_began_and_gets_no_more() -> None:
    cores = labeling(4000, count=2, per_block=50)
    member = cores.first.members[cores.ids[1]]
    paused = MemberSet(type(member)(member.id, member.key, member.name, member.rank, (), True), 9)
    cores.carry_out(cores.ids[0], cores.first.append([paused]))
    cores.pass_time(1.0)
    cores.answer(1)
    for _ in range(10):
        cores.answer(0)
        cores.pass_time(0.5)
    assert not cores.claims[cores.ids[1]]
    assert cores.progress().state == "running"


def test_a_claim_without_progress_is_taken_back_and_one_with_progress_is_not() -> None:
    cores = labeling(BLOCK_ROWS, count=2)
    for number in (0, 1):
        while len(cores.claims[cores.ids[number]]) > 1:
            cores.answer(number, seconds=0.1)
    slow = cores.claims[cores.ids[1]][0]
    for _ in range(300):
        cores.pass_time(0.1)
        cores.cores[cores.ids[1]].progressed(cores.now)
    assert slow.name in {claim.name for claim in _out(cores)}
    cores.pass_time(32.0)
    assert slow.name not in {claim.name for claim in _out(cores)}


def test_the_tail_is_tried_by_a_second_machine_and_counted_once() -> None:
    cores = labeling(400, count=2, per_block=50)
    slow = cores.claims[cores.ids[1]][0]
    while cores.claims[cores.ids[0]]:
        cores.answer(0, seconds=1.0)
        cores.pass_time(0.2)
        cores.cores[cores.ids[1]].progressed(cores.now)
        if cores.progress().done >= 400 - sum(len(c.work.at) for c in cores.claims[cores.ids[1]]):
            break
    for _ in range(100):
        cores.pass_time(0.2)
        cores.cores[cores.ids[1]].progressed(cores.now)
        if any(claim.work == slow.work for claim in cores.claims[cores.ids[0]]):
            break
    assert any(set(slow.work.at) >= set(claim.work.at) for claim in cores.claims[cores.ids[0]])
    while cores.claims[cores.ids[0]]:
        cores.answer(0)
        cores.pass_time(0.2)
    cores.until(lambda: cores.progress().state == "done")
    cores.answer(1)
    assert (cores.progress().done, cores.progress().rows) == (400, 400)


def test_a_command_below_the_highest_epoch_is_refused() -> None:
    cores = labeling(2000, count=2, per_block=50)
    helper = cores.cores[cores.ids[1]]
    block = cores.claims[cores.ids[1]][0].work
    stale = Grant(Epoch(0, cores.first.author), 99, Work(block.run_id, block.block, (49,)), 30.0, cores.now)
    before = len(cores.claims[cores.ids[1]])
    cores.carry_out(helper.me, helper.receive(cores.first.me, stale, cores.now))
    assert helper.refused_commands == 1
    assert len(cores.claims[cores.ids[1]]) == before


def test_a_new_leader_does_not_grant_what_is_being_worked_on() -> None:
    cores = labeling(900, count=3, per_block=50)
    working = {claim.work.block: claim.work.at for member in cores.ids[1:] for claim in cores.claims[member]}
    cores.down.add(cores.ids[0])
    cores.until(lambda: cores.cores[cores.ids[1]].is_leader)
    asked: Counter[tuple[int, int]] = Counter()
    while cores.progress(1).state == "running":
        for number in (1, 2):
            if cores.claims[cores.ids[number]]:
                work = cores.answer(number, seconds=1.0).work
                asked.update((work.block[1], place) for place in work.at)
        cores.pass_time(0.1)
    assert working
    assert max(asked.values()) == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["answer", "error", "died", "stopped"]), max_size=40), st.integers(1, 700))
def test_whatever_becomes_of_claims_every_row_is_answered_once(story: list[str], rows: int) -> None:
    cores = labeling(rows, "mood", "tone")
    for what in story:
        if not cores.claims[cores.first.me]:
            cores.pass_time(0.5)
        elif what == "answer":
            cores.answer()
        elif what == "error":
            cores.answer(failed=lambda place: place % 7 == 0)
        else:
            cores.fail(reason="died" if what == "died" else "stopped")
    if cores.progress().state == "paused":
        resumed = StateSet(cores.progress().run_id, "running", "", cores.first.next_clock())
        cores.carry_out(cores.first.me, cores.first.append([resumed]))
    cores.pass_time(1.0)
    while cores.progress().state == "running":
        assert len(cores.claims[cores.first.me][0].work.at) <= LARGEST_BATCH
        cores.answer()
        cores.pass_time(0.1)
    run = cores.first.plan.runs[cores.progress().run_id]
    assert (run.done, run.left, run.rows) == (rows, 0, rows)
    assert run.failed == run.answered.count(ERROR)


def _out(cores: Cores) -> list[Granted]:
    claims = cores.first.leading.claims
    assert claims is not None
    return list(claims.out.values())
