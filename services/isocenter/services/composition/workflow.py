"""Composition of worklist, steps, commitment, events and forwarding."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import field
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.association.destination_slots import Places
from isocenter.services.association.operation import Provider
from isocenter.services.association.peer import Peer
from isocenter.services.association.service_registry import Service
from isocenter.services.composition.archive import ArchiveParts
from isocenter.services.composition.outgoing_associations import OutgoingAssociations
from isocenter.services.composition.tls_contexts import TlsContexts
from isocenter.services.concurrency import Backoff
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.net.listeners import ListenAddress
from isocenter.services.notices import Notices
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.service_classes.commitment.instance_check import InstanceChecker
from isocenter.services.service_classes.commitment.scp import StorageCommitmentScp
from isocenter.services.service_classes.mpps.scp import PerformedStepScp, retrieve_steps
from isocenter.services.service_classes.normalized.report_delivery import (
    EventReportSender,
)
from isocenter.services.service_classes.storage.scp import StorageScp
from isocenter.services.service_classes.worklist.scp import WorklistScp
from isocenter.services.settings.loading import Settings
from isocenter.services.system.exclusive_task import run_exclusively
from isocenter.services.workflow.events.availability_target import AvailabilityNotifier
from isocenter.services.workflow.events.service import EventService
from isocenter.services.workflow.forwarding.batch import ForwardingContext, SendOptions
from isocenter.services.workflow.forwarding.commitment import CommitmentReports, CommitmentRequester
from isocenter.services.workflow.forwarding.forwarder import Forwarder
from isocenter.storage.stores import Stores

if TYPE_CHECKING:
    from isocenter.services.integration.hl7.listener import OrderListener


async def build_events(
    settings: Settings,
    parts: ArchiveParts,
    tls: TlsContexts | None,
    notices: Notices,
    peers: Mapping[str, Peer],
) -> EventService | None:
    """What is done about events; None: they are switched off.

    Raises:
        ConsumerError: a consumer cannot be used.
    """
    events, stores = settings.events, parts.stores
    if not events.enabled:
        return None

    async def duty(work: Callable[[], Awaitable[None]]) -> None:
        if settings.storage.is_in_memory:
            await work()
        else:
            await run_exclusively(Path(settings.storage.data_dir) / "events.lock", work)

    async def steps_of(study_instance_uid: str) -> Sequence[str]:
        rows = await stores.steps.rows(study_instance_uid=study_instance_uid)
        return [row.sop_instance_uid for row in rows]

    keeping = EventService(
        stores.outbox,
        stores.open_studies,
        rules=events.rules(),
        consumers=events.consumers,
        keep_seconds=events.keep_days * 86_400.0,
        on_duty=duty,
        notices=notices,
        notify_availability=AvailabilityNotifier(
            parts.archive.index,
            steps_of=steps_of,
            peers=peers,
            connect=OutgoingAssociations(settings, tls).for_notifications,
            retrieve_ae_title=settings.server.ae_title,
        ),
    )
    await keeping.begin()
    notices.subscribe(keeping.on_notice)
    return keeping


def order_address_of(settings: Settings, tls: TlsContexts | None) -> ListenAddress | None:
    """Where to listen for HL7 orders; None: they are not taken."""
    if not settings.hl7.enabled:
        return None  # who has none needs none of the modules either
    from isocenter.services.composition.hl7 import order_address

    return order_address(settings, None if tls is None else lambda: tls.server)


def order_listener_of(settings: Settings, stores: Stores, notices: Notices) -> OrderListener:
    """What takes HL7 orders into the worklist of the archive."""
    from isocenter.services.composition.hl7 import order_listener

    return order_listener(settings, stores.worklist, notices)


@dataclass(frozen=True, slots=True)
class Workflow:
    """Services, and what runs beside them."""

    services: list[Service] = field(default_factory=list)
    background_tasks: list[Callable[[], Awaitable[None]]] = field(default_factory=list)


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
    workflow.services.extend(_steps_of(settings, stores, reporter))
    commitment: StorageCommitmentScp | None = None
    if settings.commitment.enabled:
        commitment = _commitment_of(settings, archive, stores, storage, reporter, notices)
        workflow.background_tasks.append(commitment.run)
    asker, forwarder = _forwarding_of(
        settings, archive, stores, connections, places, peers, notices, transcoder
    )
    workflow.background_tasks.append(forwarder.run)
    workflow.services.append(
        CommitmentReports(asker, commitment, is_wanted=lambda: archive.rules.ask_for_commitment)
    )
    if events is not None:
        workflow.background_tasks.append(events.run)
    return workflow


def _steps_of(settings: Settings, stores: Stores, reporter: EventReportSender) -> list[Service]:
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
    if settings.mpps.enabled:
        services += [
            PerformedStepScp(
                stores.steps,
                strict=settings.mpps.strict,
                notify=settings.mpps.notify,
                on_change=reporter.wake,
            ),
            retrieve_steps(stores.steps),
        ]
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


def _forwarding_of(
    settings: Settings,
    archive: Archive,
    stores: Stores,
    connections: OutgoingAssociations,
    places: Places,
    peers: Mapping[str, Peer],
    notices: Notices | None,
    transcoder: Transcoder | None,
) -> tuple[CommitmentRequester, Forwarder]:
    """Rules for what comes in from now on, and what sends what they queue."""

    @asynccontextmanager
    async def ask(peer: Peer, provider: Provider) -> AsyncIterator[ClientAssociation]:
        async with (
            places.place(peer.ae_title),
            connections.for_commitment(peer, provider) as association,
        ):
            yield association

    forwarding = settings.forwarding
    backoff = Backoff(
        first_seconds=forwarding.first_retry,
        longest_seconds=forwarding.longest_retry,
        give_up_after_seconds=forwarding.give_up_after,
    )
    asker = CommitmentRequester(stores.forwards, ask, backoff=backoff, wait=forwarding.commit_wait)
    forwarder = Forwarder(
        ForwardingContext(
            queue=stores.forwards,
            archive=archive,
            connect=connections.for_storage,
            backoff=backoff,
            options=SendOptions(
                associations=forwarding.associations,
                batch=forwarding.batch,
                accept_warnings=forwarding.warnings == "accept",
            ),
            notices=Notices() if notices is None else notices,
            now=time,
            places=places,
            transcoder=transcoder,
        ),
        peer_of=peers.get,
        asker=asker,
        keep_days=forwarding.keep_days,
    )
    return asker, forwarder
