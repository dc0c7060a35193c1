"""Composition of forwarding, and of the commitment that it asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from isocenter.services.archive.archive import Archive
from isocenter.services.association.destination_slots import Places
from isocenter.services.association.operation import Provider
from isocenter.services.association.peer import Peer
from isocenter.services.composition.outgoing_associations import OutgoingAssociations
from isocenter.services.concurrency import Backoff
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.notices import Notices
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.forwarding.commitment import CommitmentRequester
from isocenter.services.workflow.forwarding.forwarder import Forwarder, ForwardingDuties
from isocenter.services.workflow.forwarding.visit import ForwardingContext, SendOptions
from isocenter.services.workflow.nodes.destinations import NodeDestinations
from isocenter.services.workflow.nodes.node import Node
from isocenter.services.workflow.nodes.ports import OpenNode
from isocenter.storage.stores import Stores


def build_forwarding(
    settings: Settings,
    archive: Archive,
    stores: Stores,
    connections: OutgoingAssociations,
    places: Places,
    peers: Mapping[str, Peer],
    nodes: NodeDestinations,
    open_node: OpenNode,
    notices: Notices | None,
    transcoder: Transcoder | None,
) -> tuple[CommitmentRequester, Forwarder, ForwardingDuties]:
    """Rules for what comes in from now on, and what sends what they queue."""

    @asynccontextmanager
    async def ask(peer: Peer, provider: Provider) -> AsyncIterator[ClientAssociation]:
        async with (
            places.place(peer.ae_title),
            connections.for_commitment(peer, provider) as association,
        ):
            yield association

    async def target_of(destination: str) -> Peer | Node | None:
        peer = peers.get(destination)
        if peer is not None:
            return peer
        node = nodes.named(destination)
        if node is None:  # it may have been added a moment ago
            await nodes.look()
            node = nodes.named(destination)
        if node is None:
            return nodes.get(destination)
        return node if node.is_web else node.peer

    forwarding = settings.forwarding
    backoff = Backoff(
        first_seconds=forwarding.first_retry,
        longest_seconds=forwarding.longest_retry,
        give_up_after_seconds=forwarding.give_up_after,
    )
    asker = CommitmentRequester(stores.forwards, ask, backoff=backoff, wait=forwarding.commit_wait)
    context = ForwardingContext(
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
        now=stores.clock,
        places=places,
        limit_of=nodes.limit_of,
        transcoder=transcoder,
    )
    forwarder = Forwarder(context, target_of=target_of, open_node=open_node, asker=asker)
    return asker, forwarder, ForwardingDuties(context, asker, keep_days=forwarding.keep_days)
