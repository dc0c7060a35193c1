"""Named checks of ultrasound, angiography, digital X-ray and mammography."""

from __future__ import annotations

from typing import Final

from isocenter.services.dicom.iod.named_checks.family import (
    BITS_STORED,
    IMAGE_TYPE,
    MONOCHROME,
    PHOTOMETRIC,
    PIXEL_REPRESENTATION,
    SAMPLES_PER_PIXEL,
    SOP_CLASS_UID,
    Checks,
    Family,
    storage,
)

_FRAME_TIME: Final = 0x00181063
_FRAME_TIME_VECTOR: Final = 0x00181065
_CINE_RATE: Final = 0x00180040
_IMAGER_PIXEL_SPACING: Final = 0x00181164
_SID: Final = 0x00181110
_SOD: Final = 0x00181111
_PRIMARY_ANGLE: Final = 0x00181510
_SECONDARY_ANGLE: Final = 0x00181511
_INTENT: Final = 0x00080068
_BODY_PART: Final = 0x00180015
_ANATOMIC_REGION: Final = 0x00082218
_WINDOW_CENTER: Final = 0x00281050
_VOI_LUT: Final = 0x00283010
_ONE: Final = frozenset("1")
_CORE: Final = (0x00280010, 0x00280011, 0x00280100)
_GREY: Final = frozenset(("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"))
_COLOUR: Final = frozenset(
    ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")
)
_USUAL_IN_ULTRASOUND: Final = (_GREY | _COLOUR) - {"MONOCHROME1", "YBR_PARTIAL_420"}


def _frame_timing(checks: Checks, code: str) -> None:
    if checks.frames > 1 and not checks.is_there(_FRAME_TIME, _FRAME_TIME_VECTOR):
        checks.say(code, "is missing, and so is Frame Time Vector", _FRAME_TIME)


def _ultrasound(checks: Checks) -> None:
    photometric = checks.root.text(PHOTOMETRIC)
    samples = checks.root.text(SAMPLES_PER_PIXEL)
    if photometric in _COLOUR and samples not in ("", "3"):
        checks.say("ERR-004", "is not 3, though the image is in colour", SAMPLES_PER_PIXEL)
    if photometric in _GREY and samples not in ("", "1"):
        checks.say("ERR-005", "is not 1, though the image is grey", SAMPLES_PER_PIXEL)
    checks.among("WARN-003", PHOTOMETRIC, _USUAL_IN_ULTRASOUND)
    _frame_timing(checks, "WARN-001")
    checks.needs("INFO-001", 0x00186011, "is not there, so that nothing can be measured")


def _angiography(checks: Checks) -> None:
    if checks.is_enhanced:
        return
    source_detector, source_patient = checks.number(_SID), checks.number(_SOD)
    if source_detector is None or source_patient is None:
        missing = _SID if source_detector is None else _SOD
        checks.say("WARN-003", "is missing, so that sizes cannot be estimated", missing)
    elif source_detector <= source_patient:
        checks.say("ERR-001", "is not more than Distance Source to Patient", _SID)
    _frame_timing(checks, "WARN-001")
    checks.needs("WARN-002", _IMAGER_PIXEL_SPACING, "is missing")
    checks.among("WARN-004", BITS_STORED, ("8", "10", "12", "16"))
    if checks.root.text(PIXEL_REPRESENTATION) == "1":
        checks.say("WARN-006", "is signed", PIXEL_REPRESENTATION)
    angles = 0
    for code, tag, limit in (
        ("WARN-008", _PRIMARY_ANGLE, 180),
        ("WARN-009", _SECONDARY_ANGLE, 90),
    ):
        angle = checks.number(tag)
        angles += angle is not None
        if angle is not None and abs(angle) > limit:
            checks.say(code, f"is outside of ±{limit}°", tag)
    if not angles:
        checks.say("INFO-004", "is not said", _PRIMARY_ANGLE)
    checks.needs("INFO-001", 0x00181147, "is not said")
    checks.needs("INFO-002", 0x00181500, "is not said")
    if checks.frames > 1:
        checks.needs("INFO-003", _CINE_RATE, "is not said")


