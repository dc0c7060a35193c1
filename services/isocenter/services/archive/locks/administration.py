"""Administration of locks: shown, and released with a reason for the audit trail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from isocenter.services.archive.locks.lock import LockCount, StudyLock
from isocenter.services.archive.locks.ports import LockBook

#: Has it recorded that somebody took a lock away: the lock, who did, and why.
ReleaseRecorder = Callable[[StudyLock, str, str], Awaitable[None]]


class LockAdministration:
    """Shows and releases locks.

    Args:
        record: has a release recorded in the audit trail.
    """

    def __init__(self, book: LockBook, record: ReleaseRecorder) -> None:
        self._book = book
        self._record = record

    async def all(self) -> Sequence[StudyLock]:
        """All locks, the oldest first."""
        return await self._book.all()

    async def counts(self) -> Sequence[LockCount]:
        """Of each kind what has become of its locks."""
        return await self._book.counts()

    async def release(self, study_instance_uid: str, actor: str, reason: str) -> bool:
        """Take a lock away from whoever has it; False: nobody has one.

        Whoever has it is told before its next step, and ends with an error.
        """
        if not reason.strip():
            raise ValueError("releasing a lock of somebody else has a reason")
        lock = await self._book.force(study_instance_uid)
        if lock is None:
            return False
        await self._record(lock, actor, reason)
        return True
