"""Archives that are kept alike with nodes: over DIMSE and DICOMweb, both ways, with conflicts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from isocenter.services import composition
from isocenter.services.archive.archive import Archive
from isocenter.services.composition.archive import ArchiveParts, trash_of
from isocenter.services.composition.tasks import sync_desk, synchronizer_of
from isocenter.services.net.http.application import RoutedApplication
from isocenter.services.net.http.routing import RouteTable
from isocenter.services.notices import Caller, Notice, Notices, TasksChanged
from isocenter.services.settings.loading import load_settings
from isocenter.services.web.dicomweb.service import dicomweb_routes
from isocenter.services.web.rest.digests import DigestApi
from isocenter.services.workflow.jobs.job import Job, JobState
from isocenter.services.workflow.nodes.node import new_node
from isocenter.services.workflow.nodes.ports import NodeError
from isocenter.services.workflow.synchronization.comparison import ConflictKind, Resolution
from isocenter.services.workflow.synchronization.desk import SyncDesk
from isocenter.services.workflow.synchronization.ports import Conflict
from isocenter.services.workflow.synchronization.synchronizer import Synchronizer
from isocenter.services.workflow.tasks.task import TaskError, new_task
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.objects.memory import MemoryStore
from services.archive_support import data_set, store, uid
from services.workflow.jobs.test_runner import other_archive
from support.web_archive import http_serving

PATIENCE = 60.0
CALLER = Caller(association="", address="test")


@dataclass
class Here:
    """An archive that works jobs off, and is kept alike."""

    parts: ArchiveParts
    synchronizer: Synchronizer
    desk: SyncDesk
    told: list[Notice]
    settings: Any

    async def add_node(self, address: str) -> None:
        assert await self.parts.stores.nodes.add(new_node(address, "OTHER"))

    async def sync(self, *, is_dry: bool = False, **parameters: str) -> str:
        """What a run says, when all jobs that it has asked for are over."""
        task = new_task(
            "t", "sync", "every 1d", zone="UTC", parameters={"node": "OTHER", **parameters}
        )
        said = await self.synchronizer.run(task, is_dry)
        await self.jobs_done()
        return said

    async def jobs_done(self) -> list[Job]:
        with trio.fail_after(PATIENCE):
            while True:
                jobs = list(await self.parts.stores.jobs.jobs(limit=999))
                if all(job.state.is_final for job in jobs):
                    assert {job.state for job in jobs} <= {JobState.COMPLETED}, jobs
                    return jobs
                await trio.sleep(0.01)

    async def conflict(self) -> Conflict:
        (found,) = await self.desk.conflicts(limit=9)
        return found

    async def delete(self, study: str) -> None:
        await self.parts.archive.remove(await instances(self.parts.archive, study))


async def instances(archive: Archive, study: str = "") -> list[str]:
    found: list[str] = []
    async with archive.index.instances() as blocks:
        async for block in blocks:
            found += [
                one.sop_instance_uid
                for one in block
                if not study or one.study_instance_uid == study
            ]
    return sorted(found)


async def fill(archive: Archive, *numbers: int, **more: Any) -> None:
    """Objects, two of each study."""
    for number in numbers:
        study = f"1.2.{number // 2}"
        await store(archive, number, data_set(number, study=study, series=f"{study}.1", **more))


@asynccontextmanager
async def archive_here(folder: Path, **options: object) -> AsyncIterator[Here]:
    overrides: dict[str, Any] = {
        "storage.data_dir": str(folder / "data"),
        "jobs.first_retry": 0.05,
        "jobs.longest_retry": 0.05,
        "jobs.give_up_after": 600.0,
        "jobs.verify_nodes_every": 0,
    }
    named = {key.replace("__", "."): value for key, value in options.items()}
    settings = load_settings(environ={}, overrides=overrides | named)
    told: list[Notice] = []
    notices = Notices(told.append)
    async with (
        composition.open_archive_parts(settings) as parts,
        trio.open_nursery() as nursery,
    ):
        registry, workflow = composition.build_services_and_workflow(
            settings, parts.archive, parts.stores, None, notices
        )
        for work in registry.background_tasks:
            nursery.start_soon(work)
        synchronizer = synchronizer_of(settings, parts, workflow)
        desk = sync_desk(settings, parts, workflow, notices)
        assert synchronizer is not None
        assert desk is not None
        yield Here(parts, synchronizer, desk, told, settings)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def web_archive() -> AsyncIterator[tuple[Archive, str]]:
    """Another Isocenter, and the address of its DICOMweb service."""
    async with Archive(MemoryStore(), MemoryIndex()) as archive:
        routes = [
            *dicomweb_routes(archive, Notices(), caller_of=lambda _: CALLER),
            *DigestApi(archive.index).routes(),
        ]
        async with http_serving(RoutedApplication(RouteTable(routes))) as root:
            yield archive, f"{root}/dicomweb"


async def test_what_is_there_comes_here_and_what_is_alike_is_left_alone(tmp_path: Path) -> None:
    async with archive_here(tmp_path) as here, other_archive() as (there, port):
        await here.add_node(f"ISOCENTER@127.0.0.1:{port}")
        await fill(there.archive, 2, 3, 4, 5, 6)
        await fill(here.parts.archive, 4, 8)
        assert await here.sync(is_dry=True) == "would be: 1 left alone, 3 to be retrieved"
        assert await instances(here.parts.archive) == [uid(4), uid(8)]
        assert await here.sync() == "1 left alone, 3 to be retrieved"
        assert await instances(here.parts.archive) == [uid(n) for n in (2, 3, 4, 5, 6, 8)]
        assert await instances(there.archive) == [uid(n) for n in (2, 3, 4, 5, 6)]
        assert await here.sync() == "3 alike, 1 left alone"
        await fill(there.archive, 7)
        assert await here.sync() == "2 alike, 1 left alone, 1 to be retrieved"
        assert await here.sync(full="yes") == "3 alike, 1 left alone"
        assert len(await here.jobs_done()) == 4
        assert not await here.desk.conflicts(limit=9)


async def test_both_ways_each_gets_what_it_lacks(tmp_path: Path) -> None:
    async with archive_here(tmp_path) as here, other_archive() as (there, port):
        await here.add_node(f"ISOCENTER@127.0.0.1:{port}")
        await fill(there.archive, 2, 4, 5)
        await fill(here.parts.archive, 3, 8)
        said = await here.sync(direction="both")
        assert said == "2 to be retrieved, 2 to be sent"
        for archive in (here.parts.archive, there.archive):
            assert await instances(archive) == [uid(n) for n in (2, 3, 4, 5, 8)]
        assert await here.sync(direction="both") == "3 alike"
        sent = [job for job in await here.jobs_done() if job.request.kind.value == "send"]
        assert sorted(job.progress.done for job in sent) == [1, 1], "only what is missing"


async def test_only_one_way_nothing_goes_the_other(tmp_path: Path) -> None:
    async with archive_here(tmp_path) as here, other_archive() as (there, port):
        await here.add_node(f"ISOCENTER@127.0.0.1:{port}")
        await fill(there.archive, 2, 4)
        await fill(here.parts.archive, 2, 3, 8)
        assert await here.sync(direction="push") == "1 left alone, 2 to be sent"
        assert await instances(there.archive) == [uid(n) for n in (2, 3, 4, 8)]
        assert await instances(here.parts.archive) == [uid(n) for n in (2, 3, 8)]


async def test_what_was_deleted_here_does_not_come_back_by_itself(tmp_path: Path) -> None:
    async with archive_here(tmp_path) as here, other_archive() as (there, port):
        await here.add_node(f"ISOCENTER@127.0.0.1:{port}")
        await fill(there.archive, 2, 4)
        await here.sync()
        await here.sync()
        await here.delete("1.2.1")
        assert await here.sync() == "1 alike, 1 conflicts"
        assert await here.sync() == "1 alike, 1 conflicts"
        conflict = await here.conflict()
        assert (conflict.kind, conflict.study_instance_uid, conflict.node) == (
            ConflictKind.DELETED_HERE, "1.2.1", "OTHER",
        )  # fmt: skip
        assert await here.desk.resolve(conflict, Resolution.LOCAL, "bob", CALLER)
        assert not await here.desk.resolve(conflict, Resolution.REMOTE, "al", CALLER), "too late"
        assert await here.sync() == "1 alike, 1 left alone"
        await fill(there.archive, 3)
        await here.sync()
        assert uid(3) in await instances(here.parts.archive), "it is another study by now"
        (told,) = [notice for notice in here.told if isinstance(notice, TasksChanged)]
        assert told.what == "conflict of study 1.2.1 with node OTHER: prefer local"


async def test_somebody_wants_what_was_deleted_back(tmp_path: Path) -> None:
    async with archive_here(tmp_path) as here, other_archive() as (there, port):
        await here.add_node(f"ISOCENTER@127.0.0.1:{port}")
        await fill(there.archive, 2)
        await here.sync()
        await here.sync()
        await here.delete("1.2.1")
        await here.sync()
        assert await here.desk.resolve(await here.conflict(), Resolution.REMOTE, "al", CALLER)
        await here.jobs_done()
        assert await instances(here.parts.archive) == [uid(2)]
        assert await here.sync() == "1 alike"


async def test_what_was_deleted_there_is_deleted_here_only_where_that_was_asked_for(
    tmp_path: Path,
) -> None:
    async with archive_here(tmp_path) as here, other_archive() as (there, port):
        await here.add_node(f"ISOCENTER@127.0.0.1:{port}")
        await fill(there.archive, 2, 4, 6)
        await here.sync()
        await here.sync()
        await there.archive.remove([uid(2), uid(4)])
        assert await here.sync() == "1 alike, 2 conflicts"
        assert len(await instances(here.parts.archive)) == 3
        conflict = (await here.desk.conflicts(limit=9))[0]
        assert conflict.kind is ConflictKind.DELETED_THERE
        assert await here.desk.resolve(conflict, Resolution.REMOTE, "al", CALLER)
        assert len(await instances(here.parts.archive)) == 2
        assert await here.sync(deletes="yes", is_dry=True) == "would be: 1 alike, 1 deleted here"
        assert await here.sync(deletes="yes") == "1 alike, 1 deleted here"
        assert await instances(here.parts.archive) == [uid(6)]
        trash = trash_of(here.settings, here.parts, "test")
        assert trash is not None
        assert (await trash.book.statistics()).instances == 2, "it can be restored"


async def test_what_the_node_has_under_another_date_is_not_deleted_here(tmp_path: Path) -> None:
    today = f"{datetime.now(UTC):%Y%m%d}"
    async with archive_here(tmp_path) as here, other_archive() as (there, port):
        await here.add_node(f"ISOCENTER@127.0.0.1:{port}")
        await fill(there.archive, 2, 4, study_date=today)
        await here.sync(look_back_days="30")
        assert await here.sync(look_back_days="30") == "2 alike"
        await there.archive.remove([uid(2)])
        await fill(there.archive, 2, study_date="20200101")
        assert await here.sync(look_back_days="30", deletes="yes") == "2 alike"
        assert await instances(here.parts.archive) == [uid(2), uid(4)]


async def test_what_came_here_since_is_not_deleted_with_what_went_there(tmp_path: Path) -> None:
    async with archive_here(tmp_path) as here, other_archive() as (there, port):
        await here.add_node(f"ISOCENTER@127.0.0.1:{port}")
        await fill(there.archive, 2)
        await here.sync()
        await here.sync()
        await there.archive.remove([uid(2)])
        await fill(here.parts.archive, 3)
        assert await here.sync(deletes="yes") == "1 conflicts"
        conflict = await here.conflict()
        assert conflict.kind is ConflictKind.DELETED_THERE
        assert await here.desk.resolve(conflict, Resolution.LEAVE, "bob", CALLER)
        assert not await here.desk.resolve(conflict, Resolution.REMOTE, "al", CALLER), "too late"
        assert await instances(here.parts.archive) == [uid(2), uid(3)]


async def test_a_node_that_has_lost_most_of_what_it_had_is_not_followed(tmp_path: Path) -> None:
    numbers = range(2, 26, 2)
    async with archive_here(tmp_path) as here, other_archive() as (there, port):
        await here.add_node(f"ISOCENTER@127.0.0.1:{port}")
        for archive in (there.archive, here.parts.archive):
            await fill(archive, *numbers)
        assert await here.sync() == "12 alike"
        await there.archive.remove([uid(number) for number in numbers])
        assert await here.sync(deletes="yes") == "12 conflicts"
        assert len(await instances(here.parts.archive)) == 12


async def test_an_object_that_is_not_the_same_at_both_is_a_conflict(tmp_path: Path) -> None:
    async with (
        archive_here(tmp_path, storage__duplicates="replace") as here,
        web_archive() as (there, url),
    ):
        await here.add_node(url)
        await fill(there, 2, 3, pixels=b"\1\1\1\1")
        await fill(here.parts.archive, 2, pixels=b"\2\2\2\2")
        await fill(here.parts.archive, 3, pixels=b"\1\1\1\1")
        assert await here.sync() == "1 conflicts"
        conflict = await here.conflict()
        assert (conflict.kind, conflict.here, conflict.there) == (ConflictKind.MODIFIED, 2, 2)
        assert await here.desk.resolve(conflict, Resolution.REMOTE, "al", CALLER)
        await here.jobs_done()
        assert await here.sync() == "1 alike"
        await fill(here.parts.archive, 2, pixels=b"\3\3\3\3")
        assert await here.sync() == "1 alike", "the numbers are what they were"
        assert await here.sync(full="yes", resolve="leave") == "1 alike"
        assert await here.sync(full="yes", resolve="remote") == "1 to be retrieved"
        assert await here.sync(full="yes") == "1 alike"


async def test_over_dicomweb_both_ways(tmp_path: Path) -> None:
    async with archive_here(tmp_path) as here, web_archive() as (there, url):
        await here.add_node(url)
        await fill(there, 2, 4)
        await fill(here.parts.archive, 3, 6)
        assert await here.sync(direction="both") == "2 to be retrieved, 2 to be sent"
        assert await instances(there) == await instances(here.parts.archive)
        assert await here.sync(direction="both") == "3 alike"


async def test_a_run_does_so_much_and_the_next_goes_on(tmp_path: Path) -> None:
    async with archive_here(tmp_path) as here, other_archive() as (there, port):
        await here.add_node(f"ISOCENTER@127.0.0.1:{port}")
        await fill(there.archive, 2, 4, 6, 8, 10)
        assert await here.sync(most="2") == "3 left for the next run, 2 to be retrieved"
        assert await here.sync(most="2") == "2 alike, 1 left for the next run, 2 to be retrieved"
        assert await here.sync(most="2") == "4 alike, 1 to be retrieved"


async def test_days_and_modalities_narrow_it(tmp_path: Path) -> None:
    today = f"{datetime.now(UTC):%Y%m%d}"
    async with archive_here(tmp_path) as here, other_archive() as (there, port):
        await here.add_node(f"ISOCENTER@127.0.0.1:{port}")
        await fill(there.archive, 2, study_date="20200101")
        await fill(there.archive, 4, study_date=today)
        assert await here.sync(look_back_days="30", modalities="mr") == "nothing at either"
        assert await here.sync(look_back_days="30", modalities="CT,MR") == "1 to be retrieved"
        assert await instances(here.parts.archive) == [uid(4)]
        assert await here.sync(modalities="CT") == "1 alike, 1 to be retrieved"


async def test_nodes_that_are_not_there_are_told(tmp_path: Path) -> None:
    async with archive_here(tmp_path) as here:
        with pytest.raises(NodeError, match="no node 'OTHER'"):
            await here.sync()
        for wrong in (
            {"direction": "up"}, {"full": "perhaps"}, {"most": "-1"}, {"resolve": "newer"},
            {"node": "../x"}, {"look_back_days": "9" * 20}, {"look_back_days": "0" * 11 + "9" * 9},
        ):  # fmt: skip
            parameters: Mapping[str, str] = wrong
            with pytest.raises(TaskError):
                await here.sync(**parameters)
