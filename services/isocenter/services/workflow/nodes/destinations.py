"""Destinations: nodes by name and AE title, for whoever cannot wait for the database."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from time import time
from typing import Final

import trio

from isocenter.services.association.peer import Peer
from isocenter.services.errors import StorageError
from isocenter.services.net.throttle import Throttle
from isocenter.services.workflow.nodes.limits import DestinationLimit
from isocenter.services.workflow.nodes.node import Node
from isocenter.services.workflow.nodes.ports import LimitBook, NodeBook

log = logging.getLogger("isocenter.jobs")

#: What has changed in the database is in use everywhere after so long.
LOOK_SECONDS: Final = 2.0


class NodeDestinations:
    """The nodes that are enabled, and the limits of destinations, as they were a moment ago.

    A destination has one name, whoever sends to it: that of a node, else the AE title of a peer of
    the settings.

    Args:
        is_peer: whether the settings have a peer of that AE title.
        processes: among which a bandwidth is shared out.
        now: seconds since 1970.
    """

    def __init__(
        self,
        book: NodeBook,
        limits: LimitBook,
        *,
        is_peer: Callable[[str], bool] = lambda ae_title: False,
        processes: int = 1,
        now: Callable[[], float] = time,
    ) -> None:
        self._book = book
        self._limit_book = limits
        self._is_peer = is_peer
        self._processes = processes
        self._now = now
        self._nodes: Mapping[str, Node] = {}
        self._peers: Mapping[str, Peer] = {}
        #: Names of nodes by AE title.
        self._names: Mapping[str, str] = {}
        self._limits: Mapping[str, DestinationLimit] = {}
        self._throttles: dict[str, Throttle] = {}
        #: Hears of each address at which a node is no more.
        self.on_gone: Callable[[Peer], Awaitable[None]] | None = None

    def get(self, ae_title: str) -> Peer | None:
        """The node with that AE title, which speaks DIMSE; of several the first by name."""
        return self._peers.get(ae_title)

    def named(self, name: str) -> Node | None:
        """The node of that name."""
        return self._nodes.get(name)

    def ae_title_of(self, destination: str) -> str:
        """Of a node its AE title, if it has one; of all else what it is called."""
        node = self._nodes.get(destination)
        return destination if node is None or node.is_web else node.peer.ae_title

    def name_of(self, destination: str) -> str:
        """The one name of a destination that somebody calls by name or AE title."""
        if self._is_peer(destination) or destination in self._nodes:
            return destination
        return self._names.get(destination, destination)

    async def find_name(self, destination: str) -> str | None:
        """The same as of now; None: there is no such peer or node.

        Raises:
            StorageError: the nodes cannot be read.
        """
        await self.look()
        name = self.name_of(destination)
        return name if name in self._nodes or self._is_peer(name) else None

    # -- Limits ---------------------------------------------------------------------------

    def limit_of(self, destination: str) -> DestinationLimit:
        """What a destination may be sent, by any of its names."""
        name = self.name_of(destination)
        return self._limits.get(name) or DestinationLimit(destination=name)

    def associations_of(self, destination: str, default: int) -> int:
        """How many at once."""
        return self.limit_of(destination).associations or default

    def closed(self) -> Collection[str]:
        """The names of those to which nothing is sent now."""
        now = self._now()
        return {name for name, limit in self._limits.items() if not limit.is_open(now)}

    def why_closed(self, destination: str) -> str:
        """Why nothing is sent to it now; empty: it is."""
        return self.limit_of(destination).why_closed(self._now())

    def throttle_of(self, destination: str) -> Throttle | None:
        """What all connections of this process with it share; None: there is no bound."""
        limit = self.limit_of(destination)
        if not limit.bandwidth:
            return None
        rate = limit.bandwidth / self._processes
        throttle = self._throttles.setdefault(limit.destination, Throttle(rate))
        throttle.rate = rate
        return throttle

    async def look(self) -> None:
        """Take up what has changed.

        Raises:
            StorageError: the nodes cannot be read.
        """
        limits = await self._limit_book.limits()
        self._limits = {limit.destination: limit for limit in limits}
        nodes = {node.name: node for node in await self._book.all() if node.is_enabled}
        if nodes == self._nodes:
            return
        peers: dict[str, Peer] = {}
        names: dict[str, str] = {}
        for node in nodes.values():
            if not node.is_web:
                peer = node.peer
                peers.setdefault(peer.ae_title, peer)
                names.setdefault(peer.ae_title, node.name)
        before = {node.peer for node in self._nodes.values() if not node.is_web}
        self._nodes, self._peers, self._names = nodes, peers, names
        if self.on_gone is not None:
            for peer in before - {node.peer for node in nodes.values() if not node.is_web}:
                await self.on_gone(peer)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await self.look()
            except StorageError as error:
                log.error("nodes stay as they were: %s", error)
            except Exception as error:
                # A fault of ours, and no reason for the server to end.
                log.error("nodes stay as they were: internal error (%s)", type(error).__name__)
            await trio.sleep(LOOK_SECONDS)
