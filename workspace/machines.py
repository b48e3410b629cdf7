"""What people see of the machines that work together: the cluster as one engine knows it at a moment."""

from __future__ import annotations

import msgspec


class Machine(msgspec.Struct, frozen=True):
    """A member of the cluster, as this machine knows it. Figures of a machine never heard of are 0 and empty."""

    id: str  # BLAKE2b-128 of its public key, in hex
    name: str
    key_words: str  # first 8 characters of its id in groups of 4: the fingerprint shown on its own screen
    me: bool
    rank: int  # order of pairing, 0 founded the cluster
    alive: bool
    silent_for: float | None  # seconds since it was last heard of; None if never since this engine started
    paused: bool
    mode: str  # auto, server, client
    leader: bool
    gpu: str
    cores: int
    memory: int  # bytes
    memory_free: int  # bytes
    models: tuple[str, ...]  # names, or digests where no name is known
    problems: tuple[str, ...]  # why it cannot run a model, in words
    rows_per_s: float
    doing: str
    claims: int  # claims it holds
    facts_behind: int  # facts this machine holds and that one does not have on disk yet
    addresses: tuple[str, ...]
    software: str
    agreement: float | None  # share of rows answered by it and another machine that got the same label
    compared: int  # rows behind `agreement`
    fitness: float | None  # 0 to 1, from agreement and latency; None while unknown


class FoundMachine(msgspec.Struct, frozen=True):
    """A machine seen on the network that does not belong to the cluster."""

    id: str
    name: str
    address: str  # host:port of its pairing listener, or of its engine while it is not pairing
    pairing: bool  # it shows a code now
    other_cluster: bool  # it belongs to another cluster


class Pairing(msgspec.Struct, frozen=True):
    """This machine waits to be paired: the code to type on another machine."""

    code: str  # "482-913"
    port: int
    seconds_left: float
    tries_left: int


class Cluster(msgspec.Struct, frozen=True):
    """The cluster of an engine. A machine alone is a cluster of one."""

    id: str
    epoch: int
    leader: str  # id, empty while there is none
    copies: int  # machines that hold every fact this one holds, this one included
    listening: str  # host:port others can reach, empty while this machine listens to nobody
    removed: bool  # this machine was removed from the cluster
    machines: tuple[Machine, ...]
    found: tuple[FoundMachine, ...]
    pairing: Pairing | None
