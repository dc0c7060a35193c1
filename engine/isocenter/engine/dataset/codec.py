"""Headers of elements and items as precomputed structures, by encoding (PS3.5 7.1).

A tag is read as one 32-bit number in the byte order of the data set.  In little
endian its halves come out exchanged; that *raw* form is what the hot loops
compare, so that no tag need be put together for an element that nobody wants.
A VR is compared as the 16-bit number that its two letters make.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import Final, Literal

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset.vr import (
    DELIMITERS,
    ITEM,
    ITEM_DELIMITATION,
    LONG_VRS,
    SEQUENCE_DELIMITATION,
    SHORT_VRS,
    UNDEFINED_LENGTH,
    Encoding,
)

#: Tag and length of an implicit VR element or of any item; or tag, VR and 16-bit length.
HEADER_LENGTH: Final = 8
#: Tag, VR, two reserved bytes, 32-bit length (PS3.5 Table 7.1-1).
LONG_HEADER_LENGTH: Final = 12

#: A UN that announces more than this behind reserved bytes that are not zero does not: what
#: is read as its length are the first bytes of a short value.
_LONGEST_UN: Final = 1 << 24
#: What is written where a VR is not known, even before a value that is empty.
_PLACEHOLDERS: Final = (b"??", b"  ")
_PIXEL_GROUP: Final = 0x7FE0
_TAG_LENGTH: Final = 4


#: What two bytes in the place of a VR can be; numbers, since members of an Enum are slow.
_LONG: Final = 1
_LONG_IN_LOWER_CASE: Final = 2
_FUTURE: Final = 3
_SHORT_IN_LOWER_CASE: Final = 4
_PLACEHOLDER: Final = 5
_PRINTABLE: Final = 6
_NULS: Final = 7
_NO_VR: Final = 8


@lru_cache(maxsize=1024)
def _kind_of(key: int, big_endian: bool) -> tuple[int, str | None]:
    """What the number that two bytes make stands for, and the VR if it is one."""
    text = key.to_bytes(2, "big" if big_endian else "little")
    vr = text.decode("ascii", "replace").upper()
    if vr in LONG_VRS:
        return (_LONG if text.isupper() else _LONG_IN_LOWER_CASE), vr
    if text.isalpha() and text.isupper():
        return _FUTURE, vr
    if vr in SHORT_VRS:
        return _SHORT_IN_LOWER_CASE, vr
    if text in _PLACEHOLDERS:
        return _PLACEHOLDER, None
    if text.isascii() and text.decode().isprintable():
        return _PRINTABLE, None
    return (_NO_VR if key else _NULS), None


class Codec:
    """How headers are written in one combination of VR and byte order; immutable by convention.

    Attributes:
        item_header: tag (raw) and 32-bit length.
        explicit_header: tag (raw), VR as a number, 16-bit length.
        length: the 32-bit length of a long header, at its byte 8.
        short_vrs, long_vrs: VR as a number → its two letters.
        vr_keys: the inverse of both.
        delimiters: items and delimitation items, raw.
    """

    __slots__ = (
        "big_endian",
        "delimiters",
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
        self.delimiters = frozenset(map(self.raw, DELIMITERS))

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

    def odd_header(self, buffer: Buffer, pos: int) -> tuple[str | None, int, int] | None:
        """The explicit header at *pos*, where it is none that PS3.5 7.1.2 has.

        Returns:
            VR (None: the data set does not say), length of the value, and of the header; None
            where more bytes have to come to tell.

        Readers disagree about such headers.  The rules, in this order:

        * Items and delimitation items have no VR.
        * A UN has a 16-bit length where its reserved bytes are not zero and the 32-bit length
          behind them would be odd or longer than `_LONGEST_UN`.
        * Two upper case letters are a VR of the future with a 32-bit length (PS3.5 7.1.2), or,
          where the reserved bytes are not zero, one that never was, with a 16-bit length.
        * A VR in lower case is that VR.
        * "??", two spaces, other printable characters, and outside of group 7FE0 two NULs,
          stand in the place of a VR, before a 16-bit length.
        * All else is the lower half of a 32-bit length: the element is written in implicit VR.
        """
        raw, key, short_length = self.explicit_header.unpack_from(buffer, pos)
        kind, vr = _kind_of(key, self.big_endian)
        if kind == _NO_VR or raw in self.delimiters:
            pass
        elif kind <= _FUTURE:
            if short_length and kind != _LONG and vr != "UN":
                return vr, short_length, HEADER_LENGTH
            if len(buffer) - pos < LONG_HEADER_LENGTH:
                return None
            (length,) = self.length.unpack_from(buffer, pos + HEADER_LENGTH)
            if short_length and vr == "UN":
                is_odd = length != UNDEFINED_LENGTH and (length & 1 or length > _LONGEST_UN)
                if is_odd or kind != _LONG:
                    return vr, short_length, HEADER_LENGTH
            return vr, length, LONG_HEADER_LENGTH
        elif (
            kind <= _PLACEHOLDER
            or (kind == _PRINTABLE and short_length)
            or (kind == _NULS and self.raw(raw) >> 16 != _PIXEL_GROUP)
        ):
            return vr, short_length, HEADER_LENGTH
        (length,) = self.length.unpack_from(buffer, pos + _TAG_LENGTH)
        return None, length, HEADER_LENGTH

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
