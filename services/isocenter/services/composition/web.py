"""Web services of a server: DICOMweb on listeners of its own."""

from __future__ import annotations

import logging
import secrets

from isocenter.services.archive.archive import Archive
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.errors import text_of
from isocenter.services.net.http.application import RoutedApplication
from isocenter.services.net.http.limits import HttpLimits
from isocenter.services.net.http.messages import Request
from isocenter.services.net.http.routing import RouteTable
from isocenter.services.net.http.server import HttpServer
from isocenter.services.net.listeners import ListenAddress, Listening, open_listener
from isocenter.services.notices import Caller, Notices
from isocenter.services.settings.settings import Settings
from isocenter.services.web.dicomweb.search import SearchLimits
from isocenter.services.web.dicomweb.service import dicomweb_routes
from isocenter.services.web.dicomweb.urls import PublicUrls
from isocenter.services.web.local_access import from_this_machine

log = logging.getLogger("isocenter.server")


def listen_for_web(settings: Settings) -> Listening:
    """The sockets; none, and a line of the log, when the port is taken: an archive without web
    services is better than none."""
    web = settings.web
    if not web.enabled:
        return []
    bind = ListenAddress(host=web.host, port=web.port)
    try:
        return [(sock, bind) for sock in open_listener(bind)]
    except OSError as error:
        log.warning("no DICOMweb: %s; set web.port, or web.enabled = false", text_of(error))
        return []


def web_server(
    settings: Settings,
    archive: Archive,
    notices: Notices,
    *,
    transcoder: Transcoder | None,
    pool: CodecPool | None,
) -> HttpServer:
    """The server of all web services; it takes its listeners when it runs."""
    web = settings.web
    routes = dicomweb_routes(
        archive,
        notices,
        urls=PublicUrls(public_root=web.public_root),
        transcoder=transcoder,
        pool=pool,
        search_limits=SearchLimits(default=web.default_results, most=web.max_results),
        caller_of=_caller_of,
    )
    application = RoutedApplication(RouteTable(routes), authorize=from_this_machine)
    limits = HttpLimits(
        connections=web.max_connections,
        connections_per_address=web.max_connections_per_address,
        grace_seconds=settings.deadlines.shutdown,
    )
    return HttpServer(application, limits)


def _caller_of(request: Request) -> Caller:
    identity = request.identity
    return Caller(
        association=f"http-{secrets.token_hex(4)}",
        address=request.host,
        is_tls=request.scheme == "https",
        certificate=(identity and identity.common_name) or "",
    )
