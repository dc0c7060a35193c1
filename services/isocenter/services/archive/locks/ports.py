"""Port of the locks of all processes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from isocenter.services.archive.locks.lock import LockCount, LockKind, StudyLock


class LockBook(Protocol):
    """Keeps locks, durably, for all processes.  Failures are `StorageError`.

    All times are by the clock of the database, and all that is written is leased: what a process
    that died has left is void when its time is over.  Whoever reads writes nothing; a process that
    reads is announced once, and asked when somebody wants a lock.
    """

    async def announce(self, process: str, seconds: float) -> None:
        """*process* reads studies: for so long it is asked."""
        ...

    async def withdraw(self, process: str) -> None:
        """It has ended: its locks and answers are void."""
        ...

    async def take(self, lock: StudyLock, seconds: float) -> StudyLock | None:
        """Lock a study for so long.

        Args:
            lock: with no times yet.

        Returns:
            Who has it, or waits with a migration; None: it is taken.
        """
        ...

    async def readers(self, lock: StudyLock) -> Mapping[str, str]:
        """Other processes, and who in them still reads the study; empty: it has not answered."""
        ...

    async def renew(self, process: str, seconds: float) -> Collection[str]:
        """What *process* has locked stays so for so long from now on; IDs of these locks."""
        ...

    async def release(self, lock: StudyLock, *, waited: float = 0.0) -> None:
        """It is free.

        Args:
            waited: seconds that others were waited for, before it was had.
        """
        ...

    async def note_refused(self, kind: LockKind) -> None:
        """Somebody has given up to wait for one."""
        ...

    async def counts(self) -> Sequence[LockCount]:
        """Of each kind what has become of its locks."""
        ...

    async def others(self, process: str) -> Sequence[StudyLock]:
        """Locks of other processes."""
        ...

    async def answer(self, process: str, readers: Mapping[str, str]) -> None:
        """Who in *process* reads the study of a lock, by the lock's ID; empty: nobody."""
        ...

    async def all(self) -> Sequence[StudyLock]:
        """All locks with who is waited for, the oldest first."""
        ...

    async def force(self, study_instance_uid: str) -> StudyLock | None:
        """Take a lock away from whoever has it: the lock; None: there is none."""
        ...
