"""Named checks of whole slide images, ophthalmic images and waveform presentation states."""

from __future__ import annotations

from typing import Final

from isocenter.services.dicom.iod.named_checks.family import (
    NUMBER_OF_FRAMES,
    PIXEL_REPRESENTATION,
    SOP_CLASS_UID,
    Checks,
    Family,
    storage,
)

_ORGANIZATION: Final = 0x00209311
_CORE: Final = (0x00280010, 0x00280011, 0x00280100)


def _whole_slide(checks: Checks) -> None:
    checks.among("ERR-001", _ORGANIZATION, ("TILED_FULL", "TILED_SPARSE"))
    checks.needs("WARN-001", 0x00480102, "is missing")
    if checks.root.text(PIXEL_REPRESENTATION) == "1":
        checks.say("WARN-003", "is signed", PIXEL_REPRESENTATION)
    if not checks.is_there(0x00480001) or not checks.is_there(0x00480002):
        checks.say("INFO-001", "is not said", 0x00480001)
    checks.needs("INFO-002", 0x00480105, "is not there")
    checks.needs("INFO-003", 0x00400560, "is not there")
    checks.needs("INFO-004", 0x00400512, "is not said")
    checks.needs("INFO-005", 0x00400518, "is not said")


_TOMOGRAPHY: Final = storage("77.1.5.4")
_LATERALITY: Final = 0x00200062


def _ophthalmic(checks: Checks) -> None:
    root = checks.root
    is_tomography = root.text(SOP_CLASS_UID) in _TOMOGRAPHY
    if is_tomography:
        checks.needs("ERR-001", NUMBER_OF_FRAMES, "is missing, though it is a tomography")
    checks.among("ERR-004", _LATERALITY, ("R", "L", "B"))
    if not checks.is_enhanced:
        checks.needs("WARN-001", 0x00082218, "is missing")
    if root.text(PIXEL_REPRESENTATION) == "1":
        checks.say("WARN-003", "is signed", PIXEL_REPRESENTATION)
    if not is_tomography:
        checks.needs("INFO-001", 0x00280030, "is not said")
        checks.needs("INFO-002", 0x00220015, "is not there")
    checks.needs("INFO-003", 0x0022000D, "is not said")
    checks.needs("INFO-004", 0x0022001B, "is not said")


def _waveform_state(checks: Checks) -> None:
    checks.needs("REF-WARN-001", 0x00081115, "is not there")
    if not any(tag >> 16 == 0x003A for tag in checks.root.elements):
        checks.say("PS-WARN-001", "nothing says how the waveform is shown", 0x003A0200)
    checks.needs("ANN-WARN-001", 0x0040B020, "is not there")


WHOLE_SLIDE: Final = Family(
    prefix="WSI", sop_classes=storage("77.1.6"), modalities=frozenset(("SM",)),
    sop_class="ERR-002", modality="ERR-003", bits="ERR-004", high_bit="WARN-002",
    photometric=(
        "ERR-005",
        frozenset(("RGB", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "MONOCHROME2")),
    ),
    samples=("ERR-006", frozenset("13")), more=_whole_slide, core=(*_CORE, 0x00480006),
)  # fmt: skip
OPHTHALMIC: Final = Family(
    prefix="OPHTH", sop_classes=storage("77.1.5.1", "77.1.5.2", "77.1.5.4"),
    modalities=frozenset(("OP", "OPT")), sop_class="ERR-002", modality="ERR-003", bits="ERR-005",
    high_bit="WARN-002",
    photometric=(
        "ERR-006",
        frozenset(
            ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL_422", "YBR_ICT",
             "YBR_RCT", "YBR_PARTIAL_420")
        ),
    ),
    samples=("ERR-007", frozenset("13")), more=_ophthalmic, core=_CORE,
)  # fmt: skip
WAVEFORM_STATE: Final = Family(
    prefix="WF", sop_classes=storage("9.100.1", "9.100.2"), sop_class="ERR-001",
    more=_waveform_state, core=(0x00081115,),
)  # fmt: skip
FAMILIES: Final = (WHOLE_SLIDE, OPHTHALMIC, WAVEFORM_STATE)
