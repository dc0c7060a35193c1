"""Errors of the engine: protocol errors of the peer, and our own.

The engine never raises for what a peer did: a `RemoteProtocolError` rides along
on an event as its ``cause``.  It raises `LocalProtocolError` for what *we* asked
for and may not have, and then nothing has changed.
"""

from __future__ import annotations

from typing import ClassVar, Final

from isocenter.engine.error_codes import ErrorCode

#: A-ABORT sources (PS3.8 Table 9-26).
SERVICE_USER: Final = 0
SERVICE_PROVIDER: Final = 2

#: A-ABORT reasons of the service-provider (PS3.8 Table 9-26).
REASON_NOT_SPECIFIED: Final = 0
UNRECOGNIZED_PDU: Final = 1
UNEXPECTED_PDU: Final = 2
UNRECOGNIZED_PDU_PARAMETER: Final = 4
UNEXPECTED_PDU_PARAMETER: Final = 5
INVALID_PDU_PARAMETER_VALUE: Final = 6

ABORT_REASONS: Final = {
    REASON_NOT_SPECIFIED: "reason not specified",
    UNRECOGNIZED_PDU: "unrecognized PDU",
    UNEXPECTED_PDU: "unexpected PDU",
    UNRECOGNIZED_PDU_PARAMETER: "unrecognized PDU parameter",
    UNEXPECTED_PDU_PARAMETER: "unexpected PDU parameter",
    INVALID_PDU_PARAMETER_VALUE: "invalid PDU parameter value",
}


class IsocenterError(Exception):
    """Everything that Isocenter raises on purpose.

    Attributes:
        error_code: what kind of error it is, for programs; a class has its own.
    """

    error_code: ClassVar[ErrorCode] = ErrorCode.GENERAL


class ProtocolError(IsocenterError):
    """Somebody broke PS3.7 or PS3.8; the subclass says who."""

    error_code = ErrorCode.PDU


class LocalProtocolError(ProtocolError):
    """We asked for what this state or this negotiation forbids; nothing changed."""

    error_code = ErrorCode.PROTOCOL_STATE


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol.

    Attributes:
        reason: what the A-ABORT says (PS3.8 Table 9-26, source 2).
    """

    def __init__(self, message: str, reason: int = REASON_NOT_SPECIFIED) -> None:
        super().__init__(message)
        self.reason = reason


class LimitExceeded(RemoteProtocolError):
    """The peer announced or sent more than a bound allows.

    Attributes:
        limit: the name of the field of `isocenter.engine.limits.Limits`.
    """

    error_code = ErrorCode.PDU_MALFORMED

    def __init__(self, message: str, limit: str, reason: int = INVALID_PDU_PARAMETER_VALUE) -> None:
        super().__init__(message, reason)
        self.limit = limit


class AssociationError(IsocenterError):
    """The association that somebody waited on has ended."""

    error_code = ErrorCode.NOT_ESTABLISHED


class DeadlineExceeded(AssociationError):
    """The peer did not answer in time, or took nothing, and was given up for it.

    The engine has no clock: a driver raises it.
    """

    error_code = ErrorCode.RECEIVE_TIMEOUT


#: Texts of PS3.8 Table 9-21 by (source, reason).
REJECT_REASONS: Final = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 1): "no reason given (ACSE)",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}


class AssociationRejectedError(AssociationError):
    """The peer answered A-ASSOCIATE-RJ (PS3.8 9.3.4).

    Attributes:
        result: 1 permanent, 2 transient.
        source: 1 service-user, 2 service-provider (ACSE), 3 service-provider (presentation).
        reason: PS3.8 Table 9-21; its meaning depends on ``source``.
    """

    error_code = ErrorCode.ASSOCIATION_REJECTED

    def __init__(self, result: int, source: int, reason: int) -> None:
        kind = "permanently" if result == 1 else "for now"
        text = REJECT_REASONS.get((source, reason), "reserved reason")
        super().__init__(
            f"association rejected {kind}: {text} "
            f"(result {result}, source {source}, reason {reason})"
        )
        self.result = result
        self.source = source
        self.reason = reason


class AssociationAbortedError(AssociationError):
    """The peer's service-user sent A-ABORT."""

    error_code = ErrorCode.ASSOCIATION_ABORTED

    def __init__(self, source: int, reason: int) -> None:
        super().__init__(f"association aborted by the peer (source {source}, reason {reason})")
        self.source = source
        self.reason = reason


class ProviderAbortedError(AssociationError):
    """A-P-ABORT: the service-provider, here or there, gave up (``__cause__`` says why)."""

    error_code = ErrorCode.ASSOCIATION_ABORTED

    def __init__(self, reason: int, message: str = "") -> None:
        text = message or ABORT_REASONS.get(reason, "reserved reason")
        super().__init__(f"association aborted by the service-provider: {text} (reason {reason})")
        self.reason = reason


class TransportLostError(ProviderAbortedError):
    """The transport connection went away (Evt17, AA-4)."""

    error_code = ErrorCode.RECEIVING

    def __init__(self) -> None:
        super().__init__(REASON_NOT_SPECIFIED, "the transport connection was lost")
