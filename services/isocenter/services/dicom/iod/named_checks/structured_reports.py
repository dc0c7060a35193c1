"""Named checks of structured reports and key object selections (PS3.3 C.17)."""

from __future__ import annotations

from typing import Final

from isocenter.services.dicom.iod.named_checks.content_items import check_content
from isocenter.services.dicom.iod.named_checks.family import (
    MODALITY,
    SOP_CLASS_UID,
    Checks,
    Family,
    storage,
)

KEY_OBJECTS: Final = storage("88.59")
_COMPLETION: Final = 0x0040A491
_VERIFICATION: Final = 0x0040A493
_VERIFYING_OBSERVER: Final = 0x0040A073
_EVIDENCE: Final = 0x0040A375
_OTHER_EVIDENCE: Final = 0x0040A385


def _report(checks: Checks) -> None:
    root = checks.root
    if not root.text(SOP_CLASS_UID):
        checks.say("ERR-000", "is missing", SOP_CLASS_UID)
    is_selection = root.text(SOP_CLASS_UID) in KEY_OBJECTS
    checks.among("ERR-002", MODALITY, ("KO",) if is_selection else ("SR",))
    if is_selection:
        checks.needs("KOS-ERR-001", _EVIDENCE, "is missing, which a selection needs")
    else:
        checks.among("FLAG-ERR-001", _COMPLETION, ("COMPLETE", "PARTIAL"))
        checks.among("FLAG-ERR-002", _VERIFICATION, ("VERIFIED", "UNVERIFIED"))
        if root.text(_VERIFICATION) == "VERIFIED":
            checks.needs("DOC-ERR-001", _VERIFYING_OBSERVER, "is missing, though it is VERIFIED")
        if not checks.is_there(_EVIDENCE, _OTHER_EVIDENCE):
            checks.say("EVIDENCE-INFO-001", "is not there", _EVIDENCE)
    check_content(checks)


REPORT: Final = Family(
    prefix="SR",
    sop_classes=storage(
        "88.11", "88.22", "88.33", "88.34", "88.35", "88.40", "88.50", "88.59", "88.65", "88.67",
        "88.68", "88.69", "88.70", "88.71", "88.72", "88.73", "88.74", "88.75", "88.76", "88.77",
    ),
    sop_class="ERR-001", more=_report, core=(0x0040A040, 0x0040A043),
)  # fmt: skip
FAMILIES: Final = (REPORT,)
