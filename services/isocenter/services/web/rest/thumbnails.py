"""Thumbnails in the API: small pictures of instances, series and studies."""

from __future__ import annotations

import struct
import zlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from functools import cache, partial
from typing import Final

from isocenter.engine.dataset import DataSetError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Page, Query
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.selection import matches_of
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.frames import NoPixelDataError
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.dicom.pixels.rendering.options import JPEG, PNG
from isocenter.services.dicom.pixels.rendering.renderer import thumbnail
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.conditions import entity_tag, is_not_modified
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Parameter, Payload, Route, ok
from isocenter.services.web.rest.bodies import Body, answer
from isocenter.services.web.rest.browse import series_named
from isocenter.services.web.rest.endpoints import ROOT, endpoint
from isocenter.services.web.rest.index_rows import RETURNED, number_of, value_of, within
from isocenter.services.web.rest.stored_instances import FRAME, instance_named

_SERVICE: Final = "Thumbnails"
_SIZES: Final = ("64", "128", "256", "512")
_DEFAULT_SIZE: Final = 128
_DEFAULT_QUALITY: Final = 60
_FORMATS: Final = {"jpeg": JPEG, "png": PNG}
#: Of all pictures that are held, and of one that is.
MOST_BYTES: Final = 64 << 20
_MOST_PICTURE: Final = 1 << 20
_MOST_ENTRIES: Final = 20_000
#: Series of a study that are looked at.
_MOST_SERIES: Final = 2_000
#: Modalities whose objects have no pixels; a study of others is not shown by them.
_WITHOUT_PICTURE: Final = frozenset(
    ("SR", "KO", "PR", "DOC", "RTSTRUCT", "RTPLAN", "RTRECORD", "REG", "FID", "AU", "ECG", "PLAN")
)
_PARAMETERS: Final = (
    Parameter(name="size", text=f"Of the longer side, in pixels; {_DEFAULT_SIZE}.", values=_SIZES),
    Parameter(name="format", text="jpeg, or png.", values=tuple(_FORMATS)),
    Parameter(
        name="quality", text=f"Of a JPEG, 1 to 100; {_DEFAULT_QUALITY}.",
        pattern="[1-9][0-9]?|100",
    ),
    FRAME,
    Parameter(
        name="placeholder",
        text="A gray tile (PNG) where there is no picture, in place of 404 and 406.",
        values=("false", "true"),
    ),
)  # fmt: skip
_OF_STUDY: Final = Parameter(
    name="study_uid", text="The study, where studies share a Series Instance UID."
)
_ANSWERS: Final = (
    ok("The picture."),
    ok("It has not changed (`If-None-Match`).", Payload.NOTHING, 304),
    Answer(400, "A parameter makes no sense."),
    Answer(404, "The archive has it not, or not that frame; or nothing of it is a picture."),
    Answer(406, "No picture can be made of it here."),
    Answer(410, "The object is not there any more."),
)


