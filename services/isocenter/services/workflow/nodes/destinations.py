"""Destinations: nodes by AE title, for whoever cannot wait for the database."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import trio

from isocenter.services.association.peer import Peer
from isocenter.services.errors import StorageError
from isocenter.services.workflow.nodes.ports import NodeBook

log = logging.getLogger("isocenter.jobs")

#: What has changed in the database is in use everywhere after so long.
LOOK_SECONDS: Final = 2.0


class NodeDestinations:
    """Peers of the nodes that speak DIMSE and are enabled, as they were a moment ago."""

    def __init__(self, book: NodeBook) -> None:
        self._book = book
        self._peers: Mapping[str, Peer] = {}

    def get(self, ae_title: str) -> Peer | None:
        """The node with that AE title; of several the first by name."""
        return self._peers.get(ae_title)

    async def look(self) -> None:
        """Take up what has changed.

        Raises:
            StorageError: the nodes cannot be read.
        """
        found: dict[str, Peer] = {}
        for node in await self._book.all():
            if node.is_enabled and not node.is_web:
                peer = node.peer
                found.setdefault(peer.ae_title, peer)
        self._peers = found

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await self.look()
            except StorageError as error:
                log.error("nodes stay as they were: %s", error)
            await trio.sleep(LOOK_SECONDS)
