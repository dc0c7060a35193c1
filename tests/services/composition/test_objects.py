"""Archives whose objects are in a bucket or in another folder, opened as the settings say."""

from __future__ import annotations

import shutil
from pathlib import Path
from time import time
from typing import Any

import pytest
import trio

from isocenter.services.archive.corrections.making import keep_forms, make_form
from isocenter.services.archive.corrections.values import Scope
from isocenter.services.archive.deletion.ports import TrashChoice
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.archive.object_location import ObjectLocation, StoreKind
from isocenter.services.archive.object_scan import StoreError
from isocenter.services.archive.ports import DuplicatePolicy
from isocenter.services.archive.reindexing import reindex
from isocenter.services.archive.rules.evaluation import Rules
from isocenter.services.archive.store_answers import StoreOutcome
from isocenter.services.archive.sweeping.sweeper import Sweeper
from isocenter.services.archive.verification import verify
from isocenter.services.composition import open_archive_parts, rewrap_objects, trash_of
from isocenter.services.composition.archive import ArchiveParts, corrections_of
from isocenter.services.concurrency import Backoff
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.services.errors import StorageError
from isocenter.services.notices import Notices
from isocenter.services.settings.rules import parse_rule
from isocenter.services.settings.sections.objects import ObjectsSettings
from isocenter.services.settings.sections.storage import StorageSettings
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.compression.compressor import CompressionOptions, Compressor
from isocenter.storage.objects.cloud.store import CloudStore
from services.archive_support import STUDY, data_set, data_set_of, keys_of, receive, store, uid
from support.buckets import connect, keys_in, new_location
from support.faulty_buckets import faulty_bucket
from support.images import dataset_of, describe, pixels

ADMIN = Requester(name="root@here")
BACKOFF = Backoff(first_seconds=10.0, longest_seconds=100.0, give_up_after_seconds=50.0)
IMAGE = describe(48, 64, bits=12)
ALL = Query(level=Level.STUDY)


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def settings_of(
    folder: Path,
    location: ObjectLocation | None,
    *,
    cache_bytes: int = 0,
    keys_file: Path | None = None,
    **storage: Any,
) -> Settings:
    return Settings(
        storage=StorageSettings(data_dir=folder / "data", **storage),
        objects=ObjectsSettings(url=location, cache_bytes=cache_bytes, keys_file=keys_file),
    )


async def test_an_object_is_kept_in_the_bucket_and_read_back(tmp_path: Path) -> None:
    location = new_location("pacs")
    settings = settings_of(tmp_path, location)
    async with open_archive_parts(settings) as parts:
        assert (await store(parts.archive, 1)).outcome is StoreOutcome.STORED
        (key,) = await keys_of(parts.archive)
        assert keys_in(location) == [f"pacs/objects/{key}"]
        assert await parts.stores.staged_keys.count() == 0
        report = await verify(parts.archive)
        assert report.is_good
        assert report.objects == report.instances == 1
    assert not list((tmp_path / "data" / "objects").rglob("*.dcm"))
    async with open_archive_parts(settings) as parts:
        stored = (await parts.archive.index.get([uid(1)]))[uid(1)]
        assert await data_set_of(parts.archive, stored) == data_set(1)


async def test_what_is_sent_again_leaves_one_object(tmp_path: Path) -> None:
    location = new_location()
    async with open_archive_parts(settings_of(tmp_path, location)) as parts:
        await store(parts.archive, 1)
        assert (await store(parts.archive, 1)).outcome is StoreOutcome.ALREADY_STORED
        assert await parts.stores.staged_keys.count() == 0
    assert len(keys_in(location)) == 1
    async with open_archive_parts(settings_of(tmp_path, location)) as parts:
        assert await parts.stores.staged_keys.count() == 0


