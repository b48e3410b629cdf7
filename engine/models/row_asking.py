"""One row asked all questions that share a prompt: stage by stage, each answer read as soon as it is known."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from engine.models.forks import Fork, Forks, Heard
from engine.models.label_tree import Floats
from engine.models.llama_native import Ints
from engine.models.phrasings import stem, together
from engine.models.questions import Question
from engine.models.shortlist import PRUNED
from engine.models.suffixes import Branch, branches
from engine.models.visits import Visit, earlier
from workspace.facts import DimensionSpec
from workspace.kinds import label_of
from workspace.task import split_labels

NO_ROOM = "The row does not fit into the model's memory."
NO_NUMBER = "The model gave no usable number for this row."
_SENTENCE_END = re.compile(r"[.!?](?:\s|$)")
EXPLANATION = 60  # tokens, at most
SENTENCES = 2


class Reader(Protocol):
    """What is read after a fork; see `engine.models.llama_native.NativeContext`."""

    def logits(self, place: int, tokens: Ints) -> Floats: ...
    def likeliest(self, place: int) -> int: ...


class Vocabulary(Protocol):
    """Tokens and text; see `engine.models.llama_native.NativeModel`."""

    def tokens(self, text: str, *, special: bool) -> list[int]: ...
    def text(self, tokens: Sequence[int]) -> str: ...
    def ends(self, token: int) -> bool: ...


@dataclass
class Answered:
    """What a row has said to one dimension."""

    logprobs: Floats
    phrasings: tuple[Floats, ...]
    prompt_tokens: int
    label: str
    explanation: str = ""
    completion_tokens: int = 0


@dataclass
class Row:
    """A text that is asked about, once however often it is there."""

    text: str
    places: list[int]  # where it stands among the rows asked
    warnings: list[str] = field(default_factory=list)
    answers: dict[int, Answered] = field(default_factory=dict)  # by the dimension's place in the run
    shortlists: dict[int, tuple[int, ...]] = field(default_factory=dict)
    tokens: int = 0  # computed for it
    error: str = ""


class Asking:
    """Asks rows all that one visit asks, in forks of its prompt."""

    def __init__(self, visit: Visit, forks: Forks, reader: Reader, vocabulary: Vocabulary) -> None:
        self.visit, self.forks, self.reader, self.vocabulary = visit, forks, reader, vocabulary
        self.tail = visit.tail
        self._plans: dict[int, tuple[list[Question], Branch]] = {}
        stages = [[q for place in stage for q in visit.questions.typical(place)] for stage in visit.stages]
        tokens = max(sum(len(q.suffix) - len(self.tail) for q in stage) for stage in stages)
        self.tokens = len(self.tail) + tokens  # that a row takes beside its own
        self.sequences = 1 + max(map(len, stages))

    def plan(self, row: Row, stage: int) -> tuple[list[Question], Branch]:
        """The questions of a stage, and how their suffixes branch off from the row."""
        if stage in self._plans:
            return self._plans[stage]
        questions = [
            question
            for place in self.visit.stages[stage]
            for question in self.visit.questions.of(place, self.told(row, place), row.shortlists.get(place, ()))
        ]
        tree = branches([question.suffix[len(self.tail) :] for question in questions])
        if self.visit.is_same_for_all:
            self._plans[stage] = (questions, tree)
        return questions, tree

    def told(self, row: Row, place: int) -> str:
        """The earlier answers that this dimension is told, a line for each."""
        dimensions = self.visit.questions.dimensions
        lines = []
        for before in earlier(dimensions, place):
            dimension = dimensions[before]
            said = spoken(dimension, row.answers[before].label)
            lines.append(f"{dimension.cue or dimension.name + ':'} {said}\n")
        return "".join(lines)

    def why(self, row: Row, place: int) -> Ints:
        """What follows the row when it is asked why it has this answer."""
        questions = self.visit.questions
        dimension, chosen = questions.dimensions[place], row.shortlists.get(place, ())
        listed = [dimension.words[index] for index in chosen] if chosen else dimension.words
        text, lead = stem(dimension, self.visit.group.frame, "words", self.told(row, place), -1, listed)
        said = spoken(dimension, row.answers[place].label)
        return np.asarray(self.vocabulary.tokens(f"{text}{lead}{said}\nWhy:", special=True), dtype=np.int32)


def spoken(dimension: DimensionSpec, label: str) -> str:
    """A label as the model says it."""
    words = dict(zip(dimension.labels, dimension.words, strict=True))
    if dimension.kind != "multi":
        return words[label]
    return ", ".join(words[name] for name in split_labels(label)) or "none"


class RowAsking:
    """A row on its way through the stages of a visit."""

    def __init__(self, asking: Asking, row: Row, tokens: Ints, done: Callable[[Row], None]) -> None:
        self.asking, self.row, self._tokens, self._done = asking, row, tokens, done
        self._forks: dict[Fork, None] = {}  # held for this row, parents first
        self._stage = 0
        self._left = 0  # questions, then explanations, that have no answer yet
        explained = sum(asking.visit.questions.dimensions[place].explain for place in asking.visit.places)
        self._need = (len(tokens) + asking.tokens + EXPLANATION * explained, asking.sequences + explained)

    @property
    def size(self) -> int:
        """Tokens to compute at first."""
        return len(self._tokens) + self.asking.tokens

    def begin(self) -> bool:
        """Start, if there is room for it beside the rows under way."""
        if not self.asking.forks.begin(*self._need):
            return False
        self._ask(None)
        return True

    def fork(self, parent: Fork | None, tokens: Ints, heard: Heard | None) -> Fork:
        """A fork that is held until this row drops it."""
        made = self.asking.forks.add(parent, tokens, heard, self._fail)
        self._forks[made] = None
        self.row.tokens += len(tokens)
        return made

    def drop(self, fork: Fork) -> None:
        """Give a fork back before its row is done."""
        self.asking.forks.drop(fork)
        del self._forks[fork]

    def _ask(self, row: Fork | None) -> None:
        """The questions of the stage, after the row or, at first, together with it."""
        questions, tree = self.asking.plan(self.row, self._stage)
        self._readings = [Reading(self, question) for question in questions]
        self._left = len(questions)
        if row is None:
            whole = np.concatenate([self._tokens, self.asking.tail]) if len(self.asking.tail) else self._tokens
            row = self.fork(None, whole, self._heard(tree))
        waiting = [(row, branch) for branch in tree.branches]
        for parent, branch in waiting:
            made = self.fork(parent, branch.tokens, self._heard(branch))
            for index in branch.ends:
                self._readings[index].fork = made
                self._readings[index].is_leaf = len(branch.ends) == 1 and not branch.branches
            waiting += [(made, below) for below in branch.branches]
        for index in tree.ends:
            self._readings[index].fork = row

    def _heard(self, branch: Branch) -> Heard | None:
        readings = [self._readings[index] for index in branch.ends]
        if not readings:
            return None

        def heard(place: int) -> None:
            for reading in readings:
                reading.begin(place)

        return heard

    def answered(self) -> None:
        """One more question has its answer."""
        self._left -= 1
        if self._left:
            return
        self._conclude()
        row, *others = self._forks
        for fork in reversed(others):
            self.drop(fork)
        self._stage += 1
        if self.row.error:
            self._finish()
        elif self._stage < len(self.asking.visit.stages):
            self._ask(row)
        else:
            self._explain(row)

    def _conclude(self) -> None:
        """Put together what the questions of a stage have said."""
        readings = iter(self._readings)
        for place in self.asking.visit.stages[self._stage]:
            dimension = self.asking.visit.questions.dimensions[place]
            values, suffix = [], 0
            for _ in dimension.phrasings:
                some = [next(readings) for _ in range(len(dimension.labels) if dimension.kind == "multi" else 1)]
                values.append(np.concatenate([reading.logprobs(len(dimension.labels)) for reading in some]))
                suffix = suffix or len(some[0].question.suffix)
            mean = together(dimension.kind, values)
            if not np.isfinite(mean).all():
                self.row.error = NO_NUMBER
                return
            label, _ = label_of(dimension.kind, dimension.labels, mean.tolist())
            tokens = len(self.asking.visit.group.prefix) + len(self._tokens) + suffix
            self.row.answers[place] = Answered(mean, tuple(values) if len(values) > 1 else (), tokens, label)

    def _explain(self, row: Fork) -> None:
        dimensions = self.asking.visit.questions.dimensions
        wanted = [place for place in self.asking.visit.places if dimensions[place].explain]
        self._left = len(wanted)
        for place in wanted:
            Explanation(self, self.row.answers[place], row, self.asking.why(self.row, place))
        if not wanted:
            self._finish()

    def explained(self) -> None:
        """One more explanation is complete."""
        self._left -= 1
        if not self._left:
            self._finish()

    def _fail(self) -> None:
        self.row.error = NO_ROOM
        self._finish()

    def _finish(self) -> None:
        for fork in reversed(list(self._forks)):
            self.drop(fork)
        self.asking.forks.end(*self._need)
        self._done(self.row)


class Reading:
    """A question's answer as it becomes known: the likely branchings of its tree, level by level."""

    def __init__(self, owner: RowAsking, question: Question) -> None:
        self._owner, self.question = owner, question
        self._known: dict[int, Floats] = {}
        self._left = 0
        self.fork: Fork | None = None
        self.is_leaf = False  # whether nothing else branches off from its fork

    def begin(self, place: int) -> None:
        """The logits of the first branching are at `place`."""
        self._read(0, place)
        self._go_on()

    def _read(self, branching: int, place: int) -> None:
        tokens = self.question.tree.branchings[branching].tokens
        self._known[branching] = self._owner.asking.reader.logits(place, tokens)

    def _go_on(self) -> None:
        wanted = self.question.tree.wanting(self._known, self._owner.asking.visit.bound)
        self._left = len(wanted)
        for branching in wanted:
            self._look_at(branching)
        if not wanted:
            if self.is_leaf and self.fork is not None:
                self._owner.drop(self.fork)
            self._owner.answered()

    def _look_at(self, branching: int) -> None:
        def heard(place: int) -> None:
            self._read(branching, place)
            self._owner.drop(fork)
            self._left -= 1
            if not self._left:
                self._go_on()

        fork = self._owner.fork(self.fork, self.question.open[branching], heard)

    def logprobs(self, count: int) -> Floats:
        """Log-probabilities of a dimension's `count` labels; of the one that is asked about, that it applies."""
        found = self.question.tree.logprobs(self._known)
        if self.question.label >= 0:
            return found[:1]
        chosen = self.question.shortlist
        if not chosen or len(chosen) == count:
            return found
        every = np.full(count, np.log(PRUNED / (count - len(chosen))))
        every[list(chosen)] = found + np.log1p(-PRUNED)
        return every


class Explanation:
    """A sentence or two that the model adds to an answer, its likeliest token each time."""

    def __init__(self, owner: RowAsking, answer: Answered, row: Fork, tokens: Ints) -> None:
        self._owner, self._answer = owner, answer
        self._said: list[int] = []
        self._fork = owner.fork(row, tokens, self._heard)

    def _heard(self, place: int) -> None:
        asking = self._owner.asking
        token = asking.reader.likeliest(place)
        self._answer.completion_tokens += 1
        if not asking.vocabulary.ends(token):
            self._said.append(token)
        said = asking.vocabulary.text(self._said).lstrip()
        full = asking.vocabulary.ends(token) or len(self._said) >= EXPLANATION
        if full or "\n" in said or len(_SENTENCE_END.findall(said)) >= SENTENCES:
            self._answer.explanation = said.partition("\n")[0].strip()
            self._owner.drop(self._fork)
            self._owner.explained()
        else:
            asking.forks.extend(self._fork, token)
