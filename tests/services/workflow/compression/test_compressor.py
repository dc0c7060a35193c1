"""Objects that rules have compressed: what is exchanged, what stays, and what a crash leaves."""

from __future__ import annotations

import io
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import trio
from pydicom.dataset import Dataset

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.deletion.ports import StudyHold
from isocenter.services.archive.ports import DuplicatePolicy, StoredInstance
from isocenter.services.archive.rules.evaluation import Rules
from isocenter.services.archive.store_answers import StoreOutcome
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.archive.verification import verify
from isocenter.services.concurrency import Backoff
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.encoding import encode_frame
from isocenter.services.dicom.pixels.frames import open_image
from isocenter.services.dicom.pixels.pool import CodecPool, DecodedFrame, PoolLimits
from isocenter.services.dicom.pixels.transcoding import TranscodedObject
from isocenter.services.dicom.pixels.transfer_syntaxes import BY_KEYWORD, LOSSLESS_TARGETS
from isocenter.services.errors import StorageError
from isocenter.services.notices import InstancesCompressed, Notices
from isocenter.services.settings.rules import parse_rule
from isocenter.services.workflow.compression import compressor
from isocenter.services.workflow.compression.compressor import (
    CompressionOptions,
    Compressor,
    finish_exchanges,
)
from isocenter.services.workflow.compression.ports import CompressionState
from isocenter.services.workflow.events.ports import EventSelection
from isocenter.services.workflow.events.study_completion import CompletionRules
from isocenter.storage.objects.files.store import open_file_store
from isocenter.storage.stores import Stores, StoresOptions, open_sqlite_stores
from support.images import dataset_of, describe, pixels

JPEG_LS = BY_KEYWORD["jpeg-ls"].uid
IMPLICIT = BY_KEYWORD["implicit"].uid
IMAGE = describe(48, 64, bits=12)
BACKOFF = Backoff(first_seconds=10.0, longest_seconds=100.0, give_up_after_seconds=50.0)
KEPT, DONE, DUE, FAILED = (
    CompressionState.KEPT, CompressionState.DONE, CompressionState.DUE, CompressionState.FAILED,
)  # fmt: skip
Changed = Callable[[Dataset], None]


