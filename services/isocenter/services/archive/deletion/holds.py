"""Studies that are held: nobody and nothing deletes them until the hold is taken away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from isocenter.engine.fast_init import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyHold:
    """A hold; *at*: seconds since 1970; *is_here*: whether the archive has the study."""

    study_instance_uid: str
    reason: str
    actor: str
    at: float
    is_here: bool = True


class Holds(Protocol):
    """Keeps holds.  Failures are `StorageError`."""

    async def add(self, hold: StudyHold) -> bool:
        """Hold a study; False: it is held already, and nothing was changed."""
        ...

    async def remove(self, study_instance_uid: str) -> bool:
        """Take a hold away; False: there is none."""
        ...

    async def all(self) -> Sequence[StudyHold]:
        """All of them, the oldest first."""
        ...
