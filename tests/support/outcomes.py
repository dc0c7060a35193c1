"""What an operation of ours came to, also where the clients raise."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from isocenter.engine.dimse.message_codec import CStoreResponse
from isocenter.services.errors import OperationError
from isocenter.services.service_classes.client import RetrieveError
from isocenter.services.service_classes.normalized.operations import AnswerError


async def outcome(operation: Awaitable[Any]) -> Any:
    """What is returned for a success, made of the exception for a failure; of C-ECHO and C-STORE a
    `CStoreResponse`."""
    try:
        return await operation
    except RetrieveError as error:
        return error.result
    except AnswerError as error:
        return error.answer
    except OperationError as error:
        return CStoreResponse(
            message_id_being_responded_to=0,
            status=error.status,
            error_comment=error.comment,
            offending_elements=error.offending_elements,
        )
