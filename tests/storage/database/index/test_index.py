"""The SQLite index: what is its own.  What every index owes is in the contract suite."""

# ruff: noqa: ASYNC240  (the files are small and local)

from __future__ import annotations

import os
import sqlite3
import stat
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import (
    Criterion,
    Query,
    SingleValue,
    ValueList,
    WildCard,
)
from isocenter.services.archive.ports import (
    AddOutcome,
    Index,
    InstanceRecord,
    StoredInstance,
)
from isocenter.services.errors import StorageError
from isocenter.storage.database.database import Connection
from isocenter.storage.database.index.columns import STATED, STORED_IN, key_column
from isocenter.storage.database.index.index import BLOCK_ROWS, DatabaseIndex
from isocenter.storage.database.index.records import RECORD_TABLES
from isocenter.storage.database.sqlite import schema as migrations
from isocenter.storage.database.sqlite.connection import connect
from isocenter.storage.database.sqlite.database import open_sqlite_database
from storage.databases import open_database
from storage.index_contract import IndexContract, IndexFactory

#: Nothing here takes a second; what takes this long hangs.
DEADLINE = 120

#: Runs until it is interrupted.
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def record(number: int, *, study: int = 1, series: int = 1) -> InstanceRecord:
    return InstanceRecord(
        sop_instance_uid=f"1.2.3.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        study_instance_uid=f"1.2.1.{study}",
        series_instance_uid=f"1.2.2.{study}.{series}",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        object_key=f"ab/1.2.3.{number}.dcm",
        size=1000 + number,
        data_set_offset=350,
        digest=f"{number:064x}",
        attributes={
            0x00100020: f"ID{study}",
            0x00100010: "Doe^Jane",
            0x00080020: "20240102",
            0x00080060: "CT",
            0x00200013: str(number),
        },
    )


@pytest.mark.usefixtures("each_database")
class TestIndexInADatabase(IndexContract):
    @pytest.fixture
    def wants_more(self, more_examples: Callable[[], bool]) -> Callable[[], bool]:
        return more_examples

    @pytest.fixture
    def open_index(self) -> IndexFactory:
        @asynccontextmanager
        async def open_index() -> AsyncIterator[Index]:
            async with open_database() as database:
                yield DatabaseIndex(database)

        return open_index


class TestSqliteIndexInAFile(IndexContract):
    @pytest.fixture
    def open_index(self, tmp_path: Path) -> IndexFactory:
        # Emptied, not made anew: the property tests open it hundreds of times.
        @asynccontextmanager
        async def open_index() -> AsyncIterator[Index]:
            path = tmp_path / "index.db"
            async with open_sqlite_database(path, durability="relaxed", readers=1) as database:
                index = DatabaseIndex(database)
                await database.write(clear)
                yield index

        return open_index


def clear(connection: Connection) -> None:
    """Forget everything."""
    for table in RECORD_TABLES:
        connection.execute(f"DELETE FROM {table}")
    connection.execute("INSERT INTO totals VALUES (0, 0, 0, 0, 0, 0)")


async def uids(index: DatabaseIndex, query: Query | None = None) -> list[str]:
    found: list[str] = []
    async with index.instances(query) as blocks:
        async for block in blocks:
            found += [instance.sop_instance_uid for instance in block]
    return found


