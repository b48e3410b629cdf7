"""Who leads and when: bids, epochs, silence, sleep, goodbyes, and what a revoked machine may still do."""

from __future__ import annotations

import pytest

from engine.cluster.core import Core
from engine.cluster.effects import Send, Write
from engine.cluster.entries import Decided, Entry, Member, MemberRevoked, MemberSet, RowsPlanned, encode
from engine.cluster.membership import Membership
from engine.cluster.messages import Beat, Bye, Card, Epoch, Facts, Lead, Need
from engine.cluster.peers import Timers
from engine.cluster.replication import PUSHED_BYTES
from tests.unit.cluster.cores import Cores, name_of
from tests.unit.cluster.examples import spec

TIMERS = Timers()


def leaders(cores: Cores) -> set[str]:
    return {member for member, core in cores.cores.items() if core.is_leader and member not in cores.down}


def followed(cores: Cores) -> set[str]:
    return {core.leader for member, core in cores.cores.items() if member not in cores.down}


def led(count: int = 3) -> Cores:
    cores = Cores(count)
    cores.until(lambda: leaders(cores) == {cores.ids[0]} and followed(cores) == {cores.ids[0]})
    return cores


def test_a_machine_alone_leads_at_once() -> None:
    cores = Cores(1)
    cores.pass_time(TIMERS.tick)
    assert cores.first.is_leader


def test_the_first_paired_leads_and_everybody_follows() -> None:
    cores = led(4)
    assert cores.now < TIMERS.dead + 2 * TIMERS.stagger + TIMERS.beat


def test_one_that_prefers_to_lead_comes_first_and_a_client_never_leads() -> None:
    cores = Cores(3, mode=["client", "auto", "server"])
    cores.until(lambda: followed(cores) == {cores.ids[2]})
    cores.down |= {cores.ids[1], cores.ids[2]}
    cores.pass_time(30.0)
    assert not leaders(cores)


def test_silence_of_the_leader_makes_the_next_one_lead_in_time() -> None:
    cores = led()
    cores.down.add(cores.ids[0])
    start = cores.now
    cores.until(lambda: bool(leaders(cores)))
    assert leaders(cores) == {cores.ids[1]}
    assert cores.now - start <= 3.5


def test_a_broken_connection_shortens_the_wait() -> None:
    cores = led()
    cores.down.add(cores.ids[0])
    start = cores.now
    for member in cores.ids[1:]:
        cores.carry_out(member, cores.cores[member].hung_up(cores.ids[0], cores.now))
    cores.until(lambda: bool(leaders(cores)))
    assert cores.now - start <= 1.5


def test_a_broken_connection_alone_is_no_death() -> None:
    cores = led()
    for member in cores.ids[1:]:
        cores.carry_out(member, cores.cores[member].hung_up(cores.ids[0], cores.now))
    cores.pass_time(5.0)
    assert leaders(cores) == {cores.ids[0]}
    assert cores.first.epoch.number == 1


def test_a_leader_that_says_goodbye_is_replaced_at_once() -> None:
    cores = led()
    effects = cores.first.stop()
    cores.down.add(cores.ids[0])
    for effect in effects:
        assert isinstance(effect.message, Bye)  # type: ignore[union-attr]
        cores.carry_out(effect.to, cores.cores[effect.to].receive(cores.ids[0], effect.message, cores.now))  # type: ignore[union-attr]
    start = cores.now
    cores.until(lambda: bool(leaders(cores)))
    assert cores.now - start <= TIMERS.stagger + 2 * TIMERS.tick


def test_there_is_no_fail_back() -> None:
    cores = led()
    cores.down.add(cores.ids[0])
    cores.until(lambda: leaders(cores) == {cores.ids[1]})
    cores.down.clear()
    cores.pass_time(20.0)
    assert followed(cores) == {cores.ids[1]}


