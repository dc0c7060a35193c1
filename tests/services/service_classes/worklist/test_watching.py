"""The watched folder: files come, change, fail and go, and the list follows."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import orjson
import pytest
import trio
import trio.testing

from isocenter.services.errors import StorageError
from isocenter.services.service_classes.worklist import watched_folder as watching
from isocenter.services.service_classes.worklist.entry import Entry, EntryState
from isocenter.services.service_classes.worklist.ports import PutResult
from isocenter.services.service_classes.worklist.query_keys import Keys
from isocenter.services.service_classes.worklist.watched_folder import WatchedFolder, watch
from isocenter.storage.database.sqlite.database import SqliteDatabase, open_sqlite_database
from isocenter.storage.database.worklist import DatabaseWorklist
from services.dicom.test_text_dump import ENTRY
from services.service_classes.worklist.samples import entry, order

SCHEDULED = "SCHEDULED"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    async with open_sqlite_database(tmp_path / "index.db", durability="relaxed") as opened:
        yield opened


@pytest.fixture
def worklist(database: SqliteDatabase) -> DatabaseWorklist:
    return DatabaseWorklist(database)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "watched"
    made.mkdir()
    return made


async def listed(worklist: DatabaseWorklist) -> dict[str, tuple[str, str]]:
    """Step ID → source and state."""
    found = {}
    async with worklist.find(Keys(()), tuple(EntryState)) as blocks:
        async for block in blocks:
            for stored in block:
                found[stored.entry.key.step_id] = (stored.source, stored.state.value)
    return found


def write(path: Path, *numbers: int, **changes: object) -> None:
    path.write_bytes(orjson.dumps([order(number, **changes) for number in numbers]))


async def settle(watched: WatchedFolder) -> None:
    """The two looks that a file has to stay the same for."""
    await watched.scan()
    await watched.scan()


async def test_files_come_change_and_go(folder: Path, worklist: DatabaseWorklist) -> None:
    watched = WatchedFolder(worklist, folder)
    write(folder / "a.json", 1, 2)
    (folder / "CT_01").mkdir()
    (folder / "CT_01" / "b.dump").write_bytes(ENTRY.replace(b"SPS1", b"SPS9"))
    write(folder / "c.JSON", 3, step_status="STARTED")
    await watched.scan()
    assert await listed(worklist) == {}  # somebody may be writing still
    await watched.scan()
    assert await listed(worklist) == {
        "SPS1": ("folder:a.json", SCHEDULED),
        "SPS2": ("folder:a.json", SCHEDULED),
        "SPS9": ("folder:CT_01/b.dump", SCHEDULED),
        "SPS3": ("folder:c.JSON", "STARTED"),
    }
    write(folder / "a.json", 1, 4, modality="MR")
    await settle(watched)
    assert set(await listed(worklist)) == {"SPS1", "SPS4", "SPS9", "SPS3"}
    stored = await worklist.get(entry(1).key)
    assert stored is not None
    assert stored.entry.step_text(0x00080060) == "MR"
    for path in (folder / "a.json", folder / "CT_01" / "b.dump", folder / "c.JSON"):
        path.unlink()
    await watched.scan()
    assert await listed(worklist) == {"SPS3": ("", "STARTED")}  # it was begun


async def test_a_file_that_grows_is_waited_for(folder: Path, worklist: DatabaseWorklist) -> None:
    watched = WatchedFolder(worklist, folder)
    whole = orjson.dumps([order(1), order(2)])
    path = folder / "a.json"
    for length in (10, 100, len(whole)):
        path.write_bytes(whole[:length])
        await watched.scan()
        assert await listed(worklist) == {}
    await watched.scan()
    assert set(await listed(worklist)) == {"SPS1", "SPS2"}


async def test_what_is_not_a_worklist_file_is_left_alone(
    folder: Path, worklist: DatabaseWorklist, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (".a.json", "lockfile", "a.json~", "a.json.part", "notes.md"):
        write(folder / name, 1)
    (folder / ".hidden").mkdir()
    write(folder / ".hidden" / "a.json", 1)
    (folder / "one" / "two").mkdir(parents=True)
    write(folder / "one" / "two" / "a.json", 1)
    os.mkfifo(folder / "pipe.json")
    watched = WatchedFolder(worklist, folder)
    with trio.fail_after(60):
        await settle(watched)
    assert await listed(worklist) == {}
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_file_with_a_fault_is_told_once_and_changes_nothing(
    folder: Path, worklist: DatabaseWorklist, caplog: pytest.LogCaptureFixture
) -> None:
    watched = WatchedFolder(worklist, folder)
    write(folder / "a.json", 1)
    await settle(watched)
    write(folder / "a.json", 2, 3, modality="not one")
    for _ in range(4):
        await watched.scan()
    assert await listed(worklist) == {"SPS1": ("folder:a.json", SCHEDULED)}
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 1
    assert "a.json, entry 1: (0040,0100)>(0008,0060)" in told[0]
    assert "not one" not in told[0]
    assert "PAT" not in told[0]
    write(folder / "a.json", 2, 3)
    await settle(watched)
    assert set(await listed(worklist)) == {"SPS2", "SPS3"}


async def test_a_step_belongs_to_one_file(
    folder: Path, worklist: DatabaseWorklist, caplog: pytest.LogCaptureFixture
) -> None:
    watched = WatchedFolder(worklist, folder)
    write(folder / "a.json", 1)
    await settle(watched)
    write(folder / "b.json", 2, 1)
    write(folder / "c.json", 3)
    await settle(watched)
    (folder / "c.json").unlink()  # it might have been that one
    await settle(watched)
    assert set(await listed(worklist)) == {"SPS1"}
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 1
    assert "b.json, entry 2" in told[0]
    assert "a.json" in told[0]
    (folder / "a.json").unlink()
    await settle(watched)
    assert await listed(worklist) == {
        "SPS1": ("folder:b.json", SCHEDULED),
        "SPS2": ("folder:b.json", SCHEDULED),
    }


async def test_files_that_went_while_nobody_looked(
    folder: Path, worklist: DatabaseWorklist
) -> None:
    write(folder / "a.json", 1)
    write(folder / "b.json", 2)
    await settle(WatchedFolder(worklist, folder))
    await worklist.put([entry(3)], source="command")
    (folder / "a.json").unlink()
    await WatchedFolder(worklist, folder).scan()
    assert set(await listed(worklist)) == {"SPS2", "SPS3"}


async def test_a_folder_that_is_away_leaves_the_list_as_it_is(
    folder: Path, worklist: DatabaseWorklist, caplog: pytest.LogCaptureFixture
) -> None:
    watched = WatchedFolder(worklist, folder)
    write(folder / "a.json", 1)
    await settle(watched)
    away = folder.rename(folder.with_name("away"))  # noqa: ASYNC240 - what a test does at once
    await settle(watched)
    await settle(WatchedFolder(worklist, folder))
    assert set(await listed(worklist)) == {"SPS1"}
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 2  # one of each
    assert "No such file" in told[0]
    away.rename(folder)
    (folder / "a.json").unlink()
    await watched.scan()
    assert await listed(worklist) == {}


async def test_too_many_files_leave_the_list_as_it_is(
    folder: Path,
    worklist: DatabaseWorklist,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    watched = WatchedFolder(worklist, folder)
    write(folder / "a.json", 1)
    await settle(watched)
    monkeypatch.setattr(watching, "MOST_FILES", 1)
    write(folder / "b.json", 2)
    await settle(watched)
    assert set(await listed(worklist)) == {"SPS1"}
    assert "more than 1 files" in caplog.text


class _Failing:
    """A worklist whose database cannot be written for a while."""

    def __init__(self, worklist: DatabaseWorklist) -> None:
        self._worklist = worklist
        self.is_down = True
        self.sources = worklist.sources

    async def put(self, entries: Sequence[Entry], **options: object) -> PutResult:
        if self.is_down:
            raise StorageError("database is locked")
        return await self._worklist.put(entries, **options)  # type: ignore[arg-type]


async def test_a_database_that_fails_is_tried_again(
    folder: Path, worklist: DatabaseWorklist, caplog: pytest.LogCaptureFixture
) -> None:
    failing = _Failing(worklist)
    watched = WatchedFolder(failing, folder)  # type: ignore[arg-type]
    write(folder / "a.json", 1)
    for _ in range(4):
        await watched.scan()
    assert caplog.text.count("database is locked") == 1
    failing.is_down = False
    await watched.scan()
    assert set(await listed(worklist)) == {"SPS1"}
    failing.is_down = True
    (folder / "a.json").unlink()
    await watched.scan()
    assert set(await listed(worklist)) == {"SPS1"}
    failing.is_down = False
    await watched.scan()
    assert await listed(worklist) == {}


async def test_watching_goes_on_by_the_clock(
    folder: Path, worklist: DatabaseWorklist, mock_clock: trio.testing.MockClock
) -> None:
    write(folder / "a.json", 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, worklist, folder, 60.0)
        looks = 0
        while not await listed(worklist):
            mock_clock.jump(60.0)
            looks += 1
            assert looks < 1_000
        (folder / "a.json").unlink()
        while await listed(worklist):
            mock_clock.jump(60.0)
            looks += 1
            assert looks < 2_000
        nursery.cancel_scope.cancel()
