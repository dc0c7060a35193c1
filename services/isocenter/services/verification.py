"""Verification service class (PS3.4 Annex A): C-ECHO."""

from __future__ import annotations

from typing import Final

from isocenter.engine.dimse.messages import CEchoRequest, CEchoResponse
from isocenter.engine.dimse.status import Status
from isocenter.engine.negotiation import Offer
from isocenter.engine.uid import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
)
from isocenter.services.errors import OperationError
from isocenter.services.operations import Operation

#: C-ECHO carries no data set; any syntax will do.
_OFFER: Final = Offer(
    transfer_syntaxes=(
        EXPLICIT_VR_LITTLE_ENDIAN,
        IMPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_BIG_ENDIAN,
    )
)


class Verification:
    """Answers C-ECHO-RQ with success."""

    name = "verification"

    def offer(self, abstract_syntax: str) -> Offer | None:
        return _OFFER if abstract_syntax == VERIFICATION else None

    async def perform(self, operation: Operation) -> None:
        match operation.request:
            case CEchoRequest(message_id=message_id):
                await operation.respond(
                    CEchoResponse(
                        message_id_being_responded_to=message_id,
                        status=Status.SUCCESS,
                        affected_sop_class_uid=VERIFICATION,
                    )
                )
            case _:
                raise OperationError(Status.UNRECOGNIZED_OPERATION)
