"""Frames over the web, of every encoding, where they lie in files; against pydicom."""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from email import message_from_bytes
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
)

from isocenter.engine.dataset import read_file_meta, write_file_meta
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.object_scan import StoreError
from isocenter.services.archive.ports import InstanceRecord
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Response
from isocenter.services.net.http.routing import RouteTable
from isocenter.services.notices import Caller, Notices
from isocenter.services.web.dicomweb.service import dicomweb_routes
from support.images import dataset_of, describe, file_of, pixels
from support.web_requests import (
    archive_in,
    ask,
    body_of,
    header,
    instance_path,
    is_from_file,
    keep,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

AS_STORED = {"accept": "multipart/related; type=application/octet-stream; transfer-syntax=*"}
ALONE = {"accept": "application/octet-stream; transfer-syntax=*"}
SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
#: Deflated Image Frame Compression.
DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"


def routes(archive: Archive) -> RouteTable[Handler]:
    return RouteTable(
        dicomweb_routes(archive, Notices(), caller_of=lambda _: Caller(association="test"))
    )


@asynccontextmanager
async def stored(
    folder: Path, *objects: bytes | Dataset
) -> AsyncIterator[tuple[RouteTable[Handler], list[InstanceRecord]]]:
    async with archive_in(folder) as archive:
        yield routes(archive), await keep(archive, *objects)


def parts_of(response: Response, body: bytes) -> list[tuple[str, bytes]]:
    """Content types and contents, as a parser of mail sees them."""
    assert sum(map(len, response.body)) == len(body)  # type: ignore[arg-type]
    head = f"Content-Type: {header(response, 'content-type')}\r\n\r\n".encode()
    message = message_from_bytes(head + body)
    return [
        (part["Content-Type"], part.get_payload(decode=True))  # type: ignore[misc]
        for part in message.get_payload()
    ]


def contents(body: bytes) -> list[bytes]:
    """What the parts hold, byte for byte."""
    delimiter = b"\r\n" + body.partition(b"\r\n")[0]
    pieces = (b"\r\n" + body).split(delimiter)[1:-1]
    return [piece.partition(b"\r\n\r\n")[2] for piece in pieces]


def native_frames(dataset: Dataset, count: int) -> list[bytes]:
    """By the standard's words: frames one behind the other, bits packed."""
    value = bytes(dataset.PixelData)
    bits = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * dataset.BitsAllocated
    if dataset.PhotometricInterpretation in ("YBR_FULL_422", "YBR_PARTIAL_422"):
        bits = bits * 2 // 3
    if dataset.BitsAllocated == 1:
        flat = np.unpackbits(np.frombuffer(value, "u1"), bitorder="little")
        cut = [flat[number * bits : (number + 1) * bits] for number in range(count)]
        return [np.packbits(frame, bitorder="little").tobytes() for frame in cut]
    if dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian:
        width = dataset.BitsAllocated // 8
        if width == 1 and dataset["PixelData"].VR == "OW":
            width = 2
        value = np.frombuffer(value, f">u{width}").astype(f"<u{width}").tobytes()
    length = bits // 8
    return [value[number * length : (number + 1) * length] for number in range(count)]


def expected_frames(dataset: Dataset) -> list[bytes]:
    count = int(dataset.get("NumberOfFrames") or 1)
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return native_frames(dataset, count)
    offsets = None
    if "ExtendedOffsetTable" in dataset:
        offsets = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    frames = generate_frames(dataset.PixelData, number_of_frames=count, extended_offsets=offsets)
    return list(frames)


def with_pixels() -> list[tuple[str, bytes]]:
    found = []
    for path in (Path(pydicom.__file__).parent / "data").rglob("*.dcm"):
        try:
            dataset = pydicom.dcmread(path, specific_tags=["Rows", "PixelData"], force=True)
            syntax = dataset.file_meta.TransferSyntaxUID
            dataset.file_meta.MediaStorageSOPInstanceUID  # noqa: B018 - those without are not stored
        except (AttributeError, EOFError, ValueError, pydicom.errors.InvalidDicomError):
            continue
        if "PixelData" in dataset and "Rows" in dataset and syntax.is_transfer_syntax:
            found.append((path.name, path.read_bytes()))
    return found


async def frames_as_stored(
    table: RouteTable[Handler], record: InstanceRecord, count: int
) -> list[bytes]:
    numbers = ",".join(str(number + 1) for number in range(count))
    url = f"{instance_path(record)}/frames/{numbers}"
    response = await ask(table, url, headers=AS_STORED)
    body = await body_of(response)
    for content_type, _ in parts_of(response, body):
        assert content_type.startswith("application/octet-stream; transfer-syntax=1.2.840.10008.")
    return contents(body)


async def test_frames_of_the_files_of_pydicom(tmp_path: Path) -> None:
    """Each one on its own path, whatever is odd about it."""
    compared = 0
    async with archive_in(tmp_path) as archive:
        table = routes(archive)
        for name, content in with_pixels():
            dataset = pydicom.dcmread(BytesIO(content))
            try:
                expected = expected_frames(dataset)
            except (ValueError, AttributeError):
                continue  # pydicom cannot tell
            if not expected[0] or len(expected[-1]) < len(expected[0]) // 2:
                continue  # cut short
            try:
                (record,) = await keep(archive, content)
            except StoreError:
                continue  # what is refused is tested elsewhere
            assert await frames_as_stored(table, record, len(expected)) == expected, name
            await archive.remove([record.sop_instance_uid])  # several have the same
            compared += 1
    assert compared > 50


def made(bits: int, frames: int, *, side: tuple[int, int] = (5, 7), samples: int = 1) -> Dataset:
    image = describe(*side, bits=bits, samples=samples)
    return dataset_of(image, [pixels(image, seed) for seed in range(frames)])


def in_syntax(dataset: Dataset, syntax: str) -> Dataset:
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    if syntax == ExplicitVRBigEndian and dataset.BitsAllocated == 16:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    return dataset


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    ("bits", "frames", "samples"), [(1, 3, 1), (8, 3, 1), (8, 1, 3), (12, 2, 1), (16, 1, 1)]
)
async def test_native_frames_go_out_in_little_endian(
    syntax: str, bits: int, frames: int, samples: int, tmp_path: Path
) -> None:
    dataset = made(bits, frames, samples=samples)
    expected = native_frames(dataset, frames)
    async with stored(tmp_path, in_syntax(dataset, syntax)) as (table, (record,)):
        assert await frames_as_stored(table, record, frames) == expected
        url = f"{instance_path(record)}/frames/1"
        response = await ask(table, url, headers=ALONE)
        assert header(response, "content-type") == (
            "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"
        )
        is_verbatim = bits != 1 and syntax not in (
            ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian,
        )  # fmt: skip
        assert is_from_file(response) is (is_verbatim or (bits == 8 and "2.2" in syntax))
        assert await body_of(response) == expected[0]
        whole = await ask(table, f"{instance_path(record)}/bulkdata/7FE00010", headers=ALONE)
        length = sum(map(len, expected))
        if bits != 1:
            assert (await body_of(whole))[:length] == b"".join(expected)


