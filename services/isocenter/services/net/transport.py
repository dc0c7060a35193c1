"""Bytes in and out of one connection, and who is at the other end.

Three of a kind: a TCP socket used directly (the hot path: one system call where
the kernel is ready, no copy to gather buffers), the same under TLS, and any
trio stream (in-memory pairs in tests and simulations).  Nothing here knows DICOM.

Why sockets are used directly: trio's stream calls pass through the scheduler
even when data is ready, and `send_all` takes one buffer.  TCP_NODELAY is always
set, and TCP_QUICKACK re-armed before each wait on Linux: a peer with Nagle's
algorithm switched on otherwise waits 40 ms for our delayed acknowledgement
between the command set and the data set of each message.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import trio

from isocenter.engine.buffers import Buffer
from isocenter.services.net.file_regions import send_file, send_file_now
from isocenter.services.net.peer_identity import PeerIdentity

#: One read: enough for a whole maximum PDU of 128 KiB with its headers and the next command.
RECEIVE_BYTES: Final = 256 << 10
#: Calls that the kernel answered at once before others get their turn.
_FAIR_SHARE: Final = 8
#: A chunk in bytes after which nothing more is expected to wait in the kernel.
_SHORT_MESSAGE: Final = 1024
#: POSIX guarantees 16 buffers per gathering write, Linux takes 1,024.
_MOST_BUFFERS: Final = 512
#: Below this, one copy is cheaper than handing the buffers to the kernel or to TLS one by one.
_JOIN_BELOW: Final = 64 << 10
#: Whether the kernel takes several buffers in one call; that of Windows does not.
_GATHERS: Final = hasattr(socket.socket, "sendmsg")
#: Linux: hold what does not fill a packet, as more comes at once; for 200 ms at most.
_MSG_MORE: Final[int] = getattr(socket, "MSG_MORE", 0)
_TCP_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)


class Transport(Protocol):
    """One connection.  One task may receive while another sends; two may not do the same."""

    @property
    def peer_address(self) -> str:
        """``host:port`` of the other end, or a name for it in a log."""
        ...

    @property
    def identity(self) -> PeerIdentity | None:
        """Whose certificate was verified; None in the clear or without one."""
        ...

    async def receive(self) -> Buffer:
        """The next bytes, at least one; ``b""`` when the connection has ended."""
        ...

    def send_now(self, buffers: Sequence[Buffer], is_followed: bool = False) -> Sequence[Buffer]:
        """Write what can leave without waiting; the rest, to be passed to `send`.

        Args:
            is_followed: more is about to be written.  It may leave together with that, or after
                a fifth of a second if nothing comes.

        Raises:
            BrokenPipeError: the connection is gone.
        """
        ...

    async def send(self, buffers: Sequence[Buffer], progress: Callable[[], None]) -> None:
        """Write all, in order; *progress* is called each time some have left.

        Raises:
            BrokenPipeError: the connection is gone.

        When cancelled, an unknown part was written: close.
        """
        ...

    async def aclose(self) -> None:
        """Close, without waiting for the peer."""
        ...


class SocketTransport:
    """A connected, non-blocking TCP socket, which it owns from now on."""

    identity = None

    def __init__(self, sock: socket.socket, peer_address: str | None = None) -> None:
        """*peer_address*: where it is known; a socket that was reset cannot say it any more."""
        prepare_socket(sock)
        self._socket = sock
        self._at_once = 0
        self._is_drained = False
        #: Nothing was sent since, that would have carried the acknowledgement.
        self._is_unacknowledged = False
        self._ahead: Buffer = b""
        #: Tasks that wait for the kernel.
        self._waiting = 0
        self.peer_address = peer_address or address_of(sock)

    async def look_ahead(self) -> Buffer:
        """The next bytes, which `receive` will give as well; ``b""`` when the connection ended."""
        self._ahead = await self.receive()
        return self._ahead

    async def receive(self) -> Buffer:
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            return ahead
        sock = self._socket
        if self._is_drained:
            self._is_drained = False
            await self._wait_readable()
        self._at_once += 1
        if self._at_once > _FAIR_SHARE:
            self._at_once = 0
            await trio.lowlevel.checkpoint()
        while True:
            try:
                chunk = sock.recv(RECEIVE_BYTES)
            except BlockingIOError:
                await self._wait_readable()
            except OSError:
                return b""
            else:
                # After a short message its sender waits for an answer, as a rule.
                self._is_drained = len(chunk) <= _SHORT_MESSAGE
                self._is_unacknowledged = True
                return chunk

    async def _wait_readable(self) -> None:
        self._at_once = 0
        if self._is_unacknowledged:
            self._is_unacknowledged = False
            quick_ack(self._socket)
        self._waiting += 1
        try:
            await trio.lowlevel.wait_readable(self._socket)
        except trio.ClosedResourceError:
            pass  # the next `recv` finds out
        finally:
            self._waiting -= 1

    def send_now(self, buffers: Sequence[Buffer], is_followed: bool = False) -> Sequence[Buffer]:
        flags = _MSG_MORE if is_followed else 0
        self._is_unacknowledged = is_followed and self._is_unacknowledged
        total = sum(map(len, buffers))
        pending: list[Buffer]
        pending = (
            [b"".join(buffers)] if total <= _JOIN_BELOW and len(buffers) > 1 else list(buffers)
        )
        try:
            while pending:
                if _GATHERS:
                    sent = self._socket.sendmsg(pending[:_MOST_BUFFERS], (), flags)
                else:
                    sent = self._socket.send(pending[0], flags)
                if sent == total:
                    return ()
                total -= sent
                first = 0
                while first < len(pending) and sent >= len(pending[first]):
                    sent -= len(pending[first])
                    first += 1
                del pending[:first]
                if sent:
                    pending[0] = memoryview(pending[0])[sent:]
        except BlockingIOError:
            pass
        except OSError as error:
            raise BrokenPipeError(str(error)) from error
        return pending

    async def send(self, buffers: Sequence[Buffer], progress: Callable[[], None]) -> None:
        left = buffers
        while left := self.send_now(left):
            progress()
            self._waiting += 1
            try:
                await trio.lowlevel.wait_writable(self._socket)
            except trio.ClosedResourceError as error:
                raise BrokenPipeError(str(error)) from error
            finally:
                self._waiting -= 1

    async def send_file(
        self, descriptor: int, offset: int, count: int, progress: Callable[[], None]
    ) -> int:
        """See `isocenter.services.net.file_regions.SendsFiles`."""
        self._waiting += 1
        try:
            return await send_file(self._socket, descriptor, offset, count, progress)
        finally:
            self._waiting -= 1

    def send_file_now(self, descriptor: int, offset: int, count: int) -> int:
        """See `isocenter.services.net.file_regions.SendsFiles`."""
        return send_file_now(self._socket, descriptor, offset, count)

    def close(self) -> None:
        """Close, without waiting for the peer; not for the first time, too."""
        if self._socket.fileno() != -1:
            if self._waiting:
                trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    async def aclose(self) -> None:
        self.close()


class StreamTransport:
    """Any trio stream, as an in-memory pair."""

    identity = None

    def __init__(self, stream: trio.abc.Stream, peer_address: str) -> None:
        self._stream = stream
        self.peer_address = peer_address

    async def receive(self) -> Buffer:
        try:
            return await self._stream.receive_some()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    def send_now(self, buffers: Sequence[Buffer], is_followed: bool = False) -> Sequence[Buffer]:
        return buffers

    async def send(self, buffers: Sequence[Buffer], progress: Callable[[], None]) -> None:
        try:
            for buffer in buffers:
                await self._stream.send_all(buffer)
                progress()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise BrokenPipeError(str(error)) from error

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)


def prepare_socket(sock: socket.socket) -> None:
    """Set what every DICOM connection needs: non-blocking, no Nagle, dead peers noticed."""
    sock.setblocking(False)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def quick_ack(sock: socket.socket) -> None:
    """Acknowledge at once what comes next (Linux forgets it after a while: re-arm)."""
    if _TCP_QUICKACK is not None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_QUICKACK, 1)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTCONN, errno.EBADF):
                raise


def address_of(sock: socket.socket) -> str:
    """``host:port`` of the peer."""
    try:
        name = sock.getpeername()
    except OSError:
        return "unknown"
    return format_address(name)


def format_address(name: object) -> str:
    """A socket name as text; IPv6 addresses in brackets."""
    if isinstance(name, tuple) and len(name) >= 2:
        host, port = str(name[0]), name[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(name) or "local"
