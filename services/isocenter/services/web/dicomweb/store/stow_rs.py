"""STOW-RS (PS3.18 10.5): objects of one request into the archive, as they come.

200 is said when all of them are durable and can be found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import orjson

from isocenter.engine.dimse.status import Status
from isocenter.engine.uid import is_uid
from isocenter.services.archive.archive import Archive
from isocenter.services.dicom.json_xml import xml_of_json
from isocenter.services.net.http.media_types import MediaType, MediaTypeError, parse_media_type
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.multipart import (
    MultipartError,
    MultipartParser,
    PartData,
    PartEnded,
    PartStarted,
    boundary_of,
)
from isocenter.services.notices import Caller, Notices
from isocenter.services.web.dicomweb.multipart_responses import multipart_response
from isocenter.services.web.dicomweb.representations import (
    DICOM,
    DICOM_JSON,
    DICOM_XML,
    MULTIPART,
    NEW_NAMES,
    OCTET_STREAM,
    choose,
)
from isocenter.services.web.dicomweb.resources import parents_of
from isocenter.services.web.dicomweb.search.qido_rs import FORMS
from isocenter.services.web.dicomweb.store.bulk_spool import BulkSpool
from isocenter.services.web.dicomweb.store.described_objects import DescribedObjects, Workshop
from isocenter.services.web.dicomweb.store.incoming import Incoming
from isocenter.services.web.dicomweb.store.outcomes import Outcome, http_status, store_response
from isocenter.services.web.dicomweb.urls import PublicUrls

#: Parts of one request.
MOST_PARTS: Final = 100_000
#: What a body may hold, as `type` of multipart or by itself.
_TAKEN: Final = frozenset((DICOM, DICOM_JSON, DICOM_XML))
_METADATA: Final = frozenset((DICOM_JSON, DICOM_XML))
#: Content-Transfer-Encodings that change nothing.
_AS_IT_IS: Final = frozenset(("", "binary", "8bit", "7bit", "identity"))
#: For so long a client leaves an archive alone that has no room.
RETRY_SECONDS: Final = 60


class Store:
    """Takes objects.

    Args:
        notices: is told of each object, as of one that came by C-STORE.
        caller_of: who a request is from.
    """

    def __init__(
        self,
        archive: Archive,
        urls: PublicUrls,
        notices: Notices,
        *,
        caller_of: Callable[[Request], Caller],
    ) -> None:
        self._archive = archive
        self._urls = urls
        self._notices = notices
        self._caller_of = caller_of
        self._workshop = Workshop()

    async def __call__(self, request: Request) -> Response:
        """The handler of studies, and of one study."""
        form, _ = choose(request, FORMS)
        study = "".join(parents_of(request).values())
        content = _content_type(request)
        parser, kind = None, content.name
        if content.name == MULTIPART:
            kind = _kind_of_parts(content)
            try:
                parser = MultipartParser(boundary_of(content), most_parts=MOST_PARTS)
            except MultipartError as error:
                raise HttpError(400, "BAD_MULTIPART", str(error)) from error
        base = self._urls.base(request)
        caller = self._caller_of(request)
        with BulkSpool(f"{base}/studies/") as spool:
            async with Incoming(self._archive, self._notices, caller, study) as incoming:
                with DescribedObjects(self._workshop, incoming, spool) as described:
                    body = _Body(incoming, spool, described, kind)
                    if parser is None:
                        await body.take_single(request)
                    else:
                        await body.take_multipart(request, parser)
        outcomes = incoming.outcomes
        if described.unreadable and len(outcomes) == 1:
            raise HttpError(400, "BAD_METADATA", f"the metadata: {described.unreadable}")
        if not outcomes:
            raise HttpError(400, "NO_INSTANCES", "the request holds no object")
        return _response(outcomes, base, is_xml=form.media_type == DICOM_XML)


class _Body:
    """The body of a request, handed on part by part."""

    def __init__(
        self, incoming: Incoming, spool: BulkSpool, described: DescribedObjects, kind: str
    ) -> None:
        self._incoming = incoming
        self._spool = spool
        self._kind = kind
        self._described = described
        self._has_begun = False
        #: What the part is that comes in; empty: nothing that is wanted.
        self._part = ""

    async def take_single(self, request: Request) -> None:
        await self._begin(MediaType(self._kind), "", "")
        async for chunk in request.chunks():
            await self._write(chunk)
        await self._end()
        await self._described.finish()

    async def take_multipart(self, request: Request, parser: MultipartParser) -> None:
        try:
            async for chunk in request.chunks():
                for event in parser.feed(chunk):
                    match event:
                        case PartStarted():
                            await self._begin_part(event)
                        case PartData(data):
                            await self._write(data)
                        case PartEnded():
                            await self._end()
            parser.close()
        except MultipartError as error:
            raise HttpError(400, "BAD_MULTIPART", str(error)) from error
        await self._described.finish()

    async def _begin_part(self, part: PartStarted) -> None:
        self._part = ""
        encoding = (part.header("content-transfer-encoding") or "").strip().lower()
        if encoding not in _AS_IT_IS:
            self._refuse("a part has a Content-Transfer-Encoding, which HTTP has not")
            return
        try:
            media_type = part.media_type
        except MediaTypeError as error:
            self._refuse(f"a part has no media type: {error}")
            return
        if media_type is None:
            is_first = not self._has_begun or self._kind == DICOM
            media_type = MediaType(self._kind if is_first else OCTET_STREAM)
        location = part.header("content-location") or ""
        if not location and (identifier := part.header("content-id")):
            location = f"cid:{identifier.strip().strip('<>')}"
        syntax = media_type.parameter("transfer-syntax") or ""
        await self._begin(media_type, location, syntax if is_uid(syntax) else "")

    async def _begin(self, media_type: MediaType, location: str, syntax: str) -> None:
        self._has_begun = True
        name = media_type.name
        if not location and NEW_NAMES.get(name) == self._kind:
            name = self._kind  # application/json, text/xml
        if name == DICOM:
            self._incoming.begin()
            self._part = DICOM
        elif name in _METADATA:
            self._described.begin_metadata(name, syntax)
            self._part = DICOM_JSON
        elif self._kind == DICOM:
            self._refuse(f"a part is no {DICOM}")
        elif not location:
            self._refuse("a part with bulk data has no Content-Location")
        else:
            key = self._spool.key(location)
            await self._described.before_part(key)
            if name.startswith("image/"):
                name = NEW_NAMES.get(name, name)
            self._spool.begin(key, name, syntax)
            self._part = OCTET_STREAM

    async def _write(self, data: bytes | bytearray | memoryview) -> None:
        match self._part:
            case "application/dicom":
                await self._incoming.write(data)
            case "application/dicom+json":
                self._described.write_metadata(data)
            case "application/octet-stream":
                await self._spool.write(data)
            case _:
                pass  # it was refused

    async def _end(self) -> None:
        part, self._part = self._part, ""
        if part == DICOM:
            await self._incoming.end()
        elif part == DICOM_JSON:
            await self._described.end_metadata()
        elif part == OCTET_STREAM:
            self._described.after_part(await self._spool.end())

    def _refuse(self, why: str) -> None:
        self._has_begun = True
        self._incoming.refuse(Status.CANNOT_UNDERSTAND, why)


def _content_type(request: Request) -> MediaType:
    said = request.header("content-type")
    try:
        found = parse_media_type(said or "")
    except MediaTypeError as error:
        raise _unsupported() from error
    if found.name != MULTIPART and found.name not in _TAKEN:
        raise _unsupported()
    return found


def _kind_of_parts(content: MediaType) -> str:
    """What the first part is, unless it says something else."""
    said = content.parameter("type")
    if said is None:
        return DICOM
    try:
        name = parse_media_type(said).name
    except MediaTypeError as error:
        raise _unsupported() from error
    if name not in _TAKEN:
        raise _unsupported()
    return name


def _unsupported() -> HttpError:
    return HttpError(
        415,
        "UNSUPPORTED_MEDIA_TYPE",
        f'send {MULTIPART} with a boundary and type="{DICOM}", "{DICOM_JSON}" or "{DICOM_XML}"; '
        f"or one object as {DICOM}",
        [("accept-post", f"{MULTIPART}, {DICOM}, {DICOM_JSON}")],
    )


def _response(outcomes: list[Outcome], base: str, *, is_xml: bool) -> Response:
    status = http_status(outcomes)
    answer = store_response(outcomes, base, has_comments=not is_xml)
    headers = [("cache-control", "no-store")]
    if status == 503:
        headers.append(("retry-after", str(RETRY_SECONDS)))
    if is_xml:
        response = multipart_response(DICOM_XML, [xml_of_json(answer)], headers)
        return Response(status=status, headers=response.headers, body=response.body)
    headers.append(("content-type", DICOM_JSON))
    return Response(status=status, headers=headers, body=orjson.dumps(answer))
