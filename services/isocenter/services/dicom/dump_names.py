"""Names of elements and UIDs, and texts of files, as dumps show them."""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import Final

from isocenter.services.dicom.data_dictionary import keyword_for_tag, private_entry
from isocenter.services.dicom.pydicom_tables import UIDS
from isocenter.services.dicom.scope import Scope, is_private, is_private_creator

#: Control characters, and those that change the direction of what is shown.
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_BEYOND: Final = re.compile("[^\x20-\x7e]")
_UNKNOWN: Final = "Unknown Tag & Data"


class Quoting(Enum):
    """How characters are shown that are no ASCII, or control a terminal."""

    PRINTED = "control characters as \\xNN"
    MARKUP = "as XML markup"
    OCTAL = "as octal numbers"


def quoted(text: str, quoting: Quoting) -> str:
    """*text* on one line, such that it cannot control a terminal."""
    if quoting is Quoting.MARKUP:
        return _BEYOND.sub(lambda found: f"&#{ord(found[0])};", text)
    if quoting is Quoting.OCTAL:
        return _BEYOND.sub(
            lambda found: "".join(f"\\{byte:03o}" for byte in found[0].encode("utf-8", "replace")),
            text,
        )
    return _UNSAFE.sub(
        lambda found: (
            f"\\x{ord(found[0]):02x}" if ord(found[0]) < 256 else f"\\u{ord(found[0]):04x}"
        ),
        text,
    )


@lru_cache(maxsize=4096)
def uid_keyword(uid: str) -> str:
    """The keyword of a well-known UID; empty where it has none."""
    entry = UIDS.get(uid)
    return str(entry[4]) if entry is not None else ""


def element_name(tag: int, scope: Scope) -> str:
    """The keyword of a tag, or what private dictionaries call it, with its creator."""
    if is_private(tag) and not is_private_creator(tag):
        if not tag & 0xFFFF:
            return "PrivateGroupLength"
        creator = scope.creator_of(tag)
        return _private_name(tag, creator) if creator else _UNKNOWN
    return _public_name(tag)


@lru_cache(maxsize=8192)
def _public_name(tag: int) -> str:
    if is_private_creator(tag):
        return "PrivateCreator"
    if not tag & 0xFFFF and tag != 0x00020000:
        return "GenericGroupLength"
    return keyword_for_tag(tag) or _UNKNOWN


@lru_cache(maxsize=4096)
def _private_name(tag: int, creator: str) -> str:
    entry = private_entry(tag, creator)
    name = _UNKNOWN if entry is None else entry[2].strip("[]")
    return f"{name} ({_UNSAFE.sub('?', creator[:64])})"
