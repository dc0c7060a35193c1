"""Attributes that a new object takes over from another one."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

from isocenter.engine.dataset.walker import Tolerance
from isocenter.services.dicom.data_set_file import DataSetFile
from isocenter.services.dicom.json_reader import read_json
from isocenter.services.dicom.json_writer import json_of

_PATIENT_GROUP: Final = 0x0010
#: General Study Module (PS3.3 C.7.2.1).
_STUDY: Final = frozenset(
    (
        0x00080020, 0x00080030, 0x00080050, 0x00080051, 0x00080090, 0x00080096, 0x0008009C,
        0x0008009D, 0x00081030, 0x00081032, 0x00081048, 0x00081049, 0x00081060, 0x00081062,
        0x00081080, 0x00081084, 0x00081110, 0x00120062, 0x00120063, 0x00120064, 0x0020000D,
        0x00200010, 0x00321033, 0x00321034, 0x00401012,
    )
)  # fmt: skip
#: General Series Module (C.7.3.1) and Frame of Reference.
_SERIES: Final = frozenset(
    (
        0x00080021, 0x00080031, 0x00080060, 0x0008103E, 0x0008103F, 0x00081050, 0x00081052,
        0x00081070, 0x00081072, 0x00081111, 0x00180015, 0x00181030, 0x00185100, 0x0020000E,
        0x00200011, 0x00200052, 0x00200060, 0x00201040, 0x00400244, 0x00400245, 0x00400250,
        0x00400251, 0x00400253, 0x00400254, 0x00400260, 0x00400275, 0x00400280,
    )
)  # fmt: skip
_CHARACTER_SET: Final = 0x00080005
_INSTANCE_NUMBER: Final = "00200013"
#: Groups of what the old pixels and documents were.
_NOT_TAKEN: Final = frozenset((0x0002, 0x0028, 0x0042, 0x5400, 0x7FE0))


class Taken(Enum):
    """How much is taken over."""

    STUDY = "study"
    SERIES = "series"
    ALL = "all"


def attributes_of(file: DataSetFile, taken: Taken) -> tuple[dict[str, Any], int]:
    """A model of what is taken over, and the Instance Number of the object; 0: it has none.

    Raises:
        DataSetError: it cannot be read.
    """

    def wants(tag: int) -> bool:
        if tag == _CHARACTER_SET:
            return False
        if f"{tag:08X}" == _INSTANCE_NUMBER or tag >> 16 == _PATIENT_GROUP or tag in _STUDY:
            return True
        if taken is Taken.SERIES:
            return tag in _SERIES
        return taken is Taken.ALL and tag >> 16 not in _NOT_TAKEN and not _is_curve(tag >> 16)

    text = json_of(file.data, file.encoding, wants=wants, tolerance=Tolerance.SALVAGE)
    model: dict[str, Any] = {
        key: value for key, value in read_json(text)[0].items() if "BulkDataURI" not in value
    }
    number = model.pop(_INSTANCE_NUMBER, {}).get("Value") or [0]
    try:
        return model, int(str(number[0]))
    except ValueError:
        return model, 0


def _is_curve(group: int) -> bool:
    """Overlays and curves, which lie over pixels."""
    return group & 0xFF00 in (0x5000, 0x6000)
