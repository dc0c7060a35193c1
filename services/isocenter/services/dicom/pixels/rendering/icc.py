"""ICC profiles of pictures: kept, or converted to a known space (PS3.3 C.11.15)."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from numpy.typing import NDArray

from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.rendering.elements import (
    ICC_PROFILE,
    OPTICAL_PATHS,
    FrameElements,
)
from isocenter.services.dicom.pixels.rendering.options import ColourSpace

#: A header, and the number of its tags.
_SHORTEST: Final = 132
_LONGEST: Final = 4 << 20
_COLOURS: Final = slice(16, 20)
_SIGNATURE: Final = slice(36, 40)
_DATE: Final = slice(24, 36)
#: When profiles of ours are said to be made: the same bytes each time.
_SOME_DATE: Final = bytes((0x07, 0xD0, 0, 1, 0, 1)) + bytes(6)
#: Display P3 (SMPTE EG 432-1, with the transfer function of sRGB): CIE xy of white, red, green
#: and blue.
_D65: Final = (0.3127, 0.3290)
_P3: Final = (0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
_CURVE_POINTS: Final = 1025


def profile_of(frame: FrameElements) -> bytes:
    """The profile of an image in colour; empty where there is none that can be used."""
    root = frame.root
    paths = root.items(OPTICAL_PATHS)
    for holder in (root, *paths[:1]):
        profile = holder.values.get(ICC_PROFILE, b"")
        if not _SHORTEST <= len(profile) <= _LONGEST or profile[_SIGNATURE] != b"acsp":
            continue
        length = int.from_bytes(profile[:4], "big")
        if profile[_COLOURS] == b"RGB " and _SHORTEST <= length <= len(profile):
            return profile[:length]
    return b""


def convert(pixels: NDArray[Any], profile: bytes, space: ColourSpace) -> tuple[NDArray[Any], bytes]:
    """Pixels in RGB, and the profile that goes with them.

    Without a profile they are sRGB (PS3.3 C.11.15.1.1 leaves it open; nothing else is known).

    Raises:
        ImageError: the profile makes no sense.
    """
    import imagecodecs

    if space is ColourSpace.AS_STORED:
        return pixels, b""
    if space is ColourSpace.WITH_PROFILE:
        return pixels, profile
    target = profile_for(space)
    source = profile or profile_for(ColourSpace.SRGB)
    if source == target:
        return pixels, target
    try:
        made = imagecodecs.cms_transform(
            pixels,
            source,
            target,
            colorspace="rgb",
            outcolorspace="rgb",
            intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
        )
    except Exception as error:
        raise ImageError(f"the ICC profile of the image cannot be used: {error}") from error
    return made, target


@cache
def profile_for(space: ColourSpace) -> bytes:
    """The profile of a known space, always the same bytes."""
    import imagecodecs
    import numpy as np

    if space is ColourSpace.DISPLAY_P3:
        x = np.linspace(0, 1, _CURVE_POINTS)
        linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
        curve = np.rint(linear * 65535).astype(np.uint16)
        made = imagecodecs.cms_profile(
            "rgb", whitepoint=_D65, primaries=_P3, transferfunction=curve
        )
    else:
        made = imagecodecs.cms_profile(space.value)
    profile = bytearray(made)
    profile[_DATE] = _SOME_DATE
    return bytes(profile)
