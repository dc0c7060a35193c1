"""WADO-RS rendered resources and thumbnails (PS3.18 8.3.5, 10.4.1.1.4, 10.4.1.1.6)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from isocenter.engine.dataset import DataSetError
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.reading import ReadableArchive
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.frames import NoPixelDataError
from isocenter.services.dicom.pixels.image import ImageDescription
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.dicom.pixels.rendering.options import (
    GIF,
    JPEG,
    PNG,
    ColourSpace,
    RenderOptionError,
    RenderOptions,
    Viewport,
    Window,
)
from isocenter.services.dicom.pixels.rendering.renderer import (
    RenderedImage,
    open_renderer,
    thumbnail,
)
from isocenter.services.net.http.conditions import entity_tag, is_not_modified
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.web.dicomweb.multipart_responses import boundary_for
from isocenter.services.web.dicomweb.representations import Offer, choose
from isocenter.services.web.dicomweb.resources import instances_of
from isocenter.services.web.dicomweb.retrieve.encapsulated import Encapsulated, media_type_of

T = TypeVar("T")

_FORMS: Final = tuple(Offer(media_type=one, is_multipart=False) for one in (JPEG, PNG, GIF))
_THUMBNAIL_SIDE: Final = 256


class Rendered:
    """Answers with pictures."""

    def __init__(self, archive: ReadableArchive, pool: CodecPool | None) -> None:
        self._archive = archive
        self._pool = pool
        self._encapsulated = Encapsulated(archive)

    async def whole(self, request: Request) -> Response:
        """The handler of ``…/rendered`` and ``…/frames/{frames}/rendered``: of a series or study,
        its instance in the middle.  Documents and video are as they are in the object."""
        stored = await self._one_of(request)
        held = "" if "frames" in request.arguments else media_type_of(stored)
        offers = (Offer(media_type=held, is_multipart=False), *_FORMS) if held else _FORMS
        form, _ = choose(request, offers)
        if form.media_type == held:
            return await self._encapsulated(request, stored)
        options = _options(request, form.media_type)
        return await self.picture(request, stored, _frame(request), lambda image: options)

    async def picture(
        self,
        request: Request,
        stored: StoredInstance,
        frame: int,
        options: Callable[[ImageDescription], RenderOptions],
        state: StoredInstance | None = None,
    ) -> Response:
        """One frame of an object.

        Args:
            options: how it is shown, by what the image is.
            state: a presentation state that names the image.

        Raises:
            HttpError: it is not there, cannot be shown, or not in that way.
        """

        async def make(pool: CodecPool) -> RenderedImage:
            item = stored_object(stored, self._archive.open)
            shown = None if state is None else stored_object(state, self._archive.open)
            async with open_renderer(item, pool, shown) as renderer:
                if frame > len(renderer):
                    raise HttpError(404, "NO_FRAME", f"the image has {len(renderer)} frames")
                return await renderer.render(frame, options(renderer.image.description))

        return await self._answer(request, stored, make)

    async def small(self, request: Request) -> Response:
        """The handler of ``…/thumbnail``."""
        form, _ = choose(request, _FORMS)
        viewport = _parsed(request, "viewport", Viewport.parse)
        stored = await self._one_of(request)
        size = max(viewport.width, viewport.height) if viewport else _THUMBNAIL_SIDE
        frame = _frame(request) if "frames" in request.arguments else None

        async def make(pool: CodecPool) -> RenderedImage:
            item = stored_object(stored, self._archive.open)
            return await thumbnail(item, pool, size=size, frame=frame, media_type=form.media_type)

        return await self._answer(request, stored, make)

    async def _one_of(self, request: Request) -> StoredInstance:
        found = await instances_of(self._archive.index, request)
        return found[len(found) // 2]

    async def _answer(
        self,
        request: Request,
        stored: StoredInstance,
        make: Callable[[CodecPool], Awaitable[RenderedImage]],
    ) -> Response:
        said = [f"{name}={value}" for name, value in request.query]
        accept = request.header("accept") or ""
        tag = entity_tag(
            boundary_for("rendered", stored.digest, request.raw_path.decode(), accept, *said)
        )
        headers = [
            ("etag", tag),
            ("cache-control", "private, max-age=86400"),
            ("vary", "Accept"),
        ]
        if is_not_modified(request.header("if-none-match"), tag):
            return Response(status=304, headers=headers)
        if self._pool is None:
            raise HttpError(406, "NOT_ACCEPTABLE", "pictures are made when transcoding is enabled")
        try:
            picture = await make(self._pool)
        except RenderOptionError as error:
            raise HttpError(400, "BAD_PARAMETER", str(error)) from error
        except NoPixelDataError as error:
            raise HttpError(406, "NOT_IMAGE", "the object has no pixels to be shown") from error
        except KeyError:
            raise HttpError(410, "GONE", "the object is not there any more") from None
        except (DataSetError, PixelError) as error:
            raise HttpError(406, "NOT_SHOWN", f"the pixels cannot be shown: {error}") from error
        headers.append(("content-type", picture.media_type))
        return Response(headers=headers, body=picture.content)


def _frame(request: Request) -> int:
    text = request.arguments.get("frames", "1").partition(",")[0]
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text)):
        raise HttpError(400, "BAD_FRAMES", "a frame is a number from 1 on")
    return int(text)


def _options(request: Request, media_type: str) -> RenderOptions:
    quality = request.parameter("quality")
    if quality is not None and not (quality.isdecimal() and 1 <= int(quality[:4]) <= 100):
        raise HttpError(400, "BAD_PARAMETER", "the quality is a number from 1 to 100")
    annotation = (request.parameter("annotation") or "").split(",")
    try:
        space = ColourSpace(request.parameter("iccprofile") or ColourSpace.WITH_PROFILE.value)
    except ValueError:
        spaces = ", ".join(one.value for one in ColourSpace)
        raise HttpError(400, "BAD_PARAMETER", f"iccprofile is one of {spaces}") from None
    return RenderOptions(
        media_type=media_type,
        quality=int(quality) if quality else 90,
        window=_parsed(request, "window", Window.parse),
        viewport=_parsed(request, "viewport", Viewport.parse),
        colour_space=space,
        has_patient_label="patient" in annotation,
        has_technique_label="technique" in annotation,
    )


def _parsed(request: Request, name: str, parse: Callable[[str], T]) -> T | None:
    text = request.parameter(name)
    if text is None:
        return None
    try:
        return parse(text)
    except RenderOptionError as error:
        raise HttpError(400, "BAD_PARAMETER", f"{name}: {error}") from error
