"""The way through what has undefined length: sequences, items and encapsulated values.

What stands in the wrong place there is forgiven where it is plain how to go on, since a
whole image would be lost with it.  The rules, which `isocenter.engine.dataset.reader` and
`isocenter.engine.dataset.reencode` follow as well:

* The length of a delimitation item is not believed; none has a value (PS3.5 7.5).
* An item ends, without its delimitation, where the next item begins or its sequence ends.
* An item delimitation between items is passed over.
* A sequence ends, without its delimitation, before an element that comes behind it.
* Whatever is open at the end of the data set ends there.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset.codec import (
    HEADER_LENGTH,
    IMPLICIT_LITTLE_CODEC,
    LONG_HEADER_LENGTH,
    Codec,
)
from isocenter.engine.dataset.errors import DataSetError, DataSetLimitError, tag_text
from isocenter.engine.dataset.vr import PIXEL_DATA, UNDEFINED_LENGTH
from isocenter.engine.limits import Limits

#: What was forgiven, as it is told.
DELIMITATION_WITH_LENGTH: Final = "a delimitation item with a length (PS3.5 7.5)"
ITEM_NOT_DELIMITED: Final = "an item without its delimitation (PS3.5 7.5)"
SEQUENCE_NOT_DELIMITED: Final = "a sequence without its delimitation (PS3.5 7.5)"
STRAY_DELIMITATION: Final = "a delimitation item where nothing ends (PS3.5 7.5)"
STRAY_ITEM: Final = "an item outside of its sequence (PS3.5 7.5)"
ODD_VR: Final = "an element without a VR of PS3.5 6.2"
FRAGMENT_AS_ITEM: Final = "items in a value that is no sequence (PS3.5 A.4)"

_FILLS: Final = (b"\0", b" ", b"\xff")
#: What padding looks like in the place of a tag, in either byte order.
PADDING_TAGS: Final = frozenset((0x20202020, 0xFFFFFFFF))


class Kind(Enum):
    """What is open, and so what may come next."""

    SEQUENCE = "a sequence"
    ITEM = "an item"
    FRAGMENTS = "an encapsulated value"


class Nesting:
    """What of undefined length is open, innermost last.

    Attributes:
        opened: each with the codec of what is in it, and the tag of its element (0 for an item).
        forgiven: what was forgiven → byte of the data set at which it was first.
    """

    __slots__ = ("_most", "forgiven", "opened")

    def __init__(self, limits: Limits) -> None:
        # Each sequence around another has its item there, too.
        self._most = 2 * limits.nesting
        self.opened: list[tuple[Kind, Codec, int]] = []
        self.forgiven: dict[str, int] = {}

    def forgive(self, what: str, offset: int) -> None:
        self.forgiven.setdefault(what, offset)

    def open(self, tag: int, vr: str | None, codec: Codec, offset: int) -> None:
        """Open the sequence or encapsulated value whose header, of *codec*, was read.

        Raises:
            DataSetLimitError: it is nested too deep.
        """
        if len(self.opened) >= self._most:
            raise too_deep(self._most // 2, offset)
        kind = Kind.FRAGMENTS if is_encapsulated(tag, vr) else Kind.SEQUENCE
        if vr == "UN":
            # Whatever the data set's encoding: implicit VR little endian (PS3.5 6.2.2).
            codec = IMPLICIT_LITTLE_CODEC
        self.opened.append((kind, codec, tag))

    def open_item(self, codec: Codec) -> None:
        """Open an item of undefined length that is in no sequence."""
        self.opened.append((Kind.ITEM, codec, 0))

    def follow(self, chunk: Buffer, pos: int, offset: int) -> int:
        """Go on from the header at *pos*, until all is closed or *chunk* has no whole header.

        Args:
            offset: byte of the data set at which *chunk* starts.

        Returns:
            Where the next header starts; behind the chunk while a value goes on.

        Raises:
            DataSetError: what comes can be neither an item nor an end of what is open.
        """
        opened = self.opened
        size = len(chunk)
        last = size - HEADER_LENGTH
        kind, codec, sequence = opened[-1]
        header = codec.item_header.unpack_from
        item_kind = Kind.ITEM
        while pos <= last:
            raw, length = header(chunk, pos)
            if kind is item_kind:
                if raw not in codec.delimiters:
                    vr = None
                    value = pos + HEADER_LENGTH
                    if not codec.implicit_vr:
                        _, key, short_length = codec.explicit_header.unpack_from(chunk, pos)
                        if key in codec.short_vrs:
                            pos = value + short_length
                            continue
                        vr = codec.long_vrs.get(key)
                        if vr is not None and not short_length:
                            value = pos + LONG_HEADER_LENGTH
                            if value > size:
                                return pos
                            (length,) = codec.length.unpack_from(chunk, pos + HEADER_LENGTH)
                        else:
                            found = codec.odd_header(chunk, pos)
                            if found is None:
                                return pos
                            vr, length, header_length = found
                            value = pos + header_length
                            self.forgive(ODD_VR, offset + pos)
                    if length == UNDEFINED_LENGTH:
                        self.open(codec.raw(raw), vr, codec, offset + pos)
                        kind, codec, sequence = opened[-1]
                        header = codec.item_header.unpack_from
                        pos = value
                    else:
                        pos = value + length
                    continue
                if raw == codec.item_delimitation:
                    if length:
                        self.forgive(DELIMITATION_WITH_LENGTH, offset + pos)
                    pos += HEADER_LENGTH
                else:
                    self.forgive(ITEM_NOT_DELIMITED, offset + pos)
            elif raw == codec.item:
                pos += HEADER_LENGTH
                if length != UNDEFINED_LENGTH:
                    pos += length
                else:
                    if kind is Kind.FRAGMENTS:
                        self.forgive(FRAGMENT_AS_ITEM, offset + pos)
                    kind = Kind.ITEM
                    opened.append((kind, codec, 0))
                continue
            elif raw == codec.sequence_delimitation:
                if length:
                    self.forgive(DELIMITATION_WITH_LENGTH, offset + pos)
                pos += HEADER_LENGTH
            elif raw == codec.item_delimitation:
                self.forgive(STRAY_DELIMITATION, offset + pos)
                pos += HEADER_LENGTH
                continue
            elif codec.raw(raw) > sequence:
                self.forgive(SEQUENCE_NOT_DELIMITED, offset + pos)
            else:
                raise misplaced(codec.raw(raw), kind.value, offset + pos)
            # The innermost has ended.
            opened.pop()
            if not opened:
                return pos
            kind, codec, sequence = opened[-1]
            header = codec.item_header.unpack_from
        return pos


def is_encapsulated(tag: int, vr: str | None) -> bool:
    """Whether an element of undefined length holds fragments; otherwise it is a sequence.

    Only OB and OW may hold them (PS3.5 A.4), and other VRs do not have undefined length at
    all; where one has, it is taken for what it would be in the place of OB.
    """
    if vr is None:
        return tag == PIXEL_DATA
    return vr not in ("SQ", "UN")


def is_padding(start: Buffer) -> bool:
    """Whether a data set ends before *start*, where a header should be: nothing but the same
    space, NUL or FFH.  Of NULs a whole header is an element without a value, and so passed."""
    start = bytes(start)
    fill = start[:1]
    if fill == b"\0" and len(start) >= HEADER_LENGTH:
        return False
    return fill in _FILLS and not start.strip(fill)


def misplaced(tag: int, where: str, offset: int) -> DataSetError:
    """The fault of a tag that can neither go on nor end what is open."""
    return DataSetError(f"{tag_text(tag)} where none may be, in {where} (PS3.5 7.5)", offset)


def too_deep(most: int, offset: int) -> DataSetLimitError:
    """The fault of a sequence in more than *most* others."""
    return DataSetLimitError(f"sequences nested deeper than {most}", offset, "nesting")
