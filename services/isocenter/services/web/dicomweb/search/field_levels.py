"""Levels of attributes that the index does not have (PS3.3 C.7, PS3.18 10.6.3.3).

What belongs to a series or an instance is in no answer about a study, nor is what belongs to an
instance in one about a series: their objects may say different things.  Of private attributes
nobody knows, and they are shown.
"""

from __future__ import annotations

from typing import Final

from isocenter.services.archive.index.attributes import Level

#: Patient, clinical trial, study request, visit.
_GROUPS_OF_STUDIES: Final = frozenset({0x0010, 0x0012, 0x0032, 0x0038})
#: Of these groups, what a clinical trial says of a series.
_OF_TRIAL_SERIES: Final = frozenset({0x00120060, 0x00120071, 0x00120072})
#: Others of the modules General Study and Patient Study; and the time zone.
_OF_STUDIES: Final = frozenset(
    {
        0x00080051, 0x00080096, 0x0008009C, 0x0008009D, 0x00080201, 0x00081032, 0x00081048,
        0x00081049, 0x00081062, 0x00081080, 0x00081084, 0x00081110, 0x00081120, 0x00401012,
    }
)  # fmt: skip
#: Relationship, image, functional groups, waveform, overlays, pixels.
_GROUPS_OF_INSTANCES: Final = frozenset(
    {0x0020, 0x0028, 0x5200, 0x5400, 0x7FE0, *range(0x6000, 0x6020, 2)}
)
#: Of these groups, what a series has: frame of reference, position reference.
_OF_SERIES: Final = frozenset({0x00200052, 0x00201040})


def is_shown_at(level: Level, tag: int) -> bool:
    """Whether answers of *level* show the attribute."""
    group = tag >> 16
    if level is Level.IMAGE or group & 1:
        return True
    if level is Level.SERIES:
        return group not in _GROUPS_OF_INSTANCES or tag in _OF_SERIES
    return (group in _GROUPS_OF_STUDIES and tag not in _OF_TRIAL_SERIES) or tag in _OF_STUDIES
