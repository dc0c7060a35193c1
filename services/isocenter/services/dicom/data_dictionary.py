"""The data dictionary (PS3.6), of public and of known private elements.

What a VR is when a data set does not say it, for readers and writers of every kind.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Final

from isocenter.engine.dataset.vr import LONG_VRS, SHORT_VRS
from isocenter.services.dicom.pydicom_tables import (
    ELEMENTS,
    REPEATING_ELEMENTS,
    DictionaryEntry,
    PrivateEntry,
    private_elements,
)

#: Sequences of the data dictionary: what implicit VR does not say.
DICTIONARY_SEQUENCES: Final = frozenset(tag for tag, entry in ELEMENTS.items() if entry[0] == "SQ")


@lru_cache(maxsize=4096)
def dictionary_vr(tag: int) -> str:
    """The VR of the data dictionary, the first where it leaves a choice; UN when it has none."""
    if not tag & 0xFFFF:
        return "UL"  # group length (PS3.5 7.2)
    vr = dictionary_vr_choice(tag).split(" or ")[0]
    return vr if vr in SHORT_VRS or vr in LONG_VRS else "UN"


def dictionary_vr_choice(tag: int, private_creator: str | None = None) -> str:
    """The VR of the dictionary as it stands there, such as ``US or SS``; UN when it has none."""
    if private_creator is not None:
        private = private_entry(tag, private_creator)
        return "UN" if private is None else private[0]
    entry = _entry(tag)
    return "UN" if entry is None else entry[0]


def keyword_for_tag(tag: int) -> str:
    """The keyword of an element; empty when the dictionary does not have it."""
    entry = _entry(tag)
    return "" if entry is None else entry[4]


def name_for_tag(tag: int) -> str:
    """The name of an element for people; empty when the dictionary does not have it."""
    entry = _entry(tag)
    return "" if entry is None else entry[2]


def multiplicity_text(tag: int) -> str:
    """The VM of an element as PS3.6 writes it; empty when the dictionary does not have it."""
    entry = _entry(tag)
    return "" if entry is None else entry[1]


def tag_for_keyword(keyword: str) -> int | None:
    """The element that has *keyword*; None: there is none."""
    return _keywords().get(keyword)


@cache
def _keywords() -> dict[str, int]:
    return {entry[4]: tag for tag, entry in ELEMENTS.items()}


def _entry(tag: int) -> DictionaryEntry | None:
    entry = ELEMENTS.get(tag)
    if entry is not None or tag >> 16 & 1:
        return entry
    for mask, wanted, repeating in _repeating():
        if tag & mask == wanted:
            return repeating
    return None


@cache
def _repeating() -> list[tuple[int, int, DictionaryEntry]]:
    """For elements of repeating groups: which bits count, what they are, and the entry."""
    return [
        (
            int("".join("0" if digit == "x" else "f" for digit in pattern), 16),
            int(pattern.replace("x", "0"), 16),
            entry,
        )
        for pattern, entry in REPEATING_ELEMENTS.items()
    ]


def private_entry(tag: int, private_creator: str) -> PrivateEntry | None:
    """What is known of a private element; None: nothing."""
    known = private_elements().get(private_creator, {})
    digits = f"{tag:08X}"
    # Nearly all may be in any block (PS3.5 7.8.1), a few in any group as well.
    for pattern in (digits, f"{digits[:4]}xx{digits[6:]}", f"{digits[:2]}xxxx{digits[6:]}"):
        if pattern in known:
            return known[pattern]
    return None
