"""Listening and accepting, and the stop that lets busy associations finish."""

from __future__ import annotations

import errno
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from isocenter.engine.deadlines import DEFAULT_DEADLINES, Deadlines
from isocenter.engine.errors import AssociationError
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.negotiation import Acceptor
from isocenter.services.association.access import AccessPolicy
from isocenter.services.association.server.admission import Admission, Connection, ServerLimits
from isocenter.services.association.server.connection import Carrier, Record
from isocenter.services.association.server.request_handler import Answering
from isocenter.services.association.server.statistics import Statistics
from isocenter.services.association.service_registry import Registry
from isocenter.services.concurrency import alone
from isocenter.services.net.listeners import Bind, Shortage, open_listener
from isocenter.services.net.transport import format_address, prepare_socket
from isocenter.services.notices import (
    AssociationRevoked,
    Notices,
    ServerStarted,
    ServerStopped,
)
from isocenter.services.security.access.access_control import AccessControl

log = logging.getLogger("isocenter.server")

#: How long a stop waits for operations under way.
DEFAULT_GRACE_SECONDS: Final = 10.0
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
#: How often a stopping server looks whether an association has become idle.
_WIND_UP_TICK_SECONDS: Final = 0.1
#: How long what fails beside associations rests before it begins again.
_BEGIN_AGAIN_SECONDS: Final = 10.0


class Server:
    """A running server; `serve` makes it.

    Attributes:
        addresses: where it listens, as ``(host, port, is_tls)``, ports as bound.
        stopped: set when the last association has ended after `stop`.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        access: AccessPolicy | AccessControl,
        acceptor: Acceptor,
        deadlines: Deadlines,
        limits: Limits,
        server_limits: ServerLimits,
        grace: float,
        record: Record | None = None,
        notices: Notices | None = None,
    ) -> None:
        self.registry = registry
        self.notices = Notices() if notices is None else notices
        self.access = AccessControl(access) if isinstance(access, AccessPolicy) else access
        self.addresses: list[tuple[str, int, bool]] = []
        self.statistics = Statistics()
        self.stopped = trio.Event()
        self._deadlines = deadlines
        self._grace = grace
        self._admission = Admission(server_limits)
        self._carrier = Carrier(
            registry,
            answering=Answering(
                self.access, acceptor, self._admission, self.statistics, self.notices
            ),
            admission=self._admission,
            statistics=self.statistics,
            notices=self.notices,
            deadlines=deadlines,
            limits=limits,
            record=record,
        )
        self._accepting = trio.CancelScope()
        #: Two processes of one server name no association alike.
        self._process = secrets.token_hex(2)

    @property
    def associations(self) -> int:
        """Associations now."""
        return self._admission.associations

    @property
    def is_stopping(self) -> bool:
        """Whether it takes no more associations."""
        return self._admission.is_closed

    @property
    def connections(self) -> int:
        """Transport connections now, associated or not."""
        return len(self._admission.connections)

    @property
    def handshakes(self) -> int:
        """TLS handshakes under way now."""
        return self._admission.handshakes

    @property
    def limits(self) -> ServerLimits:
        """What strangers may take together."""
        return self._admission.limits

    def traffic(self) -> tuple[int, int]:
        """Bytes received and sent so far, of associations that last, too."""
        received, sent = self.statistics.bytes_received, self.statistics.bytes_sent
        for connection in self._admission.connections:
            if connection.task is not None:
                received += connection.task.traffic.bytes_received
                sent += connection.task.traffic.bytes_sent
        return received, sent

    def stop(self) -> None:
        """Stop gracefully; may be called at any time, more than once."""
        self._admission.is_closed = True
        self._accepting.cancel()

    async def end_revoked(self, revoked_in: Callable[[Sequence[bytes]], str]) -> None:
        """Abort the associations whose certificates have been revoked, each when the operation
        under way has ended; nobody else notices.

        Args:
            revoked_in: which certificate of a chain (in DER) is revoked; empty: none.
        """
        self._carrier.revoked_in = revoked_in
        async with trio.open_nursery() as nursery:
            for connection in list(self._admission.connections):
                if connection.chain is None or connection.revoked:
                    continue
                connection.revoked = revoked_in(connection.chain())
                if connection.revoked:
                    nursery.start_soon(self._end_revoked, connection)

    async def _end_revoked(self, connection: Connection) -> None:
        task = connection.task
        if task is None or not task.established.is_set():
            connection.scope.cancel()
            return
        why = f"{connection.revoked} was revoked"
        log.warning("%s: the association is ended: %s", connection.address, why)
        self.notices.tell(AssociationRevoked(caller=task.caller, why=why))
        await task.leave(AssociationError(why))

    # Accepting.

    async def run(
        self, listeners: Sequence[tuple[socket.socket, Bind]], ready: Callable[[], None]
    ) -> None:
        """Serve until `stop` or cancellation."""
        async with trio.open_nursery() as serving:
            for work in self.registry.beside:
                serving.start_soon(_keep_running, work)
            with self._accepting:
                async with trio.open_nursery() as accepting:
                    for listener, bind in listeners:
                        accepting.start_soon(self._accept, listener, bind, serving)
                    self.notices.tell(ServerStarted(addresses=tuple(self.addresses)))
                    ready()
            for listener, _ in listeners:
                listener.close()
            await self._wind_up()
            serving.cancel_scope.cancel()
        self.notices.tell(ServerStopped())
        self.stopped.set()

    async def _accept(self, listener: socket.socket, bind: Bind, serving: trio.Nursery) -> None:
        shortage = Shortage(log, "connections")
        while True:
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                shortage.is_over()
                await trio.lowlevel.wait_readable(listener)
                continue
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    await trio.lowlevel.checkpoint()  # the peer was gone before we came
                    continue
                self._admission.drop_silent()
                await shortage.rest(error)
                continue
            try:
                name = sock.getpeername()
                prepare_socket(sock)
            except OSError:
                sock.close()
                continue
            self.statistics.connections += 1
            self._admission.make_room()
            connection = Connection(
                str(name[0]),
                format_address(name),
                f"{self._process}-{self.statistics.connections:x}",
                bind.tls is not None,
            )
            self._admission.add(connection)
            serving.start_soon(self._carrier.carry, sock, bind, connection)
            # One turn for the others, or a flood of connections would starve them.
            await trio.lowlevel.checkpoint()

    # Stopping.

    async def _wind_up(self) -> None:
        """Abort who is idle, wait for who is not, and abort them at the grace deadline."""
        stopped = AssociationError("the server was stopped")
        with trio.move_on_after(self._grace):
            while self._admission.connections:
                async with trio.open_nursery() as nursery:
                    for connection in list(self._admission.connections):
                        task = connection.task
                        if task is None or not task.established.is_set():
                            connection.scope.cancel()
                        elif task.operations == 0 and not task.ended.is_set():
                            nursery.start_soon(task.abort, stopped)
                self._admission.changed = trio.Event()
                with trio.move_on_after(_WIND_UP_TICK_SECONDS):
                    await self._admission.changed.wait()
            return
        with trio.move_on_after(self._deadlines.abort):
            async with trio.open_nursery() as nursery:
                for connection in list(self._admission.connections):
                    if connection.task is not None:
                        nursery.start_soon(connection.task.abort, stopped)


async def _keep_running(work: Callable[[], Awaitable[None]]) -> None:
    """What a service does beside associations; when it fails that is a fault of ours, and
    no reason to stop serving."""
    while True:
        try:
            await work()
            return
        except Exception:
            log.exception("what a service does beside associations failed; it begins again")
        await trio.sleep(_BEGIN_AGAIN_SECONDS)


async def serve(
    registry: Registry,
    binds: Sequence[Bind],
    *,
    access: AccessPolicy | AccessControl | None = None,
    max_pdu_length: int | None = None,
    operations_window: int = 1,
    deadlines: Deadlines = DEFAULT_DEADLINES,
    limits: Limits = DEFAULT_LIMITS,
    server_limits: ServerLimits | None = None,
    grace: float = DEFAULT_GRACE_SECONDS,
    record: Record | None = None,
    notices: Notices | None = None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve DICOM until cancelled or until `Server.stop`.

    Args:
        registry: the services.
        binds: where to listen; port 0 takes a free one (see `Server.addresses`).
        access: who may associate; default: anybody in the clear, and over TLS whose
            certificate carries the calling AE title.
        max_pdu_length: announced to peers, in bytes; default `Limits.max_pdu_length`.
        operations_window: operations that a peer may have outstanding at once on one association.
        grace: seconds that a stop waits for operations under way.
        record: puts something that sees all bytes between each association and its connection
            (`CaptureFolder.record` of `isocenter.services.diagnostics.capture`); None: nothing.
        notices: hears what happens.

    Raises:
        OSError: an address cannot be bound; the message names fault and cure.

    Cancelled, or interrupted (Ctrl-C), it aborts its associations; what it raises is in no
    exception group.

    ``await nursery.start(serve, …)`` returns the `Server` once it listens.
    """
    listeners: list[tuple[socket.socket, Bind]] = []
    try:
        for bind in binds:
            listeners += [(sock, bind) for sock in open_listener(bind)]
        await serve_on(
            registry,
            listeners,
            access=access,
            max_pdu_length=max_pdu_length,
            operations_window=operations_window,
            deadlines=deadlines,
            limits=limits,
            server_limits=server_limits,
            grace=grace,
            record=record,
            notices=notices,
            task_status=task_status,
        )
    finally:
        for sock, _ in listeners:
            sock.close()


