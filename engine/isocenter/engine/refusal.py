"""Refusal of a request on its presentation context (PS3.7 C.5).

Decided by what was agreed on in the negotiation; access rights are for the service-user.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final, NamedTuple

from isocenter.engine.dimse.message_codec import sop_class_of
from isocenter.engine.dimse.messages import Request, UnrecognizedMessage
from isocenter.engine.dimse.status import Status
from isocenter.engine.negotiation import PresentationContext


class Refusal(NamedTuple):
    """Why a request is not performed: its status, and a word for Error Comment (0000,0902)."""

    status: int
    comment: str


_NOT_OUR_ROLE: Final = Refusal(
    Status.UNRECOGNIZED_OPERATION, "not for our role on this presentation context"
)
_ANOTHER_CLASS: Final = Refusal(
    Status.SOP_CLASS_NOT_SUPPORTED, "SOP class is not that of the presentation context"
)


def refusal_of(
    context: PresentationContext, request: Request, members: Container[str] = ()
) -> Refusal | None:
    """What *request* has to be refused with on its presentation context; None: nothing.

    Asked before anything else of a request, as the engine hands up whatever can be answered.

    Args:
        members: SOP classes beside the abstract syntax that it may be about (`Offer.members`).
    """
    if isinstance(request, UnrecognizedMessage):
        return Refusal(request.status, request.error)
    if not context.may_perform(request):
        return _NOT_OUR_ROLE
    sop_class_uid = sop_class_of(request)
    if sop_class_uid != context.abstract_syntax and sop_class_uid not in members:
        return _ANOTHER_CLASS
    return None