async def test_what_is_sent_again_takes_the_place_of_what_the_bucket_has_lost(
    tmp_path: Path,
) -> None:
    async with open_archive_parts(settings_of(tmp_path, new_location())) as parts:
        await store(parts.archive, 1)
        (key,) = await keys_of(parts.archive)
        await parts.archive.store.remove([key])
        await store(parts.archive, 1)
        assert (await verify(parts.archive)).is_good
        stored = (await parts.archive.index.get([uid(1)]))[uid(1)]
        assert stored.object_key != key
        assert await data_set_of(parts.archive, stored) == data_set(1)


async def test_what_is_refused_once_its_key_is_noted_leaves_no_note(tmp_path: Path) -> None:
    async with open_archive_parts(settings_of(tmp_path, new_location())) as parts:
        room = parts.archive.room

        async def check(size: int = 0) -> None:
            raise StorageError("there is no room", out_of_resources=True)

        room.check = check  # type: ignore[method-assign]
        with pytest.raises(StoreError, match="A700H"):
            await store(parts.archive, 1)
        assert await parts.stores.staged_keys.count() == 0


async def test_what_takes_the_place_of_another_removes_it(tmp_path: Path) -> None:
    location = new_location()
    settings = settings_of(tmp_path, location, duplicates=DuplicatePolicy.REPLACE)
    async with open_archive_parts(settings) as parts:
        await store(parts.archive, 1)
        before = keys_in(location)
        other = data_set(1, pixels=b"\5\6\7\10")
        assert (await store(parts.archive, 1, other)).outcome is StoreOutcome.REPLACED
    assert len(keys_in(location)) == 1
    assert keys_in(location) != before
    async with open_archive_parts(settings) as parts:
        assert await parts.stores.staged_keys.count() == 0


async def test_an_object_that_never_came_into_the_index_is_swept(tmp_path: Path) -> None:
    location = new_location()
    async with open_archive_parts(settings_of(tmp_path, location)) as parts:
        await store(parts.archive, 1)
        staged = await parts.archive.store.stage()
        await staged.write([b"abandoned by a crash"])
        await staged.finish("1.2/3~0a0a0a0a.dcm")
        assert len(keys_in(location)) == 2
        sweeper = Sweeper(parts.archive, parts.stores.staged_keys)
        assert await sweeper.sweep() == 0  # it may be on its way still
        sweeper = Sweeper(parts.archive, parts.stores.staged_keys, age_seconds=-1)
        assert await sweeper.sweep() == 1
        assert len(keys_in(location)) == 1
        assert await parts.stores.staged_keys.count() == 0


async def test_what_was_swept_meanwhile_is_not_acknowledged(tmp_path: Path) -> None:
    async with open_archive_parts(settings_of(tmp_path, new_location())) as parts:
        archive = parts.archive
        async with await receive(archive, 1) as ingest:
            await ingest.write([data_set(1)])
            claimed: list[str] = []
            add = archive.index.add

            async def add_late(*args: Any, **options: Any) -> Any:
                claimed.extend(await parts.stores.staged_keys.claim_overdue(1e12, 10))
                return await add(*args, **options)

            archive.index.add = add_late  # type: ignore[method-assign]
            with pytest.raises(Exception, match=r"A700H .*it took too long"):
                await ingest.commit()
        assert len(claimed) == 1
        assert (await archive.index.statistics()).instances == 0
        assert await keys_of(archive) == set()


async def test_deleted_objects_are_restored_and_purged(tmp_path: Path) -> None:
    location = new_location("pacs")
    settings = settings_of(tmp_path, location)
    async with open_archive_parts(settings) as parts:
        for number in (1, 2, 3):
            await store(parts.archive, number)
        trash = trash_of(settings, parts, "test")
        assert trash is not None
        deleted = await trash.delete(await trash.plan(ALL), ADMIN, "a test")
        assert deleted.instances == 3
        assert await keys_of(parts.archive) == set()
        assert len(keys_in(location)) == 4  # with what says who deleted them
        assert not (await trash.verify()).count
        chosen = TrashChoice(sop_instance_uids=(uid(1),))
        assert (await trash.restore(chosen, ADMIN)).instances == 1
        stored = (await parts.archive.index.get([uid(1)]))[uid(1)]
        assert await data_set_of(parts.archive, stored) == data_set(1)
        assert await trash.purge(TrashChoice(), ADMIN) == 2
        assert len(keys_in(location)) == 1
        assert (await verify(parts.archive)).is_good


