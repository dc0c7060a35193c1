"""Who reads a study, who changes it, and processes that ask each other."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pytest
import trio
import trio.testing

from isocenter.services.archive.deletion.ports import DeletionRefusedError
from isocenter.services.archive.locks import keeper
from isocenter.services.archive.locks.administration import LockAdministration
from isocenter.services.archive.locks.keeper import StudyLocks
from isocenter.services.archive.locks.lock import LockEnded, LockKind, StudyLock, StudyLockedError
from isocenter.services.archive.locks.reading import READING, Reading, check_reading
from isocenter.services.archive.opened_ahead import OpenedAhead
from isocenter.services.cluster.fence import HELD
from isocenter.services.errors import StorageError
from isocenter.services.system.process_names import has_ended, process_name
from isocenter.storage.database.fencing import FencedDatabase
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.database.study_locks import DatabaseStudyLocks
from isocenter.storage.objects.memory import MemoryStore
from services.archive.test_deleting import place
from services.archive_support import STUDY, opened, store, uid
from support.virtual_database import ShortWay, VirtualDatabase, database_server

A = "1.2.3"
B = "1.2.4"
PATIENCE = 120.0


def name_of_the_dead() -> str:
    """What a process was called that has ended."""
    with subprocess.Popen([sys.executable, "-c", "pass"]) as child:
        pass
    return process_name().replace(f"/{os.getpid()}/", f"/{child.pid}/")


@asynccontextmanager
async def processes(*names: str) -> AsyncIterator[list[StudyLocks]]:
    """Several processes of one archive, as far as locks know."""
    async with open_sqlite_database(":memory:") as database:
        made = [StudyLocks(DatabaseStudyLocks(database), process=name) for name in names]
        async with trio.open_nursery() as nursery:
            for locks in made:
                nursery.start_soon(locks.run)
            yield made
            for locks in made:
                locks.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(keeper, "_ASK_SECONDS", 0.01)


async def test_many_read_and_one_changes() -> None:
    locks = StudyLocks()
    async with locks.reading({A}, "one"), locks.reading({A, B}, "two"):
        with pytest.raises(StudyLockedError, match="one, two"):
            async with locks.exclusive(A, "alice", wait=0):
                pytest.fail("two still read it")
    async with locks.exclusive(A, "alice", "deletion"):
        with pytest.raises(StudyLockedError, match=r"alice \(deletion\)"):
            await locks.begin({B, A}, "three", wait=0)
        with pytest.raises(StudyLockedError, match="alice"):
            async with locks.exclusive(A, "bob", wait=0):
                pytest.fail("alice has it")
        async with locks.exclusive(B, "bob"):
            pass
    async with locks.reading({A}, "four"):
        pass


async def test_whoever_waits_goes_on_as_soon_as_it_is_free() -> None:
    locks = StudyLocks()
    order: list[str] = []

    async def change() -> None:
        async with locks.exclusive(A, "alice", wait=PATIENCE):
            order.append("changed")

    async def read(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        async with locks.reading({A}, "late", wait=PATIENCE):
            order.append("read")

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery, locks.reading({A}, "early"):
            nursery.start_soon(change)
            await trio.testing.wait_all_tasks_blocked()
            # Whoever comes now stands behind who wants to change it.
            await nursery.start(read)
            await trio.testing.wait_all_tasks_blocked()
            order.append("early")
    assert order == ["early", "changed", "read"]


async def test_another_process_that_reads_is_waited_for() -> None:
    with trio.fail_after(PATIENCE):
        async with processes("p1", "p2") as (one, two):
            async with one.reading({A}, "C-GET of X"):
                with pytest.raises(StudyLockedError, match="C-GET of X"):
                    async with two.exclusive(A, "alice", wait=0.5):
                        pytest.fail("another process reads it")
                async with two.exclusive(B, "alice", wait=PATIENCE):
                    pass
            async with two.exclusive(A, "alice", wait=PATIENCE):
                pass


async def test_another_process_begins_to_read_nothing_that_is_locked() -> None:
    with trio.fail_after(PATIENCE):
        async with processes("p1", "p2") as (one, two):
            # The first that it reads at all, when the lock is there already.
            async with two.exclusive(A, "alice", wait=PATIENCE):
                with pytest.raises(StudyLockedError, match="alice"):
                    await one.begin({A}, "C-GET of X", wait=0)
            # And when it reads all the time.
            async with one.reading({B}, "C-GET of Y"), two.exclusive(A, "bob", wait=PATIENCE):
                with pytest.raises(StudyLockedError, match="bob"):
                    await one.begin({A}, "C-GET of X", wait=0)
            async with one.reading({A}, "C-GET of X", wait=PATIENCE):
                pass


async def test_what_was_looked_for_before_a_change_is_known_to_be_old() -> None:
    with trio.fail_after(PATIENCE):
        async with processes("p1", "p2") as (one, two), one.reading({B}, "somebody"):
            before = one.generation
            async with two.exclusive(A, "alice", wait=PATIENCE):
                pass
            async with one.reading({A}, "C-GET of X", wait=PATIENCE):
                assert one.generation != before


async def test_a_process_that_was_killed_is_not_waited_for() -> None:
    async with open_sqlite_database(":memory:") as database:
        book = DatabaseStudyLocks(database)
        await book.announce(name_of_the_dead(), 90.0)
        async with StudyLocks(book).exclusive(A, "alice", wait=0):
            pass


def test_it_can_be_told_whether_a_process_has_ended() -> None:
    own = process_name()
    assert not has_ended(own)
    assert not has_ended("elsewhere/1/aa")
    assert not has_ended("")
    dead = name_of_the_dead()
    assert has_ended(dead)
    # On another machine, or in another container, that has the same name.
    machine, _, rest = dead.partition("/")
    for other in (f"{machine[:-8]}00000000", machine[:-9], socket.gethostname()):
        assert not has_ended(f"{other}/{rest}")


async def test_whoever_loses_a_lock_knows_before_the_next_step() -> None:
    async with open_sqlite_database(":memory:") as database:
        book = DatabaseStudyLocks(database)
        told: list[tuple[str, str, str]] = []

        async def record(lock: StudyLock, actor: str, reason: str) -> None:
            told.append((lock.holder, actor, reason))

        administration = LockAdministration(book, record)
        assert not await administration.release(A, "bob", "why not")
        async with StudyLocks(book).exclusive(A, "alice") as lock:
            await lock.confirm()
            assert await administration.release(A, "bob", "it hangs")
            assert told == [("alice", "bob", "it hangs")]
            async with StudyLocks(book).exclusive(A, "carol", kind=LockKind.MIGRATION):
                with pytest.raises(StudyLockedError, match="taken away"):
                    await lock.confirm()
                (other,) = await administration.all()
                assert other.holder == "carol"
        assert await book.all() == []


async def test_reading_writes_nothing_but_once_in_a_process() -> None:
    written = 0

    class Counting(DatabaseStudyLocks):
        async def announce(self, process: str, seconds: float) -> None:
            nonlocal written
            written += 1
            await super().announce(process, seconds)

    async with open_sqlite_database(":memory:") as database:
        locks = StudyLocks(Counting(database))
        for number in range(100):
            async with locks.reading({f"1.{number}"}, "reader"):
                pass
    assert written == 1


async def test_a_lock_that_could_not_be_released_is_not_renewed_with_others() -> None:
    class Failing(DatabaseStudyLocks):
        errors: ClassVar[list[Exception]] = [RuntimeError("a fault of ours"), StorageError("away")]

        async def release(self, lock: StudyLock, *, waited: float = 0.0) -> None:
            if self.errors:
                raise self.errors.pop()
            await super().release(lock, waited=waited)

            released.set()

    released = trio.Event()
    async with open_sqlite_database(":memory:") as database, trio.open_nursery() as nursery:
        book = Failing(database)
        locks = StudyLocks(book)
        nursery.start_soon(locks.run)
        async with locks.exclusive(A, "alice"):
            # This one fails, and so does the first who tries it again.
            async with locks.exclusive(B, "alice"):
                pass
            with trio.fail_after(PATIENCE):
                await released.wait()
            (left,) = await book.all()
            assert left.study_instance_uid == A
        locks.close()


async def test_whoever_was_cancelled_while_taking_a_lock_leaves_none() -> None:
    class Slow(DatabaseStudyLocks):
        async def take(self, lock: StudyLock, seconds: float) -> StudyLock | None:
            await super().take(lock, seconds)
            scope.cancel()
            await trio.sleep_forever()

        async def release(self, lock: StudyLock, *, waited: float = 0.0) -> None:
            await super().release(lock, waited=waited)
            released.set()

    scope, released = trio.CancelScope(), trio.Event()
    async with open_sqlite_database(":memory:") as database, trio.open_nursery() as nursery:
        book = Slow(database)
        locks = StudyLocks(book)
        nursery.start_soon(locks.run)
        with scope:
            async with locks.exclusive(A, "alice"):
                pytest.fail("it was cancelled")
        with trio.fail_after(PATIENCE):
            await released.wait()
        assert not await book.all()
        locks.close()


async def test_of_two_looks_the_earlier_one_does_not_forget_a_lock() -> None:
    seen, gate, ended, have_read = trio.Event(), trio.Event(), trio.Event(), trio.Event()
    overlaps: list[bool] = []
    is_changing = False

    class Slow(DatabaseStudyLocks):
        is_first = True

        async def others(self, process: str) -> Sequence[StudyLock]:
            found = await super().others(process)
            if process == "p1" and self.is_first:
                self.is_first = False
                seen.set()
                await gate.wait()
            return found

    async with open_sqlite_database(":memory:") as database, trio.open_nursery() as nursery:
        one = StudyLocks(Slow(database), process="p1")
        two = StudyLocks(DatabaseStudyLocks(database), process="p2")

        async def read(study: str) -> None:
            async with one.reading({study}, f"reader of {study}", wait=PATIENCE):
                overlaps.append(study == A and is_changing)
                if len(overlaps) == 2:
                    have_read.set()

        async def change() -> None:
            nonlocal is_changing
            async with two.exclusive(A, "alice", wait=PATIENCE):
                is_changing = True
                await ended.wait()
                is_changing = False

        for locks in (one, two):
            nursery.start_soon(locks.run)
        nursery.start_soon(read, A)
        with trio.fail_after(PATIENCE):
            await seen.wait()
            nursery.start_soon(change)
            nursery.start_soon(read, B)
            for _ in range(20):
                await trio.testing.wait_all_tasks_blocked(0.005)
            gate.set()
            await have_read.wait()
        assert overlaps == [False, False]
        ended.set()
        for locks in (one, two):
            locks.close()


async def test_a_study_that_is_read_is_not_deleted(tmp_path: Path) -> None:
    async with place(tmp_path, locks=StudyLocks(wait_seconds=0.0)) as archive:
        await store(archive.archive, 1)
        async with archive.archive.locks.reading({STUDY}, "C-GET of X"):
            with pytest.raises(DeletionRefusedError, match="C-GET of X"):
                await archive.delete()
            assert await archive.instances() == {uid(1)}
            await archive.delete(passes_refused=True)
            assert await archive.instances() == {uid(1)}
        await archive.delete()
        assert await archive.instances() == set()
        await archive.check()


class Cut(ShortWay):
    """A way to the database that may be cut."""

    is_cut = False

    async def there(self, name: str) -> None:
        await super().there(name)
        if self.is_cut:
            raise StorageError("the database does not answer")


async def test_whoever_the_database_hears_nothing_of_reads_no_more(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After that time others change what it reads, and do not wait for it."""
    monkeypatch.setattr(keeper, "LOOK_SECONDS", 5.0)
    monkeypatch.setattr(keeper, "_ASK_SECONDS", 1.0)
    way = Cut()
    with database_server() as server:
        one = StudyLocks(DatabaseStudyLocks(VirtualDatabase(server, way)), process="p1")
        two = StudyLocks(DatabaseStudyLocks(VirtualDatabase(server)), process="p2")
        async with trio.open_nursery() as nursery:
            for locks in (one, two):
                nursery.start_soon(locks.run)
            async with one.reading({A}, "C-GET of X"):
                way.is_cut = True
                with pytest.raises(StudyLockedError):
                    async with two.exclusive(A, "alice", wait=60.0):
                        pytest.fail("it is waited for")
                check_reading()  # and it may go on so long
                async with two.exclusive(A, "alice", wait=60.0):
                    with pytest.raises(StorageError, match="may have been changed"):
                        check_reading()
                with pytest.raises(StorageError, match="does not answer"):
                    await one.begin({B}, "C-GET of Y")
                before = one.generation
                way.is_cut = False
                async with one.reading({B}, "C-GET of Z"):
                    check_reading()
                assert one.generation > before
            # Whoever began before is not back.
            async with trio.open_nursery() as inner:
                end = await one.begin({A}, "C-GET of X")
                way.is_cut = True
                await trio.sleep(200)
                way.is_cut = False
                await trio.sleep(60)
                with pytest.raises(StorageError, match="may have been changed"):
                    check_reading()
                end()
                check_reading()
                inner.cancel_scope.cancel()
            for locks in (one, two):
                locks.close()


