"""Whether other machines work on a workspace, so that its engine has to be there for them while it is open."""

from __future__ import annotations

from workspace.store import Store

KIND = "machines"


def others(store: Store) -> int:
    """Machines besides this one in the cluster when it was last seen; 0 for a workspace that works alone."""
    with store.read() as con:
        found = con.execute("select arg_max(data, rowid) from events where kind = ?", [KIND]).fetchone()
    return int(found[0]) if found and found[0] else 0


def note(store: Store, cluster: str, number: int) -> None:
    """Remember how many other machines the cluster has."""
    store.write(
        lambda con: con.execute("insert into events values (?, ?, ?, now())", [KIND, cluster, str(number)])
    )
