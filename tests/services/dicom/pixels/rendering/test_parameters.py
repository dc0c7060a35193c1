"""Query parameters of PS3.18 8.3.5 as options."""

from __future__ import annotations

import pytest

from isocenter.services.dicom.pixels.rendering.options import (
    PNG,
    ColourSpace,
    RenderOptionError,
    RenderOptions,
    Viewport,
    VoiFunction,
    Window,
)
from isocenter.services.dicom.pixels.rendering.parameters import options_of_parameters


def test_nothing_asks_for_nothing() -> None:
    assert options_of_parameters({}) == (RenderOptions(), ())
    assert options_of_parameters({"limit": "5", "annotation": ""}, PNG) == (
        RenderOptions(media_type=PNG),
        (),
    )


def test_all_of_them_together() -> None:
    options, unknown = options_of_parameters(
        {
            "annotation": "patient,Technique,logo",
            "quality": "75",
            "viewport": "512,256,,,100,-50",
            "window": "40,400,sigmoid",
            "iccprofile": "sRGB",
        }
    )
    assert unknown == ("logo",)
    assert options == RenderOptions(
        quality=75,
        window=Window(40, 400, VoiFunction.SIGMOID),
        viewport=Viewport(512, 256, 0, 0, 100, -50),
        colour_space=ColourSpace.SRGB,
        has_patient_label=True,
        has_technique_label=True,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quality", "0"),
        ("quality", "101"),
        ("quality", "ninety"),
        ("quality", "1" * 5000),
        ("quality", "+50"),
        ("viewport", "10"),
        ("window", "40"),
        ("iccprofile", "rommrgb"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, value: str) -> None:
    with pytest.raises(RenderOptionError) as caught:
        options_of_parameters({name: value})
    assert len(str(caught.value)) < 200


def test_frames_and_formats_are_somebody_elses() -> None:
    with pytest.raises(RenderOptionError, match="image/jpeg, image/png, image/gif"):
        options_of_parameters({}, "image/bmp")
