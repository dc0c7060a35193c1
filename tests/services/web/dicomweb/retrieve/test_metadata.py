"""Metadata made beforehand: they are what would be made anew, and never of something else."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.metadata.maker import MetadataMaker, make_all
from isocenter.services.archive.metadata.ports import SeriesContent, SeriesWork
from isocenter.services.archive.metadata.verification import verify_metadata
from isocenter.services.archive.ports import InstanceRecord, StoredInstance
from isocenter.services.archive.reindexing import reindex
from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Response
from isocenter.services.net.http.routing import NotFoundError, RouteTable
from isocenter.services.notices import Caller, Notices
from isocenter.services.web.dicomweb.service import dicomweb_routes
from isocenter.services.web.dicomweb.urls import instance_url
from isocenter.storage.database.database import Database
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.stores import Stores, StoresOptions, join_stores
from support.images import dataset_of, describe, pixels
from support.web_requests import archive_in, ask, body_of, header, instance_path, keep

BASE = "http://archive.example/dicomweb"
STUDY = "1.2.826.0.1.3680043.8.498.1"
GZIP = {"accept": "application/dicom+json", "accept-encoding": "gzip"}
PLAIN = {"accept": "application/dicom+json"}
DAY = 86_400.0


class Clock:
    """A day ahead: all that was stored has rested long enough."""

    def __init__(self) -> None:
        self.now = 4_000_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Served:
    archive: Archive
    stores: Stores
    table: RouteTable[Handler]
    maker: MetadataMaker
    clock: Clock
    database: Database

    async def get(
        self, path: str, headers: dict[str, str] = GZIP, *, authority: str = "archive.example"
    ) -> Response:
        return await ask(self.table, path, headers=headers, authority=authority)

    async def metadata(self, path: str, headers: dict[str, str] = GZIP, **more: Any) -> Any:
        response = await self.get(f"{path}/metadata", headers, **more)
        body = await body_of(response)
        is_gzip = header(response, "content-encoding") == "gzip"
        return json.loads(gzip.decompress(body) if is_gzip else body)

    async def are_made(self, study: str, series: str = "") -> bool:
        contents = await self.stores.metadata.contents(study, series)
        return bool(contents) and None not in contents


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Served]:
    clock = Clock()
    async with open_sqlite_database(":memory:") as database:
        stores = join_stores(database, StoresOptions(now=clock))
        async with archive_in(folder, stores.index) as archive:
            book = stores.metadata
            routes = dicomweb_routes(
                archive, Notices(), book=book, caller_of=lambda _: Caller(association="test")
            )
            maker = MetadataMaker(book, archive, base=BASE, url_of=instance_url, rest=0.0)
            yield Served(archive, stores, RouteTable(routes), maker, clock, database)


def image(series: str, number: int, **more: object) -> Dataset:
    described = describe(4, 4, bits=12)
    made = dataset_of(described, [pixels(described, number)])
    made.StudyInstanceUID, made.SeriesInstanceUID = STUDY, series
    made.InstanceNumber = str(number)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def path_of(record: StoredInstance) -> str:
    return f"/dicomweb/studies/{record.study_instance_uid}/series/{record.series_instance_uid}"


async def five(at: Served, series: str = "1.2.3") -> list[InstanceRecord]:
    return await keep(at.archive, *(image(series, number) for number in (3, 1, 5, 2, 4)))


async def test_a_series_before_and_after_its_metadata_were_made(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        records = await five(at)
        path = path_of(records[0])
        before = await at.metadata(path)
        assert [one["00200013"]["Value"] for one in before] == [[1], [2], [3], [4], [5]]
        assert [one["00081190"]["Value"][0] for one in before] == [
            f"http://archive.example{instance_path(records[place])}" for place in (1, 3, 0, 4, 2)
        ]
        made = await at.maker.make_due()
        assert made.series == 1
        assert await at.are_made(STUDY, "1.2.3")
        assert await at.metadata(path) == before
        assert await at.metadata(path, PLAIN) == before
        assert await at.metadata(instance_path(records[0])) == [before[2]]
        assert (await at.maker.make_due()).series == 0


async def test_the_answer_is_the_same_until_something_changes(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        records = await five(at)
        await at.maker.make_due()
        url = f"{path_of(records[0])}/metadata"
        first = await at.get(url)
        tag = header(first, "etag")
        assert tag is not None
        assert isinstance(first.body, list)
        assert header(first, "content-location") == f"http://archive.example{url}"
        assert await body_of(first) == await body_of(await at.get(url))
        again = await at.get(url, {**GZIP, "if-none-match": tag})
        assert (again.status, again.body) == (304, b"")
        plain = await at.get(url, PLAIN)
        assert header(plain, "etag") != tag
        assert plain.length == len(await body_of(plain))
        await keep(at.archive, image("1.2.3", 6))
        changed = await at.get(url, {**GZIP, "if-none-match": tag})
        assert changed.status == 200
        assert len(json.loads(gzip.decompress(await body_of(changed)))) == 6


async def test_whatever_the_server_is_called(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        records = await five(at)
        await at.maker.make_due()
        path = path_of(records[0])
        usual = await at.metadata(path)
        other = await at.metadata(path, authority="pacs.example:8080")
        text = json.dumps(usual).replace("archive.example", "pacs.example:8080")
        assert json.dumps(other) == text


async def test_all_series_of_a_study_one_after_the_other(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        await five(at, "1.2.4")
        await five(at, "1.2.3")
        path = f"/dicomweb/studies/{STUDY}"
        before = await at.metadata(path)
        assert len(before) == 10
        await at.maker.make_due()
        assert await at.are_made(STUDY)
        assert await at.metadata(path) == before
        assert await at.metadata(path, PLAIN) == before
        # One of them is not made: all are put together.
        await keep(at.archive, image("1.2.4", 6))
        assert not await at.are_made(STUDY)
        assert await at.are_made(STUDY, "1.2.3")
        assert len(await at.metadata(path)) == 11


async def test_what_is_deleted_is_in_no_answer(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        records = await five(at)
        await at.maker.make_due()
        await at.archive.remove([records[0].sop_instance_uid])
        assert not await at.are_made(STUDY, "1.2.3")
        found = await at.metadata(path_of(records[0]))
        assert [one["00200013"]["Value"] for one in found] == [[1], [2], [4], [5]]
        await at.maker.make_due()
        assert await at.metadata(path_of(records[0])) == found
        await at.archive.remove([record.sop_instance_uid for record in records])
        with pytest.raises(HttpError) as gone:
            await at.metadata(path_of(records[0]))
        assert gone.value.status == 404


async def test_what_takes_the_place_of_another_is_in_the_answer(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        old = image("1.2.3", 1, ImageComments="old")
        (record,) = await keep(at.archive, old)
        await at.maker.make_due()
        other = dict(record.attributes)
        changed = replace(record, digest="f" * 64, attributes=other)
        await at.stores.index.add([changed], replace=True)
        assert not await at.are_made(STUDY, "1.2.3")
        known = await at.stores.metadata.instance(record.sop_instance_uid)
        assert known is not None
        assert known.metadata is None


async def test_what_is_compressed_is_described_anew(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        records = await five(at)
        await at.maker.make_due()
        one, syntax = records[0], "1.2.840.10008.1.2.4.80"
        names = StoredInstance.__dataclass_fields__
        before = StoredInstance(**{name: getattr(one, name) for name in names})
        after = replace(before, transfer_syntax_uid=syntax, digest="e" * 64)
        await at.stores.compressions.order([before], syntax, "rule")
        (job,) = await at.stores.compressions.due(1)
        assert await at.stores.compressions.exchange(job, before, after)
        assert not await at.are_made(STUDY, "1.2.3")
        known = await at.stores.metadata.instance(one.sop_instance_uid)
        assert known is not None
        assert known.metadata is None
        (series,) = await at.stores.metadata.series(STUDY, "1.2.3")
        assert [each.metadata is None for each in series.instances].count(True) == 1


async def test_only_what_is_new_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path) as at:
        await five(at)
        await at.maker.make_due()
        (record,) = await keep(at.archive, image("1.2.3", 6))
        opened: list[str] = []
        open_stored = at.archive.open_in_place

        async def watched(stored: StoredInstance) -> Any:
            opened.append(stored.sop_instance_uid)
            return await open_stored(stored)

        monkeypatch.setattr(at.archive, "open_in_place", watched)
        await at.maker.make_due()
        assert opened == [record.sop_instance_uid]
        assert len(await at.metadata(path_of(record))) == 6
        assert opened == [record.sop_instance_uid]


async def test_a_series_that_changes_meanwhile_is_made_again(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        records = await five(at)
        book = at.stores.metadata
        (work,) = await book.due(1)
        await keep(at.archive, image("1.2.3", 6))
        assert not await book.finish(work, None)
        (series,) = await book.series(STUDY, "1.2.3")
        assert not await book.keep(work, {}, b"dictionary")
        assert len(series.instances) == 6
        (again,) = await book.due(1)
        assert again.version > work.version
        await at.maker.make_due()
        assert len(await at.metadata(path_of(records[0]))) == 6


async def test_objects_that_cannot_be_read_are_tried_later(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        records = await five(at)
        await at.archive.store.remove([records[0].object_key])
        assert (await at.maker.make_due()).later == 1
        assert (await at.maker.make_due()).series == 0
        at.clock.now += DAY
        assert (await at.maker.make_due()).later == 1


async def test_a_study_that_is_complete_is_not_waited_for(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        at.clock.now = 0.0  # all of it is due in the future
        await five(at)
        assert not await at.stores.metadata.due(1)

        def complete(connection: Any) -> None:
            at.stores.metadata.study_complete(connection, STUDY, 0.0)  # type: ignore[attr-defined]

        await at.database.write(complete)
        assert len(await at.stores.metadata.due(1)) == 1


async def test_another_address_makes_all_due(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        records = await five(at)
        await at.maker.make_due()
        book = at.stores.metadata
        assert await book.renew(BASE) == 0
        other = "https://pacs.example/dicomweb"
        assert await book.renew(other) == 1
        maker = MetadataMaker(book, at.archive, base=other, url_of=instance_url, rest=0.0)
        await maker.make_due()
        (content,) = await book.contents(STUDY, "1.2.3")
        assert content is not None
        assert content.base == other
        assert len(await at.metadata(path_of(records[0]))) == 5


async def test_made_again_with_the_index(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        records = await five(at)
        await at.maker.make_due()
        before = await at.metadata(path_of(records[0]))
        await reindex(at.archive)
        assert not await at.are_made(STUDY)
        told: list[tuple[int, int]] = []
        made = await make_all(at.maker, at.stores.metadata, lambda *done: told.append(done))
        assert (made.series, made.later) == (1, 0)
        assert told == [(1, 1)]
        assert await at.are_made(STUDY)
        assert await at.metadata(path_of(records[0])) == before
        assert not await at.stores.index.check()


async def test_frames_are_found_by_what_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path) as at:
        (record,) = await keep(at.archive, image("1.2.3", 1))
        url = f"{instance_path(record)}/frames/1"
        stored = {"accept": "application/octet-stream; transfer-syntax=*"}
        expected = await body_of(await at.get(url, stored))
        await at.maker.make_due()

        def nobody(*_: object, **__: object) -> None:
            raise AssertionError("the data set is read")

        fresh = dicomweb_routes(
            at.archive,
            Notices(),
            book=at.stores.metadata,
            caller_of=lambda _: Caller(association="test"),
        )
        monkeypatch.setattr(
            "isocenter.services.web.dicomweb.retrieve.frame_bodies.open_image", nobody
        )
        found = await ask(RouteTable(fresh), url, headers=stored)
        assert await body_of(found) == expected
        for path in (
            f"/dicomweb/studies/{STUDY}/series/9.9/instances/{record.sop_instance_uid}/frames/1",
            f"/dicomweb/studies/9.9/series/1.2.3/instances/{record.sop_instance_uid}/frames/1",
            f"/dicomweb/studies/{STUDY}/series/1.2.3/instances/{generate_uid()}/frames/1",
        ):
            with pytest.raises(HttpError) as gone:
                await ask(RouteTable(fresh), path, headers=stored)
            assert gone.value.status == 404


async def test_verification_finds_what_is_of_something_else(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        records = await five(at)
        book = at.stores.metadata
        assert (await verify_metadata(at.archive, book, instance_url)).count == 0
        await at.maker.make_due()
        assert (await verify_metadata(at.archive, book, instance_url)).count == 0
        uid = records[0].sop_instance_uid
        place = f"SELECT instance_pk FROM instance WHERE sop_instance_uid = '{uid}'"
        of = f"WHERE instance_pk = ({place})"
        last = "SELECT fragment FROM instance_metadata ORDER BY instance_pk DESC LIMIT 1"
        for change, named in (
            (f"UPDATE instance_metadata SET layout = x'00' {of}", uid),
            (f"UPDATE instance_metadata SET fragment = x'ff' {of}", uid),
            (f"UPDATE instance_metadata SET fragment = ({last}) {of}", uid),
            ("UPDATE series_metadata SET content_crc = 1", "1.2.3"),
            ("UPDATE series_metadata SET content = x'00'", "1.2.3"),
        ):
            await at.database.write(lambda connection, change=change: connection.execute(change))
            found = await verify_metadata(at.archive, book, instance_url)
            assert named in dict(found.named), change


async def test_what_is_gone_is_told(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        records = await five(at)
        path = f"{path_of(records[0])}/metadata"
        await at.archive.store.remove([records[0].object_key])
        for accept in (PLAIN, {"accept": 'multipart/related; type="application/dicom+xml"'}):
            some = await at.get(path, accept)
            assert some.status == 206
            assert header(some, "warning") == f'299 {BASE} "1 of 5 instances are gone"'
            found = await body_of(some)
            assert records[0].sop_instance_uid.encode() not in found
            assert records[1].sop_instance_uid.encode() in found
        await at.archive.store.remove([record.object_key for record in records])
        with pytest.raises(HttpError) as gone:
            await at.get(path, PLAIN)
        assert gone.value.status == 410


async def test_what_was_made_before_is_told_still(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        records = await five(at)
        before = await at.metadata(path_of(records[0]))
        await at.maker.make_due()
        await at.archive.store.remove([record.object_key for record in records])
        assert await at.metadata(path_of(records[0])) == before
        assert len(await at.metadata(path_of(records[0]), authority="other.example")) == 5


@pytest.mark.parametrize("uid", ["%FF%FE", "1.2%00", "%ED%A0%80"])
async def test_names_that_are_no_text_find_nothing(uid: str, tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        for path in (
            f"studies/{uid}/metadata",
            f"studies/1.2/series/{uid}/metadata",
            f"studies/1.2/series/1.3/instances/{uid}/frames/1",
        ):
            with pytest.raises((HttpError, NotFoundError)) as nowhere:
                await at.get(f"/dicomweb/{path}", PLAIN)
            assert getattr(nowhere.value, "status", 404) == 404


async def test_made_in_the_background_also_after_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as at:
        records = await five(at)
        book = at.stores.metadata
        finished, due, faults = trio.Event(), book.due, [StorageError("the disk is full")]
        finish = book.finish

        async def due_or_fault(limit: int) -> Sequence[SeriesWork]:
            if faults:
                raise faults.pop()
            return await due(limit)

        async def finish_and_tell(work: SeriesWork, content: SeriesContent | None) -> bool:
            is_kept = await finish(work, content)
            finished.set()
            return is_kept

        monkeypatch.setattr(book, "due", due_or_fault)
        monkeypatch.setattr(book, "finish", finish_and_tell)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(at.maker.run)
            await finished.wait()
            nursery.cancel_scope.cancel()
        assert await at.are_made(STUDY)
        assert len(await at.metadata(path_of(records[0]))) == 5
