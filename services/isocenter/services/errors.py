"""Errors of more than one wing: DIMSE statuses, storage, connections."""

from __future__ import annotations

from isocenter.engine.dimse.status import StatusClass, classify, describe_status
from isocenter.engine.errors import AssociationError, IsocenterError


def text_of(error: BaseException) -> str:
    """The message, without the number that OSError puts in front of it."""
    text = error.strerror if isinstance(error, OSError) else None
    return text or str(error) or type(error).__name__


class OperationError(IsocenterError):
    """A DIMSE status that is not success, from us as performer or from the peer.

    A provider raises it; the response is made of it.

    Attributes:
        status: PS3.7 Annex C and the service class's own.
        comment: goes into Error Comment (0000,0902), at most 64 characters; no patient data.
        offending_elements: tags for (0000,0901).
        log_detail: for our log only: what failed here, which is none of the peer's business.
    """

    def __init__(
        self,
        status: int,
        comment: str = "",
        offending_elements: tuple[int, ...] = (),
        *,
        log_detail: str = "",
    ) -> None:
        text = f"{status:04X}H {describe_status(status)}"
        super().__init__(f"{text}: {comment}" if comment else text)
        self.status = status
        self.comment = comment
        self.offending_elements = offending_elements
        self.log_detail = log_detail


def has_failed(status: int) -> bool:
    """Whether a final status says that it was not done: it is neither success nor a warning."""
    return classify(status) not in (StatusClass.SUCCESS, StatusClass.WARNING)


class StorageError(IsocenterError):
    """An adapter could not keep its promise.

    Attributes:
        out_of_resources: True when space or a quota is used up (a C-STORE answers A700H
            and the peer may try again later), False for any other failure (0110H).
        comment: for the peer, at most 64 characters; empty: it is told the status only.
    """

    def __init__(self, message: str, *, out_of_resources: bool = False, comment: str = "") -> None:
        super().__init__(message)
        self.out_of_resources = out_of_resources
        self.comment = comment


class ConnectError(AssociationError):
    """No connection to the peer: nobody listens, no route, TLS failed, or too slow."""


class NoPresentationContextError(IsocenterError):
    """The peer accepted no presentation context for what was to be done."""
