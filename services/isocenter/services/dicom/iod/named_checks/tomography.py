"""Named checks of CT, CT for processing, MR, PET and NM images."""

from __future__ import annotations

from typing import Final

from isocenter.services.dicom.iod.named_checks.family import (
    IMAGE_TYPE,
    MONOCHROME,
    PIXEL_REPRESENTATION,
    Checks,
    Family,
    storage,
)

_FRAME_OF_REFERENCE: Final = 0x00200052
_POSITION: Final = 0x00200032
_ORIENTATION: Final = 0x00200037
_SLICE_THICKNESS: Final = 0x00180050
_KERNEL: Final = 0x00181210
_DECOMPOSITION: Final = 0x00189380
_SCANNING_SEQUENCE: Final = 0x00180020
_REPETITION_TIME: Final = 0x00180080
_INVERSION_TIME: Final = 0x00180082
_UNITS: Final = 0x00541001
_COUNTS_SOURCE: Final = 0x00541002
_DECAY_CORRECTION: Final = 0x00541102
_RADIOPHARMACEUTICAL: Final = 0x00540016
_ONE: Final = frozenset("1")
_PIXELS_CORE: Final = (0x00280010, 0x00280011, 0x00280100)


def _image_type(checks: Checks) -> None:
    if checks.is_there(IMAGE_TYPE) and not checks.root.text(IMAGE_TYPE, 3):
        checks.say("ERR-006", "has no value 3, which this kind of image needs", IMAGE_TYPE)


def _geometry(checks: Checks, position: str, orientation: str) -> None:
    if checks.is_enhanced or not checks.is_there(_FRAME_OF_REFERENCE):
        return
    checks.needs(position, _POSITION, "is missing, though there is a frame of reference")
    checks.needs(orientation, _ORIENTATION, "is missing, though there is a frame of reference")


def _ct(checks: Checks) -> None:
    _image_type(checks)
    _geometry(checks, "WARN-001", "WARN-002")
    if checks.is_enhanced:
        return
    checks.needs("INFO-001", _SLICE_THICKNESS, "is not said")
    checks.needs("INFO-002", _KERNEL, "is not said")
    if checks.root.text(PIXEL_REPRESENTATION) == "0" and (checks.number(0x00281052) or 0) == 0:
        # With an intercept, unsigned pixels reach below zero.
        checks.say("INFO-003", "is unsigned, which is unusual for HU", PIXEL_REPRESENTATION)


def _ct_for_processing(checks: Checks) -> None:
    _image_type(checks)
    _geometry(checks, "WARN-001", "WARN-002")
    checks.needs("INFO-001", _SLICE_THICKNESS, "is not said")
    checks.needs("INFO-002", _KERNEL, "is not said")
    checks.needs("INFO-003", _DECOMPOSITION, "is not said")
    if checks.root.text(PIXEL_REPRESENTATION) == "1":
        checks.say("INFO-004", "is signed", PIXEL_REPRESENTATION)


def _mr(checks: Checks) -> None:
    _image_type(checks)
    _geometry(checks, "WARN-003", "WARN-004")
    if checks.is_enhanced:
        return
    sequences = checks.root.elements.get(_SCANNING_SEQUENCE)
    techniques = () if sequences is None else sequences.values
    if checks.root.text(IMAGE_TYPE) == "ORIGINAL" and _REPETITION_TIME not in checks.root.elements:
        checks.say("WARN-001", "is missing of an original image", _REPETITION_TIME)
    if "IR" in techniques and _INVERSION_TIME not in checks.root.elements:
        checks.say("WARN-002", "is missing of an inversion recovery", _INVERSION_TIME)
    checks.needs("INFO-001", _SLICE_THICKNESS, "is not said")


_PET_UNITS: Final = frozenset(
    (
        "CNTS", "NONE", "CM2", "PCNT", "CPS", "BQML", "MGMINML",
        "UMOLMINML", "MLMING", "MLG", "1CM", "UMOLML", "PROPCNTS", "PROPCPS",
        "MLMINML", "MLML", "GML", "STDDEV", "SUV",
    )
)  # fmt: skip


def _pet(checks: Checks) -> None:
    root = checks.root
    correction = root.text(_DECAY_CORRECTION)
    if root.text(_UNITS) == "BQML" and not correction:
        checks.say("ERR-001", "is missing, though Units is BQML", _DECAY_CORRECTION)
    checks.among("WARN-001", _UNITS, _PET_UNITS)
    checks.among("WARN-002", _DECAY_CORRECTION, ("NONE", "START", "ADMIN"))
    for item in root.items(_RADIOPHARMACEUTICAL):
        checks.needs("WARN-003", 0x00181074, "is not said, so that there is no SUV", item)
        checks.needs("WARN-004", 0x00181075, "is not said, so that there is no SUV", item)
        checks.needs("INFO-001", 0x00181072, "is not said", item)
    checks.needs("INFO-002", 0x00101030, "is not said, so that there is no SUV")
    checks.needs("INFO-003", 0x00181242, "is not said")
    checks.needs("INFO-004", 0x00541101, "is not said")
    checks.needs("INFO-005", 0x00541105, "is not said")
    if checks.is_there(_COUNTS_SOURCE):
        checks.among("INFO-006", _COUNTS_SOURCE, ("EMISSION", "TRANSMISSION"))


