"""Colour models: samples of three colours as RGB of eight bits (PS3.3 C.7.6.3.1.2)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.rendering.stored_values import StoredValues

_OCTET: Final = 255
_WORD: Final = 0xFFFF
#: Weights of red, green and blue in luminance (ITU-R BT.601).
_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114
#: What Cr adds to red, Cb and Cr take from green, Cb adds to blue.
_CR_RED: Final = 2 * (1 - _RED)
_CB_BLUE: Final = 2 * (1 - _BLUE)
_CB_GREEN: Final = _CB_BLUE * _BLUE / _GREEN
_CR_GREEN: Final = _CR_RED * _RED / _GREEN
#: Of eight bits, what luminance and chrominance may be in video (BT.601).
_VIDEO_BLACK: Final = 16
_VIDEO_LUMINANCE: Final = 219
_VIDEO_CHROMINANCE: Final = 224

#: Of an image, converted together.
_ROWS: Final = 256

#: Photometric interpretations that are colours.
_FULL: Final = frozenset(("YBR_FULL", "YBR_FULL_422"))
_PARTIAL: Final = frozenset(("YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_PARTIAL"))
#: What a decoder has undone; where it says so still, the samples are RGB.
_RGB: Final = frozenset(("RGB", "YBR_RCT", "YBR_ICT", "ARGB", "CMYK", "XYB"))


def render_colour(stored: StoredValues, photometric: str) -> NDArray[Any]:
    """Red, green and blue of each pixel, 0 to 255.

    Raises:
        ImageError: nothing tells what the samples are.
    """
    samples = stored.words.shape[2] if stored.words.ndim == 3 else 1
    if stored.is_float or samples not in (3, 4):
        raise ImageError(f"{samples} samples a pixel, photometric interpretation "
                         f"{printable(photometric)}: such pixels are not rendered")  # fmt: skip
    octets = _octets(stored)
    if samples == 4:
        return _of_four(octets, photometric)
    if photometric in _FULL:
        return full_ybr_to_rgb(octets)
    if photometric in _PARTIAL:
        return partial_ybr_to_rgb(octets)
    if photometric in _RGB or photometric.startswith("MONOCHROME"):
        # Three samples that say they are gray: what is meant is RGB.
        return octets
    raise ImageError(f"the photometric interpretation {printable(photometric)} is not rendered")


def printable(term: str) -> str:
    """A term for a message, whatever bytes it has."""
    return "".join(each if each.isalnum() or each in "_ " else "?" for each in term)


def _octets(stored: StoredValues) -> NDArray[Any]:
    values = stored.patterns
    octets: NDArray[Any]
    if stored.bits == 8:
        octets = values.astype(np.uint8, copy=False)
        return octets
    scale = _OCTET / ((1 << stored.bits) - 1)
    if stored.bits <= 16:
        every = np.arange(1 << stored.bits)
        octets = np.rint(every * scale).astype(np.uint8).take(values)
        return octets
    octets = np.rint(values * scale).astype(np.uint8)
    return octets


def _of_four(octets: NDArray[Any], photometric: str) -> NDArray[Any]:
    """Retired: a fourth sample for black, or in front of RGB for what is mapped by a palette."""
    if photometric == "CMYK":
        ink = _OCTET - octets.astype(np.uint16)
        return np.rint(ink[..., :3] * ink[..., 3:] / _OCTET).astype(np.uint8)
    if photometric == "ARGB":
        return np.ascontiguousarray(octets[..., 1:])
    raise ImageError(f"four samples a pixel, photometric interpretation {printable(photometric)}")


def full_ybr_to_rgb(octets: NDArray[Any]) -> NDArray[Any]:
    """YBR_FULL: all of eight bits are in use."""
    return _rgb(octets, 0, 1.0, 1.0)


def partial_ybr_to_rgb(octets: NDArray[Any]) -> NDArray[Any]:
    """YBR_PARTIAL: as in video, black is 16, white is 235."""
    return _rgb(octets, _VIDEO_BLACK, _OCTET / _VIDEO_LUMINANCE, _OCTET / _VIDEO_CHROMINANCE)


def _rgb(octets: NDArray[Any], black: int, luma: float, chroma: float) -> NDArray[Any]:
    made = np.empty(octets.shape, np.uint8)
    # Some rows at a time: floating point numbers need four times the memory.
    for start in range(0, len(octets), _ROWS):
        part = octets[start : start + _ROWS].astype(np.float32)
        y = (part[..., 0] - black) * np.float32(luma)
        cb, cr = (part[..., 1:] - 128).transpose(2, 0, 1) * np.float32(chroma)
        for place, colour in enumerate(
            (
                y + np.float32(_CR_RED) * cr,
                y - np.float32(_CB_GREEN) * cb - np.float32(_CR_GREEN) * cr,
                y + np.float32(_CB_BLUE) * cb,
            )
        ):
            made[start : start + _ROWS, :, place] = np.rint(colour).clip(0, _OCTET)
    return made


def rgb_of_lab(lightness: int, a: int, b: int) -> tuple[int, int, int]:
    """A recommended colour, CIELab in words of 16 bits (PS3.3 C.10.7.1.1), as sRGB."""
    light = lightness / _WORD * 100
    y = (light + 16) / 116
    x, z = y + (a / _WORD * 255 - 128) / 500, y - (b / _WORD * 255 - 128) / 200
    white = np.array([0.9642, 1.0, 0.8249])  # D50, as profiles have it
    xyz = np.array([_of_root(each) for each in (x, y, z)]) * white
    linear = (_XYZ_TO_SRGB @ xyz).clip(0, 1)
    curved = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (round(float(each) * _OCTET) for each in curved)
    return red, green, blue


def _of_root(value: float) -> float:
    """What CIE 1976 takes the cube root of; near black a line stands in for it."""
    return value**3 if value > 6 / 29 else 3 * (6 / 29) ** 2 * (value - 4 / 29)


#: From D50, adapted (Bradford).
_XYZ_TO_SRGB: Final = np.array(
    [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
)
