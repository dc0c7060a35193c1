"""Composition of the workflow services and of what runs beside them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from functools import partial

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.association.destination_slots import Places
from isocenter.services.association.peer import Peer
from isocenter.services.association.service_registry import Service
from isocenter.services.cluster.duties import Duties
from isocenter.services.composition.analyses import analysis_work
from isocenter.services.composition.forwarding import build_forwarding
from isocenter.services.composition.jobs import (
    job_runner,
    node_finder,
    node_opener,
    prefetcher_of,
    verify_nodes,
)
from isocenter.services.composition.lasting_tasks import outlast
from isocenter.services.composition.outgoing_associations import OutgoingAssociations
from isocenter.services.composition.printing import Printing, build_printing
from isocenter.services.concurrency import Backoff
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.integration.ai.analysis_upkeep import AnalysisUpkeep
from isocenter.services.integration.ai.analysis_work import AnalysisWork
from isocenter.services.notices import Notices
from isocenter.services.security.access.policy import Policy
from isocenter.services.service_classes.commitment.instance_check import InstanceChecker
from isocenter.services.service_classes.commitment.scp import StorageCommitmentScp
from isocenter.services.service_classes.mpps.manager import PerformedStepManager
from isocenter.services.service_classes.mpps.scp import PerformedStepScp, retrieve_steps
from isocenter.services.service_classes.normalized.report_delivery import (
    EventReportSender,
)
from isocenter.services.service_classes.storage.scp import StorageScp
from isocenter.services.service_classes.ups.manager import WorkitemManager
from isocenter.services.service_classes.ups.scp import UnifiedProcedureStepScp
from isocenter.services.service_classes.worklist.scp import WorklistScp
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.events.service import EventService
from isocenter.services.workflow.forwarding.commitment import CommitmentReports
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.nodes.changes import NodeChanges
from isocenter.services.workflow.nodes.destinations import NodeDestinations
from isocenter.services.workflow.nodes.node import Node
from isocenter.services.workflow.nodes.ports import OpenNode
from isocenter.services.workflow.prefetch.prefetcher import Prefetcher
from isocenter.storage.stores import Stores


@dataclass(slots=True)
class Workflow:
    """Services, and what runs beside them.

    Attributes:
        commitment, steps, workitems, printing: what the web offers, too; None: it is switched off.
        destinations: remote nodes to which rules and C-MOVE send; None: there is no database.
        nodes, jobs: remote nodes, and work with them; None: it is switched off.
        analyses: has series analysed by AI services.
        prefetcher: None: nothing is prefetched.
        find, open_node: a node by its name, and speaking to it; None: as of *jobs*.
    """

    services: list[Service] = field(default_factory=list)
    background_tasks: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    commitment: StorageCommitmentScp | None = None
    steps: PerformedStepManager | None = None
    workitems: WorkitemManager | None = None
    printing: Printing | None = None
    nodes: NodeChanges | None = None
    destinations: NodeDestinations | None = None
    jobs: JobDesk | None = None
    analyses: AnalysisWork | None = None
    prefetcher: Prefetcher | None = None
    find: Callable[[str], Awaitable[Node | None]] | None = None
    open_node: OpenNode | None = None


def build_workflow(
    settings: Settings,
    archive: Archive,
    stores: Stores,
    storage: StorageScp,
    connections: OutgoingAssociations,
    places: Places,
    peers: Mapping[str, Peer],
    nodes: NodeDestinations,
    notices: Notices | None,
    events: EventService | None,
    duties: Duties,
    transcoder: Transcoder | None = None,
    enforces: Callable[[Policy], bool] | None = None,
) -> Workflow:
    """All of it, as far as it is switched on; *enforces*: see `job_runner`."""
    if notices is None:  # one that nobody listens to yet is as good as false
        notices = Notices()
    workflow = Workflow()
    reporter = EventReportSender(
        stores.reports,
        peer_of=peers.get,
        connect=connections.for_event_reports,
        backoff=Backoff(
            longest_seconds=settings.commitment.longest_retry,
            give_up_after_seconds=settings.commitment.give_up_after,
        ),
    )
    workflow.background_tasks.append(partial(outlast, "event reports", reporter.run))
    if settings.mpps.enabled:
        workflow.steps = PerformedStepManager(
            stores.steps,
            strict=settings.mpps.strict,
            notify=settings.mpps.notify,
            on_change=reporter.wake,
        )
    workflow.services.extend(_steps_of(settings, stores, workflow.steps))
    if settings.ups.enabled:
        workflow.workitems = WorkitemManager(
            stores.workitems,
            knows=partial(may_be_told, archive, peers),
            strict=settings.ups.strict,
            grants_locks=settings.ups.deletion_locks,
            on_event=reporter.wake,
            notices=notices,
        )
        workflow.background_tasks.append(
            partial(
                duties.run,
                "workitems",
                partial(outlast, "workitems", workflow.workitems.announce),
            )
        )
        workflow.services.append(
            UnifiedProcedureStepScp(
                workflow.workitems,
                max_results=settings.ups.max_results,
                undeclared=settings.storage.undeclared,
                fuzzy_names=settings.query.fuzzy_names,
            )
        )
    if settings.print.enabled:
        printing = build_printing(
            settings,
            archive,
            stores,
            duties,
            notices,
            connections,
            peers,
        )
        workflow.printing = printing
        workflow.services.append(printing.scp)
        workflow.background_tasks.extend(printing.background_tasks)
    commitment: StorageCommitmentScp | None = None
    if settings.commitment.enabled:
        commitment = _commitment_of(settings, archive, stores, storage, reporter, notices)
        workflow.commitment = commitment
        workflow.background_tasks.append(partial(outlast, "commitment", commitment.run))
    workflow.destinations = nodes
    workflow.background_tasks.append(nodes.run)
    open_node = node_opener(
        settings,
        connections,
        archive,
        notices,
        transcoder=transcoder,
        places=places,
        is_serving=settings.storage.accept,
    )
    asker, forwarder, duties_of_forwarding = build_forwarding(
        settings, archive, stores, connections, places, peers, nodes, open_node, notices, transcoder
    )
    find = node_finder(stores.nodes, peers)
    workflow.analyses = analysis_work(settings, archive, stores, notices)
    runner = job_runner(
        settings,
        archive,
        find,
        open_node,
        stores,
        nodes,
        workflow.analyses,
        forwarder,
        notices=notices,
        enforces=enforces,
    )
    workflow.background_tasks += [runner.run, duties_of_forwarding.run]
    workflow.services.append(
        CommitmentReports(asker, commitment, is_wanted=lambda: archive.rules.ask_for_commitment)
    )
    if events is not None:
        workflow.background_tasks.append(partial(outlast, "events", events.run))
    if settings.jobs.enabled:
        workflow.jobs = JobDesk(stores.jobs, runner.wake)
        if settings.ai_services:
            upkeep = AnalysisUpkeep(
                stores.analyses,
                workflow.jobs,
                workflow.analyses,
                {service.name for service in settings.ai_services},
            )
            workflow.background_tasks.append(partial(duties.run, "analyses", upkeep.run))
        workflow.find, workflow.open_node = find, open_node
        workflow.nodes = NodeChanges(
            stores.nodes, stores.limits, find, open_node, notices, now=stores.clock
        )
        if settings.prefetch.nodes and settings.worklist.enabled:
            prefetcher = prefetcher_of(
                settings, archive.index, stores, workflow.jobs, find, open_node
            )
            workflow.prefetcher = prefetcher
            workflow.background_tasks.append(partial(duties.run, "prefetch", prefetcher.run))
        if settings.jobs.verify_nodes_every:
            workflow.background_tasks.append(
                partial(verify_nodes, settings, duties, stores.nodes, open_node, stores.clock)
            )
    return workflow


def _steps_of(
    settings: Settings, stores: Stores, manager: PerformedStepManager | None
) -> list[Service]:
    """What is scheduled, and what was performed of it."""
    services: list[Service] = []
    if settings.worklist.enabled:
        services.append(
            WorklistScp(
                stores.worklist,
                states=settings.worklist.offer,
                max_results=settings.worklist.max_results,
                undeclared=settings.storage.undeclared,
                fuzzy_names=settings.query.fuzzy_names,
                fold_accents=settings.query.fold_accents,
            )
        )
    if manager is not None:
        services += [PerformedStepScp(manager), retrieve_steps(stores.steps)]
    return services


def _commitment_of(
    settings: Settings,
    archive: Archive,
    stores: Stores,
    storage: StorageScp,
    reporter: EventReportSender,
    notices: Notices | None,
) -> StorageCommitmentScp:
    return StorageCommitmentScp(
        stores.commitments,
        InstanceChecker(
            archive,
            is_supported=lambda uid: storage.offer(uid) is not None,
            checksums=settings.commitment.checksums,
            concurrency=settings.commitment.readers,
        ),
        reporter,
        retrieve_ae_title=settings.server.ae_title,
        same_association=settings.commitment.same_association,
        notices=notices,
    )


def may_be_told(archive: Archive, peers: Mapping[str, Peer], ae_title: str) -> bool:
    """Whether events of workitems, which name originals, may be sent to an AE."""
    made = archive.deidentification
    return ae_title in peers and (made is None or made.project_of_destination(ae_title) is None)
