"""A relay on loopback that does something once so many bytes have gone through it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_READ_BYTES = 4_096


class Relay:
    """Passes connections on to *target*, a port of this machine.

    Attributes:
        port: where it listens.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._left = 0
        self._action: Callable[[], None] | None = None
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def arm(self, after: int, action: Callable[[], None]) -> None:
        """Do *action* once, when *after* more bytes have come, from either side, and before
        the last of them goes on."""
        with self._lock:
            self._left, self._action = after, action

    def disarm(self) -> bool:
        """Whether the action was still to come; it will not."""
        with self._lock:
            waiting, self._action = self._action is not None, None
            return waiting

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:  # nobody is there: the client is told in the same way
                client.close()
                continue
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_READ_BYTES):
                self._count(len(data))
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        source.close()

    def _count(self, count: int) -> None:
        with self._lock:
            self._left -= count
            if self._left > 0 or self._action is None:
                return
            action, self._action = self._action, None
            action()


@contextmanager
def relay(target: int) -> Iterator[Relay]:
    """A relay while the context lasts."""
    made = Relay(target)
    try:
        yield made
    finally:
        made.close()
