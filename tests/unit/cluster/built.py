"""Any message and entry there can be, for hypothesis, built from the types and their bounds."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from hypothesis import strategies as st
from msgspec import Meta

MOST = 4  # items and characters beyond what has to be there: bounds themselves are tried one by one

_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(-(1 << 63), (1 << 64) - 1),
    float: st.floats(allow_nan=False),
    str: st.text(max_size=MOST),
    bytes: st.binary(max_size=MOST),
    NoneType: st.none(),
}


def built(kind: Any) -> st.SearchStrategy[Any]:
    """Every value of a type within its bounds, small ones for the most part."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if origin is Annotated:
        return _bounded(parts[0], parts[1])
    if origin is Literal:
        return st.sampled_from(parts)
    if origin in (Union, UnionType):
        return st.one_of([built(part) for part in parts])
    if origin is tuple:
        if parts[1:] == (...,):
            return st.lists(built(parts[0]), max_size=MOST).map(tuple)
        return st.tuples(*(built(part) for part in parts))
    if origin is dict:
        return st.dictionaries(built(parts[0]), built(parts[1]), max_size=MOST)
    assert issubclass(kind, msgspec.Struct), kind
    hints = get_type_hints(kind, include_extras=True)
    return st.builds(kind, **{name: built(hints[name]) for name in kind.__struct_fields__})


def _bounded(kind: Any, meta: Meta) -> st.SearchStrategy[Any]:
    if meta.pattern is not None:
        return st.from_regex(meta.pattern, fullmatch=True, alphabet=st.characters(max_codepoint=126))
    if kind is int:
        high = meta.le if meta.lt is None else meta.lt - 1
        assert meta.ge is not None
        assert high is not None
        return st.integers(int(meta.ge), int(high))
    if kind is float:
        low = meta.ge if meta.gt is None else meta.gt
        return st.floats(low, meta.le, allow_nan=False, exclude_min=meta.gt is not None)
    least, most = meta.min_length or 0, meta.max_length
    assert most is not None
    most = max(least, min(most, least + MOST))
    if kind is str:
        return st.text(min_size=least, max_size=most)
    if kind is bytes:
        return st.binary(min_size=least, max_size=most)
    if get_origin(kind) is dict:
        keys, values = (built(part) for part in get_args(kind))
        return st.dictionaries(keys, values, min_size=least, max_size=most)
    parts = get_args(kind)
    assert parts[1:] == (...,), kind
    return st.lists(built(parts[0]), min_size=least, max_size=most).map(tuple)
