"""How the cluster looks to people, from what this machine knows at a moment."""

from __future__ import annotations

from engine.cluster.claims import PREFETCH
from engine.cluster.core import Core
from engine.cluster.entries import Member
from engine.cluster.identity import key_words
from engine.cluster.machines import Machines
from engine.cluster.messages import Card
from engine.cluster.peers import Peer
from engine.cluster.plan import RunPlan
from workspace.machines import Cluster, Machine, Pairing

NEVER_LEADS = "Waiting for a machine that leads: this one was started as a client, which never does."


def cluster(core: Core, ways: Machines, held: dict[str, int], pairing: Pairing | None, now: float) -> Cluster:
    """All machines. `held` says how many claims each other one said it holds."""
    in_order = sorted(core.members.values(), key=lambda member: (member.rank, member.id))
    machines = tuple(_machine(core, ways, held, member, now) for member in in_order)
    return Cluster(
        id=core.cluster,
        epoch=core.epoch.number,
        leader=core.leader,
        copies=1 + sum(not machine.me and machine.facts_behind == 0 for machine in machines),
        listening=ways.addresses[0] if ways.addresses else "",
        removed=ways.removed,
        machines=machines,
        found=ways.strangers(),
        pairing=pairing,
    )


def copies(core: Core) -> dict[str, int]:
    """Of each author, how many machines hold all that this one holds."""
    peers = core.peers.all.values()
    return {
        author: 1 + sum(peer.vector.get(author, 0) >= end for peer in peers) for author, end in core.vector.items()
    }


def rows_per_s(core: Core, now: float) -> float:
    """Rows this machine answers per second."""
    rates = (run.rates.get(core.me) for run in core.plan.runs.values())
    return round(sum(rate.per_second(now) for rate in rates if rate), 3)


def why_nobody(core: Core, run: RunPlan, now: float) -> str:
    """Why a run that should go on does not; empty when some machine within reach can do it."""
    if not core.leader:
        never = core.card.mode == "client"
        return (
            "Waiting for a machine that leads: this one was started as a client, which never does."
            if never
            else ""
        )
    if run.spec is None or core.leading.able(run, core.card, now):
        return ""
    if core.members and all(member.paused for member in core.members.values()):
        return "Every machine is paused."
    model = run.spec.model
    words = [f"No machine within reach can run {model.name}."]
    for member in core.members.values():
        card = core.card if member.id == core.me else _card(core, member)
        words += [f"{member.name}: {refusal.why}" for refusal in card.refused if refusal.digest == model.digest]
    return " ".join(words)


def _machine(core: Core, ways: Machines, held: dict[str, int], member: Member, now: float) -> Machine:
    me = member.id == core.me
    card = core.card if me else _card(core, member)
    peer = core.peers.all.get(member.id) or _UNKNOWN
    silent = 0.0 if me else now - peer.heard
    behind = sum(max(0, end - peer.vector.get(author, 0)) for author, end in core.vector.items())
    fit = core.fitness.of(member.id)
    return Machine(
        id=member.id,
        name=member.name,
        key_words=key_words(member.id),
        me=me,
        rank=member.rank,
        alive=core.peers.alive(member.id, now),
        silent_for=None if silent == float("inf") else round(silent, 1),
        paused=member.paused,
        mode=card.mode,
        leader=member.id == core.leader,
        gpu=card.gpu,
        cores=card.cores,
        memory=card.memory,
        memory_free=card.memory_free,
        models=tuple(_model_name(core, digest) for digest in card.models),
        problems=(*(refusal.why for refusal in card.refused), *(ways.problems if me else ())),
        rows_per_s=card.rows_per_s,
        doing=card.doing,
        claims=PREFETCH - core.leases.free if me else held.get(member.id, 0),
        facts_behind=0 if me else behind,
        addresses=ways.addresses if me else ways.places(member.id),
        software=card.software,
        agreement=fit.agreement,
        compared=fit.compared,
        fitness=fit.value,
    )


def _card(core: Core, member: Member) -> Card:
    peer = core.peers.all.get(member.id)
    return peer.card if peer is not None and peer.card is not None else _NO_CARD


def _model_name(core: Core, digest: str) -> str:
    for run in core.plan.runs.values():
        if run.spec is not None and run.spec.model.digest == digest:
            return run.spec.model.name
    return digest


_UNKNOWN = Peer()
_NO_CARD = Card("")
