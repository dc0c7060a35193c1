"""Server: accepts connections, and stops when busy associations have finished."""

from __future__ import annotations

import errno
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

import trio

from isocenter.engine.deadlines import DEFAULT_DEADLINES, Deadlines
from isocenter.engine.dimse.message_codec import Request
from isocenter.engine.errors import AssociationError, LocalProtocolError
from isocenter.engine.items import check_implementation
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.negotiation import Acceptor
from isocenter.engine.uid import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from isocenter.services.association import AssociationDriver
from isocenter.services.association.access import AccessControl, AeTitleRules
from isocenter.services.association.server.admission import Admission, Connection, ServerLimits
from isocenter.services.association.server.connection import ConnectionHandler
from isocenter.services.association.server.live import (
    AssociationEndedByHand,
    LiveAssociation,
    seen,
)
from isocenter.services.association.server.options import (
    DEFAULT_GRACE_SECONDS,
    ServerOptions,
    WrapTransport,
)
from isocenter.services.association.server.request_handler import RequestHandler
from isocenter.services.association.server.statistics import Statistics
from isocenter.services.association.server.syntax_orders import SyntaxOrder
from isocenter.services.association.service_registry import ServiceRegistry
from isocenter.services.concurrency import alone
from isocenter.services.net.listeners import (
    BACKLOG,
    AcceptBackoff,
    ListenAddress,
    open_listener,
)
from isocenter.services.net.transport import SocketTransport, format_address
from isocenter.services.notices import (
    AssociationRevoked,
    Caller,
    Notices,
    ServerStarted,
    ServerStopped,
)

log = logging.getLogger("isocenter.server")

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
#: How long what fails beside associations rests before it begins again.
_BEGIN_AGAIN_SECONDS: Final = 10.0


