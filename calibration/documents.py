"""Fitted things to JSON and back, to the last digit and without pickle."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Document:
    """Gives a frozen dataclass of numbers and (nested) tuples of numbers its JSON.

    Floats are written with as many digits as it takes to read the very same number again.
    """

    method: ClassVar[str]

    def to_json(self) -> str:
        """{"method": ..., and one entry for every field}."""
        return json.dumps({"method": self.method, **asdict(self)})

    @classmethod
    def from_json(cls, document: str) -> Self:
        """Read what `to_json` wrote. Raises ValueError if it is anything else."""
        data = read(document)
        if data.get("method") != cls.method:
            raise ValueError(f"this is no document of a calibrator of the kind {cls.method}")
        names = {field.name for field in fields(cls)}
        if set(data) != names | {"method"}:
            raise ValueError(f"a calibrator of the kind {cls.method} has the fields {sorted(names)}")
        return cls(**{name: _frozen(data[name]) for name in names})


def read(document: str) -> dict[str, Any]:
    """The object a JSON text holds. Raises ValueError if it holds anything else."""
    data = json.loads(document)
    if not isinstance(data, dict):
        raise ValueError("a fitted calibrator is a JSON object")
    return data


def numbers_alike(*lists: Numbers) -> None:
    """Raises ValueError unless all are equally long, not empty, and hold nothing but finite numbers."""
    for numbers in lists:
        if len(numbers) != len(lists[0]) or not numbers:
            raise ValueError("a calibrator has as many numbers of one kind as of the other")
        if not all(isinstance(number, float) and math.isfinite(number) for number in numbers):
            raise ValueError("a calibrator is made of finite numbers")


def _frozen(value: object) -> Any:
    """Lists as tuples, numbers as floats; ValueError for anything else."""
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)
