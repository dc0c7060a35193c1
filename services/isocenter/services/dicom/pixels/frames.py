"""Images on demand: the frames of one object, read by the frame and decoded.

    async with open_image(dicom_object) as image:
        frame = await image.decode(pool, 3)

Whatever holds the object, little more than the frames that are asked for is read of it.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import BinaryIO, Final, Protocol, Self

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import (
    EXPLICIT_LITTLE,
    DataSetError,
    Encoding,
    Frame,
    FrameIndex,
    Inflater,
    PixelDataMap,
    encoding_of,
    index_frames,
    map_pixel_data,
)
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.image import DESCRIBING, ImageDescription
from isocenter.services.dicom.pixels.pool import CodecPool, DecodedFrame
from isocenter.services.dicom.pixels.transfer_syntaxes import PIXEL_SYNTAXES

#: What is read at once while headers are looked for.
_WINDOW: Final = 64 << 10
#: The same where as much was passed over.
_HEADER_WINDOW: Final = 256
_DEFLATED_STEP: Final = 64 << 10
#: A deflated data set is inflated to a file to find frames in it, of at most so many bytes.
MAX_INFLATED: Final = 4 << 30


class NoPixelDataError(DataSetError):
    """A data set has no Pixel Data: it is no image."""


class ImageObject(Protocol):
    """What an image is read from (`isocenter.services.dicom.objects.DicomObject`)."""

    @property
    def transfer_syntax_uid(self) -> str: ...

    @property
    def open(self) -> Callable[[], Awaitable[ObjectReader]]: ...

    @property
    def data_set_offset(self) -> int: ...


class Image:
    """The pixels of one object, while it is open.

    Attributes:
        transfer_syntax_uid: of the pixels.
        description: what the data set says of them.
        size: of the data set, in bytes.
        found: the map of its data set, with the values that `open_image` was told to keep.
        index: where its frames lie.
        forgiven: what is not as the standard has it, in words.
    """

    def __init__(
        self, reader: ObjectReader, offset: int, transfer_syntax_uid: str, found: PixelDataMap
    ) -> None:
        element = found.pixel_data
        if element is None:
            raise NoPixelDataError("the data set has no Pixel Data", 0)
        encoding = encoding_of(transfer_syntax_uid)
        self._reader = reader
        self._offset = offset
        self.transfer_syntax_uid = transfer_syntax_uid
        self.found = found
        self.size = reader.size - offset
        self.description = ImageDescription.of(found, big_endian=encoding.big_endian)
        self.index: FrameIndex = index_frames(
            found,
            number_of_frames=self.description.number_of_frames,
            frame_bits=self.description.frame_bits,
        )
        self.forgiven = (*found.forgiven, *self.index.forgiven)
        known = PIXEL_SYNTAXES.get(transfer_syntax_uid)
        is_encapsulated = element.fragments is not None
        if known is not None and known.is_encapsulated is not is_encapsulated:
            what = "encapsulated" if is_encapsulated else "native"
            raise ImageError(f"Pixel Data is {what}, the transfer syntax {known.name} is not")
        #: Samples of a byte or less in 16-bit words of the other byte order (PS3.5 8.1.2).
        self._swaps = (
            encoding.big_endian and self.description.bits_allocated <= 8 and element.vr == "OW"
        )

    def __len__(self) -> int:
        """Frames that are there."""
        return len(self.index)

    def frame(self, number: int) -> Frame:
        """Where a frame lies.

        Args:
            number: from 0 on.

        Raises:
            ImageError: it is not there.
        """
        if not 0 <= number < len(self.index):
            raise ImageError(f"the image has {len(self.index)} frames, and none with the number "
                             f"{number + 1}")  # fmt: skip
        return self.index[number]

    async def read(self, number: int) -> bytes:
        """A frame as it lies in Pixel Data, fragments joined.

        Raises:
            ImageError: it is not there.
        """
        frame = self.frame(number)
        if self._swaps:
            return await self._read_words(frame)
        pieces = [await self.read_bytes(span.offset, span.length) for span in frame.spans]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def decode(self, pool: CodecPool, number: int) -> DecodedFrame:
        """The samples of a frame.

        Raises:
            PixelError: it is not there, or cannot be decoded.
        """
        pool.check(self.description, self.transfer_syntax_uid)
        frame = self.frame(number)
        if frame.length > pool.limits.frame_bytes:
            raise ImageError(
                f"a frame of {frame.length} bytes; at most {pool.limits.frame_bytes} are read"
            )
        return await pool.decode(
            await self.read(number),
            self.description,
            self.transfer_syntax_uid,
            skip_bits=frame.skip_bits,
        )

    async def read_bytes(self, offset: int, length: int) -> bytes:
        """Bytes of the data set; of a deflated one, of what it inflates to.

        Raises:
            DataSetError: they are not there any more.
        """
        data = await self._reader.read(self._offset + offset, length) if length else b""
        if len(data) != length:
            raise DataSetError("the object is shorter than it was", offset)
        return data

    async def _read_words(self, frame: Frame) -> bytes:
        element = self.found.pixel_data
        assert element is not None
        (span,) = frame.spans
        start = span.offset - (span.offset - element.value) % 2
        end = min(span.end + (span.end - element.value) % 2, element.end)
        words = bytearray(await self.read_bytes(start, end - start))
        half = len(words) // 2 * 2
        words[0:half:2], words[1:half:2] = words[1:half:2], words[0:half:2]
        return bytes(words[span.offset - start :][: span.length])


@asynccontextmanager
async def open_image(
    item: ImageObject,
    *,
    wanted: frozenset[int] = frozenset(),
    located: frozenset[int] = frozenset(),
    search_sequences: bool = False,
) -> AsyncIterator[Image]:
    """The image of an object.

    Args:
        wanted: top-level elements whose values are kept beside those that describe the pixels.
        located: top-level elements whose places are kept.
        search_sequences: look for encapsulated values in all sequences.

    Raises:
        DataSetError: the data set is malformed, or has no pixels.
        ImageError: what it says of them is missing or impossible.
        OSError, KeyError: the object cannot be read.
    """
    async with await item.open() as reader:
        encoding = encoding_of(item.transfer_syntax_uid)
        if not encoding.deflated:
            found = await _map(
                reader, item.data_set_offset, encoding, wanted, located, search_sequences
            )
            yield Image(reader, item.data_set_offset, item.transfer_syntax_uid, found)
            return
        with tempfile.TemporaryFile(buffering=0) as file:
            size = await _inflate(reader, item.data_set_offset, file)
            inflated = FileReader(file, size)
            found = await _map(inflated, 0, EXPLICIT_LITTLE, wanted, located, search_sequences)
            yield Image(inflated, 0, item.transfer_syntax_uid, found)


async def _map(
    reader: ObjectReader,
    start: int,
    encoding: Encoding,
    wanted: frozenset[int],
    located: frozenset[int],
    search_sequences: bool,
) -> PixelDataMap:
    size = reader.size - start
    mapping = map_pixel_data(
        encoding, size, DESCRIBING | wanted, located, search_sequences=search_sequences
    )
    try:
        offset, length = next(mapping)
        end = 0
        while True:
            # Behind a long value stands a header, and behind that one the next long value.
            window = _WINDOW if offset - end < _WINDOW else _HEADER_WINDOW
            length = min(max(length, window), size - offset)
            end = offset + length
            offset, length = mapping.send(await reader.read(start + offset, length))
    except StopIteration as done:
        found: PixelDataMap = done.value
        return found


async def _inflate(reader: ObjectReader, start: int, file: BinaryIO) -> int:
    inflater = Inflater()
    size = 0
    for position in range(start, reader.size, _DEFLATED_STEP):
        piece = await reader.read(position, min(_DEFLATED_STEP, reader.size - position))

        def inflate(piece: bytes = piece) -> int:
            return sum(file.write(part) for part in inflater.feed(piece))

        size += await trio.to_thread.run_sync(inflate)
        if size > MAX_INFLATED:
            raise ImageError(f"the data set inflates to more than {MAX_INFLATED} bytes")
    inflater.finish()
    return size


class FileReader:
    """Reads a data set in a file that somebody else closes."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._lock = threading.Lock()
        self.size = size

    async def read(self, offset: int, length: int) -> bytes:
        def read() -> bytes:
            with self._lock:
                self._file.seek(offset)
                return self._file.read(length)

        return await trio.to_thread.run_sync(read)

    async def view(self, offset: int, length: int) -> Buffer:
        return await self.read(offset, length)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None
