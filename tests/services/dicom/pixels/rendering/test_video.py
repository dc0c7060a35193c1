"""Video: given as it is stored, and single frames of it (extra `video`)."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import av
import imagecodecs
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels import transfer_syntaxes
from isocenter.services.dicom.pixels.errors import CodecUnavailableError, ImageError
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.services.dicom.pixels.rendering.options import PNG, RenderOptions
from isocenter.services.dicom.pixels.rendering.renderer import open_renderer, render, thumbnail
from isocenter.services.dicom.pixels.rendering.video import media_type_of
from isocenter.services.dicom.pixels.transfer_syntaxes import (
    Support,
    decoding_of,
    viewing_of,
)
from support.images import dataset_of, describe, pixels

FRAMES = 8
H264, MPEG_2, HEVC = (f"1.2.840.10008.1.2.4.{end}" for end in ("102", "100", "107"))
IMAGE = describe(48, 64, samples=3, photometric_interpretation="YBR_PARTIAL_420")


def stream_of(codec: str, container: str) -> bytes:
    """Frames that get redder and redder."""
    av.logging.set_level(av.logging.PANIC)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = IMAGE.columns, IMAGE.rows, "yuv420p"
        if codec == "libx265":
            stream.options = {"x265-params": "log-level=none"}
        for number in range(FRAMES):
            picture = np.zeros((IMAGE.rows, IMAGE.columns, 3), np.uint8)
            picture[:, :, 0] = number * 30
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode())
    data = buffer.getvalue()
    return data + b"\0" * (len(data) & 1)


def video(data: bytes, syntax: str, fragments: int = 1) -> Dataset:
    dataset = dataset_of(IMAGE, [pixels(IMAGE)])
    dataset.NumberOfFrames = FRAMES
    step = len(data) // fragments // 2 * 2
    pieces = [data[step * each : step * (each + 1)] for each in range(fragments - 1)]
    dataset.PixelData = encapsulate([*pieces, data[step * (fragments - 1) :]])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


@pytest.fixture
async def pool() -> AsyncIterator[CodecPool]:
    async with CodecPool(PoolLimits(workers=1)) as made:
        yield made


@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize(
    ("codec", "container", "syntax", "media_type"),
    [
        ("libx264", "mp4", H264, "video/mp4"),
        ("libx264", "mpegts", H264, "video/mp2t"),
        ("libx264", "h264", H264, "application/octet-stream"),
        ("mpeg2video", "mpeg", MPEG_2, "video/mpeg"),
        ("mpeg2video", "mpeg2video", MPEG_2, "video/mpeg"),
        ("libx265", "hevc", HEVC, "application/octet-stream"),
    ],
)
async def test_streams_are_given_and_their_frames_shown(
    pool: CodecPool, codec: str, container: str, syntax: str, media_type: str, fragments: int
) -> None:
    data = stream_of(codec, container)
    item = DicomObject.from_dataset(video(data, syntax, fragments))
    async with open_renderer(item, pool) as renderer:
        stream = await renderer.video()
        assert (stream.size, stream.media_type) == (len(data), media_type)
        assert await stream.read(0, stream.size) == data
        assert await stream.read(len(data) // 3 - 7, 20) == data[len(data) // 3 - 7 :][:20]
        assert await stream.read(len(data) - 3, 100) == data[-3:]
        assert await stream.read(len(data), 10) == b""
        for number in (1, 4, FRAMES):
            made = await renderer.render(number, RenderOptions(media_type=PNG))
            red = imagecodecs.png_decode(made.content)[24, 32]
            assert abs(int(red[0]) - (number - 1) * 30) < 16
        for number in (0, FRAMES + 1):
            with pytest.raises(ImageError, match=f"the video has {FRAMES} frames"):
                await renderer.render(number)


async def test_the_thumbnail_is_of_the_middle(pool: CodecPool) -> None:
    item = DicomObject.from_dataset(video(stream_of("mpeg2video", "mpeg"), MPEG_2))
    made = await thumbnail(item, pool, size=32)
    assert (made.width, made.height) == (32, 24)
    red = imagecodecs.jpeg8_decode(made.content)[12, 16, 0]
    assert abs(int(red) - 3 * 30) < 16


async def test_a_stream_needs_no_offset_table(pool: CodecPool) -> None:
    """Of however many frames it is, and in however many fragments."""
    data = stream_of("libx264", "mp4")
    for fragments in (1, 3):
        dataset = video(data, H264, fragments)
        step = len(data) // fragments // 2 * 2
        pieces = [data[step * each : step * (each + 1)] for each in range(fragments - 1)]
        dataset.PixelData = encapsulate([*pieces, data[step * (fragments - 1) :]], has_bot=False)
        async with open_renderer(DicomObject.from_dataset(dataset), pool) as renderer:
            assert len(renderer) == FRAMES
            stream = await renderer.video()
            assert await stream.read(0, stream.size) == data


async def test_streams_that_are_none_are_errors(pool: CodecPool) -> None:
    whole = stream_of("mpeg2video", "mpeg")
    for data in (b"no video at all ", whole[:200], b"#EXTM3U\nfile:///etc/hostname\n", b"\0" * 100):
        item = DicomObject.from_dataset(video(data, MPEG_2))
        with pytest.raises(ImageError):
            await render(item, pool, frame=FRAMES)
    assert pool.failures == 0


async def test_streams_name_no_files(pool: CodecPool, tmp_path: Path) -> None:
    path = tmp_path / "part.ts"
    path.write_bytes(stream_of("libx264", "mpegts"))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{path.as_uri()}\n#EXT-X-ENDLIST\n"
    data = playlist.encode().ljust(400, b"\n")
    with pytest.raises(ImageError, match="cannot be decoded"):
        await render(DicomObject.from_dataset(video(data, H264)), pool)


async def test_streams_of_another_size_are_refused(pool: CodecPool) -> None:
    dataset = video(stream_of("mpeg2video", "mpeg"), MPEG_2)
    dataset.Rows = 50
    with pytest.raises(ImageError, match="64 × 48 pixels, the data set says 64 × 50"):
        await render(DicomObject.from_dataset(dataset), pool)


async def test_streams_longer_than_allowed_are_refused() -> None:
    data = stream_of("mpeg2video", "mpeg") + bytes(200_000)
    async with CodecPool(PoolLimits(workers=1, frame_bytes=100_000)) as pool:
        with pytest.raises(ImageError, match="of at most 100000 a picture is made"):
            await render(DicomObject.from_dataset(video(data, MPEG_2)), pool)


async def test_images_are_no_video(pool: CodecPool) -> None:
    item = DicomObject.from_dataset(dataset_of(IMAGE, [pixels(IMAGE)]))
    async with open_renderer(item, pool) as renderer:
        with pytest.raises(ImageError, match="no video"):
            await renderer.video()


async def test_frames_are_not_installed_known_or_there(
    pool: CodecPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert viewing_of("1.2.3") is Support.UNKNOWN
    assert viewing_of(H264) is Support.AVAILABLE
    assert decoding_of(H264) is Support.PASSED_THROUGH
    monkeypatch.setattr(transfer_syntaxes, "_is_installed", lambda name: name != "av")
    assert viewing_of(H264) is Support.NOT_INSTALLED
    data = stream_of("mpeg2video", "mpeg")
    async with open_renderer(DicomObject.from_dataset(video(data, MPEG_2)), pool) as renderer:
        with pytest.raises(CodecUnavailableError, match=r"isocenter\[codecs,video\]"):
            await renderer.render(1)
        stream = await renderer.video()
        assert await stream.read(0, 10) == data[:10]


def test_what_a_stream_is_its_first_bytes_say() -> None:
    assert media_type_of(b"\0\0\0\x1cftypisom") == "video/mp4"
    assert media_type_of((b"G" + bytes(187)) * 3) == "video/mp2t"
    assert media_type_of(b"GIF89a" + bytes(300)) == "application/octet-stream"
    assert media_type_of(b"") == "application/octet-stream"
