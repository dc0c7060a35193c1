"""Port of the marks that validation leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.validation.mark import RefusedObject


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyValidation:
    """How the objects of a study fared.

    Attributes:
        objects: that were validated.
        not_valid: of those, with errors.
        rules: code and how many objects break it, errors first, most often broken first.
    """

    objects: int = 0
    not_valid: int = 0
    rules: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleCount:
    """How often one rule was broken by what one sender or device sent.

    Attributes:
        objects: that break it.
        last_at: when the latest came, in seconds since 1970.
        example: SOP Instance UID of that one.
    """

    sender: str
    device: str
    code: str
    severity: str
    objects: int
    last_at: float
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalRow:
    """An object that was refused; see `RefusedObject`.

    Attributes:
        times: how often.
        first_at, last_at: in seconds since 1970.
    """

    sop_instance_uid: str
    sop_class_uid: str
    sender: str
    device: str
    why: str
    times: int
    first_at: float
    last_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationTotals:
    """How many objects were validated, of those that the index had at some moment.

    Attributes:
        not_valid: of those, with errors.
        counted_at: the moment, in seconds since 1970.
    """

    objects: int
    not_valid: int
    counted_at: float


class ValidationBook(Protocol):
    """Marks of the objects that the index has; failures are `StorageError`."""

    async def of_study(self, study_instance_uid: str) -> StudyValidation:
        """How the objects of a study fared."""
        ...

    async def count(self) -> None:
        """Count anew; that reads all marks, and holds up nobody who writes."""
        ...

    async def refused(self, refused: RefusedObject) -> None:
        """Keep a record of an object that was refused just now; the oldest of many go."""
        ...

    async def refusals(
        self, *, sender: str = "", limit: int, offset: int = 0
    ) -> Sequence[RefusalRow]:
        """Objects that were refused, the latest first."""
        ...

    async def rules_broken(
        self, *, sender: str = "", code: str = "", limit: int, offset: int = 0
    ) -> Sequence[RuleCount]:
        """By sender, device and rule, those with most objects first, as they were counted last.

        Args:
            sender, code: only of this AE title, only this rule; empty: all.
        """
        ...

    async def totals(self) -> ValidationTotals:
        """How many there are, as they were counted last; counts where nobody has."""
        ...
