"""Stored video streams, given as they are (PS3.5 8.2.5)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from isocenter.engine.dataset import Span
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.frames import Image
from isocenter.services.dicom.pixels.transfer_syntaxes import PIXEL_SYNTAXES

MP4: Final = "video/mp4"
MPEG: Final = "video/mpeg"
MPEG_TRANSPORT: Final = "video/mp2t"
_SNIFFED: Final = 1024
_PACKET: Final = 188


def is_video(transfer_syntax_uid: str) -> bool:
    """Whether Pixel Data of this syntax is one stream of video."""
    known = PIXEL_SYNTAXES.get(transfer_syntax_uid)
    return known is not None and known.is_video


class VideoStream:
    """The stream of a video object, while its image is open.

    Attributes:
        media_type: what its first bytes say that it is.
        size: in bytes; a byte of padding may be the last.
    """

    def __init__(self, image: Image, spans: Sequence[Span], head: bytes) -> None:
        self._image = image
        self._spans = spans
        self._starts = [0]
        for span in spans:
            self._starts.append(self._starts[-1] + span.length)
        self.size = self._starts[-1]
        self.media_type = media_type_of(head)

    @classmethod
    async def of(cls, image: Image) -> VideoStream:
        """The stream of an open image.

        Raises:
            ImageError: it is no video.
        """
        element = image.found.pixel_data
        assert element is not None
        fragments = element.fragments
        if not is_video(image.transfer_syntax_uid) or fragments is None:
            raise ImageError("the object is no video")
        spans = [fragments.span(place) for place in range(len(fragments))]
        if not sum(span.length for span in spans):
            raise ImageError("the video stream is empty")
        first = next(span for span in spans if span.length)
        head = await image.read_bytes(first.offset, min(first.length, _SNIFFED))
        return cls(image, spans, head)

    async def read(self, offset: int, length: int) -> bytes:
        """Bytes of the stream, fewer only at its end.

        Raises:
            DataSetError: they are not there any more.
        """
        end = min(offset + length, self.size)
        pieces = []
        place = bisect_right(self._starts, offset) - 1
        while offset < end:
            span, start = self._spans[place], self._starts[place]
            count = min(end, start + span.length) - offset
            if count > 0:
                pieces.append(await self._image.read_bytes(span.offset + offset - start, count))
                offset += count
            place += 1
        return b"".join(pieces)


def media_type_of(head: bytes) -> str:
    """What a stream is, by its first bytes; a bare one is what plays in no browser."""
    if head[4:8] == b"ftyp":
        return MP4
    if head[:1] == b"G" and (len(head) <= _PACKET or head[_PACKET : _PACKET + 1] == b"G"):
        return MPEG_TRANSPORT
    if head[:4] in (b"\0\0\1\xba", b"\0\0\1\xb3"):
        return MPEG
    return "application/octet-stream"
