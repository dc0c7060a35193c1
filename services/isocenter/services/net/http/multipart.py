"""Multipart bodies (RFC 2046, RFC 2387): a streaming parser, and a writer.

The parser takes bytes as they come and gives events; what a part holds is given on at once, as
views of what came in.  Bytes are kept back only while they may be the beginning of a delimiter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.net.http.media_types import MediaType, parse_media_type

#: Header fields of one part, all together.
MOST_HEADER_BYTES: Final = 8 << 10
#: RFC 2046 says 70; some libraries write more.
MOST_BOUNDARY_CHARACTERS: Final = 200
#: What may stand before the first delimiter.
MOST_PREAMBLE_BYTES: Final = 4 << 10

_BOUNDARY: Final = re.compile(r"[\x20-\x7e]*[\x21-\x7e]")
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class MultipartError(ValueError):
    """A body that is not what its boundary promises, or is cut."""


@dataclass(frozen=True, slots=True)
class PartStarted:
    """A part begins.

    Attributes:
        headers: names in lower case, and values, in their order.
    """

    headers: tuple[tuple[str, str], ...]

    def header(self, name: str) -> str | None:
        """The first value of a field, by its name in lower case."""
        for given, value in self.headers:
            if given == name:
                return value
        return None

    @property
    def media_type(self) -> MediaType | None:
        """What the part says of itself; None: nothing.

        Raises:
            MediaTypeError: it cannot be understood.
        """
        said = self.header("content-type")
        return None if said is None else parse_media_type(said)


@dataclass(frozen=True, slots=True)
class PartData:
    """Bytes of the part that has begun; valid until the parser gets more."""

    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class PartEnded:
    """The part is complete."""


Event = PartStarted | PartData | PartEnded


def boundary_of(content_type: MediaType) -> str:
    """The boundary that a `Content-Type` of multipart promises.

    Raises:
        MultipartError: there is none, or none that can be.
    """
    boundary = content_type.parameter("boundary")
    if boundary is None:
        raise MultipartError("Content-Type has no boundary")
    if len(boundary) > MOST_BOUNDARY_CHARACTERS or _BOUNDARY.fullmatch(boundary) is None:
        raise MultipartError("the boundary is empty, too long or holds what no boundary may")
    return boundary


class MultipartParser:
    """One body, in pieces of any size.

    Args:
        boundary: see `boundary_of`.
        most_parts: how many parts there may be.
    """

    def __init__(self, boundary: str, *, most_parts: int) -> None:
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._most_parts = most_parts
        self._parts = 0
        # The first delimiter may stand at the very beginning: as if a line had ended before it.
        self._data = b"\r\n"
        self._at = 0
        self._read = self._preamble
        self._skipped = 0
        self._ended = False

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Event]:
        """What these bytes tell.  All events are to be taken before more is fed.

        Raises:
            MultipartError: the body is not what it ought to be; there is nothing to go on with.
        """
        self._data = self._data[self._at :] + data if self._at < len(self._data) else bytes(data)
        self._at = 0
        while not self._ended and self._at < len(self._data):
            before = self._at, self._read
            yield from self._read()
            if before == (self._at, self._read):
                return  # it needs more
        if self._ended:
            self._data, self._at = b"", 0  # an epilogue says nothing (RFC 2046 5.1.1)

    def close(self) -> None:
        """There are no more bytes.

        Raises:
            MultipartError: the last delimiter has not come.
        """
        if not self._ended:
            raise MultipartError("the body ends before its last delimiter")

    # Each reads one thing, if it is there as a whole, and goes on to the next.

    def _preamble(self) -> Iterable[Event]:
        begun = self._at
        found = self._data.find(self._delimiter, begun)
        self._at = self._end_of_content() if found < 0 else found
        self._skipped += self._at - begun
        if self._skipped > MOST_PREAMBLE_BYTES:
            raise MultipartError("the boundary that Content-Type promises does not begin the body")
        if found >= 0:
            self._at += len(self._delimiter)
            self._read = self._delimiter_line
        return ()

    def _delimiter_line(self) -> Iterable[Event]:
        """Behind a delimiter: blanks and the end of its line, or ``--``: it was the last one."""
        if self._data.startswith(b"--", self._at):
            self._ended = True
            return ()
        end = self._data.find(b"\n", self._at, self._at + MOST_HEADER_BYTES)
        line = self._data[self._at : end if end >= 0 else self._at + MOST_HEADER_BYTES]
        rest = line.removesuffix(b"\r").strip(b" \t")
        if (rest and (end >= 0 or rest != b"-")) or len(line) == MOST_HEADER_BYTES:
            raise MultipartError("a delimiter is followed by something else")
        if end >= 0:
            self._parts += 1
            if self._parts > self._most_parts:
                raise MultipartError(f"there are more than {self._most_parts} parts")
            self._at = end + 1
            self._read = self._part_headers
        return ()

    def _part_headers(self) -> Iterable[Event]:
        fields: list[bytes] = []
        most = self._at + MOST_HEADER_BYTES
        at = self._at
        while (end := self._data.find(b"\n", at, most)) >= 0:
            line = self._data[at:end].removesuffix(b"\r")
            at = end + 1
            if not line:
                self._at = at
                self._read = self._first_content
                return (PartStarted(tuple(map(_field, fields))),)
            if line[:1] in (b" ", b"\t") and fields:
                fields[-1] += b" " + line.strip()  # obsolete folding
            else:
                fields.append(line)
        if len(self._data) >= most:
            raise MultipartError(f"a part has more than {MOST_HEADER_BYTES} bytes of headers")
        return ()

    def _first_content(self) -> Iterable[Event]:
        """A part may be empty in two ways: the delimiter's line end is that of the empty line."""
        delimiter = self._delimiter[2:]
        if self._data.startswith(delimiter, self._at):
            self._at += len(delimiter)
            self._read = self._delimiter_line
            return (PartEnded(),)
        if not delimiter.startswith(self._data[self._at : self._at + len(delimiter)]):
            self._read = self._content
        return ()

    def _content(self) -> Iterable[Event]:
        begun = self._at
        found = self._data.find(self._delimiter, begun)
        end = self._end_of_content() if found < 0 else found
        events: list[Event] = []
        if end > begun:
            events.append(PartData(memoryview(self._data)[begun:end]))
        self._at = end
        if found >= 0:
            self._at += len(self._delimiter)
            self._read = self._delimiter_line
            events.append(PartEnded())
        return events

    def _end_of_content(self) -> int:
        """Behind what cannot be the beginning of a delimiter."""
        length = len(self._data)
        first = max(self._at, length - len(self._delimiter) + 1)
        at = self._data.find(b"\r", first)
        while at >= 0:
            if self._delimiter.startswith(self._data[at:]):
                return at
            at = self._data.find(b"\r", at + 1)
        return length


