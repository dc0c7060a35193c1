"""Events as values with a JSON form.

The names of the fields are those of the JSON.  There is nothing of a patient in them but in
`Patient`, which is null unless ``events.include_patient`` is set.  Times in fields are ISO 8601,
UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import ClassVar

import orjson

from isocenter.engine.fast_init import dataclass

_PATIENT_ID, _PATIENT_NAME, _BIRTH_DATE = 0x00100020, 0x00100010, 0x00100030


class Kind(Enum):
    """What an event is about."""

    INSTANCE_STORED = "instance.stored"
    INSTANCE_COMPRESSED = "instance.compressed"
    SERIES_OPENED = "series.opened"
    STUDY_OPENED = "study.opened"
    STUDY_COMPLETE = "study.complete"
    STUDY_REOPENED = "study.reopened"
    STUDY_OTHER_PATIENT = "study.other_patient"
    STUDY_CORRECTED = "study.corrected"
    WORKLIST_CHANGED = "worklist.changed"
    MPPS_CHANGED = "mpps.changed"
    COMMITMENT_ASKED = "commitment.asked"
    COMMITMENT_DONE = "commitment.done"
    INSTANCES_DELETED = "instances.deleted"
    INSTANCES_RESTORED = "instances.restored"
    ASSOCIATION_REFUSED = "association.refused"
    RETRIEVE_FAILED = "retrieve.failed"
    FORWARD_FAILED = "forward.failed"
    WORKITEM_CHANGED = "workitem.changed"
    JOB_CHANGED = "job.changed"
    NODE_CHANGED = "node.changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """Whose study it is."""

    patient_id: str
    patient_name: str
    birth_date: str

    @classmethod
    def of(cls, attributes: Mapping[int, str]) -> Patient:
        """From the attributes that the index keeps."""
        get = attributes.get
        return cls(
            patient_id=get(_PATIENT_ID, ""),
            patient_name=get(_PATIENT_NAME, ""),
            birth_date=get(_BIRTH_DATE, ""),
        )

    def __repr__(self) -> str:
        return "Patient(…)"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceStored:
    """An object is durable and findable.

    Attributes:
        size: of the file, in bytes.
        replaced: it took the place of one with the same SOP Instance UID.
    """

    kind: ClassVar = Kind.INSTANCE_STORED
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    size: int
    modality: str
    accession_number: str
    source_ae_title: str
    replaced: bool
    patient: Patient | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceCompressed:
    """An object is kept in another transfer syntax from now on; nothing of its pixels was lost.

    Attributes:
        transfer_syntax_uid, size: what it is now.
        previous_transfer_syntax_uid, previous_size: what it was.
    """

    kind: ClassVar = Kind.INSTANCE_COMPRESSED
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    size: int
    previous_transfer_syntax_uid: str
    previous_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesOpened:
    """The first object of a series came."""

    kind: ClassVar = Kind.SERIES_OPENED
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    accession_number: str
    source_ae_title: str
    patient: Patient | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOpened:
    """The first object of a study came."""

    kind: ClassVar = Kind.STUDY_OPENED
    study_instance_uid: str
    accession_number: str
    source_ae_title: str
    patient: Patient | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyReopened:
    """An object came for a study that had been complete, or was here before there were events."""

    kind: ClassVar = Kind.STUDY_REOPENED
    study_instance_uid: str
    accession_number: str
    source_ae_title: str
    patient: Patient | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyComplete:
    """All of a study is here, as far as `completion.judge` can tell.

    Attributes:
        reason: ``mpps``, ``commitment``, ``quiet`` or ``longest wait``.
        series, instances: what the archive holds of it.
        received: objects that came since it was opened, or opened again.
        first_at, last_at: when the first and the last of those came.
        times: how often it has been complete by now.
    """

    kind: ClassVar = Kind.STUDY_COMPLETE
    study_instance_uid: str
    accession_number: str
    modalities: tuple[str, ...]
    series: int
    instances: int
    received: int
    reason: str
    first_at: str
    last_at: str
    times: int
    patient: Patient | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancesRestored:
    """Deleted objects of a study are found again, as they were; one event for each study."""

    kind: ClassVar = Kind.INSTANCES_RESTORED
    study_instance_uid: str
    instances: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOtherPatient:
    """The first object came that names another patient than its study came with.

    Attributes:
        other_sop_instance_uid: an object of the study that names the patient it came with.
        patient: whom the object that came names.
    """

    kind: ClassVar = Kind.STUDY_OTHER_PATIENT
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    other_sop_instance_uid: str
    accession_number: str
    source_ae_title: str
    patient: Patient | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyCorrected:
    """Objects of a study show what was corrected, or show it no more; one event for each study.

    Attributes:
        previous_study_instance_uid: under which they were found before.
        instances: how many.
        corrections: numbers of the corrections that hold for some of them now.
    """

    kind: ClassVar = Kind.STUDY_CORRECTED
    study_instance_uid: str
    previous_study_instance_uid: str
    instances: int
    corrections: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistChanged:
    """An entry of the worklist came, changed or left.

    Attributes:
        state: what the entry is now; ``REMOVED``: it has left the list.
    """

    kind: ClassVar = Kind.WORKLIST_CHANGED
    study_instance_uid: str
    entry_number: int
    scheduled_step_id: str
    accession_number: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MppsChanged:
    """A performed procedure step was created or changed; one event for each study that it names.

    Attributes:
        state: ``IN PROGRESS``, ``COMPLETED`` or ``DISCONTINUED``.
        instances: that it names so far.
    """

    kind: ClassVar = Kind.MPPS_CHANGED
    study_instance_uid: str
    sop_instance_uid: str
    state: str
    accession_number: str
    scheduled_step_ids: tuple[str, ...]
    modality: str
    station_ae_title: str
    series: int
    instances: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentAsked:
    """Storage commitment was asked for; one event for each study.

    Attributes:
        study_instance_uid: empty for instances that the archive does not have.
        instances: of this study.
    """

    kind: ClassVar = Kind.COMMITMENT_ASKED
    study_instance_uid: str
    transaction_uid: str
    requester: str
    instances: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentDone:
    """The outcome of a storage commitment is known; one event for each study.

    Attributes:
        study_instance_uid: as in `CommitmentAsked`.
        committed, failed: instances of this study.
    """

    kind: ClassVar = Kind.COMMITMENT_DONE
    study_instance_uid: str
    transaction_uid: str
    requester: str
    committed: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedSeries:
    """What has left of one series; *sop_instance_uids* by SOP Class UID."""

    series_instance_uid: str
    sop_instance_uids: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancesDeleted:
    """Objects of a study have left the archive; one event for each study.

    Attributes:
        instances: that have left.
        remaining: that are still here; 0: all of the study has left.
        cause: of `archive.deletion.DeletionCause`.
        series: which have left.
    """

    kind: ClassVar = Kind.INSTANCES_DELETED
    study_instance_uid: str
    accession_number: str
    instances: int
    remaining: int
    cause: str
    series: Sequence[DeletedSeries] = ()
    patient: Patient | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationRefused:
    """Somebody was turned away.

    Attributes:
        what: ``connection``: there was no association request; ``association``: A-ASSOCIATE-RJ;
            ``operation``: it got 0124H, or its presentation context was refused; ``others``: those
            beyond what is told one by one.
        why: in words, as in the log.
        count: how often, within the few seconds that are told together.
    """

    kind: ClassVar = Kind.ASSOCIATION_REFUSED
    study_instance_uid: ClassVar = ""
    what: str
    address: str
    calling_ae_title: str
    called_ae_title: str
    why: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieveFailed:
    """A C-MOVE or C-GET has failed, wholly or in part.

    Attributes:
        study_instance_uid: of the one study that it was about; empty: of several, or unknown.
        destination: AE title that was to get the instances.
        status: of the final response, like ``A801``; empty: there was none.
        completed, failed: sub-operations.
        why: the first cause, in words, as in the log.
        count: how often, within the few seconds that are told together.
    """

    kind: ClassVar = Kind.RETRIEVE_FAILED
    study_instance_uid: str
    command: str
    address: str
    calling_ae_title: str
    destination: str
    status: str
    completed: int
    failed: int
    why: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardFailed:
    """Objects could not be sent on to a peer by a rule.

    Attributes:
        destination: its AE title.
        is_given_up: there will be no other attempt by itself.
        count: how many objects, within the few seconds that are told together.
    """

    kind: ClassVar = Kind.FORWARD_FAILED
    study_instance_uid: ClassVar = ""
    destination: str
    is_given_up: bool
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkitemChanged:
    """A unified procedure step was created, or has another state.

    Attributes:
        study_instance_uid: that it names; empty: none.
        state: of Procedure Step State (0074,1000).
    """

    kind: ClassVar = Kind.WORKITEM_CHANGED
    study_instance_uid: str
    sop_instance_uid: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobChanged:
    """A job was asked for, or has another state; those by which rules forward are left out.

    Attributes:
        job: its ID.
        what: its kind.
        node: that it is about; empty: none.
        state: ``waiting``, ``paused``, ``completed``, ``failed`` or ``cancelled``.
        done, failed: objects so far.
    """

    kind: ClassVar = Kind.JOB_CHANGED
    study_instance_uid: ClassVar = ""
    job: str
    what: str
    node: str
    state: str
    done: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeChanged:
    """A node answers, or answers no more, since it was verified last.

    Attributes:
        node: its name.
        state: ``online``, ``offline``, or ``error``: it was reached, and refused.
        why: in words, as in the list of nodes; empty: it answers.
    """

    kind: ClassVar = Kind.NODE_CHANGED
    study_instance_uid: ClassVar = ""
    node: str
    state: str
    why: str


#: Events that belong to no transaction of something else; their `count` says how often.
Incident = AssociationRefused | RetrieveFailed | ForwardFailed

Event = (
    InstanceStored
    | InstanceCompressed
    | SeriesOpened
    | StudyOpened
    | StudyReopened
    | StudyComplete
    | StudyOtherPatient
    | StudyCorrected
    | WorklistChanged
    | MppsChanged
    | CommitmentAsked
    | CommitmentDone
    | InstancesDeleted
    | InstancesRestored
    | AssociationRefused
    | RetrieveFailed
    | ForwardFailed
    | WorkitemChanged
    | JobChanged
    | NodeChanged
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """An event with its place in the outbox.

    Attributes:
        number: larger than that of all that were committed before.
        at: seconds since 1970.
        body: the JSON object of the event's fields.
    """

    number: int
    kind: str
    at: float
    study_instance_uid: str
    body: str

    def members(self) -> dict[str, object]:
        """What a consumer gets: ``id``, ``kind``, ``at`` and the fields of the event."""
        fields: dict[str, object] = orjson.loads(self.body)
        return {"id": self.number, "kind": self.kind, "at": utc_timestamp(self.at)} | fields

    def json(self) -> bytes:
        """`members` as JSON, UTF-8."""
        return orjson.dumps(self.members())


def utc_timestamp(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