class CacheStatistics(Body):
    """Of the thumbnails that are held in this process: sizes in bytes."""

    cache_size: int
    entry_count: int
    max_size: int
    hits: int
    misses: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A picture as it is wanted; *frame*: None: the one in the middle."""

    size: int
    media_type: str
    quality: int
    frame: int | None


class ThumbnailCache:
    """The pictures that were asked for last, as many as have room."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.most = most
        self.size = 0
        self.hits = 0
        self.misses = 0
        self._pictures: OrderedDict[tuple[str, str, _Wanted], tuple[bytes, str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pictures)

    async def get(
        self,
        stored: StoredInstance,
        wanted: _Wanted,
        make: Callable[[], Awaitable[tuple[bytes, str]]],
    ) -> tuple[bytes, str]:
        """Content and media type of a picture; *make* makes it if it is not held."""
        key = (stored.digest, stored.transfer_syntax_uid, wanted)
        if key in self._pictures:
            self.hits += 1
            self._pictures.move_to_end(key)
            return self._pictures[key]
        self.misses += 1
        made = await make()
        if len(made[0]) <= min(_MOST_PICTURE, self.most) and key not in self._pictures:
            self._pictures[key] = made
            self.size += len(made[0])
            while self.size > self.most or len(self._pictures) > _MOST_ENTRIES:
                self.size -= len(self._pictures.popitem(last=False)[1][0])
        return made

    def clear(self) -> None:
        """Hold none any more."""
        self._pictures.clear()
        self.size = 0


class ThumbnailsApi:
    """Answers with small pictures.

    Args:
        pool: decodes and renders; None: no picture can be made here.
    """

    def __init__(self, archive: Archive, pool: CodecPool | None) -> None:
        self._archive = archive
        self._pool = pool
        self.cache = ThumbnailCache()

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        for path, handler, what, more in (
            ("instances/{instance}", self.instance, "Instance", ()),
            ("series/{series}", self.series, "Series", (_OF_STUDY,)),
            ("studies/{study}", self.study, "Study", ()),
        ):
            several = (Answer(409, "Several studies have this series; say which."),) if more else ()
            yield Route(
                method="GET", path=f"{ROOT}/thumbnails/{path}", handler=handler,
                text=f"A small picture: {what.lower()}.", needs="read",
                parameters=(*_PARAMETERS, *more), produces=(JPEG, PNG),
                name=f"Get{what}Thumbnail", service=_SERVICE, answers=(*_ANSWERS, *several),
            )  # fmt: skip
        yield endpoint(
            "GET", "/thumbnails/cache/stats", self.statistics, "Thumbnails that are held.",
            name="GetThumbnailCache", service=_SERVICE, needs="state", gives=CacheStatistics,
        )  # fmt: skip
        yield endpoint(
            "DELETE", "/thumbnails/cache", self.clear, "Hold no thumbnails any more.",
            name="ClearThumbnailCache", service=_SERVICE, needs="configure",
        )  # fmt: skip

    async def instance(self, request: Request) -> Response:
        """The handler."""
        stored = await instance_named(self._archive.index, request)
        return await self._picture(request, stored)

    async def series(self, request: Request) -> Response:
        """The handler: the instance in the middle, by number."""
        study, series = await series_named(self._archive.index, request)
        return await self._picture(request, await self._middle_of(study, series))

    async def study(self, request: Request) -> Response:
        """The handler: of the series that has the most instances, of those that have pictures."""
        study = request.arguments["study"]
        asked = within(Level.SERIES, study=study)
        query = Query(
            level=Level.SERIES, criteria=asked.criteria, return_tags=RETURNED[Level.SERIES]
        )
        found = await matches_of(self._archive.index, query, Page(limit=_MOST_SERIES))
        if not found:
            raise HttpError(404, "NOT_FOUND", "the archive has no such study")
        shown = [one for one in found if value_of(one, "Modality").upper() not in _WITHOUT_PICTURE]
        chosen = max(
            shown,
            key=lambda one: number_of(one, "NumberOfSeriesRelatedInstances") or 0,
            default=found[0],
        )
        return await self._picture(
            request, await self._middle_of(study, value_of(chosen, "SeriesInstanceUID"))
        )

    async def _middle_of(self, study: str, series: str) -> StoredInstance:
        found: list[StoredInstance] = []
        query = within(Level.SERIES, study=study, series=series)
        async with self._archive.index.instances(query) as blocks:
            async for block in blocks:
                found += block
        if not found:
            raise HttpError(404, "NOT_FOUND", "the archive has no such series any more")
        return found[len(found) // 2]

    async def _picture(self, request: Request, stored: StoredInstance) -> Response:
        wanted = _wanted(request)
        is_replaced = _one_of(request, "placeholder", ("false", "true")) == "true"
        name = f"{stored.digest[:32]}-{stored.transfer_syntax_uid}-{wanted.size}-{wanted.quality}"
        tag = entity_tag(f"{name}-{wanted.frame}-{wanted.media_type}-{is_replaced}")
        headers = [
            ("etag", tag),
            ("cache-control", "private, max-age=3600"),
            ("vary", "Authorization, Cookie"),
        ]
        request.told["instances"] = [stored]
        if is_not_modified(request.header("if-none-match"), tag):
            return Response(status=304, headers=headers)
        try:
            content, media_type = await self.cache.get(
                stored, wanted, partial(self._make, stored, wanted)
            )
        except HttpError as error:
            if not is_replaced or error.code not in ("NO_PICTURE", "NOT_SHOWN", "NO_CODECS"):
                raise
            content, media_type = placeholder(wanted.size), PNG
        return Response(headers=[*headers, ("content-type", media_type)], body=content)

    async def _make(self, stored: StoredInstance, wanted: _Wanted) -> tuple[bytes, str]:
        if self._pool is None:
            raise HttpError(406, "NO_CODECS", "pictures are made when transcoding is enabled")
        try:
            made = await thumbnail(
                stored_object(stored, self._archive.open),
                self._pool,
                size=wanted.size,
                frame=wanted.frame,
                media_type=wanted.media_type,
                quality=wanted.quality,
            )
        except NoPixelDataError as error:
            raise HttpError(404, "NO_PICTURE", "the object has no pixels to be shown") from error
        except KeyError:
            raise HttpError(410, "GONE", "the object is not there any more") from None
        except (DataSetError, PixelError) as error:
            raise HttpError(406, "NOT_SHOWN", f"the pixels cannot be shown: {error}") from error
        return made.content, made.media_type

    async def statistics(self, request: Request) -> Response:
        """The handler."""
        held = self.cache
        return answer(
            CacheStatistics(
                cache_size=held.size, entry_count=len(held), max_size=held.most, hits=held.hits,
                misses=held.misses,
            )
        )  # fmt: skip

    async def clear(self, request: Request) -> Response:
        """The handler."""
        self.cache.clear()
        return Response(status=204)


def _wanted(request: Request) -> _Wanted:
    quality = request.parameter("quality") or str(_DEFAULT_QUALITY)
    if not (quality.isascii() and quality.isdecimal() and 1 <= int(quality[:4]) <= 100):
        raise HttpError(400, "INVALID_REQUEST", "quality is a number from 1 to 100")
    frame = request.parameter("frame")
    if frame is not None and not (
        frame.isascii() and frame.isdecimal() and len(frame) < 10 and int(frame)
    ):
        raise HttpError(400, "INVALID_REQUEST", "frame is a number from 1 on")
    media_type = _FORMATS[_one_of(request, "format", tuple(_FORMATS))]
    return _Wanted(
        size=int(_one_of(request, "size", (str(_DEFAULT_SIZE), *_SIZES))),
        media_type=media_type,
        quality=int(quality) if media_type == JPEG else _DEFAULT_QUALITY,
        frame=None if frame is None else int(frame),
    )


def _one_of(request: Request, name: str, allowed: tuple[str, ...]) -> str:
    """What a parameter says; the first of what is allowed if it says nothing."""
    said = request.parameter(name)
    if said is None:
        return allowed[0]
    if said not in allowed:
        raise HttpError(
            400, "INVALID_REQUEST", f"{name} is one of {', '.join(dict.fromkeys(allowed))}"
        )
    return said


@cache
def placeholder(size: int) -> bytes:
    """A gray tile with a frame, as PNG (ISO/IEC 15948), for what has no picture."""
    edge, inner = b"\x60", b"\xa0"
    line = b"\0" + edge * size
    middle = b"\0" + edge + inner * (size - 2) + edge
    pixels = zlib.compress(line + middle * (size - 2) + line, 9)

    def chunk(kind: bytes, data: bytes) -> bytes:
        whole = kind + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )
