from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio import words

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (3, "a few seconds"),
        (21, "20 seconds"),
        (61, "1 minute"),
        (250, "4 minutes"),
        (3600, "1 hour"),
        (5400, "1.5 hours"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said


@pytest.mark.parametrize(
    ("share", "said"), [(0.0, "0%"), (0.001, "<1%"), (0.954, "95%"), (0.999, ">99%"), (1.0, "100%")]
)
def test_percentages_never_round_a_part_to_nothing_or_all(share: float, said: str) -> None:
    assert words.percent(share) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(5, "just now"), (240, "4 minutes ago"), (7200, "2 hours ago"), (200_000, "2 days ago")]
)
def test_how_long_ago(seconds: int, said: str) -> None:
    assert words.ago(NOW - timedelta(seconds=seconds), NOW) == said


def test_plurals_and_sizes() -> None:
    assert words.plural(1, "row") == "1 row"
    assert words.plural(1204, "row") == "1,204 rows"
    assert words.file_size(1_234_567) == "1.2 MB"
    assert words.file_size(327) == "327 bytes"


@given(st.dictionaries(st.text("abcdef0123456789", min_size=32, max_size=32), st.sampled_from(["one", "two"])))
def test_distinct_names_are_distinct(names: dict[str, str]) -> None:
    told_apart = words.distinct(names)
    assert told_apart.keys() == names.keys()
    assert all(told_apart[key].startswith(name) for key, name in names.items())
