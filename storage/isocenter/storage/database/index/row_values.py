"""Values of the rows of one object: what it says of each level."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import orjson

from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.matching import normalize
from isocenter.storage.database.index.columns import (
    STATED,
    has_fast_text,
    is_irregular,
    key_column,
    key_text,
)
from isocenter.storage.database.text import replace_surrogates

PATIENT_ID: Final = 0x00100020
ISSUER_OF_PATIENT_ID: Final = 0x00100021
_PATIENT_NAME: Final = 0x00100010
_BIRTH_DATE: Final = 0x00100030

#: Objects of a series say the same of all above it; each statement has some hundred bytes.
_FINGERPRINTS_KEPT: Final = 256
#: What an INTEGER column holds.
_LARGEST_INTEGER: Final = 2**63 - 1

#: What an object says of one level, in the order of `STATED`.
Values = tuple[str, ...]

PATIENT_TAGS: Final = tuple(a.tag for a in STATED[Level.PATIENT])
IMAGE_TAGS: Final = tuple(a.tag for a in STATED[Level.IMAGE])
_STUDY_ENDS: Final = len(PATIENT_TAGS) + len(STATED[Level.STUDY])
#: What an object says of all above it, and where in it is what.
TAGS_ABOVE: Final = tuple(
    a.tag for level in Level if level is not Level.IMAGE for a in STATED[level]
)
OF_PATIENT: Final = slice(len(PATIENT_TAGS))
OF_STUDY: Final = slice(len(PATIENT_TAGS), _STUDY_ENDS)
OF_SERIES: Final = slice(_STUDY_ENDS, None)


@lru_cache(_FINGERPRINTS_KEPT)
def fingerprint_of(values: Values) -> str:
    """The same for the same values, and for no others."""
    return hashlib.sha256(ascii(values).encode()).hexdigest()[:32]


def instance_order_of(text: str) -> int:
    """Instance Number as a number to sort by, 0 where it is none."""
    number = normalize("IS", text)
    if number.isascii() and number.lstrip("-").isdecimal():
        return max(-_LARGEST_INTEGER, min(int(number), _LARGEST_INTEGER))
    return 0


def identity_of(values: Values) -> str:
    """What tells patients apart: ID and issuer; without an ID also name and birth date."""
    get = dict(zip(PATIENT_TAGS, values, strict=True)).__getitem__
    identity = [get(PATIENT_ID), get(ISSUER_OF_PATIENT_ID)]
    if not identity[0]:
        identity += [get(_PATIENT_NAME), get(_BIRTH_DATE)]
    return orjson.dumps([replace_surrogates(text) for text in identity]).decode()


#: Of each level: attributes, whether their text may be irregular, and whether they have a key.
_STATED: Final = {
    level: tuple((a, has_fast_text(a), key_column(a) is not None) for a in stated)
    for level, stated in STATED.items()
}


def row_values(level: Level, texts: Sequence[str]) -> list[str | int]:
    """The values of a row that states *level*, from ``irregular`` on to its keys."""
    values: list[str | int] = [0]
    keys = []
    for (attribute, may_be_irregular, has_key), text in zip(_STATED[level], texts, strict=True):
        if text:
            if not text.isascii():
                text = replace_surrogates(text)
            if may_be_irregular and not values[0] and is_irregular(attribute, text):
                values[0] = 1
        values.append(text)
        if has_key:
            keys.append(key_text(attribute, text))
    values.extend(keys)
    return values
