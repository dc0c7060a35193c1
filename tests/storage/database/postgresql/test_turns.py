"""Nodes write at the same time what has nothing to do with each other, and wait where it has."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from isocenter.services.archive.ports import AddOutcome, InstanceRecord
from isocenter.services.workflow.events.event import WorklistChanged
from isocenter.services.workflow.events.ports import EventSelection
from isocenter.services.workflow.events.study_completion import CompletionRules
from isocenter.storage.database.database import Connection
from isocenter.storage.database.events.event_hooks import EventHooks
from isocenter.storage.database.events.event_log import DatabaseEventLog
from isocenter.storage.database.events.outbox import DatabaseOutbox, insert_event
from isocenter.storage.database.index.index import DatabaseIndex
from isocenter.storage.database.postgresql.database import (
    PostgresqlDatabase,
    open_postgresql_database,
)
from isocenter.storage.database.postgresql.opening import Place
from support.postgresql import Server

DEADLINE = 60
KINDS = ("worklist.changed",)


def record(number: int, *, study: int = 1, series: int = 1, digest: int = 0) -> InstanceRecord:
    return InstanceRecord(
        sop_instance_uid=f"1.2.3.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        study_instance_uid=f"1.2.1.{study}",
        series_instance_uid=f"1.2.2.{study}.{series}",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        object_key=f"ab/1.2.3.{number}~{digest}.dcm",
        size=1000,
        data_set_offset=350,
        digest=f"{number:032x}{digest:032x}",
        attributes={0x00100020: f"ID{study // 2}", 0x00080060: "CT"},
    )


@asynccontextmanager
async def two_nodes(
    server: Server,
) -> AsyncIterator[tuple[PostgresqlDatabase, PostgresqlDatabase]]:
    """Two that have the same database."""
    place = Place(server.conninfo(server.new_database()))
    with trio.fail_after(DEADLINE):
        async with open_postgresql_database(place) as one, open_postgresql_database(place) as other:
            yield one, other


def event(step: str, study: str = "1.2") -> WorklistChanged:
    return WorklistChanged(
        study_instance_uid=study,
        entry_number=1,
        scheduled_step_id=step,
        accession_number="A1",
        state="SCHEDULED",
    )


class Held:
    """A transaction that has done its work, and ends when it may."""

    def __init__(self, work: Callable[[Connection], object]) -> None:
        self._work = work
        self._done, self._may_end = threading.Event(), threading.Event()

    def __call__(self, connection: Connection) -> None:
        try:
            self._work(connection)
            # Statements are on their way until somebody asks.
            connection.execute("SELECT 1").fetchone()
        finally:
            self._done.set()
        self._may_end.wait(DEADLINE)

    @property
    def is_done(self) -> bool:
        return self._done.is_set()

    async def done(self) -> None:
        await trio.to_thread.run_sync(self._done.wait, DEADLINE)

    def let_end(self) -> None:
        self._may_end.set()


def locking(*names: str) -> Callable[[Connection], None]:
    return lambda connection: connection.lock(names)


def _waiting(connection: Connection) -> int:
    (count,) = connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
    return int(count)


async def until_somebody_waits(database: PostgresqlDatabase) -> None:
    while not await database.read(_waiting):
        await trio.lowlevel.checkpoint()


async def test_what_is_about_something_else_is_written_meanwhile(
    postgresql_server: Server,
) -> None:
    async with two_nodes(postgresql_server) as (one, other), trio.open_nursery() as nursery:
        held = Held(locking("study 1"))
        nursery.start_soon(one.write_beside, held)
        await held.done()
        try:
            await other.write_beside(locking("study 2"))
        finally:
            held.let_end()


async def test_what_is_about_the_same_waits(postgresql_server: Server) -> None:
    async with two_nodes(postgresql_server) as (one, other):
        held = Held(locking("study 1", "study 2"))
        second = Held(locking("study 2", "study 3"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.write_beside, held)
            await held.done()
            nursery.start_soon(other.write_beside, second)
            await until_somebody_waits(one)
            assert not second.is_done
            held.let_end()
            await second.done()
            second.let_end()


async def test_who_writes_alone_waits_for_all_who_write_beside_others(
    postgresql_server: Server,
) -> None:
    async with two_nodes(postgresql_server) as (one, other), trio.open_nursery() as nursery:
        held = Held(locking("study 1"))
        alone = Held(lambda connection: None)
        nursery.start_soon(one.write_beside, held)
        await held.done()
        nursery.start_soon(other.write, alone)
        await until_somebody_waits(one)
        held.let_end()
        await alone.done()
        alone.let_end()


async def test_who_needs_the_turn_begins_anew_when_it_has_it(postgresql_server: Server) -> None:
    turns = []

    def work(connection: Connection) -> str:
        turns.append(connection.has_turn)
        insert_event(connection, event(f"S{len(turns)}"), 0)
        connection.need_turn()
        return "done"

    async with two_nodes(postgresql_server) as (one, other):
        assert await one.write_beside(work) == "done"
        assert turns == [False, True]
        (only,) = await DatabaseEventLog(other).events(EventSelection())
        assert '"S2"' in only.body


async def test_the_same_object_of_two_studies_at_once_is_one_row(
    postgresql_server: Server,
) -> None:
    """The database finds out what no lock did: it is done again, one after the other."""
    async with two_nodes(postgresql_server) as (one, other):
        first, second = DatabaseIndex(one), DatabaseIndex(other)
        outcomes = []

        async def add(index: DatabaseIndex, study: int) -> None:
            outcomes.extend(await index.add([record(n, study=study) for n in range(20)]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(add, first, 2)
            nursery.start_soon(add, second, 4)
        found = [each.outcome for each in outcomes]
        assert found.count(AddOutcome.ADDED) == found.count(AddOutcome.DUPLICATE) == 20
        assert (await first.statistics()).studies == 1
        assert await first.check() == []


@pytest.mark.parametrize("replace", [False, True], ids=["kept", "replaced"])
async def test_counts_are_right_after_a_race_for_the_same_studies(
    postgresql_server: Server, replace: bool
) -> None:
    hooks = EventHooks(CompletionRules())
    async with two_nodes(postgresql_server) as nodes:
        indexes = [DatabaseIndex(each, on_add=[hooks.stored]) for each in nodes]

        async def add(index: DatabaseIndex, begin: int, step: int) -> None:
            # Each study is of both, and no two go through them in the same order.
            for turn in range(12):
                study = (begin + step * turn) % 8
                numbers = range(100 * study + turn, 100 * study + turn + 3)
                await index.add(
                    [record(n, study=study, series=n % 2, digest=begin) for n in numbers]
                    + [record(9_000 + study, study=7 - study, digest=begin)],
                    replace=replace,
                )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(add, indexes[0], 0, 1)
            nursery.start_soon(add, indexes[0], 3, 1)
            nursery.start_soon(add, indexes[1], 7, -1)
            nursery.start_soon(add, indexes[1], 4, 3)
        assert await indexes[0].check() == []
        statistics = await indexes[1].statistics()
        assert (statistics.patients, statistics.studies) == (4, 8)


async def test_what_comes_is_planned_once_and_finds_rows_by_their_keys(
    postgresql_server: Server,
) -> None:
    """Also when the tables were empty at first, and nobody has counted their rows since."""

    def plans(connection: Connection) -> tuple[int, int]:
        row = connection.execute(
            "SELECT sum(generic_plans), sum(custom_plans) FROM pg_prepared_statements"
        ).fetchone()
        return int(row[0]), int(row[1])

    def scanned(connection: Connection) -> int:
        row = connection.execute(
            "SELECT sum(seq_scan) FROM pg_stat_xact_user_tables "
            "WHERE relname IN ('instance', 'series', 'study', 'study_statement', 'patient')"
        ).fetchone()
        return int(row[0])

    async with two_nodes(postgresql_server) as (one, _):
        scans = []
        index = DatabaseIndex(
            one, on_add=[lambda connection, added: scans.append(scanned(connection))]
        )
        for number in range(12):
            await index.add([record(3 * number + n, study=number) for n in range(3)])
        once, again = await one.write_beside(plans)
        assert once > 50
        assert again == 0
        assert scans == [0] * 12


async def test_changes_of_the_totals_do_not_pile_up(postgresql_server: Server) -> None:
    async with two_nodes(postgresql_server) as nodes:
        indexes = [DatabaseIndex(each) for each in nodes]

        async def add(index: DatabaseIndex, begin: int) -> None:
            for number in range(begin, begin + 50):
                await index.add([record(number, study=number)])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(add, indexes[0], 0)
            nursery.start_soon(add, indexes[1], 1_000)
        assert (await indexes[0].statistics()).instances == 100
        assert await indexes[0].check() == []
        assert await nodes[0].read(_changes) < 70


def _changes(connection: Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM totals_change").fetchone()[0])


async def test_whoever_follows_events_misses_none_that_is_committed_later(
    postgresql_server: Server,
) -> None:
    async with two_nodes(postgresql_server) as (one, other), trio.open_nursery() as nursery:
        outbox, log = DatabaseOutbox(other), DatabaseEventLog(other)
        await outbox.begin(["viewer"])
        held = Held(lambda connection: insert_event(connection, event("first", "1.1"), 0))
        nursery.start_soon(one.write_beside, held)
        await held.done()
        try:
            # Its number is given later, and it is committed first.
            await other.write_beside(lambda connection: insert_event(connection, event("2nd"), 0))
            assert await other.read(_events) == 1
            assert await log.events(EventSelection(after=0)) == []
            assert await log.last_number() == 0
            assert await outbox.route("viewer", KINDS, 0) == 0
        finally:
            held.let_end()
        while not (reached := await outbox.route("viewer", KINDS, 0)):
            await trio.lowlevel.checkpoint()
        assert reached == 2
        assert [each.number for each in await log.events(EventSelection(after=0))] == [1, 2]
        lanes = await outbox.lanes("viewer", 10, failing=False, not_for=())
        assert {lane.study_instance_uid for lane in lanes} == {"1.1", "1.2"}


def _events(connection: Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM event").fetchone()[0])


async def test_a_reader_beside_writers_sees_every_event_once_and_each_study_in_order(
    postgresql_server: Server,
) -> None:
    async with two_nodes(postgresql_server) as nodes:
        log = DatabaseEventLog(nodes[1])
        writers = 3

        async def write(database: PostgresqlDatabase, study: str) -> None:
            for number in range(20):

                def work(connection: Connection, step: str = f"{study}/{number:03}") -> None:
                    connection.lock([f"study {study}"])
                    insert_event(connection, event(step, study), 0)
                    insert_event(connection, event(f"{step}b", study), 0)

                await database.write_beside(work)

        seen: list[tuple[str, str]] = []
        async with trio.open_nursery() as nursery:
            for number in range(writers):
                nursery.start_soon(write, nodes[number % 2], f"1.{number}")
            last = 0
            while len(seen) < writers * 40:
                for each in await log.events(EventSelection(after=last)):
                    seen.append((each.study_instance_uid, each.body))
                    last = each.number
        assert len(set(seen)) == writers * 40
        for number in range(writers):
            bodies = [body for study, body in seen if study == f"1.{number}"]
            assert bodies == sorted(bodies)
