"""Commands to the engine: request and response primitives (PS3.8 7, PS3.7)."""

from __future__ import annotations

from isocenter.engine.buffers import Buffer
from isocenter.engine.dimse.message_codec import Message
from isocenter.engine.fast_init import dataclass
from isocenter.engine.pdu import AssociateAccept, AssociateReject, AssociateRequest


@dataclass(frozen=True, slots=True)
class RequestAssociation:
    """A-ASSOCIATE request (Evt1)."""

    request: AssociateRequest


@dataclass(frozen=True, slots=True)
class AcceptAssociation:
    """A-ASSOCIATE response, accept (Evt7)."""

    accept: AssociateAccept


@dataclass(frozen=True, slots=True)
class RejectAssociation:
    """A-ASSOCIATE response, reject (Evt8)."""

    reject: AssociateReject


@dataclass(frozen=True, slots=True)
class SendMessage:
    """P-DATA request with a command set (Evt9).

    With ``data_set`` the whole message leaves in one effect.  With only
    ``has_data_set`` the data set follows as `SendDataSet`, and nothing else may
    be sent on the association before its last part.
    """

    context_id: int
    message: Message
    data_set: Buffer | None = None
    has_data_set: bool = False


@dataclass(frozen=True, slots=True)
class SendDataSet:
    """P-DATA request with the next part of a data set (Evt9); cut into PDVs, never copied."""

    context_id: int
    data: Buffer
    is_last: bool


@dataclass(frozen=True, slots=True)
class RequestRelease:
    """A-RELEASE request (Evt11)."""


@dataclass(frozen=True, slots=True)
class AcceptRelease:
    """A-RELEASE response (Evt14)."""


@dataclass(frozen=True, slots=True)
class Abort:
    """A-ABORT request (Evt15); the peer sees source 0 (service-user)."""


Command = (
    RequestAssociation
    | AcceptAssociation
    | RejectAssociation
    | SendMessage
    | SendDataSet
    | RequestRelease
    | AcceptRelease
    | Abort
)
