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
    map_pixel_data,
)
from isocenter.engine.error_codes import ErrorCode
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.image import DESCRIBING
from isocenter.services.dicom.pixels.layout import ImageLayout
from isocenter.services.dicom.pixels.pool import CodecPool, DecodedFrame

#: What is read at once while headers are looked for.
_WINDOW: Final = 64 << 10
#: The same where as much was passed over.
_HEADER_WINDOW: Final = 256
_DEFLATED_STEP: Final = 64 << 10
#: A deflated data set is inflated to a file to find frames in it, of at most so many bytes.
MAX_INFLATED: Final = 4 << 30


class NoPixelDataError(DataSetError):
    """A data set has no Pixel Data: it is no image."""

    error_code = ErrorCode.ELEMENT_NOT_FOUND


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
        reader, offset: of the object, and where in it the data set begins.
        layout: where its frames lie, and what they are.
        size: of the data set, in bytes.
        found: the map of its data set, with the values that `open_image` was told to keep; an
            empty one where the layout was known before.
        forgiven: what is not as the standard has it, in words.
    """

    def __init__(
        self,
        reader: ObjectReader,
        offset: int,
        transfer_syntax_uid: str,
        layout: ImageLayout,
        found: PixelDataMap | None = None,
    ) -> None:
        self.reader = reader
        self.offset = offset
        self.transfer_syntax_uid = transfer_syntax_uid
        self.layout = layout
        self.found = PixelDataMap() if found is None else found
        self.size = reader.size - offset
        self.description = layout.description
        self.index: FrameIndex = layout.index
        self.forgiven = (*self.found.forgiven, *self.index.forgiven)

    @classmethod
    def of(
        cls, reader: ObjectReader, offset: int, transfer_syntax_uid: str, found: PixelDataMap
    ) -> Self:
        """The image of a data set that was mapped.

        Raises:
            DataSetError, ImageError: as `open_image`.
        """
        if found.pixel_data is None:
            raise NoPixelDataError("the data set has no Pixel Data", 0)
        layout = ImageLayout.of(found, transfer_syntax_uid)
        return cls(reader, offset, transfer_syntax_uid, layout, found)

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
        if self.layout.swaps_words:
            return await self._read_words(frame)
        pieces = [await self.read_bytes(span.offset, span.length) for span in frame.spans]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read_alone(self, number: int) -> bytes:
        """A frame as it stands alone: encapsulated as it is; native in Explicit VR Little Endian,
        its samples in that byte order, its first bit that of a byte.

        Raises:
            ImageError: it is not there.
        """
        data = await self.read(number)
        layout = self.layout
        if layout.is_verbatim:
            return data
        if layout.description.frame_bits % 8:
            bits = int.from_bytes(data, "little") >> layout.index[number].skip_bits
            bits &= (1 << layout.description.frame_bits) - 1
            return bits.to_bytes(layout.description.frame_length, "little")
        # Words are in order by now.
        return data if layout.swaps_words else _swapped(data, layout.sample_width)

    async def read_value(self) -> bytes:
        """All of native Pixel Data as Explicit VR Little Endian has it."""
        layout = self.layout
        data = await self.read_bytes(*layout.value)
        width = layout.sample_width if layout.is_big_endian else 1
        return _swapped(data, width) if width > 1 else data

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
        data = await self.reader.read(self.offset + offset, length) if length else b""
        if len(data) != length:
            raise DataSetError("the object is shorter than it was", offset)
        return data

    async def _read_words(self, frame: Frame) -> bytes:
        value = self.layout.value
        (span,) = frame.spans
        start = span.offset - (span.offset - value.offset) % 2
        end = min(span.end + (span.end - value.offset) % 2, value.end)
        words = bytearray(await self.read_bytes(start, end - start))
        half = len(words) // 2 * 2
        words[0:half:2], words[1:half:2] = words[1:half:2], words[0:half:2]
        return bytes(words[span.offset - start :][: span.length])


def _swapped(data: bytes, width: int) -> bytes:
    """Each *width* bytes in the other order."""
    swapped = bytearray(data)
    whole = len(data) // width * width
    for byte in range(width):
        swapped[byte:whole:width] = data[width - 1 - byte : whole : width]
    return bytes(swapped)


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
            yield Image.of(reader, item.data_set_offset, item.transfer_syntax_uid, found)
            return
        with tempfile.TemporaryFile(buffering=0) as file:
            size = await _inflate(reader, item.data_set_offset, file)
            inflated = FileReader(file, size)
            found = await _map(inflated, 0, EXPLICIT_LITTLE, wanted, located, search_sequences)
            yield Image.of(inflated, 0, item.transfer_syntax_uid, found)


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
