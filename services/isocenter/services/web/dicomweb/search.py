"""QIDO-RS (PS3.18 10.6): studies, series and instances by their attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from isocenter.engine.dataset.vr import EXPLICIT_LITTLE
from isocenter.engine.dataset.writer import write_data_set
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Page
from isocenter.services.archive.ports import Index
from isocenter.services.archive.selection import matches_of
from isocenter.services.dicom.json_reader import read_json
from isocenter.services.dicom.model_file import writable_item
from isocenter.services.dicom.model_reader import encode_texts, read_model
from isocenter.services.dicom.xml_writer import xml_of
from isocenter.services.net.http.messages import Request, Response
from isocenter.services.web.dicomweb.framing import multipart_response
from isocenter.services.web.dicomweb.index_json import json_attributes
from isocenter.services.web.dicomweb.representations import (
    DICOM_JSON,
    DICOM_XML,
    Offer,
    choose,
)
from isocenter.services.web.dicomweb.resources import parents_of
from isocenter.services.web.dicomweb.search_parameters import warning_headers
from isocenter.services.web.dicomweb.search_request import SearchRequest, parse_search
from isocenter.services.web.dicomweb.urls import PublicUrls, instance_url

FORMS: Final = (
    Offer(media_type=DICOM_JSON, is_multipart=False),
    Offer(media_type=DICOM_XML, is_multipart=True),
)
_STUDY, _SERIES, _INSTANCE = 0x0020000D, 0x0020000E, 0x00080018

Match = Mapping[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchLimits:
    """Bounds on answers.

    Attributes:
        default: matches of an answer when nothing was said.
        most: matches that may be asked for at once.
    """

    default: int = 1_000
    most: int = 10_000


class Search:
    """Answers searches from an index."""

    def __init__(self, index: Index, urls: PublicUrls, limits: SearchLimits | None = None) -> None:
        self._index = index
        self._urls = urls
        self._limits = limits or SearchLimits()

    def at(self, level: Level) -> Callable[[Request], Any]:
        """The handler of searches for *level*."""

        async def handle(request: Request) -> Response:
            return await self._search(request, level)

        return handle

    async def _search(self, request: Request, level: Level) -> Response:
        form, _ = choose(request, FORMS)
        search = parse_search(level, parents_of(request), request.query)
        limit = search.parameters.bounded(self._limits.default, self._limits.most)
        # One more tells whether there are more.
        page = Page(limit=limit + 1, offset=search.parameters.offset)
        found = await matches_of(self._index, search.query, page)
        request.told["matches"] = min(len(found), limit)
        base = self._urls.base(request)
        answers = [_answer(match, search, level, base) for match in found[:limit]]
        headers = [("cache-control", "no-cache"), ("vary", "Accept")]
        headers += warning_headers(base, search.warnings, is_cut=len(found) > limit)
        if form.media_type == DICOM_XML:
            return multipart_response(DICOM_XML, [xml_of_answer(one) for one in answers], headers)
        headers.append(("content-type", DICOM_JSON))
        return Response(headers=headers, body=orjson.dumps(answers))


def _answer(match: Match, search: SearchRequest, level: Level, base: str) -> dict[str, Any]:
    found = json_attributes(match, search.shown)
    url = instance_url(
        base,
        match.get(_STUDY, ""),
        match.get(_SERIES, "") if level is not Level.STUDY else "",
        match.get(_INSTANCE, "") if level is Level.IMAGE else "",
    )
    found["00080056"] = {"vr": "CS", "Value": ["ONLINE"]}
    found["00081190"] = {"vr": "UR", "Value": [url]}
    return dict(sorted(found.items()))


def xml_of_answer(answer: dict[str, Any]) -> bytes:
    """A DICOM JSON object as Native DICOM Model."""
    model = read_model(read_json(orjson.dumps(answer))[0])
    encode_texts(model)
    data = write_data_set(writable_item(model.elements), EXPLICIT_LITTLE)
    return xml_of(data, EXPLICIT_LITTLE)
