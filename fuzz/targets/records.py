"""Invariant: what the index keeps of any object is clean, bounded text that can be matched.

Input: a byte for the encoding, the data set of an object.
"""

from __future__ import annotations

from typing import Final

from isocenter.engine.dataset import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    DataSetError,
    ElementScanner,
)
from isocenter.services.archive.index.attributes import BY_TAG, REQUEST_ATTRIBUTES
from isocenter.services.archive.index.extraction import (
    MAX_TEXT_LENGTH,
    SCANNED_SEQUENCES,
    SCANNED_TAGS,
    attributes_of,
)
from isocenter.services.archive.index.matching import (
    decode_sequence,
    matches,
    normalize,
    split_values,
)
from isocenter.services.archive.index.query import Criterion, SingleValue

_ENCODINGS: Final = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED_LITTLE)
_ALLOWED_CONTROLS: Final = frozenset("\t\n\f\r")


def run(data: bytes) -> None:
    if not data:
        return
    encoding = _ENCODINGS[data[0] % 4]
    scanner = ElementScanner(encoding, SCANNED_TAGS, sequences=SCANNED_SEQUENCES)
    try:
        scanner.feed(data[1:])
        scanner.finish()
    except DataSetError:
        return
    for tag, text in attributes_of(scanner.values, encoding).items():
        vr = BY_TAG[tag].vr
        assert text
        if vr == "SQ":
            for item in decode_sequence(text):
                assert item
                assert item.keys() <= {f"{tag:08X}" for tag in REQUEST_ATTRIBUTES}
            continue
        if vr != "UI":  # kept as they are, and checked before use
            controls = {c for c in text if c < " " or "\x7f" <= c < "\xa0"}
            assert controls <= _ALLOWED_CONTROLS
        # Each byte of binary numbers may become several digits.
        assert len(text) <= MAX_TEXT_LENGTH or vr == "US"
        text.encode("utf-8")
        for value in split_values(vr, text):
            normalized = normalize(vr, value)
            assert normalize(vr, normalized) == normalized
            if normalized:
                assert matches(Criterion(tag, SingleValue(value)), text)
