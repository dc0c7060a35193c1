"""Frozen values that are made often: messages, commands, events, effects."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, TypeVar

T = TypeVar("T")


def quick_init(cls: type[T]) -> type[T]:
    """Give a frozen dataclass with slots an ``__init__`` that costs little more than half.

    The one that `dataclasses` writes looks each field up by name, past the ``__setattr__``
    that refuses; this one goes to the slots at once.  Put it above the dataclass decorator.
    """
    parameters, lines = ["self"], []
    names: dict[str, Any] = {}
    for each in fields(cls):  # type: ignore[arg-type]
        if each.kw_only and "*" not in parameters:
            parameters.append("*")
        default = ""
        if each.default is not MISSING:
            names[f"default_{each.name}"] = each.default
            default = f" = default_{each.name}"
        elif each.default_factory is not MISSING:
            raise TypeError(f"{cls.__name__}.{each.name}: a default factory is not for this")
        parameters.append(each.name + default)
        names[f"set_{each.name}"] = cls.__dict__[each.name].__set__
        lines.append(f"    set_{each.name}(self, {each.name})\n")
    source = f"def __init__({', '.join(parameters)}):\n{''.join(lines) or '    pass'}"
    exec(source, names)  # noqa: S102 (our own field names)
    made = names["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    made.__module__ = cls.__module__
    made.__annotations__ = getattr(cls.__init__, "__annotations__", {})
    cls.__init__ = made  # type: ignore[method-assign]
    return cls
