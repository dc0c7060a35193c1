"""The routes of the pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

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
from isocenter.services.web.ui.arrivals_page import Arrivals, ArrivalsPage
from isocenter.services.web.ui.assets import Assets
from isocenter.services.web.ui.associations_page import AssociationsPage
from isocenter.services.web.ui.audit_page import AuditPage
from isocenter.services.web.ui.catalogue import Catalogue
from isocenter.services.web.ui.certificate_pages import CertificatePages
from isocenter.services.web.ui.compare_page import ComparePage
from isocenter.services.web.ui.correction_pages import CorrectionPages
from isocenter.services.web.ui.device_pages import DevicePages
from isocenter.services.web.ui.job_pages import JobPages
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.navigation import Group, Section
from isocenter.services.web.ui.node_pages import NodePages
from isocenter.services.web.ui.order_form import OrderForm
from isocenter.services.web.ui.page_routes import action, page
from isocenter.services.web.ui.patient_list import PatientList
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
from isocenter.services.web.ui.token_pages import TokenPages
from isocenter.services.web.ui.trash_pages import TrashPages
from isocenter.services.web.ui.user_pages import UserPages
from isocenter.services.web.ui.worklist_pages import WorklistPages
from isocenter.services.web.viewer.package import PATH
from isocenter.services.web.viewer.service import viewer_routes

_STUDY = "/studies/{study}"
_SERIES = f"{_STUDY}/series/{{series}}"
_INSTANCE = f"{_SERIES}/instances/{{instance}}"


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
            *self._of_associations(),
            *self._of_devices(),
            *self._of_access(),
            *self._of_worklist(),
            *self._of_queue(),
            *self._of_jobs(),
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
        return self.layout.error(request, error)

    def _shown(self) -> Iterator[Section]:
        """The parts of the pages, in the order of their groups."""
        parts = self._parts

        def of(group: Group, path: str, text: str, needs: str) -> Section:
            name = path.strip("/") or "studies"
            return Section(group=group, name=name, path=path, text=text, needs=needs)

        yield of(Group.STUDIES, "/", "Studies", "search")
        yield of(Group.STUDIES, "/patients", "Patients", "search")
        if parts.arrivals is not None:
            yield of(Group.STUDIES, "/arrivals", "Arrivals", "search")
        yield of(Group.STUDIES, "/upload", "Upload", "write")
        if parts.links is not None:
            yield of(Group.STUDIES, "/shares", "Shared links", "export")
        if parts.trash is not None:
            yield of(Group.STUDIES, "/trash", "Trash", "delete")
            yield of(Group.STUDIES, "/quarantine", "Quarantine", "delete")
        if parts.rejections is not None:
            yield of(Group.STUDIES, "/rejections", "Rejections", "delete")
        if parts.retention is not None:
            yield of(Group.STUDIES, "/retention", "Retention", "delete")
        if parts.corrections is not None:
            yield of(Group.STUDIES, "/corrections", "Corrections", "correct")
        if parts.reconciliation is not None:
            yield of(Group.STUDIES, "/reconciliation", "Reconciliation", "correct")
        if parts.worklist is not None:
            yield of(Group.WORKFLOW, "/worklist", "Worklist", "search")
        if parts.steps is not None:
            yield of(Group.WORKFLOW, "/steps", "Performed steps", "search")
        if parts.queue is not None:
            yield of(Group.WORKFLOW, "/queue", "Queue", "state")
        if parts.rules is not None:
            yield of(Group.WORKFLOW, "/rules", "Rules", "state")
        if parts.jobs is not None:
            yield of(Group.WORKFLOW, "/jobs", "Jobs", "state")
        if parts.associations is not None:
            yield of(Group.NETWORK, "/associations", "Associations", "state")
        if parts.changes is not None:
            yield of(Group.NETWORK, "/devices", "Devices", "state")
        if parts.nodes is not None:
            yield of(Group.NETWORK, "/nodes", "Nodes", "state")
        yield of(Group.NETWORK, "/certificates", "Certificates", "state")
        if parts.users is not None and parts.sessions is not None:
            yield of(Group.ACCESS, "/users", "Users", "users")
        if parts.users is not None and parts.tokens is not None:
            yield of(Group.ACCESS, "/tokens", "API tokens", "users")
        if parts.trail is not None:
            yield of(Group.ACCESS, "/audit", "Audit", "audit")
        yield of(Group.SYSTEM, "/status", "Status", "state")
        if parts.usage is not None:
            yield of(Group.SYSTEM, "/storage", "Storage", "state")
        if parts.checks is not None:
            yield of(Group.SYSTEM, "/checks", "Checks", "state")
        if parts.log is not None:
            yield of(Group.SYSTEM, "/log", "Log", "state")
        if parts.configuration is not None:
            yield of(Group.SYSTEM, "/settings", "Settings", "state")
        yield of(Group.SYSTEM, "/about", "About", "state")

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
            volview=parts.volview,
            marks=None if viewing is None else viewing.marks,
            documents=documents,
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
        yield page(_SERIES, "read", shown.series, "One series and its images.")
        yield from ComparePage(parts.archive, layout).routes()
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
        if parts.associations is None:
            return
        pages = AssociationsPage(
            parts.associations,
            self.layout,
            workers=parts.workers,
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
            yield from StoragePage(parts.usage, parts.state, layout).routes()
        if parts.checks is not None:
            yield from ChecksPage(parts.checks, layout).routes()
        if parts.log is not None:
            yield from LogPage(parts.log, layout, workers=parts.workers).routes()
        yield from AboutPage(parts.version, layout).routes()

    def _of_rules(self) -> Iterator[Route[Handler]]:
        if self._parts.rules is not None:
            yield from RulesPage(self._parts.rules, self.layout).routes()

    def _of_settings(self) -> Iterator[Route[Handler]]:
        if self._parts.configuration is not None:
            yield from SettingsPages(self._parts.configuration, self.layout).routes()

    def _of_worklist(self) -> Iterator[Route[Handler]]:
        if self._parts.steps is not None:
            yield from StepsPage(self._parts.steps, self.layout).routes()
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
        nodes, jobs = self._parts.nodes, self._parts.jobs
        if nodes is not None and jobs is not None:
            yield from NodePages(nodes, jobs, self.layout).routes()
            yield from JobPages(jobs, nodes, self.layout).routes()

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
        """The list of studies; for whoever may not see it, the first page that they may."""
        may = what_may(request.caller)
        for section in self._sections:
            if section.needs in may:
                if section.path == "/":
                    return await studies(request)
                return Response(status=303, headers=[("location", section.path)])
        raise HttpError(403, "NOT_ALLOWED", "the policy gives you none of these pages")

    async def _upload(self, request: Request) -> Response:
        return self.layout.page(request, "upload.html", section="upload", root=ROOT)


def _name_of(request: Request) -> str:
    return caller_name(caller_of(request))
