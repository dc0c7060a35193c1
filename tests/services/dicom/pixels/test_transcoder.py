"""The transcoder of a server: what it offers, what it keeps, and what it tells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import trio
from pydicom.encaps import encapsulate

from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.encoding import encode_frame
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.services.dicom.pixels.transcoder import Transcoder, WholeObject, cure_for
from isocenter.services.dicom.pixels.transcoding import TranscodingOptions
from isocenter.services.dicom.pixels.transfer_syntaxes import BY_KEYWORD
from isocenter.services.notices import Notices, ObjectTranscoded
from support.images import dataset_of, describe, file_of, pixels

from .test_frames import object_of

EXPLICIT, JPEG_LS = BY_KEYWORD["explicit"].uid, BY_KEYWORD["jpeg-ls"].uid
IMAGE = describe(32, 32, bits=12)


@pytest.fixture
async def pool() -> Any:
    async with CodecPool(PoolLimits(workers=1)) as pool:
        yield pool


def stored(seed: int = 1, broken: bool = False) -> DicomObject:
    """An object of an archive, in JPEG-LS."""
    array = pixels(IMAGE, seed)
    frame, _ = encode_frame(array.tobytes(), IMAGE, JPEG_LS)
    dataset = dataset_of(IMAGE, [array])
    dataset.file_meta.TransferSyntaxUID = JPEG_LS
    dataset.PixelData = encapsulate([frame[:40] if broken else frame])
    dataset["PixelData"].VR = "OB"
    return replace(object_of(file_of(dataset)), digest=f"{seed:064x}")


def outcomes(notices: Notices) -> list[str]:
    heard: list[str] = []

    def hear(notice: object) -> None:
        if isinstance(notice, ObjectTranscoded):
            heard.append(notice.outcome)

    notices.subscribe(hear)
    return heard


class TestTargets:
    async def test_compressed_objects_become_uncompressed_first(self, pool: CodecPool) -> None:
        targets = Transcoder(pool).targets(JPEG_LS)
        assert targets[:2] == (EXPLICIT, BY_KEYWORD["implicit"].uid)
        assert JPEG_LS not in targets
        assert BY_KEYWORD["jpeg-baseline"].uid not in targets

    async def test_uncompressed_ones_are_converted_elsewhere(self, pool: CodecPool) -> None:
        targets = Transcoder(pool).targets(EXPLICIT)
        assert targets[0] == JPEG_LS
        assert BY_KEYWORD["implicit"].uid not in targets

    async def test_losses_have_to_be_allowed(self, pool: CodecPool) -> None:
        options = TranscodingOptions(lossy=True)
        assert Transcoder(pool, options=options).targets(JPEG_LS)[-1] == (
            BY_KEYWORD["jpeg-baseline"].uid
        )

    async def test_nothing_for_what_nobody_decodes(
        self, pool: CodecPool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        transcoder = Transcoder(pool)
        assert transcoder.targets("1.2.3") == ()
        assert transcoder.targets("1.2.840.10008.1.2.4.102") == ()
        assert cure_for(JPEG_LS) == ""
        monkeypatch.setattr(
            "isocenter.services.dicom.pixels.transfer_syntaxes._is_installed", lambda name: False
        )
        assert transcoder.targets(JPEG_LS) == ()
        assert "pip install 'isocenter[codecs]'" in cure_for(JPEG_LS)


class TestCache:
    async def test_results_are_kept_for_the_next(self, pool: CodecPool) -> None:
        notices = Notices()
        heard = outcomes(notices)
        transcoder = Transcoder(pool, notices=notices)
        item = stored()
        async with transcoder.made(item, EXPLICIT) as first:
            pass
        async with transcoder.made(item, EXPLICIT) as second:
            assert second is first
        assert heard == ["made", "cached"]

    async def test_what_several_want_is_made_once(self, pool: CodecPool) -> None:
        notices = Notices()
        heard = outcomes(notices)
        transcoder = Transcoder(pool, notices=notices)
        item, found = stored(), []

        async def ask() -> None:
            async with transcoder.made(item, EXPLICIT) as one:
                found.append(one)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
        assert all(each is found[0] for each in found)
        assert sorted(heard) == ["cached"] * 4 + ["made"]
        assert not transcoder._making

    async def test_what_fails_for_one_is_tried_by_the_next(self, pool: CodecPool) -> None:
        transcoder = Transcoder(pool)
        item, failures = stored(broken=True), []

        async def ask() -> None:
            try:
                async with transcoder.made(item, EXPLICIT):
                    raise AssertionError
            except ImageError as error:
                failures.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
        assert len(failures) == 2
        assert (transcoder._size, transcoder._making) == (0, {})

    async def test_what_is_being_sent_does_not_go(self, pool: CodecPool) -> None:
        transcoder = Transcoder(pool, cache_bytes=14_000)
        async with transcoder.made(stored(0), EXPLICIT) as first:
            for seed in range(1, 8):
                async with transcoder.made(stored(seed), EXPLICIT):
                    assert transcoder._size <= 14_000
            async with transcoder.made(stored(0), EXPLICIT) as again:
                assert again is first

    async def test_others_go_when_there_is_no_room(self, pool: CodecPool) -> None:
        transcoder = Transcoder(pool, cache_bytes=14_000)
        made = []
        for seed in range(8):
            async with transcoder.made(stored(seed), EXPLICIT) as found:
                assert isinstance(found, WholeObject)
                made.append(found)
            assert transcoder._size <= 14_000
            assert transcoder._size == sum(each.size for each in transcoder._kept.values())
        async with transcoder.made(stored(7), EXPLICIT) as found:
            assert found is made[7]
        async with transcoder.made(stored(0), EXPLICIT) as found:
            assert found is not made[0]

    async def test_what_is_large_is_made_while_it_is_sent(self, pool: CodecPool) -> None:
        transcoder = Transcoder(pool, cache_bytes=1000)
        async with transcoder.made(stored(), EXPLICIT) as found:
            assert not isinstance(found, WholeObject)
            pieces = [bytes(piece) async for piece, _ in found.parts()]
        assert pixels(IMAGE).tobytes() in b"".join(pieces)
        assert transcoder._size == 0

    async def test_what_may_change_is_not_kept(self, pool: CodecPool) -> None:
        transcoder = Transcoder(pool)
        async with transcoder.made(replace(stored(), digest=""), EXPLICIT):
            pass
        assert transcoder._size == 0

    @pytest.mark.parametrize("cache_bytes", [1000, 1 << 20])
    async def test_a_fault_shows_before_anything_is_sent(
        self, cache_bytes: int, pool: CodecPool
    ) -> None:
        notices = Notices()
        heard = outcomes(notices)
        transcoder = Transcoder(pool, cache_bytes=cache_bytes, notices=notices)
        with pytest.raises(ImageError):
            async with transcoder.made(stored(broken=True), EXPLICIT):
                raise AssertionError
        assert heard == ["failed"]
        assert transcoder._size == 0
