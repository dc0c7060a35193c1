"""Value multiplicity, as PS3.6 writes it."""

from __future__ import annotations

import pytest

from isocenter.services.dicom.multiplicity import (
    Multiplicity,
    is_valid_count,
    multiplicity_of,
    parse_multiplicity,
)
from isocenter.services.dicom.pydicom_tables import ELEMENTS


@pytest.mark.parametrize(
    ("text", "expected", "allowed", "refused"),
    [
        ("1", Multiplicity(1, 1), [1], [0, 2]),
        ("1-3", Multiplicity(1, 3), [1, 2, 3], [0, 4]),
        ("1-n", Multiplicity(1, None), [1, 2, 1000], [0]),
        ("2-2n", Multiplicity(2, None, 2), [2, 4, 100], [0, 1, 3]),
        ("3-3n", Multiplicity(3, None, 3), [3, 6], [1, 4, 5]),
        ("0-n", Multiplicity(0, None), [0, 5], []),
    ],
)
def test_forms(text: str, expected: Multiplicity, allowed: list[int], refused: list[int]) -> None:
    found = parse_multiplicity(text)
    assert found == expected
    assert str(found) == text
    assert all(map(found.allows, allowed))
    assert not any(map(found.allows, refused))


@pytest.mark.parametrize("text", ["", "n", "1-", "-1", "3-1", "1-2-3", "1-nn", "a", "1,2"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"multiplicity|bound"):
        parse_multiplicity(text)


@pytest.mark.parametrize(
    ("name", "count", "is_valid"),
    [
        ("PixelSpacing", 2, True),
        ("PixelSpacing", 3, False),
        (0x00080008, 5, True),  # Image Type, 2-n
        ("(0008,0008)", 1, False),
        ("PatientName", 0, True),
        ("ReferencedSeriesSequence[0].SeriesInstanceUID", 2, False),
        (0x00091001, 7, True),
    ],
)
def test_attributes(name: str | int, count: int, is_valid: bool) -> None:
    assert is_valid_count(name, count) is is_valid


def test_every_entry_of_the_dictionary_is_understood() -> None:
    for tag, entry in ELEMENTS.items():
        if entry[1] and " or " not in entry[1]:
            assert str(multiplicity_of(tag)) == entry[1], f"{tag:08X}"
