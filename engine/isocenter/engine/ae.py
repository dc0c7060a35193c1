"""AE titles as checked text (PS3.5 6.2, PS3.8 9.3.2)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from isocenter.engine.errors import LocalProtocolError

#: The length of the fields in A-ASSOCIATE-RQ and -AC.
AE_TITLE_LENGTH: Final = 16
#: Default character repertoire without backslash and control characters.
_AE_TITLE: Final = re.compile(r"[ -\[\]-~]{1,16}")
#: Titles that are remembered: the same few come again and again.
_REMEMBERED: Final = 256


def is_ae_title(text: str) -> bool:
    """Whether *text* is an AE title without padding: 1 to 16 characters, no space at its ends."""
    return _AE_TITLE.fullmatch(text) is not None and text == text.strip(" ")


@lru_cache(_REMEMBERED)
def is_padded_ae_title(text: str) -> bool:
    """Whether *text* is an AE title in spaces or without them, as the field of a PDU has it."""
    return is_ae_title(text.strip(" "))


def ae_title_of(field: bytes) -> str:
    """The text in an AE title field of a PDU or an element that a peer sent; often no AE title.

    It ends at the first NUL: programs in C copy a string into a field of spaces, and what
    stands behind its end is left from before.  Spaces on either side mean nothing.
    """
    return bytes(field).partition(b"\0")[0].strip(b" ").decode("latin-1")


@lru_cache(_REMEMBERED)
def printable_ae_title(text: str) -> str:
    """What a peer sent as an AE title, for people and logs: as it is if it is one, else with
    whatever an AE title cannot have escaped."""
    if is_padded_ae_title(text):
        return text
    return text.encode("unicode_escape").decode("ascii")


def check_ae_title(text: str) -> str:
    """*text* without its padding.

    Raises:
        LocalProtocolError: it is empty, longer than 16 characters, or has a backslash, a
            control character or anything beyond ASCII in it.
    """
    stripped = text.strip(" ")
    if not stripped:
        raise LocalProtocolError("an AE title has at least one character that is no space")
    if len(stripped) > AE_TITLE_LENGTH:
        raise LocalProtocolError(
            f"AE title {stripped!r} has {len(stripped)} characters; {AE_TITLE_LENGTH} are allowed"
        )
    if _AE_TITLE.fullmatch(stripped) is None:
        raise LocalProtocolError(
            f"AE title {stripped!r} has characters that are not allowed: only ASCII, no backslash"
        )
    return stripped


@lru_cache(_REMEMBERED)
def encode_ae_title(text: str) -> bytes:
    """The field of a PDU: *text*, padded.

    Raises:
        LocalProtocolError: as `check_ae_title`.
    """
    return check_ae_title(text).ljust(AE_TITLE_LENGTH).encode("ascii")
