"""Notices: what happens in this process, as values for audit, metrics and tracing.

A service tells what it did and knows nobody who wants to hear it; a listener is one
function and knows no service.  Listeners are called at once, in the order in which
they came, in the task that tells: they must be quick and wait for nothing.  What
takes longer (a file, a socket) a listener puts into a queue of its own.

`Caller.association` is in every line of the log that an association caused, too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import field
from enum import Enum

from isocenter.engine.fast_init import dataclass

#: Name of the association, or connection, that the task at hand works for; empty: none.
association_name: ContextVar[str] = ContextVar("association_name", default="")

log = logging.getLogger("isocenter.server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who is at the other end of an association, as far as it is known.

    Attributes:
        association: names the association within this process, in log, audit and traces.
        address: ``host:port``.
        certificate: common name of the verified certificate; empty: there was none.
        user: who the user identity item proved the peer to be (PS3.7 D.3.3.7); empty: nobody.
    """

    association: str
    address: str
    calling_ae_title: str = ""
    called_ae_title: str = ""
    is_tls: bool = False
    certificate: str = ""
    user: str = ""


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
class ConfigurationReloaded:
    """Certificates, policy or settings were read again while the server ran.

    Attributes:
        what: ``certificates``, ``policy``, ``peers`` …
        fault: why the old one stays; empty: the new one is in use.
    """

    what: str
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsChanged:
    """Somebody has changed settings while the server ran; *keys*: which."""

    caller: Caller
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesChanged:
    """Somebody has changed which remote nodes there are; *what*: in words."""

    caller: Caller
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionUsed:
    """Somebody has used what is not for everybody; *what*: in words, without patients."""

    caller: Caller
    what: str


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
    """

    caller: Caller
    ending: AssociationOutcome
    why: str
    seconds: float
    bytes_received: int
    bytes_sent: int
    operations: int = 0


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


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceStored:
    """A C-STORE was answered with success or a warning: the object is durable and findable.

    Attributes:
        size: of the data set, in bytes.
        outcome: ``stored``, ``already stored`` … (`StoreOutcome`).
        patient_id, patient_name: for the audit trail only, never for a line of the log.
    """

    caller: Caller
    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    size: int
    outcome: str
    patient_id: str = field(repr=False)
    patient_name: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRefused:
    """A C-STORE got a failure status, or none; nothing of the object is kept."""

    caller: Caller
    sop_class_uid: str
    sop_instance_uid: str
    status: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectDamaged:
    """What is kept of an instance is not what was stored, or is gone."""

    sop_instance_uid: str
    fault: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryAnswered:
    """A C-FIND, or a search over HTTP, has ended.

    Attributes:
        identifier: what was asked, as it came, in *transfer_syntax_uid*; over HTTP there is none,
            and it is path and query.
    """

    caller: Caller
    sop_class_uid: str
    transfer_syntax_uid: str
    identifier: bytes = field(repr=False)
    matches: int
    status: int | None


class SearchOutcome(Enum):
    """What became of a search over HTTP (PS3.18 10.6)."""

    #: All matches, or all that a page has room for and there are no more.
    WHOLE = "whole"
    #: There are more, and the answer says so.
    CUT = "cut"
    #: More objects than may be would have had to be read.
    TOO_BROAD = "too_broad"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchAnswered:
    """A search over HTTP has ended."""

    outcome: SearchOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferStarted:
    """A C-GET or C-MOVE knows what it is to send, and has sent nothing yet.

    The attributes are those of `InstancesSent`.
    """

    caller: Caller
    command: str
    destination: str
    destination_address: str
    studies: Mapping[str, int]
    sop_classes: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancesSent:
    """A C-GET or C-MOVE has ended; or a rule has sent something on (C-STORE).

    Attributes:
        destination: AE title that got them; of a C-GET, the caller's.
        destination_address: ``host:port``.
        studies: by Study Instance UID, how many instances of it were to be sent.
        sent, unsent: likewise, how many were, with a warning or not, and how many failed;
            a cancel leaves others.
        completed, failed, warning: sub-operations (PS3.4 C.4.2.1.6).
        why: the first cause of those that failed, or that ended it early, in words.
    """

    caller: Caller
    command: str
    destination: str
    destination_address: str
    studies: Mapping[str, int]
    sop_classes: frozenset[str]
    completed: int
    failed: int
    warning: int
    status: int | None
    sent: Mapping[str, int] = field(default_factory=dict)
    unsent: Mapping[str, int] = field(default_factory=dict)
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancesRead:
    """Instances of a study were sent to whoever asked for them over HTTP: whole, or parts of them
    (metadata, frames, bulk data), or as pictures.

    Attributes:
        sop_instance_uids: as far as they are known; none: those of all or of a series.
        sop_classes: how many instances of each SOP Class UID, as far as they are known.
        is_whole: the answer was sent to its end.
    """

    caller: Caller
    study_instance_uid: str
    sop_instance_uids: frozenset[str] = field(repr=False)
    sop_classes: Mapping[str, int]
    is_whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieveFailed:
    """A C-GET or C-MOVE was answered with a failure before anything could be sent.

    Attributes:
        destination: AE title that was to get the instances; of a C-GET, the caller's.
        studies: Study Instance UIDs that the identifier names.
        why: in words, as in the log.
    """

    caller: Caller
    command: str
    destination: str
    studies: tuple[str, ...]
    status: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformedStepChanged:
    """An N-CREATE or N-SET of a modality performed procedure step succeeded: it is durable.

    Attributes:
        state: ``IN PROGRESS``, ``COMPLETED`` or ``DISCONTINUED``.
        study_instance_uids: of what was scheduled.
        series_instance_uids: that the step names so far.
    """

    caller: Caller
    sop_instance_uid: str
    state: str
    study_instance_uids: tuple[str, ...]
    series_instance_uids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentDone:
    """A storage commitment was verified, and its outcome is durable; its report follows.

    Attributes:
        requester: AE title that asked; over the web, who it was.
        committed, failed: SOP Instance UIDs.
    """

    requester: str
    transaction_uid: str
    committed: tuple[str, ...] = field(repr=False)
    failed: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardAttempted:
    """Objects were sent on to a peer by a rule, or could not be.

    Attributes:
        outcome: ``delivered``, ``failed`` (there will be another attempt) or ``given_up``.
    """

    destination: str
    outcome: str
    objects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectTranscoded:
    """An object was made in another transfer syntax than it is kept in, for a peer.

    Attributes:
        source, target: Transfer Syntax UIDs.
        outcome: ``made``, ``cached`` (it had been made before) or ``failed``.
    """

    source: str
    target: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancesCompressed:
    """Objects of a study were compressed by rule, or were to be; told of some together.

    Attributes:
        sop_classes: how many objects of each SOP Class UID.
        target: Transfer Syntax UID that they have, or were to have.
        outcome: ``compressed``, ``kept`` (they stay as they came) or ``failed`` (another attempt
            follows, or they were given up).
        size_before, size: bytes of the files of those that were compressed.
    """

    study_instance_uid: str
    sop_classes: Mapping[str, int]
    target: str
    outcome: str
    size_before: int = 0
    size: int = 0

    @property
    def studies(self) -> tuple[str, ...]:
        return (self.study_instance_uid,)

    @property
    def instances(self) -> int:
        return sum(self.sop_classes.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardQueueMeasured:
    """How many objects wait to be forwarded, in all processes: by destination and state
    (`forwarding.queue.ForwardState`)."""

    counts: Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrashMeasured:
    """What the trash holds; told now and then by the process that looks after it.

    Attributes:
        instances, size: that could be restored; *size* in bytes of files.
        deleted, deleted_size: all that was ever deleted.
        quarantined, rejected: of *instances*, those that are withheld.
    """

    instances: int
    size: int
    deleted: int
    deleted_size: int
    quarantined: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDelivery:
    """An event of the outbox was delivered to a consumer, or was not.

    Attributes:
        outcome: ``delivered``, ``failed`` (it is tried again) or ``given up``.
    """

    consumer: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventBacklogMeasured:
    """What there is to do about events; told every few seconds by the process that does it.

    Attributes:
        waiting: by consumer, the events that it has yet to get.
        receiving: studies that are not complete.
    """

    waiting: Mapping[str, int]
    receiving: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderMessageAnswered:
    """An HL7 message got its acknowledgement, or would have if its sender wanted one.

    Attributes:
        message_type: ``ORM^O01`` …; ``other``: none that is taken.
        acknowledgement: ``AA``, ``AE`` or ``AR``.
    """

    address: str
    message_type: str
    acknowledgement: str


class OrderAction(Enum):
    """What somebody has done with an entry of the worklist."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderChanged:
    """Somebody has added, changed or removed an entry of the worklist, on a page or by the API.

    Attributes:
        patient_id, patient_name: whose it is.
    """

    caller: Caller
    action: OrderAction
    study_instance_uid: str
    accession_number: str
    patient_id: str = field(repr=False)
    patient_name: str = field(repr=False)


