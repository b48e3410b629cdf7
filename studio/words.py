"""Numbers, times and sizes as people say them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime


def number(value: float) -> str:
    """1204 -> "1,204"; fractions below ten keep one digit: 3.14 -> "3.1"."""
    if isinstance(value, float) and not value.is_integer() and abs(value) < 10:
        return f"{value:.1f}"
    return f"{round(value):,}"


def plural(count: int, one: str, many: str = "") -> str:
    """(1, "row") -> "1 row", (1204, "row") -> "1,204 rows"."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def percent(share: float, digits: int = 0) -> str:
    """0.954 -> "95%". Never rounds a part to nothing or to everything: 0.999 -> ">99%", 0.001 -> "<1%"."""
    step = 10.0**-digits
    if 0 < share * 100 < step / 2:
        return f"<{step:.{digits}f}%"
    if 100 - step / 2 <= share * 100 < 100:
        return f">{100 - step:.{digits}f}%"
    return f"{share * 100:.{digits}f}%"


def duration(seconds: float) -> str:
    """How long something takes, in the precision people plan with: 4 -> "a few seconds", 250 -> "4 minutes"."""
    if seconds < 8:
        return "a few seconds"
    if seconds < 55:
        return f"{5 * max(round(seconds / 5), 1)} seconds"
    minutes = round(seconds / 60)
    if minutes < 60:
        return plural(max(minutes, 1), "minute")
    hours = seconds / 3600
    if hours < 48:
        return f"{number(round(hours, 1))} hours" if hours >= 1.05 else "1 hour"
    return plural(round(hours / 24), "day")


def time_left(seconds: float | None) -> str:
    """What is shown beside a progress bar while something runs; "" while unknown."""
    if seconds is None:
        return ""
    words = duration(seconds)
    return f"{words} left" if words.startswith("a few") else f"about {words} left"


def ago(moment: datetime, now: datetime | None = None) -> str:
    """How long ago `moment` was (aware, or naive in UTC): "just now", "4 minutes ago", "3 days ago"."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    seconds = ((now or datetime.now(UTC)) - aware).total_seconds()
    if seconds < 45:
        return "just now"
    if seconds < 3600:
        return f"{plural(max(round(seconds / 60), 1), 'minute')} ago"
    if seconds < 86_400:
        return f"{plural(max(round(seconds / 3600), 1), 'hour')} ago"
    return f"{plural(round(seconds / 86_400), 'day')} ago"


def file_size(count: int) -> str:
    """Bytes in decimal units, as file managers show them: 1_234_567 -> "1.2 MB"."""
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "bytes" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def distinct(names: Mapping[str, str]) -> dict[str, str]:
    """Names for keys; where two keys share a name, the start of the key is added to tell them apart."""
    counts = Counter(names.values())
    return {key: name if counts[name] == 1 else f"{name} ({key[:8]})" for key, name in names.items()}


def short(text: str, length: int = 80) -> str:
    """One line of at most `length` characters; what was cut is marked by an ellipsis."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"
