"""Parts of pages and API of a server, joined from settings and archive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.locks.administration import LockAdministration
from isocenter.services.archive.retention.holding import Holding
from isocenter.services.archive.usage.figures import UsageFigures
from isocenter.services.composition.access import access_folder
from isocenter.services.composition.ai_desk import ai_desk
from isocenter.services.composition.archive import (
    ArchiveParts,
    corrections_of,
    rejections_of,
    trash_of,
)
from isocenter.services.composition.audit import (
    audit_folder,
    hold_recorder,
    is_trail_enabled,
    lock_recorder,
)
from isocenter.services.composition.examination import Checks
from isocenter.services.composition.retention import retention_of
from isocenter.services.composition.sharing import publishing_desk_of, shared_studies_of
from isocenter.services.composition.signatures import marked_check
from isocenter.services.composition.tasks import sync_desk, task_desk
from isocenter.services.composition.tiers import tier_administration
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
from isocenter.services.web.cluster_nodes import ClusterNodes
from isocenter.services.web.configuration import Configuration
from isocenter.services.web.dicomweb.urls import ROOT, PublicUrls
from isocenter.services.web.downloads import Downloads
from isocenter.services.web.fhir.answers import ROOT as FHIR_ROOT
from isocenter.services.web.fhir.answers import outcome_response
from isocenter.services.web.openid_sign_in import OpenIdSignIn
from isocenter.services.web.parts import Figure, Receiver, ServerState, ViewingParts, WebParts
from isocenter.services.web.print_desk import PrintDesk
from isocenter.services.web.processes import ServerProcesses
from isocenter.services.web.publications import Publications
from isocenter.services.web.rest.endpoints import ROOT as REST_ROOT
from isocenter.services.web.rest.event_stream import EventStreams
from isocenter.services.web.rest.problems import problem
from isocenter.services.web.rule_book import RuleBook
from isocenter.services.web.shared_studies import SharedStudies
from isocenter.services.web.sign_in import SignIn
from isocenter.services.web.studies_elsewhere import StudiesElsewhere
from isocenter.services.web.study_links import StudyLinks
from isocenter.services.web.ui.service import Pages
from isocenter.services.web.viewer.package import VIEWER_FOLDER, is_installed
from isocenter.services.web.worklist_entries import WorklistEntries
from isocenter.services.workflow.reconciliation.identities import PatientIdentities


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What pages and API ask the server that runs.

    Attributes:
        processes: all of them, with their associations and logs.
        dicom: the sockets that take DICOM.
        state: how it is.
        expiries: of the certificates that it uses.
        configuration: the settings, shown and changed.
        settings: those that are in use at the moment.
        rules: those that are looked at.
        usage: of the room.
        metrics: all figures of all processes.
        reload: has it read certificates, policy and settings again.
    """

    processes: ServerProcesses
    dicom: Listening
    state: Callable[[], Awaitable[ServerState]]
    expiries: Callable[[], Sequence[Expiry]]
    configuration: Configuration
    settings: Callable[[], Settings]
    rules: RuleBook
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
        processes=running.processes,
        configuration=running.configuration,
        checks=Checks(running.settings).look,
        database=parts.stores.timer,
        usage=running.usage,
        validation=parts.stores.validation,
        signatures=marked_check(settings, parts, notices),
        signature_marks=parts.stores.signatures,
        metrics=running.metrics,
        rules=running.rules,
        trash=trash_of(settings, parts, "isocenter serve"),
        rejections=rejections_of(settings, parts, "isocenter serve"),
        retention=retention_of(settings, parts),
        reconciliation=parts.stores.reconciliation,
        identities=PatientIdentities(parts.stores.reconciliation, notices, now=parts.stores.clock),
        holding=Holding(
            parts.stores.holds, hold_recorder(settings, parts.archive.index, "isocenter serve")
        ),
        corrections=corrections_of(settings, parts, "isocenter serve"),
        nodes_of_archive=ClusterNodes(parts.stores.members, notices, is_shared=settings.is_shared),
        locks=LockAdministration(
            parts.stores.locks, lock_recorder(settings, parts.archive.index, "isocenter serve")
        ),
        tiers=None
        if parts.trash_files is None
        else tier_administration(settings, parts.stores, "isocenter serve"),
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
        workitems=parts.stores.workitems if settings.ups.enabled else None,
        prints=None
        if workflow.printing is None
        else PrintDesk(workflow.printing.manager, workflow.printing.films),
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
        ai=ai_desk(settings, parts, workflow, notices),
        publications=_publications(settings, parts, workflow, notices),
        elsewhere=_elsewhere(settings, parts, workflow, notices),
        sync=sync_desk(settings, parts, workflow, notices),
        tasks=task_desk(settings, parts.stores, notices) if settings.schedules.enabled else None,
        notices=notices,
    )


def _certificates(
    settings: Settings, notices: Notices, running: Running
) -> CertificateChanges | None:
    if settings.storage.is_in_memory or not settings.tls.uses_private_ca:
        return None
    folder = Path(settings.storage.data_dir).absolute() / CA_FOLDER
    return CertificateChanges(folder, notices, running.reload)


def _publications(
    settings: Settings, parts: ArchiveParts, workflow: Workflow, notices: Notices
) -> Publications | None:
    if workflow.jobs is None:
        return None
    desk = publishing_desk_of(settings, parts.archive.index, parts.stores, workflow.jobs)
    return None if desk is None else Publications(desk, notices)


def _elsewhere(
    settings: Settings, parts: ArchiveParts, workflow: Workflow, notices: Notices
) -> StudiesElsewhere | None:
    if workflow.jobs is None or not settings.sharing.repositories:
        return None
    shared = shared_studies_of(settings, parts.stores, workflow.jobs)
    return StudiesElsewhere(shared, parts.archive.index, notices)


def _viewer(settings: Settings) -> Path | None:
    if settings.storage.is_in_memory:
        return None
    folder = Path(settings.storage.data_dir) / VIEWER_FOLDER
    return folder if is_installed(folder) else None


def error_page(pages: Pages | None, request: Request, error: HttpError) -> Response | None:
    """A page for people who look at pages, a problem for the API, an outcome for FHIR; other
    programs get JSON."""
    if (request.raw_path + b"/").startswith(f"{REST_ROOT}/".encode()):
        return problem(request, error)
    if (request.raw_path + b"/").startswith(f"{FHIR_ROOT}/".encode()):
        return outcome_response(request, error)
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
