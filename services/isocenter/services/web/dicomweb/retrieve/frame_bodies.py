"""Bodies of responses made of frames: where they lie in files, or their bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Final

from isocenter.engine.dataset import DataSetError, encoding_of
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.metadata.ports import MetadataBook
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.reading import ReadableArchive
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.dicom.object_reader import is_file_backed
from isocenter.services.dicom.pixels.errors import ImageError, PixelError
from isocenter.services.dicom.pixels.frames import Image, NoPixelDataError, open_image
from isocenter.services.dicom.pixels.layout import ImageLayout
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.net.http.messages import HttpError, Piece, Request
from isocenter.services.net.http.protocol import FileRegion
from isocenter.services.web.dicomweb.resources import instances_of, parents_of

#: Of frames that are held until they are sent, since they are not as they lie in a file.
_MOST_HELD: Final = 256 << 20
#: Frames and fragments whose places are remembered, over all images.
_MOST_PLACES: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """An object of the archive, and its layout where that is known."""

    stored: StoredInstance
    layout: ImageLayout | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FramePieces:
    """Frames, or a value, ready to be sent.

    Attributes:
        parts: the pieces of each.
        close: to be called when they were sent.
    """

    parts: Sequence[Sequence[Piece]]
    close: Callable[[], None] | None = None


class FrameBodies:
    """Finds the bytes of frames; remembers where those of the last images lie."""

    def __init__(self, archive: ReadableArchive, book: MetadataBook | None = None) -> None:
        self._archive = archive
        self._book = book
        self._layouts: OrderedDict[tuple[str, str], ImageLayout] = OrderedDict()
        self._places = 0

    async def find(self, request: Request) -> StoredImage:
        """The object that a request is about.

        Raises:
            HttpError: there is none (404).
        """
        parents = parents_of(request)
        known = None
        if self._book is not None:
            known = await self._book.instance(parents[Level.IMAGE])
        if (
            known is None
            or known.stored.series_instance_uid != parents[Level.SERIES]
            or known.stored.study_instance_uid != parents[Level.STUDY]
        ):
            (stored,) = await instances_of(self._archive.index, request)
            return StoredImage(stored=stored)
        request.told["instances"] = [known.stored]
        layout = self._layouts.get(_name(known.stored))
        if layout is None and known.metadata is not None and known.metadata.layout:
            try:
                layout = ImageLayout.unpack(known.metadata.layout)
            except ValueError:
                pass  # another version has made it
        return StoredImage(stored=known.stored, layout=layout)

    async def frames(
        self, found: StoredImage, numbers: Sequence[int], pool: CodecPool | None = None
    ) -> FramePieces:
        """Frames, counted from 1, as they are stored; native ones in Explicit VR Little Endian.

        Args:
            pool: decodes what is compressed.

        Raises:
            HttpError: the object is gone (410), is no image or has not so many frames (404),
                cannot be read (500), not be decoded (406) or held (413).
        """
        async with self._opened(found) as (image, stack):
            if max(numbers) > len(image):
                raise HttpError(404, "NO_FRAME", f"the image has {len(image)} frames")
            layout, places = image.layout, [number - 1 for number in numbers]
            if pool is not None and layout.is_encapsulated:
                _check_memory(len(places) * layout.description.decoded_length)
                return FramePieces(parts=[[(await image.decode(pool, n)).samples] for n in places])
            if layout.is_verbatim:
                spans = [span for number in places for span in image.frame(number).spans]
                if any(span.end > image.size for span in spans):
                    raise DataSetError("the object is shorter than it was", image.size)
                reader = image.reader
                if is_file_backed(reader):
                    stack.pop_all()  # until it is sent
                    at, descriptor = image.offset, reader.descriptor
                    parts = [
                        [
                            FileRegion(descriptor, at + span.offset, span.length)
                            for span in image.frame(number).spans
                        ]
                        for number in places
                    ]
                    return FramePieces(parts=parts, close=reader.close)
            _check_memory(sum(image.frame(number).length for number in places))
            return FramePieces(parts=[[await image.read_alone(number)] for number in places])

    async def value(self, found: StoredImage, tag: int) -> FramePieces:
        """All of native Pixel Data, in little endian.

        Args:
            tag: of the element that is asked for.

        Raises:
            HttpError: as `frames`; or that is no native Pixel Data of this object (404).
        """
        async with self._opened(found) as (image, stack):
            layout, reader = image.layout, image.reader
            if layout.tag != tag or layout.is_encapsulated:
                raise HttpError(404, "NOT_FOUND", "the object has no bulk data there")
            if layout.value.end > image.size:
                raise DataSetError("the object is shorter than it was", image.size)
            if is_file_backed(reader) and not layout.is_big_endian:
                stack.pop_all()
                start = image.offset + layout.value.offset
                region = FileRegion(reader.descriptor, start, layout.value.length)
                return FramePieces(parts=[[region]], close=reader.close)
            _check_memory(layout.value.length)
            return FramePieces(parts=[[await image.read_value()]])

    async def count(self, found: StoredImage) -> int:
        """How many frames there are.

        Raises:
            HttpError: as `frames`.
        """
        async with self._opened(found) as (image, _):
            return len(image)

    @asynccontextmanager
    async def _opened(self, found: StoredImage) -> AsyncIterator[tuple[Image, AsyncExitStack]]:
        stored = found.stored
        item = stored_object(stored, self._archive.open)
        with _as_http_errors():
            async with AsyncExitStack() as stack:
                layout = found.layout or self._layouts.get(_name(stored))
                if layout is None:
                    image = await stack.enter_async_context(open_image(item))
                    if encoding_of(stored.transfer_syntax_uid).deflated:
                        yield image, stack  # what it inflates to lies nowhere else
                        return
                    layout = image.layout
                    await stack.aclose()
                self._remember(_name(stored), layout)
                reader = await stack.enter_async_context(await item.open())
                yield (
                    Image(reader, stored.data_set_offset, stored.transfer_syntax_uid, layout),
                    stack,
                )

    def _remember(self, name: tuple[str, str], layout: ImageLayout) -> None:
        known = self._layouts
        if name in known:
            known.move_to_end(name)
        elif layout.index.places <= _MOST_PLACES:
            known[name] = layout
            self._places += layout.index.places
            while self._places > _MOST_PLACES:
                self._places -= known.popitem(last=False)[1].index.places


def _name(stored: StoredInstance) -> tuple[str, str]:
    """Of the bytes, and of what they mean."""
    return stored.digest, stored.transfer_syntax_uid


@contextmanager
def _as_http_errors() -> Iterator[None]:
    try:
        yield
    except NoPixelDataError as error:
        raise HttpError(404, "NOT_IMAGE", "the object has no pixels") from error
    except KeyError:
        raise HttpError(410, "GONE", "the object is not there any more") from None
    except (DataSetError, ImageError) as error:
        raise HttpError(500, "UNREADABLE", f"the pixels cannot be read: {error}") from error
    except PixelError as error:
        raise HttpError(406, "NOT_ACCEPTABLE", f"{error}; ask for it as stored") from error


def _check_memory(size: int) -> None:
    if size > _MOST_HELD:
        raise HttpError(413, "TOO_MANY_FRAMES", f"{size:,} bytes; ask for fewer frames at once")