class Server:
    """A running server; `serve` makes it.

    Attributes:
        addresses: where it listens, as ``(host, port, is_tls)``, ports as bound.
        stopped: set when the last association has ended after `stop`.
    """

    def __init__(self, registry: ServiceRegistry, options: ServerOptions) -> None:
        self.registry = registry
        self.notices = options.notices
        self.addresses: list[tuple[str, int, bool]] = []
        self.statistics = Statistics()
        self.stopped = trio.Event()
        self._options = options
        self._admission = Admission(options.server_limits)
        announced = options.max_pdu_length
        acceptor = Acceptor(
            offer=registry.offer,
            max_pdu_length=options.limits.max_pdu_length if announced is None else announced,
            max_operations_performed=options.operations_window,
            max_operations_invoked=options.operations_window,
            implementation_class_uid=options.implementation_class_uid,
            implementation_version_name=options.implementation_version_name,
        )
        # Here, and not at each association.
        check_implementation(
            acceptor.implementation_class_uid, acceptor.implementation_version_name
        )
        self._connections = ConnectionHandler(
            registry,
            options,
            RequestHandler(
                options.access, acceptor, self._admission.limit_reached, options.syntax_orders
            ),
            self._admission,
            self.statistics,
        )
        self._accepting = trio.CancelScope()
        #: While it drains, until associations have ended by themselves.
        self._patience = trio.CancelScope()
        self._patience.cancel()
        #: It is going to take no more associations soon.
        self.is_leaving = False
        #: Two processes of one server name no association alike.
        self._process = secrets.token_hex(2)

    @property
    def associations(self) -> int:
        """Associations now."""
        return self._admission.associations

    @property
    def most_associations(self) -> int:
        """The most associations at once since it started."""
        return self._admission.most_associations

    @property
    def is_stopping(self) -> bool:
        """Whether it takes no more associations, or will not soon."""
        return self._admission.is_closed or self.is_leaving

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
        """Bounds on what strangers take together."""
        return self._admission.limits

    def traffic(self) -> tuple[int, int]:
        """Bytes received and sent so far, of associations that last, too."""
        received, sent = self.statistics.bytes_received, self.statistics.bytes_sent
        for connection in self._admission.connections:
            if connection.task is not None:
                received += connection.task.traffic.bytes_received
                sent += connection.task.traffic.bytes_sent
        return received, sent

    def operations(self) -> int:
        """Operations of peers that have ended so far, on associations that last, too."""
        tasks = (connection.task for connection in self._admission.connections)
        lasting = sum(task.performed for task in tasks if task is not None)
        return self.statistics.operations + lasting

    def under_way(self, kind: type[Request]) -> int:
        """Operations of peers under way now, of one kind."""
        tasks = (connection.task for connection in self._admission.connections)
        return sum(
            isinstance(request, kind)
            for task in tasks
            if task is not None
            for request in task.requests()
        )

    def stop(self) -> None:
        """Stop gracefully; may be called at any time, more than once."""
        self._admission.is_closed = True
        self._patience.cancel()
        self._accepting.cancel()

    def drain(self) -> None:
        """Accept no more connections, in no process that has these listeners, and stop when all
        that there are have ended by themselves; `stop` makes it quicker."""
        if not self._admission.is_closed:
            self.is_leaving = True
            self._patience = trio.CancelScope()
            self._accepting.cancel()

    async def end_revoked(self, revoked_in: Callable[[Sequence[bytes]], str]) -> None:
        """Abort the associations whose certificates have been revoked, each when the operation
        under way has ended; nobody else notices.

        Args:
            revoked_in: which certificate of a chain (in DER) is revoked; empty: none.
        """
        self._connections.revoked_in = revoked_in
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
        self.notices.publish(AssociationRevoked(caller=task.caller, why=why))
        await task.leave(AssociationError(why))

    # Somebody looks.

    def live(self) -> Sequence[LiveAssociation]:
        """The associations that last, the oldest first."""
        return [
            seen(one.task, one.began)
            for one in self._admission.connections
            if one.task is not None and one.associated
        ]

    async def end_by_hand(self, name: str, by: Caller) -> bool:
        """Abort the association of that name at once, also in the middle of an operation; False:
        there is none."""
        for connection in self._admission.connections:
            task = connection.task
            if connection.name == name and connection.associated and task is not None:
                who = by.user or by.certificate or by.address
                log.warning("%s: the association is ended by %s", connection.address, who)
                self.notices.publish(AssociationEndedByHand(caller=task.caller, by=by))
                await task.abort(AssociationError(f"it was ended by {who}"))
                return True
        return False

    # Accepting.

    async def run(
        self, listeners: Sequence[tuple[socket.socket, ListenAddress]], ready: Callable[[], None]
    ) -> None:
        """Serve until `stop` or cancellation."""
        async with trio.open_nursery() as serving:
            serving.start_soon(self._connections.watch.run)
            for work in self.registry.background_tasks:
                serving.start_soon(_restart_after_failure, work)
            with self._accepting:
                async with trio.open_nursery() as accepting:
                    for listener, address in listeners:
                        accepting.start_soon(self._accept, listener, address, serving)
                    self.notices.publish(ServerStarted(addresses=tuple(self.addresses)))
                    ready()
            for listener, address in listeners:
                if self.is_leaving:
                    # They are connected as they see it; to close would reset them.
                    self._accept_waiting(listener, address, serving)
                    # For all processes that have it: nobody waits in its queue for nothing.
                    with suppress(OSError):
                        listener.shutdown(socket.SHUT_RDWR)
                listener.close()
            await self._drain()
            serving.cancel_scope.cancel()
        self.notices.publish(ServerStopped())
        self.stopped.set()

    async def _accept(
        self, listener: socket.socket, address: ListenAddress, serving: trio.Nursery
    ) -> None:
        accept_backoff = AcceptBackoff(log, "connections")
        while True:
            try:
                self._accept_one(listener, address, serving)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(listener)
                continue
            except OSError as error:
                if error.errno == errno.EINVAL:
                    self.drain()  # it was shut down: another process that has it is drained
                if error.errno not in _EXHAUSTED:
                    await trio.lowlevel.checkpoint()  # the peer was gone before we came
                    continue
                self._admission.close_oldest_unassociated()
                await accept_backoff.wait(error)
                continue
            # Nearly always nobody else is there yet.  Where one is, it is a turn for the others,
            # whom a flood of connections would starve.
            await trio.lowlevel.wait_readable(listener)

    def _accept_waiting(
        self, listener: socket.socket, address: ListenAddress, serving: trio.Nursery
    ) -> None:
        """Accept who waits, and nobody who comes later than that: at most what a listener holds."""
        for _ in range(BACKLOG):
            try:
                self._accept_one(listener, address, serving)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    return

    def _accept_one(
        self, listener: socket.socket, address: ListenAddress, serving: trio.Nursery
    ) -> None:
        """Accept one connection, if one waits, and have it handled.

        Raises:
            OSError: as `socket.socket.accept`.
        """
        sock, name = listener.accept()
        try:
            transport = SocketTransport(sock, format_address(name))
        except OSError:
            sock.close()
            return
        self.statistics.connections += 1
        self._admission.make_room()
        connection = Connection(
            str(name[0]),
            transport.peer_address,
            f"{self._process}-{self.statistics.connections:x}",
            address.tls is not None,
        )
        self._admission.add(connection)
        serving.start_soon(self._connections.handle, transport, address, connection)

    # Stopping.

    async def _drain(self) -> None:
        """Abort who is idle and who becomes so, and at the grace deadline who is still busy."""
        with self._patience:
            while self._admission.connections:
                await self._admission.wait_for_change()
        stopped = AssociationError("the server was stopped")
        with trio.move_on_after(self._options.grace_seconds):
            async with trio.open_nursery() as nursery:
                for connection in list(self._admission.connections):
                    task = connection.task
                    if task is None or not task.established.is_set():
                        connection.scope.cancel()
                    else:
                        nursery.start_soon(_abort_when_idle, task, stopped)
                while self._admission.connections:
                    await self._admission.wait_for_change()
            return
        with trio.move_on_after(self._options.deadlines.abort):
            async with trio.open_nursery() as nursery:
                for connection in list(self._admission.connections):
                    if connection.task is not None:
                        nursery.start_soon(connection.task.abort, stopped)


