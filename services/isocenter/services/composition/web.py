"""Web services of a server: DICOMweb on listeners of its own."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from isocenter.services.archive.export.service import Exporter
from isocenter.services.composition.access import openid_provider_of
from isocenter.services.composition.archive import ArchiveParts, trash_of
from isocenter.services.composition.export import export_recorder
from isocenter.services.composition.fhir import fhir_of
from isocenter.services.composition.pages import Running, error_page, web_parts
from isocenter.services.composition.tls_contexts import TlsContexts
from isocenter.services.composition.workflow import Workflow
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.errors import text_of
from isocenter.services.net.http.application import Handler, RoutedApplication
from isocenter.services.net.http.cross_origin import AllowedOrigins
from isocenter.services.net.http.forwarded import TrustedProxies
from isocenter.services.net.http.limits import HttpLimits
from isocenter.services.net.http.notices import HttpLimitReached
from isocenter.services.net.http.request_limits import RequestLimiter, RequestLimits
from isocenter.services.net.http.routing import Route
from isocenter.services.net.http.server import HttpServer
from isocenter.services.net.listeners import ListenAddress, Listening, open_listener
from isocenter.services.notices import Notices
from isocenter.services.security.access.access_control import PolicyAccessControl
from isocenter.services.security.access.api_tokens import ApiTokenVerifier
from isocenter.services.security.access.ports import ApiTokens, Sessions
from isocenter.services.security.access.recipients import Recipients
from isocenter.services.security.access.sessions import SessionKeeper, SessionRules
from isocenter.services.security.access.share_links import ShareLinkVerifier
from isocenter.services.settings.settings import Settings
from isocenter.services.web.access import WebAccess, failures_of
from isocenter.services.web.browser_sessions import BrowserSessions
from isocenter.services.web.description.service import described
from isocenter.services.web.dicomweb.commitment import WebCommitment, commitment_routes
from isocenter.services.web.dicomweb.performed_steps import (
    WebPerformedSteps,
    performed_step_routes,
)
from isocenter.services.web.dicomweb.search.qido_rs import SearchLimits
from isocenter.services.web.dicomweb.service import dicomweb_routes
from isocenter.services.web.dicomweb.ups.routes import subscription_routes, workitem_routes
from isocenter.services.web.dicomweb.ups.subscriptions import WebSubscriptions
from isocenter.services.web.dicomweb.ups.workitems import WebWorkitems
from isocenter.services.web.dicomweb.urls import PublicUrls
from isocenter.services.web.dicomweb.worklist import WebWorklist, worklist_routes
from isocenter.services.web.downloads import Downloads, DownloadSlots
from isocenter.services.web.imaging_documents.source import imaging_document_routes
from isocenter.services.web.openid_sign_in import OpenIdSignIn
from isocenter.services.web.principal import caller_key, caller_of
from isocenter.services.web.records import RequestRecords
from isocenter.services.web.rest.event_stream import EventStreams
from isocenter.services.web.rest.service import rest_routes
from isocenter.services.web.shared_studies import SharedStudies
from isocenter.services.web.sign_in import SignIn
from isocenter.services.web.study_links import StudyLinks
from isocenter.services.web.ui.service import Pages
from isocenter.storage.stores import Stores

log = logging.getLogger("isocenter.server")


def listen_for_web(settings: Settings, tls: TlsContexts | None) -> Listening:
    """The sockets.  In the clear there are none, and a line of the log, when the port is taken: an
    archive without web services is better than none.

    Raises:
        OSError: the port for TLS, which somebody has asked for, cannot be had.
    """
    web = settings.web
    found: list[tuple[socket.socket, ListenAddress]] = []
    if not web.enabled:
        return found
    bind = ListenAddress(host=web.host, port=web.port)
    try:
        found += [(sock, bind) for sock in open_listener(bind)]
    except OSError as error:
        log.warning("no DICOMweb: %s; set web.port, or web.enabled = false", text_of(error))
    if web.https_host and tls is not None:
        bind = ListenAddress(host=web.https_host, port=web.https_port, tls=partial(_context, tls))
        try:
            found += [(sock, bind) for sock in open_listener(bind)]
        except OSError:
            for sock, _ in found:
                sock.close()
            raise
    return found


def _context(tls: TlsContexts) -> ssl.SSLContext:
    """That of the moment."""
    assert tls.web is not None
    return tls.web


def downloads_of(settings: Settings, parts: ArchiveParts, notices: Notices) -> Downloads:
    """What gives studies and series as ZIP files."""
    web = settings.web
    record = export_recorder(settings, parts.archive.index, "isocenter serve")
    return Downloads(
        Exporter(parts.archive, record=record),
        notices,
        DownloadSlots(web.max_downloads, web.max_downloads_per_caller),
        most_bytes=web.max_download,
    )


def web_routes(
    settings: Settings,
    parts: ArchiveParts,
    notices: Notices,
    workflow: Workflow,
    *,
    downloads: Downloads | None = None,
    transcoder: Transcoder | None = None,
    pool: CodecPool | None = None,
) -> Sequence[Route[Handler]]:
    """All that the settings offer over the web.

    Args:
        workflow: that of the services over DIMSE.
        recipients: who is given de-identified objects only.
        downloads: None: made of the settings.
    """
    web = settings.web
    urls = PublicUrls(public_root=web.public_root)
    downloads = downloads or downloads_of(settings, parts, notices)
    return [
        *_studies(settings, parts, notices, urls, transcoder, pool, downloads),
        *_workflow(settings, parts.stores, notices, workflow, urls),
    ]


def _workflow(
    settings: Settings, stores: Stores, notices: Notices, workflow: Workflow, urls: PublicUrls
) -> Iterator[Route[Handler]]:
    limits = settings.engine_limits()
    if workflow.commitment is not None:
        yield from commitment_routes(
            WebCommitment(workflow.commitment, urls, limits, caller_of=caller_of)
        )
    if settings.worklist.enabled:
        web, most = settings.web, settings.worklist.max_results
        yield from worklist_routes(
            WebWorklist(
                stores.worklist,
                urls,
                states=settings.worklist.offer,
                limits=SearchLimits(
                    default=min(web.default_results, most or web.default_results),
                    most=min(web.max_results, most or web.max_results),
                    empty_status=web.empty_search.status(204),
                ),
                engine_limits=limits,
            )
        )
    if workflow.workitems is not None:
        web, most = settings.web, settings.ups.max_results
        yield from workitem_routes(
            WebWorkitems(
                workflow.workitems,
                urls,
                limits,
                search_limits=SearchLimits(
                    default=min(web.default_results, most or web.default_results),
                    most=min(web.max_results, most or web.max_results),
                    empty_status=web.empty_search.status(200),
                ),
                caller_of=caller_of,
            )
        )
        yield from subscription_routes(
            WebSubscriptions(workflow.workitems, urls, limits, ae_title=settings.server.ae_title)
        )
    if workflow.steps is not None:
        yield from performed_step_routes(
            WebPerformedSteps(
                workflow.steps,
                urls,
                notices,
                limits,
                ae_title=settings.server.ae_title,
                caller_of=caller_of,
            )
        )


def _studies(
    settings: Settings,
    parts: ArchiveParts,
    notices: Notices,
    urls: PublicUrls,
    transcoder: Transcoder | None,
    pool: CodecPool | None,
    downloads: Downloads,
) -> Sequence[Route[Handler]]:
    web = settings.web
    return dicomweb_routes(
        parts.archive,
        notices,
        urls=urls,
        transcoder=transcoder,
        pool=pool,
        search_limits=SearchLimits(
            default=web.default_results,
            most=web.max_results,
            objects=web.max_objects_searched,
            empty_status=web.empty_search.status(200),
        ),
        book=parts.stores.metadata,
        trash=trash_of(settings, parts, "isocenter serve"),
        deletes=web.deletes,
        downloads=downloads,
        anonymize=web.anonymize,
        links=parts.stores.links if settings.query.follow_links else None,
        caller_of=caller_of,
    )


def web_server(
    settings: Settings,
    parts: ArchiveParts,
    notices: Notices,
    workflow: Workflow,
    access: PolicyAccessControl,
    tokens: ApiTokens,
    sessions: Sessions,
    recipients: Recipients,
    running: Running,
    *,
    version: str,
    statement: Callable[[Sequence[Route[Handler]]], str],
    transcoder: Transcoder | None,
    pool: CodecPool | None,
) -> HttpServer:
    """The server of all web services; it takes its listeners when it runs.

    Args:
        workflow: that of the services over DIMSE.
        running: the server over DIMSE.
        version: of this program, for descriptions.
        statement: the conformance statement of a server with some routes, as a page.
    """
    web = settings.web
    downloads = downloads_of(settings, parts, notices)
    routes = web_routes(
        settings,
        parts,
        notices,
        workflow,
        downloads=downloads,
        transcoder=transcoder,
        pool=pool,
    )
    urls = PublicUrls(public_root=web.public_root)
    origins = AllowedOrigins(frozenset(web.cors_origins))
    proxies = TrustedProxies(networks=web.trusted_proxies, header=web.forwarded_header.lower())
    own_origin = web.public_root.rstrip("/")
    keeper = SessionKeeper(sessions, SessionRules(idle=web.session_idle, most=web.session_length))
    browsers = BrowserSessions(keeper, own_origin=own_origin, proxies=proxies)
    sign_in = SignIn(access, browsers, notices)
    failures = failures_of(access)
    link_verifier = ShareLinkVerifier(parts.stores.share_links)
    shared = SharedStudies(link_verifier, access, browsers, notices, failures)
    provider = openid_provider_of(settings)
    openid = None
    if provider is not None:
        openid = OpenIdSignIn(provider, access, browsers, notices, failures, urls)
    authorize = WebAccess(
        access,
        notices,
        ApiTokenVerifier(tokens),
        origins=origins,
        own_origin=own_origin,
        sessions=browsers,
        shared=shared,
        failures=failures,
        recipients=recipients,
    )
    streams = EventStreams(
        parts.stores.event_log if settings.events.enabled else None,
        is_allowed_still=authorize.is_allowed_still,
        most=web.max_event_streams,
    )
    shown = web_parts(
        settings,
        parts,
        notices,
        running,
        sign_in=sign_in,
        sessions=keeper,
        downloads=downloads,
        streams=streams,
        links=StudyLinks(link_verifier, notices),
        shared=shared,
        workflow=workflow,
        openid=openid,
        version=version,
        pool=pool,
    )
    pages = Pages(shown) if web.pages else None
    table, options = described(
        routes,
        version=version,
        statement=statement,
        urls=urls,
        rest=rest_routes(shown),
        others=[
            *fhir_of(settings, parts, version=version),
            *imaging_document_routes(parts.archive, settings.sharing.location_uid, transcoder),
            *(pages.routes() if pages else ()),
        ],
    )

    def on_limit(limit: str) -> None:
        notices.publish(HttpLimitReached(limit))

    limiter = RequestLimiter(
        RequestLimits(at_once=web.max_requests_per_caller, per_second=web.max_request_rate),
        on_limit,
    )
    application = RoutedApplication(
        table,
        authorize=authorize,
        options=options,
        origins=origins,
        proxies=proxies,
        on_answered=RequestRecords(notices),
        is_allowed_still=authorize.is_allowed_still,
        limiter=limiter,
        caller_key=caller_key,
        error_page=partial(error_page, pages),
    )
    limits = HttpLimits(
        connections=web.max_connections,
        connections_per_address=web.max_connections_per_address,
        head_seconds=web.head_timeout,
        idle_seconds=web.idle_timeout,
        body_seconds=web.body_timeout,
        send_seconds=web.send_timeout,
        grace_seconds=settings.deadlines.shutdown,
    )
    return HttpServer(application, limits, proxies=proxies, notices=notices, on_stop=streams.end)
