"""Decisions of spaCy's recogniser of names for many texts at a time, as `nlp.pipe` makes them, in half the time.

The component reads a text token by token, with what it has begun, and takes the likeliest allowed action: B, I and
L begin, continue and end a name, U is one of a single token, O is none. spaCy takes the actions text by text and
asks for Python's lock at every one it considers. Here one step is taken in all texts at once, in NumPy, with the
same network: "lower" gives each token its share in each place of a state (this token; the first of the open name;
the token before, within one), whose sum, after maxout, "upper" turns into scores of the actions.
Described in Lample et al., Neural Architectures for Named Entity Recognition, NAACL 2016, and in spaCy's docs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

FREE, FREE_AT_END, FREE_ON_SPACE = range(3)  # which actions are allowed outside of names; within, by label
_PROBES = (
    "Ada Lovelace wrote to Charles Babbage in London on 5 June 1833.\n\nShe had read of the Analytical Engine.",
    "RT @someone: the new album of Lady Gaga is out, $9.99 at Best Buy  in New York City!!!",
    "no names here",
    "Berlin",
    "",
)


class Span(NamedTuple):
    """Tokens [start, end) are a name of this type."""

    start: int
    end: int
    label: str


class Recogniser:
    """The network of one component. Raises ValueError when it does not answer exactly as the component does."""

    def __init__(self, nlp: Any, ner: Any) -> None:
        model = ner.model
        self._tok2vec, self._lower = model.get_ref("tok2vec"), model.get_ref("lower")
        upper = model.get_ref("upper")
        self._bias = self._lower.get_param("b")
        self._weights, self._offset = upper.get_param("W").T, upper.get_param("b")
        moves = [ner.moves.get_class_name(number) for number in range(ner.moves.n_moves)]
        self._kinds = [move[:1] for move in moves]
        self._types = [move[2:] for move in moves]
        self._events = np.array([kind in ("B", "U", "L") for kind in self._kinds])
        labels = sorted({label for label in self._types if label})
        self._numbers = [labels.index(label) if label else -1 for label in self._types]
        self._allowed = np.array(
            [
                [self._is_allowed(kind, label, None, state) for kind, label in self._moves()]
                for state in (FREE, FREE_AT_END, FREE_ON_SPACE)
            ]
            + [
                [self._is_allowed(kind, label, open_, state) for kind, label in self._moves()]
                for open_ in range(len(labels))
                for state in (FREE, FREE_AT_END)
            ]
        )
        if (
            model.attrs.get("unseen_classes")
            or self._bias.ndim != 2
            or upper.get_param("W").shape[0] != len(moves)
        ):
            raise ValueError("a recogniser of another form")
        docs = [nlp.make_doc(text) for text in _PROBES]
        found = self.spans(docs)
        for doc, spans in zip(nlp.pipe(_PROBES), found, strict=True):
            if [Span(entity.start, entity.end, entity.label_) for entity in doc.ents] != spans:
                raise ValueError("a recogniser that decides in another way")

    def _moves(self) -> list[tuple[str, int]]:
        return list(zip(self._kinds, self._numbers, strict=True))

    @staticmethod
    def _is_allowed(kind: str, label: int, open_: int | None, state: int) -> bool:
        if open_ is not None:
            return label == open_ and (kind == "L" or (kind == "I" and state != FREE_AT_END))
        if kind == "O":
            return True
        return label >= 0 and state != FREE_ON_SPACE and (kind == "U" or (kind == "B" and state == FREE))

    def spans(self, docs: Sequence[Any]) -> list[list[Span]]:
        """The names in each of these tokenised texts, in order."""
        found: list[list[Span]] = [[] for _ in docs]
        order = sorted((place for place, doc in enumerate(docs) if len(doc)), key=lambda place: -len(docs[place]))
        if not order:
            return found
        chosen = [docs[place] for place in order]
        lengths = np.array([len(doc) for doc in chosen])
        table = self._lower.predict(self._tok2vec.predict(chosen))  # [padding and tokens, places, hidden, pieces]
        first = np.concatenate(([0], np.cumsum(lengths)[:-1])) + 1  # where each text begins in it
        begun = np.full(len(chosen), -1)  # the token the open name began with
        number = np.zeros(len(chosen), dtype=np.int64)  # of its label
        for token in range(int(lengths[0])):
            count = int(np.searchsorted(-lengths, -token, side="left"))  # texts with a token here: the longest
            is_open = begun[:count] >= 0
            rows = first[:count] + token
            hidden = (
                table[rows, 0]
                + table[np.where(is_open, first[:count] + begun[:count], 0), 1]
                + table[np.where(is_open, rows - 1, 0), 2]
                + self._bias
            ).max(axis=2)
            scores = hidden @ self._weights + self._offset
            at_end = lengths[:count] == token + 1
            on_space = np.fromiter((doc[token].is_space for doc in chosen[:count]), bool, count)
            free = np.where(on_space, FREE_ON_SPACE, np.where(at_end, FREE_AT_END, FREE))
            state = np.where(is_open, 3 + 2 * number[:count] + at_end, free)
            actions: npt.NDArray[np.int64] = np.where(self._allowed[state], scores, -np.inf).argmax(axis=1)
            for text in np.flatnonzero(self._events[actions]).tolist():
                action = int(actions[text])
                kind = self._kinds[action]
                if kind == "B":
                    begun[text], number[text] = token, self._numbers[action]
                else:
                    start = token if kind == "U" else int(begun[text])
                    found[order[text]].append(Span(start, token + 1, self._types[action]))
                    begun[text] = -1
        return found
