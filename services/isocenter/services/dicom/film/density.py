"""Optical densities as gray of a picture (PS3.3 C.13.5, PS3.14)."""

from __future__ import annotations

import math
from typing import Final

from isocenter.engine.fast_init import dataclass

#: Densities are in hundredths of OD, luminances in cd/m² (PS3.3 C.13.3).
DEFAULT_MIN_DENSITY: Final = 20
DEFAULT_MAX_DENSITY: Final = 300
DEFAULT_ILLUMINATION: Final = 2000
DEFAULT_AMBIENT_LIGHT: Final = 10
#: Numbers of a table for LIN OD, which has values of 12 bits.
TABLE_ENTRIES: Final = 4096
TABLE_TOP: Final = 0xFFFF
#: Luminances for which PS3.14 gives just-noticeable differences.
_LUMINANCES: Final = (0.05, 4000.0)
#: PS3.14 7.1: the index of just-noticeable differences, by powers of log10 of the luminance.
_JND_INDEX: Final = (
    71.498068, 94.593053, 41.912053, 9.8247004, 0.28175407, -1.1878455, -0.18014349, 0.14710899,
    -0.017046845,
)  # fmt: skip


def jnd_index(luminance: float) -> float:
    """How many just-noticeable differences a luminance lies above the darkest (PS3.14 7.1)."""
    logarithm = math.log10(min(max(luminance, _LUMINANCES[0]), _LUMINANCES[1]))
    return sum(each * logarithm**power for power, each in enumerate(_JND_INDEX))


@dataclass(frozen=True, slots=True, kw_only=True)
class DensityRange:
    """What black and white of a film are, and by which light it is seen.

    Attributes:
        lowest, highest: hundredths of optical density: of white, and of black.
        illumination: luminance of the light box with no film, or of white paper.
        ambient_light: luminance that the film reflects.
    """

    lowest: int = DEFAULT_MIN_DENSITY
    highest: int = DEFAULT_MAX_DENSITY
    illumination: int = DEFAULT_ILLUMINATION
    ambient_light: int = DEFAULT_AMBIENT_LIGHT

    def gray(self, density: float) -> float:
        """How bright a density is seen between black and white, 0 to 1."""
        black, white = self._index(self.highest), self._index(self.lowest)
        if white <= black:
            return 0.0 if density >= self.highest else 1.0
        return min(max((self._index(density) - black) / (white - black), 0.0), 1.0)

    def _index(self, density: float) -> float:
        """The just-noticeable differences between no light and that density."""
        return jnd_index(self.ambient_light + self.illumination * 10 ** (-density / 100))

    def linear_table(self) -> list[int]:
        """P-values for values that are linear in density, the lowest value being black."""
        step = (self.highest - self.lowest) / (TABLE_ENTRIES - 1)
        return [
            round(self.gray(self.highest - place * step) * TABLE_TOP)
            for place in range(TABLE_ENTRIES)
        ]
