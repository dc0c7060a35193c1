"""Value types of settings: from TOML, from text, and back.

A kind says what is allowed in words that fit into an error message, and never what a
setting is for; that stands in `isocenter.services.settings.loading`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, NamedTuple, Protocol, TypeVar

from isocenter.engine.ae import is_ae_title
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import is_uid
from isocenter.services.net.addresses import is_host

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
E = TypeVar("E", bound=Enum)

_PORT_MAX: Final = 65_535
_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})


class InvalidValueError(ValueError):
    """A value that is not allowed, whose message says all: neither it nor "must be …" is shown."""


class PartFault(NamedTuple):
    """A part of a list or a table that is not allowed.

    Attributes:
        where: ``no. 2``, or ``no. 2: port``.
        allowed: completes "must be …".
    """

    where: str
    value: object
    allowed: str
    cause: Exception


class InvalidPartsError(ValueError):
    """Parts of a list or a table that are not allowed, all of them."""

    def __init__(self, faults: Sequence[PartFault]) -> None:
        super().__init__(f"{len(faults)} parts are not allowed")
        self.faults = tuple(faults)


class Part(NamedTuple, Generic[T]):
    """A part that is still to be read: where it stands, its value, what it must be, how."""

    where: str
    value: object
    allowed: str
    read: Callable[[], T]


def each(parts: Iterable[Part[T]]) -> list[T]:
    """What the parts come to.

    Raises:
        InvalidPartsError: one or more are not allowed.
    """
    good: list[T] = []
    faults: list[PartFault] = []
    for where, value, allowed, read in parts:
        try:
            good.append(read())
        except InvalidPartsError as error:
            faults += [one._replace(where=f"{where}: {one.where}") for one in error.faults]
        except (ValueError, TypeError) as error:
            faults.append(PartFault(where, value, allowed, error))
    if faults:
        raise InvalidPartsError(faults)
    return good


def items(read: Callable[[Any], T], values: Iterable[object], allowed: str) -> tuple[T, ...]:
    """What *read* makes of each of *values*; faults count from 1."""
    return tuple(
        each(
            Part(f"no. {number}", one, allowed, partial(read, one))
            for number, one in enumerate(values, 1)
        )
    )


class ValueType(Protocol[T_co]):
    """One kind of value.  All three raise `ValueError` or `TypeError` for what is not allowed."""

    @property
    def allowed(self) -> str:
        """Completes "must be …"."""
        ...

    def from_toml(self, value: object) -> T_co:
        """A value of a TOML file."""
        ...

    def from_text(self, text: str) -> T_co:
        """An option or an environment variable."""
        ...

    def to_toml(self, value: object) -> str:
        """As a TOML file would have it."""
        ...


def toml_string(text: str) -> str:
    """A TOML basic string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@dataclass(frozen=True, slots=True)
class Text:
    """Text that satisfies a predicate."""

    allowed: str
    is_allowed: Callable[[str], bool]

    def from_toml(self, value: object) -> str:
        """As it is."""
        if not isinstance(value, str):
            raise TypeError
        return self.from_text(value)

    def from_text(self, text: str) -> str:
        """As it is."""
        if not self.is_allowed(text):
            raise ValueError
        return text

    def to_toml(self, value: object) -> str:
        """Quoted."""
        return toml_string(str(value))


AE_TITLE: Final = Text("an AE title: 1 to 16 characters, without backslash", is_ae_title)
AE_TITLE_PATTERN: Final = Text(
    "an AE title, with * for any characters and ? for one, up to 16 characters", is_ae_title
)
HOST: Final = Text("a host name or an address", is_host)
UID: Final = Text("a UID", is_uid)
SECRET: Final = Text("text", lambda _: True)


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number within a range; *zero* says what 0 means when the range leaves it out."""

    minimum: int
    maximum: int
    unit: str = ""
    zero: str = ""

    @property
    def allowed(self) -> str:
        """The range, and what 0 means."""
        unit = f" {self.unit}" if self.unit else ""
        zero = f", or 0: {self.zero}" if self.zero else ""
        return f"a whole number from {self.minimum} to {self.maximum}{unit}{zero}"

    def from_toml(self, value: object) -> int:
        """A TOML integer."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError
        if not (self.minimum <= value <= self.maximum or (self.zero and value == 0)):
            raise ValueError
        return value

    def from_text(self, text: str) -> int:
        """Decimal digits."""
        if not re.fullmatch(r"[0-9]{1,20}", text.strip()):
            raise ValueError
        return self.from_toml(int(text))

    def to_toml(self, value: object) -> str:
        """Decimal digits."""
        return str(value)


