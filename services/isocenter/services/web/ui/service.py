"""The routes of the pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.dicomweb.urls import ROOT
from isocenter.services.web.downloads import DOWNLOAD_PARAMETERS, DOWNLOADED, ZIP
from isocenter.services.web.mark_documents import MarkDocuments
from isocenter.services.web.openid_sign_in import BEGIN, CALLBACK
from isocenter.services.web.parts import WebParts
from isocenter.services.web.principal import PUBLIC, caller_name, caller_of, what_may
from isocenter.services.web.shared_studies import SharedStudies
from isocenter.services.web.sign_in import sign_in_path
from isocenter.services.web.study_links import StudyLinks
from isocenter.services.web.ui.ai_pages import AiPages
from isocenter.services.web.ui.arrivals_page import Arrivals, ArrivalsPage
from isocenter.services.web.ui.assets import Assets
from isocenter.services.web.ui.associations_page import AssociationsPage
from isocenter.services.web.ui.audit_page import AuditPage
from isocenter.services.web.ui.catalogue import Catalogue
from isocenter.services.web.ui.certificate_pages import CertificatePages
from isocenter.services.web.ui.cluster_page import ClusterPage
from isocenter.services.web.ui.compare_page import ComparePage
from isocenter.services.web.ui.conflict_page import ConflictPage
from isocenter.services.web.ui.correction_pages import CorrectionPages
from isocenter.services.web.ui.deidentification_page import DeidentificationPage
from isocenter.services.web.ui.device_pages import DevicePages
from isocenter.services.web.ui.elsewhere_page import ElsewherePages
from isocenter.services.web.ui.identity_page import IdentityPage
from isocenter.services.web.ui.job_pages import JobPages
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.lock_page import LockPage
from isocenter.services.web.ui.navigation import Group, Section
from isocenter.services.web.ui.node_pages import NodePages
from isocenter.services.web.ui.order_form import OrderForm
from isocenter.services.web.ui.page_routes import action, page
from isocenter.services.web.ui.patient_list import PatientList
from isocenter.services.web.ui.print_pages import PrintPages
from isocenter.services.web.ui.publication_page import PublicationPage
from isocenter.services.web.ui.quarantine_pages import QuarantinePages
from isocenter.services.web.ui.queue_pages import QueuePages
from isocenter.services.web.ui.reconciliation_page import ReconciliationPage
from isocenter.services.web.ui.rejection_pages import RejectionPages
from isocenter.services.web.ui.retention_pages import RetentionPages
from isocenter.services.web.ui.rules_page import RulesPage
from isocenter.services.web.ui.settings_pages import SettingsPages
from isocenter.services.web.ui.share_pages import PATH as SHARE
from isocenter.services.web.ui.share_pages import ExternalViewers, SharePages
from isocenter.services.web.ui.sign_in_page import SignInPage
from isocenter.services.web.ui.status_page import StatusPage
from isocenter.services.web.ui.steps_page import StepsPage
from isocenter.services.web.ui.study_list import StudyList
from isocenter.services.web.ui.study_pages import StudyPages
from isocenter.services.web.ui.system_pages import AboutPage, ChecksPage, LogPage, StoragePage
from isocenter.services.web.ui.task_pages import TaskPages
from isocenter.services.web.ui.token_pages import TokenPages
from isocenter.services.web.ui.trash_pages import TrashPages
from isocenter.services.web.ui.user_pages import UserPages
from isocenter.services.web.ui.validation_page import ValidationPage
from isocenter.services.web.ui.workitems_page import WorkitemsPage
from isocenter.services.web.ui.worklist_pages import WorklistPages
from isocenter.services.web.viewer.package import PATH
from isocenter.services.web.viewer.service import viewer_routes

_STUDY = "/studies/{study}"
_SERIES = f"{_STUDY}/series/{{series}}"
_INSTANCE = f"{_SERIES}/instances/{{instance}}"

#: Where somebody begins: whoever runs an archive sees no studies, and wants to know how it is.
_FIRST = ("/", "/status")

#: Pages that a server with the default settings has not → what brings them.
_SWITCHED_ON_BY: Final = {
    "/elsewhere": "name a repository under [[sharing.repositories]]",
    "/publications": "name a repository under [[sharing.repositories]]",
    "/prints": "set print.enabled = true",
}


class Pages:
    """All pages of an archive."""

    def __init__(self, parts: WebParts) -> None:
        self._parts = parts
        self._assets = Assets()
        self._sections = tuple(self._shown())
        self.layout = Layout(self._assets, self._sections, title=parts.title)

    def routes(self) -> Sequence[Route[Handler]]:
        """Where they are."""
        return [
            *self._assets.routes(),
            *(viewer_routes(self._parts.viewer) if self._parts.viewer else ()),
            *self._of_studies(),
            *self._of_trash(),
            *self._of_withheld(),
            *self._of_corrections(),
            *self._of_locks(),
            *self._of_cluster(),
            *self._of_associations(),
            *self._of_devices(),
            *self._of_access(),
            *self._of_worklist(),
            *self._of_queue(),
            *self._of_jobs(),
            *self._of_tasks(),
            *self._of_ai(),
            *self._of_audit(),
            *self._of_system(),
            *self._of_settings(),
            *self._of_rules(),
            *self._of_status(),
            *self._of_sign_in(),
        ]

    def error(self, request: Request, error: HttpError) -> Response:
        """A page that says what is wrong; who is not known gets the form to sign in."""
        is_secure = self._parts.sign_in.is_secure(request)
        if error.status == 401 and request.method == "GET" and is_secure:
            return Response(status=303, headers=[("location", sign_in_path(request))])
        path = request.raw_path.decode("ascii", "replace")
        if path in _SWITCHED_ON_BY and all(path != section.path for section in self._sections):
            message = f"this server has no such page; {_SWITCHED_ON_BY[path]} in its settings"
            error = HttpError(error.status, error.code, message)
        return self.layout.error(request, error)

    def _shown(self) -> Iterator[Section]:
        """The parts of the pages, in the order of their groups."""
        parts = self._parts
        can_sign_in = parts.users is not None and parts.sessions is not None
        rows: tuple[tuple[object, Group, str, str, str], ...] = (
            (True, Group.STUDIES, "/", "Studies", "search"),
            (True, Group.STUDIES, "/patients", "Patients", "search"),
            (parts.arrivals, Group.STUDIES, "/arrivals", "Arrivals", "search"),
            (True, Group.STUDIES, "/upload", "Upload", "write"),
            (parts.links, Group.STUDIES, "/shares", "Shared links", "export"),
            (parts.elsewhere, Group.STUDIES, "/elsewhere", "Studies elsewhere", "search"),
            (parts.publications, Group.STUDIES, "/publications", "Publications", "export"),
            (parts.trash, Group.STUDIES, "/trash", "Trash", "delete"),
            (parts.trash, Group.STUDIES, "/quarantine", "Quarantine", "delete"),
            (parts.rejections, Group.STUDIES, "/rejections", "Rejections", "delete"),
            (parts.retention, Group.STUDIES, "/retention", "Retention", "delete"),
            (parts.corrections, Group.STUDIES, "/corrections", "Corrections", "correct"),
            (parts.reconciliation, Group.STUDIES, "/reconciliation", "Reconciliation", "correct"),
            (parts.worklist, Group.WORKFLOW, "/worklist", "Worklist", "search"),
            (parts.steps, Group.WORKFLOW, "/steps", "Performed steps", "search"),
            (parts.workitems, Group.WORKFLOW, "/workitems", "Workitems", "search"),
            (parts.prints, Group.WORKFLOW, "/prints", "Print jobs", "read"),
            (parts.queue, Group.WORKFLOW, "/queue", "Queue", "state"),
            (parts.rules, Group.WORKFLOW, "/rules", "Rules", "state"),
            (parts.jobs, Group.WORKFLOW, "/jobs", "Jobs", "state"),
            (parts.ai, Group.WORKFLOW, "/ai", "AI services", "search"),
            (parts.tasks, Group.WORKFLOW, "/tasks", "Tasks", "state"),
            (parts.sync, Group.WORKFLOW, "/conflicts", "Conflicts", "search"),
            (parts.processes, Group.NETWORK, "/associations", "Associations", "state"),
            (parts.changes, Group.NETWORK, "/devices", "Devices", "state"),
            (parts.nodes, Group.NETWORK, "/nodes", "Nodes", "state"),
            (True, Group.NETWORK, "/certificates", "Certificates", "state"),
            (can_sign_in, Group.ACCESS, "/users", "Users", "users"),
            (
                parts.users is not None and parts.tokens is not None,
                Group.ACCESS,
                "/tokens",
                "API tokens",
                "users",
            ),
            (parts.trail, Group.ACCESS, "/audit", "Audit", "audit"),
            (True, Group.SYSTEM, "/status", "Status", "state"),
            (parts.usage, Group.SYSTEM, "/storage", "Storage", "state"),
            (parts.validation, Group.SYSTEM, "/validation", "Validation", "state"),
            (parts.checks, Group.SYSTEM, "/checks", "Checks", "state"),
            (parts.processes, Group.SYSTEM, "/log", "Log", "state"),
            (parts.configuration, Group.SYSTEM, "/settings", "Settings", "state"),
            (parts.locks, Group.SYSTEM, "/locks", "Locks", "delete"),
            (self._shows_cluster, Group.SYSTEM, "/cluster", "Cluster", "state"),
            (True, Group.SYSTEM, "/about", "About", "state"),
        )
        for part, group, path, text, needs in rows:
            if part is not None and part is not False:
                name = path.strip("/") or "studies"
                yield Section(group=group, name=name, path=path, text=text, needs=needs)

    def _of_studies(self) -> Iterator[Route[Handler]]:
        parts, layout = self._parts, self.layout
        catalogue = Catalogue(parts.archive.index)
        downloads = parts.downloads
        listed = StudyList(
            catalogue,
            layout,
            parts.receiver,
            can_download=downloads is not None,
            tells_arrivals=parts.streams is not None,
            recent=None if parts.viewing is None else parts.viewing.recent,
        )
        viewing = parts.viewing
        documents = None
        if viewing is not None:
            documents = MarkDocuments(parts.archive, viewing.marks, parts.notices)
        shown = StudyPages(
            parts.archive,
            catalogue,
            layout,
            can_delete=parts.trash is not None,
            can_correct=parts.corrections is not None,
            can_download=downloads is not None,
            viewer="" if parts.viewer is None else PATH,
            can_share=parts.links is not None,
            can_publish=parts.publications is not None,
            volview=parts.volview,
            marks=None if viewing is None else viewing.marks,
            documents=documents,
            validation=parts.validation,
            signatures=parts.signatures,
            signature_marks=parts.signature_marks,
            ai=parts.ai,
        )
        yield page("/", None, partial(self._first, listed.page), "The list of studies.")
        yield Route(
            method="GET",
            path="/studies.csv",
            handler=listed.table,
            text="The list of studies as comma-separated values.",
            needs="search",
            produces=("text/csv",),
        )
        yield from PatientList(
            catalogue, layout, can_correct=parts.corrections is not None
        ).routes()
        if parts.arrivals is not None:
            yield from ArrivalsPage(Arrivals(parts.arrivals, catalogue), layout).routes()
        yield page(_STUDY, "search", shown.study, "One study and its series.")
        if documents is not None:
            text = "Store the key images of a study as key object selections."
            yield action(f"{_STUDY}/key-images", "write", shown.make_selection, text)
        if parts.publications is not None:
            yield from PublicationPage(parts.publications, catalogue, layout).routes()
        if parts.elsewhere is not None:
            yield from ElsewherePages(parts.elsewhere, layout).routes()
        yield page(_SERIES, "read", shown.series, "One series and its images.")
        yield from ComparePage(parts.archive, layout).routes()
        yield from DeidentificationPage(parts.archive, layout).routes(_INSTANCE)
        yield page(_INSTANCE, "read", shown.instance, "The attributes of an instance.")
        if downloads is not None:
            yield Route(
                method="GET",
                path="/download",
                handler=downloads,
                text="Studies, or series of one, as a ZIP file.",
                needs="export",
                parameters=DOWNLOAD_PARAMETERS,
                produces=(ZIP,),
                answers=DOWNLOADED,
            )
        if parts.links is not None and parts.shared is not None:
            yield from self._of_links(parts.links, parts.shared, catalogue)
        yield page("/upload", "write", self._upload, "Upload of files and folders.")

    def _of_links(
        self, links: StudyLinks, shared: SharedStudies, catalogue: Catalogue
    ) -> Iterator[Route[Handler]]:
        parts = self._parts
        viewer = "" if parts.viewer is None else PATH
        pages = SharePages(links, shared, catalogue, self.layout, parts.urls, viewer=viewer)
        path = f"{_STUDY}/share"
        yield page(path, "export", pages.ask, "The form that makes a link to a study.")
        yield action(path, "export", pages.share, "Make a link to a study.")
        yield page("/shares", "export", pages.list, "Links to studies.")
        yield action("/shares/revoke", "export", pages.revoke, "End a link to a study.")
        link = f"{SHARE}/{{token}}"
        yield page(link, PUBLIC, pages.show, "What a link to a study is for.")
        yield action(link, PUBLIC, pages.open, "Open the study of a link.")
        others = ExternalViewers(links, parts.urls, volview=parts.volview)
        yield page(f"{_STUDY}/weasis", "read", others.weasis, "Open a study in Weasis.")
        if parts.volview:
            yield page(f"{_STUDY}/volview", "read", others.volview, "Open a study in VolView.")

    def _of_trash(self) -> Iterator[Route[Handler]]:
        trash = self._parts.trash
        if trash is None:
            return
        pages = TrashPages(
            trash,
            Catalogue(self._parts.archive.index),
            self.layout,
            name_of=lambda request: caller_name(caller_of(request)),
        )
        path = f"{_STUDY}/delete"
        yield page(path, "delete", pages.ask, "What deleting a study would take.")
        yield action(path, "delete", pages.delete, "Delete a study.")
        yield page("/delete", "delete", pages.ask_chosen, "What deleting studies would take.")
        yield action("/delete", "delete", pages.delete_chosen, "Delete studies.")
        yield page("/trash", "delete", pages.list, "What was deleted.")
        yield action("/trash/{deletion}/restore", "delete", pages.restore, "Put it back.")

    def _of_withheld(self) -> Iterator[Route[Handler]]:
        """What is kept although it is not found, or not for ever."""
        parts, layout = self._parts, self.layout
        catalogue = Catalogue(parts.archive.index)
        if parts.trash is not None:
            yield from QuarantinePages(parts.trash, catalogue, layout, name_of=_name_of).routes()
        if parts.rejections is not None and parts.trash is not None:
            yield from RejectionPages(
                parts.rejections, parts.trash, catalogue, layout, name_of=_name_of
            ).routes()
        if parts.reconciliation is not None:
            yield from ReconciliationPage(parts.reconciliation, layout).routes()
        if parts.identities is not None:
            yield from IdentityPage(parts.identities, layout).routes()
        if parts.retention is not None and parts.holding is not None:
            yield from RetentionPages(
                parts.retention, parts.holding, catalogue, layout, name_of=_name_of
            ).routes()

    def _of_corrections(self) -> Iterator[Route[Handler]]:
        if self._parts.corrections is None:
            return
        yield from CorrectionPages(
            self._parts.corrections,
            Catalogue(self._parts.archive.index),
            self.layout,
            name_of=lambda request: caller_name(caller_of(request)),
        ).routes()

    def _of_tasks(self) -> Iterator[Route[Handler]]:
        if self._parts.tasks is not None:
            yield from TaskPages(self._parts.tasks, self.layout).routes()
        if self._parts.sync is not None:
            yield from ConflictPage(self._parts.sync, self.layout).routes()

    def _of_locks(self) -> Iterator[Route[Handler]]:
        if self._parts.locks is not None:
            yield from LockPage(self._parts.locks, self.layout).routes()

    @property
    def _shows_cluster(self) -> bool:
        nodes = self._parts.nodes_of_archive
        return nodes is not None and nodes.is_shared

    def _of_cluster(self) -> Iterator[Route[Handler]]:
        nodes = self._parts.nodes_of_archive
        if nodes is not None and self._shows_cluster:
            yield from ClusterPage(nodes, self.layout).routes()

    def _of_devices(self) -> Iterator[Route[Handler]]:
        changes, rejected = self._parts.changes, self._parts.rejected
        if changes is None or rejected is None:
            return
        pages = DevicePages(changes, rejected, self.layout, caller_of=caller_of)
        yield page("/devices", "state", pages.list, "Who may call, and who was turned away.")
        yield action("/devices", "configure", pages.admit, "Admit an application entity.")
        yield action("/devices/turn-away", "configure", pages.turn_away, "Turn one away.")

    def _of_associations(self) -> Iterator[Route[Handler]]:
        parts = self._parts
        if parts.processes is None:
            return
        pages = AssociationsPage(
            parts.processes,
            self.layout,
            changes=parts.changes,
            rejected=parts.rejected,
            caller_of=caller_of,
        )
        yield from pages.routes()

    def _of_access(self) -> Iterator[Route[Handler]]:
        parts = self._parts
        certificates = CertificatePages(parts.certificates, parts.expiries, self.layout)
        yield from certificates.routes()
        if parts.users is not None and parts.sessions is not None:
            users = UserPages(parts.users, parts.sessions, self.layout, title=parts.title)
            yield from users.routes()
        if parts.users is not None and parts.tokens is not None:
            yield from TokenPages(parts.tokens, parts.users, self.layout).routes()

    def _of_status(self) -> Iterator[Route[Handler]]:
        parts, arrivals = self._parts, None
        if parts.arrivals is not None:
            arrivals = Arrivals(parts.arrivals, Catalogue(parts.archive.index))
        shown = StatusPage(parts.state, self.layout, arrivals)
        yield page("/status", "state", shown, "The state.")

    def _of_system(self) -> Iterator[Route[Handler]]:
        parts, layout = self._parts, self.layout
        if parts.usage is not None:
            yield from StoragePage(parts.usage, parts.state, layout, parts.tiers).routes()
        if parts.validation is not None:
            yield from ValidationPage(parts.validation, layout).routes()
        if parts.checks is not None:
            yield from ChecksPage(parts.checks, layout).routes()
        if parts.processes is not None:
            yield from LogPage(parts.processes, layout).routes()
        yield from AboutPage(parts.version, layout).routes()

    def _of_rules(self) -> Iterator[Route[Handler]]:
        if self._parts.rules is not None:
            catalogue = Catalogue(self._parts.archive.index)
            yield from RulesPage(self._parts.rules, catalogue, self.layout).routes()

    def _of_settings(self) -> Iterator[Route[Handler]]:
        if self._parts.configuration is not None:
            yield from SettingsPages(self._parts.configuration, self.layout).routes()

    def _of_worklist(self) -> Iterator[Route[Handler]]:
        if self._parts.steps is not None:
            yield from StepsPage(self._parts.steps, self.layout).routes()
        if self._parts.workitems is not None:
            yield from WorkitemsPage(self._parts.workitems, self.layout).routes()
        if self._parts.prints is not None:
            yield from PrintPages(self._parts.prints, self.layout).routes()
        if self._parts.worklist is None:
            return
        pages = WorklistPages(self._parts.worklist, self.layout)
        yield page("/worklist", "search", pages.show, "Scheduled procedure steps.")
        yield action("/worklist", "write", pages.change, "Change the state of one.")
        yield from OrderForm(self._parts.worklist, self.layout).routes()

    def _of_queue(self) -> Iterator[Route[Handler]]:
        if self._parts.queue is None:
            return
        pages = QueuePages(self._parts.queue, self.layout)
        yield page("/queue", "state", pages.list, "What is to be sent on.")
        yield action("/queue/retry", "configure", pages.retry, "Send what failed now.")

    def _of_jobs(self) -> Iterator[Route[Handler]]:
        nodes, jobs, queue = self._parts.nodes, self._parts.jobs, self._parts.queue
        if nodes is not None and jobs is not None and queue is not None:
            yield from NodePages(nodes, jobs, self.layout).routes()
            yield from JobPages(jobs, nodes, queue, self.layout).routes()

    def _of_ai(self) -> Iterator[Route[Handler]]:
        if self._parts.ai is not None:
            catalogue = Catalogue(self._parts.archive.index)
            yield from AiPages(self._parts.ai, catalogue, self.layout).routes()

    def _of_audit(self) -> Iterator[Route[Handler]]:
        if self._parts.trail is None:
            return
        shown = AuditPage(self._parts.trail, self.layout, self._parts.notices, caller_of=caller_of)
        yield page("/audit", "audit", shown, "Who has done what.")

    def _of_sign_in(self) -> Iterator[Route[Handler]]:
        openid = self._parts.openid
        pages = SignInPage(self._parts.sign_in, self.layout, openid)
        if openid is not None:
            yield page(BEGIN, PUBLIC, openid.begin, "Sign in at the provider.")
            yield page(CALLBACK, PUBLIC, openid.finish, "Come back from there.")
        yield page("/sign-in", PUBLIC, pages.show, "The form to sign in.")
        yield action("/sign-in", PUBLIC, pages.begin, "Begin a session.")
        yield action("/sign-out", None, pages.end, "End the session.")

    async def _first(self, studies: Handler, request: Request) -> Response:
        """The list of studies; for whoever may not see it the state of the archive, or else the
        first page that they may."""
        may = what_may(request.caller)
        allowed = [section.path for section in self._sections if section.needs in may]
        first = next((path for path in _FIRST if path in allowed), next(iter(allowed), ""))
        if first == "/":
            return await studies(request)
        if first:
            return Response(status=303, headers=[("location", first)])
        raise HttpError(403, "NOT_ALLOWED", "the policy gives you none of these pages")

    async def _upload(self, request: Request) -> Response:
        return self.layout.page(request, "upload.html", section="upload", root=ROOT)


def _name_of(request: Request) -> str:
    return caller_name(caller_of(request))
