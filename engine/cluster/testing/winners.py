"""Which answer and which decision count, told plainly, to hold histories and merged tables against.

Of the answers of one row to one dimension of one run, labels come before errors, and among those the smallest
(author, seq) counts. What a person decided comes before any answer: of the decisions on one (task, dimension,
row) the largest (clock, author, seq) counts, and if that one took its decision back, nothing is decided. (A
workspace and `winnow merge` know the events behind decisions, and let an undo take back only the event it names.)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from engine.cluster.entries import Asked, Decided, Entry, Labeled, RunOpened, decode
from engine.labeler import Answer

RowKey = tuple[str, str, str]  # run id, row id, name of the dimension
DecisionKey = tuple[str, str, str]  # name of the task, row id, name of the dimension


class Answered(msgspec.Struct, frozen=True):
    """One answer of a model in the log it came by."""

    author: str
    seq: int
    answer: Answer
    asked: Asked

    @property
    def failed(self) -> bool:
        """It is an error."""
        return bool(self.answer.error)

    @property
    def order(self) -> tuple[bool, str, int]:
        """The smallest counts."""
        return self.failed, self.author, self.seq

    @property
    def label(self) -> str:
        """The label found most likely, the first in the task's order if several are. Empty for an error."""
        chances, (_, _, labels) = self.answer.logprobs, self.asked
        if self.failed or len(chances) != len(labels):
            return ""
        return labels[max(range(len(chances)), key=chances.__getitem__)]


class Judged(msgspec.Struct, frozen=True):
    """One decision of a person in the log it came by. Not `standing`: nothing is decided any more."""

    clock: int
    author: str
    seq: int
    label: str
    standing: bool

    @property
    def order(self) -> tuple[int, str, int]:
        """The largest counts."""
        return self.clock, self.author, self.seq


class Winner(msgspec.Struct, frozen=True):
    """What counts for a row: its label (empty for an error or a rejected label) and the fact it comes from."""

    kind: Literal["human", "label", "error"]
    label: str
    author: str
    seq: int


class Winners(msgspec.Struct, frozen=True):
    """What counts, and where people contradicted each other."""

    answers: dict[RowKey, Answered]
    decisions: dict[DecisionKey, Judged]
    conflicts: dict[
        DecisionKey, tuple[Judged, ...]
    ]  # decided differently at the same clock: unknown to each other
    tasks: dict[str, str]  # run id: name of its task

    def table(self) -> dict[RowKey, Winner]:
        """What counts for every row with an answer, in the order of its key. Decisions on rows of a run whose
        specification is not among the entries, or that no model answered yet, are only in `decisions`."""
        return {key: self._winner(key, self.answers[key]) for key in sorted(self.answers)}

    def _winner(self, key: RowKey, answered: Answered) -> Winner:
        run_id, row_id, dimension = key
        judged = self.decisions.get((self.tasks.get(run_id, ""), row_id, dimension))
        if judged is not None and judged.standing:
            return Winner("human", judged.label, judged.author, judged.seq)
        return Winner("error" if answered.failed else "label", answered.label, answered.author, answered.seq)


def better_answer(one: Answered, other: Answered) -> Answered:
    """The one that counts of two answers to the same question."""
    return one if one.order <= other.order else other


def better_decision(one: Judged, other: Judged) -> Judged:
    """The one that counts of two decisions on the same row."""
    return one if one.order >= other.order else other


def winners(entries: Iterable[Entry]) -> Winners:
    """What counts among these entries, which may be in any order and there more than once."""
    answers: dict[RowKey, Answered] = {}
    decisions: dict[DecisionKey, Judged] = {}
    newest: dict[DecisionKey, dict[tuple[str, int], Judged]] = {}  # those at the largest clock
    tasks: dict[str, str] = {}
    for entry in entries:
        body = decode(entry.body)
        if isinstance(body, Labeled):
            for row, answered in answers_of(entry.author, entry.seq, body):
                key = (body.run_id, row, answered.asked[0])
                answers[key] = better_answer(answers.get(key, answered), answered)
        elif isinstance(body, Decided):
            judged = Judged(body.clock, entry.author, entry.seq, body.label, body.standing)
            about = (body.task_name, body.row_id, body.dimension)
            before = decisions.get(about, judged)
            decisions[about] = better_decision(before, judged)
            if judged.clock > before.clock or about not in newest:
                newest[about] = {}
            if judged.clock >= before.clock:
                newest[about][judged.author, judged.seq] = judged
        elif isinstance(body, RunOpened):
            tasks[body.spec.run_id] = body.spec.task_name
    return Winners(answers, decisions, _conflicts(newest), tasks)


def answers_of(author: str, seq: int, body: Labeled) -> list[tuple[str, Answered]]:
    """(row id, answer) for each fact of a batch."""
    asked = body.about.dimensions
    return [
        (row, Answered(author, seq + i * len(asked) + j, answer, one))
        for i, (row, answers) in enumerate(zip(body.rows, body.answers, strict=True))
        for j, (one, answer) in enumerate(zip(asked, answers, strict=True))
    ]


def _conflicts(
    newest: dict[DecisionKey, dict[tuple[str, int], Judged]],
) -> dict[DecisionKey, tuple[Judged, ...]]:
    return {
        key: tuple(sorted(judged.values(), key=lambda j: j.order))
        for key, judged in sorted(newest.items())
        if len({(j.label, j.standing) for j in judged.values()}) > 1
    }
