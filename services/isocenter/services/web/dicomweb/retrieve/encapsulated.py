"""Documents, models and video of objects, in their own media types (PS3.18 8.7.4)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import DataSetError, encoding_of, map_pixel_data
from isocenter.engine.dataset.codec import codec_of
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.reading import ReadableArchive
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.frames import open_image
from isocenter.services.dicom.pixels.rendering.video import VideoStream, is_video
from isocenter.services.errors import StorageError
from isocenter.services.net.http.conditions import (
    RangeNotSatisfiableError,
    entity_tag,
    is_not_modified,
    requested_range,
)
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.web.dicomweb.multipart_responses import boundary_for

_DOCUMENT: Final = 0x00420011
_DOCUMENT_LENGTH: Final = 0x00420015
_ROOT: Final = "1.2.840.10008.5.1.4.1.1.104."
#: SOP class → media type and what ends the name of a file; never what an object says of itself:
#: it would choose what a browser makes of it.
_TYPES: Final = {
    f"{_ROOT}1": ("application/pdf", ".pdf"),
    f"{_ROOT}2": ("text/xml", ".xml"),
    f"{_ROOT}3": ("model/stl", ".stl"),
    f"{_ROOT}4": ("model/obj", ".obj"),
    f"{_ROOT}5": ("model/mtl", ".mtl"),
}
_PDF: Final = "application/pdf"
_PIECE: Final = 1 << 20
_WINDOW: Final = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is in an object, while that is open."""

    media_type: str
    size: int
    read: Callable[[int, int], Awaitable[bytes]]


def media_type_of(stored: StoredInstance) -> str:
    """What an object holds beside DICOM; empty: nothing."""
    if is_video(stored.transfer_syntax_uid):
        return "video/mp4"
    return _TYPES.get(stored.sop_class_uid, ("", ""))[0]


class Encapsulated:
    """Answers with what objects hold, as it is."""

    def __init__(self, archive: ReadableArchive) -> None:
        self._archive = archive

    async def __call__(self, request: Request, stored: StoredInstance) -> Response:
        """The document or the video of an object, or the part of it that `Range` names.

        Raises:
            HttpError: there is none (406), or it is not there any more (410).
        """
        tag = entity_tag(boundary_for("encapsulated", stored.digest))
        headers = [
            ("etag", tag),
            ("cache-control", "private, max-age=86400"),
            ("vary", "Accept"),
            ("accept-ranges", "bytes"),
        ]
        if is_not_modified(request.header("if-none-match"), tag):
            return Response(status=304, headers=headers)
        async with self._opened(stored) as content:
            size, media_type = content.size, content.media_type
        headers += [("content-type", media_type), *_safety(stored, media_type)]
        try:
            part = requested_range(
                request.header("range"), size, tag=tag, if_range=request.header("if-range")
            )
        except RangeNotSatisfiableError as error:
            raise HttpError(
                416, "NO_SUCH_RANGE", str(error), [("content-range", error.content_range)]
            ) from error
        start, stop = (0, size) if part is None else (part.start, part.stop)
        if part is not None:
            headers.append(("content-range", part.content_range))
        return Response(
            status=200 if part is None else 206,
            headers=headers,
            body=self._pieces(stored, start, stop),
            length=stop - start,
        )

    async def _pieces(
        self, stored: StoredInstance, start: int, stop: int
    ) -> AsyncGenerator[Buffer, None]:
        try:
            async with self._opened(stored) as content:
                for at in range(start, stop, _PIECE):
                    yield await content.read(at, min(_PIECE, stop - at))
        except (HttpError, OSError) as error:
            raise StorageError(f"instance {stored.sop_instance_uid} was not read") from error

    @asynccontextmanager
    async def _opened(self, stored: StoredInstance) -> AsyncIterator[Content]:
        try:
            async with AsyncExitStack() as stack:
                if is_video(stored.transfer_syntax_uid):
                    item = stored_object(stored, self._archive.open)
                    stream = await VideoStream.of(await stack.enter_async_context(open_image(item)))
                    yield Content(media_type=stream.media_type, size=stream.size, read=stream.read)
                else:
                    yield await self._document(stored, stack)
        except KeyError:
            raise HttpError(410, "GONE", "the object is not there any more") from None
        except (DataSetError, PixelError) as error:
            raise HttpError(406, "NOT_SHOWN", f"the object cannot be shown: {error}") from error

    async def _document(self, stored: StoredInstance, stack: AsyncExitStack) -> Content:
        encoding = encoding_of(stored.transfer_syntax_uid)
        if stored.sop_class_uid not in _TYPES or encoding.deflated:
            raise HttpError(406, "NOT_ACCEPTABLE", "the object holds no document that can be shown")
        media_type, _ = _TYPES[stored.sop_class_uid]
        item = stored_object(stored, self._archive.open)
        reader = await stack.enter_async_context(await item.open())
        begin = stored.data_set_offset
        size = reader.size - begin
        wanted, located = frozenset({_DOCUMENT_LENGTH}), frozenset({_DOCUMENT})
        mapping = map_pixel_data(encoding, size, wanted, located)
        try:
            offset, length = next(mapping)
            while True:
                length = min(max(length, _WINDOW), size - offset)
                offset, length = mapping.send(await reader.read(begin + offset, length))
        except StopIteration as done:
            found = done.value
        span = found.spans.get(_DOCUMENT)
        if span is None:
            raise HttpError(406, "NOT_ACCEPTABLE", "the object holds no document")
        header = len(codec_of(encoding).header(_DOCUMENT, "OB", 0))
        value, length = begin + span.offset + header, span.length - header
        # An odd length was padded; older objects do not say whether it was.
        said = int.from_bytes(found.values.get(_DOCUMENT_LENGTH, b"")[:4],
                              "big" if encoding.big_endian else "little")  # fmt: skip
        if said and length - 1 <= said <= length:
            length = said

        async def read(at: int, count: int) -> bytes:
            return await reader.read(value + at, min(count, length - at))

        return Content(media_type=media_type, size=length, read=read)


def _safety(stored: StoredInstance, media_type: str) -> list[tuple[str, str]]:
    """What keeps a document that somebody sent from acting as a page of ours.

    Viewers of PDF in browsers do not work in a sandbox, and need none.
    """
    if stored.sop_class_uid not in _TYPES:
        return []
    suffix = _TYPES[stored.sop_class_uid][1]
    how = "inline" if media_type == _PDF else "attachment"
    name = f'{how}; filename="{stored.sop_instance_uid}{suffix}"'
    sandbox = [] if media_type == _PDF else [("content-security-policy", "sandbox")]
    return [("content-disposition", name), *sandbox]
