"""WADO-RS (PS3.18 10.4): studies, series and instances as DICOM objects.

What can be told before the first byte is: what is not there, and what cannot be made.  What fails
later cuts the connection, so that half a study never looks like a whole one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from isocenter.engine.uid import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.archive.opened_ahead import OpenedAhead
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.reading import ReadableArchive
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.dicom.pixels.transfer_syntaxes import PIXEL_SYNTAXES
from isocenter.services.net.http.conditions import entity_tag, is_not_modified
from isocenter.services.net.http.messages import Piece, Request, Response
from isocenter.services.net.http.multipart import MultipartWriter
from isocenter.services.web.dicomweb.multipart_responses import boundary_for, multipart_type
from isocenter.services.web.dicomweb.representations import (
    DICOM,
    STORED,
    Offer,
    matching,
    not_acceptable,
    wanted_of,
)
from isocenter.services.web.dicomweb.resources import instances_of, query_of
from isocenter.services.web.dicomweb.retrieve.object_bodies import ObjectBodies, Outgoing
from isocenter.services.web.dicomweb.retrieve.partial_answers import still_there, with_warning
from isocenter.services.web.dicomweb.urls import PublicUrls, instance_url
from isocenter.services.web.downloads import ZIP, Downloads
from isocenter.services.web.study_reading import begin_reading

_FRAMED: Final = Offer(media_type=DICOM, is_multipart=True)
_ALONE: Final = Offer(media_type=DICOM, is_multipart=False)
#: Web services do not use them (PS3.18 8.7.3): sent as Explicit VR Little Endian.
_NOT_FOR_THE_WEB: Final = frozenset({IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN})
_ZIP: Final = Offer(media_type=ZIP, is_multipart=False)


class Retrieve:
    """Answers with whole objects.

    Args:
        transcoder: makes what is asked for in another transfer syntax; None: nothing compressed
            is made or taken apart.
        downloads: give ZIP files; None: there are none.
    """

    def __init__(
        self,
        archive: ReadableArchive,
        urls: PublicUrls,
        transcoder: Transcoder | None = None,
        downloads: Downloads | None = None,
    ) -> None:
        self._downloads = downloads
        self._archive = archive
        self._urls = urls
        self._bodies = ObjectBodies(archive, transcoder)

    async def __call__(self, request: Request) -> Response:
        """The handler of a study, a series and an instance."""
        if self._downloads is not None and _wants_zip(request):
            uid = [*request.arguments.values()][-1]
            return await self._downloads.respond(request, query_of(request), name=uid)
        end = await begin_reading(self._archive, {request.arguments["study"]}, request)
        try:
            named = await instances_of(self._archive.index, request)
            instances = await still_there(self._archive, named)
            request.told["instances"] = instances
            if self._archive.check_on_line is not None:
                # A response that has begun can only break off.
                await self._archive.check_on_line(instances)
            outgoing, is_multipart = self._choose(request, instances)
            response = self._response(request, outgoing, is_multipart)
        except BaseException:
            end()
            raise
        gone = len(named) - len(instances)
        response = with_warning(response, gone, len(named), self._urls.base(request))
        return replace(response, close=end)

    def alone(self, request: Request, stored: StoredInstance, syntax: str | None) -> Response:
        """One object.

        Args:
            syntax: in which it is wanted; None: the default.

        Raises:
            HttpError: it cannot be had in that (406).
        """
        outgoing = self._outgoing(stored, syntax)
        if outgoing is None:
            raise not_acceptable([_ALONE], "; not in that transfer syntax")
        return self._response(request, [outgoing], is_multipart=False)

    def _response(self, request: Request, outgoing: list[Outgoing], is_multipart: bool) -> Response:
        base = self._urls.base(request)
        names = [f"{one.stored.digest} {one.transfer_syntax}" for one in outgoing]
        tag = entity_tag(boundary_for("objects", base, str(is_multipart), *names))
        headers = [("etag", tag), ("cache-control", "private, no-cache"), ("vary", "Accept")]
        if is_not_modified(request.header("if-none-match"), tag):
            return Response(status=304, headers=headers)
        length: int | None = None
        if not is_multipart:
            (one,) = outgoing
            headers.append(("content-type", _headers(one, base)[0][1]))
            headers.append(("content-location", _headers(one, base)[1][1]))
            if one.is_as_stored:
                length = one.stored.size
            return Response(
                headers=headers, body=self._bodies.bytes_of(one, self._archive.open), length=length
            )
        boundary = boundary_for(tag)
        headers.append(("content-type", multipart_type(DICOM, boundary)))
        if all(one.is_as_stored for one in outgoing):
            sizes = [(_headers(one, base), one.stored.size) for one in outgoing]
            length = MultipartWriter(boundary).length(sizes)
        return Response(headers=headers, body=self._parts(outgoing, boundary, base), length=length)

    def _choose(
        self, request: Request, instances: Sequence[StoredInstance]
    ) -> tuple[list[Outgoing], bool]:
        offers = (_FRAMED, _ALONE) if len(instances) == 1 else (_FRAMED,)
        why = ""
        for wanted in wanted_of(request):
            offer = matching(wanted, offers)
            if offer is None:
                continue
            found = [self._outgoing(one, wanted.transfer_syntax) for one in instances]
            if None not in found:
                return [one for one in found if one is not None], offer.is_multipart
            why = "; not in that transfer syntax, but with transfer-syntax=* as stored"
        raise not_acceptable(offers, why)

    def _outgoing(self, stored: StoredInstance, wanted: str | None) -> Outgoing | None:
        """How an object leaves; None: it cannot become what is wanted."""
        have = stored.transfer_syntax_uid
        if wanted in _NOT_FOR_THE_WEB:
            return None
        target = wanted
        if wanted is None:
            # What exists with losses only may stay as it is (PS3.18 8.7.3.2).
            syntax = PIXEL_SYNTAXES.get(have)
            is_lossy = syntax is not None and syntax.is_lossy
            target = have if is_lossy else EXPLICIT_VR_LITTLE_ENDIAN
        elif wanted == STORED:
            target = EXPLICIT_VR_LITTLE_ENDIAN if have in _NOT_FOR_THE_WEB else have
        assert target is not None
        if target != have and not self._can_become(have, target):
            if wanted is not None or have in _NOT_FOR_THE_WEB:
                return None
            target = have  # better the object as it is than none, when nothing was said
        return Outgoing(stored=stored, transfer_syntax=target)

    def _can_become(self, have: str, target: str) -> bool:
        return target not in _NOT_FOR_THE_WEB and self._bodies.can_become(have, target)

    async def _parts(
        self, outgoing: Sequence[Outgoing], boundary: str, base: str
    ) -> AsyncGenerator[Sequence[Piece], None]:
        writer = MultipartWriter(boundary)
        as_stored = [one.stored for one in outgoing if one.is_as_stored]
        async with OpenedAhead(self._archive, as_stored) as ahead:
            for one in outgoing:
                before = [writer.begin_part(_headers(one, base))]
                async with aclosing(self._bodies.bytes_of(one, ahead.open)) as pieces:
                    async for piece in pieces:
                        yield [*before, piece]
                        before = []
                if before:
                    yield before
        yield [writer.end()]


def _headers(one: Outgoing, base: str) -> list[tuple[str, str]]:
    stored = one.stored
    url = instance_url(
        base, stored.study_instance_uid, stored.series_instance_uid, stored.sop_instance_uid
    )
    return [
        ("Content-Type", f"{DICOM}; transfer-syntax={one.transfer_syntax}"),
        ("Content-Location", url),
    ]


def _wants_zip(request: Request) -> bool:
    """Whether a ZIP file (PS3.18 8.6.1.3) is what is wanted most of all that there is.  In it is
    what is stored; another transfer syntax is not made for it."""
    for wanted in wanted_of(request):
        offer = matching(wanted, (_FRAMED, _ALONE, _ZIP))
        if offer is not None:
            return offer is _ZIP and wanted.transfer_syntax in (None, STORED)
    return False
