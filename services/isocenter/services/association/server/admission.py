"""Admission: connections and associations counted, and bounded by `ServerLimits`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import field

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.association import AssociationDriver
from isocenter.services.concurrency import Broadcast


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """Bounds on what strangers take together."""

    #: Associations at once; over it, A-ASSOCIATE-RJ (2, 3, 2).
    associations: int = 100
    #: Associations at once from one address.
    associations_per_address: int = 50
    #: Associations at once with one calling AE title.
    associations_per_ae_title: int = 50
    #: Connections at once, associated or not; over it the one that has said nothing for
    #: the longest goes.
    connections: int = 1000
    #: TLS handshakes under way at once; over it the longest one goes.
    handshakes: int = 100


@dataclass(eq=False, slots=True)
class Connection:
    """A connection from accept to close."""

    host: str
    #: ``host:port``, known also when the peer has gone.
    address: str
    #: In log, audit and traces.
    name: str = ""
    is_tls: bool = False
    calling_ae_title: str = ""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    task: AssociationDriver | None = None
    #: When it could ask for an association, by trio's clock.
    began: float = 0.0
    #: A peer that speaks DICOM, over TLS after its handshake.
    opened: bool = False
    associated: bool = False
    #: It was told that it was refused, and why.
    told: bool = False
    #: Others waited for its place.
    dropped: bool = False
    #: The certificates that were verified, in DER; None: there were none.
    chain: Callable[[], Sequence[bytes]] | None = None
    #: Which of them has been revoked since.
    revoked: str = ""
    #: When it has to have an association (`DeadlineWatch`).
    wake_at: float = math.inf

    def look(self) -> None:
        """It has none, and its time is over."""
        self.wake_at = math.inf
        self.scope.cancel()

    def drop(self) -> None:
        self.dropped = True
        self.scope.cancel()


class Admission:
    """Counts connections and associations, and makes or refuses room by `ServerLimits`.

    Attributes:
        connections: those that are open, the oldest first.
        associations: how many of them have been accepted.
        most_associations: the most of them at once so far.
        is_closed: no more associations are taken.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self.limits = limits
        self.connections: dict[Connection, None] = {}
        self.associations = self.most_associations = 0
        self.is_closed = False
        self._changed = Broadcast()
        self._handshaking: dict[Connection, None] = {}
        self.per_address: Counter[str] = Counter()
        self.per_ae_title: Counter[str] = Counter()

    def make_room(self) -> None:
        """For one more connection: over the limit the one silent for the longest goes."""
        if len(self.connections) >= self.limits.connections:
            self.close_oldest_unassociated()

    def add(self, connection: Connection) -> None:
        """It was accepted."""
        self.connections[connection] = None

    def remove(self, connection: Connection) -> None:
        """It is closed."""
        del self.connections[connection]
        if connection.associated:
            self.associations -= 1
            _discount(self.per_address, connection.host)
            _discount(self.per_ae_title, connection.calling_ae_title)
        self._changed.send()

    async def wait_for_change(self) -> None:
        """Wait until the next connection is closed."""
        await self._changed.wait()

    def close_oldest_unassociated(self) -> None:
        """Close the connection that has been without an association for the longest."""
        for connection in self.connections:
            if not connection.associated and not connection.scope.cancel_called:
                connection.drop()
                return

    # TLS handshakes.

    @property
    def handshakes(self) -> int:
        """TLS handshakes under way."""
        return len(self._handshaking)

    def begin_handshake(self, connection: Connection) -> None:
        """TLS state costs memory; who has been in a handshake for the longest goes first."""
        if len(self._handshaking) >= self.limits.handshakes:
            for other in self._handshaking:
                if not other.scope.cancel_called:
                    other.drop()
                    break
        self._handshaking[connection] = None

    def end_handshake(self, connection: Connection) -> None:
        """It is done, or has failed."""
        del self._handshaking[connection]

    # Associations.

    def limit_reached(self, host: str, calling_ae_title: str) -> str:
        """Why an association from there is one too many, with the cure; empty: it is not."""
        limits = self.limits
        if self.is_closed:
            return "the server is stopping"
        for number, most, whose, setting in (
            (self.associations, limits.associations, "", ""),
            (
                self.per_address[host],
                limits.associations_per_address,
                f" from {host}",
                "_per_address",
            ),
            (
                self.per_ae_title[calling_ae_title],
                limits.associations_per_ae_title,
                f" as {calling_ae_title!r}",
                "_per_ae_title",
            ),
        ):
            if number >= most:
                return (
                    f"{number} associations{whose} are as many as are allowed; end some, or raise "
                    f"server.max_associations{setting}"
                )
        return ""

    def associate(self, connection: Connection, calling_ae_title: str) -> None:
        """An association on it was accepted."""
        connection.associated = True
        connection.calling_ae_title = calling_ae_title
        self.associations += 1
        self.most_associations = max(self.most_associations, self.associations)
        self.per_address[connection.host] += 1
        self.per_ae_title[calling_ae_title] += 1


def _discount(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