class WingNotice:
    """Base of the notices that a wing declares beside what they tell of."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancesMarked(WingNotice):
    """Somebody noted something on instances of a study, or made objects of it.

    Attributes:
        sop_classes: how many instances of each SOP Class UID.
        action: ``C``, ``U`` or ``D``, as audit messages have it.
        what: in words, without what was noted.
    """

    caller: Caller
    study_instance_uid: str
    sop_classes: Mapping[str, int]
    action: str
    what: str

    @property
    def studies(self) -> tuple[str, ...]:
        return (self.study_instance_uid,)


Notice = (
    ServerStarted
    | ServerStopped
    | ConfigurationReloaded
    | SettingsChanged
    | FunctionUsed
    | NodesChanged
    | OrderChanged
    | ConnectionRefused
    | AssociationRejected
    | AssociationEstablished
    | AssociationRevoked
    | AssociationEnded
    | OperationEnded
    | AccessDenied
    | PluginStarted
    | PluginOperationEnded
    | InstanceStored
    | InstanceRefused
    | ObjectDamaged
    | QueryAnswered
    | SearchAnswered
    | TransferStarted
    | InstancesSent
    | InstancesRead
    | RetrieveFailed
    | PerformedStepChanged
    | CommitmentDone
    | TrashMeasured
    | EventDelivery
    | EventBacklogMeasured
    | ForwardAttempted
    | ObjectTranscoded
    | InstancesCompressed
    | ForwardQueueMeasured
    | WingNotice
    | OrderMessageAnswered
)

#: Hears everything that happens; must not wait.
Listener = Callable[[Notice], None]


class Notices:
    """Carries notices to their listeners.

    A listener that raises is a bug of ours, and none of the peer's: it is logged, and
    neither the operation nor the other listeners notice.
    """

    __slots__ = ("_listeners", "_of_kind")

    def __init__(self, *listeners: Listener) -> None:
        self._listeners: tuple[tuple[Listener, tuple[type, ...]], ...] = ()
        #: Who hears a kind of notice, worked out when the first of it is published.
        self._of_kind: dict[type, tuple[Listener, ...]] = {}
        for listener in listeners:
            self.subscribe(listener)

    def __bool__(self) -> bool:
        """Whether anybody listens: what costs something to tell need not be told to nobody."""
        return bool(self._listeners)

    def subscribe(self, listener: Listener, kinds: Iterable[type] = (object,)) -> None:
        """*listener* hears of *kinds* of notices, by default of all."""
        self._listeners = (*self._listeners, (listener, tuple(kinds)))
        self._of_kind = {}

    def _hear(self, kind: type) -> tuple[Listener, ...]:
        found = tuple(one for one, kinds in self._listeners if issubclass(kind, kinds))
        self._of_kind[kind] = found
        return found

    def publish(self, notice: Notice) -> None:
        kind = type(notice)
        listeners = self._of_kind.get(kind)
        for listener in self._hear(kind) if listeners is None else listeners:
            try:
                listener(notice)
            except Exception:
                log.exception("a listener failed on %s", type(notice).__name__)
