"""Invariant: a small data set is read or refused with a reason; what was read can be written again.

Input: a byte for the encoding, the data set.
"""

from __future__ import annotations

from typing import Final

from wording import check_fault

from isocenter.engine.dataset import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    DataSetError,
    Element,
    Encoding,
    read_data_set,
    write_data_set,
)
from isocenter.engine.errors import LocalProtocolError
from isocenter.engine.limits import DEFAULT_LIMITS, Limits

_ENCODINGS: Final = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED_LITTLE)
_LIMITS: Final = (
    DEFAULT_LIMITS,
    Limits(
        nesting=2,
        identifier_elements=20,
        identifier=200,
        inflate_window=50,
    ),
)
_SEQUENCES: Final = frozenset({0x0008_1140, 0x0040_0275})


def run(data: bytes) -> None:
    if not data:
        return
    encoding = _ENCODINGS[data[0] % 4]
    limits = _LIMITS[data[0] >> 2 & 1]
    sequences = _SEQUENCES if data[0] & 8 else frozenset[int]()
    try:
        elements = read_data_set(data[1:], encoding, limits, sequences)
    except DataSetError as fault:
        check_fault(fault)
        return
    for other in _ENCODINGS:
        written = _write(elements, other)
        if written is not None:
            # Another encoding may lose the VR that made it no sequence.
            known = sequences if other == encoding else frozenset[int]()
            again = read_data_set(written, other, DEFAULT_LIMITS, known)
            # Padding and undefined lengths are gone after the first time.
            assert _write(again, other) == written
            if other == encoding:
                assert list(again) == list(elements)


def _write(elements: dict[int, Element], encoding: Encoding) -> bytes | None:
    """None for what we would not write, but read from others."""
    try:
        return write_data_set(elements.values(), encoding)
    except LocalProtocolError as fault:
        check_fault(fault)
        return None
