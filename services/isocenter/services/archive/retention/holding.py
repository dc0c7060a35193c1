"""Holding of studies, recorded before it stays."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from time import time

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.services.archive.deletion.ports import Holds, StudyHold
from isocenter.services.archive.deletion.values import Requester

#: Has it recorded that a study is held, or held no more, by somebody; False: it must not stay so.
HoldRecorder = Callable[[StudyHold, str, bool], Awaitable[bool]]


class NotRecordedError(IsocenterError):
    """The audit trail could not be written, and nothing was changed."""

    error_code = ErrorCode.DELETION


class Holding:
    """Holds studies, and releases them.

    Args:
        now: seconds since 1970.
    """

    def __init__(
        self, holds: Holds, record: HoldRecorder, *, now: Callable[[], float] = time
    ) -> None:
        self._holds = holds
        self._record = record
        self._now = now

    async def all(self) -> Sequence[StudyHold]:
        """All holds, the oldest first."""
        return await self._holds.all()

    async def hold(self, study_instance_uid: str, requester: Requester, reason: str) -> bool:
        """Hold a study; False: it is held already.

        Raises:
            NotPermittedError: *requester* may not.
            NotRecordedError: it is not held.
        """
        requester.check()
        if not reason.strip():
            raise ValueError("a hold has a reason")
        hold = StudyHold(
            study_instance_uid=study_instance_uid,
            reason=reason,
            actor=requester.name,
            at=self._now(),
        )
        if not await self._holds.add(hold):
            return False
        if not await self._record(hold, requester.name, True):
            await self._holds.remove(study_instance_uid)
            raise NotRecordedError("the audit trail cannot be written; nothing was changed")
        return True

    async def release(self, study_instance_uid: str, requester: Requester) -> bool:
        """Hold a study no more; False: it is not held.

        Raises:
            NotPermittedError: *requester* may not.
            NotRecordedError: it is still held.
        """
        requester.check()
        held = {each.study_instance_uid: each for each in await self._holds.all()}
        hold = held.get(study_instance_uid)
        if hold is None or not await self._holds.remove(study_instance_uid):
            return False
        if not await self._record(hold, requester.name, False):
            await self._holds.add(hold)
            raise NotRecordedError("the audit trail cannot be written; nothing was changed")
        return True