async def test_whoever_stands_still_for_longer_than_its_lock_writes_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with database_server() as server:
        database = FencedDatabase(VirtualDatabase(server))
        one = StudyLocks(DatabaseStudyLocks(database), process="p1")
        two = StudyLocks(DatabaseStudyLocks(VirtualDatabase(server)), process="p2")
        async with one.exclusive(A, "alice") as lock:
            await lock.confirm()
            await trio.sleep(keeper.LOCK_SECONDS + 1)
            async with two.exclusive(A, "bob"):
                pass
            with pytest.raises(StorageError, match="the lock of a study is not ours any more"):
                await database.write(lambda connection: pytest.fail("it may not write"))
            with pytest.raises(StudyLockedError, match="was not renewed in time"):
                await lock.confirm()
        assert HELD.get() == ()
        await database.write(lambda connection: None)


async def test_an_object_is_not_opened_for_whoever_may_read_it_no_more() -> None:
    async with opened(MemoryStore()) as archive:
        stored = (await store(archive, 1)).instance
        reading = Reading(lambda: False)
        READING.set(reading)
        for opening in (archive.open, archive.open_in_place, OpenedAhead(archive, [stored]).open):
            with pytest.raises(StorageError, match="may have been changed"):
                await opening(stored)
        reading.is_over = True
        async with await archive.open(stored):
            pass


async def test_what_becomes_of_locks_is_told_and_counted() -> None:
    ended: list[LockEnded] = []
    async with open_sqlite_database(":memory:") as database:
        book = DatabaseStudyLocks(database)
        locks = StudyLocks(book, process="p1")
        locks.on_end = ended.append
        async with locks.exclusive(A, "alice"):
            with pytest.raises(StudyLockedError):
                async with locks.exclusive(A, "bob", wait=0):
                    pass
        async with locks.reading([A], "carol"):
            with pytest.raises(StudyLockedError):
                async with locks.exclusive(A, "bob", kind=LockKind.MIGRATION, wait=0):
                    pass
        exclusive, migration = await book.counts()
    assert [(one.kind.value, one.outcome) for one in ended] == [
        ("exclusive", "refused"), ("exclusive", "released"), ("migration", "refused"),
    ]  # fmt: skip
    assert (exclusive.taken, exclusive.released, exclusive.refused) == (1, 1, 1)
    assert migration.refused == 1
