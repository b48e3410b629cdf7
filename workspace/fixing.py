"""Labels go on being read as they were when a promise about them was accepted.

The bias that is taken off a model's scores is a mean over all its answers, so it moves with every row it answers,
and rows at the edge of what was accepted would cross it, or change their labels. A calibrator that computed the
scores of each row keeps its reading anyway. For a temperature, and where nothing corrects, the reading is kept
with the calibrator (`FIXED` where there is none) for as long as anything that was accepted needs it. The same for
runs that decide in this one's place.
"""

from __future__ import annotations

from workspace.calibrators import FIXED, NONE, Calibrator, insert, newest
from workspace.errors import RunError
from workspace.links import read_links
from workspace.runs import read_spec
from workspace.scores import Reading, read_now
from workspace.store import Connection
from workspace.voices import adjusts, dimension_of, fixes


def fix(con: Connection, run_id: str, dimension: str, reading: Reading) -> None:
    """Have labels read in this way from now on, and the runs that decide in its place as they are read today.

    Raises RunError where a correction is in use that was fitted while other runs were heard.
    """
    _fix(con, run_id, dimension, reading)
    for judge in judges(con, run_id, dimension):
        _fix(con, judge, dimension, read_now(con, judge, dimension))


def loosen(con: Connection, run_id: str, dimension: str) -> None:
    """Have the answers of a run read with all of its answers again; nothing changes where they are already."""
    found = newest(con, run_id, dimension)
    if found is None or not _fixed(found):
        return
    parameters = {name: value for name, value in found.parameters.items() if name != "reading"}
    method = NONE if found.method == FIXED else found.method
    _replace(con, found, method, parameters)


def is_fixed(con: Connection, run_id: str, dimension: str) -> bool:
    """Whether answers are read as they were, and nothing but what was accepted asks for that."""
    found = newest(con, run_id, dimension)
    return found is not None and _fixed(found)


def judges(con: Connection, run_id: str, dimension: str) -> list[str]:
    """The runs that decide in a run's place where they answered, by what links say."""
    found = []
    for link in read_links(con, run_id):
        if link.kind != "arbitrate":
            continue
        try:
            dimension_of(read_spec(con, link.other_id), dimension)
        except RunError:
            continue
        found.append(link.other_id)
    return found


def _fixed(calibrator: Calibrator) -> bool:
    return not calibrator.adjusts and "reading" in calibrator.parameters


def _fix(con: Connection, run_id: str, dimension: str, reading: Reading) -> None:
    found = newest(con, run_id, dimension)
    if found is None:
        insert(con, run_id, dimension, FIXED, {"reading": reading.to_dict()}, {})
        return
    voters = [list(one) for one in reading.voters]
    if adjusts(found, voters) or fixes(found, voters):
        return
    if found.adjusts:
        raise RunError(
            "The correction in use was fitted while other models were heard.",
            "Fit it anew, or take it out, and look again.",
        )
    method = FIXED if found.method == NONE else found.method
    _replace(con, found, method, {**found.parameters, "reading": reading.to_dict()})


def _replace(con: Connection, before: Calibrator, method: str, parameters: dict[str, object]) -> None:
    """The same calibrator but for these; what is known of the rows it was fitted on stays."""
    key = (before.run_id, before.dimension)
    after = insert(con, *key, method, parameters, before.evidence, before.fitted_at)
    con.execute("update out_of_fold set calibrator = ? where calibrator = ?", [after.id, before.id]).fetchall()
