"""Detection of the encoding of a data set by its first bytes.

For data sets that come without a transfer syntax, or with one that contradicts them.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from isocenter.engine.buffers import Buffer, octets
from isocenter.engine.dataset.codec import HEADER_LENGTH, LONG_HEADER_LENGTH, codec_of
from isocenter.engine.dataset.vr import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    UNDEFINED_LENGTH,
    Encoding,
)
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)

#: Elements that a guess looks at; the first already rules out nearly all other files.
_ELEMENTS_TO_GUESS_BY: Final = 8
#: An implicit VR data set starts below this group: identifying, patient or study information.
_HIGHEST_FIRST_GROUP: Final = 0x0040

#: What is tried, and the transfer syntax of a data set that nothing more is known of.
_SYNTAX_OF: Final = {
    EXPLICIT_LITTLE: EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_BIG: EXPLICIT_VR_BIG_ENDIAN,
    IMPLICIT_LITTLE: IMPLICIT_VR_LITTLE_ENDIAN,
}
#: The transfer syntaxes that say nothing but how elements are written: the bytes of a data set
#: can prove that it has another of them.
_OF_ELEMENTS_ALONE: Final = {syntax: encoding for encoding, syntax in _SYNTAX_OF.items()} | {
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: DEFLATED_LITTLE
}


class _Look(Enum):
    """What the first bytes of a data set look like in an encoding."""

    #: Eight elements, or all there are, can be read so.
    WHOLE = "whole"
    #: At least one can be, and the next one goes on behind the bytes that are there.
    CUT = "cut"
    WRONG = "wrong"


def guess_encoding(buffer: Buffer) -> Encoding | None:
    """The encoding of a data set that stands alone, or None where *buffer* starts with none.

    Args:
        buffer: the file, or its first bytes; one whole element must be in it.

    A deflated data set cannot be told from anything else and is never guessed.
    """
    buffer = octets(buffer)
    looks = {encoding: _look(buffer, encoding) for encoding in _SYNTAX_OF}
    for wanted in (_Look.WHOLE, _Look.CUT):
        for encoding, look in looks.items():
            if look is wanted:
                return encoding
    return None


def guess_transfer_syntax(buffer: Buffer) -> str:
    """The transfer syntax of a data set that stands alone; empty where *buffer* starts with none.

    Args:
        buffer: as for `guess_encoding`.
    """
    encoding = guess_encoding(buffer)
    return "" if encoding is None else _SYNTAX_OF[encoding]


def proven_transfer_syntax(buffer: Buffer, declared: str) -> str:
    """The transfer syntax that a data set has: *declared*, unless its bytes prove another.

    That is only so among the uncompressed ones, whose names say nothing but how elements are
    written, and only where eight elements, or all there are, can be read in the other one and
    not as declared.  How pixels are compressed no element shows: there *declared* is right.

    Args:
        buffer: the data set, or its first bytes.
    """
    buffer = octets(buffer)
    encoding = _OF_ELEMENTS_ALONE.get(declared)
    if encoding is None or (not encoding.deflated and _look(buffer, encoding) is _Look.WHOLE):
        return declared
    for other, syntax in _SYNTAX_OF.items():
        if other != encoding and _look(buffer, other) is _Look.WHOLE:
            return syntax
    return declared


def is_syntax_certain(buffer: Buffer, declared: str) -> bool:
    """Whether nothing that follows *buffer* can prove another transfer syntax than *declared*.

    Args:
        buffer: the first bytes of a data set that goes on.
    """
    encoding = _OF_ELEMENTS_ALONE.get(declared)
    if encoding is None:
        return True
    # Less one byte: an element that ends with the buffer is not the last one.
    return not encoding.deflated and _look(octets(buffer)[:-1], encoding) is _Look.WHOLE


def is_readable(buffer: Buffer, encoding: Encoding) -> bool:
    """Whether a data set in *encoding* could start so."""
    return _look(buffer, encoding) is not _Look.WRONG


def _look(buffer: Buffer, encoding: Encoding) -> _Look:
    """Elements with VRs that exist, or in ascending order where they have none."""
    codec = codec_of(encoding)
    size = len(buffer)
    previous = -1
    pos = 0
    for count in range(_ELEMENTS_TO_GUESS_BY):
        cut = _Look.CUT if count else _Look.WRONG
        if size - pos < HEADER_LENGTH:
            return _Look.WHOLE if count and pos == size else cut
        raw, length = codec.item_header.unpack_from(buffer, pos)
        tag = codec.raw(raw)
        # A VR is good evidence; without one, groups and their order must be.
        if encoding.implicit_vr and (
            tag <= previous or (count == 0 and tag >> 16 >= _HIGHEST_FIRST_GROUP)
        ):
            return _Look.WRONG
        previous = tag
        value = pos + HEADER_LENGTH
        if not encoding.implicit_vr:
            _, key, length = codec.explicit_header.unpack_from(buffer, pos)
            if key in codec.long_vrs:
                value = pos + LONG_HEADER_LENGTH
                if value > size:
                    return cut
                (length,) = codec.length.unpack_from(buffer, pos + HEADER_LENGTH)
            elif key not in codec.short_vrs:
                return _Look.WRONG
        if length == UNDEFINED_LENGTH:
            item = codec.item.to_bytes(4, "big" if encoding.big_endian else "little")
            return _Look.WHOLE if bytes(buffer[value : value + 4]) == item else cut
        pos = value + length
        if pos > size:
            return cut
    return _Look.WHOLE
