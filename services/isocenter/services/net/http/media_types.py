"""Media types and `Accept` (RFC 9110 8.3.1, 12.5.1), read as clients write them.

Viewers send what no grammar allows: parameters without quotes that hold a slash, a whole media
type with its own parameters within quotes, empty members of a list.  What can be understood is;
what cannot is left out, and only a header of which nothing remains is an error.

What a resource makes of the ranges (transfer syntaxes, PS3.18 8.7) is decided where the
resource is.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from isocenter.engine.fast_init import dataclass

#: Members of one `Accept` that are read; who sends more is not a viewer.
MOST_RANGES: Final = 64

#: All parts of a request are of one type as a rule, and one client accepts the same each time.
_TYPES_KEPT: Final = 64
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: As it ought to be, and what is sent without the quotes that it needs.
_UNQUOTED: Final = re.compile(r'[^\s";,]*')
_QUALITY: Final = re.compile(r"0(?:\.\d{0,9})?|1(?:\.0{0,9})?|\.\d{1,9}")


class MediaTypeError(ValueError):
    """A media type, or a list of them, that cannot be understood."""


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type, or a range of them in `Accept`.

    Attributes:
        name: ``type/subtype`` in lower case; ``*/*`` and ``image/*`` in a range.
        parameters: names in lower case, and their values without quotes, in their order.
    """

    name: str
    parameters: tuple[tuple[str, str], ...] = ()

    def parameter(self, name: str) -> str | None:
        """The value of a parameter; None: it is not there."""
        for given, value in self.parameters:
            if given == name:
                return value
        return None

    def covers(self, name: str) -> bool:
        """Whether this range includes the media type *name*, parameters aside."""
        if self.name in ("*/*", name):
            return True
        kind, _, subtype = self.name.partition("/")
        return subtype == "*" and name.startswith(kind + "/")

    @property
    def specificity(self) -> int:
        """More is more specific (RFC 9110 12.5.1): ``*/*``, ``image/*``, ``image/png``, and then
        by the number of parameters."""
        if self.name == "*/*":
            return 0
        return 1 if self.name.endswith("/*") else 2 + len(self.parameters)

    def __str__(self) -> str:
        return self.name + "".join(f"; {name}={_written(v)}" for name, v in self.parameters)


@dataclass(frozen=True, slots=True)
class AcceptedRange:
    """One member of `Accept`: a range of media types, and how much it is wanted (0 to 1)."""

    range: MediaType
    quality: float = 1.0


@lru_cache(_TYPES_KEPT)
def parse_media_type(text: str) -> MediaType:
    """The media type of a `Content-Type`.

    Raises:
        MediaTypeError: it has no type and subtype, or says a parameter twice with two values, of
            which two programs might take different ones.
    """
    found, end = _read(text, 0)
    if text[end:].strip():
        raise MediaTypeError("a media type is one type/subtype with parameters")
    seen: dict[str, str] = {}
    for name, value in found.parameters:
        if seen.setdefault(name, value) != value:
            raise MediaTypeError(f"the parameter {name} stands there twice, with two values")
    return found


@lru_cache(_TYPES_KEPT)
def parse_accept(text: str) -> tuple[AcceptedRange, ...]:
    """The members of an `Accept` header, in their order; none given: anything will do.

    Raises:
        MediaTypeError: there are members, and none of them can be understood.
    """
    found: list[AcceptedRange] = []
    at, damaged = 0, False
    while at < len(text) and len(found) < MOST_RANGES:
        start = at
        try:
            media_type, at = _read(text, at)
            found.append(_with_quality(media_type))
        except MediaTypeError:
            at = _next_comma(text, start)
            damaged = damaged or bool(text[start:at].strip())
        at += 1  # past the comma
    if not found:
        if damaged:
            raise MediaTypeError("nothing in Accept is a media type")
        return (AcceptedRange(MediaType("*/*")),)
    return tuple(found)


def _with_quality(found: MediaType) -> AcceptedRange:
    """``q``, and what follows it, is no parameter of the media type (RFC 9110 12.5.1)."""
    for index, (name, value) in enumerate(found.parameters):
        if name == "q":
            if _QUALITY.fullmatch(value) is None:
                raise MediaTypeError("q is a number from 0 to 1")
            rest = MediaType(found.name, found.parameters[:index] + found.parameters[index + 1 :])
            return AcceptedRange(rest, float(value))
    return AcceptedRange(found)


def _read(text: str, at: int) -> tuple[MediaType, int]:
    """A media type from *at* on, and where it ends: at a comma, or behind the text."""
    at = _past_space(text, at)
    kind = _TOKEN.match(text, at)
    if kind is None:
        raise MediaTypeError("a media type begins with type/subtype")
    at = kind.end()
    if kind[0] == "*" and text[at : at + 1] != "/":  # java.net's own Accept ends in `*; q=.2`
        name = "*/*"
    else:
        subtype = _TOKEN.match(text, at + 1) if text[at : at + 1] == "/" else None
        if subtype is None:
            raise MediaTypeError("a media type begins with type/subtype")
        name, at = f"{kind[0]}/{subtype[0]}".lower(), subtype.end()
        if kind[0] == "*" and subtype[0] != "*":
            raise MediaTypeError("a range of all types has no subtype")
    parameters: list[tuple[str, str]] = []
    while True:
        at = _past_space(text, at)
        if at == len(text) or text[at] == ",":
            return MediaType(name, tuple(parameters)), at
        if text[at] != ";":
            raise MediaTypeError("parameters begin with a semicolon")
        at = _past_space(text, at + 1)
        label = _TOKEN.match(text, at)
        if label is None:
            continue  # ";;", or a semicolon at the end
        at = _past_space(text, label.end())
        if text[at : at + 1] != "=":
            raise MediaTypeError("a parameter is name=value")
        value, at = _read_value(text, _past_space(text, at + 1))
        parameters.append((label[0].lower(), value))


def _read_value(text: str, at: int) -> tuple[str, int]:
    if text[at : at + 1] != '"':
        found = _UNQUOTED.match(text, at)
        assert found is not None  # it may be empty
        return found[0], found.end()
    said: list[str] = []
    at += 1
    while at < len(text):
        char = text[at]
        if char == '"':
            return "".join(said), at + 1
        if char == "\\" and at + 1 < len(text):
            at += 1
            char = text[at]
        said.append(char)
        at += 1
    raise MediaTypeError("a quoted string has no end")


def _next_comma(text: str, at: int) -> int:
    """Where the next member begins: the comma that is not within quotes."""
    quoted = False
    while at < len(text):
        if text[at] == '"':
            quoted = not quoted
        elif text[at] == "\\" and quoted:
            at += 1
        elif text[at] == "," and not quoted:
            break
        at += 1
    return at


def _past_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t":
        at += 1
    return at


def _written(value: str) -> str:
    if _TOKEN.fullmatch(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
