"""Colours of screens as CIELab values of DICOM (PS3.3 C.10.7.1.1)."""

from __future__ import annotations

from typing import Final

#: sRGB, linear, to XYZ of D50: what PCS-Values are relative to (IEC 61966-2-1, Bradford).
_TO_XYZ: Final = (
    (0.4360747, 0.3850649, 0.1430804),
    (0.2225045, 0.7168786, 0.0606169),
    (0.0139322, 0.0971045, 0.7141733),
)
#: The way back.
_TO_SRGB: Final = (
    (3.1338564, -1.6168668, -0.4906148),
    (-0.9787686, 1.9161416, 0.0334541),
    (0.0719452, -0.2289913, 1.4052427),
)
_D50: Final = (0.96422, 1.0, 0.82521)
_EPSILON: Final = 216 / 24389
_KAPPA: Final = 24389 / 27
_TOP: Final = 65535


def cielab(colour: str) -> tuple[int, int, int]:
    """L, a and b of a colour as ``#ffff00``, each from 0 to 65535."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    x, y, z = (
        _bent(sum(factor * part for factor, part in zip(row, linear, strict=True)) / white)
        for row, white in zip(_TO_XYZ, _D50, strict=True)
    )
    lightness, a, b = 116 * y - 16, 500 * (x - y), 200 * (y - z)
    scaled = (lightness * _TOP / 100, (a + 128) * _TOP / 255, (b + 128) * _TOP / 255)
    first, second, third = (min(max(round(one), 0), _TOP) for one in scaled)
    return first, second, third


def _bent(value: float) -> float:
    return float(value ** (1 / 3)) if value > _EPSILON else (_KAPPA * value + 16) / 116


def srgb(lightness: float, a: float, b: float) -> str:
    """The colour of such values, each from 0 to 65535, as ``#ffff00``; cut to what screens have."""
    light = lightness * 100 / _TOP
    y = (light + 16) / 116
    x, z = y + (a * 255 / _TOP - 128) / 500, y - (b * 255 / _TOP - 128) / 200
    found = [_straight(one) * white for one, white in zip((x, y, z), _D50, strict=True)]
    parts = (
        sum(factor * value for factor, value in zip(row, found, strict=True)) for row in _TO_SRGB
    )
    return "#" + "".join(f"{_gamma(min(max(part, 0.0), 1.0)):02x}" for part in parts)


def _straight(value: float) -> float:
    return value**3 if value**3 > _EPSILON else (116 * value - 16) / _KAPPA


def _gamma(value: float) -> int:
    bent = 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
    return round(bent * 255)