async def test_an_index_is_made_again_from_the_bucket(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, new_location())
    async with open_archive_parts(settings) as parts:
        await store(parts.archive, 1)
        await store(parts.archive, 2)
        trash = trash_of(settings, parts, "test")
        assert trash is not None
        await store(parts.archive, 3, data_set(3, study="1.2.9"), sop_instance_uid=uid(3))
        await trash.delete(await trash.plan(ALL), ADMIN, "a test")
        await store(parts.archive, 1)
    for path in (tmp_path / "data").glob("index.db*"):
        path.unlink()
    with pytest.raises(StorageError, match="isocenter db reindex"):
        async with open_archive_parts(settings):
            pass
    async with open_archive_parts(settings, rebuild=True) as parts:
        report = await reindex(parts.archive)
        assert report.indexed == 1  # what was deleted does not come back
        trash = trash_of(settings, parts, "test")
        assert trash is not None
        assert (await trash.adopt()).instances == 3
        stored = (await parts.archive.index.get([uid(1)]))[uid(1)]
        assert await data_set_of(parts.archive, stored) == data_set(1)


async def test_another_folder_keeps_the_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = ObjectLocation(kind=StoreKind.FILES, bucket=str(tmp_path / "elsewhere"))
    settings = settings_of(tmp_path, location)
    async with open_archive_parts(settings) as parts:
        await store(parts.archive, 1)
        looked_at: list[Path] = []
        usage = shutil.disk_usage(tmp_path)

        def disk_usage(path: Path) -> Any:
            looked_at.append(path)
            return usage

        monkeypatch.setattr(shutil, "disk_usage", disk_usage)
        await store(parts.archive, 2)
        # Room is wanted where the objects are.
        with pytest.raises(StorageError, match="the disk is full"):
            parts.archive.room.check_disk(1 << 60)
        assert set(looked_at) == {tmp_path / "elsewhere"}
    assert len(list((tmp_path / "elsewhere" / "objects").rglob("*.dcm"))) == 2
    async with open_archive_parts(settings) as parts:
        stored = (await parts.archive.index.get([uid(1)]))[uid(1)]
        assert await data_set_of(parts.archive, stored) == data_set(1)


async def test_an_archive_is_not_opened_without_its_objects(tmp_path: Path) -> None:
    location = new_location("pacs")
    async with open_archive_parts(settings_of(tmp_path, location)) as parts:
        await store(parts.archive, 1)
    for other in (None, new_location("pacs")):
        with pytest.raises(StorageError, match=rf"are in s3://{location.bucket}/pacs, and"):
            async with open_archive_parts(settings_of(tmp_path, other), lock=False, recover=False):
                pass


async def test_files_that_are_there_are_not_forgotten_for_a_bucket(tmp_path: Path) -> None:
    async with open_archive_parts(settings_of(tmp_path, None)) as parts:
        await store(parts.archive, 1)
    with pytest.raises(StorageError, match="has objects as files"):
        async with open_archive_parts(settings_of(tmp_path, new_location())):
            pass


async def test_what_the_archive_has_is_not_written_again(tmp_path: Path) -> None:
    with faulty_bucket(new_location()) as bucket:
        async with open_archive_parts(settings_of(tmp_path, bucket.location)) as parts:
            await store(parts.archive, 1)
            bucket.requests.clear()
            assert (await store(parts.archive, 1)).outcome is StoreOutcome.ALREADY_STORED
            assert [method for method, _ in bucket.requests] == ["HEAD"]


