"""The C-STORE sub-operations of one C-GET or C-MOVE: counters, and what the answers say.

PS3.7 9.1.3, 9.1.4; PS3.4 C.4.2.1, C.4.3.1.
"""

from __future__ import annotations

from dataclasses import field
from typing import Final

from isocenter.engine.dimse.messages import (
    CGetRequest,
    CGetResponse,
    CMoveRequest,
    CMoveResponse,
)
from isocenter.engine.dimse.status import Status, StatusClass, classify
from isocenter.engine.fast_init import dataclass

#: The counters are of VR US (PS3.7 Table E.1-1).
_MOST_TOLD: Final = 0xFFFF


@dataclass(slots=True)
class SubOperations:
    """The counters of one C-GET or C-MOVE.  ``remaining`` starts with all."""

    remaining: int
    completed: int = 0
    failed: int = 0
    warning: int = 0
    failed_uids: list[str] = field(default_factory=list)

    def count(self, sop_instance_uid: str, status: int | None) -> None:
        """One sub-operation has ended; None: it could not be performed."""
        self.remaining -= 1
        kind = StatusClass.FAILURE if status is None else classify(status)
        if kind is StatusClass.SUCCESS:
            self.completed += 1
        elif kind is StatusClass.WARNING:
            self.warning += 1
        else:
            self.failed += 1
            self.failed_uids.append(sop_instance_uid)

    def final_status(self) -> int:
        """0000H all good, A702H none, B000H some (PS3.4 Tables C.4-2 and C.4-3)."""
        if self.failed and not (self.completed or self.warning):
            return Status.UNABLE_TO_PERFORM_SUBOPERATIONS
        if self.failed or self.warning:
            return Status.SUBOPERATIONS_WITH_FAILURES
        return Status.SUCCESS

    def response_to(
        self, request: CGetRequest | CMoveRequest, status: int | None = None
    ) -> CGetResponse | CMoveResponse:
        """A response with the counters; without *status* the final one.

        ``remaining`` is told in pending and cancelled ones only (PS3.7 9.1.3.1.6, 9.1.4.1.7).
        A counter over 65,535 is told as that: there is no room for more.
        """
        response = CMoveResponse if isinstance(request, CMoveRequest) else CGetResponse
        status = self.final_status() if status is None else status
        shows_remaining = status in (Status.PENDING, Status.CANCEL)
        return response(
            message_id_being_responded_to=request.message_id,
            status=status,
            affected_sop_class_uid=request.affected_sop_class_uid,
            number_of_remaining_suboperations=_told(self.remaining) if shows_remaining else None,
            number_of_completed_suboperations=_told(self.completed),
            number_of_failed_suboperations=_told(self.failed),
            number_of_warning_suboperations=_told(self.warning),
        )


def _told(count: int) -> int:
    return min(count, _MOST_TOLD)