def tables(fragments: Sequence[bytes], starts: Sequence[int]) -> bytes:
    offsets = [sum(8 + len(each) for each in fragments[:index]) for index in starts]
    return struct.pack(f"<{len(offsets)}I", *offsets)


def item(value: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value


FRAGMENTS = [bytes([0xFF, 0xD8, 0xFF, number]) + bytes([number]) * (8 + 2 * number)
             for number in range(6)]  # fmt: skip


@pytest.mark.parametrize(
    ("fragments", "starts", "frames"),
    [
        (FRAGMENTS[:3], None, [[0], [1], [2]]),
        (FRAGMENTS[:3], [0, 1, 2], [[0], [1], [2]]),
        (FRAGMENTS, [0, 2, 5], [[0, 1], [2, 3, 4], [5]]),
        ([*FRAGMENTS[:1], b"more", b"of it!"], None, [[0, 1, 2]]),
        # A table of the first frame only is not believed.
        (FRAGMENTS[:3], [0], [[0], [1], [2]]),
    ],
)
async def test_fragments_are_joined_to_frames(
    fragments: list[bytes], starts: list[int] | None, frames: list[list[int]], tmp_path: Path
) -> None:
    dataset = made(8, len(frames))
    table = item(b"" if starts is None else tables(fragments, starts))
    dataset.PixelData = table + b"".join(map(item, fragments))
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    dataset.NumberOfFrames = len(frames)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID("1.2.840.10008.1.2.4.50")
    async with stored(tmp_path, dataset) as (served, (record,)):
        found = await frames_as_stored(served, record, len(frames))
    assert found == [b"".join(fragments[number] for number in each) for each in frames]


async def test_extended_offset_table_says_lengths(tmp_path: Path) -> None:
    frames = [b"\xff\xd8\xff" + bytes([number]) * (6 + number) for number in range(4)]
    dataset = made(8, 4)
    dataset.PixelData, offsets, _ = encapsulate_extended(frames)
    dataset["PixelData"].VR = "OB"
    dataset.ExtendedOffsetTable = offsets
    dataset.ExtendedOffsetTableLengths = struct.pack("<4Q", *map(len, frames))
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    async with stored(tmp_path, dataset) as (table, (record,)):
        assert await frames_as_stored(table, record, 4) == frames


async def test_deflated_frames_are_frames(tmp_path: Path) -> None:
    packed = []
    for number in range(3):
        deflater = zlib.compressobj(wbits=-15)
        packed.append(deflater.compress(bytes([number]) * 35) + deflater.flush())
    dataset = made(8, 3)
    dataset.PixelData = encapsulate(packed, has_bot=True)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    file = file_of(dataset)
    # pydicom does not know it.
    meta = write_file_meta(
        sop_class_uid=dataset.SOPClassUID,
        sop_instance_uid=dataset.SOPInstanceUID,
        transfer_syntax_uid=DEFLATED_FRAMES,
    )
    file = meta + file[read_file_meta(file).data_set_offset :]
    async with stored(tmp_path, file) as (table, (record,)):
        found = await frames_as_stored(table, record, 3)
        inflated = [zlib.decompressobj(wbits=-15).decompress(frame) for frame in found]
        assert inflated == [bytes([number]) * 35 for number in range(3)]


async def test_parts_of_frames_come_from_the_file(tmp_path: Path) -> None:
    dataset = made(16, 3, side=(40, 50))
    async with stored(tmp_path, dataset) as (table, (record,)):
        url = f"{instance_path(record)}/frames/3,1"
        whole = await body_of(await ask(table, url, headers=AS_STORED))
        for start, stop in ((0, 10), (100, 5_000), (3_000, len(whole)), (len(whole) - 5, None)):
            last = "" if stop is None else str(stop - 1)
            part = await ask(table, url, headers={**AS_STORED, "range": f"bytes={start}-{last}"})
            assert part.status == 206
            assert await body_of(part) == whole[start:stop]
        with pytest.raises(HttpError) as refused:
            await ask(table, url, headers={**AS_STORED, "range": f"bytes={len(whole)}-"})
        assert refused.value.status == 416


async def test_frames_that_are_not_there(tmp_path: Path) -> None:
    async with stored(tmp_path, made(8, 2)) as (table, (record,)):
        for numbers, status in (("3", 404), ("1,2,3", 404), ("0", 400)):
            with pytest.raises(HttpError) as refused:
                await ask(table, f"{instance_path(record)}/frames/{numbers}", headers=AS_STORED)
            assert refused.value.status == status


async def test_too_many_frames_to_be_held(tmp_path: Path) -> None:
    dataset = in_syntax(made(16, 1, side=(4096, 4096)), ExplicitVRBigEndian)
    async with stored(tmp_path, dataset) as (table, (record,)):
        with pytest.raises(HttpError) as refused:
            await ask(table, f"{instance_path(record)}/frames/{'1,' * 9}1", headers=AS_STORED)
        assert refused.value.status == 413
