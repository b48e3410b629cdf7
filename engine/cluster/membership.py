"""Who belongs to the cluster: a pure function of the entries about members."""

from __future__ import annotations

from engine.cluster.entries import Member, MemberRevoked, MemberSet

Order = tuple[int, str, int]  # clock, author, seq: larger is later


class Membership:
    """Members as the entries seen so far say. Entries may come in any order; a revocation wins for ever."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self.revoked: dict[str, str] = {}  # id and the name it had
        self.version = 0  # grows with every change
        self._orders: dict[str, Order] = {}

    def apply(self, author: str, seq: int, body: MemberSet | MemberRevoked) -> bool:
        """Take an entry into account; returns whether anything changed."""
        if isinstance(body, MemberRevoked):
            if body.id in self.revoked:
                return False
            self.revoked[body.id] = body.name
            self.members.pop(body.id, None)
        else:
            member, order = body.member, (body.clock, author, seq)
            if member.id in self.revoked or order <= self._orders.get(member.id, (-1, "", -1)):
                return False
            self._orders[member.id] = order
            if self.members.get(member.id) == member:
                return False
            self.members[member.id] = member
        self.version += 1
        return True

    def next_rank(self) -> int:
        """Rank for a machine paired now."""
        return max((member.rank for member in self.members.values()), default=-1) + 1
