"""Two nodes of one archive in one process, on PostgreSQL and a shared folder."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from isocenter.services.archive.deletion.ports import TrashChoice
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Query
from isocenter.services.archive.object_location import ObjectLocation, StoreKind
from isocenter.services.archive.reindexing import reindex
from isocenter.services.archive.store_answers import StoreOutcome
from isocenter.services.archive.verification import verify
from isocenter.services.cluster.member import NodeIdentity
from isocenter.services.composition import open_archive_parts, open_stores
from isocenter.services.composition.archive import ArchiveParts, trash_of
from isocenter.services.composition.examination import examine
from isocenter.services.diagnostics.doctor.check import CheckResult
from isocenter.services.errors import StorageError
from isocenter.services.service_classes.print.job import ComposedFilm, NewPrintJob
from isocenter.services.settings.sections.cluster import ClusterSettings
from isocenter.services.settings.sections.database import DatabaseSettings
from isocenter.services.settings.sections.objects import ObjectsSettings
from isocenter.services.settings.sections.storage import StorageSettings
from isocenter.services.settings.settings import Settings
from services.archive_support import data_set, data_set_of, store, uid
from support.buckets import new_location
from support.postgresql import Server

ADMIN = Requester(name="root@here")


@pytest.fixture
def url(postgresql_server: Server) -> str:
    return postgresql_server.url(postgresql_server.new_database())


def settings_of(folder: Path, url: str, node: str, objects: str = "objects") -> Settings:
    location = ObjectLocation(kind=StoreKind.FILES, bucket=str(folder / objects))
    return Settings(
        storage=StorageSettings(data_dir=folder / node),
        database=DatabaseSettings(url=url),
        objects=ObjectsSettings(url=location),
        cluster=ClusterSettings(node=node),
    )


@asynccontextmanager
async def two_nodes(folder: Path, url: str) -> AsyncIterator[tuple[ArchiveParts, ArchiveParts]]:
    async with (
        open_archive_parts(settings_of(folder, url, "one")) as one,
        open_archive_parts(settings_of(folder, url, "other")) as other,
    ):
        yield one, other


async def test_each_reads_what_the_other_has_stored_in_a_bucket(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    bucket = ObjectsSettings(url=new_location("pacs"))
    first, second = (
        replace(settings_of(tmp_path, url, name), objects=bucket) for name in ("one", "other")
    )
    async with open_archive_parts(first) as one, open_archive_parts(second) as other:
        await check_each_reads(one, other)


async def test_each_reads_what_the_other_has_stored(tmp_path: Path, url: str) -> None:
    async with two_nodes(tmp_path, url) as (one, other):
        await check_each_reads(one, other)


async def check_each_reads(one: ArchiveParts, other: ArchiveParts) -> None:
    assert (await store(one.archive, 1)).outcome is StoreOutcome.STORED
    assert (await store(other.archive, 2)).outcome is StoreOutcome.STORED
    for parts, number in ((one, 2), (other, 1)):
        stored = (await parts.archive.index.get([uid(number)]))[uid(number)]
        assert await data_set_of(parts.archive, stored) == data_set(number)
    assert (await verify(one.archive)).is_good
    film = ComposedFilm(png=b"a film", width=1, height=1, dots_per_inch=150)
    job = NewPrintJob(job_uid="1.2.3", originator="CT1", films=(film,))
    assert await one.stores.print_jobs.submit(job, most=1)
    assert await other.stores.print_jobs.film("1.2.3", 1) == film


async def test_the_same_object_on_both_at_once_is_kept_once(tmp_path: Path, url: str) -> None:
    async with two_nodes(tmp_path, url) as nodes:
        outcomes: list[StoreOutcome] = []

        async def receive(parts: ArchiveParts, number: int) -> None:
            outcomes.append((await store(parts.archive, number)).outcome)

        async with trio.open_nursery() as nursery:
            for number in range(10):
                for parts in nodes:
                    nursery.start_soon(receive, parts, number)
        assert outcomes.count(StoreOutcome.STORED) == 10
        assert outcomes.count(StoreOutcome.ALREADY_STORED) == 10
        counts = await nodes[0].stores.index.statistics()
        assert (counts.patients, counts.studies, counts.series, counts.instances) == (1, 1, 1, 10)
        report = await verify(nodes[1].archive)
        assert report.is_good
        assert report.objects == 10
        assert await nodes[0].stores.staged_keys.count() == 0


async def test_the_start_of_a_node_leaves_the_work_of_another_alone(
    tmp_path: Path, url: str
) -> None:
    async with open_archive_parts(settings_of(tmp_path, url, "one")) as one:
        fence = await one.stores.leases.take("sweep", "one/worker", 60.0)
        assert fence is not None
        staged = await one.archive.store.stage()
        await staged.write([b"on its way"])
        await staged.finish("1.2/3~0a0a0a0a.dcm")
        async with open_archive_parts(settings_of(tmp_path, url, "other")) as other:
            assert await other.stores.leases.take("sweep", "other/worker", 60.0) is None
            assert await other.archive.store.missing(["1.2/3~0a0a0a0a.dcm"]) == frozenset()
            assert await one.stores.leases.renew(fence, 60.0)
        await staged.discard()
    # What it had itself when it died, it has no more.
    async with open_archive_parts(settings_of(tmp_path, url, "one")) as one:
        assert await one.stores.leases.take("sweep", "one/other worker", 60.0) is not None


async def test_what_one_deletes_the_other_restores(tmp_path: Path, url: str) -> None:
    async with two_nodes(tmp_path, url) as (one, other):
        await store(one.archive, 1)
        await store(other.archive, 2)
        first = trash_of(settings_of(tmp_path, url, "one"), one, "test")
        second = trash_of(settings_of(tmp_path, url, "other"), other, "test")
        assert first is not None
        assert second is not None
        async with first.files.locked():
            with trio.move_on_after(0.3) as waited:
                async with second.files.locked():
                    raise AssertionError("of both nodes one deletes at a time")
            assert waited.cancelled_caught
        await first.delete(await first.plan(Query(level=Level.STUDY)), ADMIN, "a test")
        assert (await other.stores.index.statistics()).instances == 0
        assert (await second.restore(TrashChoice(), ADMIN)).instances == 2
        assert (await one.stores.index.statistics()).instances == 2
        assert (await verify(one.archive)).is_good


async def test_a_folder_that_is_not_mounted_is_refused(tmp_path: Path, url: str) -> None:
    async with open_archive_parts(settings_of(tmp_path, url, "one")) as one:
        await store(one.archive, 1)
    await trio.to_thread.run_sync(shutil.move, tmp_path / "objects", tmp_path / "aside")
    for node in ("one", "other"):
        with pytest.raises(StorageError, match="empty, or not mounted"):
            async with open_archive_parts(settings_of(tmp_path, url, node)):
                pass
    # Each node may have it mounted elsewhere.
    async with open_archive_parts(settings_of(tmp_path, url, "new", "aside")) as new:
        assert (await verify(new.archive)).is_good


async def test_the_objects_of_another_archive_are_refused(
    tmp_path: Path, url: str, postgresql_server: Server
) -> None:
    another = postgresql_server.url(postgresql_server.new_database())
    async with open_archive_parts(settings_of(tmp_path, another, "other", "theirs")):
        pass
    async with open_archive_parts(settings_of(tmp_path, url, "one")):
        pass
    with pytest.raises(StorageError, match="is those of another archive"):
        async with open_archive_parts(settings_of(tmp_path, url, "new", "theirs")):
            pass


async def test_one_that_has_its_objects_for_itself_is_no_node(tmp_path: Path, url: str) -> None:
    alone = Settings(
        storage=StorageSettings(data_dir=tmp_path / "alone"), database=DatabaseSettings(url=url)
    )
    async with open_archive_parts(settings_of(tmp_path, url, "one")):
        with pytest.raises(StorageError, match="another server works on it"):
            async with open_archive_parts(alone):
                pass


async def test_times_are_those_of_the_database(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_archive_parts(settings_of(tmp_path, url, "one")) as one:
        before = one.stores.clock()
        monkeypatch.setattr("time.time", lambda: 0.0)
        assert before <= one.stores.clock() < before + 60


async def test_the_index_is_not_made_again_while_nodes_live(tmp_path: Path, url: str) -> None:
    settings = settings_of(tmp_path, url, "one")
    async with open_archive_parts(settings) as one:
        await store(one.archive, 1)
        await one.stores.members.join(NodeIdentity(name="one", place="here"))
    with pytest.raises(StorageError, match=r"nodes are at work on this archive \(one\)"):
        async with open_archive_parts(settings_of(tmp_path, url, "new"), rebuild=True):
            pass
    async with open_stores(settings) as stores:
        await stores.members.leave(NodeIdentity(name="one", place="here"))
    async with open_archive_parts(settings_of(tmp_path, url, "new"), rebuild=True) as new:
        await reindex(new.archive, lambda progress: None)
        assert (await verify(new.archive)).is_good


async def test_doctor_looks_at_the_nodes_and_at_their_folder(tmp_path: Path, url: str) -> None:
    settings = settings_of(tmp_path, url, "one")
    async with open_archive_parts(settings) as one:
        await one.stores.members.join(NodeIdentity(name="one", place="here"))
        found: dict[str, CheckResult] = {}
        assert await examine(settings, lambda result: found.update({result.what: result}))
        assert found["nodes"].seen == "1 of 1 live"
        assert found["nodes"].findings == ()
        assert found["object store"].findings == ()
