"""What goes beyond storing and finding: worklist, steps, commitment, events, forwarding."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import field
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.rules.evaluation import Rules
from isocenter.services.association.destination_slots import Places
from isocenter.services.association.operation import Provider
from isocenter.services.association.peer import Peer
from isocenter.services.association.service_registry import Service
from isocenter.services.composition.outgoing_associations import Connections
from isocenter.services.composition.tls_contexts import TlsContexts
from isocenter.services.net.listeners import Bind
from isocenter.services.notices import Notices
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.service_classes.commitment.instance_check import Verifier
from isocenter.services.service_classes.commitment.scp import StorageCommitment
from isocenter.services.service_classes.mpps.scp import PerformedSteps, retrieve_steps
from isocenter.services.service_classes.normalized.report_delivery import Reporter, RetryPolicy
from isocenter.services.service_classes.storage.scp import Storage
from isocenter.services.service_classes.worklist.scp import WorklistQuery
from isocenter.services.settings.loading import Settings
from isocenter.services.system.exclusive_task import on_duty
from isocenter.services.workflow.events.availability_target import AvailabilityTeller
from isocenter.services.workflow.events.service import EventKeeping
from isocenter.services.workflow.forwarding.batch import SendingParts, SendOptions
from isocenter.services.workflow.forwarding.commitment import CommitmentAsker, CommitmentReports
from isocenter.services.workflow.forwarding.forwarder import Forwarder
from isocenter.services.workflow.forwarding.ports import RetryPolicy as ForwardPolicy
from isocenter.storage.database.commitments import SqliteCommitments
from isocenter.storage.database.event_reports import SqliteReports
from isocenter.storage.database.events.open_studies import EventWriter, SqliteOpenStudies
from isocenter.storage.database.events.outbox import SqliteOutbox
from isocenter.storage.database.forwarding.queue import SqliteForwards
from isocenter.storage.database.index.index import SqliteIndex
from isocenter.storage.database.performed_steps import Beside as BesideStep
from isocenter.storage.database.performed_steps import SqliteSteps
from isocenter.storage.database.worklist import Beside as BesideEntry
from isocenter.storage.database.worklist import SqliteWorklist, following, tell_change

if TYPE_CHECKING:
    from isocenter.services.integration.hl7.listener import OrderListener


@dataclass(frozen=True, slots=True)
class Events:
    """What is written beside things that happen, and what is done about it."""

    writer: EventWriter
    keeping: EventKeeping


async def events_of(
    settings: Settings,
    archive: Archive,
    tls: TlsContexts | None,
    notices: Notices,
    peers: Mapping[str, Peer],
) -> Events | None:
    """From now on what is stored is an event, too; None: events are switched off.

    Raises:
        ConsumerError: a consumer cannot be used.
    """
    events, index = settings.events, archive.index
    if not events.enabled or not isinstance(index, SqliteIndex):
        return None

    async def duty(work: Callable[[], Awaitable[None]]) -> None:
        if settings.storage.is_in_memory:
            await work()
        else:
            await on_duty(Path(settings.storage.data_dir) / "events.lock", work)

    async def steps_of(study_instance_uid: str) -> Sequence[str]:
        rows = await SqliteSteps(index).rows(study_instance_uid=study_instance_uid)
        return [row.sop_instance_uid for row in rows]

    writer = EventWriter(events.rules(), include_patient=events.include_patient)
    keeping = EventKeeping(
        SqliteOutbox(index),
        SqliteOpenStudies(index, include_patient=events.include_patient),
        rules=events.rules(),
        consumers=events.consumers,
        keep_seconds=events.keep_days * 86_400.0,
        on_duty=duty,
        notices=notices,
        tell_availability=AvailabilityTeller(
            archive,
            steps_of=steps_of,
            peers=peers,
            connect=Connections(settings, tls).to_tell,
            retrieve_ae_title=settings.server.ae_title,
        ),
    )
    await keeping.begin()
    notices.subscribe(keeping.hear)
    index.beside_add.append(writer.stored)
    return Events(writer, keeping)


def worklist_of(settings: Settings, index: SqliteIndex) -> SqliteWorklist:
    """The worklist in the index database; its changes are events, unless those are off."""
    return SqliteWorklist(index, beside=_beside_worklist(settings))


def _beside_worklist(settings: Settings) -> Sequence[BesideEntry]:
    return [tell_change] if settings.events.enabled else []


def order_bind_of(settings: Settings, tls: TlsContexts | None) -> Bind | None:
    """Where to listen for HL7 orders; None: they are not taken."""
    if not settings.hl7.enabled:
        return None  # who has none needs none of the modules either
    from isocenter.services.composition.hl7 import order_bind

    return order_bind(settings, None if tls is None else lambda: tls.server)


def order_listener_of(settings: Settings, archive: Archive, notices: Notices) -> OrderListener:
    """What takes HL7 orders into the worklist of the archive."""
    from isocenter.services.composition.hl7 import order_listener

    assert isinstance(archive.index, SqliteIndex)
    return order_listener(settings, worklist_of(settings, archive.index), notices)


@dataclass(frozen=True, slots=True)
class Workflow:
    """Services, and what runs beside them."""

    services: list[Service] = field(default_factory=list)
    beside: list[Callable[[], Awaitable[None]]] = field(default_factory=list)


def workflow_of(
    settings: Settings,
    archive: Archive,
    storage: Storage,
    connections: Connections,
    places: Places,
    peers: Mapping[str, Peer],
    notices: Notices | None,
    events: Events | None,
) -> Workflow:
    """All of it, as far as it is switched on; nothing without a database."""
    workflow = Workflow()
    if not isinstance(archive.index, SqliteIndex):
        return workflow
    reporter = Reporter(
        SqliteReports(archive.index),
        peer_of=peers.get,
        connect=connections.to_report,
        policy=RetryPolicy(
            longest_interval=settings.commitment.longest_retry,
            give_up_after=settings.commitment.give_up_after,
        ),
    )
    workflow.beside.append(reporter.run)
    workflow.services.extend(_steps_of(settings, archive.index, reporter, events))
    commitment: StorageCommitment | None = None
    if settings.commitment.enabled:
        commitment = _commitment_of(
            settings, archive, archive.index, storage, reporter, notices, events
        )
        workflow.beside.append(commitment.run)
    asker, forwarder = _forwarding_of(
        settings, archive, archive.index, connections, places, peers, notices, events
    )
    workflow.beside.append(forwarder.run)
    workflow.services.append(
        CommitmentReports(asker, commitment, is_wanted=lambda: archive.rules.ask_for_commitment)
    )
    if events is not None:
        workflow.beside.append(events.keeping.run)
    return workflow


def _steps_of(
    settings: Settings, index: SqliteIndex, reporter: Reporter, events: Events | None
) -> list[Service]:
    """What is scheduled, and what was performed of it."""
    services: list[Service] = []
    follow: list[BesideStep] = [] if events is None else [events.writer.step_changed]
    if settings.worklist.enabled:
        services.append(
            WorklistQuery(
                worklist_of(settings, index),
                states=settings.worklist.offer,
                max_results=settings.worklist.max_results,
                undeclared=settings.storage.undeclared,
            )
        )
        follow.append(
            following(settings.worklist.discontinued.state, beside=_beside_worklist(settings))
        )
    if settings.mpps.enabled:
        steps = SqliteSteps(index, beside=follow)
        services += [
            PerformedSteps(
                steps,
                strict=settings.mpps.strict,
                notify=settings.mpps.notify,
                on_change=reporter.look,
            ),
            retrieve_steps(steps),
        ]
    return services


def _commitment_of(
    settings: Settings,
    archive: Archive,
    index: SqliteIndex,
    storage: Storage,
    reporter: Reporter,
    notices: Notices | None,
    events: Events | None,
) -> StorageCommitment:
    return StorageCommitment(
        SqliteCommitments(
            index, beside=() if events is None else [events.writer.commitment_changed]
        ),
        Verifier(
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
    index: SqliteIndex,
    connections: Connections,
    places: Places,
    peers: Mapping[str, Peer],
    notices: Notices | None,
    events: Events | None,
) -> tuple[CommitmentAsker, Forwarder]:
    """Rules for what comes in from now on, and what sends what they queue."""

    @asynccontextmanager
    async def ask(peer: Peer, provider: Provider) -> AsyncIterator[ClientAssociation]:
        async with places.place(peer.ae_title), connections.to_ask(peer, provider) as association:
            yield association

    forwarding = settings.forwarding
    queue = SqliteForwards(
        index,
        beside_delete=() if events is None else [events.writer.deleted],
        although_promised=forwarding.delete_promised,
    )
    policy = ForwardPolicy(
        first=forwarding.first_retry,
        longest=forwarding.longest_retry,
        give_up_after=forwarding.give_up_after,
    )
    asker = CommitmentAsker(queue, ask, policy=policy, wait=forwarding.commit_wait)
    forwarder = Forwarder(
        SendingParts(
            queue=queue,
            archive=archive,
            connect=connections.to_store,
            policy=policy,
            options=SendOptions(
                associations=forwarding.associations,
                batch=forwarding.batch,
                accept_warnings=forwarding.warnings == "accept",
            ),
            notices=Notices() if notices is None else notices,
            now=time,
            places=places,
        ),
        peer_of=peers.get,
        asker=asker,
        keep_days=forwarding.keep_days,
    )
    index.beside_add.append(queue.beside_add)
    archive.rules = Rules(settings.rules)
    archive.system = settings.server.ae_title
    archive.routed = forwarder.look
    return asker, forwarder
