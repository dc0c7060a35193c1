"""Events of the engine: indication and confirmation primitives (PS3.8 7, PS3.7)."""

from __future__ import annotations

from isocenter.engine.dimse.message_codec import CCancelRequest, Message
from isocenter.engine.errors import (
    AssociationAbortedError,
    AssociationError,
    AssociationRejectedError,
    ProviderAbortedError,
    RemoteProtocolError,
    TransportLostError,
)
from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import Negotiated
from isocenter.engine.pdu import AssociateAccept, AssociateReject, AssociateRequest


@dataclass(frozen=True, slots=True)
class AssociationRequested:
    """A-ASSOCIATE indication (AE-6)."""

    request: AssociateRequest


@dataclass(frozen=True, slots=True)
class AssociationAccepted:
    """A-ASSOCIATE confirmation, accept (AE-3), with what both sides now hold to."""

    accept: AssociateAccept
    negotiated: Negotiated


@dataclass(frozen=True, slots=True)
class AssociationRejected:
    """A-ASSOCIATE confirmation, reject (AE-4); or, as acceptor, that the engine itself
    rejected the request (AE-6: ``by_peer`` is False)."""

    reject: AssociateReject
    by_peer: bool = True


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A whole command set has come; fragments of its data set follow when it has one."""

    context_id: int
    message: Message
    has_data_set: bool


@dataclass(frozen=True, slots=True)
class DataSetReceived:
    """The next piece of the data set of the last message on this association.

    ``data`` is a view of the chunk that was passed to ``receive_data``; a run of very
    short pieces is joined in one copy.
    ``is_last`` ends the data set.
    """

    context_id: int
    data: memoryview
    is_last: bool


@dataclass(frozen=True, slots=True)
class CancelReceived:
    """C-CANCEL-RQ (PS3.7 9.3.2.3): no answer of its own, the operation ends with FE00H."""

    context_id: int
    message: CCancelRequest


@dataclass(frozen=True, slots=True)
class ReleaseRequested:
    """A-RELEASE indication (AR-2, AR-8)."""

    is_collision: bool = False


@dataclass(frozen=True, slots=True)
class AssociationReleased:
    """A-RELEASE confirmation (AR-3)."""


@dataclass(frozen=True, slots=True)
class AssociationAborted:
    """A-ABORT indication: the peer's service-user ended it (AA-3)."""

    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class ProviderAborted:
    """A-P-ABORT indication (AA-3 with source 2, AA-4, AA-8).

    ``cause`` is the peer's fault as we saw it; None when the peer's provider
    aborted, or when the transport was lost (``transport_lost``).
    """

    reason: int
    cause: RemoteProtocolError | None = None
    transport_lost: bool = False


Event = (
    AssociationRequested
    | AssociationAccepted
    | AssociationRejected
    | MessageReceived
    | DataSetReceived
    | CancelReceived
    | ReleaseRequested
    | AssociationReleased
    | AssociationAborted
    | ProviderAborted
)


def end_reason(event: Event) -> AssociationError | None:
    """The exception for whoever waits on an association that *event* has ended.

    None for every event after which it goes on, and for `AssociationReleased`, an end
    that was asked for.  The peer's fault, as we saw it, is the exception's ``__cause__``.
    """
    match event:
        case AssociationRejected(reject):
            return AssociationRejectedError(reject.result, reject.source, reject.reason)
        case AssociationAborted(source, reason):
            return AssociationAbortedError(source, reason)
        case ProviderAborted(transport_lost=True):
            return TransportLostError()
        case ProviderAborted(reason, cause):
            error = ProviderAbortedError(reason, str(cause) if cause else "")
            error.__cause__ = cause
            return error
        case _:
            return None
