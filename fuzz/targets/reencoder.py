"""Invariant: however a data set is cut, it is re-encoded to the same bytes, with the same elements.

Input: a byte for the chunks, a byte for both encodings, the data set.
"""

from __future__ import annotations

import zlib
from typing import Final

from cutting import chunks
from wording import check_fault

from isocenter.engine.dataset import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    DataSetError,
    ElementScanner,
    Encoding,
    Reencoder,
    read_data_set,
)
from isocenter.engine.dataset.inflate import RAW_DEFLATE
from isocenter.engine.limits import DEFAULT_LIMITS, Limits

_ENCODINGS: Final = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED_LITTLE)
_LIMITS: Final = (
    DEFAULT_LIMITS,
    Limits(nesting=2, elements=20, inflate_ratio=4, inflate_window=100, inflate_allowance=100),
)
#: Of each kind one: text, numbers of each width, choices, a sequence.
_VRS: Final = {
    0x0008_0005: "CS",
    0x0008_0018: "UI",
    0x0008_1140: "SQ",
    0x0009_1001: "FD",
    0x0010_0010: "PN",
    0x0028_0010: "US",
    0x0028_0103: "US",
    0x0028_0106: "US or SS",
    0x0028_3006: "US or OW",
    0x0040_0275: "SQ",
    0x0040_9210: "SH",
    0x7FE0_0008: "OF",
    0x7FE0_0009: "OD",
    0x7FE0_0010: "OB or OW",
}

#: Values of these are the same in every encoding.
_TEXT_VRS: Final = frozenset({"CS", "LO", "PN", "SH", "UI"})


def _vr_of(tag: int, creator: str | None) -> str:
    return _VRS.get(tag, "UN") if creator in (None, "ISOCENTER") else "UN"


def run(data: bytes) -> None:
    if len(data) < 2:
        return
    source, target = _ENCODINGS[data[1] & 3], _ENCODINGS[data[1] >> 2 & 3]
    limits = _LIMITS[data[1] >> 4 & 1]
    body = data[2:]
    whole = _reencode((body,), source, target, limits)
    pieces = _reencode(tuple(chunks(body, data[0])), source, target, limits)
    assert (whole is None) == (pieces is None)
    if whole is None or pieces is None:
        return
    if target.deflated:  # how it is deflated may depend on the pieces
        assert _inflate(whole) == _inflate(pieces)
    else:
        assert whole == pieces
    if limits is not DEFAULT_LIMITS:
        return
    scanner = ElementScanner(target, frozenset())
    scanner.feed(whole)
    scanner.finish()
    try:
        before = read_data_set(body, source)
    except DataSetError:
        return  # in what a re-encoder passes over by its length
    after = read_data_set(whole, target)
    for tag, element in before.items():
        if tag & 0xFFFF:  # group lengths are dropped
            assert tag in after
            if element.vr in _TEXT_VRS or (element.vr is None and _VRS.get(tag) in _TEXT_VRS):
                assert after[tag].value == element.value


def _reencode(
    pieces: tuple[bytes, ...], source: Encoding, target: Encoding, limits: Limits
) -> bytes | None:
    """The bytes; None when the data set cannot be re-encoded."""
    reencoder = Reencoder(source, target, _vr_of, limits)
    out = []
    try:
        for piece in pieces:
            out += [bytes(buffer) for buffer in reencoder.feed(piece)]
        out += [bytes(buffer) for buffer in reencoder.finish()]
    except DataSetError as fault:
        check_fault(fault)
        return None
    return b"".join(out)


def _inflate(data: bytes) -> bytes:
    return zlib.decompressobj(RAW_DEFLATE).decompress(data)
