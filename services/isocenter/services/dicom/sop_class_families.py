"""Storage SOP classes by UID, keyword, and modality (PS3.4 B.5)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from isocenter.engine.uid import is_uid
from isocenter.services.dicom.pydicom_tables import UIDS
from isocenter.services.dicom.uid_registry import STORAGE_SOP_CLASSES, uid_of_keyword

_ROOT: Final = "1.2.840.10008.5.1.4.1.1."
#: Modality (0008,0060) → what follows the root in the UIDs of its images and documents.
_FAMILIES: Final = {
    "CR": ("1",),
    "CT": ("2", "2.1", "2.2", "2.3", "2.4", "2.5"),
    "DOC": ("104.1", "104.2"),
    "DX": ("1.1", "1.1.1"),
    "ECG": ("9.1.1", "9.1.2", "9.1.3", "9.1.4"),
    "ES": ("77.1.1", "77.1.1.1"),
    "IO": ("1.3", "1.3.1"),
    "IVOCT": ("14.1", "14.2"),
    "KO": ("88.59",),
    "M3D": ("104.3", "104.4", "104.5"),
    "MG": ("1.2", "1.2.1", "13.1.3", "13.1.4", "13.1.5"),
    "MR": ("4", "4.1", "4.2", "4.3", "4.4"),
    "NM": ("20", "5"),
    "OP": ("77.1.5.1", "77.1.5.2", "77.1.5.5", "77.1.5.6"),
    "OPT": ("77.1.5.4", "77.1.5.7", "77.1.5.8"),
    "PR": tuple(f"11.{number}" for number in range(1, 13)),
    "PT": ("128", "128.1", "130"),
    "REG": ("66.1", "66.3"),
    "RF": ("12.2", "12.2.1"),
    "RT": tuple(f"481.{number}" for number in range(1, 26)),
    "SC": ("7", "7.1", "7.2", "7.3", "7.4"),
    "SEG": ("66.4", "66.5", "66.7", "66.8"),
    "SM": ("77.1.6", "77.1.2", "77.1.3"),
    "SR": (
        "88.11", "88.22", "88.33", "88.34", "88.35", "88.40", "88.50", "88.65", "88.67", "88.68",
        "88.69", "88.70", "88.71", "88.72", "88.73", "88.74", "88.75", "88.76", "88.77",
    ),
    "US": ("3", "3.1", "6", "6.1", "6.2", "6.3"),
    "XA": ("12.1", "12.1.1", "12.3", "13.1.1", "13.1.2"),
    "XC": ("77.1.4", "77.1.4.1"),
}  # fmt: skip
#: All that a plain X-ray room makes; no modality, but what people write.
_X_RAY: Final = ("CR", "DX", "RF", "XA")

#: Modality → UIDs of its storage SOP classes.
FAMILIES: Final = {
    modality: tuple(_ROOT + rest for rest in family) for modality, family in _FAMILIES.items()
} | {"XR": tuple(_ROOT + rest for one in _X_RAY for rest in _FAMILIES[one])}


def storage_sop_classes(names: Iterable[str]) -> frozenset[str]:
    """The UIDs that *names* stand for: UIDs, keywords such as ``CTImageStorage``, modalities.

    Raises:
        ValueError: one of them is none of these.
    """
    found: set[str] = set()
    for name in names:
        if name.upper() in FAMILIES:
            found.update(FAMILIES[name.upper()])
        elif name in STORAGE_SOP_CLASSES or (is_uid(name) and name not in UIDS):
            found.add(name)
        elif uid_of_keyword(name) in STORAGE_SOP_CLASSES:
            found.add(str(uid_of_keyword(name)))
        else:
            raise ValueError(
                f"{name!r} is no storage SOP class; give a UID, a keyword such as CTImageStorage, "
                f"or one of {', '.join(sorted(FAMILIES))}"
            )
    return frozenset(found)


def is_storage_sop_class(name: str) -> bool:
    """Whether `storage_sop_classes` knows *name*."""
    try:
        storage_sop_classes((name,))
    except ValueError:
        return False
    return True
