"""Data sets of which only the beginning is at hand, for validation."""

from __future__ import annotations

from typing import Final

from isocenter.engine.dataset import DataSetError, encoding_of
from isocenter.engine.dataset.inflate import Inflater
from isocenter.engine.dataset.vr import EXPLICIT_LITTLE
from isocenter.engine.limits import Limits
from isocenter.services.dicom.iod.items import ReadItems, read_items

#: Bytes of a data set that are looked at first; pixels lie behind them, if not within.
HEAD_BYTES: Final = 4 << 20
#: Elements that may be long, behind all that is judged: of these only the beginning is needed.
_LONG: Final = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010, 0x00420011))
_PIECE: Final = 8 << 10


def read_head(
    data: bytes, size: int, transfer_syntax_uid: str, limits: Limits, most: int = HEAD_BYTES
) -> ReadItems | None:
    """What is in the beginning *data* of a data set of *size* bytes; None: more of it is needed,
    or it inflates to more than *most* bytes."""
    encoding = encoding_of(transfer_syntax_uid)
    is_cut = size > len(data)
    if encoding.deflated:
        inflated = None if is_cut else _inflated(data, limits, most)
        return None if inflated is None else read_items(memoryview(inflated), EXPLICIT_LITTLE)
    read = read_items(memoryview(data), encoding)
    if is_cut:
        last = next(reversed(read.root.elements), 0)
        if last not in _LONG:
            return None
        read.root.elements[last].is_cut = True
        # That its value ends early is our doing.
        read.forgiven = {what: at for what, at in read.forgiven.items() if at < read.last_start}
    return read


def _inflated(data: bytes, limits: Limits, most: int) -> bytes | None:
    inflater = Inflater(limits)
    pieces: list[bytes] = []
    size = 0
    try:
        for start in range(0, len(data), _PIECE):
            for piece in inflater.feed(data[start : start + _PIECE]):
                size += len(piece)
                if size > most:
                    return None
                pieces.append(bytes(piece))
    except DataSetError:
        return None
    return b"".join(pieces)
