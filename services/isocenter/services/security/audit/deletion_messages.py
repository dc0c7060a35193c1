"""What deleting, restoring and removing for good tell the audit trail.

A study that was deleted, in the archive or for good from the trash, is "DICOM Study Deleted"
(PS3.15 A.5.3.8).  Some instances of a study, and what was restored, are "DICOM Instances
Accessed" (A.5.3.6) with the action D or C.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services.archive.deletion.service import Happened, Recorder, What
from isocenter.services.composition.audit import here_of, record_now
from isocenter.services.notices import InstancesDeleted
from isocenter.services.security.audit.codes import EventId
from isocenter.services.security.audit.message_builder import Here, instances_deleted
from isocenter.services.security.audit.messages import Action, AuditMessage
from isocenter.services.settings.loading import OnAuditFailure, Settings

log = logging.getLogger("isocenter.audit")


def recorder_of(settings: Settings, process_name: str) -> Recorder:
    """Records in the trail of the archive, before anything goes on.

    Should that fail, and the settings want the server to stop for it, what happened is told of
    again later; otherwise it stands in the log alone.
    """
    here = here_of(settings, process_name)

    async def record(happened: Sequence[Happened]) -> None:
        messages = [objects_deleted(here, one) for one in happened]
        try:
            await trio.to_thread.run_sync(record_now, settings, here, messages)
        except (OSError, IsocenterError) as error:
            if settings.audit.on_failure is OnAuditFailure.STOP:
                raise IsocenterError(
                    f"the audit trail cannot be written: {error}; what was deleted, restored or "
                    "purged is brought to its end when it can"
                ) from error
            log.error("the audit trail cannot be written: %s", error)

    return record


def objects_deleted(here: Here, happened: Happened) -> AuditMessage:
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
    match happened.what:
        case What.DELETED:
            return message
        case What.PURGED:
            return replace(message, description="removed from the trash for good")
        case What.RESTORED:
            return replace(
                message,
                event=EventId.INSTANCES_ACCESSED,
                action=Action.CREATE,
                description="restored from the trash",
            )
        case _:
            assert_never(happened.what)
