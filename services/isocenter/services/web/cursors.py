"""Cursors: places in lists, as text for addresses."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

import msgspec

from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.places import Place, checked_place
from isocenter.services.net.http.messages import HttpError

#: What a place is made of.
Key = tuple[str | int | float, ...]

#: Room for texts that are longer than they should be: a place is made of what objects say.
_MOST_CURSOR: Final = 4_096
#: Whole numbers of databases have 64 bits.
_NUMBERS: Final = 2**63


def cursor(key: Key) -> str:
    """A place as text for an address."""
    return urlsafe_b64encode(msgspec.json.encode(key)).rstrip(b"=").decode("ascii")


def read_cursor(text: str, name: str = "after") -> Key:
    """What `cursor` made, taken apart.

    Args:
        name: of the parameter, for messages.

    Raises:
        HttpError: it is none (400).
    """
    try:
        if len(text) > _MOST_CURSOR:
            raise ValueError
        content = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        found: Key = msgspec.json.decode(content, type=tuple[str | int | float, ...])
    except (ValueError, binascii.Error, msgspec.MsgspecError, RecursionError):
        found = ()
    if not found or not all(map(_can_be_kept, found)):
        raise HttpError(
            400,
            "INVALID_REQUEST",
            f"{name} is what an earlier page said as next, as it stands there",
        )
    return found


def _can_be_kept(value: str | float) -> bool:
    """Whether any list has such a value: databases take no other."""
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= one <= "\udfff" for one in value)
    return -_NUMBERS <= value < _NUMBERS


def of_another_list(name: str = "after") -> HttpError:
    """The answer to a cursor that leads nowhere in this list."""
    return HttpError(400, "INVALID_REQUEST", f"{name} is of another list; begin without it")


def place_cursor(level: Level, place: Place) -> str:
    """A place of the index."""
    return cursor((level.value, *place))


def read_place(level: Level, key: Key, name: str = "after") -> Place:
    """The place of the index that `place_cursor` was given, which may have been made elsewhere.

    Raises:
        HttpError: it is none, or of another list (400).
    """
    if key[0] != level.value:
        raise of_another_list(name)
    try:
        return checked_place(level, key[1:])
    except ValueError:
        raise of_another_list(name) from None