def test_a_leader_that_stood_still_steps_down_before_it_does_anything() -> None:
    cores = led()
    cores.down.add(cores.ids[0])
    cores.until(lambda: leaders(cores) == {cores.ids[1]})
    assert cores.first.leader == cores.ids[0]
    effects = cores.first.tick(cores.now)
    assert not cores.first.is_leader
    assert not any(isinstance(effect, Lead) for effect in effects)
    cores.down.clear()
    cores.pass_time(5.0)
    assert followed(cores) == {cores.ids[1]}


def test_a_single_machine_that_stood_still_leads_again() -> None:
    cores = Cores(1)
    cores.pass_time(1.0)
    cores.now += 60.0
    cores.pass_time(TIMERS.dead)
    assert cores.first.is_leader
    assert cores.first.epoch.number == 2


def test_both_sides_of_a_cut_are_led_and_one_leader_is_left_when_it_heals() -> None:
    cores = led(3)
    one, two, three = cores.ids
    cores.cut |= {(one, two), (two, one), (one, three), (three, one)}
    cores.until(lambda: len(leaders(cores)) == 2)
    cores.cut.clear()
    cores.pass_time(3.0)
    assert leaders(cores) == followed(cores) == {two}


def test_an_epoch_is_spoken_of_only_when_it_is_on_disk_and_never_used_by_two_lives() -> None:
    author = f"{name_of(0)}.{'0' * 16}"
    entry = Entry(author, 0, 1, encode(MemberSet(Member(name_of(0), "k" * 40, "a", 0), 1)))
    first = Core(author, "one", "c", 0.0)
    first.load([entry], 0)
    (write,) = [effect for effect in first.tick(0.1) if getattr(effect, "epoch", None)]
    assert not first.is_leader
    first.written(write.number, [], 0.2)  # type: ignore[union-attr]
    assert first.epoch == Epoch(1, author)
    again = Core(author, "two", "c", 1.0)
    again.load([entry], 1)
    (write,) = [effect for effect in again.tick(1.1) if getattr(effect, "epoch", None)]
    again.written(write.number, [], 1.2)  # type: ignore[union-attr]
    assert again.epoch == Epoch(2, author)


def test_an_own_epoch_from_before_a_restart_is_nobody_s_leadership() -> None:
    cores = led(2)
    old = cores.first
    fresh = Core(old.author, "later", cores.first.cluster, cores.now)
    fresh.describe(Card("later"))
    fresh.load(cores.disk[old.me], 1)
    cores.cores[old.me] = fresh
    cores.pass_time(1.0)
    assert fresh.epoch.number > 1


def test_a_stranger_and_a_revoked_machine_are_not_heard() -> None:
    cores = led(3)
    helper, core = cores.ids[2], cores.first
    stranger = name_of(77)
    facts = Facts(f"{stranger}.{'0' * 16}", 0, ((1, encode(MemberRevoked(cores.ids[1], "x"))),))
    for effect in core.receive(stranger, facts, cores.now):
        assert type(effect).__name__ == "HangUp"
    cores.carry_out(core.me, core.append([MemberRevoked(helper, "machine 2")]))
    cores.pass_time(1.0)
    for member in cores.ids[:2]:
        assert helper not in cores.cores[member].members
        epoch = Epoch(99, f"{helper}.{'0' * 16}")
        cores.carry_out(member, cores.cores[member].receive(helper, Lead(epoch, ""), cores.now))
        assert cores.cores[member].epoch.number == 1
        assert (
            cores.cores[member].receive(helper, Need(core.author, 0), cores.now)[0].__class__.__name__ == "HangUp"
        )
    cores.open_run(spec(), 5)
    cores.pass_time(1.0)
    assert spec().run_id not in cores.cores[helper].plan.runs


@pytest.mark.parametrize("revoked_first", [True, False])
def test_a_revocation_wins_in_any_order(revoked_first: bool) -> None:
    membership = Membership()
    member = Member(name_of(1), "k" * 40, "b", 1)
    steps: list[tuple[str, int, MemberSet | MemberRevoked]] = [
        ("a", 5, MemberRevoked(member.id, "b")),
        ("b", 9, MemberSet(member, 1000)),
    ]
    for author, seq, body in steps if revoked_first else reversed(steps):
        membership.apply(author, seq, body)
    assert (membership.members, set(membership.revoked)) == ({}, {member.id})


