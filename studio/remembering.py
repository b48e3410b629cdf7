"""Results that take seconds, kept for as long as nothing in the workspace they depend on has changed.

While a run grows only the number of facts changes, and what one more answer changes is little: a result then
stands for a while.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from studio.runtime import Studio
from workspace import truth
from workspace.truth import State

T = TypeVar("T")
PATIENCE = 10.0  # while a run grows, a result stands for so many times as long as it took


@dataclass(frozen=True)
class _Known:
    state: State
    of: object
    value: Any
    until: float  # on the monotonic clock, while only the number of facts has changed


_known: WeakKeyDictionary[Studio, dict[tuple[object, ...], _Known]] = WeakKeyDictionary()
_guard = threading.Lock()


def remembered(
    studio: Studio, key: tuple[object, ...], run_id: str, work: Callable[[], T], of: object = None
) -> T:
    """The result of `work`, kept while nothing it depends on has changed; `of` is what else that is."""
    now = truth.state(studio.store, run_id)
    with _guard:
        known = _known.setdefault(studio, {}).get(key)
    if (
        known is not None
        and known.of == of
        and (known.state.said, known.state.links) == (now.said, now.links)
        and (known.state.facts == now.facts or time.monotonic() < known.until)
    ):
        return known.value  # type: ignore[no-any-return]
    started = time.monotonic()
    value = work()
    ended = time.monotonic()
    with _guard:
        _known[studio][key] = _Known(now, of, value, ended + PATIENCE * (ended - started))
    return value


def stays(studio: Studio, key: tuple[object, ...], of: object) -> None:
    """What is known under this key, if anything, is as true for this `of`: that changed and the result did not."""
    with _guard:
        known = _known.setdefault(studio, {})
        if key in known:
            known[key] = replace(known[key], of=of)
