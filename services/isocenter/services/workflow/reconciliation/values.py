"""Requests to reconcile patients, and attempts, as values (IHE RAD-12)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import Enum

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass


class ReconciliationKind(Enum):
    """What somebody wants; the words are those of lists and audit messages."""

    UPDATE = "update"
    MERGE = "merge"
    MOVE_STUDY = "move study"
    LINK = "link"
    UNLINK = "unlink"
    #: They look like one person, and are two.
    TELL_APART = "tell apart"


class AttemptOutcome(Enum):
    """What came of it."""

    DONE = "done"
    #: Nothing here is of such a patient, or all is as it should be.
    NOTHING = "nothing to do"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Identifier:
    """An ID of a patient; *issuer*: who gave it; empty: it is not said."""

    patient_id: str = field(repr=False)
    issuer: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a message wants done to patients.

    Attributes:
        patients: IDs of the patient that it is about, of a merge the one that stays.
        others: IDs of the one that goes, or that is linked.
        attributes: tag → value of the patient; None: it has none any more.  What is not said is
            not in here.
        studies: Study Instance UIDs or accession numbers of what is moved.
    """

    kind: ReconciliationKind
    patients: tuple[Identifier, ...] = field(repr=False)
    others: tuple[Identifier, ...] = field(default=(), repr=False)
    attributes: Mapping[int, str | None] = field(default_factory=dict, repr=False)
    studies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A demand, and what came of it.

    Attributes:
        actor: the system that sent it.
        message: its name for the message, and the event.
        at: seconds since 1970.
        instances: objects for which corrections hold through it.
        corrections: their numbers.
        fault: why it failed, in words without values.
        number: of its record.
    """

    kind: ReconciliationKind
    patient: Identifier = field(repr=False)
    other: Identifier = field(repr=False)
    actor: str
    message: str
    at: float
    outcome: AttemptOutcome
    instances: int = 0
    corrections: tuple[int, ...] = ()
    fault: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientLink:
    """Two patients who are one person, and stay two patients here.

    Attributes:
        at: seconds since 1970.
    """

    one: Identifier = field(repr=False)
    other: Identifier = field(repr=False)
    actor: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradiction:
    """Two patients who were told apart, and are linked all the same, by way of others.

    Attributes:
        links: of their group: one of them is wrong, or they are one person.
    """

    one: Identifier = field(repr=False)
    other: Identifier = field(repr=False)
    links: tuple[PatientLink, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPatient:
    """A patient as objects of the archive name it; *studies*: how many do."""

    identifier: Identifier = field(repr=False)
    name: str = field(repr=False)
    birth_date: str = field(repr=False)
    sex: str
    studies: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityConflict:
    """Two patients of one name and birth date with different IDs, of whom nobody has said anything.

    Attributes:
        place: behind which the next ones are.
    """

    one: SeenPatient
    other: SeenPatient
    place: tuple[str, ...] = field(repr=False)

    @property
    def is_contradicted(self) -> bool:
        """Whether they differ in sex, which speaks against one person."""
        return bool(self.one.sex and self.other.sex and self.one.sex != self.other.sex)


class ReconciliationError(IsocenterError):
    """A demand that cannot be done; the message shows no value."""

    error_code = ErrorCode.CORRECTION


class ToldApartError(ReconciliationError):
    """A link would make one person of two who were told apart."""


class UnknownPatientError(ReconciliationError):
    """Nothing here is of the patient, and that is no good."""
