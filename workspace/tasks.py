"""Task documents kept in a workspace, version after version, and the ones that come with Winnow."""

from __future__ import annotations

from datetime import datetime
from importlib import resources

import msgspec

from workspace.errors import TaskError
from workspace.expressions import check
from workspace.store import Connection, Store, moment
from workspace.task import Task, parse_task, task_id, to_yaml


class SavedTask(msgspec.Struct, frozen=True):
    """One version of a task as it was saved; `versions` counts the different ones under its name."""

    id: str
    name: str
    title: str
    task: Task
    saved_at: datetime
    versions: int


def bundled() -> dict[str, Task]:
    """The tasks that come with Winnow, by name."""
    folder = resources.files("workspace") / "bundled"
    documents = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".yaml")), key=lambda e: e.name)
    tasks = [parse_task(entry.read_text(encoding="utf-8")) for entry in documents]
    return {task.name: task for task in tasks}


def save(store: Store, task: Task) -> str:
    """Keep this version as the newest of its name; returns its id. Saving the newest again changes nothing.

    Raises TaskError when one of its expressions cannot be used (see `workspace.expressions`).
    """
    check(task)
    id = task_id(task)

    def work(con: Connection) -> None:
        newest = con.execute(
            "select id from tasks where name = ? order by saved_at desc, rowid desc limit 1", [task.name]
        ).fetchone()
        if newest is None or newest[0] != id:
            con.execute(
                "insert into tasks values (?, ?, ?, ?, now())", [id, task.name, task.shown_title, to_yaml(task)]
            )

    store.write(work)
    return id


def add_version(con: Connection, task: Task, id: str) -> None:
    """Keep a version that came from another machine, if it is what `id` says; for those who write already.

    It does not become the newest of a task this workspace has: what people work on here stays in front of them.
    """
    if task_id(task) != id or con.execute("select 1 from tasks where id = ?", [id]).fetchall():
        return
    con.execute(
        """insert into tasks select $1, $2, $3, $4, coalesce(min(saved_at) - interval 1 microsecond, now())
           from tasks where name = $2""",
        [id, task.name, task.shown_title, to_yaml(task)],
    ).fetchall()


def document(store: Store, id: str) -> str:
    """The document of the task of that id, "" when this workspace has none."""
    with store.read() as con:
        found = con.execute("select document from tasks where id = ? limit 1", [id]).fetchone()
    return str(found[0]) if found else ""


def newest(store: Store) -> list[SavedTask]:
    """The newest version of every task, last saved first."""
    return _select(store, "place = 1", [])


def newest_of(store: Store, name: str) -> SavedTask | None:
    """The newest version of the task of that name, or None."""
    return next(iter(_select(store, "place = 1 and name = ?", [name])), None)


def read_newest(con: Connection, name: str) -> Task | None:
    """The newest version of the task of that name, or None; for those who already hold a cursor."""
    found = con.execute(
        "select document from tasks where name = ? order by saved_at desc, rowid desc limit 1", [name]
    ).fetchall()
    return parse_task(found[0][0]) if found else None


def get(store: Store, id: str) -> SavedTask:
    """The task of that id. Raises TaskError when this workspace has none."""
    found = _select(store, "id = ?", [id])
    if not found:
        raise TaskError("This workspace has no such task.", "Choose one of its tasks, or save the task again.")
    return found[0]


def _select(store: Store, condition: str, parameters: list[object]) -> list[SavedTask]:
    with store.read() as con:
        found = con.execute(
            f"""select id, name, title, document, epoch_us(saved_at), versions from (
                    select *, rowid as entry,
                        row_number() over (partition by name order by saved_at desc, rowid desc) as place,
                        count(distinct id) over (partition by name) as versions
                    from tasks
                ) where {condition} order by saved_at desc, entry desc""",
            parameters,
        ).fetchall()
    return [SavedTask(row[0], row[1], row[2], parse_task(row[3]), moment(row[4]), row[5]) for row in found]
