"""Correcting what the archive has: ordered, worked off, undone.

Whoever corrects has to say why.  From the moment at which a correction is ordered it holds, also
for what comes later, and it is brought to its end whatever happens: by whoever ordered it, by the
server, or after a crash by its next start.  One study after the other shows it, each at once.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import field
from time import time
from typing import Final

import trio

from isocenter.engine.dataset import DataSetError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.coercion.coercer import CoercionError
from isocenter.services.archive.corrections.making import Form, keep_forms, make_form
from isocenter.services.archive.corrections.planning import CorrectionPlan, Planner
from isocenter.services.archive.corrections.ports import (
    CorrectedStudy,
    CorrectionBook,
    CorrectionWork,
)
from isocenter.services.archive.corrections.values import Correction
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.archive.locks.lock import StudyLockedError
from isocenter.services.archive.object_scan import StoreError
from isocenter.services.archive.second_forms import GOODBYE_SECONDS
from isocenter.services.archive.stored_scan import for_each
from isocenter.services.errors import StorageError

log = logging.getLogger("isocenter.corrections")

#: How often the database is asked for what is to be done, and for what is to be cleared away.
LOOK_SECONDS: Final = 1.0
SWEEP_SECONDS: Final = 600.0
#: Studies, and objects of one, that are asked for together.
_STUDIES_AT_ONCE: Final = 20
_OBJECTS_AT_ONCE: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionHappened:
    """What is to be said of a correction in the audit trail.

    Attributes:
        is_undone: it holds no more; else it holds from now on.
        actor: who has it so.
        studies: by study, how many instances of each SOP class it is about.
    """

    correction: Correction
    is_undone: bool
    actor: str
    reason: str = field(repr=False)
    studies: Mapping[str, Mapping[str, int]]


#: Has it recorded, before it goes on.
CorrectionRecorder = Callable[[CorrectionHappened], Awaitable[None]]


async def record_nothing(happened: CorrectionHappened) -> None:
    """For archives without an audit trail."""


@asynccontextmanager
async def unlocked() -> AsyncIterator[None]:
    """For archives that one process uses."""
    yield


class Corrections:
    """Corrects objects of an archive.

    Args:
        record: has what happened recorded in the audit trail.
        locked: of all tasks and processes one works.
        breaks_signatures: correct also what a digital signature covers; else it stays as it is.
        now: seconds since 1970.
        token: eight new hexadecimal digits with each call.
    """

    def __init__(
        self,
        archive: Archive,
        book: CorrectionBook,
        *,
        record: CorrectionRecorder = record_nothing,
        locked: Callable[[], AbstractAsyncContextManager[None]] = unlocked,
        breaks_signatures: bool = False,
        now: Callable[[], float] = time,
        token: Callable[[], str] = lambda: secrets.token_hex(4),
    ) -> None:
        self.book = book
        self.planner = Planner(archive.index)
        self._archive = archive
        self._record = record
        self._locked = locked
        self._breaks_signatures = breaks_signatures
        self._now = now
        self._token = token

    async def order(self, plan: CorrectionPlan, requester: Requester, reason: str) -> int:
        """Have what *plan* says hold from now on, durably; the number of the correction.

        It shows when `work` has been through it.

        Raises:
            NotPermittedError: *requester* may not.
            CorrectionRefusedError: something is against it.
        """
        requester.check_correction()
        if not reason.strip():
            raise ValueError("a correction has a reason")
        correction = Correction(
            kind=plan.kind,
            scopes=plan.scopes,
            edits=plan.edits,
            at=self._now(),
            actor=requester.name,
            reason=reason,
        )
        number, instances = await self.book.order(correction)
        log.info("correction %d: %s, %d instances", number, plan.kind.value, instances)
        await self._tell(number, requester.name, reason, is_undone=False)
        return number

    async def undo(self, number: int, requester: Requester, reason: str) -> int:
        """Have a correction hold no more; for how many objects it did.

        What other corrections say of them still holds; without any they are what they were.

        Raises:
            NotPermittedError: *requester* may not.
            CorrectionRefusedError: there is none, or it was undone already.
        """
        requester.check_correction()
        if not reason.strip():
            raise ValueError("undoing a correction has a reason")
        instances = await self.book.undo(
            number, actor=requester.name, reason=reason, at=self._now()
        )
        log.info("correction %d is undone, %d instances", number, instances)
        await self._tell(number, requester.name, reason, is_undone=True)
        return instances

    async def _tell(self, number: int, actor: str, reason: str, *, is_undone: bool) -> None:
        summary = await self.book.get(number)
        assert summary is not None
        await self._record(
            CorrectionHappened(
                correction=summary.correction,
                is_undone=is_undone,
                actor=actor,
                reason=reason,
                studies=await self.book.touched(number),
            )
        )

    # -- Working it off ---------------------------------------------------------------

    async def run(self) -> None:
        """Work off what is ordered, until cancelled."""
        sweep_at = trio.current_time()
        while True:
            try:
                if await self.book.studies(1):
                    await self.work()
                if trio.current_time() >= sweep_at:
                    sweep_at = trio.current_time() + SWEEP_SECONDS
                    await self.sweep()
            except StorageError as error:
                log.error("corrections have to wait: %s", error)
            await trio.sleep(LOOK_SECONDS)

    async def work(self, progress: Callable[[int], None] = lambda instances: None) -> int:
        """Do all that is ordered; how many objects show it now.

        Args:
            progress: called with the objects that are made so far.

        Raises:
            StorageError: it cannot be done now.
        """
        done = made = 0

        def count(instances: int) -> None:
            nonlocal made
            made += instances
            progress(made)

        async with self._locked():
            await self._clear()
            passed: set[str] = set()
            while True:
                studies = [
                    study
                    for study in await self.book.studies(_STUDIES_AT_ONCE + len(passed))
                    if study not in passed
                ]
                if not studies:
                    return done
                for study in studies:
                    done += await self._work_on(study, count)
                    passed.add(study)

    async def _work_on(self, study: str, count: Callable[[int], None]) -> int:
        while True:
            while due := await self.book.due(study, _OBJECTS_AT_ONCE):
                await self._make_all(due)
                count(len(due))
            try:
                # Who reads it now is to get all of one form.
                async with self._archive.locks.exclusive(study, "corrections") as lock:
                    await lock.confirm()
                    with trio.CancelScope(shield=True):
                        exchanged = await self.book.exchange(study)
                        if exchanged is not None:
                            await self._applied(exchanged)
                            await self._clear()
            except StudyLockedError as error:
                log.info("study %s shows its correction later: %s", study, error.holder)
                return 0
            # Else something came, or another correction was ordered.
            if exchanged is not None:
                return len(exchanged.instances)

    async def _make_all(self, due: Sequence[CorrectionWork]) -> None:
        """Make forms some at a time, durable in one round: a sync costs the same for many."""
        forms: list[Form] = []
        failures: list[Exception] = []

        async def make(work: CorrectionWork) -> None:
            try:
                form = await self._make(work)
            except StorageError as error:
                failures.append(error)
            else:
                if form is not None:
                    forms.append(form)

        try:
            await for_each(due, make)
            if failures:
                raise failures[0]
        except BaseException:
            with trio.move_on_after(GOODBYE_SECONDS, shield=True):
                for form in forms:
                    if form.staged is not None:
                        await form.staged.discard()
            raise
        if forms:
            await keep_forms(self._archive, self.book, forms)

    async def _make(self, work: CorrectionWork) -> Form | None:
        try:
            return await make_form(
                self._archive,
                work,
                breaks_signatures=self._breaks_signatures,
                token=self._token,
            )
        except (DataSetError, CoercionError, StoreError) as error:
            reason = str(error)
        except KeyError:
            # Deleted since, or its file is lost.
            known = await self._archive.index.get([work.sop_instance_uid])
            if work.sop_instance_uid not in known:
                return None
            reason = "its original is gone"
        log.warning("instance %s is not corrected: %s", work.sop_instance_uid, reason)
        await self.book.failed(work, reason)
        return None

    async def _applied(self, exchanged: CorrectedStudy) -> None:
        if not exchanged.instances:
            return
        counts = Counter(after.study_instance_uid for _, after in exchanged.instances)
        for study, number in counts.items():
            log.info("%d instances of study %s are corrected", number, study)

    async def _clear(self) -> None:
        """Remove what nothing names any more."""
        keys = await self.book.leaving()
        if not keys:
            return
        indexed = await self._archive.are_indexed(keys)
        await self._archive.remove_unnamed(
            [key for key, is_in in zip(keys, indexed, strict=True) if not is_in]
        )
        await self.book.removed(keys)

    async def sweep(self) -> None:
        """Remove the originals of what was deleted for good.

        Raises:
            StorageError: it cannot be done now.
        """
        async with self._locked():
            await self.book.sweep()
            await self._clear()
