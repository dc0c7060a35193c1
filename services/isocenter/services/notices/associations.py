"""Notices of connections, associations and operations."""

from __future__ import annotations

from enum import Enum

from isocenter.engine.fast_init import dataclass
from isocenter.services.notices.caller import Caller


class RefusalReason(Enum):
    """Why a connection was turned away before it could ask for an association."""

    TLS_HANDSHAKE = "tls_handshake"
    WRONG_PROTOCOL = "wrong_protocol"
    DEADLINE = "deadline"
    TOO_MANY = "too_many"
    #: Its address is none of those that are served.
    ADDRESS = "address"


class AssociationOutcome(Enum):
    """How an association ended."""

    RELEASED = "released"
    ABORTED_BY_PEER = "aborted_by_peer"
    ABORTED_HERE = "aborted_here"
    CONNECTION_LOST = "connection_lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStarted:
    """It accepts now.  *addresses*: ``(host, port, is_tls)`` each."""

    addresses: tuple[tuple[str, int, bool], ...]


@dataclass(frozen=True, slots=True)
class ServerStopped:
    """The last association has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRefused:
    """A connection that never became an association request."""

    address: str
    refusal: RefusalReason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationRejected:
    """A-ASSOCIATE-RJ was sent (PS3.8 Table 9-21).

    Attributes:
        why: the words of the log line, with the cure.
        cure: the command that would admit the caller; empty: there is none.
    """

    caller: Caller
    result: int
    source: int
    reason: int
    why: str
    cure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationEstablished:
    """A-ASSOCIATE-AC was sent.

    Attributes:
        max_pdu_length: of the P-DATA-TFs that the peer takes (PS3.8 D.1); 0: no limit.
    """

    caller: Caller
    contexts_proposed: int
    contexts_accepted: int
    max_pdu_length: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationRevoked:
    """An association is ended because a certificate was revoked since it was established.

    Attributes:
        why: which certificate.
    """

    caller: Caller
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationEnded:
    """An association that had been established is over.

    Attributes:
        operations: that the peer asked for and that have ended.
        abort_source, abort_reason: of the A-ABORT that was received or sent (PS3.8 Table 9-26);
            None: there was none.
    """

    caller: Caller
    ending: AssociationOutcome
    why: str
    seconds: float
    bytes_received: int
    bytes_sent: int
    operations: int = 0
    abort_source: int | None = None
    abort_reason: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationEnded:
    """One operation got its final response, or its association ended first.

    Attributes:
        command: ``C-STORE``, ``N-CREATE`` …
        status: of the last response; None: there was none.
        seconds: from the command set to the end.
        as_scp: the peer asked us; False: we asked the peer.
    """

    caller: Caller
    command: str
    sop_class_uid: str
    status: int | None
    seconds: float
    as_scp: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginStarted:
    """A plug-in serves from now on.

    Attributes:
        name: of its entry point.
        distribution: and version, of what it comes from.
    """

    name: str
    distribution: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginOperationEnded:
    """An operation that a plug-in performs got its final response, or its association ended first.

    Attributes:
        studies: that it was about, as far as the plug-in told.
    """

    caller: Caller
    plugin: str
    command: str
    sop_class_uid: str
    sop_instance_uid: str
    status: int | None
    studies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessDenied:
    """An operation that the caller may not ask for: it got 0124H, or its presentation context
    was refused with result 1 (user-rejection)."""

    caller: Caller
    command: str
    sop_class_uid: str
    why: str