async def test_a_store_that_is_away_is_told_to_the_peer_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty_bucket(new_location()) as bucket:
        async with open_archive_parts(settings_of(tmp_path, bucket.location)) as parts:
            bucket.fail((503, "SlowDown"), "PUT")
            for _ in range(2):
                with pytest.raises(StoreError, match=r"A700H .*the object store is not available"):
                    await store(parts.archive, 1)
            assert parts.archive.alert.is_failing
            with pytest.raises(StorageError, match="is tried again in"):
                await parts.archive.probe()
            bucket.decide = lambda method, path: None
            assert isinstance(parts.archive.store, CloudStore)
            breaker = parts.archive.store.bucket.breaker
            monkeypatch.setattr(breaker, "_now", lambda: trio.current_time() + 60)
            await parts.archive.probe()
            assert (await store(parts.archive, 1)).outcome is StoreOutcome.STORED


@pytest.mark.parametrize("fault", [(403, "AccessDenied"), (404, "NoSuchBucket"), (503, "SlowDown")])
async def test_a_server_does_not_start_on_a_bucket_that_it_cannot_use(
    tmp_path: Path, fault: tuple[int, str]
) -> None:
    with faulty_bucket(new_location()) as bucket:
        bucket.decide = lambda method, path: fault
        with pytest.raises(StorageError, match=r"allow these|create it|answered 503"):
            async with open_archive_parts(settings_of(tmp_path, bucket.location)):
                pass


async def test_what_was_read_is_kept_near(tmp_path: Path) -> None:
    with faulty_bucket(new_location()) as bucket:
        settings = settings_of(tmp_path, bucket.location, cache_bytes=8 << 20)
        async with open_archive_parts(settings) as parts:
            await store(parts.archive, 1)
            stored = (await parts.archive.index.get([uid(1)]))[uid(1)]
            bucket.requests.clear()
            for _ in range(3):
                assert await data_set_of(parts.archive, stored) == data_set(1)
            assert [method for method, _ in bucket.requests] == ["GET"]


