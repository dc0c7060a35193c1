"""Conditions of PS3.3: sentences that are read, and those that are left open."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

IOD = Path(__file__).parents[2] / "packaging" / "iod"
NAMES = {
    "00080016": "SOP Class UID", "00080008": "Image Type", "00280002": "Samples per Pixel",
    "00280004": "Photometric Interpretation", "00120062": "Patient Identity Removed",
    "00120064": "De-identification Method Code Sequence", "00281052": "Rescale Intercept",
    "00209165": "Dimension Index Pointer", "0040a132": "Referenced Sample Positions",
    "0040a13a": "Referenced DateTime", "00280009": "Frame Increment Pointer",
    "00181063": "Frame Time", "00181065": "Frame Time Vector", "00189037": "Technique",
    "00220015": "Acquisition Device Type Code Sequence",
}  # fmt: skip


@pytest.fixture
def sentences(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(IOD))
    import condition_sentences

    yield condition_sentences
    del sys.modules["condition_sentences"], sys.modules["condition_grammar"]


@pytest.mark.parametrize(
    ("text", "required", "otherwise"),
    [
        ("Required if Samples per Pixel (0028,0002) has a value greater than 1.",
         ["greater", "00280002", 0, 1.0], "no"),
        (("Required if Image Type (0008,0008) Value 1 is ORIGINAL or MIXED. May be present "
         "otherwise."), ["is", "00080008", 1, ["ORIGINAL", "MIXED"]], "may"),
        (("Required if Photometric Interpretation (0028,0004) is PALETTE COLOR; may be present "
         "otherwise."), ["is", "00280004", 0, ["PALETTE COLOR"]], "may"),
        (("Required if Patient Identity Removed (0012,0062) is present and has a value of YES and "
         "De-identification Method Code Sequence (0012,0064) is not present."),
         ["and", ["is", "00120062", 0, ["YES"]], ["not", ["present", "00120064"]]], "no"),
        ('Required if SOP Class UID is not "1.2.3" (Legacy Converted). May be present otherwise.',
         ["not", ["is", "00080016", 0, ["1.2.3"]]], "may"),
        (("Required if Referenced Sample Positions (0040,A132) and Referenced DateTime "
         "(0040,A13A) are not present."),
         ["and", ["not", ["present", "0040a132"]], ["not", ["present", "0040a13a"]]], "no"),
        (("Required if Frame Increment Pointer (0028,0009) is Frame Time (0018,1063) or Frame Time "
         "Vector (0018,1065)."), ["is", "00280009", 0, ["00181063", "00181065"]], "no"),
        ("Required if Technique (0018,9037) equals other than NONE.",
         ["and", ["valued", "00189037"], ["not", ["is", "00189037", 0, ["NONE"]]]], "no"),
        (("Required if the Dimension Index Pointer (0020,9165) value is the Data Element Tag of a "
         "Private Attribute."), ["private", "00209165"], "no"),
        (("Required if Acquisition Device Type Code Sequence (0022,0015) contains an Item with the "
         'value (392012008, SCT, "OCT Scanner"). May be present otherwise.'),
         ["code", "00220015", [["392012008", "SCT"]]], "may"),
        (('Required if SOP Class UID is not "1.2.3" (Legacy Converted Enhanced CT) and not "1.2.4" '
          "(VL Whole Slide), may be present otherwise."),
         ["not", ["is", "00080016", 0, ["1.2.3", "1.2.4"]]], "may"),
        (('Required if: Technique (0018,9037) is VOLUME or SAMPLED, or SOP Class UID is '
          'Segmentation Storage ("1.2.3") and Frame Time (0018,1063) is present.'),
         ["or", ["is", "00189037", 0, ["VOLUME", "SAMPLED"]],
          ["and", ["is", "00080016", 0, ["1.2.3"]], ["present", "00181063"]]], "no"),
        ("Required if the value of Frame Time (0018,1063) exists. Note More is said elsewhere.",
         ["present", "00181063"], "no"),
        (("Required if Acquisition Device Type Code Sequence (0022,0015) contains either "
          '(1, DCM, "One") or (2, DCM, "Two").'),
         ["code", "00220015", [["1", "DCM"], ["2", "DCM"]]], "no"),
        ("A sequence of LUTs. Shall not be present if Rescale Intercept (0028,1052) is present.",
         ["false"], "may"),
        (("Required if the value of Frame Increment Pointer (0028,0009) includes the Tag for Frame "
         "Time (0018,1063)."), ["is", "00280009", 0, ["00181063"]], "no"),
        ("Required if Frame Time (0018,1063) is absent or has a value of TIME or BOTH.",
         ["or", ["not", ["present", "00181063"]], ["is", "00181063", 0, ["TIME", "BOTH"]]], "no"),
        (("Required if Frame Time (0018,1063) is absent or not TILED_FULL. May be present "
         "otherwise."),
         ["or", ["not", ["present", "00181063"]],
          ["not", ["is", "00181063", 0, ["TILED_FULL"]]]], "may"),
        ("Required if Frame Time (0018,1063) is absent or Technique (0018,9037) is TIME.",
         ["or", ["not", ["present", "00181063"]], ["is", "00189037", 0, ["TIME"]]], "no"),
        (("Required if Technique (0018,9037) equals 3D and Frame Time (0018,1063) is non-zero "
         "length."),
         ["and", ["is", "00189037", 0, ["3D"]], ["valued", "00181063"]], "no"),
        ("Required if Technique (0018,9037) is present with value STAGED.",
         ["is", "00189037", 0, ["STAGED"]], "no"),
        (("Required if Technique (0018,9037) is TILED, and the value of Frame Time (0018,1063) or "
         "Samples per Pixel (0028,0002) is greater than 1."),
         ["and", ["is", "00189037", 0, ["TILED"]],
          ["or", ["greater", "00181063", 0, 1.0], ["greater", "00280002", 0, 1.0]]], "no"),
        ("Required if used as a dimension index, may be present otherwise.",
         ["dimension", "00181063"], "may"),
        # Known in part: what the rest says is outside of the data set.
        (("Required if the Referenced SOP Instance is a multi-frame image and the reference does "
         "not apply to all frames, and Frame Time (0018,1063) is not present."),
         ["and", ["unknown"], ["unknown"], ["not", ["here", "00181063"]]], "no"),
        ("Required if present in the source images. Required if Technique (0018,9037) is MG.",
         ["or", ["is", "00189037", 0, ["MG"]], ["unknown"]], "no"),
        (("The angle (degrees). Required for first Item of Frame Time Vector (0018,1065), or if "
         "the angle changes during Beam. See Section C.8."),
         ["or", ["first", "00181065"], ["unknown"]], "no"),
        (("See Section 8.8 . Note It may be empty. Required if Samples per Pixel (0028,0002) is "
         "3. See Section C.7."), ["is", "00280002", 0, ["3"]], "no"),
    ],
)  # fmt: skip
def test_a_sentence_is_read(sentences: Any, text: str, required: list[Any], otherwise: str) -> None:
    condition = sentences.condition_of(text, sentences.Names(NAMES), "00181063")
    assert (condition.required, condition.otherwise) == (required, otherwise)


@pytest.mark.parametrize(
    "text",
    [
        "Required if contrast was administered.",
        "Required if the image has been calibrated. May be present otherwise.",
        "Required if Samples per Pixel (0028,0002) is 3 and the moon is full.",
        "Required if Nothing Known (0011,9999) is present.",
        # Nothing of it can be known.
        "Required if the Patient is an animal.",
        # What is known decides nothing: it may be there in any case.
        (
            "Required if the Patient is an animal and if Frame Time (0018,1063) is not present. "
            "May be present otherwise."
        ),
        # One could read it in two ways.
        (
            "Required if Technique (0018,9037) equals FULL or Samples per Pixel (0028,0002) equals "
            "3 and coding scheme is registered."
        ),
        (
            "Required for first Item of Frame Time Vector (0018,1065), or if the voltage changes "
            "during setup, and Frame Time (0018,1063) is not present."
        ),
    ],
)
def test_what_is_not_understood_is_left_open(sentences: Any, text: str) -> None:
    condition = sentences.condition_of(text, sentences.Names(NAMES))
    assert condition.says
    assert condition.required is None