#: Value 3 of Image Type (PS3.3 C.8.4.9.1.1).
_NM_KINDS: Final = frozenset(
    (
        "STATIC", "DYNAMIC", "GATED", "WHOLE BODY", "TOMO", "GATED TOMO", "RECON TOMO",
        "RECON GATED TOMO",
    )
)  # fmt: skip
_DETECTORS: Final = 0x00540022
_ROTATIONS: Final = 0x00540052
_ENERGY_WINDOWS: Final = 0x00540012
_POINTER: Final = 0x00280009


def _nm(checks: Checks) -> None:
    root = checks.root
    kind = root.text(IMAGE_TYPE, 3)
    is_tomography = "TOMO" in kind
    checks.among("WARN-001", IMAGE_TYPE, _NM_KINDS, 3)
    for detector in root.items(_DETECTORS):
        checks.needs("WARN-002", 0x00181180, "is not said of a detector", detector)
        checks.needs("INFO-001", 0x00181181, "is not said of a detector", detector)
    if is_tomography:
        for rotation in root.items(_ROTATIONS):
            checks.needs("WARN-003", 0x00540200, "is not said of a rotation", rotation)
            checks.needs("WARN-004", 0x00181143, "is not said of a rotation", rotation)
            checks.among("WARN-005", 0x00181140, ("CW", "CC"), item=rotation)
        checks.needs("INFO-002", _ROTATIONS, "is not there, though it is a tomography")
    if "GATED" in kind:
        for gated in root.items(0x00540062):
            for information in gated.items(0x00540063):
                checks.needs("WARN-006", 0x00540072, "is not there", information)
    checks.needs("WARN-007", _POINTER, "is not said")
    for window in root.items(_ENERGY_WINDOWS):
        for bounds in window.items(0x00540013):
            low, high = checks.number(0x00540014, 1, bounds), checks.number(0x00540015, 1, bounds)
            if low is None or high is None or low >= high:
                checks.say("WARN-008", "is no range of energies", 0x00540014, bounds)
        checks.needs("INFO-003", 0x00540018, "is not said of an energy window", window)
    for item in root.items(_RADIOPHARMACEUTICAL):
        checks.needs("INFO-004", 0x00181074, "is not said", item)
        checks.needs("INFO-005", 0x00181072, "is not said", item)
    checks.needs("INFO-006", 0x00281050, "is not said, so that each viewer shows it otherwise")


CT: Final = Family(
    prefix="CT", sop_classes=storage("2", "2.1", "2.2"), modalities=frozenset(("CT",)),
    sop_class="ERR-001", modality="ERR-002", bits="ERR-003", high_bit="WARN-003",
    photometric=("ERR-004", MONOCHROME), samples=("ERR-005", _ONE), more=_ct, core=_PIXELS_CORE,
)  # fmt: skip
CT_FOR_PROCESSING: Final = Family(
    prefix="CTP", sop_classes=storage("2.3"), modalities=frozenset(("CT",)),
    sop_class="ERR-001", modality="ERR-002", bits="ERR-003", high_bit="WARN-003",
    photometric=("ERR-004", MONOCHROME), samples=("ERR-005", _ONE), more=_ct_for_processing,
    core=_PIXELS_CORE,
)  # fmt: skip
MR: Final = Family(
    prefix="MR", sop_classes=storage("4", "4.1", "4.4"), modalities=frozenset(("MR",)),
    sop_class="ERR-001", modality="ERR-002", bits="ERR-003", high_bit="WARN-005",
    photometric=("ERR-004", MONOCHROME), samples=("ERR-005", _ONE), more=_mr, core=_PIXELS_CORE,
)  # fmt: skip
PET: Final = Family(
    prefix="PT", sop_classes=storage("128"), modalities=frozenset(("PT",)),
    sop_class="ERR-002", modality="ERR-003", bits="ERR-004", high_bit="WARN-005",
    photometric=("WARN-006", frozenset(("MONOCHROME2",))), samples=("WARN-007", _ONE), more=_pet,
    core=(*_PIXELS_CORE, _UNITS),
)  # fmt: skip
NM: Final = Family(
    prefix="NM", sop_classes=storage("20", "5"), modalities=frozenset(("NM",)),
    sop_class="ERR-001", modality="ERR-002", bits="ERR-003", high_bit="WARN-009",
    photometric=("WARN-010", frozenset(("MONOCHROME2", "PALETTE COLOR"))),
    samples=("WARN-011", _ONE), more=_nm, core=_PIXELS_CORE,
)  # fmt: skip
FAMILIES: Final = (CT, CT_FOR_PROCESSING, MR, PET, NM)
