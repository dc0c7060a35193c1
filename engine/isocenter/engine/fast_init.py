"""`dataclass` with less work at import and for each instance."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, FrozenInstanceError, fields
from dataclasses import dataclass as _standard
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    # For whoever checks types it is the one that they know.
    from dataclasses import dataclass
else:

    def dataclass(cls=None, /, *, frozen=False, slots=False, kw_only=False, eq=True):
        """A class with fields, as `dataclasses.dataclass` makes it; `fields`, `replace` … know it.

        The standard library writes and compiles six methods for each frozen class: a quarter of a
        millisecond, hundreds of times before a server listens.  Here only ``__init__`` is
        written; the other methods are the same code for all classes.  Where a class is frozen and
        has slots, its ``__init__`` sets the slots at once, past the ``__setattr__`` that refuses.

        It takes those options of the standard library's that are in use here.
        """

        def make(cls):
            # Fields, slots, and what `match` needs; no methods.
            made = _standard(init=False, repr=False, eq=False, slots=slots, kw_only=kw_only)(cls)
            for name, method in _methods(made, frozen, slots, eq).items():
                if name not in made.__dict__:
                    setattr(made, name, method)
            return made

        return make if cls is None else make(cls)


__all__ = ["dataclass"]


class _Factory:
    """The default of a parameter whose value is made anew each time."""

    def __repr__(self) -> str:
        return "<factory>"


_FACTORY: Final = _Factory()


def _methods(cls: type, frozen: bool, slots: bool, eq: bool) -> dict[str, object]:
    methods: dict[str, object] = {"__init__": _init(cls, frozen, slots), "__repr__": _repr}
    if eq:
        values_of = _values(each.name for each in fields(cls) if each.compare)
        methods |= {"__eq__": _eq(values_of), "__hash__": _hash(values_of) if frozen else None}
    if frozen:
        methods |= {"__setattr__": _refuse_to_set, "__delattr__": _refuse_to_delete}
        if slots:
            methods |= {"__getstate__": _get_state, "__setstate__": _set_state}
    return methods


def _init(cls: Any, frozen: bool, slots: bool) -> Any:
    names: dict[str, Any] = {"FACTORY": _FACTORY, "set_any": object.__setattr__}
    positional: list[str] = ["self"]
    by_name: list[str] = []
    lines: list[str] = []
    for each in fields(cls):
        name = each.name
        default, value = _default(each, names)
        if each.init:
            (by_name if each.kw_only else positional).append(name + default)
        elif not default:
            continue  # `__post_init__` sets it
        if not frozen:
            lines.append(f" self.{name} = {value}\n")
        elif slots:
            names[f"set_{name}"] = getattr(cls, name).__set__
            lines.append(f" set_{name}(self, {value})\n")
        else:
            lines.append(f" set_any(self, {name!r}, {value})\n")
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()\n")
    parameters = ", ".join([*positional, *(["*"] if by_name else []), *by_name])
    exec(f"def __init__({parameters}):\n{''.join(lines) or ' pass'}", names)  # noqa: S102 (our own field names)
    made = names["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    made.__module__ = cls.__module__
    made.__annotations__ = {each.name: each.type for each in fields(cls) if each.init}
    made.__annotations__["return"] = None
    return made


def _default(each: Field[Any], names: dict[str, Any]) -> tuple[str, str]:
    """What stands behind the parameter of a field, and what it is set to; adds to *names*."""
    name = each.name
    if each.default is not MISSING:
        names[f"default_{name}"] = each.default
        return f" = default_{name}", name if each.init else f"default_{name}"
    if each.default_factory is not MISSING:
        names[f"make_{name}"] = each.default_factory
        made = f"make_{name}()"
        return " = FACTORY", f"{made} if {name} is FACTORY else {name}" if each.init else made
    return "", name


def _values(names: Iterable[str]) -> Callable[[Any], object]:
    """What takes these fields out of a value, to be compared."""
    chosen = tuple(names)
    return attrgetter(*chosen) if chosen else lambda value: ()


def _eq(values_of: Callable[[Any], object]) -> object:
    def __eq__(self: Any, other: Any) -> Any:  # noqa: N807 (a method in the making)
        if other.__class__ is not self.__class__:
            return NotImplemented
        return values_of(self) == values_of(other)

    return __eq__


def _hash(values_of: Callable[[Any], object]) -> object:
    def __hash__(self: Any) -> int:  # noqa: N807 (a method in the making)
        return hash(values_of(self))

    return __hash__


@recursive_repr()
def _repr(self: Any) -> str:
    shown = (f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr)
    return f"{self.__class__.__qualname__}({', '.join(shown)})"


def _refuse_to_set(self: object, name: str, value: object) -> NoReturn:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: object, name: str) -> NoReturn:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _get_state(self: Any) -> list[object]:
    return [getattr(self, each.name) for each in fields(self)]


def _set_state(self: Any, state: list[object]) -> None:
    for each, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, each.name, value)