async def _abort_when_idle(task: AssociationDriver, reason: AssociationError) -> None:
    await task.wait_until_idle()
    if not task.ended.is_set():
        await task.abort(reason)


async def _restart_after_failure(work: Callable[[], Awaitable[None]]) -> None:
    """Run the background task of a service, and again when it fails: that is a fault of ours,
    and no reason to stop serving."""
    while True:
        try:
            await work()
            return
        except Exception:
            log.exception("what a service does beside associations failed; it begins again")
        await trio.sleep(_BEGIN_AGAIN_SECONDS)


async def serve(
    registry: ServiceRegistry,
    addresses: Sequence[ListenAddress],
    *,
    access: AccessControl | None = None,
    max_pdu_length: int | None = None,
    operations_window: int = 1,
    deadlines: Deadlines = DEFAULT_DEADLINES,
    limits: Limits = DEFAULT_LIMITS,
    server_limits: ServerLimits | None = None,
    grace_seconds: float = DEFAULT_GRACE_SECONDS,
    wrap_transport: WrapTransport | None = None,
    notices: Notices | None = None,
    syntax_orders: Sequence[SyntaxOrder] = (),
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID,
    implementation_version_name: str = IMPLEMENTATION_VERSION_NAME,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve DICOM until cancelled or until `Server.stop`.

    Args:
        registry: the services.
        addresses: where to listen; port 0 takes a free one (see `Server.addresses`).

    The other keywords are the attributes of `ServerOptions`, which says what they do.

    Raises:
        OSError: an address cannot be bound; the message names fault and cure.
        LocalProtocolError: the registry has no service, or the implementation's UID or version name
            cannot be.

    Cancelled, or interrupted (Ctrl-C), it aborts its associations; what it raises is in no
    exception group.

    ``await nursery.start(serve, …)`` returns the `Server` once it listens.
    """
    options = ServerOptions(
        access=access or AeTitleRules(),
        max_pdu_length=max_pdu_length,
        operations_window=operations_window,
        deadlines=deadlines,
        limits=limits,
        server_limits=server_limits or ServerLimits(),
        grace_seconds=grace_seconds,
        wrap_transport=wrap_transport,
        notices=Notices() if notices is None else notices,
        syntax_orders=tuple(syntax_orders),
        implementation_class_uid=implementation_class_uid,
        implementation_version_name=implementation_version_name,
    )
    listeners: list[tuple[socket.socket, ListenAddress]] = []
    try:
        for address in addresses:
            listeners += [(sock, address) for sock in open_listener(address)]
        await serve_on(registry, listeners, options, task_status=task_status)
    finally:
        for sock, _ in listeners:
            sock.close()


async def serve_on(
    registry: ServiceRegistry,
    listeners: Sequence[tuple[socket.socket, ListenAddress]],
    options: ServerOptions | None = None,
    *,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """`serve` on sockets that listen already, made by `open_listener` or inherited."""
    if not registry.services:
        raise LocalProtocolError(
            "nothing is served: give the registry a service, VerificationScp() at least"
        )
    server = Server(registry, options or ServerOptions())
    for sock, address in listeners:
        host, port = sock.getsockname()[:2]
        server.addresses.append((host, port, address.tls is not None))
    try:
        await server.run(listeners, lambda: task_status.started(server))
    except BaseExceptionGroup as group:
        raise alone(group) from None
