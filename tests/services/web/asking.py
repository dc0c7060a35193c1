"""Web services of a server as its settings make them, asked without a network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from xml.etree import ElementTree as ET

import orjson
import trio

from isocenter.services import composition
from isocenter.services.association.server import ListenAddress, Server, serve
from isocenter.services.composition.archive import ArchiveParts
from isocenter.services.composition.conformance import statement_blocks
from isocenter.services.composition.fhir import fhir_of
from isocenter.services.composition.pages import error_page
from isocenter.services.composition.web import web_routes
from isocenter.services.net.http.application import Handler, RoutedApplication
from isocenter.services.net.http.cross_origin import AllowedOrigins
from isocenter.services.net.http.exchange import Message
from isocenter.services.net.http.routing import Route
from isocenter.services.notices import Notice, Notices
from isocenter.services.settings.loading import load_settings
from isocenter.services.web.description.document import html
from isocenter.services.web.description.service import described
from support.serving import port_of

SETTINGS = {"storage.data_dir": ":memory:", "tls.enabled": False}
ORIGIN = "https://viewer.example"


class Answered:
    """The answer to one request."""

    def __init__(self, messages: Sequence[Message]) -> None:
        start, *bodies = messages
        self.status: int = start["status"]
        self.headers = {name.decode(): value.decode() for name, value in start["headers"]}
        self.body = b"".join(bytes(each.get("body", b"")) for each in bodies)

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def xml(self) -> ET.Element:
        return ET.fromstring(self.body)


@dataclass
class WebSide:
    """An application, and what is behind it.

    Attributes:
        notices: what was told, in order.
        dimse: the same archive over DIMSE; None: it does not listen.
    """

    application: RoutedApplication
    parts: ArchiveParts
    notices: list[Notice]
    dimse: Server | None

    @property
    def routes(self) -> Sequence[Route[Handler]]:
        return self.application.table.routes

    @property
    def port(self) -> int:
        assert self.dimse is not None
        return port_of(self.dimse)

    async def __call__(self, method: str, path: str, body: Any = b"", **headers: str) -> Answered:
        """Ask; a body that is not bytes is sent as DICOM JSON."""
        if not isinstance(body, bytes):
            body = orjson.dumps(body)
            headers.setdefault("content_type", "application/dicom+json")
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        raw_path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "scheme": "http",
            "raw_path": raw_path.encode(),
            "query_string": query.encode(),
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8080),
            "isocenter.authority": "localhost:8080",
            "headers": [(n.replace("_", "-").encode(), v.encode()) for n, v in headers.items()],
        }
        await self.application(scope, receive, send)
        return Answered(sent)


@asynccontextmanager
async def web_side(
    changes: dict[str, Any] | None = None,
    *,
    listens: bool = False,
    fhir: bool = False,
    **options: Any,
) -> AsyncIterator[WebSide]:
    """All web services that the settings offer.

    Args:
        changes: settings by key, beside `SETTINGS`.
        listens: serve DIMSE, too, and do what follows of itself.
        fhir: beside them FHIR, which is described elsewhere.
        options: of the application.
    """
    settings = load_settings(None, {}, SETTINGS | (changes or {}))
    heard: list[Notice] = []
    notices = Notices(heard.append)
    async with composition.open_archive_parts(settings) as parts, trio.open_nursery() as nursery:
        registry, workflow = composition.build_services_and_workflow(
            settings, parts.archive, parts.stores, None, notices
        )
        routes = web_routes(settings, parts, notices, workflow)
        table, capabilities = described(
            routes,
            version="1.2.3",
            statement=lambda routes: html(
                "Statement", statement_blocks(settings, registry, None, (), routes)
            ),
            others=fhir_of(settings, parts, version="1.2.3") if fhir else (),
        )
        origins = AllowedOrigins(frozenset({ORIGIN}))
        options.setdefault("error_page", partial(error_page, None))
        application = RoutedApplication(table, options=capabilities, origins=origins, **options)
        dimse: Server | None = None
        if listens:
            binds = [ListenAddress(host="127.0.0.1", port=0)]
            dimse = await nursery.start(partial(serve, registry, binds, notices=notices))
        yield WebSide(application, parts, heard, dimse)
        nursery.cancel_scope.cancel()
