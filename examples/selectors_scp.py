"""An SCP in one thread on `selectors`: answers C-ECHO, stores what C-STORE brings into a folder.

    python examples/selectors_scp.py received --port 11112

Sockets never block.  A connection either reads, or has something to write and does not read until
it has left; that is the backpressure, and the bound of what is held for a peer.  The loop sleeps
until something is ready or the next deadline of any connection is due.  While an object is made
durable nobody else is served: an archive would do that in a thread.
"""

from __future__ import annotations

import argparse
import math
import selectors
import socket
import sys
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from time import monotonic

from storing import (
    ACCEPTOR,
    LOCAL_LIMIT_EXCEEDED,
    MOST_ASSOCIATIONS,
    Receiving,
    prepare,
)

from isocenter.engine import (
    Arrived,
    AssociateReject,
    Association,
    Clock,
    Deadlines,
    Effect,
    Moments,
    Role,
    commands,
    effects,
    end_reason,
    events,
    is_request,
    negotiate,
    next_deadline,
)

DEADLINES = Deadlines()
#: In bytes.
RECEIVE_LENGTH = 262_144


class Connection:
    """One association as acceptor, over a socket that does not block."""

    def __init__(self, sock: socket.socket, folder: Path, is_full: bool) -> None:
        self.sock = sock
        self.is_open = True
        self.receiving = Receiving(folder)
        self._is_full = is_full
        self._engine = Association(Role.ACCEPTOR)
        self._moments = Moments(received=monotonic())
        self._outgoing: deque[memoryview] = deque()
        self._is_cut = False
        self._apply_effects(self._engine.transport_opened())

    # What the loop asks, and what it tells.

    @property
    def interest(self) -> int:
        """What to wait for: never both, so that a peer that takes nothing is not read either."""
        return selectors.EVENT_WRITE if self._outgoing else selectors.EVENT_READ

    def due(self) -> float:
        """When to call `time_out`, unless something happens before."""
        return next_deadline(self._engine, self._moments, DEADLINES)[0]

    def time_out(self) -> None:
        """A deadline has passed."""
        _, clock = next_deadline(self._engine, self._moments, DEADLINES)
        if clock is Clock.ARTIM:
            self._moments.artim = math.inf
            self._apply_effects(self._engine.timer_expired())
        elif clock is Clock.WRITE:
            self._close()  # an A-ABORT could not leave either
        else:
            self._send(commands.Abort())

    def readable(self) -> None:
        """Bytes came, or the end."""
        try:
            chunk = self.sock.recv(RECEIVE_LENGTH)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            chunk = b""  # reset by the peer
        if chunk:
            self._moments.received = monotonic()
            self._apply_effects(self._engine.receive_data(chunk))
        else:
            self._apply_effects(self._engine.transport_closed())
            self._close()

    def writable(self) -> None:
        """The socket takes more."""
        try:
            while self._outgoing:
                taken = self.sock.send(self._outgoing[0])
                self._moments.writing = monotonic()
                if taken < len(self._outgoing[0]):
                    self._outgoing[0] = self._outgoing[0][taken:]
                else:
                    self._outgoing.popleft()
            self._moments.writing = math.inf
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            # Half a PDU may have left.  The peer's A-ABORT may still be there to be received.
            self._is_cut = True
            self._outgoing.clear()
            self._moments.writing = math.inf

    # The driver.

    def _apply_effects(self, answer: Iterable[Effect]) -> None:
        for effect in answer:
            match effect:
                case effects.SendBytes(buffers):
                    self._write(b"".join(buffers))
                case effects.CloseTransport():
                    self._close()
                case effects.StartArtim():
                    self._moments.artim = monotonic()
                case effects.StopArtim():
                    self._moments.artim = math.inf
                case effects.PeerFault(cause):
                    print(f"the peer broke the protocol: {cause}", file=sys.stderr)
                case effects.OpenTransport():
                    raise AssertionError("an acceptor opens no connection")
                case event:
                    self._handle(event)

    def _write(self, data: bytes) -> None:
        if self._is_cut or not self.is_open:
            return
        if not self._outgoing:
            self._moments.writing = monotonic()
        self._outgoing.append(memoryview(data))
        self.writable()

    def _close(self) -> None:
        self.is_open = False
        self.receiving.discard()

    def _send(self, command: commands.Command) -> None:
        """Answer, unless what came behind the request in the same chunk has ended it."""
        if self._engine.allows(command):
            self._apply_effects(self._engine.send(command))

    # The service-user.

    def _handle(self, event: events.Event) -> None:
        match event:
            case events.AssociationRequested(request):
                answer = LOCAL_LIMIT_EXCEEDED if self._is_full else negotiate(request, ACCEPTOR)
                if isinstance(answer, AssociateReject):
                    self._send(commands.RejectAssociation(answer))
                else:
                    self._send(commands.AcceptAssociation(answer))
            case events.MessageReceived(_, message) if is_request(message):
                assert self._engine.negotiated is not None
                self._finish(self.receiving.begin(event, self._engine.negotiated))
            case events.MessageReceived():  # a response, and we asked for nothing
                self._send(commands.Abort())
            case events.DataSetReceived():
                self._finish(self.receiving.add(event))
            case events.ReleaseRequested():
                self.receiving.discard()  # of half a data set the rest cannot come any more
                self._send(commands.AcceptRelease())
            case _:
                reason = end_reason(event)
                if reason is not None:
                    self.receiving.discard()
                    print(reason, file=sys.stderr)

    def _finish(self, arrived: Arrived | None) -> None:
        if arrived is not None:
            self._send(self.receiving.answer(arrived))


class Loop:
    """All connections, and the socket that listens."""

    def __init__(self, listener: socket.socket, folder: Path) -> None:
        self._selector = selectors.DefaultSelector()
        self._listener = listener
        self._folder = folder
        self._connections: set[Connection] = set()
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)

    def run(self) -> None:
        """Until interrupted."""
        try:
            while True:
                self.turn()
        finally:
            for connection in list(self._connections):
                self._drop(connection)
            self._selector.close()

    def turn(self) -> None:
        """Wait for whatever comes first, and do what is to be done."""
        due = min((each.due() for each in self._connections), default=math.inf)
        timeout = max(due - monotonic(), 0.0) if due < math.inf else None
        for key, ready in self._selector.select(timeout):
            if key.data is None:
                self._accept()
            elif ready & selectors.EVENT_WRITE:
                key.data.writable()
            else:
                key.data.readable()
        for connection in list(self._connections):
            if connection.is_open and connection.due() <= monotonic():
                connection.time_out()
            if connection.is_open:
                self._selector.modify(connection.sock, connection.interest, connection)
            else:
                self._drop(connection)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # the peer has gone again, or there is no descriptor left
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(sock, self._folder, len(self._connections) >= MOST_ASSOCIATIONS)
        self._connections.add(connection)
        self._selector.register(sock, connection.interest, connection)

    def _drop(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._selector.unregister(connection.sock)
        connection.receiving.discard()
        connection.sock.close()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=11112, help="0: any that is free")
    arguments = parser.parse_args()
    prepare(arguments.folder)
    with socket.create_server((arguments.host, arguments.port)) as listener:
        print(f"ready {arguments.host}:{listener.getsockname()[1]}", flush=True)
        with suppress(KeyboardInterrupt):
            Loop(listener, arguments.folder).run()


if __name__ == "__main__":
    main()
