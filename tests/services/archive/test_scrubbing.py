"""Reading everything slowly, over restarts, and one process for all."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.file_import import import_directory
from isocenter.services.archive.scrubber import SECONDS_A_DAY, ScrubPass, scrub
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.errors import StorageError
from isocenter.services.notices import Notice, Notices, ObjectDamaged
from isocenter.services.system.exclusive_task import LOOK_SECONDS, run_exclusively
from isocenter.services.testing.clocks import patient_clock
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.objects.files.store import open_file_store
from support.studies import write_studies

OBJECTS = 8


@pytest.fixture
def clock() -> Iterator[trio.testing.MockClock]:
    """Time passes when nothing else happens."""
    with patient_clock() as clock:
        yield clock


@asynccontextmanager
async def filled(folder: Path) -> AsyncIterator[tuple[Archive, list[Path]]]:
    files = write_studies(folder / "in", studies=2, series=2, instances=2)
    store = await open_file_store(folder / "data")
    async with Archive(store, MemoryIndex()) as archive:
        await import_directory(archive, [folder / "in"])
        objects = sorted(p for p in (folder / "data/objects").rglob("*") if p.is_file())
        assert len(objects) == len(files) == OBJECTS
        yield archive, objects


class Damage:
    def __init__(self) -> None:
        self.found: list[ObjectDamaged] = []
        self.notices = Notices(self.on_notice)

    def on_notice(self, notice: Notice) -> None:
        assert isinstance(notice, ObjectDamaged)
        self.found.append(notice)


async def test_a_pass_takes_its_days_and_names_what_is_lost(
    tmp_path: Path, clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    damage = Damage()
    async with filled(tmp_path) as (archive, objects):
        content = bytearray(objects[0].read_bytes())
        content[-1] ^= 1
        objects[0].write_bytes(content)
        objects[3].write_bytes(objects[3].read_bytes()[:-2])
        objects[5].unlink()
        with trio.move_on_after(0.9 * 2 * SECONDS_A_DAY):
            await scrub(archive, tmp_path / "s.json", days=2, notices=damage.notices)
        assert "3 are not what was stored" not in caplog.text
        first = len(damage.found)
        assert first == 3
        with trio.move_on_after(0.2 * 2 * SECONDS_A_DAY):
            # As after a restart: the rows that were read are passed over.
            await scrub(archive, tmp_path / "s.json", days=2, notices=damage.notices)
    faults = {notice.fault for notice in damage.found}
    assert "its object is gone" in faults
    assert any("instead of" in fault for fault in faults)
    assert any("not the one that was stored" in fault for fault in faults)
    assert len(damage.found) == first + 1  # the next pass has begun
    assert f"scrubbing: {OBJECTS} objects were read" in caplog.text
    assert "3 are not what was stored" in caplog.text
    assert "P1" not in caplog.text


async def test_a_sound_archive_is_silent_and_read_again_and_again(
    tmp_path: Path, clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with filled(tmp_path) as (archive, _):
        with trio.move_on_after(3.5 * SECONDS_A_DAY):
            await scrub(archive, tmp_path / "s.json", days=1)
    passes = [r for r in caplog.records if r.getMessage().startswith("scrubbing: 8 objects")]
    assert len(passes) == 3
    assert all(record.levelno == logging.INFO for record in passes)


async def test_an_empty_archive_is_no_busy_loop(
    tmp_path: Path, clock: trio.testing.MockClock
) -> None:
    store = await open_file_store(tmp_path / "data")
    async with Archive(store, MemoryIndex()) as archive:
        with trio.move_on_after(SECONDS_A_DAY) as scope:
            await scrub(archive, tmp_path / "s.json", days=1)
        assert scope.cancelled_caught


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"done": "x"}', b"\xff"])
def test_a_state_that_is_none_begins_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(content)
    assert ScrubPass.read(path) == ScrubPass()


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    ScrubPass(done=7, size=8, faults=9, seconds=1.5).write(path)
    assert ScrubPass.read(path) == ScrubPass(done=7, size=8, faults=9, seconds=1.5)
    assert path.stat().st_mode & 0o777 == 0o600


async def test_one_is_on_duty_and_the_next_when_it_is_gone(
    tmp_path: Path, clock: trio.testing.MockClock
) -> None:
    on: list[str] = []

    async def work(name: str) -> None:
        on.append(name)
        await trio.sleep_forever()

    lock = tmp_path / "duty.lock"
    async with trio.open_nursery() as nursery:
        first = trio.CancelScope()

        async def serve_first() -> None:
            with first:
                await run_exclusively(lock, lambda: work("first"))

        nursery.start_soon(serve_first)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(run_exclusively, lock, lambda: work("second"))
        await trio.sleep(3 * LOOK_SECONDS)
        assert on == ["first"]
        first.cancel()
        await trio.sleep(2 * LOOK_SECONDS)
        assert on == ["first", "second"]
        nursery.cancel_scope.cancel()


async def test_objects_that_cannot_be_asked_for_now_are_not_damaged(
    tmp_path: Path, clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage = Damage()
    async with filled(tmp_path) as (archive, _):
        is_away = True
        opened = archive.store.open

        async def open_or_not(key: str) -> ObjectReader:
            if is_away:
                raise StorageError("the store is away", out_of_resources=True)
            return await opened(key)

        monkeypatch.setattr(archive.store, "open", open_or_not)
        with trio.move_on_after(2 * SECONDS_A_DAY):
            await scrub(archive, tmp_path / "s.json", days=1, notices=damage.notices)
        assert ScrubPass.read(tmp_path / "s.json").done == 0
        is_away = False
        with trio.move_on_after(1.5 * SECONDS_A_DAY):
            await scrub(archive, tmp_path / "s.json", days=1, notices=damage.notices)
        assert ScrubPass.read(tmp_path / "s.json").done > 0
    assert damage.found == []