#: 0 asks the system for a free port; it is printed.
PORT: Final = Integer(0, _PORT_MAX)
PEER_PORT: Final = Integer(1, _PORT_MAX)


@dataclass(frozen=True, slots=True)
class Seconds:
    """A duration above 0."""

    maximum: float = 86_400.0

    @property
    def allowed(self) -> str:
        """The range."""
        return f"a number of seconds above 0, up to {self.maximum:g}"

    def from_toml(self, value: object) -> float:
        """A TOML integer or float."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError
        if not 0 < value <= self.maximum:  # also not NaN
            raise ValueError
        return float(value)

    def from_text(self, text: str) -> float:
        """A decimal number."""
        return self.from_toml(float(text))

    def to_toml(self, value: object) -> str:
        """A TOML float."""
        return repr(value)


@dataclass(frozen=True, slots=True)
class Boolean:
    """True or false."""

    allowed: str = "true or false"

    def from_toml(self, value: object) -> bool:
        """A TOML boolean."""
        if not isinstance(value, bool):
            raise TypeError
        return value

    def from_text(self, text: str) -> bool:
        """Also yes, no, on, off, 1, 0."""
        word = text.strip().lower()
        if word not in _TRUE | _FALSE:
            raise ValueError
        return word in _TRUE

    def to_toml(self, value: object) -> str:
        """A TOML boolean."""
        return "true" if value else "false"


@dataclass(frozen=True, slots=True)
class Choice(Generic[E]):
    """A member of an enumeration whose values are text."""

    members: type[E]

    @property
    def allowed(self) -> str:
        """All of them."""
        return " or ".join(str(member.value) for member in self.members)

    def from_toml(self, value: object) -> E:
        """Its value."""
        if not isinstance(value, str):
            raise TypeError
        return self.members(value)

    def from_text(self, text: str) -> E:
        """Its value."""
        return self.members(text)

    def to_toml(self, value: object) -> str:
        """Its value, quoted."""
        assert isinstance(value, Enum)
        return toml_string(str(value.value))


def is_time_zone(text: str) -> bool:
    """Whether the IANA time zone database of this machine has it."""
    if text == "UTC":
        return True
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # few need it

    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def one_of(*words: str) -> Text:
    """Text that is one of *words*."""
    return Text(" or ".join(words), frozenset(words).__contains__)


@dataclass(frozen=True, slots=True)
class FilePath:
    """A path; ``~`` is the home directory."""

    allowed: str = "a path"
    #: What has it is for the machine alone to say (`Setting.is_of_machine`).
    names_place: ClassVar[bool] = True

    def from_toml(self, value: object) -> Path:
        """The loader makes it relative to the file that it stands in."""
        if not isinstance(value, str):
            raise TypeError
        return self.from_text(value)

    def from_text(self, text: str) -> Path:
        """Relative to the working directory."""
        if not text or "\0" in text:
            raise ValueError
        try:
            return Path(text).expanduser()
        except RuntimeError as error:  # no home directory
            raise ValueError from error

    def to_toml(self, value: object) -> str:
        """Quoted."""
        return toml_string(str(value))


def names_place(kind: object) -> bool:
    """Whether values are places that the server reads or writes, or code that it runs."""
    return bool(getattr(kind, "names_place", False))


@dataclass(frozen=True, slots=True)
class ListOf(Generic[T]):
    """Any number of one kind."""

    kind: ValueType[T]

    @property
    def allowed(self) -> str:
        """What each may be."""
        return f"a list, each {self.kind.allowed}"

    @property
    def names_place(self) -> bool:
        """Whether each does."""
        return names_place(self.kind)

    def from_toml(self, value: object) -> tuple[T, ...]:
        """A TOML array."""
        if not isinstance(value, list):
            raise TypeError
        return items(self.kind.from_toml, value, self.kind.allowed)

    def from_text(self, text: str) -> tuple[T, ...]:
        """Separated by commas."""
        texts = [item.strip() for item in text.split(",") if item.strip()]
        return items(self.kind.from_text, texts, self.kind.allowed)

    def to_toml(self, value: object) -> str:
        """A TOML array."""
        assert isinstance(value, tuple)
        return f"[{', '.join(self.kind.to_toml(item) for item in value)}]"
