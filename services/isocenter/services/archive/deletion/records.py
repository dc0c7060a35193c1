"""Deletions as values: objects that have left, and why.

Whoever deletes, a rule or a person, looks at the promises first and tells the same afterwards: an
event in the transaction that deletes, an audit message, a metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import Enum

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.notices import WingNotice


class DeletionCause(Enum):
    """Why objects were deleted; the words are those of events, metrics and audit messages."""

    #: A rule says ``delete_after``, and the destination has committed them (PS3.4 Annex J).
    COMMITTED_ELSEWHERE = "committed elsewhere"
    #: Somebody has said so, and why.
    REQUESTED = "requested"
    #: A rule of the operator's says for how long such studies are kept.
    RETENTION = "retention rule"
    #: A person, or a rule when they came, has them withheld until somebody releases them.
    QUARANTINED = "quarantined"
    #: A rejection note (IHE RAD IOCM) says so.
    REJECTED = "rejected"

    @property
    def withholds(self) -> bool:
        """Whether the objects are kept though nobody is answered with them; otherwise they go."""
        return self in (DeletionCause.QUARANTINED, DeletionCause.REJECTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedStudy:
    """What has left of one study, in one transaction.

    Attributes:
        sop_classes: how many objects of each have left.
        gone: each of them.
        remaining: objects of the study that are still here; 0: all of it has left.
        patient_id, patient_name, birth_date: for the audit trail, and for events where they are
            wanted; never for a line of the log.
    """

    study_instance_uid: str
    accession_number: str
    sop_classes: Mapping[str, int]
    remaining: int
    gone: Sequence[StoredInstance] = field(default=(), repr=False)
    patient_id: str = field(default="", repr=False)
    patient_name: str = field(default="", repr=False)
    birth_date: str = field(default="", repr=False)

    @property
    def instances(self) -> int:
        """How many objects have left."""
        return sum(self.sop_classes.values())


@dataclass(frozen=True, slots=True)
class Deletion:
    """What one transaction has taken out of the index.

    Attributes:
        instances: whose objects are to leave the store now.
        kept: SOP Instance UIDs of what was to leave and stays, as it is promised to somebody.
    """

    instances: Sequence[StoredInstance] = ()
    studies: Sequence[DeletedStudy] = ()
    kept: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancesDeleted(WingNotice):
    """Objects of a study have left the archive.

    Attributes:
        person: who has deleted them; empty: a rule.
    """

    study: DeletedStudy
    cause: DeletionCause
    person: str = ""
