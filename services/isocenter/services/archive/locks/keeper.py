"""Keeper of study locks in one process.

Many may read a study at once, and nobody while somebody changes it.  To read costs a look into
memory: who reads registers here, and tells other processes only when one of them wants the study
for itself.  Who changes a study writes a row, closes the study to new readers everywhere, and
waits until those that there are have ended::

    taker                         each process that reads
    row: study is locked  ──────► sees it: lets nobody begin, says who reads it
    waits                 ◄────── says when nobody does
    changes the study
    row is gone           ──────► lets readers begin again

A process that dies is waited for until its time is over.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import field
from math import inf
from typing import Final

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.locks.lock import LockEnded, LockKind, StudyLock, StudyLockedError
from isocenter.services.archive.locks.ports import LockBook
from isocenter.services.archive.locks.reading import READING, Reading
from isocenter.services.archive.reading import ReadLocks
from isocenter.services.cluster.fence import HELD, LeaseLostError, LockFence
from isocenter.services.errors import StorageError
from isocenter.services.system.process_names import has_ended, process_name

log = logging.getLogger("isocenter.locks")

#: How often a process looks for locks of others.
LOOK_SECONDS: Final = 0.5
#: How long a lock holds; it is renewed long before.
LOCK_SECONDS: Final = 30.0
_RENEW_SECONDS: Final = 8.0
#: How long a process that reads is asked after it said so last.
_ANNOUNCED_SECONDS: Final = 90.0
_ANNOUNCE_SECONDS: Final = 30.0
#: How long whoever wants a study waits for it.
WAIT_SECONDS: Final = 5.0
#: How often it asks meanwhile.
_ASK_SECONDS: Final = 0.1
_GOODBYE_SECONDS: Final = 2.0
#: Readers that are named; a study may have hundreds.
_MOST_NAMED: Final = 5
_LOST: Final = "the lock was taken away, or was not renewed in time"


@dataclass(slots=True)
class HeldLock:
    """A lock that its task has.

    Attributes:
        is_lost: somebody took it away, or it was not renewed in time.
    """

    lock: StudyLock
    _book: LockBook | None
    is_lost: bool = field(default=False)
    #: When its body began; None: it never did.
    since: float | None = field(default=None)
    waited: float = field(default=0.0)
    has_waited: bool = field(default=False)

    async def confirm(self) -> None:
        """Before a step that needs it: it is ours, and stays so for `LOCK_SECONDS`.

        Raises:
            StudyLockedError: it is not.
            StorageError: that cannot be known.
        """
        if self._book is not None and not self.is_lost:
            try:
                held = await self._book.renew(self.lock.process, LOCK_SECONDS)
            except LeaseLostError:
                held = ()
            self.is_lost = self.lock.lock_id not in held
        if self.is_lost:
            raise StudyLockedError(self.lock.study_instance_uid, _LOST)


class StudyLocks(ReadLocks):
    """Lets tasks read and change studies.

    Args:
        book: of all processes; None: there are no others.
        process: names this one.
        wait_seconds: how long a study is waited for, unless somebody says otherwise.
    """

    def __init__(
        self,
        book: LockBook | None = None,
        *,
        process: str = "",
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self.wait_seconds = wait_seconds
        self._book = book
        self._process = process or process_name()
        self._readers: dict[str, Counter[str]] = {}
        self._own: dict[str, HeldLock] = {}
        #: Studies that others have locked, and who.
        self._foreign: dict[str, StudyLock] = {}
        #: IDs of locks of others, and what was answered.
        self._answered: dict[str, str] = {}
        #: Locks of ours that nobody needs any more, and that may still stand in the book, and for
        #: how long somebody waited for them.
        self._unreleased: dict[str, tuple[StudyLock, float]] = {}
        #: Is told of each lock of this process that is over.
        self.on_end: Callable[[LockEnded], None] = lambda ended: None
        #: Of two looks the earlier one never has the last word.
        self._looking = trio.Lock()
        #: Grows whenever a study was, or may have been, changed under a lock.
        self._generation = 0
        self._is_announced = False
        #: Until when others wait for this process, and how often it was not so before.
        self._waited_until = -inf
        self._contact = 0
        self._has_begun = trio.Event()
        self._scope = trio.CancelScope()
        self._changed = trio.Event()
        self._fault = ""

    # -- Reading ----------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """See `ReadLocks.generation`."""
        return self._generation

    async def begin(
        self, studies: Collection[str], reader: str, *, wait: float | None = None
    ) -> Callable[[], None]:
        """See `ReadLocks.begin`."""
        if self._book is not None and not self._is_waited_for():
            await self._announce(self._book)
        deadline = self._deadline(wait)
        while locked := self._lock_of(studies):
            await self._wait(deadline, locked.study_instance_uid, _text(locked))
        begun = set(studies)
        for study in begun:
            self._readers.setdefault(study, Counter())[reader] += 1
        begun_as = self._contact
        reading = Reading(lambda: self._contact == begun_as and self._is_waited_for())
        READING.set(reading)

        def end() -> None:
            reading.is_over = True
            while begun:
                study = begun.pop()
                count = self._readers[study]
                count[reader] -= 1
                if not count[reader]:
                    del count[reader]
                if not count:
                    del self._readers[study]
            if self._own:
                self._wake()

        return end

    def _is_waited_for(self) -> bool:
        """Whether others ask this process before they change what it reads."""
        return self._book is None or trio.current_time() < self._waited_until

    def _lock_of(self, studies: Collection[str]) -> StudyLock | None:
        if not self._own and not self._foreign:
            return None
        for study in studies:
            if study in self._own:
                return self._own[study].lock
            if study in self._foreign:
                return self._foreign[study]
        return None

    # -- Changing ---------------------------------------------------------------------

    @asynccontextmanager
    async def exclusive(
        self,
        study_instance_uid: str,
        holder: str,
        reason: str = "",
        *,
        kind: LockKind = LockKind.EXCLUSIVE,
        wait: float | None = None,
    ) -> AsyncIterator[HeldLock]:
        """While it lasts nobody else reads or changes the study.

        Each transaction of its task looks whether the lock still holds, and fails if not.

        Args:
            holder: who, for those who are refused and may know.
            reason: what for; without patients.
            wait: seconds that others are waited for; 0: it is tried once.

        Raises:
            StudyLockedError: somebody reads or changes it.
            StorageError: other processes cannot be asked.
        """
        deadline = self._deadline(wait)
        lock = StudyLock(
            study_instance_uid=study_instance_uid,
            lock_id=secrets.token_hex(8),
            kind=kind,
            holder=holder,
            reason=reason,
            process=self._process,
            since=0.0,
            until=0.0,
        )
        asked_at = trio.current_time()
        try:
            held = await self._take(lock, deadline)
        except StudyLockedError:
            await self._refused(kind, asked_at)
            raise
        try:
            try:
                while readers := await self._readers_of(lock):
                    held.has_waited = True
                    await self._wait(deadline, study_instance_uid, _named(readers))
            except StudyLockedError:
                await self._refused(kind, asked_at)
                raise
            held.since = trio.current_time()
            held.waited = held.since - asked_at if held.has_waited else 0.0
            fences = () if self._book is None else (LockFence(lock_id=lock.lock_id),)
            token = HELD.set(HELD.get() + fences)
            try:
                yield held
            finally:
                HELD.reset(token)
        finally:
            with trio.move_on_after(_GOODBYE_SECONDS, shield=True):
                await self._release(held)
            self._wake()

    async def _take(self, lock: StudyLock, deadline: float) -> HeldLock:
        study = lock.study_instance_uid
        has_waited = False
        while True:
            known = self._own.get(study)
            other = None if known is None else known.lock
            if other is None:
                # Before anything else happens: nobody here begins to read it.
                held = self._own[study] = HeldLock(lock, self._book)
                try:
                    other = (
                        None if self._book is None else await self._book.take(lock, LOCK_SECONDS)
                    )
                except BaseException:
                    del self._own[study]
                    # It may stand in the book all the same, and would be renewed with others.
                    self._unreleased[lock.lock_id] = (lock, 0.0)
                    self._has_begun.set()
                    raise
                if other is None:
                    self._has_begun.set()
                    held.has_waited = has_waited
                    return held
                del self._own[study]
            has_waited = True
            await self._wait(deadline, study, _text(other))

    async def _readers_of(self, lock: StudyLock) -> list[str]:
        found = list(self._readers.get(lock.study_instance_uid, ()))
        if self._book is None or found:
            return found
        for process, readers in (await self._book.readers(lock)).items():
            if has_ended(process):
                await self._book.withdraw(process)
            else:
                found.append(readers or f"process {process}, which has not answered yet")
        return found

    async def _release(self, held: HeldLock) -> None:
        self._generation += 1
        if held.since is not None:
            outcome = "lost" if held.is_lost else "released"
            seconds = trio.current_time() - held.since
            self.on_end(LockEnded(kind=held.lock.kind, outcome=outcome, seconds=seconds))
        del self._own[held.lock.study_instance_uid]
        if self._book is not None:
            self._unreleased[held.lock.lock_id] = (held.lock, held.waited)
            try:
                await self._release_all(self._book, [(held.lock, held.waited)])
            except StorageError as error:
                log.error(
                    "the lock of study %s is released later: %s",
                    held.lock.study_instance_uid,
                    error,
                )

    async def _refused(self, kind: LockKind, asked_at: float) -> None:
        """It is counted; whoever was refused hears of nothing else."""
        seconds = trio.current_time() - asked_at
        self.on_end(LockEnded(kind=kind, outcome="refused", seconds=seconds))
        if self._book is not None:
            try:
                await self._book.note_refused(kind)
            except StorageError as error:
                log.warning("a refused lock is not counted: %s", error)

    async def _release_all(
        self, book: LockBook, locks: Collection[tuple[StudyLock, float]]
    ) -> None:
        for lock, waited in locks:
            await book.release(lock, waited=waited)
            self._unreleased.pop(lock.lock_id, None)

    async def _wait(self, deadline: float, study: str, who: str) -> None:
        left = deadline - trio.current_time()
        if left <= 0:
            raise StudyLockedError(study, who)
        changed = self._changed
        with trio.move_on_after(min(left, _ASK_SECONDS)):
            await changed.wait()

    def _deadline(self, wait: float | None) -> float:
        return trio.current_time() + (self.wait_seconds if wait is None else wait)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # -- Other processes --------------------------------------------------------------

    async def run(self) -> None:
        """Look after locks, until `close`; what is this process's own is void afterwards."""
        if self._book is None:
            return
        try:
            with self._scope:
                await self._has_begun.wait()
                announce_at = renew_at = trio.current_time()
                while True:
                    now = trio.current_time()
                    try:
                        if self._own and now >= renew_at:
                            await self._renew(self._book)
                            renew_at = now + _RENEW_SECONDS
                        if self._is_announced and now >= announce_at:
                            await self._announce(self._book)
                            announce_at = now + _ANNOUNCE_SECONDS
                        else:
                            await self._look(self._book)
                        await self._release_all(self._book, list(self._unreleased.values()))
                        self._fault = ""
                    except StorageError as error:
                        self._tell(str(error))
                    except Exception as error:
                        # A fault of ours, and no reason for the server to end.
                        self._tell(f"internal error ({type(error).__name__})")
                    await trio.sleep(LOOK_SECONDS)
        finally:
            if self._has_begun.is_set():
                with trio.move_on_after(_GOODBYE_SECONDS, shield=True):
                    await self._withdraw(self._book)

    def _tell(self, fault: str) -> None:
        """Once, until it is something else."""
        if fault != self._fault:
            self._fault = fault
            log.error("locks of studies cannot be looked after: %s", fault)

    def close(self) -> None:
        """End `run`."""
        self._scope.cancel()

    async def _announce(self, book: LockBook) -> None:
        asked_at = trio.current_time()
        await book.announce(self._process, _ANNOUNCED_SECONDS)
        # Whoever took a lock just before does not wait for us.
        await self._look(book)
        if self._is_announced and not self._is_waited_for():
            # What was being read, or looked for, may have been changed meanwhile.
            self._contact += 1
            self._generation += 1
            log.warning(
                "the database was away for more than %.0f s: what was being read is void",
                _ANNOUNCED_SECONDS,
            )
        self._waited_until = max(self._waited_until, asked_at + _ANNOUNCED_SECONDS)
        self._is_announced = True
        self._has_begun.set()

    async def _withdraw(self, book: LockBook) -> None:
        try:
            await book.withdraw(self._process)
        except StorageError as error:
            log.error("locks of this process hold until their time is over: %s", error)

    async def _renew(self, book: LockBook) -> None:
        had = list(self._own.values())
        kept = await book.renew(self._process, LOCK_SECONDS)
        for held in had:
            if (
                held.lock.lock_id not in kept
                and self._own.get(held.lock.study_instance_uid) is held
            ):
                held.is_lost = True
                log.warning("study %s: %s", held.lock.study_instance_uid, _LOST)

    async def _look(self, book: LockBook) -> None:
        async with self._looking:
            await self._look_alone(book)

    async def _look_alone(self, book: LockBook) -> None:
        found = {lock.study_instance_uid: lock for lock in await book.others(self._process)}
        if found.keys() != self._foreign.keys():
            self._generation += 1
        self._foreign = found
        ids = {lock.lock_id for lock in found.values()}
        self._answered = {name: text for name, text in self._answered.items() if name in ids}
        answers: dict[str, str] = {}
        for study, lock in found.items():
            text = _named(self._readers.get(study, ()))
            if self._answered.get(lock.lock_id) != text:
                answers[lock.lock_id] = text
        if answers:
            await book.answer(self._process, answers)
            self._answered |= answers
        self._wake()


def _named(readers: Collection[str]) -> str:
    names = sorted(readers)
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _text(lock: StudyLock) -> str:
    return f"{lock.holder} ({lock.reason})" if lock.reason else lock.holder
