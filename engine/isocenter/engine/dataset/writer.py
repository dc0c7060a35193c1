"""Writer of data sets that fit in memory, from elements.

Standard: PS3.5 7.1, 7.5, A.4, A.5.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from struct import Struct
from typing import Final

from isocenter.engine.buffers import Buffer, octets
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dataset.inflate import RAW_DEFLATE
from isocenter.engine.dataset.reader import Element, Fragments
from isocenter.engine.dataset.vr import (
    ENCAPSULATED_VRS,
    ITEM,
    LONG_VRS,
    MAX_SHORT_LENGTH,
    SEQUENCE_DELIMITATION,
    SHORT_VRS,
    SPACE_PADDED_VRS,
    UNDEFINED_LENGTH,
    Encoding,
)
from isocenter.engine.errors import LocalProtocolError

#: Tag, VR and raw value; the items of a sequence; or the fragments of an encapsulated value.
#: `Element` is one of them.
WritableElement = tuple[int, str | None, "WritableValue"]
WritableItem = Iterable[WritableElement] | Mapping[int, Element]
WritableValue = Buffer | Fragments | Sequence[WritableItem]


class _Layout:
    """The structures of one byte order."""

    __slots__ = ("item", "long_explicit", "short_explicit")

    def __init__(self, sign: str) -> None:
        #: Group, element, 32-bit length: implicit VR elements and all items.
        self.item = Struct(sign + "HHI")
        #: Group, element, VR, 16-bit length.
        self.short_explicit = Struct(sign + "HH2sH")
        #: Group, element, VR, two reserved bytes, 32-bit length.
        self.long_explicit = Struct(sign + "HH2s2xI")


_LITTLE: Final = _Layout("<")
_BIG: Final = _Layout(">")

#: VR → its letters, whether its length has 16 bits, and what pads its values.
_RULES: Final[Mapping[str | None, tuple[bytes, bool, bytes]]] = {
    vr: (vr.encode(), vr in SHORT_VRS, b" " if vr in SPACE_PADDED_VRS else b"\0")
    for vr in sorted(SHORT_VRS | LONG_VRS)
}


def write_data_set(elements: Iterable[WritableElement], encoding: Encoding) -> bytes:
    """The data set made of *elements*, sequences and items with defined length.

    Args:
        elements: (tag, VR, value) in ascending order of tags.  A value of bytes is in the
            byte order of *encoding*; one of odd length is padded.  The value of an SQ is a
            sequence of items, each again elements, or an item as `read_data_set` gives it.
            The VR may be None for implicit VR alone.  A value too long for the 16-bit
            length of its VR is written as UN (PS3.5 6.2.2).

    Raises:
        LocalProtocolError: tags out of order, an unknown VR or none, a value that its VR
            cannot have.
    """
    if not encoding.deflated:
        return _write(elements, encoding)
    deflater = zlib.compressobj(wbits=RAW_DEFLATE)
    deflated = deflater.compress(_write(elements, encoding)) + deflater.flush()
    # PS3.5 A.5: one NUL behind the deflate stream where its length is odd.
    return deflated + b"\0" * (len(deflated) & 1)


def _write(elements: Iterable[WritableElement], encoding: Encoding) -> bytes:
    layout = _BIG if encoding.big_endian else _LITTLE
    pack_item = layout.item.pack
    pack_short = layout.short_explicit.pack
    pack_long = layout.long_explicit.pack
    implicit_vr = encoding.implicit_vr
    rules = _RULES
    parts: list[Buffer] = []
    append = parts.append
    previous = -1
    for tag, vr, value in elements:
        if tag <= previous:
            raise LocalProtocolError(f"{tag_text(tag)} out of order (PS3.5 7.1)")
        previous = tag
        if vr in rules:
            letters, is_short, padding = rules[vr]
        elif vr is None and implicit_vr:
            letters, is_short, padding = _NO_VR
        else:
            raise LocalProtocolError(f"{tag_text(tag)} has no VR that PS3.5 6.2 knows")
        if type(value) is not bytes and not isinstance(value, bytes):
            if isinstance(value, bytearray | memoryview):
                value = bytes(octets(value))
            elif isinstance(value, Fragments):
                if vr not in ENCAPSULATED_VRS or implicit_vr:
                    raise LocalProtocolError(f"{tag_text(tag)} {vr} with fragments (PS3.5 A.4)")
                append(pack_long(tag >> 16, tag & 0xFFFF, letters, UNDEFINED_LENGTH))
                append(_fragments(value, layout))
                continue
            elif vr == "SQ" or (vr is None and implicit_vr):
                value = _items(value, encoding, layout)
            else:
                raise LocalProtocolError(f"{tag_text(tag)} {vr} with items (PS3.5 7.5)")
        length = len(value)
        if length & 1:
            value += padding
            length += 1
        if implicit_vr:
            append(pack_item(tag >> 16, tag & 0xFFFF, length))
        elif not is_short:
            append(pack_long(tag >> 16, tag & 0xFFFF, letters, length))
        elif length <= MAX_SHORT_LENGTH:
            append(pack_short(tag >> 16, tag & 0xFFFF, letters, length))
        else:
            append(pack_long(tag >> 16, tag & 0xFFFF, b"UN", length))
        append(value)
    return b"".join(parts)


_NO_VR: Final = (b"", False, b"\0")


def _items(items: Sequence[WritableItem], encoding: Encoding, layout: _Layout) -> bytes:
    parts = []
    for item in items:
        elements = item.values() if isinstance(item, Mapping) else item
        value = _write(elements, encoding)
        parts.append(layout.item.pack(ITEM >> 16, ITEM & 0xFFFF, len(value)))
        parts.append(value)
    return b"".join(parts)


def _fragments(fragments: Fragments, layout: _Layout) -> bytes:
    parts = []
    for fragment in fragments:
        padded = fragment + b"\0" * (len(fragment) & 1)
        parts.append(layout.item.pack(ITEM >> 16, ITEM & 0xFFFF, len(padded)))
        parts.append(padded)
    parts.append(layout.item.pack(SEQUENCE_DELIMITATION >> 16, SEQUENCE_DELIMITATION & 0xFFFF, 0))
    return b"".join(parts)
