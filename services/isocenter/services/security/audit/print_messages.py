"""Audit messages of print jobs: films leave the archive (PS3.15 A.5.3.4)."""

from __future__ import annotations

from typing import Final

from isocenter.services.notices import PrintJobChanged
from isocenter.services.security.audit import codes
from isocenter.services.security.audit.codes import EventId
from isocenter.services.security.audit.messages import (
    Action,
    AuditMessage,
    ObjectKind,
    Outcome,
    ParticipantObject,
)
from isocenter.services.security.audit.participants import (
    ActiveProcess,
    peer_participant,
    study_object,
)

_FAILED: Final = "failed"


def print_job_changed(here: ActiveProcess, changed: PrintJobChanged) -> AuditMessage:
    """A.5.3.4: somebody has films printed, once more, or no further, or is given them; a job is
    printed, or cannot be."""
    job = ParticipantObject(
        kind=ObjectKind.SECURITY_RESOURCE,
        id=f"urn:isocenter:print-job:{changed.job_uid}",
        id_type=codes.URI,
        name="Print Job",
        details={"What": changed.what.encode(), "Films": str(changed.films).encode()},
    )
    study = (study_object(changed.study_instance_uid, {}),) if changed.study_instance_uid else ()
    caller = changed.caller
    return AuditMessage(
        event=EventId.EXPORT,
        action=Action.READ,
        outcome=Outcome.SERIOUS_FAILURE if changed.what == _FAILED else Outcome.SUCCESS,
        participants=(
            here.participant(codes.SOURCE, is_requestor=caller is None),
            *(
                ()
                if caller is None
                else (peer_participant(caller, codes.DESTINATION, is_requestor=True),)
            ),
        ),
        objects=(*study, job),
    )
