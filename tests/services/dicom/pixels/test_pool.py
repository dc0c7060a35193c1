"""The pool of decoding processes: one that dies, hangs or takes too much costs one request."""

from __future__ import annotations

import os
import signal

import pytest
import trio

from isocenter.services.dicom.pixels.encoding import EncodingOptions
from isocenter.services.dicom.pixels.errors import CodecFailedError, ImageError, PixelError
from isocenter.services.dicom.pixels.pool import CodecPool, DecodedFrame, PoolLimits
from isocenter.services.dicom.pixels.transfer_syntaxes import BY_KEYWORD
from isocenter.services.dicom.pixels.worker import _limit_memory
from support.images import describe, pixels

JPEG_LS = BY_KEYWORD["jpeg-ls"].uid
IMAGE = describe(64, 64, bits=12)
FRAME = DecodedFrame(pixels(IMAGE).tobytes(), IMAGE)


async def test_frames_go_there_and_come_back() -> None:
    async with CodecPool() as pool:
        encoded, said = await pool.encode(FRAME, JPEG_LS)
        assert len(encoded) < len(FRAME.samples)
        assert await pool.decode(encoded, said, JPEG_LS) == FRAME
        assert pool.failures == 0


async def test_processes_are_used_again_and_end_with_the_pool() -> None:
    async with CodecPool(PoolLimits(workers=2)) as pool:
        encoded, said = await pool.encode(FRAME, JPEG_LS)
        (first,) = pool._idle
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(pool.decode, encoded, said, JPEG_LS)
        workers = list(pool._idle)
        assert first in workers
        assert len(workers) == 2
    for worker in workers:
        assert worker._process.returncode is not None


async def test_a_fault_in_a_frame_costs_no_process() -> None:
    async with CodecPool() as pool:
        encoded, said = await pool.encode(FRAME, JPEG_LS)
        (worker,) = pool._idle
        with pytest.raises(ImageError):
            await pool.decode(encoded[:20], said, JPEG_LS)
        assert pool._idle == [worker]
        assert pool.failures == 0


@pytest.mark.skipif(os.name != "posix", reason="signals")
async def test_a_process_that_dies_costs_one_request() -> None:
    async with CodecPool(PoolLimits(workers=1)) as pool:
        encoded, said = await pool.encode(FRAME, JPEG_LS)
        os.kill(pool._idle[0]._process.pid, signal.SIGSEGV)
        with pytest.raises(CodecFailedError, match="the decoder died over the frame"):
            await pool.decode(encoded, said, JPEG_LS)
        assert pool.failures == 1
        assert await pool.decode(encoded, said, JPEG_LS) == FRAME


@pytest.mark.skipif(os.name != "posix", reason="signals")
async def test_a_process_that_hangs_is_ended() -> None:
    async with CodecPool(PoolLimits(workers=1, seconds=10)) as pool:
        encoded, said = await pool.encode(FRAME, JPEG_LS)
        worker = pool._idle[0]
        os.kill(worker._process.pid, signal.SIGSTOP)
        pool.limits = PoolLimits(workers=1, seconds=0.1)
        with pytest.raises(CodecFailedError, match=r"more than 0\.1 s"):
            await pool.decode(encoded, said, JPEG_LS)
        assert worker._process.returncode == -signal.SIGKILL
        pool.limits = PoolLimits(workers=1)
        assert await pool.decode(encoded, said, JPEG_LS) == FRAME


async def test_a_request_that_is_cancelled_leaves_nothing_behind() -> None:
    async with CodecPool(PoolLimits(workers=1)) as pool:
        encoded, said = await pool.encode(FRAME, JPEG_LS)
        with trio.CancelScope() as scope:
            scope.cancel()
            await pool.decode(encoded, said, JPEG_LS)
        assert scope.cancelled_caught
        assert await pool.decode(encoded, said, JPEG_LS) == FRAME


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="bounds of memory are Linux's")
async def test_memory_has_a_bound() -> None:
    image = describe(8000, 8000, bits=16)
    whole = DecodedFrame(bytes(image.decoded_length), image)
    async with CodecPool(PoolLimits(memory_bytes=700 << 20)) as pool:
        with pytest.raises(PixelError):
            await pool.encode(whole, BY_KEYWORD["jpeg2000"].uid)
        assert await pool.encode(FRAME, JPEG_LS)


async def test_sizes_are_judged_before_a_process_begins() -> None:
    async with CodecPool(PoolLimits(frame_bytes=1 << 20)) as pool:
        huge = describe(65535, 65535, bits=16)
        with pytest.raises(ImageError, match="a frame of 8589672450 bytes; at most 1048576"):
            await pool.decode(b"x", huge, JPEG_LS)
        with pytest.raises(ImageError, match="a frame of 2000000 bytes"):
            await pool.decode(bytes(2_000_000), IMAGE, JPEG_LS)
        assert not pool._idle


async def test_options_arrive() -> None:
    async with CodecPool() as pool:
        near = BY_KEYWORD["jpeg-ls-near"].uid
        image = describe(64, 64)
        frame = DecodedFrame(pixels(image).tobytes(), image)
        short, _ = await pool.encode(frame, near, EncodingOptions(near=9))
        long, _ = await pool.encode(frame, near, EncodingOptions(near=1))
        assert len(short) < len(long)


async def test_jpeg_is_recompressed() -> None:
    image = describe(64, 64)
    frame = DecodedFrame(pixels(image).tobytes(), image)
    baseline, xl = BY_KEYWORD["jpeg-baseline"].uid, BY_KEYWORD["jpegxl-jpeg"].uid
    async with CodecPool() as pool:
        jpeg, said = await pool.encode(frame, baseline)
        smaller = await pool.recompress(jpeg, said, xl)
        assert await pool.recompress(smaller, said, baseline) == jpeg


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_a_sandbox_that_forbids_limits_forbids_no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    def refuse(what: int, limits: tuple[int, int]) -> None:
        raise PermissionError(what)

    monkeypatch.setattr(resource, "setrlimit", refuse)
    _limit_memory(1 << 30)
