"""Port of what synchronisation remembers: studies and conflicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from isocenter.engine.fast_init import dataclass
from isocenter.services.workflow.synchronization.comparison import (
    ConflictKind,
    KnownStudy,
    Resolution,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A study of which a person has to say what is to be done.

    Attributes:
        number: of its record.
        task: that has found it.
        here, there: numbers of its instances.
        found_at, resolved_at: seconds since 1970.
        resolution: None: nobody has said yet.
    """

    number: int
    task: str
    node: str
    study_instance_uid: str
    kind: ConflictKind
    here: int
    there: int
    found_at: float
    resolution: Resolution | None = None
    resolved_by: str = ""
    resolved_at: float | None = None


class SyncBook(Protocol):
    """Keeps studies and conflicts of synchronisations, by their tasks.  Failures are
    `StorageError`."""

    async def known(self, task: str) -> Mapping[str, KnownStudy]:
        """Studies as the last run left them, by Study Instance UID."""
        ...

    async def note(self, task: str, studies: Sequence[KnownStudy]) -> None:
        """Remember studies; a conflict of one that is alike is none any more."""
        ...

    async def forget(self, task: str, study_instance_uids: Sequence[str]) -> None:
        """These are at neither."""
        ...

    async def report(self, conflict: Conflict) -> bool:
        """Write a conflict down, whose number is not looked at; False: it is known already."""
        ...

    async def conflicts(self, *, task: str = "", is_open: bool, limit: int) -> Sequence[Conflict]:
        """The latest first."""
        ...

    async def conflict(self, number: int) -> Conflict | None: ...

    async def resolve(self, number: int, resolution: Resolution, by: str, at: float) -> bool:
        """Say what is to be done; False: somebody has, or there is none."""
        ...
