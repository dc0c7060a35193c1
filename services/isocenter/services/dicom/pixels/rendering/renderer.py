"""Rendering of objects: the door through which a picture is asked for.

    picture = await render("ct.dcm")                                     # JPEG of the first frame
    picture = await render("ct.dcm", frame=7, options=RenderOptions(media_type="image/png"))
    picture.content, picture.media_type                                  # bytes, "image/png"

A server has one `CodecPool` and gives it to each call; without, a pool is made for that call.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Self

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import (
    EXPLICIT_LITTLE,
    DataSetError,
    Encoding,
    Inflater,
    NotDicomError,
    Span,
    encoding_of,
    read_file_head,
)
from isocenter.engine.dataset.codec import HEADER_LENGTH, codec_of
from isocenter.engine.dataset.walker import END, ITEM, SEQUENCE, walk
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.file_recognition import (
    HEAD_BYTES,
    DamagedFileError,
    NotDicomFileError,
)
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.objects import DicomObject, PathReader
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.frames import Image, ImageObject, open_image
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits, RenderRequest
from isocenter.services.dicom.pixels.rendering.elements import DISPLAY_ELEMENTS, FRAME_GROUPS
from isocenter.services.dicom.pixels.rendering.options import GIF, RenderOptions, Viewport
from isocenter.services.dicom.pixels.rendering.video import VideoStream, is_video

#: What of an object says how it is shown: palettes, lookup tables, overlays, profiles.
MAX_HEADER: Final = 64 << 20
#: The whole of a presentation state.
MAX_STATE: Final = 32 << 20
#: Frames of one animation.
MAX_ANIMATED: Final = 500
#: Bytes between two elements that are read with them.
_MOST_GAP: Final = 64 << 10
#: Of a picture in colour.
_SAMPLES: Final = 3
#: Bytes that the pixels of any picture may have.
_ROOM: Final = 8 << 20
_THUMBNAIL_QUALITY: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedImage:
    """A picture.

    Attributes:
        content: the file.
        media_type: of it.
        width, height: in pixels.
        frames: how many it shows.
    """

    content: bytes
    media_type: str
    width: int
    height: int
    frames: int = 1


@dataclass(frozen=True, slots=True)
class _State:
    """A presentation state: its data set, and how that is encoded."""

    data: bytes = b""
    encoding: Encoding = EXPLICIT_LITTLE


class Renderer:
    """Renders frames of one object, while it is open; see `open_renderer`.

    Attributes:
        image: its pixels.
    """

    def __init__(self, image: Image, pool: CodecPool, state: _State) -> None:
        self.image = image
        self._pool = pool
        self._is_video = is_video(image.transfer_syntax_uid)
        self._state = state
        encoding = encoding_of(image.transfer_syntax_uid)
        self._encoding = EXPLICIT_LITTLE if encoding.deflated else encoding
        self._header: bytes | None = None
        self._items: Sequence[Span] = ()

    async def render(self, frame: int = 1, options: RenderOptions | None = None) -> RenderedImage:
        """One frame.

        Args:
            frame: its number, from 1 on.

        Raises:
            RenderOptionError: the options make no sense.
            PixelError: it is not there, cannot be decoded, or cannot be shown.
        """
        return await self._render([frame], options or RenderOptions(), 0)

    async def animate(
        self, frames: Sequence[int], milliseconds: float, options: RenderOptions | None = None
    ) -> RenderedImage:
        """Several frames as a GIF that goes round.

        Args:
            frames: their numbers, from 1 on.
            milliseconds: each is seen.

        Raises:
            RenderOptionError, PixelError: see `render`.
        """
        if not 1 <= len(frames) <= MAX_ANIMATED:
            raise ImageError(f"an animation has 1 to {MAX_ANIMATED} frames")
        options = options or RenderOptions(media_type=GIF)
        return await self._render(frames, options, milliseconds)

    async def _render(
        self, frames: Sequence[int], options: RenderOptions, milliseconds: float
    ) -> RenderedImage:
        options.check()
        image = self.image
        self._pool.check_viewing(image.description, image.transfer_syntax_uid)
        read = self._video_frames if self._is_video else self._frames
        pieces = [self._state.data]
        described = []
        for number, data, skip_bits in await read([number - 1 for number in frames]):
            header = await self._header_of(number)
            pieces += (header, data)
            described.append((number, len(header), len(data), skip_bits))
        request = RenderRequest(
            data=b"".join(pieces),
            frames=described,
            encoding=(self._encoding.implicit_vr, self._encoding.big_endian),
            state_length=len(self._state.data),
            state_encoding=(self._state.encoding.implicit_vr, self._state.encoding.big_endian),
            options=options.to_json(),
            milliseconds=milliseconds,
            most=len(frames) * self._most_of(options, len(frames)),
        )
        content, made = await self._pool.render(
            request, image.description, image.transfer_syntax_uid
        )
        return RenderedImage(
            content=content,
            media_type=GIF if len(frames) > 1 else options.media_type,
            width=made.columns,
            height=made.rows,
            frames=len(frames),
        )

    async def _frames(self, numbers: Sequence[int]) -> list[tuple[int, bytes, int]]:
        """Number, bytes and `skip_bits` of each frame."""
        places = [self.image.frame(number) for number in numbers]
        decoded = len(places) * self.image.description.decoded_length
        self._judge(max(sum(place.length for place in places), decoded))
        return [
            (number, await self.image.read(number), place.skip_bits)
            for number, place in zip(numbers, places, strict=True)
        ]

    async def _video_frames(self, numbers: Sequence[int]) -> list[tuple[int, bytes, int]]:
        """The same of a stream, which has to be read from its beginning."""
        if len(numbers) != 1:
            raise ImageError("an animation of a video is the video itself")
        count = self.image.description.number_of_frames
        if numbers[0] < 0 or (count is not None and numbers[0] >= count):
            raise ImageError(
                f"the video has {count} frames, and none with the number {numbers[0] + 1}"
            )
        stream = await self.video()
        self._judge(stream.size)
        return [(numbers[0], await stream.read(0, stream.size), 0)]

    def _judge(self, length: int) -> None:
        most = self._pool.limits.frame_bytes
        if length > most:
            raise ImageError(f"frames of {length} bytes; of at most {most} a picture is made")

    async def video(self) -> VideoStream:
        """The stream of a video object, as it is stored.

        Raises:
            ImageError: it is no video.
        """
        return await VideoStream.of(self.image)

    def __len__(self) -> int:
        """Frames that are there; of a video, those that it says it has."""
        if self._is_video:
            return self.image.description.number_of_frames or 1
        return len(self.image)

    def _most_of(self, options: RenderOptions, count: int) -> int:
        """Bytes that the pixels of one picture may have."""
        if options.viewport is not None:
            return options.viewport.width * options.viewport.height * _SAMPLES
        description = self.image.description
        # Pixels that are not square, and states that magnify, make it larger than the image.
        most = description.rows * description.columns * _SAMPLES * 2
        return max(most, _ROOM) if count == 1 else most

    async def _header_of(self, number: int) -> bytes:
        """The elements that say how a frame is shown, as a data set."""
        if self._header is None:
            self._header, self._items = await self._read_header()
        if not self._items:
            return self._header
        item = b""
        if number < len(self._items):
            span = self._items[number]
            item = await self.image.read_bytes(span.offset, span.length)
        return self._header + codec_of(self._encoding).header(FRAME_GROUPS, "SQ", len(item)) + item

    async def _read_header(self) -> tuple[bytes, Sequence[Span]]:
        spans = self.image.found.spans
        groups = spans.get(FRAME_GROUPS)
        wanted = [spans[tag] for tag in sorted(spans) if tag != FRAME_GROUPS]
        length = sum(span.length for span in wanted) + (groups.length if groups else 0)
        if length > MAX_HEADER:
            raise ImageError(
                f"what says how the image is shown has {length} bytes; at most {MAX_HEADER} are "
                "read"
            )
        pieces: list[Buffer] = []
        for start, end, some in _neighbours(wanted):
            read = memoryview(await self.image.read_bytes(start, end - start))
            pieces += [read[one.offset - start :][: one.length] for one in some]
        items: Sequence[Span] = ()
        if groups is not None:
            data = await self.image.read_bytes(groups.offset, groups.length)
            items = await trio.to_thread.run_sync(_item_spans, data, self._encoding, groups.offset)
        return b"".join(pieces), items


def _neighbours(spans: Sequence[Span]) -> Iterator[tuple[int, int, list[Span]]]:
    """Spans, in their order, that are read at once: where they begin and end, and which they
    are.  A gap between them costs less than another read."""
    some: list[Span] = []
    for span in spans:
        if some and not some[-1].end <= span.offset <= some[-1].end + _MOST_GAP:
            yield some[0].offset, some[-1].end, some
            some = []
        some.append(span)
    if some:
        yield some[0].offset, some[-1].end, some


def _item_spans(data: bytes, encoding: Encoding, offset: int) -> list[Span]:
    """Where the items of the sequence *data*, which lies at *offset*, are."""
    spans = []
    depth = 0
    start = 0
    for kind, _, _, value, end, _ in walk(data, encoding, sequences=frozenset((FRAME_GROUPS,))):
        if kind in (SEQUENCE, ITEM):
            depth += 1
            if depth == 2:
                start = value - HEADER_LENGTH
        elif kind == END:
            depth -= 1
            if depth == 1:
                spans.append(Span(offset + start, end - start))
    return spans


@asynccontextmanager
async def open_renderer(
    source: ImageObject | str | Path,
    pool: CodecPool,
    state: ImageObject | str | Path | None = None,
) -> AsyncIterator[Renderer]:
    """Renders frames of an object.

    Args:
        source: a file, or an object of an archive.
        state: a softcopy presentation state that names it.

    Raises:
        DataSetError: the data set is malformed, or has no pixels.
        PixelError: what it says of them is missing or impossible.
        NotDicomFileError, DamagedFileError, OSError, KeyError: the object cannot be read.
    """
    item = await _object(source)
    read = _State() if state is None else await _read_state(await _object(state))
    async with open_image(item, located=DISPLAY_ELEMENTS | {FRAME_GROUPS}) as image:
        yield Renderer(image, pool, read)


async def render(
    source: ImageObject | str | Path,
    pool: CodecPool | None = None,
    *,
    frame: int = 1,
    options: RenderOptions | None = None,
    state: ImageObject | str | Path | None = None,
) -> RenderedImage:
    """One frame of an object as a picture: `RenderedImage.content` and `.media_type`.

    Args:
        source: a file, or an object of an archive.
        pool: decodes and renders; None: one is made for this call, which costs a second.
        frame: its number, from 1 on.
        options: format, window, viewport, quality …; see `RenderOptions`.
        state: a softcopy presentation state that names the image.

    Raises:
        RenderOptionError: the options make no sense.
        PixelError: the frame is not there, cannot be decoded, or cannot be shown.
        DataSetError: the data set is malformed, or has no pixels.
        NotDicomFileError, DamagedFileError, OSError, KeyError: the object cannot be read.
    """
    if pool is None:
        async with CodecPool(PoolLimits(workers=1)) as own:
            return await render(source, own, frame=frame, options=options, state=state)
    async with open_renderer(source, pool, state) as renderer:
        return await renderer.render(frame, options)


async def thumbnail(
    source: ImageObject | str | Path,
    pool: CodecPool | None = None,
    *,
    size: int = 256,
    frame: int | None = None,
    media_type: str = "image/jpeg",
    quality: int = _THUMBNAIL_QUALITY,
) -> RenderedImage:
    """A small picture of an object, without overlays.

    Args:
        size: of the longer side, in pixels, at most.
        frame: from 1 on; None: the one in the middle.
        quality: of a JPEG, 1 to 100.

    Raises:
        RenderOptionError, PixelError, DataSetError, OSError …: see `render`.
    """
    if pool is None:
        async with CodecPool(PoolLimits(workers=1)) as own:
            return await thumbnail(
                source, own, size=size, frame=frame, media_type=media_type, quality=quality
            )
    async with open_renderer(source, pool) as renderer:
        options = RenderOptions(
            media_type=media_type,
            quality=quality,
            viewport=Viewport(size, size),
            has_overlays=False,
            is_quick=True,
        )
        number = (len(renderer) + 1) // 2 if frame is None else frame
        return await renderer.render(number, options)


@dataclass(frozen=True, slots=True)
class _PictureFile:
    """A file with an image that has no name."""

    transfer_syntax_uid: str
    data_set_offset: int
    open: Callable[[], Awaitable[ObjectReader]]

    @classmethod
    def of(cls, path: Path) -> Self:
        with path.open("rb") as file:
            try:
                head = read_file_head(file.read(HEAD_BYTES))
            except NotDicomError as error:
                raise NotDicomFileError(f"{path}: not DICOM ({error.fault})") from error
            except DataSetError as error:
                raise DamagedFileError(f"{path}: damaged ({error})") from error

        async def open_file() -> ObjectReader:
            return await trio.to_thread.run_sync(PathReader, path)

        return cls(head.transfer_syntax_uid, head.data_set_offset, open_file)


async def _object(source: ImageObject | str | Path) -> ImageObject:
    if not isinstance(source, str | Path):
        return source
    try:
        return await DicomObject.from_file(source)
    except NotDicomFileError:
        # Without a UID it cannot be sent, but looked at.
        return await trio.to_thread.run_sync(_PictureFile.of, Path(source))


async def _read_state(item: ImageObject) -> _State:
    async with await item.open() as reader:
        length = reader.size - item.data_set_offset
        if length > MAX_STATE:
            raise ImageError(
                f"a presentation state of {length} bytes; at most {MAX_STATE} are read"
            )
        data = await reader.read(item.data_set_offset, length)
    encoding = encoding_of(item.transfer_syntax_uid)
    if not encoding.deflated:
        return _State(data, encoding)
    inflated = bytearray()
    for piece in Inflater().feed(data):
        inflated += piece
        if len(inflated) > MAX_STATE:
            raise ImageError(f"the presentation state inflates to more than {MAX_STATE} bytes")
    return _State(bytes(inflated), EXPLICIT_LITTLE)


__all__ = [
    "RenderedImage",
    "Renderer",
    "open_renderer",
    "render",
    "thumbnail",
]
