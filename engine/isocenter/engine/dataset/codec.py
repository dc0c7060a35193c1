"""Headers of elements and items as precomputed structures, one value per way to write them.

A tag is read as one 32-bit number in the byte order of the data set.  In little
endian its halves come out exchanged; that *raw* form is what the hot loops
compare, so that no tag need be put together for an element that nobody wants.
A VR is compared as the 16-bit number that its two letters make.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, Literal

from isocenter.engine.dataset.vr import (
    ITEM,
    ITEM_DELIMITATION,
    LONG_VRS,
    SEQUENCE_DELIMITATION,
    SHORT_VRS,
    Encoding,
)

#: Tag and length of an implicit VR element or of any item; or tag, VR and 16-bit length.
HEADER_LENGTH: Final = 8
#: Tag, VR, two reserved bytes, 32-bit length (PS3.5 Table 7.1-1).
LONG_HEADER_LENGTH: Final = 12


class Codec:
    """How headers are written in one combination of VR and byte order; immutable by convention.

    Attributes:
        item_header: tag (raw) and 32-bit length.
        explicit_header: tag (raw), VR as a number, 16-bit length.
        length: the 32-bit length of a long header, at its byte 8.
        short_vrs, long_vrs: VR as a number → its two letters.
        vr_keys: the inverse of both.
    """

    __slots__ = (
        "big_endian",
        "explicit_header",
        "implicit_vr",
        "item",
        "item_delimitation",
        "item_header",
        "length",
        "long_vrs",
        "sequence_delimitation",
        "short_vrs",
        "vr_keys",
    )

    def __init__(self, *, implicit_vr: bool, big_endian: bool) -> None:
        order: Literal["big", "little"] = "big" if big_endian else "little"
        sign = ">" if big_endian else "<"
        self.implicit_vr = implicit_vr
        self.big_endian = big_endian
        self.item_header = Struct(sign + "II")
        self.explicit_header = Struct(sign + "IHH")
        self.length = Struct(sign + "I")
        self.short_vrs = {int.from_bytes(vr.encode(), order): vr for vr in SHORT_VRS}
        self.long_vrs = {int.from_bytes(vr.encode(), order): vr for vr in LONG_VRS}
        self.vr_keys = {vr: key for key, vr in (self.short_vrs | self.long_vrs).items()}
        self.item = self.raw(ITEM)
        self.item_delimitation = self.raw(ITEM_DELIMITATION)
        self.sequence_delimitation = self.raw(SEQUENCE_DELIMITATION)

    def raw(self, tag: int) -> int:
        """*tag* as `item_header` and `explicit_header` read it; its own inverse."""
        return tag if self.big_endian else (tag >> 16) | (tag & 0xFFFF) << 16

    def header(self, tag: int, vr: str, length: int) -> bytes:
        """The header of an element; *vr* must be one that the standard knows."""
        if self.implicit_vr:
            return self.item_header.pack(self.raw(tag), length)
        key = self.vr_keys[vr]
        if key in self.short_vrs:
            return self.explicit_header.pack(self.raw(tag), key, length)
        return self.explicit_header.pack(self.raw(tag), key, 0) + self.length.pack(length)

    def item_mark(self, tag: int, length: int) -> bytes:
        """An item's header, or a delimitation item (PS3.5 7.5)."""
        return self.item_header.pack(self.raw(tag), length)

    def future_vr(self, key: int) -> str | None:
        """The letters of a VR that the standard does not know yet; None when it is no VR.

        New VRs have a 32-bit length (PS3.5 7.1.2).  What is not two upper case letters
        is the lower half of a 32-bit length: the element has no VR.
        """
        text = key.to_bytes(2, "big" if self.big_endian else "little")
        return text.decode() if text.isalpha() and text.isupper() else None


IMPLICIT_LITTLE_CODEC: Final = Codec(implicit_vr=True, big_endian=False)
_EXPLICIT_LITTLE_CODEC: Final = Codec(implicit_vr=False, big_endian=False)
_EXPLICIT_BIG_CODEC: Final = Codec(implicit_vr=False, big_endian=True)


def codec_of(encoding: Encoding) -> Codec:
    """The codec of *encoding*; implicit VR is little endian always (PS3.5 A.1)."""
    if encoding.implicit_vr:
        return IMPLICIT_LITTLE_CODEC
    return _EXPLICIT_BIG_CODEC if encoding.big_endian else _EXPLICIT_LITTLE_CODEC
