"""New objects of some frames of another one (PS3.4 Y.3.3, PS3.3 C.12.3)."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import IO, Final

import trio

from isocenter.engine.dataset import DataSetError, Encoding, encoding_of
from isocenter.engine.dataset.vr import SEQUENCE_DELIMITATION
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.archive.metadata.header import Header, read_header
from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.frames import FileReader, Image, NoPixelDataError, open_image
from isocenter.services.dicom.uids import new_uid
from isocenter.services.service_classes.query_retrieve.frame_editing import edit_for_frames
from isocenter.services.service_classes.query_retrieve.frame_request import (
    FrameError,
    FrameRequest,
    FrameStatus,
)
from isocenter.services.service_classes.query_retrieve.frame_times import frame_times, text_of
from isocenter.services.service_classes.query_retrieve.without_bulk_data import MOST_BYTES

_NUMBER_OF_FRAMES: Final = 0x00280008


@dataclass(frozen=True, slots=True)
class FrameSource:
    """An object and the frames of it that are wanted; made by `read_source`.

    Attributes:
        frames: from 0 on, in their order.
        times: of all frames, in seconds since Content Time; None: nobody knows.
    """

    header: Header
    request: FrameRequest
    frames: tuple[int, ...]
    times: tuple[float, ...] | None


async def read_source(item: DicomObject, request: FrameRequest) -> FrameSource:
    """What of *item* is wanted.

    Raises:
        FrameError: AA00H, AA03H: as of `FrameRequest.frames`; AA01H: it has no frames; AA02H: they
            cannot be told apart.
        StorageError, KeyError, OSError: it cannot be read.
    """
    syntax = item.transfer_syntax_uid
    try:
        async with await item.open() as reader:
            header = await read_header(
                reader, item.data_set_offset, encoding_of(syntax), MOST_BYTES
            )
        tree = DataSetTree(memoryview(header.data), header.encoding)
        said = text_of(tree, tree.root, _NUMBER_OF_FRAMES)
        if not said:
            raise FrameError(FrameStatus.CANNOT_CREATE, "the instance has no frames")
        async with open_image(item) as image:
            count = len(image)
    except NoPixelDataError as error:
        raise FrameError(FrameStatus.CANNOT_CREATE, "the instance has no frames") from error
    except (DataSetError, PixelError) as error:
        raise FrameError(
            FrameStatus.CANNOT_EXTRACT, "the frames cannot be read", log_detail=str(error)
        ) from error
    if said != str(count) or syntax == EXPLICIT_VR_BIG_ENDIAN:
        raise FrameError(FrameStatus.CANNOT_EXTRACT, "the frames cannot be told apart")
    times = frame_times(tree, count)
    return FrameSource(header, request, request.frames(count, times), times)


@asynccontextmanager
async def extracted(
    item: DicomObject,
    request: FrameRequest,
    *,
    station: str,
    now: datetime | None = None,
) -> AsyncIterator[DicomObject]:
    """An object of the frames of *item* that are wanted, with a UID of its own.

    Args:
        station: the AE title of what makes it.

    Raises:
        FrameError, StorageError, KeyError, OSError: as of `read_source`.
    """
    source = await read_source(item, request)
    uid = new_uid()
    moment = datetime.now().astimezone() if now is None else now
    with tempfile.TemporaryFile(buffering=0) as file:
        tree = DataSetTree(memoryview(source.header.data), source.header.encoding)
        edit_for_frames(
            tree,
            source.frames,
            source.times,
            source.request,
            sop_instance_uid=uid,
            source_uid=item.sop_instance_uid,
            station=station,
            now=moment,
        )
        size = await trio.to_thread.run_sync(_write_all, file, tree.pieces())
        async with open_image(item) as image:
            size += await _write_pixels(file, image, source)

        async def open_object() -> ObjectReader:
            return FileReader(file, size)

        is_deflated = item.transfer_syntax_uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
        yield replace(
            item,
            sop_instance_uid=uid,
            transfer_syntax_uid=(
                EXPLICIT_VR_LITTLE_ENDIAN if is_deflated else item.transfer_syntax_uid
            ),
            open=open_object,
            data_set_offset=0,
            name=uid,
            digest="",
        )


def _write_all(file: IO[bytes], pieces: Iterable[bytes | bytearray | memoryview]) -> int:
    return sum(file.write(piece) for piece in pieces)


async def _write_pixels(file: IO[bytes], image: Image, source: FrameSource) -> int:
    """Pixel Data of the frames; it is the last element."""
    element = image.found.pixel_data
    if image.layout.is_encapsulated:
        size = _write_all(file, [struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF)])
        size += _write_all(file, [struct.pack("<HHI", 0xFFFE, 0xE000, 0)])
        for number in source.frames:
            data = await image.read(number)
            padding = len(data) & 1
            head = struct.pack("<HHI", 0xFFFE, 0xE000, len(data) + padding)
            size += await trio.to_thread.run_sync(_write_all, file, [head, data, bytes(padding)])
        return size + _write_all(
            file, [struct.pack("<HHI", SEQUENCE_DELIMITATION >> 16, 0xE0DD, 0)]
        )
    bits = image.description.frame_bits
    length = (bits * len(source.frames) + 7) // 8
    vr = (element.vr if element is not None else None) or source.header.pixel_vr or "OW"
    size = _write_all(file, [_native_header(source.header.encoding, vr, length + (length & 1))])
    rest, filled = 0, 0
    for number in source.frames:
        data = await image.read_alone(number)
        if bits % 8 == 0:
            size += await trio.to_thread.run_sync(_write_all, file, [data])
            continue
        # Frames of single bits follow one another without a gap.
        rest |= int.from_bytes(data, "little") << filled
        filled += bits
        whole, filled = divmod(filled, 8)
        mask = (1 << whole * 8) - 1
        size += _write_all(file, [(rest & mask).to_bytes(whole, "little")])
        rest >>= whole * 8
    if filled:
        size += _write_all(file, [rest.to_bytes(1, "little")])
    return size + _write_all(file, [bytes(length & 1)])


def _native_header(encoding: Encoding, vr: str, length: int) -> bytes:
    if encoding.implicit_vr:
        return struct.pack("<HHI", 0x7FE0, 0x10, length)
    return struct.pack("<HH2sHI", 0x7FE0, 0x10, vr.encode(), 0, length)