class Clock:
    """The time of day of a test."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class House:
    """An archive in a folder, with what compresses in it."""

    def __init__(self, archive: Archive, stores: Stores, clock: Clock, folder: Path) -> None:
        self.archive = archive
        self.stores = stores
        self.clock = clock
        self.folder = folder
        self.told: list[InstancesCompressed] = []
        self.notices = Notices()
        self.notices.subscribe(self._hear)
        self._serial = 0

    def _hear(self, notice: object) -> None:
        if isinstance(notice, InstancesCompressed):
            self.told.append(notice)

    def compressor(self, pool: CodecPool, **options: Any) -> Compressor:
        def token() -> str:
            self._serial += 1
            return f"{0xABC00000 + self._serial:08x}"

        return Compressor(
            self.stores.compressions,
            self.archive,
            pool,
            CompressionOptions(backoff=BACKOFF, **options),
            notices=self.notices,
            now=self.clock,
            token=token,
        )

    async def receive(self, dataset: Dataset) -> StoredInstance:
        """Store it as if it had come by C-STORE; what the archive has of it then."""
        item = DicomObject.from_dataset(dataset)
        async with await self.archive.receive(
            sop_class_uid=item.sop_class_uid,
            sop_instance_uid=item.sop_instance_uid,
            transfer_syntax_uid=item.transfer_syntax_uid,
            source_ae_title="CT1",
        ) as ingest:
            async for part, _ in item.parts():
                await ingest.write([part])
            self.result = await ingest.commit()
        return await self.stored(item.sop_instance_uid)

    async def stored(self, uid: str) -> StoredInstance:
        return (await self.archive.index.get([uid]))[uid]

    async def file_of(self, stored: StoredInstance) -> bytes:
        async with await self.archive.open(stored) as reader:
            return await reader.read(0, reader.size)

    async def keys(self) -> list[str]:
        async with self.archive.store.keys() as blocks:
            return [key async for block in blocks for key in block]

    async def keeps_only(self, stored: StoredInstance) -> None:
        """What is superfluous goes when the sender has its answer already."""
        with trio.fail_after(60):
            while await self.keys() != [stored.object_key]:
                await trio.lowlevel.checkpoint()

    async def row(self) -> Any:
        (row,) = await self.stores.compressions.rows(limit=10)
        return row

    async def kinds(self) -> list[str]:
        events = await self.stores.event_log.events(EventSelection())
        return [event.kind for event in events]


@asynccontextmanager
async def opened(
    folder: Path, *rule: dict[str, Any], completes: bool = False, **options: Any
) -> AsyncIterator[House]:
    tables = rule or ({"compress": "jpeg-ls"},)
    rules = Rules([parse_rule({"name": f"r{n}", **table}) for n, table in enumerate(tables)])
    clock = Clock()
    async with (
        open_sqlite_stores(
            folder / "index.db",
            StoresOptions(
                completion=CompletionRules() if completes else None, is_owner=True, now=clock
            ),
            durability="relaxed",
        ) as stores,
        Archive(
            store := await open_file_store(folder), stores.index, rules=rules, **options
        ) as archive,
    ):
        await archive.recover()
        await finish_exchanges(stores.compressions, archive)
        yield House(archive, stores, clock, folder)
        await archive.committer.settlement.settle()
    await store.aclose()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as house:
        yield house


@pytest.fixture
async def pool() -> AsyncIterator[CodecPool]:
    async with CodecPool(PoolLimits(workers=1)) as pool:
        yield pool


def an_image(seed: int = 1, frames: int = 1, **changes: Any) -> Dataset:
    dataset = dataset_of(IMAGE, [pixels(IMAGE, seed + n) for n in range(frames)])
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return dataset


def signed(dataset: Dataset) -> None:
    item = Dataset()
    item.MACIDNumber = 1
    dataset.DigitalSignaturesSequence = [item]


class TestWhatIsExchanged:
    @pytest.mark.parametrize("keyword", LOSSLESS_TARGETS)
    async def test_every_pixel_and_every_other_element_is_what_came(
        self, tmp_path: Path, pool: CodecPool, keyword: str
    ) -> None:
        came = an_image(frames=3)
        async with opened(tmp_path, {"compress": keyword}) as house:
            before = await house.receive(came)
            await house.compressor(pool).compress_due()
            after = await house.stored(came.SOPInstanceUID)
            assert (after.transfer_syntax_uid, after.received_digest) == (
                BY_KEYWORD[keyword].uid,
                before.digest,
            )
            assert after.size < before.size
            assert await house.keys() == [after.object_key]
            item = stored_object(after, house.archive.open)
            async with open_image(item) as image:
                frames = [(await image.decode(pool, n)).samples for n in range(3)]
            assert b"".join(frames) == came.PixelData
            now = pydicom.dcmread(io.BytesIO(await house.file_of(after)))
            del now.PixelData
            for element in now:
                assert came[element.tag] == element
            assert {e.tag for e in came} - {e.tag for e in now} == {0x7FE00010}
            assert now.file_meta.SourceApplicationEntityTitle == "CT1"
            report = await verify(house.archive)
            assert report.is_good
            assert not report.orphans.count
            assert (await house.archive.index.statistics()).size == after.size

    async def test_implicit_vr_keeps_its_values(self, house: House, pool: CodecPool) -> None:
        came = an_image()
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator = "121181", "DCM"
        came.ProcedureCodeSequence = [item, Dataset()]
        came.add_new(0x00091001, "UN", b"odd private")
        came.file_meta.TransferSyntaxUID = IMPLICIT
        await house.receive(came)
        await house.compressor(pool).compress_due()
        after = await house.stored(came.SOPInstanceUID)
        assert after.transfer_syntax_uid == JPEG_LS
        now = pydicom.dcmread(io.BytesIO(await house.file_of(after)))
        assert now.ProcedureCodeSequence[0].CodeValue == "121181"
        assert len(now.ProcedureCodeSequence) == 2

    async def test_it_is_told_as_event_notice_and_record(
        self, tmp_path: Path, pool: CodecPool
    ) -> None:
        async with opened(tmp_path, {"compress": "jpeg-ls"}, completes=True) as house:
            before = await house.receive(an_image())
            house.clock.now += 10_000.0
            await house.stores.open_studies.declare(CompletionRules())
            await house.compressor(pool).compress_due()
            after = await house.stored(before.sop_instance_uid)
            (notice,) = house.told
            assert (notice.outcome, notice.instances, notice.size_before, notice.size) == (
                "compressed", 1, before.size, after.size,
            )  # fmt: skip
            assert (await house.kinds()).count("instance.compressed") == 1
            row = await house.row()
            assert (row.state, row.received_size, row.size) == (DONE, before.size, after.size)
            totals = await house.stores.compressions.totals()
            assert (totals.counts, totals.received_size, totals.size) == (
                {DONE: 1}, before.size, after.size,
            )  # fmt: skip

    async def test_waits_for_the_study_unless_told_otherwise(
        self, tmp_path: Path, pool: CodecPool
    ) -> None:
        later, now = {"when": {"modality": "OT"}}, {"when": {"modality": "CT"}}
        async with opened(
            tmp_path,
            {**later, "compress": "jpeg-ls"},
            {**now, "compress": "rle", "compress_when": "arrival"},
            completes=True,
        ) as house:
            waits = await house.receive(an_image())
            comes = await house.receive(an_image(2, Modality="CT"))
            compressor = house.compressor(pool)
            await compressor.compress_due()
            assert (await house.stored(comes.sop_instance_uid)).received_digest
            assert not (await house.stored(waits.sop_instance_uid)).received_digest
            house.clock.now += 10_000.0
            await house.stores.open_studies.declare(CompletionRules())
            await compressor.compress_due()
            assert (await house.stored(waits.sop_instance_uid)).received_digest == waits.digest

    async def test_a_compressed_lossless_object_may_become_another_one(
        self, tmp_path: Path, pool: CodecPool
    ) -> None:
        async with opened(tmp_path, {"compress": "jpeg2000"}) as house:
            came = await house.receive(an_image())
            compressor = house.compressor(pool)
            await compressor.compress_due()
            middle = await house.stored(came.sop_instance_uid)
            target = BY_KEYWORD["htj2k-rpcl"].uid
            await house.stores.compressions.order([middle], target, "by hand")
            await compressor.compress_due()
            after = await house.stored(came.sop_instance_uid)
            assert (after.transfer_syntax_uid, after.received_digest) == (target, came.digest)
            assert await house.keys() == [after.object_key]


class TestSentAgain:
    @pytest.mark.parametrize("policy", [DuplicatePolicy.IGNORE, DuplicatePolicy.REPLACE])
    async def test_what_was_compressed_is_there_already(
        self, tmp_path: Path, pool: CodecPool, policy: DuplicatePolicy
    ) -> None:
        async with opened(tmp_path, completes=True, duplicates=policy) as house:
            came = an_image()
            await house.receive(came)
            house.clock.now += 10_000.0
            await house.stores.open_studies.declare(CompletionRules())
            await house.compressor(pool).compress_due()
            kinds = await house.kinds()
            after = await house.stored(came.SOPInstanceUID)
            assert await house.receive(came) == after
            assert house.result.outcome is StoreOutcome.ALREADY_STORED
            assert await house.kinds() == kinds
            await house.keeps_only(after)

    async def test_another_object_takes_its_place_and_is_compressed_in_turn(
        self, tmp_path: Path, pool: CodecPool
    ) -> None:
        async with opened(tmp_path, duplicates=DuplicatePolicy.REPLACE) as house:
            first = an_image()
            await house.receive(first)
            compressor = house.compressor(pool)
            await compressor.compress_due()
            other = an_image(2)
            for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
                setattr(other, name, getattr(first, name))
            now = await house.receive(other)
            assert (house.result.outcome, now.received_digest) == (StoreOutcome.REPLACED, "")
            await compressor.compress_due()
            after = await house.stored(first.SOPInstanceUID)
            assert after.received_digest == now.digest
            await house.keeps_only(after)

    async def test_a_file_that_is_gone_is_healed_by_what_came_first(
        self, house: House, pool: CodecPool
    ) -> None:
        came = an_image()
        await house.receive(came)
        await house.compressor(pool).compress_due()
        after = await house.stored(came.SOPInstanceUID)
        await house.archive.store.remove([after.object_key])
        now = await house.receive(came)
        assert (now.received_digest, now.transfer_syntax_uid) == ("", "1.2.840.10008.1.2.1")
        assert await house.file_of(now)


class TestWhatStays:
    async def stays(self, house: House, pool: CodecPool, dataset: Dataset) -> str:
        before = await house.receive(dataset)
        data = await house.file_of(before)
        await house.compressor(pool).compress_due()
        assert await house.stored(before.sop_instance_uid) == before
        assert await house.file_of(before) == data
        assert await house.keys() == [before.object_key]
        row = await house.row()
        assert row.state is KEPT
        assert house.told[-1].outcome == "kept"
        return str(row.last_fault)

    async def test_digital_signatures(
        self, house: House, pool: CodecPool, caplog: pytest.LogCaptureFixture
    ) -> None:
        dataset = an_image()
        signed(dataset)
        assert "signatures" in await self.stays(house, pool, dataset)
        assert "has digital signatures" in caplog.text

    async def test_no_pixels(self, house: House, pool: CodecPool) -> None:
        dataset = an_image()
        del dataset.PixelData
        assert "no Pixel Data" in await self.stays(house, pool, dataset)

    async def test_noise_that_does_not_shrink(self, house: House, pool: CodecPool) -> None:
        dataset = an_image()
        dataset.PixelData = np.random.default_rng(1).bytes(len(dataset.PixelData))
        dataset.BitsStored, dataset.HighBit = 16, 15
        assert "bytes instead of" in await self.stays(house, pool, dataset)

    async def test_what_has_losses_already(self, house: House, pool: CodecPool) -> None:
        image = describe(16, 16)
        array = pixels(image)
        dataset = dataset_of(image, [array])
        syntax = BY_KEYWORD["jpeg-baseline"].uid
        frame, _ = encode_frame(array.tobytes(), image, syntax)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = pydicom.encaps.encapsulate([frame])
        dataset["PixelData"].VR = "OB"
        assert "with losses already" in await self.stays(house, pool, dataset)

    async def test_fewer_frames_than_announced(self, house: House, pool: CodecPool) -> None:
        dataset = an_image(NumberOfFrames=4)
        assert "frames" in await self.stays(house, pool, dataset)

    async def test_what_would_not_come_back_as_it_was(
        self, house: House, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Liar(CodecPool):
            async def encode(self, frame: DecodedFrame, *rest: Any) -> Any:
                samples = bytearray(frame.samples)
                samples[100] ^= 1
                return await super().encode(replace(frame, samples=bytes(samples)), *rest)

        with caplog.at_level(logging.ERROR, "isocenter.compression"):
            async with Liar(PoolLimits(workers=1)) as pool:
                reason = await self.stays(house, pool, an_image())
        assert "frame 1 has other samples" in reason
        assert "would not have given back what was stored" in caplog.text

    async def test_held_studies_until_the_hold_ends(self, house: House, pool: CodecPool) -> None:
        before = await house.receive(an_image())
        hold = StudyHold(
            study_instance_uid=before.study_instance_uid, reason="court", actor="x", at=0.0
        )
        await house.stores.holds.add(hold)
        compressor = house.compressor(pool)
        await compressor.compress_due()
        assert await house.stored(before.sop_instance_uid) == before
        await house.stores.holds.remove(before.study_instance_uid)
        await compressor.compress_due()
        assert (await house.stored(before.sop_instance_uid)).received_digest

    async def test_what_is_deleted_meanwhile_is_forgotten(
        self, house: House, pool: CodecPool
    ) -> None:
        before = await house.receive(an_image())
        await house.archive.remove([before.sop_instance_uid])
        await house.compressor(pool).compress_due()
        assert await house.stores.compressions.rows(limit=10) == []


class TestFailures:
    async def test_are_tried_again_later_and_given_up(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = await house.receive(an_image())
        async with CodecPool(PoolLimits(workers=1, seconds=0.0)) as pool:
            compressor = house.compressor(pool)
            assert await compressor.compress_due()
            assert not await compressor.compress_due(), "it is not due again at once"
            house.clock.now += 60.0
            await compressor.compress_due()
        row = await house.row()
        assert (row.state, "took more than" in row.last_fault) == (FAILED, True)
        assert [each.outcome for each in house.told] == ["failed", "failed"]
        assert await house.keys() == [before.object_key]
        assert await house.stores.compressions.retry() == 1
        async with CodecPool(PoolLimits(workers=1)) as pool:
            await house.compressor(pool).compress_due()
        assert (await house.row()).state is DONE

    async def test_a_full_disk_changes_nothing(
        self, house: House, pool: CodecPool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = await house.receive(an_image())

        async def full(*_: Any) -> None:
            raise StorageError("no room", out_of_resources=True)

        monkeypatch.setattr(house.archive.room, "check", full)
        await house.compressor(pool).compress_due()
        assert await house.stored(before.sop_instance_uid) == before
        assert (await house.row()).state is DUE

    async def test_an_object_that_was_replaced_meanwhile_is_left_alone(
        self, tmp_path: Path, pool: CodecPool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with opened(tmp_path, duplicates=DuplicatePolicy.REPLACE) as house:
            first, other = an_image(), an_image(2)
            for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
                setattr(other, name, getattr(first, name))
            await house.receive(first)
            queue = house.stores.compressions
            exchange = queue.exchange

            async def late(*arguments: Any) -> bool:
                await house.receive(other)
                return await exchange(*arguments)

            monkeypatch.setattr(queue, "exchange", late)
            assert not await house.compressor(pool).compress_due()
            now = await house.stored(first.SOPInstanceUID)
            assert (now.received_digest, now.transfer_syntax_uid) == ("", "1.2.840.10008.1.2.1")
            await house.keeps_only(now)
            report = await verify(house.archive)
            assert report.is_good
            assert not report.orphans.count


class TestReadersMeanwhile:
    async def test_what_is_being_read_is_read_to_its_end(
        self, house: House, pool: CodecPool
    ) -> None:
        before = await house.receive(an_image())
        data = await house.file_of(before)
        async with await house.archive.open(before) as reader:
            head = await reader.read(0, 1000)
            await house.compressor(pool).compress_due()
            assert head + await reader.read(1000, reader.size) == data

    async def test_what_was_looked_up_before_is_found_where_it_is_now(
        self, house: House, pool: CodecPool
    ) -> None:
        before = await house.receive(an_image())
        assert await house.archive.compressed_since(before) is None
        await house.compressor(pool).compress_due()
        after = await house.stored(before.sop_instance_uid)
        assert await house.archive.compressed_since(before) == after
        assert await house.archive.compressed_since(after) is None


# -- Crashes -----------------------------------------------------------------------------

#: What the process dies before, and after.
STEPS = (
    ("store", "publish"), ("queue", "exchange"), ("store", "settle"), ("store", "remove"),
    ("queue", "removed"),
)  # fmt: skip


def _dying(owner: Any, name: str, is_after: bool) -> None:
    call = getattr(owner, name)

    async def die(*arguments: Any, **more: Any) -> Any:
        result = await call(*arguments, **more) if is_after else None
        os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, die)


async def _die_compressing(
    folder: Path, dataset: Dataset, step: Sequence[str], after: bool
) -> None:
    async with opened(folder) as house, CodecPool(PoolLimits(workers=1)) as pool:
        await house.receive(dataset)
        await house.archive.committer.settlement.settle()
        owner = house.archive.store if step[0] == "store" else house.stores.compressions
        _dying(owner, step[1], after)
        await house.compressor(pool).compress_due()


class TestCrash:
    @pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
    @pytest.mark.parametrize("step", STEPS, ids=".".join)
    def test_leaves_one_form_and_nothing_else(
        self, tmp_path: Path, step: tuple[str, str], is_after: bool
    ) -> None:
        dataset = an_image(frames=2)
        child = os.fork()
        if not child:
            try:
                trio.run(partial(_die_compressing, tmp_path, dataset, step, is_after))
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL

        async def look() -> None:
            async with opened(tmp_path) as house, CodecPool(PoolLimits(workers=1)) as pool:
                now = await house.stored(dataset.SOPInstanceUID)
                is_exchanged = STEPS.index(step) > 1 or (step[1] == "exchange" and is_after)
                assert bool(now.received_digest) is is_exchanged
                assert await house.keys() == [now.object_key]
                report = await verify(house.archive)
                assert report.is_good
                assert not report.orphans.count
                # What was not done before is done now.
                await house.compressor(pool).compress_due()
                now = await house.stored(dataset.SOPInstanceUID)
                assert now.transfer_syntax_uid == JPEG_LS
                item = stored_object(now, house.archive.open)
                async with open_image(item) as image:
                    frames = [(await image.decode(pool, n)).samples for n in range(2)]
                assert b"".join(frames) == dataset.PixelData

        trio.run(look)


class TestWhatIsNotAsItWas:
    async def test_bytes_that_changed_on_the_disk_are_not_made_what_is_kept(
        self, house: House, pool: CodecPool
    ) -> None:
        before = await house.receive(an_image())
        (path,) = (one for one in house.folder.rglob("*.dcm") if one.is_file())
        raw = bytearray(path.read_bytes())
        raw[-1] ^= 1
        path.chmod(0o600)
        path.write_bytes(raw)
        await house.compressor(pool).compress_due()
        assert await house.stored(before.sop_instance_uid) == before
        row = await house.row()
        assert (row.state, row.attempts) == (CompressionState.DUE, 1)
        assert "not the one that was stored" in row.last_fault
        assert await house.keys() == [before.object_key]

    async def test_a_fault_that_nobody_thought_of_holds_up_no_other(
        self, house: House, pool: CodecPool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, second = an_image(1), an_image(2)
        await house.receive(first)
        await house.receive(second)

        async def transcode(item: DicomObject, *rest: Any) -> TranscodedObject:
            if item.sop_instance_uid == first.SOPInstanceUID:
                raise IndexError("Mustermann")
            return await real(item, *rest)

        real = compressor.transcode
        monkeypatch.setattr(compressor, "transcode", transcode)
        await house.compressor(pool).compress_due()
        rows = {one.sop_instance_uid: one for one in await house.stores.compressions.rows(limit=9)}
        assert rows[first.SOPInstanceUID].last_fault == "internal error (IndexError)"
        assert rows[second.SOPInstanceUID].state is CompressionState.DONE
