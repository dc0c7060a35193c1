"""Windows, frames and attributes as viewers ask for them."""

from __future__ import annotations

from typing import Any

import pytest

from isocenter.services.viewing.attribute_view import AttributeView
from isocenter.services.viewing.cielab import cielab
from isocenter.services.viewing.display_values import frame_timing, voi_values, window_presets
from isocenter.services.viewing.document_parts import attributes, decimal, person
from isocenter.services.viewing.metadata_presets import PRESETS, plain_tags, preset_tags, tag_of


def view(**values: Any) -> AttributeView:
    return AttributeView(attributes(**values))


def test_usual_windows_are_those_of_the_modality() -> None:
    lung = window_presets("ct")[0]
    assert (lung.name, lung.center, lung.width) == ("Lung", -600, 1500)
    assert len(window_presets("CT")) == 6
    assert [one.name for one in window_presets("MR")] == ["T1 Brain", "T2 Brain", "Spine"]
    assert window_presets("CR") == window_presets("DX")
    assert [(one.center, one.width) for one in window_presets("US")] == [(128, 256)]


def test_windows_and_rescaling_of_an_image() -> None:
    found = voi_values(
        view(
            WindowCenter=["40", "-600"], WindowWidth=["400", "1500"],
            WindowCenterWidthExplanation=["SOFT"], RescaleSlope="0", RescaleIntercept="-1024",
        ),
        1,
    )  # fmt: skip
    assert (list(found.centers), list(found.widths)) == ([40, -600], [400, 1500])
    assert list(found.explanations) == ["SOFT", ""]
    assert (found.rescale_slope, found.rescale_intercept) == (1, -1024)
    assert (found.function, found.has_tables) == ("LINEAR", False)
    assert voi_values(view(WindowCenter="40"), 1).centers == []


def test_windows_of_one_frame() -> None:
    group = attributes(
        FrameVOILUTSequence=[
            attributes(WindowCenter="1", WindowWidth="2", VOILUTFunction="SIGMOID")
        ]
    )
    image = view(PerFrameFunctionalGroupsSequence=[attributes(PatientID="x"), group],
                 WindowCenter="5", WindowWidth="6")  # fmt: skip
    assert voi_values(image, 2).centers == [1]
    assert voi_values(image, 2).function == "SIGMOID"
    assert voi_values(image, 1).centers == [5]


@pytest.mark.parametrize(
    ("values", "time", "rate"),
    [
        ({"FrameTime": "40"}, 40, 25),
        ({"CineRate": "20"}, 50, 20),
        ({"FrameTime": "40", "RecommendedDisplayFrameRate": "30"}, 40, 30),
        ({"FrameTimeVector": ["0", "30", "50"]}, 40, 25),
        ({"FrameTime": "0"}, None, None),
        ({}, None, None),
    ],
)
def test_how_fast_frames_follow_each_other(
    values: dict[str, Any], time: float | None, rate: float | None
) -> None:
    found = frame_timing(view(Rows=3, Columns=4, NumberOfFrames="5", **values))
    assert (found.frame_time, found.frame_rate) == (time, rate)
    assert (found.total_frames, found.rows, found.columns) == (5, 3, 4)


def test_every_preset_has_attributes_of_the_dictionary() -> None:
    for name in PRESETS:
        assert preset_tags(name)
    with pytest.raises(ValueError, match="image_display, window_level"):
        preset_tags("everything")


@pytest.mark.parametrize("text", ["Rows", "00280010", "0028,0010", "(0028,0010)"])
def test_a_tag_may_be_written_as_people_do(text: str) -> None:
    assert tag_of(text) == 0x00280010


def test_what_is_no_tag_is_told() -> None:
    with pytest.raises(ValueError, match="write Rows"):
        tag_of("Row")


def test_attributes_are_plain_values() -> None:
    model = {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "A^B", "Phonetic": "x"}]},
        "00280010": {"vr": "US", "Value": [512]},
        "00280030": {"vr": "DS", "Value": [0.5, 0.5]},
        "00100020": {"vr": "LO"},
        "00082112": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2"]}}]},
        "00090010": {"vr": "LO", "Value": ["ACME"]},
        "00091001": {"vr": "UN", "InlineBinary": "AAA="},
    }
    assert plain_tags(model, None, include_private=False) == {
        "PatientName": "A^B==x",
        "Rows": 512,
        "PixelSpacing": [0.5, 0.5],
        "PatientID": None,
        "SourceImageSequence": [{"ReferencedSOPInstanceUID": "1.2"}],
    }
    assert plain_tags(model, [0x00091001, 0x00280010], include_private=True) == {
        "Rows": 512, "00091001": {"InlineBinary": "AAA="},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("colour", "lab"), [("#ffffff", (100, 0, 0)), ("#000000", (0, 0, 0)), ("#ff0000", (54, 81, 70))]
)
def test_colours_are_those_of_the_standard_observer(
    colour: str, lab: tuple[float, float, float]
) -> None:
    """Values of sRGB under D50, as colour tables print them."""
    lightness, a, b = cielab(colour)
    found = (lightness / 655.35, a / 257 - 128, b / 257 - 128)
    assert found == pytest.approx(lab, abs=0.6)


@pytest.mark.parametrize("number", [0.1, 1 / 3, -123456.789012345678, 1e-20, 1e300, 40, -1e-7 / 3])
def test_a_decimal_has_at_most_16_characters(number: float) -> None:
    text = decimal(number)
    assert len(text) <= 16
    assert float(text) == pytest.approx(number, rel=1e-7)


def test_a_name_of_a_user_is_one_of_a_person() -> None:
    assert person("a\\b^c=d\x1b") == "a b^c d "
    assert len(person("x" * 99)) == 64
