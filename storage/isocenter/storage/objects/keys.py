"""Check of object keys, made by every store.

A key is relative and ``/``-separated.  Its parts hold only characters that mean
nothing to a file system, a shell or a URL, so that no key can name anything
outside the store, whoever made it.
"""

from __future__ import annotations

import re
from typing import Final

#: Bytes of a whole key.  It has to fit into one file name (255 bytes) beside the token of
#: a staged file; the longest that the naming schemes make has 207.
MAX_KEY_LENGTH: Final = 230

_PART: Final = re.compile(r"[0-9A-Za-z._~-]+")


def is_object_key(key: str) -> bool:
    """Whether *key* names an object: parts of ``0-9A-Za-z._~-``, none of them ``.`` or ``..``."""
    return len(key) <= MAX_KEY_LENGTH and all(map(is_key_part, key.split("/")))


def is_key_part(part: str) -> bool:
    """Whether *part* may stand between two slashes of a key."""
    return _PART.fullmatch(part) is not None and part not in {".", ".."}


def check_object_key(key: str) -> None:
    """Raises:
    ValueError: *key* is none; a fault of the caller, never of a peer.
    """
    if not is_object_key(key):
        raise ValueError(
            "an object key has at most 230 characters and only parts of 0-9 A-Z a-z . _ ~ -"
        )
