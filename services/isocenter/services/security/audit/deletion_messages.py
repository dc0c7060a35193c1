"""Audit messages of deletion, restoring and purging (PS3.15 A.5.3.6, A.5.3.8).

A study that was deleted, in the archive or for good from the trash, is "DICOM Study Deleted"
(PS3.15 A.5.3.8).  Some instances of a study, and what was restored, are "DICOM Instances
Accessed" (A.5.3.6) with the action D or C.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final, assert_never

from isocenter.services.archive.deletion.records import DeletionCause, InstancesDeleted
from isocenter.services.archive.deletion.values import TrashChange, TrashChanged
from isocenter.services.security.audit.codes import EventId
from isocenter.services.security.audit.message_builder import instances_deleted
from isocenter.services.security.audit.messages import Action, AuditMessage
from isocenter.services.security.audit.participants import ActiveProcess

_TRASH: Final = "the trash"
_PLACE: Final = dict.fromkeys(DeletionCause, _TRASH) | {
    DeletionCause.QUARANTINED: "quarantine",
    DeletionCause.REJECTED: "what was rejected",
}

log = logging.getLogger("isocenter.audit")


def objects_deleted(here: ActiveProcess, happened: TrashChanged) -> AuditMessage:
    """A.5.3.8, or A.5.3.6: what became of deleted objects of one study."""
    message = instances_deleted(
        here,
        InstancesDeleted(study=happened.study, cause=happened.cause, person=happened.actor),
    )
    study, patient = message.objects
    details = {
        "Deletion": happened.deletion_id.encode(),
        "Reason": happened.reason.encode("utf-8", "backslashreplace"),
    }
    message = replace(message, objects=(replace(study, details=details), patient))
    if happened.cause.withholds and happened.what is TrashChange.DELETED:
        # They are kept, and nothing of the study is gone.
        return replace(message, event=EventId.INSTANCES_ACCESSED, action=Action.UPDATE)
    match happened.what:
        case TrashChange.DELETED:
            return message
        case TrashChange.PURGED:
            return replace(message, description=f"removed from {_PLACE[happened.cause]} for good")
        case TrashChange.RESTORED:
            return replace(
                message,
                event=EventId.INSTANCES_ACCESSED,
                action=Action.CREATE,
                description=f"restored from {_PLACE[happened.cause]}",
            )
        case _:
            assert_never(happened.what)
