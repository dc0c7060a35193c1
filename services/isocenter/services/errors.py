"""Errors of more than one wing: DIMSE statuses, storage, connections."""

from __future__ import annotations

import errno

from isocenter.engine.dimse.status import StatusClass, classify, describe_status
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import AssociationError, IsocenterError


def text_of(error: BaseException) -> str:
    """The message, without the number that OSError puts in front of it."""
    text = error.strerror if isinstance(error, OSError) else None
    return text or str(error) or type(error).__name__


def error_code_of(error: BaseException) -> ErrorCode | None:
    """What kind of error it is; None: not one that is expected."""
    match error:
        case IsocenterError():
            return error.error_code
        case FileNotFoundError():
            return ErrorCode.FILE_NOT_FOUND
        case TimeoutError():
            return ErrorCode.RECEIVE_TIMEOUT
        case ConnectionError():
            return ErrorCode.CONNECTION_FAILED
        case OSError(errno=errno.EADDRINUSE | errno.EADDRNOTAVAIL):
            return ErrorCode.START
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EROFS):
            return ErrorCode.FILE_NOT_WRITTEN
        case OSError():
            return ErrorCode.FILE_NOT_READ
    return None


def fault_text(error: BaseException) -> str:
    """What whoever runs a command reads of an error: the file, the fault, and its number."""
    what = text_of(error)
    if isinstance(error, OSError) and error.filename:
        what = f"{error.filename}: {what}"
    code = error_code_of(error)
    return what if code is None else f"{what} (error {code:d})"


class OperationError(IsocenterError):
    """A DIMSE status that is not success, from us as performer or from the peer.

    A provider raises it; the response is made of it.

    Attributes:
        status: PS3.7 Annex C and the service class's own.
        comment: goes into Error Comment (0000,0902), at most 64 characters; no patient data.
        offending_elements: tags for (0000,0901).
        log_detail: for our log only: what failed here, which is none of the peer's business.
    """

    error_code = ErrorCode.DIMSE

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

    error_code = ErrorCode.STORING

    def __init__(self, message: str, *, out_of_resources: bool = False, comment: str = "") -> None:
        super().__init__(message)
        self.out_of_resources = out_of_resources
        self.comment = comment


class ConnectError(AssociationError):
    """No connection to the peer: nobody listens, no route, TLS failed, or too slow."""

    error_code = ErrorCode.CONNECTION_FAILED


class NoPresentationContextError(IsocenterError):
    """The peer accepted no presentation context for what was to be done."""

    error_code = ErrorCode.NO_PRESENTATION_CONTEXT
