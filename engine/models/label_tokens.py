"""Probabilities of labels from the few likeliest tokens a server tells for each token of its reply.

A server's tokens are pieces of text of unknown cutting: "Pos" may begin "Positive". A token counts for a label
when it begins that label and no other, and no longer token does; where the token the model chose begins several,
the tokens after it decide, as in a tree. That is exact up to the tokens beyond the server's list.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from engine.models.chat import Step

# Probability that the reply is a label at all, below which the numbers say nothing. Small models rather begin a
# sentence, and yet how likely the labels are beside each other says what a model that must choose would say.
LEAST_MASS = 0.001
MOST_UNCLEAR = 0.1  # share of that probability on tokens that begin several labels
SHARED = 3  # characters two labels may share and still likely differ in their first token
DEEPEST = 4  # tokens asked for where labels begin alike
FLOOR = 1e-9  # probability of a label that was not seen, at least

_LEADING = " \t\r\n\"'`*([{\u2581\u0120\u010a"  # white space as some tokenizers write it
# Words that open a sentence: "The" is more likely the beginning of one than of the label "Theft".
_OPENERS = (
    " a an and as at but by for he here how i if in is it its no not of on or she so that the there they this to "
    "we what you your "
)


def tokens_needed(words: Sequence[str]) -> int:
    """How many tokens of a reply tell these labels apart, most likely."""
    folded = sorted(word.casefold() for word in words)  # those that begin alike are neighbours
    deepest = 1
    for one, other in itertools.pairwise(folded):
        alike = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
        if alike >= SHARED or (alike and alike == len(one)):
            deepest = max(deepest, min(alike + 1, DEEPEST))
    return deepest


def label_logprobs(
    steps: Sequence[Step], words: Sequence[str], *, cut: bool = False, least: float = LEAST_MASS
) -> tuple[float, ...] | None:
    """Natural log-probabilities [words], summing to one after `exp`; None where the tokens do not tell.

    `steps` are the tokens of the reply with the likeliest alternatives at each; `cut`: the reply hit its limit,
    so that its last token need not be its end; `least`: the probability that it is a label, at least. A label
    that is in no list gets the smallest probability listed, or its share of what the list leaves out, whichever
    is less.
    """
    if not steps:
        return None
    folded = [word.casefold() for word in words]
    mass, unclear = _collect(steps, folded, cut=cut)
    total = sum(mass)
    if total <= 0 or total < least or unclear > MOST_UNCLEAR * (total + unclear):
        return None
    listed = [math.exp(value) for _, value in _options(steps[0])]
    unseen = [place for place, value in enumerate(mass) if value <= 0]
    if unseen:
        rest = max(0.0, 1.0 - sum(listed)) / len(unseen)
        floor = max(FLOOR, min(rest, min(listed)))
        for place in unseen:
            mass[place] = floor
    total = sum(mass)
    return tuple(math.log(value / total) for value in mass)


def _collect(steps: Sequence[Step], words: Sequence[str], *, cut: bool) -> tuple[list[float], float]:
    """Probability of each label, and of tokens that begin several of them."""
    mass = [0.0] * len(words)
    unclear = 0.0
    path, before = "", 0.0  # what the reply says so far, without what leads to it, and its log-probability
    for number, step in enumerate(steps):
        last = number + 1 == len(steps)
        onward: tuple[str, float] | None = None
        seen: list[tuple[str, float, bool, list[int]]] = []
        for token, value in _options(step):
            text = path + (token if path else token.lstrip(_LEADING)).casefold()
            if text:
                places = _places(text, words, first=not path, ended=token == "")
                seen.append((text, before + value, token == step.token, places))
            elif token == step.token:
                onward = ("", before + value)
        # Of the ways to begin a label, the model was taught the one with the longest token.
        longest = [
            max((len(t) for t, _, _, places in seen if place in places), default=0) for place in range(len(words))
        ]
        for text, value, chosen, places in seen:
            exact = [place for place in places if words[place] == text]
            if chosen and not last and len(places) > 1:
                onward = (text, value)
            elif exact and (not chosen or not cut or len(places) == 1):
                mass[exact[0]] += math.exp(value)
            elif len(places) == 1 and len(text) >= longest[places[0]]:
                mass[places[0]] += math.exp(value)
            elif len(places) > 1 and (chosen or _begins(text, places, longest)):
                unclear += math.exp(value)
        if onward is None:
            break
        path, before = onward
    return mass, unclear


def _begins(text: str, places: Sequence[int], longest: Sequence[int]) -> bool:
    """Whether a token that fits several labels may be how one of them begins: it is more than a letter, and one
    of them was not seen with a longer token."""
    return len(text) > 1 and any(longest[place] <= len(text) for place in places)


def _places(text: str, words: Sequence[str], *, first: bool, ended: bool) -> list[int]:
    if ended:
        return [place for place, word in enumerate(words) if word == text]
    begun = [place for place, word in enumerate(words) if word.startswith(text)]
    if begun:
        opener = first and f" {text.strip()} " in _OPENERS
        return [place for place in begun if words[place] == text.strip()] if opener else begun
    # Said to its end: the label and then something that cannot go on with it.
    said = [place for place, word in enumerate(words) if text.startswith(word) and not text[len(word)].isalnum()]
    longest = max((len(words[place]) for place in said), default=0)
    return [place for place in said if len(words[place]) == longest]


def _options(step: Step) -> list[tuple[str, float]]:
    """The tokens of a step with usable log-probabilities, the chosen one among them, each once."""
    seen: dict[str, float] = {}
    for token, value in ((step.token, step.logprob), *step.top):
        if math.isfinite(value) and token not in seen:
            seen[token] = min(0.0, value)
    return list(seen.items())