def _intent(checks: Checks, processing: frozenset[str]) -> None:
    intent = checks.root.text(_INTENT)
    is_for_processing = checks.root.text(SOP_CLASS_UID) in processing
    if is_for_processing and intent != "FOR PROCESSING":
        checks.say("ERR-011", "is not FOR PROCESSING, as the SOP class says", _INTENT)
    if not is_for_processing and intent != "FOR PRESENTATION":
        checks.say("ERR-010", "is not FOR PRESENTATION, as the SOP class says", _INTENT)


def _no_voi(checks: Checks, code: str) -> None:
    if checks.root.text(_INTENT) == "FOR PRESENTATION" and not checks.is_there(
        _WINDOW_CENTER, _VOI_LUT
    ):
        checks.say(code, "is missing, and so is VOI LUT Sequence", _WINDOW_CENTER)


_DETECTORS: Final = ("DIRECT", "SCINTILLATOR", "STORAGE", "FILM")


def _digital_x_ray(checks: Checks) -> None:
    root = checks.root
    _intent(checks, storage("1.1.1", "1.3.1"))
    checks.among("ERR-003", 0x00281040, ("LIN", "LOG"))
    checks.among("ERR-004", 0x00281041, ("1", "-1"))
    if not checks.is_there(_BODY_PART, _ANATOMIC_REGION):
        checks.say("WARN-001", "is missing, and so is Anatomic Region Sequence", _BODY_PART)
    checks.among("WARN-002", IMAGE_TYPE, ("ORIGINAL", "DERIVED"), 1)
    checks.among("WARN-003", IMAGE_TYPE, ("PRIMARY", "SECONDARY"), 2)
    checks.among("WARN-004", 0x00187004, _DETECTORS)
    if not checks.is_there(0x00200020, 0x00185101, 0x00540220):
        checks.say("WARN-005", "is missing, and so are View Position and View Code", 0x00200020)
    _no_voi(checks, "WARN-006")
    checks.needs("INFO-001", 0x00180060, "is not said")
    if not checks.is_there(0x00181152, 0x00181153):
        checks.say("INFO-002", "is not said", 0x00181152)
    if root.text(0x00281040) == "LIN" and root.text(0x00281041) == "1":
        checks.say("INFO-003", "is unusual for X-rays: brighter where there is more", 0x00281041)


_VIEW_POSITIONS: Final = frozenset(
    (
        "CC", "MLO", "ML", "LM", "LMO", "XCC", "XCCL",
        "XCCM", "FB", "SIO", "ISO", "CV", "AT", "SPECIMEN",
        "RL", "RM", "RI", "RS",
    )
)  # fmt: skip
_EVERY_SIDE: Final = frozenset(("CC", "MLO", "ML", "LM", "LMO"))
_IMAGE_LATERALITY: Final = 0x00200062
_LATERALITY: Final = 0x00200060
_VIEW_POSITION: Final = 0x00185101
_THICKNESS: Final = 0x001811A0
_FORCE: Final = 0x001811A2
_IMPLANT: Final = 0x00281300


def _mammography(checks: Checks) -> None:
    root = checks.root
    _intent(checks, storage("1.2.1"))
    image_side, series_side = root.text(_IMAGE_LATERALITY), root.text(_LATERALITY)
    if not image_side and not series_side:
        checks.say("ERR-003", "is missing, and so is Laterality", _IMAGE_LATERALITY)
    checks.among("ERR-004", _IMAGE_LATERALITY, ("R", "L", "B"))
    checks.among("ERR-005", _LATERALITY, ("R", "L"))
    if image_side and series_side and image_side != series_side:
        checks.say("WARN-001", "is another than Laterality of the series", _IMAGE_LATERALITY)
    checks.among("WARN-002", IMAGE_TYPE, ("ORIGINAL", "DERIVED"))
    checks.among("WARN-003", _BODY_PART, ("BREAST",))
    if not checks.is_there(_BODY_PART, _ANATOMIC_REGION):
        checks.say("WARN-004", "is missing, and so is Anatomic Region Sequence", _BODY_PART)
    _mammography_view(checks, image_side)
    _no_voi(checks, "WARN-008")
    _compression(checks)
    checks.among("WARN-009", _IMPLANT, ("YES", "NO"))
    checks.needs("INFO-001", 0x00400275, "is not there")
    if root.text(0x00281040) == "LIN":
        checks.say("INFO-002", "is linear", 0x00281040)
    checks.needs("INFO-004", 0x00187004, "is not said")
    checks.needs("INFO-005", _THICKNESS, "is not said")
    checks.needs("INFO-006", 0x00180060, "is not said")
    if root.text(_IMPLANT) == "YES" and not root.items(0x00540220):
        checks.say("INFO-007", "is not there, though there is an implant", 0x00540220)
    checks.among("INFO-010", BITS_STORED, ("12", "13", "14", "15", "16"))


