"""Verification service class (PS3.4 Annex A): C-ECHO."""

from __future__ import annotations

from typing import Final

from isocenter.engine.dimse.message_codec import CEchoRequest, Request, Response, response_to
from isocenter.engine.dimse.status import Status
from isocenter.engine.negotiation import Offer, PresentationContext
from isocenter.engine.refusal import refusal_of
from isocenter.engine.uid import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
)
from isocenter.services.association.operation import Operation
from isocenter.services.association.service_registry import Statuses
from isocenter.services.errors import OperationError

#: C-ECHO carries no data set; any syntax will do.
_OFFER: Final = Offer(
    transfer_syntaxes=(
        EXPLICIT_VR_LITTLE_ENDIAN,
        IMPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_BIG_ENDIAN,
    )
)


class VerificationScp:
    """Answers C-ECHO-RQ with success."""

    name = "verification"
    gives_deidentified = True
    statuses: Final[Statuses] = {Status.SUCCESS: "always"}

    def offer(self, abstract_syntax: str) -> Offer | None:
        return _OFFER if abstract_syntax == VERIFICATION else None

    def respond_immediately(
        self, context: PresentationContext, request: Request
    ) -> Response | None:
        """C-ECHO waits for nothing, so it needs no task."""
        if (
            type(request) is CEchoRequest
            and context.abstract_syntax == VERIFICATION
            and refusal_of(context, request) is None
        ):
            return response_to(request, Status.SUCCESS)
        return None

    async def perform(self, operation: Operation) -> None:
        # Of callers of whom more has to be known than what can be answered at once.
        response = self.respond_immediately(operation.context, operation.request)
        if response is None:
            raise OperationError(Status.UNRECOGNIZED_OPERATION)
        await operation.respond(response)