def _field(line: bytes) -> tuple[str, str]:
    name, colon, value = line.decode("latin-1").partition(":")
    name = name.rstrip(" \t")
    if not colon or _NAME.fullmatch(name) is None:
        raise MultipartError("a header line of a part is no name: value")
    return name.lower(), value.strip(" \t")


class MultipartWriter:
    """The frame of a body whose parts somebody else sends: what stands before, between and behind.

    Names are written in title case, there is nothing before the first delimiter, and headers are
    short: browsers' parsers count on all three.

    Args:
        boundary: the caller's; the same for the same parts, so that a part of the body can be
            asked for later (RFC 9110 14).
    """

    def __init__(self, boundary: str) -> None:
        self._delimiter = b"--" + boundary.encode("ascii")
        self._is_first = True

    def begin_part(self, headers: Sequence[tuple[str, str]]) -> bytes:
        """What stands before a part.

        Args:
            headers: of the part, as they are to be written.

        Raises:
            ValueError: one would end its line.
        """
        line_end = b"" if self._is_first else b"\r\n"
        self._is_first = False
        return line_end + self._delimiter + b"\r\n" + _written(headers) + b"\r\n"

    def end(self) -> bytes:
        """What stands behind the last part."""
        return b"\r\n" + self._delimiter + b"--\r\n"

    def length(self, parts: Iterable[tuple[Sequence[tuple[str, str]], int]]) -> int:
        """Bytes of the whole body, by the headers and the lengths of all its parts."""
        between = len(self._delimiter) + 6
        total = sum(between + len(_written(headers)) + length for headers, length in parts)
        return max(total - 2, 0) + len(self.end())  # no line end before the first delimiter


def _written(headers: Sequence[tuple[str, str]]) -> bytes:
    text = "".join(f"{name}: {value}\r\n" for name, value in headers)
    if text.count("\n") != len(headers) or text.count("\r") != len(headers):
        raise ValueError("a header of a part holds a line end")
    return text.encode("latin-1")