def change(path: Path, *statements: str) -> None:
    """Do something to a closed database that no index would do."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        for statement in statements:
            connection.execute(statement)
    finally:
        connection.close()


# --- the file ---------------------------------------------------------------------------


async def test_what_was_added_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    async with open_sqlite_database(path) as database:
        index = DatabaseIndex(database)
        await index.add([record(1), record(2)])
    async with open_sqlite_database(path) as database:
        index = DatabaseIndex(database)
        assert await uids(index) == ["1.2.3.1", "1.2.3.2"]
        assert await database.read(migrations.schema_version) == migrations.LATEST_VERSION
        assert await index.check() == []


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
async def test_only_the_owner_may_read_the_files(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    async with open_sqlite_database(path) as database:
        index = DatabaseIndex(database)
        await index.add([record(1)])
        files = sorted(tmp_path.iterdir())
        assert [file.name for file in files] == ["index.db", "index.db-shm", "index.db-wal"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert [file.name for file in tmp_path.iterdir()] == ["index.db"]


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("relaxed", 1)])
async def test_durability_is_sqlites_synchronous(
    tmp_path: Path, durability: Any, synchronous: int
) -> None:
    def pragmas(connection: Connection) -> list[object]:
        names = ("synchronous", "journal_mode", "foreign_keys")
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    async with open_sqlite_database(tmp_path / "index.db", durability=durability) as database:
        assert await database.write(pragmas) == [synchronous, "wal", 1]


async def test_an_empty_file_is_not_taken_for_an_empty_index(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    path.touch()
    with pytest.raises(StorageError, match=r"the file is empty.*isocenter db reindex"):
        async with open_sqlite_database(path):
            raise AssertionError
    assert path.stat().st_size == 0


async def test_a_missing_file_can_be_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no such file.*isocenter db reindex"):
        async with open_sqlite_database(tmp_path / "index.db", create=False):
            raise AssertionError
    assert list(tmp_path.iterdir()) == []


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file or directory"):
        async with open_sqlite_database(tmp_path / "none" / "index.db"):
            raise AssertionError


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(StorageError, match=r"damaged.*isocenter db reindex"):
        async with open_sqlite_database(path):
            raise AssertionError
    assert path.read_bytes() == b"not a database" * 1000


async def test_a_damaged_page_is_an_error_and_not_fewer_answers(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    async with open_sqlite_database(path) as database:
        index = DatabaseIndex(database)
        await index.add([record(number) for number in range(500)])
    whole = bytearray(path.read_bytes())
    page = int.from_bytes(whole[16:18], "big")
    # The first pages hold the schema, which opening reads.
    whole[8 * page :] = b"\xff" * (len(whole) - 8 * page)
    path.write_bytes(whole)
    with pytest.raises(StorageError, match=r"damaged.*isocenter db reindex"):
        async with open_sqlite_database(path) as database:
            await uids(DatabaseIndex(database))


async def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    change(path, "CREATE TABLE mine (a)", "INSERT INTO mine VALUES (1)")
    before = path.read_bytes()
    with pytest.raises(StorageError, match="database of another program"):
        async with open_sqlite_database(path):
            raise AssertionError
    assert path.read_bytes() == before


async def test_a_database_newer_than_the_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    async with open_sqlite_database(path) as database:
        index = DatabaseIndex(database)
        await index.add([record(1)])
    newer = migrations.LATEST_VERSION + 1
    change(
        path,
        "INSERT INTO schema_version (version, description, applied_at) "
        f"VALUES ({newer}, 'from the future', '')",
    )
    with pytest.raises(StorageError, match=f"newer Isocenter.*schema version {newer}"):
        async with open_sqlite_database(path):
            raise AssertionError


async def test_errors_of_the_body_come_out_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_sqlite_database(tmp_path / "index.db"):
            raise ZeroDivisionError


# --- the schema -------------------------------------------------------------------------


def test_the_tables_have_a_column_for_every_attribute() -> None:
    connection = connect(None, "full", writable=True)
    try:
        for level, attributes in STATED.items():
            table = STORED_IN[level]
            columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            wanted = {attribute.column for attribute in attributes}
            wanted |= {key for a in attributes if (key := key_column(a)) is not None}
            assert wanted <= columns
    finally:
        connection.close()


def test_migrations_are_numbered_and_leave_a_line_each() -> None:
    assert [step.version for step in migrations.MIGRATIONS] == list(
        range(1, migrations.LATEST_VERSION + 1)
    )
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        assert migrations.migrate(connection) == 0
        assert migrations.migrate(connection) == migrations.LATEST_VERSION
        rows = connection.execute("SELECT version, description FROM schema_version").fetchall()
        assert rows == [(step.version, step.description) for step in migrations.MIGRATIONS]
    finally:
        connection.close()


def test_a_migration_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = migrations.Migration(1, "broken", ("CREATE TABLE a (b)", "CREATE TABLE a (b)"))
    monkeypatch.setattr(migrations, "MIGRATIONS", (broken,))
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        with pytest.raises(sqlite3.OperationalError, match="already exists"):
            migrations.migrate(connection)
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        assert migrations.schema_version(connection) == 0
    finally:
        connection.close()


# --- adding and removing ----------------------------------------------------------------


async def test_counts_follow_and_parents_go_with_their_last_instance(tmp_path: Path) -> None:
    async with open_sqlite_database(tmp_path / "index.db") as database:
        index = DatabaseIndex(database)
        await index.add([record(1), record(2, series=2), record(3, study=2)])
        await index.add([record(2, series=2), record(4, study=2)])
        statistics = await index.statistics()
        assert (statistics.patients, statistics.studies, statistics.series) == (2, 2, 3)
        assert (statistics.instances, statistics.size) == (4, 4000 + 1 + 2 + 3 + 4)
        await index.remove(["1.2.3.3", "1.2.3.4", "1.2.3.2", "9.9"])
        statistics = await index.statistics()
        assert (statistics.patients, statistics.studies, statistics.series) == (1, 1, 1)
        assert (statistics.instances, statistics.size) == (1, 1001)
        assert await index.check() == []
        await database.write(clear)
        assert (await index.statistics()).patients == 0
        assert await index.check() == []


async def test_replacing_moves_an_instance_and_prunes_where_it_was() -> None:
    async with open_sqlite_database(":memory:") as database:
        index = DatabaseIndex(database)
        await index.add([record(1), record(2, study=2)])
        (added,) = await index.add([record(1, study=2)], replace=True)
        assert added.outcome is AddOutcome.REPLACED
        assert added.previous is not None
        assert added.previous.study_instance_uid == "1.2.1.1"
        assert await uids(index) == ["1.2.3.1", "1.2.3.2"]
        assert (await index.statistics()).studies == 1
        assert await index.check() == []


async def test_a_batch_fails_as_a_whole(tmp_path: Path) -> None:
    async with open_sqlite_database(tmp_path / "index.db") as database:
        index = DatabaseIndex(database)
        await index.add([record(1)])
        with pytest.raises(StorageError, match="SQLITE_CONSTRAINT"):
            await index.add([record(2, study=2), record(3), record(3)])
        assert await uids(index) == ["1.2.3.1"]
        assert (await index.statistics()).studies == 1
        assert await index.check() == []


async def test_text_that_utf8_cannot_hold_does_not_fail_the_batch() -> None:
    async with open_sqlite_database(":memory:") as database:
        index = DatabaseIndex(database)
        odd = {0x00100010: "D\udc80e\0", 0x00081030: "\ud800", 0x00080060: "\0"}
        await index.add([replace(record(1), attributes=odd), record(2, study=2)])
        assert await uids(index) == ["1.2.3.1", "1.2.3.2"]
        assert await index.check() == []
        assert await index.get(["1.2.3.1\udc80", "é"]) == {}
        for match in (SingleValue("\ud800"), ValueList(("\ud800",)), WildCard("\ud800*")):
            await uids(index, Query(level=Level.STUDY, criteria=(Criterion(0x00100010, match),)))


async def test_row_numbers_are_never_used_again() -> None:
    """A find that is still fetching must not meet another patient under a remembered number."""
    async with open_sqlite_database(":memory:") as database:
        index = DatabaseIndex(database)
        await index.add([record(1)])
        await index.remove(["1.2.3.1"])
        await index.add([record(2, study=2)])

        def numbers(connection: Connection) -> list[int]:
            query = (
                "SELECT patient_pk, study_pk, patient_statement_pk, study_statement_pk, "
                "series_statement_pk FROM patient JOIN patient_statement USING (patient_pk) "
                "JOIN study_statement USING (patient_statement_pk) "
                "JOIN series_statement USING (study_pk)"
            )
            return list(connection.execute(query).fetchone())

        assert await database.read(numbers) == [2, 2, 2, 2, 2]


async def test_check_finds_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    async with open_sqlite_database(path) as database:
        index = DatabaseIndex(database)
        await index.add([record(1), record(2)])
    change(
        path,
        "UPDATE series SET num_instances = 7",
        "UPDATE study_sop_class SET num_instances = 7",
        "UPDATE study_statement SET num_instances = 7",
        "UPDATE series_statement SET num_instances = 7",
        "UPDATE totals SET size = 0",
    )
    async with open_sqlite_database(path) as database:
        index = DatabaseIndex(database)
        findings = await index.check()
    assert findings == [
        "series with a wrong number of instances: 1",
        "studies with a wrong number of series or instances: 1",
        "statements of studies with a wrong number of instances: 1",
        "statements of series with a wrong number of instances: 1",
        "SOP classes of studies with a wrong number of instances: 1",
        "wrong totals: 1",
    ]


async def test_a_full_disk_is_out_of_resources_and_passes(tmp_path: Path) -> None:
    def allow(connection: Connection, pages: int) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    async with open_sqlite_database(tmp_path / "index.db") as database:
        index = DatabaseIndex(database)
        await index.add([record(0)])
        await database.write(allow, 1)  # SQLite takes it as: not one page more than there are
        many = [record(number) for number in range(1, 1000)]
        with pytest.raises(StorageError, match="no room") as caught:
            await index.add(many)
        assert caught.value.out_of_resources
        assert await uids(index) == ["1.2.3.0"]
        await database.write(allow, 1_000_000)
        await index.add(many)
        assert len(await uids(index)) == 1000
        assert await index.check() == []


# --- asking -----------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [10, 64])
async def test_blocks_have_the_size_that_is_wanted(rows: int) -> None:
    async with open_sqlite_database(":memory:") as database:
        index = DatabaseIndex(database, block_rows=rows)
        await index.add([record(number) for number in range(100)])
        async with index.instances() as blocks:
            sizes = [len(block) async for block in blocks]
    assert max(sizes) == rows
    assert sum(sizes) == 100


async def test_blocks_are_bounded_and_instances_in_order() -> None:
    async with open_sqlite_database(":memory:") as database:
        index = DatabaseIndex(database)
        number = 2 * BLOCK_ROWS + 1
        await index.add([record(n) for n in reversed(range(number))])
        blocks_seen: list[Sequence[StoredInstance]]
        async with index.instances() as blocks:
            blocks_seen = [block async for block in blocks]
        assert [len(block) for block in blocks_seen] == [BLOCK_ROWS, BLOCK_ROWS, 1]
        found = [instance.sop_instance_uid for block in blocks_seen for instance in block]
        assert found == [f"1.2.3.{n}" for n in range(number)]


async def test_a_slow_taker_holds_no_connection_and_no_snapshot(tmp_path: Path) -> None:
    async with open_sqlite_database(tmp_path / "index.db", readers=1) as database:
        index = DatabaseIndex(database)
        await index.add([record(number) for number in range(2 * BLOCK_ROWS)])
        with trio.fail_after(DEADLINE):
            async with index.instances() as slow, index.instances() as slower:
                await anext(slow)
                await anext(slower)
                await index.remove([f"1.2.3.{2 * BLOCK_ROWS - 1}"])
                assert len(await uids(index)) == 2 * BLOCK_ROWS - 1
                # What went meanwhile is left out.
                assert len(await anext(slow)) == BLOCK_ROWS - 1

                def checkpoint(connection: Connection) -> object:
                    return connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

                async with database._writers.borrow() as writer:
                    assert await writer.run(checkpoint) == (0, 0, 0)


async def test_any_task_may_use_it(tmp_path: Path) -> None:
    """trio-asyncio finds its loop by a context variable, which tasks from outside lack."""
    opened: trio.Event = trio.Event()
    indexes: list[DatabaseIndex] = []

    async def outsider(done: trio.Event) -> None:
        await opened.wait()
        await indexes[0].add([record(1)])
        assert await uids(indexes[0]) == ["1.2.3.1"]
        done.set()

    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            done = trio.Event()
            nursery.start_soon(outsider, done)
            async with open_sqlite_database(tmp_path / "index.db") as database:
                index = DatabaseIndex(database)
                indexes.append(index)
                opened.set()
                await done.wait()


async def test_after_closing_it_says_so(tmp_path: Path) -> None:
    async with open_sqlite_database(tmp_path / "index.db") as database:
        index = DatabaseIndex(database)
        await index.aclose()
        await index.aclose()
        with pytest.raises(StorageError, match="closed"):
            await index.add([record(1)])
        with pytest.raises(StorageError, match="closed"):
            await index.get(["1"])


# --- cancelling -------------------------------------------------------------------------


def endless(connection: Connection, started: Callable[[], None]) -> object:
    started()
    return connection.execute(ENDLESS).fetchone()


@pytest.mark.parametrize("path", ["file", ":memory:"])
async def test_a_cancelled_question_is_interrupted_and_frees_its_connection(
    tmp_path: Path, path: Any
) -> None:
    token = trio.lowlevel.current_trio_token()
    if path == "file":
        path = tmp_path / "index.db"
    async with open_sqlite_database(path, readers=1) as database:
        index = DatabaseIndex(database)
        await index.add([record(1)])
        with trio.fail_after(DEADLINE):
            for _ in range(3):
                started = trio.Event()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(
                        database.read, endless, lambda s=started: token.run_sync_soon(s.set)
                    )
                    await started.wait()
                    nursery.cancel_scope.cancel()
                assert await uids(index) == ["1.2.3.1"]


async def test_a_cancelled_add_is_whole_or_nothing(tmp_path: Path) -> None:
    token = trio.lowlevel.current_trio_token()
    release = threading.Event()

    def hold(_connection: Connection, started: trio.Event) -> None:
        token.run_sync_soon(started.set)
        assert release.wait(DEADLINE)

    async with open_sqlite_database(tmp_path / "index.db") as database:
        index = DatabaseIndex(database)
        with trio.fail_after(DEADLINE):
            async with trio.open_nursery() as nursery:
                started = trio.Event()
                nursery.start_soon(database.write, hold, started)
                await started.wait()
                # It waits for its turn: nothing happens.
                with trio.CancelScope() as waiting:
                    waiting.cancel()
                    await index.add([record(1)])
                assert waiting.cancelled_caught
                release.set()

            # Its transaction runs: it is finished.
            async with trio.open_nursery() as nursery:
                nursery.start_soon(index.add, [record(2), record(3)])
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        assert await uids(index) == ["1.2.3.2", "1.2.3.3"]
        assert await index.check() == []


async def test_cancelling_the_whole_closes_everything(tmp_path: Path) -> None:
    threads = threading.active_count()
    with trio.fail_after(DEADLINE), trio.CancelScope() as scope:
        async with open_sqlite_database(tmp_path / "index.db") as database:
            index = DatabaseIndex(database)
            await index.add([record(1)])
            scope.cancel()
            await uids(index)
    assert scope.cancelled_caught
    assert threading.active_count() <= threads + 1  # aiosqlite's last thread may be on its way out
    async with open_sqlite_database(tmp_path / "index.db") as database:
        index = DatabaseIndex(database)
        assert await uids(index) == ["1.2.3.1"]


# --- several at once --------------------------------------------------------------------


async def test_many_tasks_add_and_ask_at_once(tmp_path: Path) -> None:
    async with open_sqlite_database(tmp_path / "index.db") as database:
        index = DatabaseIndex(database)

        async def work(task: int) -> None:
            for number in range(10):
                await index.add([record(task * 100 + number, study=task % 3)])
                query = Query(
                    level=Level.STUDY,
                    criteria=(Criterion(0x00080061, SingleValue("CT")),),
                )
                assert f"1.2.3.{task * 100 + number}" in await uids(index, query)

        with trio.fail_after(DEADLINE):
            async with trio.open_nursery() as nursery:
                for task in range(8):
                    nursery.start_soon(work, task)
        assert (await index.statistics()).instances == 80
        assert await index.check() == []


OTHER_PROCESS = """
import sys, trio
from pathlib import Path
from isocenter.services.archive.ports import InstanceRecord
from isocenter.storage.database.index.index import DatabaseIndex
from isocenter.storage.database.sqlite.database import open_sqlite_database

async def main():
    async with open_sqlite_database(Path(sys.argv[1])) as database:
        index = DatabaseIndex(database)
        for number in range(50):
            uid = f"1.2.4.{number}"
            await index.add([InstanceRecord(
                sop_instance_uid=uid, sop_class_uid="1.2", study_instance_uid="1.2.1.1",
                series_instance_uid="1.2.2.1.1", transfer_syntax_uid="1.2", object_key=uid,
                size=1, data_set_offset=0, digest="0", attributes={0x00100020: "ID1"},
            )])

trio.run(main)
"""


async def test_two_processes_share_one_file(tmp_path: Path) -> None:
    """Also while the file is being made: neither finds half of it."""
    path = tmp_path / "index.db"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    async def other() -> None:
        command = [sys.executable, "-c", OTHER_PROCESS, str(path)]
        await trio.run_process(command, env=environment)

    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(other)
            async with open_sqlite_database(path) as database:
                index = DatabaseIndex(database)
                for number in range(50):
                    await index.add([record(number)])
    async with open_sqlite_database(path) as database:
        index = DatabaseIndex(database)
        statistics = await index.statistics()
        assert (statistics.series, statistics.instances) == (1, 100)
        assert await index.check() == []
