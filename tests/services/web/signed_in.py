"""An archive whose pages people sign in to, over TLS as far as it knows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import trio
import trio.testing

from isocenter.services.archive.export.service import Exporter
from isocenter.services.archive.export.values import ExportedStudy
from isocenter.services.archive.locks.administration import LockAdministration
from isocenter.services.archive.retention.holding import Holding
from isocenter.services.archive.signature_check import SignatureCheck, TrustFiles
from isocenter.services.archive.signature_marks.verifier import MarkedCheck
from isocenter.services.archive.usage.figures import UsageFigures
from isocenter.services.association.server import Server
from isocenter.services.composition.analyses import analysis_work, service_opener
from isocenter.services.composition.archive import (
    ArchiveParts,
    corrections_of,
    open_archive_parts,
    rejections_of,
    trash_of,
)
from isocenter.services.composition.audit import hold_recorder, lock_recorder
from isocenter.services.composition.examination import Checks
from isocenter.services.composition.fhir import fhir_of
from isocenter.services.composition.jobs import node_finder, node_opener
from isocenter.services.composition.monitoring import figures_of
from isocenter.services.composition.outgoing_associations import OutgoingAssociations
from isocenter.services.composition.pages import error_page
from isocenter.services.composition.processes import RunningProcesses
from isocenter.services.composition.reloading import Reloader
from isocenter.services.composition.retention import retention_of
from isocenter.services.composition.rule_book import running_rules
from isocenter.services.composition.run_time_settings import RunTimeSettings
from isocenter.services.composition.tasks import sync_desk, task_desk
from isocenter.services.composition.tiers import tier_administration
from isocenter.services.composition.workflow import Workflow
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.integration.ai.ai_service import AiService
from isocenter.services.integration.ai.desk import AiDesk
from isocenter.services.integration.sharing.manifest import AssigningAuthorities, Retrieval
from isocenter.services.integration.sharing.manifest_reader import ManifestReader
from isocenter.services.integration.sharing.ports import DocumentSource, SharedDocument
from isocenter.services.integration.sharing.publishing import PublishingDesk
from isocenter.services.integration.sharing.repository import Protocol, Repository
from isocenter.services.integration.sharing.studies_of_others import StudiesOfOthers
from isocenter.services.monitoring.metrics import Metrics
from isocenter.services.net.http.application import RoutedApplication
from isocenter.services.net.http.exchange import Receive, Scope, Send
from isocenter.services.net.http.routing import Route
from isocenter.services.net.peer_identity import PeerIdentity
from isocenter.services.notices import InstancesRead, Notices
from isocenter.services.security.access.access_control import PolicyAccessControl
from isocenter.services.security.access.api_tokens import ApiTokenVerifier, new_token
from isocenter.services.security.access.failed_sign_ins import FailureRules
from isocenter.services.security.access.openid_provider import OpenIdProvider
from isocenter.services.security.access.passwords import hash_passcode
from isocenter.services.security.access.permissions import Permissions
from isocenter.services.security.access.policy import User
from isocenter.services.security.access.policy_changes import PolicyChanges
from isocenter.services.security.access.policy_file import PolicyFile
from isocenter.services.security.access.recipients import Recipients
from isocenter.services.security.access.rejected_callers import RejectedFile
from isocenter.services.security.access.sessions import SessionKeeper, SessionRules
from isocenter.services.security.access.share_links import ShareLinkVerifier
from isocenter.services.security.access.token_changes import TokenChanges
from isocenter.services.security.access.user_changes import UserChanges
from isocenter.services.security.access.user_identity import IdentityRules
from isocenter.services.security.certificates.changes import CertificateChanges
from isocenter.services.service_classes.print.manager import PrintJobManager
from isocenter.services.service_classes.print.printer import Printer
from isocenter.services.service_classes.print.study_films import StudyFilms
from isocenter.services.settings.settings import Settings
from isocenter.services.settings.source import SettingsSource
from isocenter.services.system.recent_log import RecentLog
from isocenter.services.web.access import WebAccess, failures_of
from isocenter.services.web.browser_sessions import BrowserSessions
from isocenter.services.web.cluster_nodes import ClusterNodes
from isocenter.services.web.configuration import Configuration
from isocenter.services.web.description.service import described
from isocenter.services.web.dicomweb.service import dicomweb_routes
from isocenter.services.web.dicomweb.urls import PublicUrls
from isocenter.services.web.downloads import Downloads, DownloadSlots
from isocenter.services.web.imaging_documents.source import imaging_document_routes
from isocenter.services.web.openid_sign_in import OpenIdSignIn
from isocenter.services.web.parts import ServerState, ViewingParts, WebParts
from isocenter.services.web.principal import caller_of
from isocenter.services.web.print_desk import PrintDesk
from isocenter.services.web.publications import Publications
from isocenter.services.web.records import RequestRecords
from isocenter.services.web.rest.endpoints import ROOT as REST_ROOT
from isocenter.services.web.rest.event_stream import EventStreams
from isocenter.services.web.rest.service import rest_routes
from isocenter.services.web.rule_book import RuleBook
from isocenter.services.web.shared_studies import SharedStudies
from isocenter.services.web.sign_in import SignIn
from isocenter.services.web.studies_elsewhere import StudiesElsewhere
from isocenter.services.web.study_links import StudyLinks
from isocenter.services.web.ui.service import Pages
from isocenter.services.web.worklist_entries import WorklistEntries
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.nodes.changes import NodeChanges
from isocenter.services.workflow.nodes.destinations import NodeDestinations
from isocenter.services.workflow.reconciliation.identities import PatientIdentities
from services.security.access.policy_support import control, heard, users
from support.serving import serving
from support.web_archive import http_serving

NO_ROLES: Mapping[str, Permissions] = {}
START = 1_700_000_000.0
PASSCODE = "correct horse battery"
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
MOST_DOWNLOAD = 32 << 20
IDLE, MOST = 600.0, 3_000.0
#: Nobody listens there.
AI_SERVICE = AiService(name="lung", url="http://127.0.0.1:1", connect_seconds=5.0)
HTML = {"accept": "text/html"}

ALICE = User(name="alice", password_hash=hash_passcode(PASSCODE), roles=("Viewer",))
BOB = replace(ALICE, name="bob", totp_secret=SECRET)
GONE = replace(ALICE, name="gone", active=False)
DETAILS = {
    "associations": {"active": 0, "max": 9, "total": 0, "rejected": 0, "aborted": 0},
    "version": "1.2.3",
    "uptime_seconds": 1.0,
}


class Site:
    """An archive over TLS, as far as it knows, with a clock that tests set."""

    def __init__(
        self, root: str, access: PolicyAccessControl, folder: Path, parts: ArchiveParts
    ) -> None:
        self.root = root.replace("http:", "https:")
        self.client = httpx.AsyncClient(base_url=root, headers=HTML, timeout=60)
        self.access = access
        self.file = PolicyFile(folder)
        self.parts = parts
        self.routes: list[Route[Any]] = []
        self.rest: list[Route[Any]] = []
        self.now = START
        self.told: list[object] = []
        self.reloads = 0
        self.dicom: Server
        self.settings: Settings
        self.usage: UsageFigures
        self.recent: RecentLog
        self.configuration: Configuration | None = None
        self._tokens = 0
        self.exported: list[ExportedStudy] = []
        self.slots: DownloadSlots
        self.streams: EventStreams
        self.application_routes: list[Route[Any]] = []
        self.rules: RuleBook

    async def sign_in(self, name: str = "alice", **fields: str) -> httpx.Response:
        data = {"name": name, "passcode": PASSCODE, **fields}
        return await self.client.post("/sign-in", data=data, headers={"origin": self.root})

    async def cookie(self, name: str = "alice", **fields: str) -> dict[str, str]:
        """The header that a browser sends from then on."""
        answer = await self.sign_in(name, **fields)
        assert answer.status_code == 303, answer.text
        return {"cookie": f"other=1; {answer.headers['set-cookie'].partition(';')[0]}"}

    async def token(self, **more: Any) -> dict[str, str]:
        """The header that a program sends with a new API token."""
        self._tokens += 1
        text, token = new_token(
            f"t{self._tokens}", policy=self.file.read(), created_by="test", now=self.now,
            **{"expires_at": None, **more},
        )  # fmt: skip
        assert await self.parts.stores.tokens.add(token)
        return {"authorization": f"Bearer {text}"}

    async def status(self, path: str, headers: dict[str, str]) -> int:
        return (await self.client.get(path, headers=headers)).status_code

    async def reads(self, count: int = 1) -> list[InstancesRead]:
        """What was told of objects that were read, once it is *count*: the answer comes before."""
        with trio.fail_after(60):
            while (
                len(found := [one for one in self.told if isinstance(one, InstancesRead)]) < count
            ):
                await trio.testing.wait_all_tasks_blocked(0.01)
        return found


def identity_of(name: str) -> PeerIdentity:
    """Whose certificate was verified; tests name it in a header of their own."""
    return PeerIdentity(
        common_name=name,
        subject_alternative_names=(),
        fingerprint="ab" * 32,
        subject=f"CN={name}",
        issuer="CN=CA",
        serial_number=1,
    )


def reloader_of(source: SettingsSource, access: PolicyAccessControl, notices: Notices) -> Reloader:
    """Exchanges what can be exchanged without TLS."""
    return Reloader(
        source.settings, source.settings(), tls=None, access=access, peers={}, notices=notices
    )


def publications_of(parts: ArchiveParts, notices: Notices) -> Publications:
    """Of one repository that nobody speaks to."""
    regional = Repository(
        name="regional", protocol=Protocol.MHD, url="https://exchange.example", source_oid="1.2.3"
    )
    reader = ManifestReader(parts.archive.index, Retrieval(), AssigningAuthorities())
    jobs = JobDesk(parts.stores.jobs, lambda: None)
    desk = PublishingDesk(
        parts.stores.publications, reader, {"regional": regional}, jobs, now=lambda: 1_000_000.0
    )
    return Publications(desk, notices)


class OneDocument:
    """A repository that has one manifest, or fails as a test says."""

    content = b""
    fault: Exception | None = None

    async def find(self, patient_id: str, authority: str) -> list[SharedDocument]:
        if self.fault is not None:
            raise self.fault
        return [SharedDocument(uid="1.2.9", reference="r", title="Thorax")] * (patient_id == "P1")

    async def retrieve(self, document: SharedDocument) -> bytes:
        return self.content


ONE_DOCUMENT = OneDocument()


def elsewhere_of(parts: ArchiveParts, notices: Notices) -> StudiesElsewhere:
    """Of one repository, `ONE_DOCUMENT`."""
    regional = Repository(
        name="regional", protocol=Protocol.MHD, url="https://exchange.example", source_oid="1.2.3"
    )

    @asynccontextmanager
    async def open_source(of: Repository) -> AsyncIterator[DocumentSource]:
        yield ONE_DOCUMENT

    authorities = AssigningAuthorities(patient_ids="1.2.3")
    jobs = JobDesk(parts.stores.jobs, lambda: None)
    shared = StudiesOfOthers(
        {"regional": regional}, open_source, authorities, parts.stores.nodes, jobs
    )
    return StudiesElsewhere(shared, parts.archive.index, notices)


async def state() -> ServerState:
    return ServerState(level="healthy", messages=(), details=DETAILS)


@asynccontextmanager
async def opened(
    folder: Path,
    *,
    scheme: str = "https",
    most: int = 10,
    more: Sequence[User] = (),
    provider: OpenIdProvider | None = None,
    public_root: str = "",
    roles: Mapping[str, Permissions] = NO_ROLES,
    pool: CodecPool | None = None,
    tells_requests: bool = False,
    recipients: Recipients | None = None,
    **options: Any,
) -> AsyncIterator[Site]:
    access = control(
        folder,
        lambda policy: replace(policy, roles=roles),
        users(ALICE, BOB, GONE, *more),
        rules=IdentityRules(failures=FailureRules(most=most)),
    )
    notices, told = heard()
    source = SettingsSource(
        environ={},
        overrides={
            "storage.data_dir": str(folder / "data"),
            "storage.durability": "relaxed",
            "tiers.cold": f"file://{folder / 'cold'}",
            "retention": ['{ name = "old <ones>", study_days = 365 }'],
        },
    )
    settings = source.settings()
    async with open_archive_parts(settings) as parts, serving(notices=notices) as dicom:
        told.clear()
        sites: list[Site] = []

        def now() -> float:
            return sites[0].now

        rules = SessionRules(idle=IDLE, most=MOST)
        keeper = SessionKeeper(parts.stores.sessions, rules, now)
        sessions = BrowserSessions(keeper, **options)
        changes = UserChanges(PolicyFile(folder), keeper, notices)

        usage, recent = UsageFigures(parts.stores.usage, now), RecentLog()

        async def reloaded() -> None:
            sites[0].reloads += 1

        async def record(studies: Sequence[ExportedStudy]) -> None:
            sites[0].exported += studies

        verifier = ShareLinkVerifier(parts.stores.share_links, now)
        failures = failures_of(access)
        shared = SharedStudies(verifier, access, sessions, notices, failures)
        openid = None
        if provider is not None:
            openid = OpenIdSignIn(
                provider, access, sessions, notices, failures, PublicUrls(public_root=public_root)
            )
        authorize = WebAccess(
            access,
            notices,
            ApiTokenVerifier(parts.stores.tokens, now),
            sessions=sessions,
            shared=shared,
            failures=failures,
            recipients=recipients,
        )
        # Routes are asked by the dozen: a stream ends at once, unless a test lets it last.
        streams = EventStreams(
            parts.stores.event_log,
            is_allowed_still=authorize.is_allowed_still,
            most=3,
            most_seconds=0,
        )
        slots = DownloadSlots(3, 2)
        downloads = Downloads(
            Exporter(parts.archive, record=record), notices, slots, most_bytes=MOST_DOWNLOAD
        )
        shown = WebParts(
            archive=parts.archive,
            title="ARCHIVE",
            version="1.2.3",
            receiver=None,
            state=state,
            processes=RunningProcesses(dicom, recent, number=1, folder=None),
            configuration=RunTimeSettings(
                source, reloader_of(source, access, notices), notices, folder=folder / "data"
            ),
            checks=Checks(lambda: sites[0].settings).look,
            database=parts.stores.timer,
            usage=usage,
            validation=parts.stores.validation,
            metrics=partial(figures_of, Metrics(version="1.2.3", limits={})),
            rules=running_rules(
                parts.archive,
                parts.stores,
                NodeDestinations(parts.stores.nodes, parts.stores.limits),
                lambda: sites[0].settings,
                notices,
                has_changed=trio.lowlevel.checkpoint,
            ),
            sign_in=SignIn(access, sessions, notices, now),
            trash=trash_of(settings, parts, "test"),
            rejections=rejections_of(settings, parts, "test"),
            retention=retention_of(settings, parts),
            reconciliation=parts.stores.reconciliation,
            identities=PatientIdentities(parts.stores.reconciliation, notices, now=now),
            holding=Holding(
                parts.stores.holds, hold_recorder(settings, parts.archive.index, "test")
            ),
            corrections=corrections_of(settings, parts, "test"),
            nodes_of_archive=ClusterNodes(parts.stores.members, notices),
            tiers=tier_administration(settings, parts.stores, "test"),
            locks=LockAdministration(
                parts.stores.locks, lock_recorder(settings, parts.archive.index, "test")
            ),
            changes=PolicyChanges(PolicyFile(folder), notices),
            rejected=RejectedFile(folder),
            certificates=CertificateChanges(folder / "certs", notices, reloaded),
            users=changes,
            tokens=TokenChanges(parts.stores.tokens, changes.policy, notices, now),
            sessions=keeper,
            queue=parts.stores.forwards,
            worklist=WorklistEntries(parts.stores.worklist, notices),
            steps=parts.stores.steps,
            workitems=parts.stores.workitems,
            prints=PrintDesk(
                PrintJobManager(parts.stores.print_jobs, most=3, notices=notices),
                StudyFilms(parts.archive, pool or CodecPool(), Printer(), film_pixels=10_000_000),
            ),
            signatures=MarkedCheck(
                SignatureCheck(parts.archive, TrustFiles()), parts.stores.signatures, notices
            ),
            signature_marks=parts.stores.signatures,
            arrivals=parts.stores.event_log,
            trail=folder / "audit",
            downloads=downloads,
            streams=streams,
            links=StudyLinks(verifier, notices),
            shared=shared,
            openid=openid,
            volview="https://volview.example",
            viewing=ViewingParts(
                marks=parts.stores.marks,
                states=parts.stores.viewer_states,
                recent=parts.stores.recent_studies,
                pool=pool,
                book=parts.stores.metadata,
            ),
            nodes=NodeChanges(
                parts.stores.nodes,
                parts.stores.limits,
                node_finder(parts.stores.nodes, {}),
                node_opener(
                    settings,
                    OutgoingAssociations(settings, None),
                    parts.archive,
                    notices,
                    is_serving=False,
                ),
                notices,
                now=now,
            ),
            jobs=JobDesk(parts.stores.jobs, lambda: None),
            ai=AiDesk(
                parts.archive,
                [AI_SERVICE],
                parts.stores.analyses,
                parts.stores.assessments,
                JobDesk(parts.stores.jobs, lambda: None),
                analysis_work(settings, parts.archive, parts.stores, notices),
                service_opener(parts.archive, notices),
                notices,
            ),
            publications=publications_of(parts, notices),
            elsewhere=elsewhere_of(parts, notices),
            tasks=task_desk(settings, parts.stores, notices),
            sync=sync_desk(
                settings,
                parts,
                Workflow(
                    jobs=JobDesk(parts.stores.jobs, lambda: None),
                    find=node_finder(parts.stores.nodes, {}),
                    open_node=node_opener(
                        settings,
                        OutgoingAssociations(settings, None),
                        parts.archive,
                        notices,
                        is_serving=False,
                    ),
                ),
                notices,
            ),
            notices=notices,
        )
        pages = Pages(shown)
        routes, rest = pages.routes(), rest_routes(shown)
        table, options_route = described(
            dicomweb_routes(
                parts.archive, notices, downloads=downloads, pool=pool, caller_of=caller_of
            ),
            version="1.2.3",
            statement=lambda routes: "",
            rest=rest,
            others=[
                *fhir_of(settings, parts, version="1.2.3"),
                *imaging_document_routes(parts.archive, "1.2.3.8", None),
                *routes,
            ],
        )
        application = RoutedApplication(
            table,
            authorize=authorize,
            options=options_route,
            error_page=partial(error_page, pages),
            **({"on_answered": RequestRecords(notices)} if tells_requests else {}),
        )

        async def over_tls(scope: Scope, receive: Receive, send: Send) -> None:
            shown = dict(scope["headers"]).get(b"x-certificate")
            identity = None if shown is None else identity_of(shown.decode())
            over = {**scope, "scheme": scheme, "isocenter.identity": identity}
            await application(over, receive, send)

        async with http_serving(over_tls) as root:
            site = Site(root, access, folder, parts)
            site.told = told
            site.dicom = dicom
            site.settings = settings
            site.usage = usage
            site.recent = recent
            site.configuration = shown.configuration
            assert shown.rules is not None
            site.rules = shown.rules
            site.routes = list(routes)
            site.rest = [one for one in table.routes if one.path.startswith(REST_ROOT)]
            site.slots = slots
            site.streams = streams
            site.application_routes = list(table.routes)
            sites.append(site)
            async with site.client:
                yield site
