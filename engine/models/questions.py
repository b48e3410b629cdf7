"""Dimensions as one model is asked them: prompts, what follows the row for each, and the tokens of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.models.chat_template import Frame, frame
from engine.models.label_tree import LabelTree, label_tree
from engine.models.llama_native import Ints, NativeModel
from engine.models.phrasings import stem
from engine.prompt import LISTED, LISTED_LABELS, YES_NO, letters
from workspace.errors import ModelError
from workspace.facts import DimensionSpec, Phrasing

KEPT = 4096  # questions kept for rows that are asked the same


@dataclass(frozen=True)
class Question:
    """What follows the row when a dimension is asked in one phrasing, and the answers it can have."""

    suffix: Ints  # up to the first token by which answers differ
    tree: LabelTree
    open: tuple[Ints, ...]  # for each branching of the tree, the tokens from the end of `suffix` to it
    label: int  # of a multi dimension, which label is asked about; -1 for all
    shortlist: tuple[int, ...]  # labels that `tree` decides between, () for all
    words: tuple[str, ...]  # answers in the order of the tree
    stem: str  # text before the answer, without the row
    lead: str  # between it and the answer


@dataclass
class Group:
    """Dimensions with the same text before the row, which is therefore computed once for all of them."""

    frame: Frame
    prefix: Ints
    places: list[int] = field(default_factory=list)  # of its dimensions among those of the run


class Questions:
    """The questions of a run's dimensions for one model. Raises ModelError when one of them cannot be asked."""

    def __init__(self, model: NativeModel, dimensions: Sequence[DimensionSpec]) -> None:
        self._model = model
        self.dimensions = tuple(dimensions)
        self.groups: list[Group] = []
        self._group_of: list[Group] = []
        self._known: dict[tuple[int, Phrasing, str, int, tuple[int, ...]], Question] = {}
        self._trees: dict[tuple[int, Phrasing, bool, tuple[int, ...]], tuple[LabelTree, tuple[str, ...]]] = {}
        found: dict[tuple[str, str], Group] = {}
        for place, dimension in enumerate(self.dimensions):
            key = (dimension.system, dimension.user)
            if key not in found:
                found[key] = self._group(dimension)
                self.groups.append(found[key])
            found[key].places.append(place)
            self._group_of.append(found[key])
            for phrasing in dimension.phrasings:
                self._answers(place, phrasing, 0 if dimension.kind == "multi" else -1, ())

    def of(self, place: int, told: str = "", shortlist: tuple[int, ...] = ()) -> list[Question]:
        """All questions of a dimension: one for each phrasing, and of a multi dimension for each label in turn.

        `told` are the earlier answers, a line for each; `shortlist` the labels that come into question.
        """
        dimension = self.dimensions[place]
        asked = range(len(dimension.labels)) if dimension.kind == "multi" else (-1,)
        return [
            self._question(place, phrasing, told, label, shortlist)
            for phrasing in dimension.phrasings
            for label in asked
        ]

    def typical(self, place: int) -> list[Question]:
        """The questions of a dimension as long as they get, apart from what the model is told before."""
        if not self.is_shortlisted(place):
            return self.of(place)
        words = self.dimensions[place].words
        longest = sorted(range(len(words)), key=lambda index: -len(words[index]))[:LISTED_LABELS]
        return self.of(place, shortlist=tuple(sorted(longest)))

    def is_shortlisted(self, place: int) -> bool:
        """Whether the labels that come into question are listed after each row."""
        return LISTED in self.dimensions[place].user

    def _group(self, dimension: DimensionSpec) -> Group:
        model = self._model
        text = frame(
            dimension,
            model.chat_template(),
            model.text_of(model.bos),
            model.text_of(model.eos),
            chatml=len(model.tokens("<|im_end|>", special=True)) == 1,
        )
        prefix = model.tokens(text.prefix, special=True)
        if model.adds_bos and model.bos >= 0 and prefix[:1] != [model.bos]:
            prefix.insert(0, model.bos)
        if not prefix:
            raise ModelError(f"The instructions of '{dimension.name}' are empty.", "Write what is asked.")
        return Group(text, _ints(prefix))

    def _question(
        self, place: int, phrasing: Phrasing, told: str, label: int, shortlist: tuple[int, ...]
    ) -> Question:
        key = (place, phrasing, told, label, shortlist)
        known = self._known.get(key)
        if known is not None:
            return known
        dimension = self.dimensions[place]
        listed = [dimension.words[index] for index in shortlist] if shortlist else dimension.words
        before, lead = stem(dimension, self._group_of[place].frame, phrasing, told, label, listed)
        tree, words = self._answers(place, phrasing, label, shortlist)
        root = tree.branchings[0].path
        question = Question(
            np.concatenate([_ints(self._model.tokens(before, special=True)), root]),
            tree,
            tuple(branching.path[len(root) :] for branching in tree.branchings),
            label,
            shortlist,
            words,
            before,
            lead,
        )
        if len(self._known) >= KEPT:
            self._known.clear()
        self._known[key] = question
        return question

    def _answers(
        self, place: int, phrasing: Phrasing, label: int, shortlist: tuple[int, ...]
    ) -> tuple[LabelTree, tuple[str, ...]]:
        """The tree of a question's answers; the same whatever the model is told before."""
        key = (place, phrasing, label >= 0, shortlist)
        known = self._trees.get(key)
        if known is not None:
            return known
        dimension = self.dimensions[place]
        words: tuple[str, ...] = dimension.words
        if label >= 0:
            words = YES_NO
        elif phrasing == "letters":
            words = letters(len(words))
        if shortlist:
            words = tuple(words[index] for index in shortlist)
        before, lead = stem(dimension, self._group_of[place].frame, phrasing, "", label, ())
        suffix = self._model.tokens(before, special=True)
        end = self._model.tokens("\n", special=False)[-1:] if phrasing == "plain" else []
        tokens = [self._word_tokens(suffix, before, lead + word) for word in words]
        tree = label_tree(tokens, end[0] if end else self._model.end_of_turn)
        if len(self._trees) >= KEPT:
            self._trees.clear()
        self._trees[key] = (tree, words)
        return tree, words

    def _word_tokens(self, suffix: list[int], suffix_text: str, word: str) -> list[int]:
        # Tokenized together with what stands before it, as it would be in a generated answer.
        together = self._model.tokens(suffix_text + word, special=True)
        if len(together) > len(suffix) and together[: len(suffix)] == suffix:
            return together[len(suffix) :]
        return self._model.tokens(word, special=False)


def _ints(tokens: Sequence[int]) -> Ints:
    return np.asarray(tokens, dtype=np.int32)
