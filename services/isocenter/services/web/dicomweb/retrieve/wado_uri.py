"""WADO-URI (PS3.18 9): one object by the parameters of a URL."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from math import ceil
from typing import Final, TypeVar

import trio

from isocenter.engine.dataset import DataSetError, Encoding, encoding_of, write_file_meta
from isocenter.engine.dataset.walker import Tolerance
from isocenter.engine.uid import is_uid
from isocenter.services.archive.deidentification.service import (
    Deidentification,
    UnknownProjectError,
)
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.reading import ReadableArchive
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.dicom.bulk_data import left_out
from isocenter.services.dicom.json_reader import read_json
from isocenter.services.dicom.json_writer import json_of
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.frames import NoPixelDataError, open_image
from isocenter.services.dicom.pixels.image import ImageDescription
from isocenter.services.dicom.pixels.rendering.options import (
    GIF,
    JPEG,
    MAX_SIDE,
    PNG,
    RenderOptionError,
    RenderOptions,
    Viewport,
    Window,
)
from isocenter.services.dicom.structured_report import is_report, report_html, report_text
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.conditions import entity_tag, is_not_modified
from isocenter.services.net.http.media_types import (
    AcceptedRange,
    MediaType,
    MediaTypeError,
    parse_accept,
)
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.web.dicomweb.deletion import Trashed, gone
from isocenter.services.web.dicomweb.multipart_responses import boundary_for
from isocenter.services.web.dicomweb.representations import DICOM, DICOM_JSON, NEW_NAMES
from isocenter.services.web.dicomweb.resources import PLACES
from isocenter.services.web.dicomweb.retrieve.encapsulated import Encapsulated, media_type_of
from isocenter.services.web.dicomweb.retrieve.rendered import Rendered
from isocenter.services.web.dicomweb.retrieve.wado_rs import Retrieve

T = TypeVar("T")

_PICTURES: Final = (JPEG, PNG, GIF)
HTML: Final = "text/html"
_REPORT_TYPES: Final = (HTML, "text/plain")
#: Bytes of a report that is held while it becomes text.
_MOST_REPORT: Final = 32 << 20
#: Of an object that is de-identified, bytes at once.
_PIECE: Final = 1 << 20
#: How much wider or higher a picture may become of which one side only was asked for.
_ODDEST: Final = 8
_ANNOTATIONS: Final = frozenset(("patient", "technique"))


class WadoUri:
    """Answers with an object, or what of it can be seen.

    Args:
        anonymize: name of the project under which objects are de-identified that are asked for so;
            empty: none is.
        deidentification: gives what does that.
    """

    def __init__(
        self,
        archive: ReadableArchive,
        retrieve: Retrieve,
        rendered: Rendered,
        metadata: Handler,
        trashed: Trashed | None = None,
        *,
        anonymize: str = "",
        deidentification: Callable[[], Deidentification | None] = lambda: None,
    ) -> None:
        self._archive = archive
        self._deidentification = deidentification
        self._metadata = metadata
        self._trashed = trashed
        self._anonymize = anonymize
        self._retrieve = retrieve
        self._rendered = rendered
        self._encapsulated = Encapsulated(archive)

    async def __call__(self, request: Request) -> Response:
        """The handler."""
        if (request.parameter("requestType") or "").upper() != "WADO":
            raise _bad("requestType", "it is WADO")
        stored = await self._one(
            request, study="studyUID", series="seriesUID", instance="objectUID"
        )
        media_type = await self._media_type(request, stored)
        if request.parameter("anonymize") is not None and media_type != DICOM:
            raise _bad("anonymize", "it is of application/dicom; ask for that in contentType")
        if media_type == DICOM:
            return await self._object(request, stored)
        if media_type == DICOM_JSON:
            request.arguments = {
                "study": stored.study_instance_uid,
                "series": stored.series_instance_uid,
                "instance": stored.sop_instance_uid,
            }
            return await self._metadata(request)
        if media_type in _PICTURES:
            return await self._picture(request, stored, media_type)
        _check_charset(request, media_type)
        if media_type in _REPORT_TYPES:
            return await self._report(request, stored, media_type)
        return await self._encapsulated(request, stored)

    async def _one(self, request: Request, **names: str) -> StoredInstance:
        """The object that parameters name; one that they place elsewhere is not there."""
        said = {place: request.parameter(name) for place, name in names.items()}
        uid = said["instance"]
        if not uid:
            raise _bad(names["instance"], "it names the object")
        found = (await self._archive.index.get([uid])).get(uid)
        if found is None or not (
            said.get("study") in (None, "", found.study_instance_uid)
            and said.get("series") in (None, "", found.series_instance_uid)
        ):
            if self._trashed is not None and await self._trashed.has(
                {PLACES[place]: value for place, value in said.items() if value}
            ):
                raise gone()
            raise HttpError(404, "NOT_FOUND", "the archive has no such object")
        request.told["instances"] = [found]
        return found

    # What it is to be.

    async def _media_type(self, request: Request, stored: StoredInstance) -> str:
        held = media_type_of(stored)
        is_document = bool(held) and not held.startswith("video/")
        there_is = [held] if held else []
        if is_report(stored.sop_class_uid):
            held, is_document = HTML, True
            there_is += _REPORT_TYPES
        if not is_document:
            there_is += _PICTURES
        there_is += (DICOM, DICOM_JSON)
        said = request.parameter("contentType")
        for wanted in _ranges(said or request.header("accept") or "*/*"):
            name = wanted.range.name
            # Pictures have other names, too; of what else has them, the others are meant here.
            pictured = MediaType(NEW_NAMES.get(name, name) if name.startswith("image/") else name)
            if name == "*/*" and not held:
                return await self._usual(request, stored)
            if name == "image/*" and not is_document:
                return JPEG
            for one in there_is:
                if pictured.covers(one) or (name == "video/*" and one == held):
                    return one
            if name in ("video/mpeg", "application/octet-stream") and held.startswith("video/"):
                return held
        raise HttpError(406, "NOT_ACCEPTABLE", f"this object can be had as {', '.join(there_is)}")

    async def _usual(self, request: Request, stored: StoredInstance) -> str:
        """JPEG of an image with one frame, or of the frame that is named; else the object."""
        try:
            async with open_image(stored_object(stored, self._archive.open)) as image:
                is_one = len(image) == 1 or request.parameter("frameNumber") is not None
                return JPEG if is_one else DICOM
        except KeyError:
            raise HttpError(410, "GONE", "the object is not there any more") from None
        except (NoPixelDataError, DataSetError, PixelError):
            return DICOM

    # A report.

    async def _report(self, request: Request, stored: StoredInstance, media_type: str) -> Response:
        tag = entity_tag(boundary_for("report", stored.digest, media_type))
        headers = [("etag", tag), ("cache-control", "private, max-age=86400"), ("vary", "Accept")]
        if is_not_modified(request.header("if-none-match"), tag):
            return Response(status=304, headers=headers)
        encoding = encoding_of(stored.transfer_syntax_uid)
        item = stored_object(stored, self._archive.open)
        try:
            async with await item.open() as reader:
                # What is made when it is opened has no length before.
                if reader.size > _MOST_REPORT:
                    raise HttpError(
                        406,
                        "NOT_SHOWN",
                        f"reports of more than {_MOST_REPORT >> 20} MiB are not shown",
                    )
                start = stored.data_set_offset
                data = await reader.read(start, reader.size - start)
            text = await trio.to_thread.run_sync(_shown, data, encoding, media_type)
        except KeyError:
            raise HttpError(410, "GONE", "the object is not there any more") from None
        except DataSetError as error:
            raise HttpError(406, "NOT_SHOWN", f"the report cannot be read: {error}") from error
        headers += [
            ("content-type", f"{media_type}; charset=utf-8"),
            ("content-security-policy", "sandbox; default-src 'none'"),
        ]
        return Response(headers=headers, body=text)

    # The object.

    async def _object(self, request: Request, stored: StoredInstance) -> Response:
        anonymize = request.parameter("anonymize")
        syntax = request.parameter("transferSyntax")
        if anonymize is not None and anonymize.lower() != "yes":
            raise _bad("anonymize", "it is yes, or is left out")
        if anonymize is not None and not self._archive.project:
            return await self._anonymized(stored, syntax)
        if syntax is not None and syntax != "*" and not is_uid(syntax):
            raise _bad("transferSyntax", "it is the UID of one")
        if self._archive.check_on_line is not None:
            # A response that has begun can only break off.
            await self._archive.check_on_line([stored])
        return self._retrieve.alone(request, stored, syntax)

    async def _anonymized(self, stored: StoredInstance, syntax: str | None) -> Response:
        """The object without who it is of (PS3.18 9.4.1.2.2)."""
        deidentification = self._deidentification()
        if deidentification is None or not self._anonymize:
            raise HttpError(
                406, "NOT_ANONYMIZED", "objects are sent as they are; nothing is de-identified here"
            )
        try:
            project = deidentification.project(self._anonymize)
            item = await deidentification.deidentified(
                stored_object(stored, self._archive.open), project
            )
            reader = await item.open()
        except KeyError:
            raise HttpError(410, "GONE", "the object is not there any more") from None
        except (DataSetError, UnknownProjectError) as error:
            raise HttpError(406, "NOT_ANONYMIZED", str(error)) from error
        kept = item.transfer_syntax_uid
        if syntax not in (None, "*", kept):
            await reader.__aexit__(None, None, None)
            raise HttpError(
                406, "NOT_ACCEPTABLE", "de-identified objects keep their transfer syntax; ask for *"
            )
        meta = write_file_meta(item.sop_class_uid, item.sop_instance_uid, kept)

        async def body() -> AsyncGenerator[bytes, None]:
            async with reader:
                yield meta
                for start in range(0, reader.size, _PIECE):
                    yield await reader.read(start, _PIECE)

        headers = [
            ("content-type", f"{DICOM}; transfer-syntax={kept}"), ("cache-control", "no-store"),
        ]  # fmt: skip
        return Response(headers=headers, body=body(), length=len(meta) + reader.size)

    # A picture.

    async def _picture(self, request: Request, stored: StoredInstance, media_type: str) -> Response:
        frame = _whole(request, "frameNumber", 1 << 30) or 1
        quality = _whole(request, "imageQuality", 100) or 90
        rows, columns = (_whole(request, name, MAX_SIDE) for name in ("rows", "columns"))
        region = _parsed(request, "region", _region)
        window = _window(request)
        labels = {one for one in (request.parameter("annotation") or "").lower().split(",") if one}
        if not labels <= _ANNOTATIONS:
            raise _bad("annotation", "it is patient, technique, or both with a comma")
        state = None
        if request.parameter("presentationUID") or request.parameter("presentationSeriesUID"):
            if not (request.parameter("presentationUID")
                    and request.parameter("presentationSeriesUID")):  # fmt: skip
                raise _bad("presentationUID", "presentationSeriesUID belongs to it")
            if window is not None:
                raise _bad("presentationUID", "it has a window of its own")
            state = await self._one(
                request, series="presentationSeriesUID", instance="presentationUID"
            )

        def options(image: ImageDescription) -> RenderOptions:
            return RenderOptions(
                media_type=media_type,
                quality=quality,
                window=window,
                viewport=_viewport(image, rows, columns, region),
                has_patient_label="patient" in labels,
                has_technique_label="technique" in labels,
            )

        return await self._rendered.picture(request, stored, frame, options, state)


def _shown(data: bytes, encoding: Encoding, media_type: str) -> bytes:
    text = json_of(data, encoding, bulk=left_out, tolerance=Tolerance.SALVAGE)
    (model,) = read_json(text)
    made = report_html(model) if media_type == HTML else report_text(model)
    return made.encode("utf-8", "replace")


def _ranges(text: str) -> Sequence[AcceptedRange]:
    try:
        found = parse_accept(text)
    except MediaTypeError as error:
        raise _bad("contentType", str(error)) from error
    return sorted((one for one in found if one.quality > 0), key=lambda one: -one.quality)


def _check_charset(request: Request, media_type: str) -> None:
    """Whether UTF-8 is wanted: reports are made in it, and what is kept is usually in it."""
    charset = request.parameter("charset")
    if not charset or not media_type.startswith("text/"):
        return
    names = {one.partition(";")[0].strip().lower() for one in charset.split(",")}
    if not names & {"utf-8", "utf8", "iso_ir 192", "*"}:
        raise HttpError(406, "NOT_ACCEPTABLE", "text is sent in UTF-8, or as it is stored")


def _bad(name: str, what: str) -> HttpError:
    return HttpError(400, "BAD_PARAMETER", f"{name}: {what}")


def _whole(request: Request, name: str, most: int) -> int | None:
    text = request.parameter(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 11 and 1 <= int(text) <= most):
        raise _bad(name, f"it is a number from 1 to {most}")
    return int(text)


def _parsed(request: Request, name: str, parse: Callable[[str], T]) -> T | None:
    text = request.parameter(name)
    if text is None:
        return None
    try:
        return parse(text)
    except (ValueError, RenderOptionError) as error:
        raise _bad(name, str(error)) from error


def _region(text: str) -> tuple[float, float, float, float]:
    """Left, top, right and bottom, as parts of the image."""
    try:
        left, top, right, bottom = (float(one) for one in text.split(","))
    except ValueError:
        raise ValueError("it is LEFT,TOP,RIGHT,BOTTOM") from None
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError("its numbers go from 0 to 1, right of left, bottom below top")
    return left, top, right, bottom


def _window(request: Request) -> Window | None:
    center, width = (request.parameter(name) for name in ("windowCenter", "windowWidth"))
    if center is None and width is None:
        return None
    if center is None or width is None:
        raise _bad("windowCenter", "windowWidth belongs to it")
    try:
        return Window.parse(f"{center},{width}")
    except RenderOptionError as error:
        raise _bad("windowWidth", str(error)) from error


def _viewport(
    image: ImageDescription,
    rows: int | None,
    columns: int | None,
    region: tuple[float, float, float, float] | None,
) -> Viewport | None:
    if rows is None and columns is None and region is None:
        return None
    left, top, right, bottom = region or (0, 0, 1, 1)
    x, y = left * image.columns, top * image.rows
    width, height = (right - left) * image.columns, (bottom - top) * image.rows
    if rows is None and columns is None:
        size = ceil(width), ceil(height)
    else:
        size = (
            columns or ceil((rows or 1) * max(width / height, 1) * _ODDEST),
            rows or ceil((columns or 1) * max(height / width, 1) * _ODDEST),
        )
    return Viewport(
        min(size[0], MAX_SIDE), min(size[1], MAX_SIDE), x, y,
        None if region is None else width, None if region is None else height,
    )  # fmt: skip