def test_what_is_written_on_one_machine_is_on_every_machine_in_the_end() -> None:
    cores = led(3)
    cores.cut = {(a, b) for a in cores.ids for b in cores.ids if cores.ids[1] in (a, b) and a != b}
    cores.open_run(spec(), 700)
    said = Decided("moods", "mood", "row 1", "", "good", True, "{}", 7)
    cores.carry_out(cores.ids[1], cores.cores[cores.ids[1]].append([said]))
    cores.pass_time(4.0)
    cores.cut.clear()
    cores.pass_time(4.0)
    logs = [sorted((entry.author, entry.seq, entry.body) for entry in cores.disk[member]) for member in cores.ids]
    assert logs[0] == logs[1] == logs[2]
    assert len({tuple(sorted(core.vector.items())) for core in cores.cores.values()}) == 1


def test_facts_with_a_gap_are_not_kept_but_asked_for() -> None:
    cores = led(2)
    one, two = (cores.cores[member] for member in cores.ids)
    author = f"{one.me}.{'5' * 16}"
    body = encode(Decided("t", "d", "r", "", "l", True, "{}", 1))
    effects = two.receive(one.me, Facts(author, 3, ((1, body),)), cores.now)
    assert [effect.message for effect in effects] == [Need(author, 0)]  # type: ignore[union-attr]
    assert author not in two.replication.received


def test_malformed_entries_are_dropped_and_counted() -> None:
    cores = led(2)
    one, two = (cores.cores[member] for member in cores.ids)
    author = f"{one.me}.{'5' * 16}"
    good = encode(Decided("t", "d", "r", "", "l", True, "{}", 1))
    two.receive(one.me, Facts(author, 0, ((1, good), (1, b"\x93junk"), (1, good))), cores.now)
    assert two.replication.received[author] == 1
    assert two.replication.malformed == 1


def test_a_log_that_was_rolled_back_is_noticed() -> None:
    cores = led(2)
    one, two = (cores.cores[member] for member in cores.ids)
    beat = Beat(two.epoch, {one.author: 999}, (), two.card)
    one.receive(two.me, beat, cores.now)
    assert one.rolled_back


def test_false_alarms_make_patient_and_long_absences_do_not() -> None:
    cores = led(2)
    peers = cores.cores[cores.ids[1]].peers
    peer = peers.all[cores.ids[0]]
    patience = peers.dead_after(peer)
    assert peers.dead(cores.ids[0], cores.now + patience + 0.1)
    peers.hear(cores.ids[0], cores.now + patience + 0.2)
    assert peers.dead_after(peer) == 1.5 * patience
    assert peers.dead(cores.ids[0], cores.now + 100.0)
    peers.hear(cores.ids[0], cores.now + 200.0)
    assert peers.dead_after(peer) == 1.5 * patience


def test_what_is_pushed_to_a_machine_that_confirms_nothing_is_bounded() -> None:
    cores = led(2)
    one, two = cores.ids
    cores.cut.add((two, one))
    pushed = 0
    for number in range(40):
        rows = tuple((f"row {number}/{place}", "x" * 2000, "") for place in range(500))
        effects = cores.first.append([RowsPlanned("a run", rows)])
        (write,) = [effect for effect in effects if isinstance(effect, Write)]
        cores.disk[one] += write.entries
        sent = [e.message for e in cores.first.written(write.number, [], cores.now) if isinstance(e, Send)]
        pushed += sum(len(body) for facts in sent if isinstance(facts, Facts) for _, body in facts.entries)
    assert PUSHED_BYTES < pushed < PUSHED_BYTES + 3_000_000
    cores.cut.clear()
    cores.pass_time(2.0)
    assert cores.cores[two].vector.get(cores.first.author) == cores.first.vector[cores.first.author]
