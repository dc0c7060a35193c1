"""QIDO-RS (PS3.18 10.6): studies, series and instances by their attributes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import orjson
import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.corrections.links import followed
from isocenter.services.archive.corrections.ports import LinkedPatients
from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.archive.metadata.ports import MetadataBook
from isocenter.services.archive.reading import ReadableArchive
from isocenter.services.dicom.json_xml import xml_of_json
from isocenter.services.net.http.messages import Request, Response
from isocenter.services.notices import Notices, SearchAnswered, SearchOutcome
from isocenter.services.web.dicomweb.index_json import json_attributes
from isocenter.services.web.dicomweb.multipart_responses import (
    WORTH_GZIP,
    gzipped,
    multipart_response,
)
from isocenter.services.web.dicomweb.representations import (
    DICOM_JSON,
    DICOM_XML,
    Offer,
    accepts_gzip,
    choose,
)
from isocenter.services.web.dicomweb.resources import parents_of
from isocenter.services.web.dicomweb.search.object_attributes import pick
from isocenter.services.web.dicomweb.search.object_search import Found, ObjectSearch, TooBroadError
from isocenter.services.web.dicomweb.search.parameters import warning_headers
from isocenter.services.web.dicomweb.search.request import SearchRequest, parse_search
from isocenter.services.web.dicomweb.urls import PublicUrls, instance_url
from isocenter.services.web.study_scope import narrowed

FORMS: Final = (
    Offer(media_type=DICOM_JSON, is_multipart=False),
    Offer(media_type=DICOM_XML, is_multipart=True),
)
#: Answers of so many take milliseconds to write.
_MANY: Final = 500
_STUDY, _SERIES, _INSTANCE = 0x0020000D, 0x0020000E, 0x00080018
_MODALITIES: Final = 0x00080061
_AVAILABILITY: Final = 0x00080056


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchLimits:
    """Bounds on searches.

    Attributes:
        default: matches of an answer when nothing was said.
        most: matches of any answer.
        objects: that one search reads at most, for what the index does not have.
        empty_status: of the answer when nothing is found; 200 has an empty array, 204 nothing.
    """

    default: int = 1_000
    most: int = 10_000
    objects: int = 1_000
    empty_status: int = 200


class Search:
    """Answers searches of an archive.

    Args:
        book: what was made of objects beforehand, for what the index does not have; None: the
            objects are read.
        links: of patients, which searches by ID follow; None: they follow none.
    """

    def __init__(
        self,
        archive: ReadableArchive,
        urls: PublicUrls,
        limits: SearchLimits | None = None,
        notices: Notices | None = None,
        book: MetadataBook | None = None,
        links: LinkedPatients | None = None,
    ) -> None:
        self._links = links
        self._archive = archive
        self._book = book
        self._urls = urls
        self._limits = limits or SearchLimits()
        self._notices = Notices() if notices is None else notices

    def at(self, level: Level) -> Callable[[Request], Any]:
        """The handler of searches for *level*."""

        async def handle(request: Request) -> Response:
            return await self._search(request, level)

        return handle

    async def _search(self, request: Request, level: Level) -> Response:
        request.told["level"] = level.value
        form, _ = choose(request, FORMS)
        search = parse_search(level, parents_of(request), request.query)
        search = replace(search, query=narrowed(search.query, request))
        limit = search.parameters.bounded(self._limits.default, self._limits.most)
        base = self._urls.base(request)
        objects = ObjectSearch(self._archive, self._book, search, base, self._limits.objects)
        try:
            queries = await followed(search.query, self._links)
            if len(queries) == 1:
                found, is_cut = await objects.page(limit, search.parameters.offset)
            else:
                each = [
                    ObjectSearch(
                        self._archive,
                        self._book,
                        replace(search, query=query),
                        base,
                        self._limits.objects,
                    )
                    for query in queries
                ]
                found, is_cut = await _joined(each, level, limit, search.parameters.offset)
        except TooBroadError:
            self._notices.publish(SearchAnswered(outcome=SearchOutcome.TOO_BROAD))
            raise
        request.told["matches"] = len(found)
        found, bare = await objects.with_fields(found)
        if self._archive.availabilities is not None:
            matches = await self._archive.availabilities.shown(level, [one.match for one in found])
            found = [replace(one, match=match) for one, match in zip(found, matches, strict=True)]
        self._notices.publish(
            SearchAnswered(outcome=SearchOutcome.CUT if is_cut else SearchOutcome.WHOLE)
        )
        warnings = list(search.warnings)
        if bare:
            warnings.append(
                f"{bare} results lack what the index does not have: ask for fewer at once"
            )
        headers = [("cache-control", "no-cache"), ("vary", "Accept, Accept-Encoding")]
        headers += warning_headers(base, warnings, is_cut=is_cut)
        if not found and self._limits.empty_status == 204:
            return Response(status=204, headers=headers)
        is_xml = form.media_type == DICOM_XML
        is_gzip = not is_xml and len(found) >= WORTH_GZIP and accepts_gzip(request)
        write = partial(_written, found, search, base, is_xml=is_xml, is_gzip=is_gzip)
        # Others have their turn meanwhile.
        parts = await trio.to_thread.run_sync(write) if len(found) >= _MANY else write()
        if is_xml:
            return multipart_response(DICOM_XML, parts, headers)
        headers.append(("content-type", DICOM_JSON))
        if is_gzip:
            headers.append(("content-encoding", "gzip"))
        return Response(headers=headers, body=parts)


async def _joined(
    searches: Sequence[ObjectSearch], level: Level, limit: int, offset: int
) -> tuple[list[Found], bool]:
    """A page of what several searches find, one behind the other; each match once."""
    found: dict[str, Found] = {}
    is_cut = False
    for search in searches:
        some, has_more = await search.page(offset + limit, 0)
        is_cut = is_cut or has_more
        for one in some:
            found.setdefault(one.match.get(UNIQUE_KEY[level], ""), one)
    rows = list(found.values())
    return rows[offset : offset + limit], is_cut or len(rows) > offset + limit


def _written(
    found: Sequence[Found], search: SearchRequest, base: str, *, is_xml: bool, is_gzip: bool
) -> list[bytes]:
    """XML: a document for each; JSON: one array."""
    answers = [_answer(one, search, base) for one in found]
    if is_xml:
        return [xml_of_json(one) for one in answers]
    body = orjson.dumps(answers)
    return [gzipped(body) if is_gzip else body]


def _answer(one: Found, search: SearchRequest, base: str) -> dict[str, Any]:
    match, level = one.match, search.query.level
    found = json_attributes(match, search.shown)
    if not match.get(_MODALITIES):
        # OHIF shows no study at all when one of them has this without a value.
        found.pop(f"{_MODALITIES:08X}", None)
    if one.item is not None:
        found |= pick(one.item, search.fields)
    url = instance_url(
        base,
        match.get(_STUDY, ""),
        match.get(_SERIES, "") if level is not Level.STUDY else "",
        match.get(_INSTANCE, "") if level is Level.IMAGE else "",
    )
    found["00080056"] = {"vr": "CS", "Value": [match.get(_AVAILABILITY, "ONLINE")]}
    found["00081190"] = {"vr": "UR", "Value": [url]}
    if not orjson.dumps(found).isascii():
        found["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    return dict(sorted(found.items()))
