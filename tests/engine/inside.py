"""Looking into an association: what it is made of, what it holds, and a second one just like it."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from enum import Enum
from types import FunctionType, ModuleType

from isocenter.engine.association import Association
from isocenter.engine.limits import Limits


def parts(value: object) -> list[tuple[object, object]]:
    """What *value* refers to, by name or position; nothing for what everybody shares."""
    match value:
        case None | int() | str() | bytes() | bytearray() | Enum() | type():
            return []
        case FunctionType() | ModuleType() | Limits():
            return []
        case memoryview():
            return [("obj", value.obj)]
        case Mapping():
            return list(enumerate(value.items()))
        case list() | tuple():
            return list(enumerate(value))
        case set() | frozenset():
            return list(enumerate(sorted(value)))
        case _:
            names = [
                name for kind in type(value).__mro__ for name in vars(kind).get("__slots__", ())
            ]
            names += vars(value) if hasattr(value, "__dict__") else ()
            return [(name, getattr(value, name, None)) for name in names]


def picture(value: object) -> object:
    """All that *value* is made of, as a value to compare."""
    if isinstance(value, bytearray | memoryview):
        return type(value).__name__, bytes(value)
    inside = parts(value)
    if not inside:
        return value
    return type(value).__name__, tuple((name, picture(part)) for name, part in inside)


def bytes_held(root: object) -> int:
    """What *root* keeps alive, in bytes, each object counted once."""
    seen: dict[int, object] = {}
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if id(value) not in seen and not isinstance(value, Enum | type | FunctionType | Limits):
            seen[id(value)] = value
            waiting += [part for _, part in parts(value)]
    return sum(map(sys.getsizeof, seen.values()))


def clone(end: Association) -> Association:
    """A second association in the same state; what cannot change is shared."""
    shared = (end.negotiated, end._limits, end._request, end._last_sent)
    return copy.deepcopy(end, {id(value): value for value in shared})
