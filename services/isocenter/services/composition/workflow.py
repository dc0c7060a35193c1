"""Composition of the workflow services and of what runs beside them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from functools import partial
from time import time

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.association.destination_slots import Places
from isocenter.services.association.peer import Peer
from isocenter.services.association.service_registry import Service
from isocenter.services.composition.forwarding import build_forwarding
from isocenter.services.composition.jobs import (
    job_runner,
    node_finder,
    node_opener,
    prefetcher_of,
    run_in_one_process,
    verify_nodes,
)
from isocenter.services.composition.outgoing_associations import OutgoingAssociations
from isocenter.services.concurrency import Backoff
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.notices import Notices
from isocenter.services.service_classes.commitment.instance_check import InstanceChecker
from isocenter.services.service_classes.commitment.scp import StorageCommitmentScp
from isocenter.services.service_classes.mpps.manager import PerformedStepManager
from isocenter.services.service_classes.mpps.scp import PerformedStepScp, retrieve_steps
from isocenter.services.service_classes.normalized.report_delivery import (
    EventReportSender,
)
from isocenter.services.service_classes.storage.scp import StorageScp
from isocenter.services.service_classes.worklist.scp import WorklistScp
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.events.service import EventService
from isocenter.services.workflow.forwarding.commitment import CommitmentReports
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.nodes.changes import NodeChanges
from isocenter.services.workflow.nodes.destinations import NodeDestinations
from isocenter.storage.stores import Stores


@dataclass(slots=True)
class Workflow:
    """Services, and what runs beside them.

    Attributes:
        commitment, steps: what the web offers, too; None: it is switched off.
        nodes, destinations, jobs: remote nodes, those of C-MOVE among them, and work with them;
            None: it is switched off.
    """

    services: list[Service] = field(default_factory=list)
    background_tasks: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    commitment: StorageCommitmentScp | None = None
    steps: PerformedStepManager | None = None
    nodes: NodeChanges | None = None
    destinations: NodeDestinations | None = None
    jobs: JobDesk | None = None


def build_workflow(
    settings: Settings,
    archive: Archive,
    stores: Stores,
    storage: StorageScp,
    connections: OutgoingAssociations,
    places: Places,
    peers: Mapping[str, Peer],
    notices: Notices | None,
    events: EventService | None,
    transcoder: Transcoder | None = None,
) -> Workflow:
    """All of it, as far as it is switched on."""
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
    workflow.background_tasks.append(reporter.run)
    if settings.mpps.enabled:
        workflow.steps = PerformedStepManager(
            stores.steps,
            strict=settings.mpps.strict,
            notify=settings.mpps.notify,
            on_change=reporter.wake,
        )
    workflow.services.extend(_steps_of(settings, stores, workflow.steps))
    commitment: StorageCommitmentScp | None = None
    if settings.commitment.enabled:
        commitment = _commitment_of(settings, archive, stores, storage, reporter, notices)
        workflow.commitment = commitment
        workflow.background_tasks.append(commitment.run)
    asker, forwarder = build_forwarding(
        settings, archive, stores, connections, places, peers, notices, transcoder
    )
    workflow.background_tasks.append(forwarder.run)
    workflow.services.append(
        CommitmentReports(asker, commitment, is_wanted=lambda: archive.rules.ask_for_commitment)
    )
    if events is not None:
        workflow.background_tasks.append(events.run)
    if settings.jobs.enabled:
        open_node = node_opener(
            settings,
            connections,
            archive,
            notices or Notices(),
            transcoder=transcoder,
            is_serving=settings.storage.accept,
        )
        find = node_finder(stores.nodes, peers)
        runner = job_runner(settings, stores.jobs, archive, find, open_node)
        workflow.jobs = JobDesk(stores.jobs, runner.wake)
        workflow.destinations = NodeDestinations(stores.nodes)
        workflow.background_tasks.append(workflow.destinations.run)
        workflow.nodes = NodeChanges(stores.nodes, find, open_node, notices or Notices(), now=time)
        workflow.background_tasks.append(runner.run)
        if settings.prefetch.nodes and settings.worklist.enabled:
            prefetcher = prefetcher_of(
                settings, archive.index, stores, workflow.jobs, find, open_node
            )
            workflow.background_tasks.append(
                partial(run_in_one_process, settings, "prefetch.lock", prefetcher.run)
            )
        if settings.jobs.verify_nodes_every:
            workflow.background_tasks.append(
                partial(verify_nodes, settings, stores.nodes, open_node)
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
