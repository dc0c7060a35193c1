"""Scope of elements: character set, private creators and the like.

The character set of its texts, the private creators of its blocks, and whether its pixels are
signed: that decides what a VR is where the data set does not say it (PS3.5 6.2, 7.8, A.1).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Self

from isocenter.engine.dataset.vr import LONG_VRS, SHORT_VRS
from isocenter.services.dicom.data_dictionary import dictionary_vr_choice
from isocenter.services.dicom.element_values import character_set_of, decode_text

SPECIFIC_CHARACTER_SET: Final = 0x00080005
PIXEL_REPRESENTATION: Final = 0x00280103
_KNOWN_VRS: Final = SHORT_VRS | LONG_VRS
_FIRST_BLOCK: Final = 0x10
_LAST_BLOCK: Final = 0xFF


def is_private(tag: int) -> bool:
    """Whether its group is odd."""
    return bool(tag & 0x10000)


def is_private_creator(tag: int) -> bool:
    """Whether an element of *tag* names who a private block belongs to (PS3.5 7.8.1)."""
    return bool(tag & 0x10000) and _FIRST_BLOCK <= tag & 0xFFFF <= _LAST_BLOCK


#: Tag → VR of standard elements that were met and whose VR depends on nothing; as many as the
#: dictionary has at most.
SETTLED_VRS: Final[dict[int, str]] = {}


class Scope:
    """One data set or item, as far as it was read.

    Attributes:
        character_set: the terms that count in it; those around it until it has its own.
        is_signed: Pixel Representation; the one around it until it has its own.
    """

    __slots__ = ("_creators", "character_set", "is_signed")

    def __init__(self, character_set: tuple[str, ...] = (), *, is_signed: bool = False) -> None:
        self.character_set = character_set
        self.is_signed = is_signed
        self._creators: dict[int, str] = {}

    def inner(self) -> Self:
        """Of an item in it."""
        return type(self)(self.character_set, is_signed=self.is_signed)

    def note(self, tag: int, raw: bytes) -> None:
        """Take in an element that others depend on; other ones change nothing."""
        if tag == SPECIFIC_CHARACTER_SET:
            self.character_set = character_set_of(raw)
        elif tag == PIXEL_REPRESENTATION:
            self.is_signed = bool(any(raw))
        elif is_private_creator(tag):
            creator = decode_text(raw, "LO", self.character_set)
            self._creators[tag >> 16 << 8 | tag & 0xFF] = creator

    def creator_of(self, tag: int) -> str:
        """Who the private element *tag* belongs to; empty where nobody says it."""
        return self._creators.get(tag >> 16 << 8 | (tag >> 8) & 0xFF, "")

    def block_of(self, group: int, creator: str) -> int | None:
        """The first block of *group* that belongs to *creator*; None: there is none."""
        for block in range(_FIRST_BLOCK, _LAST_BLOCK + 1):
            if self._creators.get(group << 8 | block) == creator:
                return block
        return None

    def is_first_block(self, tag: int) -> bool:
        """Whether no other block of the group of *tag* belongs to the same creator before it."""
        own = tag >> 16 << 8 | (tag >> 8) & 0xFF
        creator = self._creators.get(own)
        first = tag >> 16 << 8 | _FIRST_BLOCK
        return not any(self._creators.get(block) == creator for block in range(first, own))

    def vr_of(self, tag: int) -> str:
        """The VR of an element that comes without one; UN where nobody knows it."""
        settled = SETTLED_VRS.get(tag)
        if settled is not None:
            return settled
        creator: str | None = None
        if tag & 0x10000:
            if is_private_creator(tag):
                return "LO"
            creator = self.creator_of(tag)
            if not creator:
                return "UN"
        vr = _vr_of(tag, creator)
        if vr == "US or SS":
            return "SS" if self.is_signed else "US"
        if creator is None and vr != "UN":
            SETTLED_VRS[tag] = vr
        return vr


class KnownSequences:
    """Which tags are sequences where the data set does not say so; a container for `walk`.

    Attributes:
        scope: of the data set or item in which the walk is.
    """

    __slots__ = ("scope",)

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def __contains__(self, tag: int) -> bool:
        return (SETTLED_VRS.get(tag) or self.scope.vr_of(tag)) == "SQ"


@lru_cache(maxsize=4096)
def _vr_of(tag: int, creator: str | None) -> str:
    """The VR of the dictionary, with one choice left."""
    vr = dictionary_vr_choice(tag, creator)
    if vr in _KNOWN_VRS or vr == "US or SS":
        return vr
    # PS3.5 A.1: in implicit VR every one of these is OW.
    return "OW" if "OW" in vr else "UN"
