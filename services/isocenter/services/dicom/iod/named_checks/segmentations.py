"""Named checks of segmentations and parametric maps."""

from __future__ import annotations

from typing import Final

from isocenter.services.dicom.iod.named_checks.family import (
    BITS_ALLOCATED,
    NUMBER_OF_FRAMES,
    PER_FRAME_GROUPS,
    PHOTOMETRIC,
    PIXEL_REPRESENTATION,
    SAMPLES_PER_PIXEL,
    SHARED_GROUPS,
    Checks,
    Family,
    storage,
)

_TYPE: Final = 0x00620001
_SEGMENTS: Final = 0x00620002
_SEGMENT_NUMBER: Final = 0x00620004
_SEGMENT_LABEL: Final = 0x00620005
_ALGORITHM_TYPE: Final = 0x00620008
_ALGORITHM_NAME: Final = 0x00620009
_CATEGORY: Final = 0x00620003
_PROPERTY: Final = 0x0062000F
_FRACTIONAL_TYPE: Final = 0x00620010
_MAXIMUM: Final = 0x0062000E
_REFERENCED_SERIES: Final = 0x00081115


def _segments(checks: Checks) -> list[int]:
    """Check each segment; their numbers."""
    root = checks.root
    if not root.items(_SEGMENTS):
        checks.say("ERR-004", "has no segment", _SEGMENTS)
    numbers: list[int] = []
    for segment in root.items(_SEGMENTS):
        checks.needs("SEQ-ERR-001", _SEGMENT_NUMBER, "is missing", segment)
        label = segment.elements.get(_SEGMENT_LABEL)
        if label is None:
            checks.say("SEQ-ERR-002", "is missing", _SEGMENT_LABEL, segment)
        elif label.is_empty:
            checks.say("SEQ-WARN-002", "is empty", _SEGMENT_LABEL, segment)
        checks.needs("SEQ-ERR-003", _ALGORITHM_TYPE, "is missing", segment)
        checks.needs("SEQ-ERR-004", _CATEGORY, "is missing", segment)
        checks.needs("SEQ-ERR-005", _PROPERTY, "is missing", segment)
        checks.among(
            "SEQ-WARN-001", _ALGORITHM_TYPE, ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"), item=segment
        )
        if segment.text(_ALGORITHM_TYPE) not in ("", "MANUAL"):
            checks.needs("SEQ-WARN-003", _ALGORITHM_NAME, "is missing", segment)
        number = checks.number(_SEGMENT_NUMBER, 1, segment)
        if number is not None:
            numbers.append(int(number))
    return numbers


def _references(checks: Checks) -> None:
    checks.needs("REF-WARN-001", _REFERENCED_SERIES, "is not there")


def _segmentation(checks: Checks) -> None:
    root = checks.root
    kind = root.text(_TYPE)
    # Since 2024 a label map may have this SOP class's modules, but not the SOP class.
    checks.among("ERR-006", _TYPE, ("BINARY", "FRACTIONAL"))
    if kind == "FRACTIONAL":
        checks.needs("ERR-002", _MAXIMUM, "is missing, though it is FRACTIONAL")
        checks.needs("ERR-003", _FRACTIONAL_TYPE, "is missing, though it is FRACTIONAL")
        checks.among("PXL-WARN-002", BITS_ALLOCATED, ("8",))
    elif kind == "BINARY":
        checks.among("PXL-WARN-001", BITS_ALLOCATED, ("1",))
    _grey(checks)
    numbers = _segments(checks)
    if kind and sorted(numbers) != list(range(1, len(numbers) + 1)):
        checks.say("SEQ-WARN-004", "the numbers do not count from 1", _SEGMENTS)
    _references(checks)


def _grey(checks: Checks, allowed: tuple[str, ...] = ("MONOCHROME2",)) -> None:
    checks.among("PXL-ERR-001", SAMPLES_PER_PIXEL, ("1",))
    checks.among("PXL-ERR-002", PHOTOMETRIC, allowed)


def _height_map(checks: Checks) -> None:
    checks.among("ERR-006", _TYPE, ("HEIGHTMAP",))
    checks.among("PXL-WARN-001", BITS_ALLOCATED, ("16", "32"))
    _grey(checks)
    _segments(checks)
    _references(checks)


def _label_map(checks: Checks) -> None:
    checks.among("ERR-006", _TYPE, ("LABELMAP",))
    checks.among("PXL-WARN-001", BITS_ALLOCATED, ("8", "16"))
    if checks.root.text(PIXEL_REPRESENTATION) == "1":
        checks.say("PXL-ERR-003", "is signed, and labels are not", PIXEL_REPRESENTATION)
    _grey(checks, ("MONOCHROME2", "PALETTE COLOR"))
    numbers = sorted(_segments(checks))
    # The standard allows a background of 0, and gaps.
    if numbers and numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        checks.say("SEQ-INFO-001", "the numbers have gaps", _SEGMENTS)
    _references(checks)


_FLOATS: Final = (0x7FE00008, 0x7FE00009)
_MAPPINGS: Final = 0x00409096


def _parametric_map(checks: Checks) -> None:
    root = checks.root
    checks.needs("ERR-001", NUMBER_OF_FRAMES, "is missing")
    groups = [*root.items(SHARED_GROUPS), *root.items(PER_FRAME_GROUPS)]
    if not any(group.items(_MAPPINGS) for group in groups):
        checks.say("ERR-004", "is in no functional group", _MAPPINGS)
    allowed = ("32", "64") if any(tag in root.elements for tag in _FLOATS) else ("16",)
    checks.among("ERR-008", BITS_ALLOCATED, allowed)
    if not root.items(SHARED_GROUPS):
        checks.say("WARN-001", "is missing", SHARED_GROUPS)
    if not root.items(PER_FRAME_GROUPS):
        checks.say("WARN-004", "is missing", PER_FRAME_GROUPS)
    checks.needs("WARN-003", _REFERENCED_SERIES, "is not there")


SEGMENTATION: Final = Family(
    prefix="SEG", sop_classes=storage("66.4"), modalities=frozenset(("SEG",)),
    sop_class="ERR-005", modality="ERR-001", more=_segmentation, core=(_TYPE, _SEGMENTS),
)  # fmt: skip
HEIGHT_MAP: Final = Family(
    prefix="HMSEG", sop_classes=storage("66.8"), modalities=frozenset(("SEG",)),
    sop_class="ERR-005", modality="ERR-001", more=_height_map, core=(_TYPE, _SEGMENTS),
)  # fmt: skip
LABEL_MAP: Final = Family(
    prefix="LMSEG", sop_classes=storage("66.7"), modalities=frozenset(("SEG",)),
    sop_class="ERR-005", modality="ERR-001", more=_label_map, core=(_TYPE, _SEGMENTS),
)  # fmt: skip
PARAMETRIC_MAP: Final = Family(
    prefix="PMAP", sop_classes=storage("30"), sop_class="ERR-002", modality="ERR-003",
    modalities=frozenset(("OT", "CT", "MR", "PT", "NM", "RWV", "PMAP", "US", "XA", "OPT", "SM")),
    bits="ERR-005", high_bit="WARN-002",
    photometric=("ERR-006", frozenset(("MONOCHROME2",))), samples=("ERR-007", frozenset("1")),
    more=_parametric_map, core=(NUMBER_OF_FRAMES,),
)  # fmt: skip
FAMILIES: Final = (SEGMENTATION, HEIGHT_MAP, LABEL_MAP, PARAMETRIC_MAP)
