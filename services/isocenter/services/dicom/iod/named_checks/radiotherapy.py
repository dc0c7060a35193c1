"""Named checks of RT plans, RT doses and RT structure sets."""

from __future__ import annotations

from typing import Final

from isocenter.services.dicom.iod.named_checks.family import Checks, Family, storage

_FRACTION_GROUPS: Final = 0x300A0070
_NUMBER_OF_BEAMS: Final = 0x300A0080
_BEAMS: Final = 0x300A00B0
_STRUCTURE_SETS: Final = 0x300C0060
_GEOMETRY: Final = 0x300A000C
_DOSE_UNITS: Final = 0x30040002
_DOSE_TYPE: Final = 0x30040004
_SUMMATION: Final = 0x3004000A
_SCALING: Final = 0x3004000E
_OFFSETS: Final = 0x3004000C
_ROIS: Final = 0x30060020
_CONTOURS: Final = 0x30060039
_OBSERVATIONS: Final = 0x30060080
_ROI_NUMBER: Final = 0x30060022
_REFERENCED_ROI: Final = 0x30060084


def _plan(checks: Checks) -> None:
    root = checks.root
    wanted = sum(
        int(checks.number(_NUMBER_OF_BEAMS, 1, group) or 0)
        for group in root.items(_FRACTION_GROUPS)
    )
    beams = root.items(_BEAMS)
    if wanted > 0 and not beams and not root.items(0x300A03A2):
        checks.say("ERR-002", "is missing, though Number of Beams is more than 0", _BEAMS)
    checks.among("WARN-001", _GEOMETRY, ("PATIENT", "TREATMENT_DEVICE"))
    if root.text(_GEOMETRY) == "PATIENT" and not root.items(_STRUCTURE_SETS):
        checks.say("WARN-002", "is missing, though the geometry is the patient's", _STRUCTURE_SETS)
    for group in root.items(_FRACTION_GROUPS):
        checks.needs("WARN-003", 0x300A0078, "is not said", group)
    for beam in beams:
        checks.among("WARN-004", 0x300A00C4, ("STATIC", "DYNAMIC"), item=beam)
        checks.among("WARN-005", 0x300A00C6, ("PHOTON", "ELECTRON", "NEUTRON", "PROTON"), item=beam)
    checks.needs("INFO-001", 0x300A000A, "is not said")
    checks.needs("INFO-002", 0x300E0002, "is not said")


def _dose(checks: Checks) -> None:
    root = checks.root
    checks.among("WARN-001", _DOSE_UNITS, ("GY", "RELATIVE"))
    checks.among("WARN-002", _DOSE_TYPE, ("PHYSICAL", "EFFECTIVE", "ERROR"))
    checks.among(
        "WARN-003", _SUMMATION,
        ("PLAN", "MULTI_PLAN", "PLAN_OVERVIEW", "FRACTION", "BEAM", "BRACHY", "FRACTION_SESSION",
         "BEAM_SESSION", "BRACHY_SESSION", "CONTROL_POINT", "RECORD"),
    )  # fmt: skip
    has_grid = 0x7FE00010 in root.elements
    if has_grid:
        checks.needs("WARN-004", _SCALING, "is missing, so that the pixels are no dose")
        if checks.frames > 1:
            offsets = root.elements.get(_OFFSETS)
            if offsets is None or (offsets.is_known and len(offsets.values) != checks.frames):
                checks.say("WARN-006", "has not one value for each frame", _OFFSETS)
    if root.text(_SUMMATION) in ("PLAN", "BEAM", "FRACTION") and not root.items(0x300C0002):
        checks.say("INFO-001", "is not there", 0x300C0002)
    if root.text(_DOSE_UNITS) == "RELATIVE":
        checks.say("INFO-002", "is relative", _DOSE_UNITS)


def _structures(checks: Checks) -> None:
    root = checks.root
    numbers = [roi.text(_ROI_NUMBER) for roi in root.items(_ROIS)]
    if len(set(numbers)) != len(numbers):
        checks.say("ERR-003", "two of them have one ROI Number", _ROIS)
    known = set(numbers)
    for sequence, code in ((_CONTOURS, "WARN-001"), (_OBSERVATIONS, "WARN-002")):
        for item in root.items(sequence):
            if item.text(_REFERENCED_ROI) not in known:
                checks.say(code, "refers to an ROI that is not there", _REFERENCED_ROI, item)
    checks.needs("INFO-001", 0x30060010, "is not there")
    if known and not root.items(_CONTOURS):
        checks.say("INFO-002", "has no contour of any ROI", _CONTOURS)


PLAN: Final = Family(
    prefix="RTPLAN", sop_classes=storage("481.5", "481.8"), modalities=frozenset(("RTPLAN",)),
    sop_class="ERR-003", modality="ERR-001", more=_plan, core=(0x300A0002, _GEOMETRY),
)  # fmt: skip
DOSE: Final = Family(
    prefix="RTDOSE", sop_classes=storage("481.2"), modalities=frozenset(("RTDOSE",)),
    sop_class="ERR-002", modality="ERR-001", bits="ERR-003", high_bit="WARN-005", more=_dose,
    core=(_DOSE_UNITS, _DOSE_TYPE, _SUMMATION),
)  # fmt: skip
STRUCTURES: Final = Family(
    prefix="RTSTRUCT", sop_classes=storage("481.3"), modalities=frozenset(("RTSTRUCT",)),
    sop_class="ERR-002", modality="ERR-001", more=_structures, core=(0x30060002,),
)  # fmt: skip
#: What cannot be told apart: Modality says RT, and the SOP class none of these.
UNKNOWN: Final = Family(
    prefix="RT", sop_classes=frozenset(), modalities=frozenset(), sop_class="ERR-001"
)
FAMILIES: Final = (PLAN, DOSE, STRUCTURES)
