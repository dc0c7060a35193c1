"""Notices of steps, workitems, commitment, forwarding, events and orders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from isocenter.engine.fast_init import dataclass
from isocenter.services.notices.caller import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformedStepChanged:
    """An N-CREATE or N-SET of a modality performed procedure step succeeded: it is durable.

    Attributes:
        state: ``IN PROGRESS``, ``COMPLETED`` or ``DISCONTINUED``.
        study_instance_uids: of what was scheduled.
        series_instance_uids: that the step names so far.
        is_new: it was created, rather than changed.
        patient_id, patient_name: for the audit trail only, never for a line of the log.
    """

    caller: Caller
    sop_instance_uid: str
    state: str
    study_instance_uids: tuple[str, ...]
    series_instance_uids: tuple[str, ...]
    is_new: bool = False
    patient_id: str = field(default="", repr=False)
    patient_name: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkitemChanged:
    """A unified procedure step was created or changed, or asked to be cancelled.

    Attributes:
        what: for people: ``created``, ``changed``, ``cancellation requested`` …
        state: how it stands now.
        study_instance_uid: empty: it is of none.
        is_new: it was created, rather than changed.
        patient_id, patient_name: for the audit trail only, never for a line of the log.
    """

    caller: Caller
    sop_instance_uid: str
    what: str
    state: str
    study_instance_uid: str = ""
    is_new: bool = False
    patient_id: str = field(default="", repr=False)
    patient_name: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcedureRecordRead:
    """Somebody has read a performed or a unified procedure step by N-GET.

    Attributes:
        kind: of step, as the standard calls it.
        study_instance_uids: empty: it is of none.
        patient_id, patient_name: for the audit trail only, never for a line of the log.
    """

    caller: Caller
    kind: str
    sop_instance_uid: str
    study_instance_uids: tuple[str, ...] = ()
    patient_id: str = field(default="", repr=False)
    patient_name: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisEnded:
    """A request to an AI service is over.

    Attributes:
        state: ``completed``, ``failed`` or ``cancelled``.
        stored, withheld, refused: objects that it answered with.
    """

    service: str
    study_instance_uid: str
    state: str
    stored: int = 0
    withheld: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintJobChanged:
    """A print job was submitted, cancelled or retried by somebody, or has ended; or its films were
    given to somebody.

    Attributes:
        caller: who asked; None: the printer itself.
        what: ``submitted``, ``cancelled``, ``retried``, ``done`` or ``failed``; ``shown`` or
            ``downloaded``.
        study_instance_uid: of what is on its films; empty: a printer is not told.
    """

    caller: Caller | None
    job_uid: str
    what: str
    films: int
    study_instance_uid: str = ""


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
