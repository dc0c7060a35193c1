"""Field of a section: default, value type, and help of a setting."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Final

from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.services.settings import value_types as kinds

MIB: Final = 1 << 20
#: How many of something at once.
COUNT: Final = kinds.Integer(1, 1_000_000, zero="no limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSpec:
    """What the table knows of a field beside its default."""

    kind: kinds.ValueType[object]
    help: str
    flag: str = ""
    off_flag: str = ""
    metavar: str = ""
    is_secret: bool = False
    off_help: str = ""
    default_text: str = ""


def setting(
    default: Any,
    kind: kinds.ValueType[object],
    text: str,
    flag: str = "",
    metavar: str = "",
    *,
    off_flag: str = "",
    off_help: str = "",
    default_text: str = "",
    is_secret: bool = False,
) -> Any:
    """A field of a section: *default*, or what makes it; what *kind* allows; *text* for ``--help``,
    and *flag*, or for false *off_flag* (which *off_help* explains), as option of ``isocenter
    serve``.  *default_text* says what a default is that the machine decides."""
    spec = FieldSpec(
        kind=kind,
        help=text,
        flag=flag,
        metavar=metavar,
        off_flag=off_flag,
        off_help=off_help,
        default_text=default_text,
        is_secret=is_secret,
    )
    if callable(default):
        return field(default_factory=default, metadata={"spec": spec}, repr=not is_secret)
    return field(default=default, metadata={"spec": spec}, repr=not is_secret)


def seconds(default: float, text: str) -> Any:
    """A duration."""
    return setting(default, kinds.Seconds(), text)


def limit(name: str, minimum: int, maximum: int, text: str, unit: str = "bytes") -> Any:
    """A bound of the engine, which is also its default."""
    return setting(getattr(DEFAULT_LIMITS, name), kinds.Integer(minimum, maximum, unit), text)
