"""Parts of an archive that its pages and its API show and change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.corrections.service import Corrections
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.locks.administration import LockAdministration
from isocenter.services.archive.metadata.ports import MetadataBook
from isocenter.services.archive.query_times.ports import QueryTimer
from isocenter.services.archive.rejection.service import Rejections
from isocenter.services.archive.retention.holding import Holding
from isocenter.services.archive.retention.rules import RetentionRule
from isocenter.services.archive.retention.service import RetentionLook
from isocenter.services.archive.signature_marks.ports import SignatureBook
from isocenter.services.archive.signature_marks.verifier import MarkedCheck
from isocenter.services.archive.tiers.administration import TierAdministration
from isocenter.services.archive.usage.figures import UsageFigures
from isocenter.services.archive.validation.ports import ValidationBook
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.integration.ai.desk import AiDesk
from isocenter.services.notices import Notices
from isocenter.services.security.access.policy_changes import PolicyChanges
from isocenter.services.security.access.rejected_callers import RejectedFile
from isocenter.services.security.access.sessions import SessionKeeper
from isocenter.services.security.access.token_changes import TokenChanges
from isocenter.services.security.access.user_changes import UserChanges
from isocenter.services.security.certificates.changes import CertificateChanges
from isocenter.services.security.certificates.expiry import Expiry
from isocenter.services.service_classes.mpps.ports import Steps
from isocenter.services.service_classes.ups.ports import Workitems
from isocenter.services.viewing.ports import Marks, RecentStudies, ViewerStates
from isocenter.services.web.cluster_nodes import ClusterNodes
from isocenter.services.web.configuration import Configuration
from isocenter.services.web.dicomweb.urls import PublicUrls
from isocenter.services.web.downloads import Downloads
from isocenter.services.web.openid_sign_in import OpenIdSignIn
from isocenter.services.web.print_desk import PrintDesk
from isocenter.services.web.processes import ServerProcesses
from isocenter.services.web.publications import Publications
from isocenter.services.web.rest.event_stream import EventStreams
from isocenter.services.web.rule_book import RuleBook
from isocenter.services.web.shared_studies import SharedStudies
from isocenter.services.web.sign_in import SignIn
from isocenter.services.web.studies_elsewhere import StudiesElsewhere
from isocenter.services.web.study_links import StudyLinks
from isocenter.services.web.worklist_entries import WorklistEntries
from isocenter.services.workflow.events.ports import EventLog
from isocenter.services.workflow.forwarding.ports import ForwardQueue
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.nodes.changes import NodeChanges
from isocenter.services.workflow.reconciliation.identities import PatientIdentities
from isocenter.services.workflow.reconciliation.ports import ReconciliationBook
from isocenter.services.workflow.synchronization.desk import SyncDesk
from isocenter.services.workflow.tasks.desk import TaskDesk


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Where objects are sent to, for whoever meets an archive that is empty."""

    ae_title: str
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """How a server is.

    Attributes:
        level: ``healthy``, ``degraded`` or ``unhealthy``.
        messages: why it is not healthy, in words.
        details: figures, as the page ``/health`` of the monitoring has them.
    """

    level: str
    messages: Sequence[str]
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewingParts:
    """What viewers need.

    Attributes:
        marks, states, recent: what people note and look at.
        pool: decodes and renders; None: no pictures are made.
        book: what was made of objects beforehand; None: each is read.
    """

    marks: Marks
    states: ViewerStates
    recent: RecentStudies
    pool: CodecPool | None = None
    book: MetadataBook | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Something that was looked at, as ``isocenter doctor`` does.

    Attributes:
        severity: ``error``, ``warning``, ``note``; empty: all is well.
        findings: what is not as it should be: text, what follows from it, and the cure.
    """

    what: str
    seen: str
    severity: str
    findings: Sequence[tuple[str, str, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A metric, as the page ``/metrics`` of the monitoring has it.

    Attributes:
        kind: ``counter``, ``gauge``, ``histogram`` …
        samples: name, labels and value of each.
    """

    name: str
    kind: str
    text: str
    samples: Sequence[tuple[str, Mapping[str, str], float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionParts:
    """Rules of retention as they are now.

    Attributes:
        look: what a rule would delete now, of so many studies at most.
    """

    rules: Callable[[], Sequence[RetentionRule]]
    look: Callable[[RetentionRule, int], Awaitable[RetentionLook]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebParts:
    """What pages and the API show and change.

    Attributes:
        title: over each page.
        version: of this program.
        receiver: where DICOM is sent to, for an empty archive; None: nobody can in the clear.
        state: how the server is.
        sign_in: begins and ends sessions.
        processes: of the server, with their associations and logs; None: nobody can associate.
        configuration: the settings; None: they are not shown.
        rules: what is done with what comes; None: they are not shown.
        checks: looks at the installation, as ``isocenter doctor`` does; None: nobody can.
        metrics: all figures of all processes; None: nothing is counted.
        database: how the database does; None: nobody measures it.
        usage: of the room, counted now and then; None: it is not.
        validation: marks of what was validated; None: they are not shown.
        trash: None: nothing can be deleted.
        rejections, retention, holding: notes that reject, rules that delete by age, and studies
            that are held; None where there is no trash.
        identities: patients who may be one person; None: they are not shown.
        reconciliation: what other systems said of patients; None: it is not shown.
        corrections: None: nothing can be corrected.
        locks: of studies; None: they are not shown.
        nodes_of_archive: None: they are not shown.
        tiers: of objects; None: there are none.
        changes, rejected: the policy, and who was turned away; None: there is no policy.
        certificates: of the private CA; None: there is none.
        expiries: of the certificates that the server uses.
        users, tokens, sessions: who may sign in, and has; None: there is no policy.
        queue: what rules send on; None: they send nothing.
        worklist: None: there is none.
        steps: that devices have performed; None: they report none here.
        arrivals: the log of events, which knows what came last; None: there are no events.
        viewer: the folder of a viewer that is installed; None: there is none.
        trail: the folder of the audit trail; None: there is none.
        downloads: give ZIP files; None: there are none.
        streams: of events; None: there are none.
        nodes, jobs: remote nodes, and work with them; None: there is none.
        publications, elsewhere: what repositories have of ours, and of others; None: there is
            no repository.
        tasks: that run by a schedule; None: they are not shown.
        ai: AI services, and what comes of them; None: no database keeps it.
        sync: conflicts of synchronisations; None: there are no nodes.
        links, shared: links to studies, as they are made and as they are shown; None: there are
            none.
        openid: sign-in at a provider; None: there is none.
        urls: as others reach this server.
        volview: the address of a VolView; empty: there is none.
        viewing: None: viewers get DICOMweb only.
        notices: told that somebody reads it.
    """

    archive: Archive
    title: str
    version: str = ""
    receiver: Receiver | None
    state: Callable[[], Awaitable[ServerState]]
    sign_in: SignIn
    processes: ServerProcesses | None = None
    configuration: Configuration | None = None
    rules: RuleBook | None = None
    checks: Callable[[], Awaitable[Sequence[Check]]] | None = None
    metrics: Callable[[], Sequence[Figure]] | None = None
    database: QueryTimer | None = None
    usage: UsageFigures | None = None
    validation: ValidationBook | None = None
    trash: Trash | None = None
    rejections: Rejections | None = None
    retention: RetentionParts | None = None
    holding: Holding | None = None
    reconciliation: ReconciliationBook | None = None
    identities: PatientIdentities | None = None
    corrections: Corrections | None = None
    locks: LockAdministration | None = None
    nodes_of_archive: ClusterNodes | None = None
    tiers: TierAdministration | None = None
    changes: PolicyChanges | None = None
    rejected: RejectedFile | None = None
    certificates: CertificateChanges | None = None
    expiries: Callable[[], Sequence[Expiry]] = tuple
    users: UserChanges | None = None
    tokens: TokenChanges | None = None
    sessions: SessionKeeper | None = None
    queue: ForwardQueue | None = None
    worklist: WorklistEntries | None = None
    steps: Steps | None = None
    workitems: Workitems | None = None
    prints: PrintDesk | None = None
    signatures: MarkedCheck | None = None
    signature_marks: SignatureBook | None = None
    arrivals: EventLog | None = None
    viewer: Path | None = None
    trail: Path | None = None
    downloads: Downloads | None = None
    streams: EventStreams | None = None
    links: StudyLinks | None = None
    shared: SharedStudies | None = None
    openid: OpenIdSignIn | None = None
    urls: PublicUrls = PublicUrls()
    volview: str = ""
    viewing: ViewingParts | None = None
    nodes: NodeChanges | None = None
    jobs: JobDesk | None = None
    publications: Publications | None = None
    elsewhere: StudiesElsewhere | None = None
    tasks: TaskDesk | None = None
    sync: SyncDesk | None = None
    ai: AiDesk | None = None
    notices: Notices = field(default_factory=Notices)
