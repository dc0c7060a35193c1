"""`serve`: listeners, one task per connection, bounds on strangers, and a graceful stop.

Accepting and serving live in different nurseries.  Stopping closes the
listeners, aborts associations that are idle, lets the others finish what they
perform until the grace deadline, then aborts them too.

What a stranger costs before it has associated: a socket, a task and nothing
else; TLS state is made when its first byte has come.  One deadline covers
everything from accept to the A-ASSOCIATE answer.
"""

from __future__ import annotations

import errno
import logging
import secrets
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import trio

from isocenter.engine.errors import AssociationError
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.negotiation import Acceptor, Role, negotiate
from isocenter.engine.pdu import AssociateAccept, AssociateReject, AssociateRequest
from isocenter.services.access import LOCAL_LIMIT_EXCEEDED, AccessPolicy, Turned
from isocenter.services.association import AssociationTask
from isocenter.services.deadlines import DEFAULT_DEADLINES, Deadlines
from isocenter.services.listening import Bind, open_listener
from isocenter.services.notices import (
    AccessDenied,
    AssociationEnded,
    AssociationEstablished,
    AssociationRejected,
    Caller,
    ConnectionRefused,
    Notices,
    Refusal,
    ServerStarted,
    ServerStopped,
    association_name,
)
from isocenter.services.policy.control import AccessControl, Admitted, Arrival
from isocenter.services.policy.grants import summary
from isocenter.services.registry import Registry
from isocenter.services.tls_errors import describe_tls_error
from isocenter.services.tls_transport import tls_transport
from isocenter.services.transport import (
    SocketTransport,
    Transport,
    format_address,
    prepare_socket,
)

log = logging.getLogger("isocenter.server")

#: How long a stop waits for operations under way.
DEFAULT_GRACE_SECONDS: Final = 10.0
#: How long accepting rests when the process or the machine has no descriptor or memory left.
_EXHAUSTED_PAUSE_SECONDS: Final = 0.25
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
#: Such a shortage is logged once per this many pauses.
_EXHAUSTED_LOG_EVERY: Final = 40
#: First bytes by which the wrong protocol on a port is told.
_TLS_HANDSHAKE: Final = 0x16
_ASSOCIATE_RQ: Final = 0x01
_HTTP_VERBS: Final = (b"GET ", b"HEAD", b"POST", b"PUT ", b"OPTI", b"CONN", b"DELE", b"PATC")


#: Takes a transport and what we are on it; gives the one to use.
Record = Callable[[Transport, Role], Transport]


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


@dataclass(slots=True)
class Statistics:
    """What a server did since it started."""

    connections: int = 0
    associations: int = 0
    rejected: int = 0
    #: Ended without a release: by A-ABORT of either side, or as the connection was lost.
    aborted: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0


