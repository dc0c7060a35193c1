"""Composition of forwarding, and of the commitment that it asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from time import time

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
from isocenter.services.workflow.forwarding.batch import ForwardingContext, SendOptions
from isocenter.services.workflow.forwarding.commitment import CommitmentRequester
from isocenter.services.workflow.forwarding.forwarder import Forwarder
from isocenter.storage.stores import Stores


def build_forwarding(
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
