"""Query parameters of rendered resources, as options (PS3.18 8.3.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from isocenter.services.dicom.pixels.rendering.options import (
    JPEG,
    ColourSpace,
    RenderOptionError,
    RenderOptions,
    Viewport,
    Window,
)

_PATIENT: Final = "patient"
_TECHNIQUE: Final = "technique"
_HIGHEST: Final = 100


def options_of_parameters(
    parameters: Mapping[str, str], media_type: str = JPEG
) -> tuple[RenderOptions, tuple[str, ...]]:
    """What ``annotation``, ``quality``, ``viewport``, ``window`` and ``iccprofile`` ask for; other
    parameters are left alone.

    Args:
        parameters: name → value, decoded.

    Returns:
        The options, and the annotations that nobody here knows: they are to be told in a Warning.

    Raises:
        RenderOptionError: one of them makes no sense.
    """
    asked = [each.strip().lower() for each in parameters.get("annotation", "").split(",")]
    asked = [each for each in asked if each]
    window, viewport = parameters.get("window"), parameters.get("viewport")
    options = RenderOptions(
        media_type=media_type,
        quality=_quality(parameters["quality"]) if "quality" in parameters else _DEFAULT.quality,
        window=None if window is None else Window.parse(window),
        viewport=None if viewport is None else Viewport.parse(viewport),
        colour_space=_colour_space(parameters.get("iccprofile", _DEFAULT.colour_space.value)),
        has_patient_label=_PATIENT in asked,
        has_technique_label=_TECHNIQUE in asked,
    )
    options.check()
    return options, tuple(each for each in asked if each not in (_PATIENT, _TECHNIQUE))


_DEFAULT: Final = RenderOptions()


def _quality(text: str) -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and 1 <= int(digits[:4]) <= _HIGHEST):
        raise RenderOptionError(f"quality is a whole number from 1 to {_HIGHEST}")
    return int(digits)


def _colour_space(text: str) -> ColourSpace:
    try:
        return ColourSpace(text.strip().lower())
    except ValueError:
        known = ", ".join(each.value for each in ColourSpace)
        raise RenderOptionError(f"iccprofile is one of {known}") from None
