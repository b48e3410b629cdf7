"""What was accepted, in sentences for people."""

from __future__ import annotations

from studio.words import percent, plural
from workspace.promises import WHOLE, Kept


def accepted_words(kept: Kept) -> str:
    """ "40 rows are accepted: with 95% confidence at most 5% of their labels are wrong."""
    return f"{plural(kept.rows, 'row')} {'is' if kept.rows == 1 else 'are'} accepted{about(kept)}: {terms(kept)}."


def about(kept: Kept) -> str:
    """What of the rows is accepted, "" for all their labels."""
    return "" if kept.label == WHOLE else f" for “{kept.label}”"


def terms(kept: Kept) -> str:
    """What is promised of them."""
    error = f"at most {percent(kept.epsilon)} of their labels are wrong"
    if kept.label != WHOLE:
        error = f"it is wrongly given or left out in at most {percent(kept.epsilon)} of them"
    where = " in every domain" if kept.by_domain else ""
    return f"with {percent(1 - kept.delta)} confidence {error}{where}"
