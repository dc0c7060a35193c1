"""Context groups of PS3.16: their codes, and what is none of them."""

from __future__ import annotations

import pytest

from isocenter.services.dicom.vocabularies.context_groups import (
    DX_ANATOMY,
    PET_RADIONUCLIDES,
    PET_RADIOPHARMACEUTICALS,
    SEGMENT_CATEGORIES,
    code_of,
    context_group,
)
from isocenter.services.dicom.vocabularies.derived import CodedTerm


@pytest.mark.parametrize(
    ("number", "value", "meaning"),
    [
        (PET_RADIOPHARMACEUTICALS, "35321007", "Fluorodeoxyglucose F^18^"),
        (PET_RADIONUCLIDES, "77004003", "^18^Fluorine"),
        (DX_ANATOMY, "816094009", "Chest"),
        (SEGMENT_CATEGORIES, "91723000", "Anatomical Structure"),
        (SEGMENT_CATEGORIES, "105590001", "Substance"),
    ],
)
def test_a_code_has_its_meaning(number: int, value: str, meaning: str) -> None:
    term = CodedTerm(value, "SCT", meaning)
    assert term in context_group(number)
    assert code_of(number, f"{value} ", "SCT") == term
    assert code_of(number, value, "DCM") is None


def test_every_group_has_codes_that_differ() -> None:
    for number in (DX_ANATOMY, PET_RADIONUCLIDES, PET_RADIOPHARMACEUTICALS, SEGMENT_CATEGORIES):
        terms = context_group(number)
        assert len({term[:2] for term in terms}) == len(terms) > 5
        assert all(all(term) for term in terms)


@pytest.mark.parametrize("number", [-1, 0, 99_999])
def test_a_group_that_there_is_not_is_told(number: int) -> None:
    with pytest.raises(KeyError, match=f"no context group {number}"):
        context_group(number)
