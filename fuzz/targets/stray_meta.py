"""Invariant: what goes on is what came, less group 0002 at the head, however it is cut.

It never begins with a group that a reader would believe.

Input: a byte for the chunks, a byte for the encoding, the data set.
"""

from __future__ import annotations

import zlib
from typing import Final

from cutting import chunks
from wording import check_fault

from isocenter.engine.dataset import (
    DANGEROUS_GROUPS,
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    DataSetError,
    Encoding,
    StrayMetaFilter,
)
from isocenter.engine.dataset.inflate import RAW_DEFLATE

_ENCODINGS: Final = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED_LITTLE)
#: A tag, and what of a header tells whether there is one.
_HEADER_LENGTH: Final = 8


def run(data: bytes) -> None:
    if len(data) < 2:
        return
    encoding = _ENCODINGS[data[1] % 4]
    body = data[2:]
    whole = _filtered((body,), encoding)
    pieces = _filtered(tuple(chunks(body, data[0])), encoding)
    assert (whole is None) == (pieces is None)
    if whole is None or pieces is None:
        return
    (out, dropped), (again, as_many) = whole, pieces
    assert dropped == as_many
    if encoding.deflated and out != body:
        # Deflated anew; too short for a header where nothing was dropped.
        out, again, body = map(_inflate, (out, again, body))
        assert dropped or len(body) < _HEADER_LENGTH
    assert out == again
    # Behind the stream there may be padding, which is gone when it was deflated anew.
    assert out == body[dropped:]
    head = _head_of(out) if encoding.deflated and out == body else out
    if len(head) >= _HEADER_LENGTH:
        group = int.from_bytes(head[:2], "big" if encoding.big_endian else "little")
        assert group not in DANGEROUS_GROUPS


def _filtered(pieces: tuple[bytes, ...], encoding: Encoding) -> tuple[bytes, int] | None:
    stray = StrayMetaFilter(encoding)
    out = []
    try:
        for piece in pieces:
            out += [bytes(buffer) for buffer in stray.feed(piece)]
        out += [bytes(buffer) for buffer in stray.finish()]
    except DataSetError as fault:
        check_fault(fault)
        return None
    return b"".join(out), stray.dropped


def _head_of(deflated: bytes) -> bytes:
    """What a reader sees of a stream that passed as it came; it may be none."""
    try:
        return zlib.decompressobj(RAW_DEFLATE).decompress(deflated, _HEADER_LENGTH)
    except zlib.error:
        return b""


def _inflate(data: bytes) -> bytes:
    return zlib.decompressobj(RAW_DEFLATE).decompress(data)
