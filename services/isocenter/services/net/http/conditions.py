"""Conditional requests and byte ranges (RFC 9110 8.8.3, 13, 14), as pure functions.

All are values and pure functions: the caller knows the tag and the length of what it would send,
and gets the status that the request's headers ask for.
"""

from __future__ import annotations

import re
from typing import Final

from isocenter.engine.fast_init import dataclass

_TAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
#: A list of ranges; positions have so many digits that no arithmetic hurts.
_RANGES: Final = re.compile(r"\s*bytes\s*=\s*([0-9,\s-]*)", re.IGNORECASE)
_RANGE: Final = re.compile(r"(\d{0,19})\s*-\s*(\d{0,19})")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes *start* to *stop* (not included) of *total*."""

    start: int
    stop: int
    total: int

    @property
    def content_range(self) -> str:
        """The value of `Content-Range`."""
        return f"bytes {self.start}-{self.stop - 1}/{self.total}"


class RangeNotSatisfiableError(Exception):
    """No byte of the range is there (416); `Content-Range` says how many there are."""

    def __init__(self, total: int) -> None:
        super().__init__(f"there are {total} bytes")
        self.content_range = f"bytes */{total}"


def entity_tag(opaque: str, *, is_weak: bool = False) -> str:
    """An entity tag of these characters, which are ASCII without quotes and spaces."""
    tag = f'W/"{opaque}"' if is_weak else f'"{opaque}"'
    if _TAG.fullmatch(tag) is None:
        raise ValueError("an entity tag holds visible characters, and no quotes")
    return tag


def is_not_modified(if_none_match: str | None, tag: str) -> bool:
    """Whether the caller has this already (304), by the weak comparison."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    return _opaque(tag) in map(_opaque, _TAG.findall(if_none_match))


def is_unchanged(if_match: str | None, tag: str | None) -> bool:
    """Whether a precondition holds: none is given, or it names this tag (else 412).

    Args:
        tag: None: there is nothing yet.
    """
    if if_match is None:
        return True
    if tag is None or tag.startswith("W/"):
        return False
    return if_match.strip() == "*" or tag in _TAG.findall(if_match)


def requested_range(
    header: str | None, total: int, *, tag: str | None = None, if_range: str | None = None
) -> ByteRange | None:
    """The part that `Range` asks for; None: the whole is to be sent (200).

    One range is honoured.  Several at once, another unit, and what is no range are answered by the
    whole, as RFC 9110 14.2 allows.

    Args:
        tag: of the representation; `If-Range` is compared with it, strongly.  A date there never
            fits: what has a strong tag needs none.

    Raises:
        RangeNotSatisfiableError: it begins behind the last byte.
    """
    if header is None or (if_range is not None and not _may_continue(if_range, tag)):
        return None
    listed = _RANGES.fullmatch(header)
    if listed is None:
        return None
    members = [member for member in map(str.strip, listed[1].split(",")) if member]
    found = _RANGE.fullmatch(members[0]) if len(members) == 1 else None
    if found is None:
        return None
    first, last = found[1], found[2]
    if first:
        start = int(first)
        if last and int(last) < start:
            return None
        stop = min(int(last) + 1, total) if last else total
    elif last:
        start, stop = max(total - int(last), 0), total
    else:
        return None
    if start >= stop:
        raise RangeNotSatisfiableError(total)
    return ByteRange(start, stop, total)


def _may_continue(if_range: str, tag: str | None) -> bool:
    return tag is not None and not tag.startswith("W/") and if_range.strip() == tag


def _opaque(tag: str) -> str:
    return tag.removeprefix("W/")
