"""Refusal of a request of an N-service, and its response (PS3.7 10.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from isocenter.engine.dimse.message_codec import (
    NActionResponse,
    NCreateResponse,
    NDeleteResponse,
    NGetResponse,
    NSetResponse,
    Request,
    Response,
    response_to,
)
from isocenter.services.errors import OperationError

#: Error Comment (0000,0902) is an LO.
_COMMENT_LENGTH: Final = 64


class RequestRefusedError(OperationError):
    """A request that breaks a rule; nothing has changed.

    Attributes:
        attributes: tags for Attribute Identifier List (0000,1005).
        error_id: for (0000,0903).
    """

    def __init__(
        self,
        status: int,
        comment: str = "",
        attributes: Sequence[int] = (),
        error_id: int | None = None,
    ) -> None:
        super().__init__(status, comment[:_COMMENT_LENGTH])
        self.attributes = tuple(dict.fromkeys(attributes))
        self.error_id = error_id


def refusal(request: Request, fault: RequestRefusedError, *, sop_class_uid: str = "") -> Response:
    """The response to *request*, which *fault* refuses.

    Args:
        sop_class_uid: that the instance is of, on whichever it was asked for; empty: the latter.

    Raises:
        RequestRefusedError: *fault*, where the request is none of a performer of instances.
    """
    response = response_to(request, fault.status, error_comment=fault.comment)
    if not isinstance(
        response,
        NCreateResponse | NSetResponse | NGetResponse | NActionResponse | NDeleteResponse,
    ):
        raise fault
    response = replace(
        response,
        affected_sop_class_uid=sop_class_uid or response.affected_sop_class_uid,
        error_id=fault.error_id,
    )
    if isinstance(response, NActionResponse | NDeleteResponse):
        return response
    return replace(response, attribute_identifier_list=fault.attributes)
