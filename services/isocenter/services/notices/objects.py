"""Notices of objects: stored, found, sent, read, changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import Enum
from typing import Final

from isocenter.engine.dimse.status import StatusClass, classify
from isocenter.engine.fast_init import dataclass
from isocenter.services.notices.caller import Caller, WingNotice

#: Of questions, by the kind of their last status.
_OUTCOMES: Final = {
    StatusClass.SUCCESS: "answered",
    StatusClass.WARNING: "answered",
    StatusClass.CANCEL: "cancelled",
}


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
    """A C-STORE got a failure status, or none; nothing of the object is kept.

    Attributes:
        comment: why, in the words of the answer.
        study_instance_uid, patient_id: as far as they had come; empty: nothing had.  The patient
            ID is never for a line of the log.
    """

    caller: Caller
    sop_class_uid: str
    sop_instance_uid: str
    status: int | None
    comment: str = ""
    study_instance_uid: str = ""
    patient_id: str = field(default="", repr=False)


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
        level: of what is found: ``PATIENT``, ``STUDY``, ``SERIES``, ``IMAGE``; empty: the
            information model has none, or nobody could tell.
        seconds: until the answer was sent.
        comment: why it failed, in the words of the answer.
        is_late: it took longer than it may.
    """

    caller: Caller
    sop_class_uid: str
    transfer_syntax_uid: str
    identifier: bytes = field(repr=False)
    matches: int
    status: int | None
    level: str = ""
    seconds: float = 0.0
    comment: str = ""
    is_late: bool = False

    @property
    def outcome(self) -> str:
        """``answered``, ``cancelled``, ``timed_out``, ``failed``, or ``ended``: nobody was there to
        be answered any more."""
        if self.is_late:
            return "timed_out"
        return "ended" if self.status is None else _OUTCOMES.get(classify(self.status), "failed")


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
