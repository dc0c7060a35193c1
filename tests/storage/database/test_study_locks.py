"""Locks of studies, in the database."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from isocenter.services.archive.locks.lock import LockCount, LockKind, StudyLock
from isocenter.storage.database.study_locks import DatabaseStudyLocks, release_study_locks
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")

LOCK = StudyLock(
    study_instance_uid="1.2", lock_id="a", kind=LockKind.EXCLUSIVE, holder="alice",
    reason="deletion", process="p1", since=0.0, until=0.0,
)  # fmt: skip
OTHERS = replace(LOCK, lock_id="b", holder="bob", process="p2")


class Clock:
    """The clock of the database, in a test."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def book(clock: Clock) -> AsyncIterator[DatabaseStudyLocks]:
    async with open_database() as database:
        yield DatabaseStudyLocks(database, now=clock)


async def test_a_lock_is_one_holders_until_it_is_released(book: DatabaseStudyLocks) -> None:
    assert await book.take(LOCK, 30.0) is None
    known = await book.take(OTHERS, 30.0)
    assert known == replace(LOCK, since=1_000_000.0, until=1_000_030.0)
    assert await book.take(replace(OTHERS, study_instance_uid="1.3", lock_id="c"), 30.0) is None
    await book.release(LOCK)
    assert await book.take(OTHERS, 30.0) is None


async def test_one_that_is_not_renewed_is_anybodys(book: DatabaseStudyLocks, clock: Clock) -> None:
    assert await book.take(LOCK, 30.0) is None
    clock.now += 20.0
    assert await book.renew("p1", 30.0) == {"a"}
    clock.now += 20.0
    assert await book.take(OTHERS, 30.0) is not None
    clock.now += 11.0
    assert await book.take(OTHERS, 30.0) is None
    assert await book.renew("p1", 30.0) == set()
    await book.release(LOCK)  # it is somebody else's by now
    assert [lock.holder for lock in await book.all()] == ["bob"]


async def test_a_migration_that_waits_comes_before_others(
    book: DatabaseStudyLocks, clock: Clock
) -> None:
    migration = replace(LOCK, lock_id="m", kind=LockKind.MIGRATION, process="p3", holder="tiers")
    assert await book.take(LOCK, 30.0) is None
    assert await book.take(migration, 30.0) is not None
    await book.release(LOCK)
    refused = await book.take(OTHERS, 30.0)
    assert refused is not None
    assert refused.kind is LockKind.MIGRATION
    assert await book.take(migration, 30.0) is None
    await book.release(migration)
    assert await book.take(OTHERS, 30.0) is None


async def test_a_migration_that_gave_up_holds_nobody_up(
    book: DatabaseStudyLocks, clock: Clock
) -> None:
    migration = replace(LOCK, lock_id="m", kind=LockKind.MIGRATION, process="p3")
    assert await book.take(LOCK, 30.0) is None
    assert await book.take(migration, 30.0) is not None
    await book.release(LOCK)
    clock.now += 3.0
    assert await book.take(OTHERS, 30.0) is None


async def test_processes_that_read_are_waited_for_until_they_answer(
    book: DatabaseStudyLocks, clock: Clock
) -> None:
    for process in ("p1", "p2", "p3"):
        await book.announce(process, 90.0)
    assert await book.take(LOCK, 30.0) is None
    assert await book.readers(LOCK) == {"p2": "", "p3": ""}
    assert [lock.lock_id for lock in await book.others("p2")] == ["a"]
    assert await book.others("p1") == []
    await book.answer("p2", {"a": "C-GET of X"})
    await book.answer("p3", {"a": ""})
    assert await book.readers(LOCK) == {"p2": "C-GET of X"}
    (shown,) = await book.all()
    assert shown.readers == ("C-GET of X",)
    await book.answer("p2", {"a": ""})
    assert await book.readers(LOCK) == {}
    # An answer is about one lock, not about the next of that study.
    await book.release(LOCK)
    again = replace(LOCK, lock_id="c")
    assert await book.take(again, 30.0) is None
    assert await book.readers(again) == {"p2": "", "p3": ""}


async def test_a_process_that_is_gone_is_not_waited_for(
    book: DatabaseStudyLocks, clock: Clock
) -> None:
    await book.announce("p2", 90.0)
    await book.announce("p3", 90.0)
    assert await book.take(OTHERS, 300.0) is None
    await book.withdraw("p2")
    assert await book.take(LOCK, 300.0) is None, "its locks are free"
    clock.now += 91.0
    assert await book.readers(LOCK) == {}


async def test_somebody_may_take_a_lock_away(book: DatabaseStudyLocks) -> None:
    assert await book.force("1.2") is None
    assert await book.take(LOCK, 30.0) is None
    taken = await book.force("1.2")
    assert taken is not None
    assert taken.holder == "alice"
    assert await book.renew("p1", 30.0) == set()


async def test_a_start_finds_nothing_locked_by_earlier_processes(clock: Clock) -> None:
    async with open_database() as database:
        book = DatabaseStudyLocks(database, now=clock)
        await book.announce("p2", 90.0)
        assert await book.take(OTHERS, 30.0) is None
        await database.write(release_study_locks)
        assert await book.all() == []
        assert await book.take(LOCK, 30.0) is None
        assert await book.readers(LOCK) == {}


async def test_times_are_those_of_the_database() -> None:
    async with open_database() as database:
        book = DatabaseStudyLocks(database)
        assert await book.take(LOCK, 30.0) is None
        (lock,) = await book.all()
    assert abs(lock.since - time.time()) < 60.0
    assert lock.until == pytest.approx(lock.since + 30.0)


async def test_what_becomes_of_locks_is_counted_by_kind(
    book: DatabaseStudyLocks, clock: Clock
) -> None:
    exclusive, migration = await book.counts()
    assert (exclusive, migration) == (
        LockCount(kind=LockKind.EXCLUSIVE), LockCount(kind=LockKind.MIGRATION),
    )  # fmt: skip
    await book.take(LOCK, 30.0)
    clock.now += 4.0
    await book.release(LOCK, waited=1.5)
    await book.take(LOCK, 30.0)
    clock.now += 2.0
    await book.release(LOCK)
    await book.release(LOCK)  # once is enough
    await book.take(LOCK, 30.0)
    assert await book.force("1.2") is not None
    await book.take(LOCK, 30.0)
    clock.now += 31.0
    await book.take(replace(OTHERS, kind=LockKind.MIGRATION), 30.0)
    await book.note_refused(LockKind.EXCLUSIVE)
    exclusive, migration = await book.counts()
    assert exclusive == LockCount(
        kind=LockKind.EXCLUSIVE, released=2, forced=1, expired=1, refused=1, waited=1,
        waited_seconds=1.5, held_seconds=6.0, longest_seconds=4.0,
    )  # fmt: skip
    assert (exclusive.taken, exclusive.average_seconds) == (4, 3.0)
    assert (migration.active, migration.taken) == (1, 1)
