"""Rules that decide about rows before any model does: by words, or by a pattern in time linear in the text.

Patterns are read by RE2, which has neither lookarounds nor back references and therefore no pattern that takes
forever. A text is searched up to `LONGEST` characters, where it ends for `$`, too, and a pattern may be `LARGEST`
instructions long. So there is a bound on the work for a row: mostly microseconds, half a second for the worst.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from engine.text.conversation import recognised
from workspace.errors import TaskError
from workspace.facts import RowRule

LONGEST = 50_000
LARGEST = 250_000
MEMORY = 8 << 20  # bytes of a pattern, ready and while it searches
MEMORY_OF_KEYWORDS = 64 << 20  # thousands of them are one pattern
EXAMPLES = 5
# What stands around a whole word; RE2's own \b knows ASCII only.
_EDGE = r"[^\pL\pN\pM_]"


class Caught(NamedTuple):
    """What a rule would do to some texts: how many it is the first to catch, and where some of those stand."""

    rule: str
    texts: int
    examples: tuple[int, ...]


class Prefilter:
    """The rules of a task, ready. Raises TaskError naming the rule that cannot be used."""

    def __init__(self, rules: Sequence[RowRule], conversation: bool = False) -> None:
        self.rules = tuple(rules)
        self._conversation = conversation
        self._searches = [_search(rule) for rule in self.rules]

    def find(self, text: str) -> int | None:
        """The place of the first rule that catches the raw text, None where none does.

        With `conversation`, a text that is one is searched as its line of signals and its turns, not as JSON.
        """
        subject = (_turns(text) if self._conversation else text)[:LONGEST].encode("utf-8", "replace")
        for place, search in enumerate(self._searches):
            if search(subject):
                return place
        return None


def check_rules(rules: Sequence[RowRule]) -> None:
    """Raises TaskError, in a sentence that names the rule, when one of them cannot be used."""
    Prefilter(rules)


def preview(rules: Sequence[RowRule], texts: Sequence[str], conversation: bool = False) -> list[Caught]:
    """What each rule catches of these texts, in the order of the rules. Raises TaskError as `check_rules`."""
    prefilter = Prefilter(rules, conversation)
    places: list[list[int]] = [[] for _ in rules]
    for number, text in enumerate(texts):
        caught = prefilter.find(text)
        if caught is not None:
            places[caught].append(number)
    return [
        Caught(rule.name, len(those), tuple(those[:EXAMPLES])) for rule, those in zip(rules, places, strict=True)
    ]


def _turns(text: str) -> str:
    found = recognised(text)
    if found is None:
        return text
    return "\n".join([found.signals(), *(f"{turn.role}: {turn.text}" for turn in found.turns)])


def _search(rule: RowRule) -> Callable[[bytes], bool]:
    compiled = _compiled(_of_keywords(rule), False) if rule.keywords else _compiled(rule.pattern, True)
    if isinstance(compiled, str):
        raise TaskError(
            f"The prefilter rule '{rule.name}' cannot be used: {compiled}.",
            "Nothing was changed. Patterns are written as RE2 reads them; it takes most of what others take.",
        )
    return lambda text: compiled.search(text) is not None


def _of_keywords(rule: RowRule) -> str:
    import re2

    words = [" ".join(keyword.split()) for keyword in rule.keywords]
    if not all(words):
        raise TaskError(f"The prefilter rule '{rule.name}' has an empty keyword.", "Nothing was changed.")
    spelled = (re2.escape(word).replace("\\ ", "\\s+") for word in words)
    return f"(?:^|{_EDGE})(?:{'|'.join(spelled)})(?:$|{_EDGE})"


@lru_cache(maxsize=256)
def _compiled(pattern: str, by_case: bool) -> Any:
    """The pattern, ready; or what is wrong with it, in words."""
    import re2

    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.case_sensitive = by_case
    options.max_mem = MEMORY if by_case else MEMORY_OF_KEYWORDS
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        return _in_words(error.args[0] if error.args else b"")
    if compiled.programsize > LARGEST:
        return "it is too large"
    return compiled


def _in_words(problem: bytes | str) -> str:
    text = problem.decode("utf-8", "replace") if isinstance(problem, bytes) else str(problem)
    if any(text.endswith(f"perl operator: {sign}") for sign in ("(?=", "(?!", "(?<", "(?<!", "(?<=")):
        return "lookaheads and lookbehinds are not supported"
    if "(?P" in text or (text.startswith("invalid escape sequence") and text[-1:].isdigit()):
        return "back references are not supported"
    if "too large" in text or "repetition size" in text:
        return f"it is too large ({text})"
    return f"its pattern is not valid ({text})"