async def serve_on(
    registry: Registry,
    listeners: Sequence[tuple[socket.socket, Bind]],
    *,
    access: AccessPolicy | AccessControl | None = None,
    max_pdu_length: int | None = None,
    operations_window: int = 1,
    deadlines: Deadlines = DEFAULT_DEADLINES,
    limits: Limits = DEFAULT_LIMITS,
    server_limits: ServerLimits | None = None,
    grace: float = DEFAULT_GRACE_SECONDS,
    record: Record | None = None,
    notices: Notices | None = None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """`serve` on sockets that listen already, made by `open_listener` or inherited."""
    acceptor = Acceptor(
        offer=registry.offer,
        max_pdu_length=limits.max_pdu_length if max_pdu_length is None else max_pdu_length,
        max_operations_performed=operations_window,
        max_operations_invoked=operations_window,
    )
    server = Server(
        registry,
        access=access or AccessPolicy(),
        acceptor=acceptor,
        deadlines=deadlines,
        limits=limits,
        server_limits=server_limits or ServerLimits(),
        grace=grace,
        record=record,
        notices=notices,
    )
    for sock, bind in listeners:
        host, port = sock.getsockname()[:2]
        server.addresses.append((host, port, bind.tls is not None))
    try:
        await server.run(listeners, lambda: task_status.started(server))
    except BaseExceptionGroup as group:
        raise alone(group) from None
