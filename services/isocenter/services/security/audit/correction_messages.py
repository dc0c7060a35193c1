"""Audit messages of corrections (PS3.15 A.5.3.6).

That somebody has objects corrected, merged, moved or split, or takes it back, is "DICOM Instances
Accessed" with the action U: one message for each study, with whose it was until then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from isocenter.engine.dataset.errors import tag_text
from isocenter.services.archive.coercion.edits import (
    AddOtherPatientId,
    Correcting,
    MoveToStudy,
    RemoveAttribute,
    SetValue,
)
from isocenter.services.archive.corrections.service import CorrectionHappened
from isocenter.services.dicom.data_dictionary import keyword_for_tag
from isocenter.services.security.audit.codes import EventId
from isocenter.services.security.audit.messages import Action, AuditMessage, Participant
from isocenter.services.security.audit.participants import (
    ActiveProcess,
    Patient,
    patient_object,
    study_object,
)


def objects_corrected(
    here: ActiveProcess, happened: CorrectionHappened, patients: Mapping[str, Patient]
) -> list[AuditMessage]:
    """A.5.3.6: somebody has objects of studies corrected, or takes it back.

    Args:
        patients: by study, whose it is.
    """
    correction = happened.correction
    what = f"{correction.kind.value}, correction {correction.number}"
    details = {
        "Correction": str(correction.number).encode("ascii"),
        "Reason": _bytes(happened.reason),
        "Changes": _bytes("; ".join(map(_text, correction.edits))),
    }
    return [
        AuditMessage(
            event=EventId.INSTANCES_ACCESSED,
            action=Action.UPDATE,
            description=f"{what} is undone" if happened.is_undone else what,
            participants=(
                Participant(user_id=happened.actor, is_requestor=True, access_point=here.machine),
                here.participant(None, is_requestor=False),
            ),
            objects=(
                replace(study_object(study, sop_classes), details=details),
                patient_object(patients.get(study, Patient())),
            ),
        )
        for study, sop_classes in happened.studies.items()
    ]


def _text(edit: Correcting) -> str:
    name = keyword_for_tag(edit.tag) or tag_text(edit.tag)
    match edit:
        case SetValue():
            return f"{name}={edit.value}"
        case MoveToStudy():
            return f"{name}={edit.uid}"
        case RemoveAttribute():
            return f"{name} removed"
        case AddOtherPatientId():
            return f"{name}+={edit.patient_id}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def patients_linked(
    here: ActiveProcess, patients: Sequence[str], reason: str, *, is_linked: bool
) -> AuditMessage:
    """A patient record (CID 400): two patients are one person, or are not any more.

    Args:
        patients: their IDs.
    """
    return AuditMessage(
        event=EventId.PATIENT_RECORD,
        action=Action.UPDATE,
        description="patients are linked" if is_linked else "patients are linked no more",
        participants=(here.participant(None), here.person(None)),
        objects=tuple(
            replace(patient_object(Patient(each)), details={"Reason": _bytes(reason)})
            for each in patients
        ),
    )
