"""Routes of the descriptions, and the answer to OPTIONS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Final

import orjson

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.media_types import MediaTypeError, parse_accept
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Route, RouteTable, ok
from isocenter.services.web.deidentified_answers import names_nobody
from isocenter.services.web.description.document import Paragraph, html
from isocenter.services.web.description.openapi import OPENAPI_JSON, About, openapi
from isocenter.services.web.description.tables import tables
from isocenter.services.web.description.wadl import WADL, wadl
from isocenter.services.web.dicomweb.urls import ROOT, PublicUrls
from isocenter.services.web.rest.endpoints import ROOT as REST_ROOT
from isocenter.services.web.rest.problems import PROBLEM_JSON, Problem

#: Where the descriptions are.
API: Final = "/api"
#: What the places of paths are.
PLACES: Final = {
    "study": "Study Instance UID",
    "series": "Series Instance UID",
    "instance": "SOP Instance UID",
    "frames": "numbers of frames, from 1 on, with commas",
    "transaction": "Transaction UID",
    "step": "SOP Instance UID of a performed procedure step, its MPPS UID",
    "path": "tag of an attribute; of one in a sequence: tag/number of the item/tag",
}
#: What the places of paths of the administration API are.
REST_PLACES: Final[Mapping[str, str]] = {
    "key": "key of a setting: section.name",
    "user": "name of a user",
    "role": "name of a role",
    "session": "ID of a session",
    "token": "ID of an API token",
    "ae_title": "AE title, as the policy has it",
    "association": "ID of an association",
    "patient": "Patient ID, or the pk of a patient",
    "study": "Study Instance UID",
    "series": "Series Instance UID",
    "instance": "SOP Instance UID",
    "mark": "ID of an annotation, a measurement or a key image",
    "state": "ID of a state of a viewer",
    "record": "number of a record of the audit trail",
    "entry": "number of an entry of the worklist, its pk",
    "name": "name of a certificate",
    "deletion": "ID of a deletion",
    "repository": "name of a repository, as the settings have it",
    "document": "UID of a document of that repository",
}
REST: Final = About(
    title="Administration API of Isocenter",
    description="""\
What the pages of an archive do, for programs.  Who calls is known by a client certificate, a \
bearer token or the session of a browser; programs on the same machine need none of them in the \
clear.  Every operation says which permission of the access policy it needs (`x-permission`).  \
Errors are problem objects (RFC 9457) with a code.""",
    error=(PROBLEM_JSON, Problem),
    schemas={},
)
_HTML: Final = "text/html"
_SERVICE: Final = "Descriptions"
_XML: Final = ("application/xml", "text/xml")
#: A page that loads nothing and runs nothing.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_ANSWERS: Final = (ok("The description."),)


def described(
    routes: Sequence[Route[Handler]],
    *,
    version: str,
    statement: Callable[[Sequence[Route[Handler]]], str],
    urls: PublicUrls | None = None,
    rest: Sequence[Route[Handler]] = (),
    others: Sequence[Route[Handler]] = (),
) -> tuple[RouteTable[Handler], Route[Handler]]:
    """The table of some routes and of those that describe them, and the route of OPTIONS.

    Args:
        statement: the conformance statement of a server with some routes, as a page.
        rest: those of the administration API, which is described by itself.
        others: more routes, which are not described here: those for people, and those of FHIR,
            which has a CapabilityStatement.
    """
    urls = urls or PublicUrls()
    whole: list[Route[Handler]] = []

    @cache
    def written() -> bytes:
        return orjson.dumps(openapi(whole, version=version, places=PLACES))

    async def document(request: Request) -> Response:
        return _made(OPENAPI_JSON, written())

    @cache
    def shown() -> str:
        title = f"Web services of Isocenter {version}"
        blocks = [
            Paragraph("This page is made from the table of routes that the server runs on."),
            *tables(whole, PLACES),
        ]
        return html(title, blocks)

    async def page(request: Request) -> Response:
        return _page(shown())

    async def conformance(request: Request) -> Response:
        return _page(statement(whole))

    whole += [
        *routes,
        Route(
            method="GET", path=f"{API}/openapi.json", handler=names_nobody(document),
            name="DescribeAsOpenApi", text="All operations, as OpenAPI 3.1.",
            produces=(OPENAPI_JSON,), service=_SERVICE, answers=_ANSWERS,
        ),
        Route(
            method="GET", path=API, handler=names_nobody(page), name="DescribeAsPage",
            service=_SERVICE,
            text="All operations, as a page for people.", produces=(_HTML,), answers=_ANSWERS,
        ),
        Route(
            method="GET", path=f"{API}/conformance", handler=conformance, needs="state",
            name="DescribeConformance", service=_SERVICE, produces=(_HTML,), answers=_ANSWERS,
            text="The conformance statement of this server (PS3.2), as a page for people.",
        ),
    ]  # fmt: skip
    described_rest = _with_description(rest, version)
    table = RouteTable([*whole, *described_rest, *others])

    async def capabilities(request: Request) -> Response:
        media_type = _accepted(request)
        depth, beneath = table.beneath(request.raw_path)
        base, root = urls.base(request), 1
        if not all(route.path.startswith(f"{ROOT}/") for route in beneath):
            base, root = base.removesuffix(ROOT), 0
        body = wadl(beneath, base, root=root, depth=depth, places=PLACES)
        return _made(media_type, body, ("vary", "Accept"))

    options: Route[Handler] = Route(
        method="OPTIONS", path="*", handler=names_nobody(capabilities), name="RetrieveCapabilities",
        text="What there is at a path and below it (PS3.18 8.9).", produces=(WADL, *_XML),
        answers=(*_ANSWERS, Answer(406, "No XML is accepted.")),
    )  # fmt: skip
    return table, options


def _with_description(routes: Sequence[Route[Handler]], version: str) -> Sequence[Route[Handler]]:
    """Routes of the API with that which describes them."""
    if not routes:
        return ()
    whole: list[Route[Handler]] = []

    @cache
    def written() -> bytes:
        return orjson.dumps(openapi(whole, version=version, places=REST_PLACES, about=REST))

    async def document(request: Request) -> Response:
        return _made(OPENAPI_JSON, written())

    whole += [
        *routes,
        Route(
            method="GET", path=f"{REST_ROOT}/openapi.json", handler=names_nobody(document),
            name="DescribeApi", text="The operations of this API, as OpenAPI 3.1.",
            produces=(OPENAPI_JSON,), service=_SERVICE, answers=_ANSWERS,
        ),
    ]  # fmt: skip
    return whole


def _accepted(request: Request) -> str:
    """The media type in which the WADL is wanted."""
    try:
        ranges = parse_accept(request.header("accept") or "")
    except MediaTypeError as error:
        raise HttpError(400, "BAD_ACCEPT", f"{error}; ask for {WADL}") from error
    for one in sorted(ranges, key=lambda one: -one.quality):
        for media_type in (WADL, *_XML):
            if one.quality > 0 and one.range.covers(media_type):
                return media_type
    raise HttpError(406, "NOT_ACCEPTABLE", f"this can be had as {', '.join((WADL, *_XML))}")


def _page(text: str) -> Response:
    policy = ("content-security-policy", _POLICY)
    return _made(f"{_HTML}; charset=utf-8", text.encode(), policy)


def _made(media_type: str, body: bytes, *headers: tuple[str, str]) -> Response:
    content = [("content-type", media_type), ("cache-control", "no-cache"), *headers]
    return Response(headers=content, body=body)
