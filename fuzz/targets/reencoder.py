"""Invariant: whatever the scanner takes is re-encoded to the same bytes, however it is cut.

It has the same elements, and is in order, once it was surveyed.

Input: a byte for the chunks, a byte for both encodings, the data set.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
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
    Survey,
    read_data_set,
)
from isocenter.engine.dataset.inflate import RAW_DEFLATE
from isocenter.engine.dataset.transcoder import Odd
from isocenter.engine.limits import DEFAULT_LIMITS, Limits

_ENCODINGS: Final = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED_LITTLE)
_LIMITS: Final = (
    DEFAULT_LIMITS,
    Limits(nesting=2, inflate_window=100),
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
        assert not _is_taken(body, source, limits)
        return
    if target.deflated:  # how it is deflated may depend on the pieces
        whole, pieces = _inflate(whole), _inflate(pieces)
        target = EXPLICIT_LITTLE
    assert whole == pieces
    if limits is not DEFAULT_LIMITS:
        return
    if Survey.is_needed(source, target):
        # What leaves is in order, whatever came.
        assert _is_taken(whole, target, limits)
    try:
        before = read_data_set(body, source)
    except DataSetError:
        return  # in what a re-encoder passes over by its length
    after = read_data_set(whole, target)
    for tag, element in before.items():
        if tag & 0xFFFF:  # group lengths are dropped
            if tag not in after:
                # Implicit VR cannot say that it is no sequence.
                assert target.implicit_vr
                assert _VRS.get(tag) == "SQ"
            elif element.vr in _TEXT_VRS or (element.vr is None and _VRS.get(tag) in _TEXT_VRS):
                value, was = after[tag].value, element.value
                # Odd lengths become even.
                assert value == was or (len(was) & 1 and value[:-1] == was)


def _is_taken(data: bytes, encoding: Encoding, limits: Limits) -> bool:
    scanner = ElementScanner(encoding, frozenset(), limits)
    try:
        scanner.feed(data)
        scanner.finish()
    except DataSetError:
        return False
    return True


def _reencode(
    pieces: tuple[bytes, ...], source: Encoding, target: Encoding, limits: Limits
) -> bytes | None:
    """The bytes; None when the data set cannot be re-encoded."""
    out = []
    try:
        odd = _survey(pieces, source, target, limits)
        reencoder = Reencoder(source, target, _vr_of, limits, odd=odd)
        for piece in pieces:
            out += [bytes(buffer) for buffer in reencoder.feed(piece)]
        out += [bytes(buffer) for buffer in reencoder.finish()]
    except DataSetError as fault:
        check_fault(fault)
        return None
    return b"".join(out)


def _survey(
    pieces: tuple[bytes, ...], source: Encoding, target: Encoding, limits: Limits
) -> Mapping[int, Odd]:
    """What has to go on as one value, looking only at what has to be looked at."""
    if not Survey.is_needed(source, target):
        return {}
    survey = Survey(source, target, _vr_of, limits)
    position = 0
    for piece in pieces:
        skipped = min(max(survey.next_wanted - position, 0), len(piece))
        if not source.deflated:
            survey.pass_over(skipped)
        survey.feed(piece[skipped:])
        position += len(piece)
    survey.finish()
    return survey.odd


def _inflate(data: bytes) -> bytes:
    return zlib.decompressobj(RAW_DEFLATE).decompress(data)
