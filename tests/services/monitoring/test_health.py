"""Health goes bad when the index, the disk or the storage does, says why, and comes back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.index_figures import IndexStatistics
from isocenter.services.errors import StorageError
from isocenter.services.monitoring.health import CACHE_SECONDS, CHECK_SECONDS, Health, Level
from isocenter.services.testing.clocks import patient_clock
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.objects.memory import MemoryStore
from support.serving import serving


@pytest.fixture
def clock() -> Iterator[trio.testing.MockClock]:
    with patient_clock(0.05) as clock:
        yield clock


class Moody(MemoryIndex):
    """An index that fails, or does not answer, when it is told to."""

    mood = ""

    async def probe(self) -> None:
        if self.mood == "full":
            raise StorageError("no room", out_of_resources=True)
        await super().probe()

    async def statistics(self) -> IndexStatistics:
        if self.mood == "broken":
            raise StorageError("the index is damaged")
        if self.mood == "slow":
            await trio.sleep_forever()
        return await super().statistics()


async def settled() -> None:
    await trio.sleep(CACHE_SECONDS + 0.1)


async def test_what_goes_wrong_is_told_and_what_comes_back_too(
    tmp_path: Path, clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, folder = Moody(), tmp_path / "data"
    folder.mkdir()
    async with Archive(MemoryStore(), index) as archive, serving() as server:
        health = Health(archive, server, folder=folder, version="1", warning=80, critical=95)
        usage = SimpleNamespace(value=(100, 10, 90))
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage.value)

        async def level() -> tuple[Level, list[str]]:
            await settled()
            report = await health.report()
            return report.level, report.messages

        assert await level() == (Level.HEALTHY, [])
        index.mood = "broken"
        assert (await health.report()).level is Level.HEALTHY  # the same answer for a while
        assert await level() == (Level.UNHEALTHY, ["the index cannot be asked"])
        index.mood = "slow"
        began = trio.current_time()
        assert await level() == (
            Level.UNHEALTHY,
            [f"the index did not answer within {CHECK_SECONDS:g} s"],
        )
        assert trio.current_time() - began < 2 * CHECK_SECONDS + CACHE_SECONDS
        index.mood = ""
        assert await level() == (Level.HEALTHY, [])
        usage.value = (100, 85, 15)
        assert await level() == (Level.DEGRADED, ["the disk is 85 % full"])
        usage.value = (100, 96, 4)
        assert await level() == (Level.UNHEALTHY, ["the disk is 96 % full"])
        usage.value = (100, 10, 90)
        folder.rename(tmp_path / "away")
        found, (message,) = await level()
        assert found is Level.UNHEALTHY
        assert "No such file" in message
        (tmp_path / "away").rename(folder)
        for _ in range(2):  # a disk that fills, is freed, and fills again soon after
            index.mood = "full"
            archive.alert.report_failure(StorageError("no room", out_of_resources=True))
            for _ in range(2):
                assert await level() == (Level.UNHEALTHY, ["objects cannot be kept; see the log"])
            index.mood = ""  # nobody stores: it is found out by itself
            assert await level() == (Level.HEALTHY, [])
            assert not archive.alert.is_failing
        assert not list(folder.iterdir())


async def test_many_who_ask_at_once_cost_one_look(clock: trio.testing.MockClock) -> None:
    looks = 0

    class Counted(MemoryIndex):
        async def statistics(self) -> IndexStatistics:
            nonlocal looks
            looks += 1
            await trio.sleep(1)
            return await super().statistics()

    async with Archive(MemoryStore(), Counted()) as archive, serving() as server:
        health = Health(archive, server, folder=None, version="1", warning=80, critical=95)
        reports: list[Any] = []

        async def ask() -> None:
            reports.append(await health.report())

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)
        assert looks == 1
        assert all(report.is_operational for report in cast("list[Any]", reports))


class Remote(MemoryStore):
    """A store somewhere else, that is away when it is told to."""

    mood = ""

    @property
    def is_away(self) -> bool:
        return bool(self.mood)

    async def look(self) -> None:
        if self.mood == "away":
            raise StorageError("it cannot be reached")
        if self.mood == "slow":
            await trio.sleep_forever()


async def test_a_store_that_is_away_is_told_though_nobody_stores(
    clock: trio.testing.MockClock,
) -> None:
    store = Remote()
    async with Archive(store, MemoryIndex()) as archive, serving() as server:
        health = Health(archive, server, folder=None, version="1", warning=80, critical=95)
        for mood, messages in (
            ("", []),
            ("away", ["the object store cannot be used; see the log"]),
            ("slow", [f"the object store did not answer within {CHECK_SECONDS:g} s"]),
            ("", []),
        ):
            store.mood = mood
            await settled()
            assert (await health.report()).messages == messages
