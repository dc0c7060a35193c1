"""Statuses of workitems as answers of HTTP (PS3.18 11.4.3 to 11.12.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from isocenter.engine.dimse.status import Status
from isocenter.services.errors import OperationError
from isocenter.services.net.http.messages import HttpError
from isocenter.services.service_classes.ups.workitem import UpsStatus

#: DIMSE status → HTTP status and code; all others are faults of the request: 400.
_ANSWERS: Final[Mapping[int, tuple[int, str]]] = {
    Status.DUPLICATE_SOP_INSTANCE: (409, "IN_USE"),
    Status.NOT_AUTHORIZED: (403, "NOT_YOURS"),
    Status.RESOURCE_LIMITATION: (413, "TOO_LARGE"),
    UpsStatus.NO_SUCH_WORKITEM: (404, "NOT_FOUND"),
    UpsStatus.RECEIVER_UNKNOWN: (404, "NO_SUCH_SUBSCRIBER"),
    UpsStatus.NO_LONGER_UPDATED: (409, "FINAL"),
    UpsStatus.WRONG_TRANSACTION: (409, "WRONG_TRANSACTION"),
    UpsStatus.ALREADY_IN_PROGRESS: (409, "IN_PROGRESS"),
    UpsStatus.SCHEDULED_BY_CREATE_ONLY: (409, "SCHEDULED_BY_CREATION_ONLY"),
    UpsStatus.FINAL_STATE_NOT_MET: (409, "INCOMPLETE"),
    UpsStatus.NOT_YET_IN_PROGRESS: (409, "NOT_IN_PROGRESS"),
    UpsStatus.IS_COMPLETED: (409, "COMPLETED"),
    UpsStatus.PERFORMER_NOT_REACHED: (409, "NO_PERFORMER"),
}
#: What a success with a warning says, word for word as the standard has it (11.4.3.2 to 11.7.3.2).
_WARNINGS: Final[Mapping[int, str]] = {
    UpsStatus.CREATED_WITH_MODIFICATIONS: "The Workitem was created with modifications.",
    UpsStatus.COERCED: "The Workitem was updated with modifications.",
    UpsStatus.ALREADY_CANCELED: "The UPS is already in the requested state of CANCELED.",
    UpsStatus.ALREADY_COMPLETED: "The UPS is already in the requested state of COMPLETED.",
    UpsStatus.DELETION_LOCK_NOT_GRANTED: "Deletion Lock not granted.",
}


def refusal(error: OperationError) -> HttpError:
    """The answer to what a DIMSE request would have been refused with."""
    status, code = _ANSWERS.get(error.status, (400, "BAD_WORKITEM"))
    return HttpError(status, code, error.comment or "the request is none for a workitem")


def warnings_of(status: int) -> list[str]:
    """What a `Warning` field says beside a success."""
    text = _WARNINGS.get(status)
    return [] if text is None else [text]