async def test_objects_are_encrypted_with_keys_of_a_file(tmp_path: Path) -> None:
    location = new_location()
    keys = tmp_path / "keys"
    keys.write_text("k1 = AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
    keys.chmod(0o644)
    settings = settings_of(tmp_path, location, keys_file=keys)
    with pytest.raises(StorageError, match=r"objects.keys_file .*is open to others; chmod 600"):
        async with open_archive_parts(settings):
            pass
    keys.chmod(0o600)
    async with open_archive_parts(settings) as parts:
        await store(parts.archive, 1)
        (key,) = (key for key in keys_in(location) if key.startswith("objects/"))
        kept = bytes((await connect(location).get(key, 0, 10_000))[1])
        assert kept.startswith(b"ISOCENC1")
        assert b"cker^Anna" not in kept
        stored = (await parts.archive.index.get([uid(1)]))[uid(1)]
        assert await data_set_of(parts.archive, stored) == data_set(1)
        assert (await verify(parts.archive)).is_good
    with pytest.raises(StorageError, match=r"are encrypted .*objects\.keys_file"):
        async with open_archive_parts(settings_of(tmp_path, location)):
            pass


async def sweep_all(parts: ArchiveParts) -> None:
    """As two hours later; what is needed has to be there afterwards."""
    later = time() + 7200
    await Sweeper(parts.archive, parts.stores.staged_keys, now=lambda: later).sweep()
    assert await parts.stores.staged_keys.count() == 0


async def test_corrected_objects_and_their_originals_are_kept(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, new_location())
    async with open_archive_parts(settings) as parts:
        for number in (1, 2):
            await store(parts.archive, number)
        corrections = corrections_of(settings, parts, "test")
        scope = Scope(study_instance_uid=STUDY)
        plan = await corrections.planner.correct(scope, {0x00100010: "Right^Name"})
        number = await corrections.order(plan, ADMIN, "a test")
        await corrections.work()
        await sweep_all(parts)
        assert len(await keys_of(parts.archive)) == 4
        stored = (await parts.archive.index.get([uid(1)]))[uid(1)]
        assert b"Right^Name" in await data_set_of(parts.archive, stored)
        await corrections.undo(number, ADMIN, "it was right")
        await corrections.work()
        await sweep_all(parts)
        stored = (await parts.archive.index.get([uid(1)]))[uid(1)]
        assert await data_set_of(parts.archive, stored) == data_set(1)
        assert len(await keys_of(parts.archive)) == 2
        assert (await verify(parts.archive)).is_good


async def test_what_waits_to_be_exchanged_is_not_swept(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, new_location())
    async with open_archive_parts(settings) as parts:
        await store(parts.archive, 1)
        corrections = corrections_of(settings, parts, "test")
        plan = await corrections.planner.correct(
            Scope(study_instance_uid=STUDY), {0x00100010: "Right^Name"}
        )
        await corrections.order(plan, ADMIN, "a test")
        book = corrections.book
        (work,) = await book.due(STUDY, 9)
        form = await make_form(
            parts.archive, work, breaks_signatures=False, token=lambda: "0a0b0c0d"
        )
        await keep_forms(parts.archive, book, [form])
        await sweep_all(parts)
        assert len(await keys_of(parts.archive)) == 2
        await corrections.work()
        assert (await verify(parts.archive)).is_good


async def test_what_was_swept_meanwhile_is_not_kept_as_corrected(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, new_location())
    async with open_archive_parts(settings) as parts:
        await store(parts.archive, 1)
        corrections = corrections_of(settings, parts, "test")
        plan = await corrections.planner.correct(
            Scope(study_instance_uid=STUDY), {0x00100010: "Right^Name"}
        )
        await corrections.order(plan, ADMIN, "a test")
        (work,) = await corrections.book.due(STUDY, 9)
        form = await make_form(
            parts.archive, work, breaks_signatures=False, token=lambda: "0a0b0c0d"
        )
        await parts.stores.staged_keys.claim_overdue(1e12, 9)
        with pytest.raises(StorageError, match="swept away meanwhile"):
            await keep_forms(parts.archive, corrections.book, [form])
        await corrections.work()
        await sweep_all(parts)
        assert (await verify(parts.archive)).is_good


async def test_what_is_restored_while_its_old_key_is_swept_keeps_its_bytes(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, new_location())
    async with open_archive_parts(settings) as parts:
        await store(parts.archive, 1)
        trash = trash_of(settings, parts, "test")
        assert trash is not None
        (key,) = await keys_of(parts.archive)
        await trash.delete(await trash.plan(ALL), ADMIN, "a test")
        keys = parts.stores.staged_keys
        await keys.begin([key])  # a note that outlived what it was for

        class Slow(type(keys)):  # type: ignore[misc]
            """Has something restored between its claim and the removal."""

            def __init__(self) -> None:
                self.has_claimed = False

            async def claim_overdue(self, before: float, limit: int) -> Any:
                claimed = await keys.claim_overdue(before, limit)
                if claimed and not self.has_claimed:
                    self.has_claimed = True
                    assert (await trash.restore(TrashChoice(), ADMIN)).instances == 1
                return claimed

            async def end(self, some: Any) -> None:
                await keys.end(some)

        slow = Slow()
        assert await Sweeper(parts.archive, slow, age_seconds=-1).sweep() == 1
        assert slow.has_claimed
        assert await keys_of(parts.archive) != {key}
        assert (await verify(parts.archive)).is_good
        stored = (await parts.archive.index.get([uid(1)]))[uid(1)]
        assert await data_set_of(parts.archive, stored) == data_set(1)


async def test_quarantined_objects_are_moved_and_not_swept(tmp_path: Path) -> None:
    location = new_location()
    settings = settings_of(tmp_path, location)
    async with open_archive_parts(settings) as parts:
        parts.archive.exchange_rules(
            Rules([parse_rule({"name": "doubt", "quarantine": "no Patient ID"})])
        )
        result = await store(parts.archive, 1)
        assert result.outcome is StoreOutcome.QUARANTINED
        await sweep_all(parts)
        trash = trash_of(settings, parts, "test")
        assert trash is not None
        await trash.finish()
        assert not (await trash.verify()).count
        assert await keys_of(parts.archive) == set()
        assert any(key.startswith("trash/") for key in keys_in(location))


async def test_an_object_is_compressed(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, new_location())
    image = dataset_of(IMAGE, [pixels(IMAGE, 1)])
    item = DicomObject.from_dataset(image)
    async with (
        open_archive_parts(settings) as parts,
        CodecPool(PoolLimits(workers=1)) as pool,
    ):
        archive, queue = parts.archive, parts.stores.compressions
        archive.exchange_rules(
            Rules(
                [parse_rule({"name": "small", "compress": "jpeg-ls", "compress_when": "arrival"})]
            )
        )
        async with await archive.receive(
            sop_class_uid=item.sop_class_uid,
            sop_instance_uid=item.sop_instance_uid,
            transfer_syntax_uid=item.transfer_syntax_uid,
            source_ae_title="CT1",
        ) as ingest:
            async for part, _ in item.parts():
                await ingest.write([part])
            await ingest.commit()
        compressor = Compressor(
            queue,
            archive,
            pool,
            CompressionOptions(backoff=BACKOFF),
            notices=Notices(),
            now=time,
            token=lambda: "0a0b0c0d",
        )
        await compressor.compress_due()
        await sweep_all(parts)
        stored = (await archive.index.get([item.sop_instance_uid]))[item.sop_instance_uid]
        assert stored.received_digest
        assert await keys_of(archive) == {stored.object_key}
        assert (await verify(archive)).is_good


async def test_the_key_of_objects_is_changed_while_they_are_read(tmp_path: Path) -> None:
    location = new_location()
    keys = tmp_path / "keys"
    old = "k1 = AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
    new = "k2 = AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n"

    def write(text: str) -> Settings:
        keys.write_text(text)
        keys.chmod(0o600)
        return settings_of(tmp_path, location, keys_file=keys)

    large = data_set(2, pixels=bytes(9 << 20))
    settings = write(old)
    async with open_archive_parts(settings) as parts:
        await store(parts.archive, 1)
        await store(parts.archive, 2, large)
        await store(parts.archive, 3, data_set(3, study="1.2.9"))
        trash = trash_of(settings, parts, "test")
        assert trash is not None
        only = Query(level=Level.IMAGE, criteria=(Criterion(0x00080018, SingleValue(uid(3))),))
        await trash.delete(await trash.plan(only), ADMIN, "a test")
    settings = write(new + old)
    async with open_archive_parts(settings) as parts:
        stored = (await parts.archive.index.get([uid(2)]))[uid(2)]
        async with await parts.archive.open(stored) as reader:
            done = await rewrap_objects(settings, parts, lambda objects: None)
            assert (done.done, done.already, done.faults) == (3, 0, [])
            assert await reader.read(stored.data_set_offset, reader.size) == large
        done = await rewrap_objects(settings, parts, lambda objects: None)
        assert (done.done, done.already, done.faults) == (0, 3, [])
        assert await parts.stores.staged_keys.count() == 0
    settings = write(new)
    async with open_archive_parts(settings) as parts:
        assert (await verify(parts.archive)).is_good
        trash = trash_of(settings, parts, "test")
        assert trash is not None
        assert (await trash.restore(TrashChoice(), ADMIN)).instances == 1
    with pytest.raises(StorageError, match="nothing to be encrypted anew"):
        async with open_archive_parts(settings_of(tmp_path / "files", None)) as parts:
            await rewrap_objects(settings, parts, lambda objects: None)
