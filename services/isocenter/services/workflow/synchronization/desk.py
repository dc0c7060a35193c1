"""Conflicts of synchronisations as people resolve them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from isocenter.services.notices import Caller, Notices, TasksChanged
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.jobs.job import JobKind, JobRequest
from isocenter.services.workflow.synchronization.comparison import (
    ConflictKind,
    KnownStudy,
    Resolution,
)
from isocenter.services.workflow.synchronization.ports import Conflict, SyncBook
from isocenter.services.workflow.synchronization.synchronizer import Synchronizer


class SyncDesk:
    """Shows conflicts, and does what somebody says is to be done.

    Args:
        now: seconds since 1970.
    """

    def __init__(
        self,
        book: SyncBook,
        jobs: JobDesk,
        synchronizer: Synchronizer,
        notices: Notices,
        *,
        now: Callable[[], float],
    ) -> None:
        self._book = book
        self._jobs = jobs
        self._synchronizer = synchronizer
        self._notices = notices
        self._now = now

    async def conflicts(self, *, is_open: bool = True, limit: int) -> Sequence[Conflict]:
        """The latest first."""
        return await self._book.conflicts(is_open=is_open, limit=limit)

    async def get(self, number: int) -> Conflict | None:
        """One of them."""
        return await self._book.conflict(number)

    async def resolve(
        self, conflict: Conflict, resolution: Resolution, by: str, caller: Caller
    ) -> bool:
        """Do it; False: somebody was quicker, or something is against it.

        Raises:
            TaskError: nothing can be deleted here.
        """
        current = await self._book.conflict(conflict.number)
        if current is None or current.resolution is not None:
            return False
        study, node = conflict.study_instance_uid, conflict.node
        is_left = resolution is Resolution.LEAVE
        match conflict.kind, resolution:
            case _, Resolution.LEAVE:
                pass
            case ConflictKind.DELETED_HERE, Resolution.LOCAL:
                is_left = True  # it stays deleted; at the node nothing can be
            case ConflictKind.DELETED_THERE, Resolution.REMOTE:
                if not await self._synchronizer.delete_here(study, conflict.task, node):
                    return False
            case _:
                kind = JobKind.SEND if resolution is Resolution.LOCAL else JobKind.RETRIEVE
                await self._jobs.submit(
                    JobRequest(
                        kind=kind,
                        node=node,
                        keys=(("StudyInstanceUID", study),),
                        again=kind is JobKind.RETRIEVE,
                        requested_by=by,
                    )
                )
        if not await self._book.resolve(conflict.number, resolution, by, self._now()):
            return False
        known = KnownStudy(
            study_instance_uid=study, here=conflict.here, there=conflict.there, is_left=is_left
        )
        await self._book.note(conflict.task, [known])
        what = f"conflict of study {study} with node {node}: {resolution.value}"
        self._notices.publish(TasksChanged(caller=caller, what=what))
        return True