@dataclass(eq=False, slots=True)
class _Connection:
    """A connection from accept to close."""

    host: str
    #: ``host:port``, known also when the peer has gone.
    address: str
    #: In log, audit and traces.
    name: str = ""
    is_tls: bool = False
    calling_ae_title: str = ""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    task: AssociationTask | None = None
    #: A peer that speaks DICOM, over TLS after its handshake.
    opened: bool = False
    associated: bool = False
    #: Others waited for its place.
    dropped: bool = False

    def drop(self) -> None:
        self.dropped = True
        self.scope.cancel()


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
        self._acceptor = acceptor
        self._deadlines = deadlines
        self._limits = limits
        self._server_limits = server_limits
        self._grace = grace
        self._record = record
        self._connections: dict[_Connection, None] = {}
        self._handshaking: dict[_Connection, None] = {}
        self._per_address: Counter[str] = Counter()
        self._per_ae_title: Counter[str] = Counter()
        self._associated = 0
        self.stopped = trio.Event()
        self._accepting = trio.CancelScope()
        self._stopping = False
        self._changed = trio.Event()
        #: Two processes of one server name no association alike.
        self._process = secrets.token_hex(2)

    @property
    def associations(self) -> int:
        """Associations now."""
        return self._associated

    @property
    def is_stopping(self) -> bool:
        """Whether it takes no more associations."""
        return self._stopping

    @property
    def connections(self) -> int:
        """Transport connections now, associated or not."""
        return len(self._connections)

    @property
    def limits(self) -> ServerLimits:
        """What strangers may take together."""
        return self._server_limits

    def traffic(self) -> tuple[int, int]:
        """Bytes received and sent so far, of associations that last, too."""
        received, sent = self.statistics.bytes_received, self.statistics.bytes_sent
        for connection in self._connections:
            if connection.task is not None:
                received += connection.task.traffic.bytes_received
                sent += connection.task.traffic.bytes_sent
        return received, sent

    def stop(self) -> None:
        """Stop gracefully; may be called at any time, more than once."""
        self._stopping = True
        self._accepting.cancel()

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
        pauses = 0
        while True:
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                pauses = 0
                await trio.lowlevel.wait_readable(listener)
                continue
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    await trio.lowlevel.checkpoint()  # the peer was gone before we came
                    continue
                if pauses % _EXHAUSTED_LOG_EVERY == 0:
                    log.error(
                        "cannot accept connections: %s; raise the limit of open files or lower "
                        "the limit of connections",
                        error.strerror,
                    )
                pauses += 1
                self._drop_silent()
                await trio.sleep(_EXHAUSTED_PAUSE_SECONDS)
                continue
            try:
                name = sock.getpeername()
                prepare_socket(sock)
            except OSError:
                sock.close()
                continue
            self.statistics.connections += 1
            if len(self._connections) >= self._server_limits.connections:
                self._drop_silent()
            connection = _Connection(
                str(name[0]),
                format_address(name),
                f"{self._process}-{self.statistics.connections:x}",
                bind.tls is not None,
            )
            self._connections[connection] = None
            serving.start_soon(self._serve, sock, bind, connection)
            # One turn for the others, or a flood of connections would starve them.
            await trio.lowlevel.checkpoint()

    def _drop_silent(self) -> None:
        """Close the connection that has been without an association for the longest."""
        for connection in self._connections:
            if not connection.associated and not connection.scope.cancel_called:
                connection.drop()
                return

    def _make_room_for_handshake(self) -> None:
        """TLS state costs memory; who has been in a handshake for the longest goes first."""
        if len(self._handshaking) >= self._server_limits.handshakes:
            for connection in self._handshaking:
                if not connection.scope.cancel_called:
                    connection.drop()
                    return

    # One connection.

    async def _serve(self, sock: socket.socket, bind: Bind, connection: _Connection) -> None:
        association_name.set(connection.name)
        try:
            with connection.scope:
                transport = await self._open(sock, bind, connection)
                if transport is None:
                    return
                connection.opened = True
                if self._record is not None:
                    transport = self._record(transport, Role.ACCEPTOR)
                await self._associate(transport, connection)
        except* Exception:
            # One association, not the server.
            log.exception("%s: the association failed here", connection.address)
        finally:
            sock.close()
            del self._connections[connection]
            if connection.scope.cancelled_caught and not connection.associated:
                self._tell_of_silence(connection)
            if connection.associated:
                self._associated -= 1
                _discount(self._per_address, connection.host)
                _discount(self._per_ae_title, connection.calling_ae_title)
            self._changed.set()

    async def _open(
        self, sock: socket.socket, bind: Bind, connection: _Connection
    ) -> Transport | None:
        """Know what the peer speaks, and shake hands under TLS."""
        deadline = trio.current_time() + self._deadlines.association_request
        connection.scope.deadline = deadline
        first = await _first_bytes(sock)
        if not first:
            return None
        address = connection.address
        if bind.tls is None:
            if first[0] == _TLS_HANDSHAKE:
                self._refuse(
                    address,
                    Refusal.WRONG_PROTOCOL,
                    "TLS on the port for clear text; closed. Use the TLS port",
                )
                return None
            if first[:4] in _HTTP_VERBS:
                self._refuse(
                    address, Refusal.WRONG_PROTOCOL, "an HTTP request on the DICOM port; closed"
                )
                return None
            return SocketTransport(sock, address)
        if first[0] != _TLS_HANDSHAKE:
            what = "clear-text DICOM" if first[0] == _ASSOCIATE_RQ else "not TLS"
            self._refuse(
                address,
                Refusal.WRONG_PROTOCOL,
                f"{what} on the TLS port; closed. Switch TLS on at the peer (+tls)",
            )
            return None
        self._make_room_for_handshake()
        self._handshaking[connection] = None
        try:
            return await tls_transport(sock, bind.tls(), server_side=True, peer_address=address)
        except trio.BrokenResourceError as error:
            cause = error.__cause__
            text = (
                describe_tls_error(cause) if isinstance(cause, ssl.SSLError) else "connection lost"
            )
            self._refuse(address, Refusal.TLS_HANDSHAKE, f"TLS handshake failed: {text}")
            return None
        finally:
            del self._handshaking[connection]

    def _refuse(self, address: str, refusal: Refusal, detail: str) -> None:
        log.warning("%s: %s", address, detail)
        self.notices.tell(ConnectionRefused(address=address, refusal=refusal, detail=detail))

    async def _associate(self, transport: Transport, connection: _Connection) -> None:
        async def decide(request: AssociateRequest) -> AssociateAccept | AssociateReject:
            arrival = Arrival(
                host=connection.host, is_tls=connection.is_tls, identity=transport.identity
            )
            judged = await self.access.admit(request, arrival)
            return self._decide(request, judged, transport, connection)

        task = AssociationTask(
            transport,
            Role.ACCEPTOR,
            provider=self.registry.perform,
            answer=self.registry.answer,
            decide=decide,
            deadlines=self._deadlines,
            limits=self._limits,
            caller=Caller(
                association=connection.name,
                address=connection.address,
                is_tls=connection.is_tls,
                certificate=(transport.identity and transport.identity.common_name) or "",
            ),
            notices=self.notices,
        )
        connection.task = task
        began = trio.current_time()
        try:
            await task.run()
        finally:
            self.statistics.bytes_received += task.traffic.bytes_received
            self.statistics.bytes_sent += task.traffic.bytes_sent
            connection.task = None  # `traffic` counts it once
            reason = task.end_reason()
            if connection.associated:
                if not task.released:
                    self.statistics.aborted += 1
                log.info("%s: ended: %s", transport.peer_address, reason)
                self.notices.tell(
                    AssociationEnded(
                        caller=task.caller,
                        ending=task.ending,
                        why=str(reason),
                        seconds=trio.current_time() - began,
                        bytes_received=task.traffic.bytes_received,
                        bytes_sent=task.traffic.bytes_sent,
                        operations=task.performed,
                    )
                )
            elif task.faulted:
                self.notices.tell(
                    ConnectionRefused(
                        address=connection.address,
                        refusal=Refusal.WRONG_PROTOCOL,
                        detail=str(reason),
                    )
                )

    def _decide(
        self,
        request: AssociateRequest,
        verdict: Admitted | Turned,
        transport: Transport,
        connection: _Connection,
    ) -> AssociateAccept | AssociateReject:
        connection.scope.deadline = float("inf")
        limits = self._server_limits
        task = connection.task
        assert task is not None
        task.caller = caller = replace(
            task.caller,
            calling_ae_title=request.calling_ae_title,
            called_ae_title=request.called_ae_title,
            user=verdict.user if isinstance(verdict, Admitted) else "",
        )
        if isinstance(verdict, Admitted) and (
            self._stopping
            or self._associated >= limits.associations
            or self._per_address[connection.host] >= limits.associations_per_address
            or self._per_ae_title[request.calling_ae_title] >= limits.associations_per_ae_title
        ):
            verdict = Turned(LOCAL_LIMIT_EXCEEDED, "as many associations as are allowed")
        answer: AssociateAccept | AssociateReject
        cure = ""
        if isinstance(verdict, Turned):
            answer, why, cure = verdict.reject, verdict.text, verdict.cure
        else:
            answer = negotiate(request, self._acceptor)
            why = "protocol version or application context name is not supported"
            if isinstance(answer, AssociateAccept):
                answer = self._grant(request, answer, verdict, task)
        if isinstance(answer, AssociateReject):
            self.statistics.rejected += 1
            log.warning("%s: rejected: %s", transport.peer_address, why)
            self.notices.tell(
                AssociationRejected(
                    caller=caller,
                    result=answer.result,
                    source=answer.source,
                    reason=answer.reason,
                    why=why,
                    cure=cure,
                )
            )
        else:
            connection.associated = True
            self._associated += 1
            self._per_address[connection.host] += 1
            connection.calling_ae_title = request.calling_ae_title
            self._per_ae_title[connection.calling_ae_title] += 1
            self.statistics.associations += 1
            proposed = len(answer.presentation_contexts)
            accepted = sum(context.result == 0 for context in answer.presentation_contexts)
            log.info(
                "%s: %r associated as %r, %d of %d presentation contexts accepted",
                transport.peer_address,
                request.calling_ae_title,
                request.called_ae_title,
                accepted,
                proposed,
            )
            self.notices.tell(
                AssociationEstablished(
                    caller=caller,
                    contexts_proposed=proposed,
                    contexts_accepted=accepted,
                    max_pdu_length=request.user_information.max_pdu_length,
                )
            )
        return answer

    def _grant(
        self,
        request: AssociateRequest,
        accept: AssociateAccept,
        admitted: Admitted,
        task: AssociationTask,
    ) -> AssociateAccept:
        """The contexts that the caller may use, and the answer to its user identity item."""
        task.grant = admitted.grant
        accept, refused = admitted.grant.narrow(request, accept)
        if refused:
            log.warning("%s: not allowed: %s", task.caller.address, summary(refused))
        for operation, one in {each.operation: each for each in refused}.items():
            self.notices.tell(
                AccessDenied(
                    caller=task.caller,
                    command=operation,
                    sop_class_uid=one.abstract_syntax,
                    why=one.why,
                )
            )
        if admitted.response is None:
            return accept
        info = replace(accept.user_information, user_identity_response=admitted.response)
        return replace(accept, user_information=info)

    def _tell_of_silence(self, connection: _Connection) -> None:
        if self._stopping:
            return
        if connection.dropped:
            refusal, detail = Refusal.TOO_MANY, "said nothing while others waited"
        else:
            step = "A-ASSOCIATE-RQ" if connection.opened else "beginning"
            refusal, detail = Refusal.DEADLINE, f"no {step} in time"
        self.notices.tell(
            ConnectionRefused(address=connection.address, refusal=refusal, detail=detail)
        )

    # Stopping.

    async def _wind_up(self) -> None:
        """Abort who is idle, wait for who is not, and abort them at the grace deadline."""
        stopped = AssociationError("the server was stopped")
        with trio.move_on_after(self._grace):
            while self._connections:
                async with trio.open_nursery() as nursery:
                    for connection in list(self._connections):
                        task = connection.task
                        if task is None or not task.established.is_set():
                            connection.scope.cancel()
                        elif task.operations == 0 and not task.ended.is_set():
                            nursery.start_soon(task.abort, stopped)
                self._changed = trio.Event()
                with trio.move_on_after(_WIND_UP_TICK_SECONDS):
                    await self._changed.wait()
            return
        with trio.move_on_after(self._deadlines.abort):
            async with trio.open_nursery() as nursery:
                for connection in list(self._connections):
                    if connection.task is not None:
                        nursery.start_soon(connection.task.abort, stopped)


#: How often a stopping server looks whether an association has become idle.
_WIND_UP_TICK_SECONDS: Final = 0.1
#: How long what fails beside associations rests before it begins again.
_BEGIN_AGAIN_SECONDS: Final = 10.0


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


def _discount(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


async def _first_bytes(sock: socket.socket) -> bytes:
    """Look at what comes first without taking it; empty when the peer has closed."""
    while True:
        try:
            return sock.recv(4, socket.MSG_PEEK)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(sock)
        except OSError:
            return b""


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
        record: puts something between each association and its connection that sees all
            bytes (`isocenter.services.capture.CaptureFolder.record`); None: nothing.
        notices: hears what happens.

    Raises:
        OSError: an address cannot be bound; the message names fault and cure.

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
    await server.run(listeners, lambda: task_status.started(server))