def _mammography_view(checks: Checks, image_side: str) -> None:
    element = checks.root.elements.get(_VIEW_POSITION)
    view = checks.root.text(_VIEW_POSITION)
    if element is None:
        checks.say("WARN-005", "is missing", _VIEW_POSITION)
    elif not view:
        checks.say("WARN-006", "is empty", _VIEW_POSITION)
    elif view not in _VIEW_POSITIONS:
        checks.say("WARN-010", "is no view of mammography", _VIEW_POSITION)
    if view in _EVERY_SIDE and image_side == "B":
        checks.say("WARN-011", "is of both breasts, which this view is not", _IMAGE_LATERALITY)
    if not checks.root.items(0x00540220):
        checks.say("INFO-003", "is not there: the view is a text only", 0x00540220)


def _compression(checks: Checks) -> None:
    thickness = checks.number(_THICKNESS)
    if thickness is not None and not 10 <= thickness <= 150:
        checks.say("WARN-007", "is outside of 10 to 150 mm", _THICKNESS)
    text = checks.root.text(_FORCE)
    force = checks.number(_FORCE)
    if not text:
        checks.say("INFO-008", "is not said", _FORCE)
    elif force is None:
        checks.say("WARN-012", "is no number", _FORCE)
    elif not 20 <= force <= 300:
        checks.say("WARN-013", "is outside of 20 to 300 N", _FORCE)
    elif not 50 <= force <= 200:
        checks.say("INFO-009", "is outside of what is usual in screening, 50 to 200 N", _FORCE)


ULTRASOUND: Final = Family(
    prefix="US", sop_classes=storage("6.1", "3.1", "6", "3"), modalities=frozenset(("US",)),
    sop_class="ERR-001", modality="ERR-002", bits="ERR-003", high_bit="WARN-002",
    more=_ultrasound, core=_CORE,
)  # fmt: skip
ANGIOGRAPHY: Final = Family(
    prefix="XA", sop_classes=storage("12.1", "12.2", "12.1.1", "12.2.1"),
    modalities=frozenset(("XA", "RF")), sop_class="ERR-002", modality="ERR-003", bits="ERR-005",
    high_bit="WARN-005", photometric=("ERR-004", MONOCHROME), samples=("ERR-006", _ONE),
    more=_angiography, core=_CORE,
)  # fmt: skip
DIGITAL_X_RAY: Final = Family(
    prefix="DX", sop_classes=storage("1.1", "1.1.1"), modalities=frozenset(("DX",)),
    sop_class="ERR-001", modality="ERR-002", bits="ERR-005", high_bit="WARN-007",
    photometric=("ERR-007", MONOCHROME), samples=("ERR-006", _ONE), more=_digital_x_ray,
    core=(*_CORE, _INTENT),
)  # fmt: skip
MAMMOGRAPHY: Final = Family(
    prefix="MG", sop_classes=storage("1.2", "1.2.1"), modalities=frozenset(("MG",)),
    sop_class="ERR-001", modality="ERR-002", bits="ERR-006", high_bit="WARN-014",
    photometric=("ERR-008", MONOCHROME), samples=("ERR-007", _ONE), more=_mammography,
    core=(*_CORE, _INTENT),
)  # fmt: skip
FAMILIES: Final = (ULTRASOUND, ANGIOGRAPHY, DIGITAL_X_RAY, MAMMOGRAPHY)
