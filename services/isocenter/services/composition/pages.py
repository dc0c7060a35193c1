"""Parts of pages and API of a server, joined from settings and archive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.retention.holding import Holding
from isocenter.services.archive.usage.figures import UsageFigures
from isocenter.services.association.server import LiveAssociations
from isocenter.services.composition.access import access_folder
from isocenter.services.composition.archive import (
    ArchiveParts,
    corrections_of,
    rejections_of,
    trash_of,
)
from isocenter.services.composition.audit import audit_folder, hold_recorder, is_trail_enabled
from isocenter.services.composition.examination import Checks
from isocenter.services.composition.retention import retention_of
from isocenter.services.composition.rule_trial import RunningRules
from isocenter.services.composition.workflow import Workflow
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.listeners import Listening
from isocenter.services.notices import Notices
from isocenter.services.security.access.policy_changes import PolicyChanges
from isocenter.services.security.access.policy_file import PolicyFile
from isocenter.services.security.access.rejected_callers import RejectedFile
from isocenter.services.security.access.sessions import SessionKeeper
from isocenter.services.security.access.token_changes import TokenChanges
from isocenter.services.security.access.user_changes import UserChanges
from isocenter.services.security.certificates.changes import CertificateChanges
from isocenter.services.security.certificates.expiry import Expiry
from isocenter.services.security.certificates.issued import CA_FOLDER
from isocenter.services.settings.settings import Settings
from isocenter.services.system.recent_log import LogLine
from isocenter.services.web.configuration import Configuration
from isocenter.services.web.dicomweb.urls import ROOT, PublicUrls
from isocenter.services.web.downloads import Downloads
from isocenter.services.web.openid_sign_in import OpenIdSignIn
from isocenter.services.web.parts import Figure, Receiver, ServerState, ViewingParts, WebParts
from isocenter.services.web.rest.endpoints import ROOT as REST_ROOT
from isocenter.services.web.rest.event_stream import EventStreams
from isocenter.services.web.rest.problems import problem
from isocenter.services.web.shared_studies import SharedStudies
from isocenter.services.web.sign_in import SignIn
from isocenter.services.web.study_links import StudyLinks
from isocenter.services.web.ui.service import Pages
from isocenter.services.web.viewer.package import VIEWER_FOLDER, is_installed
from isocenter.services.web.worklist_entries import WorklistEntries


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What pages and API ask the server that runs.

    Attributes:
        associations: those that last.
        dicom: the sockets that take DICOM.
        state: how it is.
        expiries: of the certificates that it uses.
        configuration: the settings, shown and changed.
        settings: those that are in use at the moment.
        log: the latest lines of the log.
        usage: of the room.
        metrics: all figures of all processes.
        reload: has it read certificates, policy and settings again.
    """

    associations: LiveAssociations
    dicom: Listening
    state: Callable[[], Awaitable[ServerState]]
    expiries: Callable[[], Sequence[Expiry]]
    configuration: Configuration
    settings: Callable[[], Settings]
    log: Callable[[], Sequence[LogLine]]
    usage: UsageFigures
    metrics: Callable[[], Sequence[Figure]]
    reload: Callable[[], Awaitable[None]]


def web_parts(
    settings: Settings,
    parts: ArchiveParts,
    notices: Notices,
    running: Running,
    *,
    sign_in: SignIn,
    sessions: SessionKeeper,
    downloads: Downloads,
    streams: EventStreams,
    links: StudyLinks,
    shared: SharedStudies,
    workflow: Workflow,
    openid: OpenIdSignIn | None,
    version: str,
    pool: CodecPool | None,
) -> WebParts:
    """What pages and the API show and change.

    Args:
        sessions: of browsers.
        version: of this program.
        pool: decodes and renders.
    """
    folder = access_folder(settings)
    users = None if folder is None else UserChanges(PolicyFile(folder), sessions, notices)
    return WebParts(
        archive=parts.archive,
        title=settings.server.ae_title,
        version=version,
        receiver=_receiver(settings, running.dicom),
        state=running.state,
        sign_in=sign_in,
        associations=running.associations,
        configuration=running.configuration,
        checks=Checks(running.settings).look,
        log=running.log,
        database=parts.stores.timer,
        usage=running.usage,
        metrics=running.metrics,
        rules=RunningRules(parts.archive, running.settings),
        workers=settings.server.workers,
        trash=trash_of(settings, parts, "isocenter serve"),
        rejections=rejections_of(settings, parts, "isocenter serve"),
        retention=retention_of(settings, parts),
        reconciliation=parts.stores.reconciliation,
        holding=Holding(
            parts.stores.holds, hold_recorder(settings, parts.archive.index, "isocenter serve")
        ),
        corrections=corrections_of(settings, parts, "isocenter serve"),
        changes=None if folder is None else PolicyChanges(PolicyFile(folder), notices),
        rejected=None if folder is None else RejectedFile(folder),
        certificates=_certificates(settings, notices, running),
        expiries=running.expiries,
        users=users,
        tokens=None if users is None else TokenChanges(parts.stores.tokens, users.policy, notices),
        sessions=sessions,
        queue=parts.stores.forwards,
        worklist=(
            WorklistEntries(parts.stores.worklist, notices) if settings.worklist.enabled else None
        ),
        steps=parts.stores.steps if settings.mpps.enabled else None,
        arrivals=parts.stores.event_log if settings.events.enabled else None,
        viewer=_viewer(settings),
        trail=audit_folder(settings) if is_trail_enabled(settings) else None,
        downloads=downloads,
        streams=streams,
        links=links,
        shared=shared,
        openid=openid,
        urls=PublicUrls(public_root=settings.web.public_root),
        volview=settings.web.volview,
        viewing=ViewingParts(
            marks=parts.stores.marks,
            states=parts.stores.viewer_states,
            recent=parts.stores.recent_studies,
            pool=pool,
            book=parts.stores.metadata,
        ),
        nodes=workflow.nodes,
        jobs=workflow.jobs,
        notices=notices,
    )


def _certificates(
    settings: Settings, notices: Notices, running: Running
) -> CertificateChanges | None:
    if settings.storage.is_in_memory or not settings.tls.uses_private_ca:
        return None
    folder = Path(settings.storage.data_dir).absolute() / CA_FOLDER
    return CertificateChanges(folder, notices, running.reload)


def _viewer(settings: Settings) -> Path | None:
    if settings.storage.is_in_memory:
        return None
    folder = Path(settings.storage.data_dir) / VIEWER_FOLDER
    return folder if is_installed(folder) else None


def error_page(pages: Pages | None, request: Request, error: HttpError) -> Response | None:
    """A page for people who look at pages, a problem for the API; other programs get JSON."""
    if (request.raw_path + b"/").startswith(f"{REST_ROOT}/".encode()):
        return problem(request, error)
    is_for_people = "text/html" in (request.header("accept") or "")
    if pages is None or not is_for_people or request.raw_path.startswith(ROOT.encode() + b"/"):
        return None
    return pages.error(request, error)


def _receiver(settings: Settings, dicom: Listening) -> Receiver | None:
    """Where DICOM in the clear is sent to."""
    for sock, bind in dicom:
        if bind.tls is None:
            port = sock.getsockname()[1]
            return Receiver(ae_title=settings.server.ae_title, host=bind.host, port=port)
    return None
