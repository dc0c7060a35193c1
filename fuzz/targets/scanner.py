"""Invariant: however a data set is cut, the scanner takes the same, and what the reader would.

Input: a byte for the chunks, a byte for the encoding, the data set.
"""

from __future__ import annotations

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
    Item,
    ScannedItem,
    ScannedValue,
    Value,
    read_data_set,
)
from isocenter.engine.dataset.reader import Fragments
from isocenter.engine.limits import DEFAULT_LIMITS, Limits

_ENCODINGS: Final = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED_LITTLE)
_LIMITS: Final = (
    DEFAULT_LIMITS,
    Limits(
        nesting=2, identifier_elements=20, kept_value=20, identifier=80, inflate_window=100,
    ),
)  # fmt: skip
_SEQUENCES: Final = frozenset({0x0008_1140, 0x0040_0275})
_WANTED: Final = _SEQUENCES | {0x0008_0018, 0x0010_0010, 0x0028_0010, 0x0009_1001, 0x7FE0_0010}

_Scanned = tuple[dict[int, ScannedValue], dict[int, str], str, dict[int, str], dict[str, int]]


def run(data: bytes) -> None:
    if len(data) < 2:
        return
    encoding = _ENCODINGS[data[1] % 4]
    limits = _LIMITS[data[1] >> 2 & 1]
    sequences = _SEQUENCES if data[1] & 8 else frozenset[int]()
    body = data[2:]
    whole = _scan((body,), encoding, limits, sequences)
    pieces = _scan(tuple(chunks(body, data[0])), encoding, limits, sequences)
    assert bool(whole[2]) == bool(pieces[2])
    # Of two faults, the one that is noticed first may depend on what came at once.
    if limits is DEFAULT_LIMITS and not encoding.deflated:
        assert whole[2] == pieces[2]
    if not whole[2]:
        # Also what was left out and what was forgiven, and where.
        assert whole == pieces
    try:
        elements = read_data_set(body, encoding, limits, sequences)
    except DataSetError as fault:
        check_fault(fault)
        return
    values, vrs, fault_of_scanner, left_out, _ = whole
    if limits is DEFAULT_LIMITS:  # the small ones bound other things for the two
        assert not fault_of_scanner
    if fault_of_scanner:
        return
    assert values.keys() | left_out.keys() == elements.keys() & _WANTED
    for tag, value in values.items():
        if tag not in left_out:
            assert value == _without_elements(elements[tag].value)
        elif isinstance(value, bytes):  # cut
            assert elements[tag].value[: len(value)] == value
        assert vrs.get(tag) in (elements[tag].vr, None, "UN")


def _scan(
    pieces: tuple[bytes, ...], encoding: Encoding, limits: Limits, sequences: frozenset[int]
) -> _Scanned:
    scanner = ElementScanner(encoding, _WANTED, limits, sequences=sequences)
    fault = ""
    try:
        for piece in pieces:
            scanner.feed(piece)
        scanner.finish()
    except DataSetError as error:
        check_fault(error)
        fault = str(error)
        _check_end(scanner)
    for error in scanner.left_out.values():
        check_fault(error)
    left_out = {tag: str(error) for tag, error in scanner.left_out.items()}
    return scanner.values, scanner.vrs, fault, left_out, dict(scanner.forgiven)


def _check_end(scanner: ElementScanner) -> None:
    """After a fault nothing more is scanned."""
    values = dict(scanner.values)
    try:
        scanner.feed(b"\x10\0\x10\0\0\0\0\0")
    except DataSetError:
        assert scanner.values == values
        return
    raise AssertionError("a scanner went on after a fault")


def _without_elements(value: Value) -> ScannedValue:
    if isinstance(value, bytes | Fragments):
        return value
    return tuple(_item(item) for item in value)


def _item(item: Item) -> ScannedItem:
    return {tag: _without_elements(element.value) for tag, element in item.items()}
