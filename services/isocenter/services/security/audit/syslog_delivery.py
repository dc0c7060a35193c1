"""Syslog delivery of audit records, in order, at least once.

The trail on disk is the queue.  For each collector a file beside it says how far it has got
(``collector-….json``); of several processes, the one that holds the lock of that file sends.

Neither RFC 5425 nor 6587 has an acknowledgement.  The place moves on when TCP has been
acknowledged and the connection has stood for `CONFIRM_SECONDS` after, or when the collector has
closed in an orderly way after us.  When a connection breaks, what was not confirmed is sent again:
the same bytes.  Of UDP nobody knows; there, the place moves on with each datagram.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import struct
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final, TypeVar

import orjson
import trio

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.concurrency import Broadcast
from isocenter.services.errors import text_of
from isocenter.services.net.tls.errors import describe_tls_error
from isocenter.services.security.audit.hash_chain import Record
from isocenter.services.security.audit.repository import Protocol, SyslogRepository
from isocenter.services.security.audit.syslog_format import (
    LONGEST_DATAGRAM,
    octet_counted,
    syslog_message,
)
from isocenter.services.security.audit.trail import HEAD_FILE
from isocenter.services.security.audit.trail_reader import Cursor, TrailReader, head_sequence
from isocenter.services.system.file_lock import open_lock_file, try_lock
from isocenter.services.system.private_files import PRIVATE_FILE, write_file

log = logging.getLogger("isocenter.audit")

CONNECT_SECONDS: Final = 10.0
#: A collector that takes no byte.
SEND_SECONDS: Final = 30.0
CONFIRM_SECONDS: Final = 5.0
#: How often a connection is looked at, and the trail for what other processes wrote.
POLL_SECONDS: Final = 1.0
#: For the collector to read the rest, when we stop.
FINISH_SECONDS: Final = 3.0
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
#: Batches that are not confirmed yet; beyond, sending waits.
_MOST_UNCONFIRMED: Final = 64
#: A receiver that is flooded drops what it cannot take: so many datagrams, then a rest.
_DATAGRAMS_AT_ONCE: Final = 50
_REST_SECONDS: Final = 0.01

#: Gives the TLS context of the moment.
TlsContext = Callable[[], ssl.SSLContext]


class RepositoryUnreachableError(IsocenterError):
    """The collector cannot be reached, or was lost; the message says why."""

    error_code = ErrorCode.AUDIT


@dataclass(slots=True)
class DeliveryStatistics:
    """What became of records.

    Attributes:
        sent: written to the network, some more than once.
        failures: connections that could not be made or broke.
        is_away: since the last attempt.
    """

    sent: int = 0
    failures: int = 0
    is_away: bool = False


class Delivery:
    """Sends the trail in *folder* to one collector.

    Args:
        written: tells that there may be more.
        machine: our name, in the header of each message.
        tls: for a collector over TLS.
    """

    def __init__(
        self,
        collector: SyslogRepository,
        folder: Path,
        *,
        written: Broadcast,
        machine: str,
        tls: TlsContext | None = None,
    ) -> None:
        self.collector = collector
        self.statistics = DeliveryStatistics()
        self._folder = folder
        self._place = _place_of(collector, folder)
        self._written = written
        self._machine = machine
        self._tls = tls
        self._reader = TrailReader(folder)
        self._cursor = Cursor()
        self._confirmed = Cursor()
        self._unconfirmed: deque[tuple[float, Cursor]] = deque()
        self._acknowledged = 0
        self._is_sending = False
        self._stopping = trio.Event()

    async def unsent(self) -> int | None:
        """How many records of the trail the collector is not known to have; None: another process
        sends, and knows."""
        if not self._is_sending:
            return None
        return max(0, await _in_thread(self._durable_upto) - self._confirmed.sequence)

    @property
    def _finishing(self) -> bool:
        return self._stopping.is_set()

    async def run(self) -> None:
        """Send until `finish`, and what is there until then."""
        while not self._finishing:
            with _locked(self._place.with_suffix(".lock")) as ours:
                if ours:
                    self._confirmed = self._cursor = await _in_thread(self._load)
                    self._is_sending = True
                    with closing(self._reader):
                        await self._serve()
                    return
            await self._wait()

    def finish(self) -> None:
        """Send what is left, wait for the collector to read it, and end; within
        `FINISH_SECONDS`, which is for the caller to see to."""
        self._stopping.set()
        self._written.send()

    async def _serve(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            before = self._confirmed
            try:
                if self.collector.protocol is Protocol.UDP:
                    await self._send_datagrams()
                else:
                    await self._send_stream()
                return
            except RepositoryUnreachableError as error:
                self.statistics.failures += 1
                self._log_away(error)
            self._cursor = self._confirmed
            self._unconfirmed.clear()
            self._acknowledged = 0
            if self._finishing:
                return
            if self._confirmed != before:
                pause = FIRST_PAUSE_SECONDS
            with trio.move_on_after(pause):
                await self._stopping.wait()
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _log_away(self, error: RepositoryUnreachableError) -> None:
        if not self.statistics.is_away:
            self.statistics.is_away = True
            log.error(
                "%s; what is recorded waits in %s and is sent when it is back", error, self._folder
            )

    def _log_back(self) -> None:
        if self.statistics.is_away:
            self.statistics.is_away = False
            log.warning("the collector %s is back", self.collector)

    # UDP.

    async def _send_datagrams(self) -> None:
        async with self._datagram_socket() as sock:
            sent = 0
            while True:
                is_last = self._finishing  # then all there is was written before we look
                records = await self._next()
                for record in records:
                    await self._send_datagram(sock, syslog_message(record, self._machine))
                    self.statistics.sent += 1
                    sent += 1
                    if sent % _DATAGRAMS_AT_ONCE == 0:
                        await trio.sleep(_REST_SECONDS)
                if records:
                    # That nobody listens is told by what comes back for the last one.
                    await trio.sleep(_REST_SECONDS)
                    _raise_error_of(sock, self.collector)
                    self._log_back()
                    await self._confirm(self._cursor)
                elif is_last:
                    return
                else:
                    await self._wait()

    async def _send_datagram(self, sock: trio.socket.SocketType, message: bytes) -> None:
        try:
            await sock.send(message[:LONGEST_DATAGRAM])
        except OSError as error:
            raise RepositoryUnreachableError(
                f"the collector {self.collector}: {text_of(error)}"
            ) from error

    @asynccontextmanager
    async def _datagram_socket(self) -> AsyncIterator[trio.socket.SocketType]:
        try:
            with trio.fail_after(CONNECT_SECONDS):
                found = await trio.socket.getaddrinfo(
                    self.collector.host, self.collector.port, type=socket.SOCK_DGRAM
                )
                family, kind, protocol, _, address = found[0]
                sock = trio.socket.socket(family, kind, protocol)
                await sock.connect(address)
        except (OSError, trio.TooSlowError) as error:
            raise RepositoryUnreachableError(
                f"cannot reach the collector {self.collector}"
            ) from error
        with sock:
            yield sock

    # TCP and TLS.

    async def _send_stream(self) -> None:
        stream = await self._connect()
        try:
            self._log_back()
            is_all_sent = False
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, stream, nursery.cancel_scope)
                await self._send_records(stream)
                is_all_sent = True
                nursery.cancel_scope.cancel()
            if not is_all_sent:
                raise RepositoryUnreachableError(
                    f"the collector {self.collector} closed the connection"
                )
            await self._say_goodbye(stream)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as group:
            raise RepositoryUnreachableError(
                f"the connection to the collector {self.collector} was lost"
            ) from group
        except* RepositoryUnreachableError as group:
            raise _first(group) from None
        finally:
            with trio.CancelScope(shield=True) as scope:
                scope.cancel()
                await trio.aclose_forcefully(stream)

    async def _send_records(self, stream: trio.abc.Stream) -> None:
        while True:
            is_last = self._finishing  # then all there is was written before we look
            records = []
            if len(self._unconfirmed) < _MOST_UNCONFIRMED:
                records = await self._next()
            if records:
                frames = b"".join(
                    octet_counted(syslog_message(record, self._machine)) for record in records
                )
                with trio.fail_after(SEND_SECONDS):
                    await stream.send_all(frames)
                self.statistics.sent += len(records)
                self._unconfirmed.append((trio.current_time(), self._cursor))
            elif is_last and len(self._unconfirmed) < _MOST_UNCONFIRMED:
                return
            await self._confirm_what_stood(stream)
            if not records:
                await self._wait()

    async def _confirm_what_stood(self, stream: trio.abc.Stream) -> None:
        """Move on behind what TCP has acknowledged long enough ago."""
        now = trio.current_time()
        if _unacknowledged(stream) == 0:
            self._acknowledged = len(self._unconfirmed)
        elif self._unconfirmed and now - self._unconfirmed[0][0] > SEND_SECONDS + CONFIRM_SECONDS:
            raise trio.TooSlowError
        stood = None
        while self._acknowledged and now - self._unconfirmed[0][0] >= CONFIRM_SECONDS:
            stood = self._unconfirmed.popleft()[1]
            self._acknowledged -= 1
        if stood is not None:
            await self._confirm(stood)

    async def _watch(self, stream: trio.abc.Stream, scope: trio.CancelScope) -> None:
        """A collector has nothing to say: what comes is its end."""
        while await stream.receive_some():
            pass
        scope.cancel()

    async def _say_goodbye(self, stream: trio.abc.Stream) -> None:
        """End our side; when the collector then ends its own, it has read everything."""
        with trio.fail_after(FINISH_SECONDS):
            if isinstance(stream, trio.SSLStream):
                try:
                    await stream.unwrap()
                except trio.BrokenResourceError as error:
                    # Many close without close_notify; with bytes unread it would be a reset.
                    if not isinstance(error.__cause__, ssl.SSLEOFError):
                        raise
            else:
                assert isinstance(stream, trio.SocketStream)
                await stream.send_eof()
                while await stream.receive_some():
                    pass
        await self._confirm(self._cursor)

    async def _connect(self) -> trio.abc.Stream:
        collector = self.collector
        try:
            with trio.fail_after(CONNECT_SECONDS):
                stream = await trio.open_tcp_stream(collector.host, collector.port)
                if collector.protocol is Protocol.TCP:
                    return stream
                assert self._tls is not None
                secure = trio.SSLStream(stream, self._tls(), server_hostname=collector.host)
                try:
                    await secure.do_handshake()
                except BaseException:
                    await trio.aclose_forcefully(stream)
                    raise
                return secure
        except trio.TooSlowError:
            raise RepositoryUnreachableError(
                f"cannot reach the collector {collector}: no answer within {CONNECT_SECONDS:g} s"
            ) from None
        except trio.BrokenResourceError as error:
            cause = error.__cause__
            text = describe_tls_error(cause) if isinstance(cause, ssl.SSLError) else "closed"
            raise RepositoryUnreachableError(
                f"no TLS with the collector {collector}: {text}; see audit.ca, audit.certificate"
            ) from error
        except IsocenterError as error:  # our own certificates cannot be read
            raise RepositoryUnreachableError(
                f"no TLS with the collector {collector}: {error}"
            ) from error
        except OSError as error:
            raise RepositoryUnreachableError(
                f"cannot reach the collector {collector}: {text_of(error)}"
            ) from error

    # Where it has got to.

    async def _next(self) -> list[Record]:
        """What is durable and was not sent."""

        def read() -> tuple[list[Record], Cursor]:
            upto = self._durable_upto()
            if upto <= self._cursor.sequence:
                return [], self._cursor
            return self._reader.read_on(self._cursor, upto=upto)

        try:
            records, cursor = await _in_thread(read)
        except OSError as error:
            raise RepositoryUnreachableError(f"the audit trail cannot be read: {error}") from error
        missing = records[0].sequence - self._cursor.sequence - 1 if records else 0
        if missing > 0:
            log.error("%d records that %s should get are gone", missing, self.collector)
        self._cursor = cursor
        return records

    def _durable_upto(self) -> int:
        """The number of the last record; 0: there is none yet."""
        try:
            return head_sequence((self._folder / HEAD_FILE).read_bytes())
        except FileNotFoundError:
            return 0

    async def _confirm(self, cursor: Cursor) -> None:
        if cursor != self._confirmed:
            self._confirmed = cursor
            await _in_thread(self._save, cursor)

    def _save(self, cursor: Cursor) -> None:
        content = orjson.dumps(asdict(cursor)) + b"\n"
        try:
            write_file(self._place, content, PRIVATE_FILE, replace=True)
        except OSError as error:  # then some are sent twice after a restart
            log.error("cannot write %s: %s", self._place, text_of(error))

    def _load(self) -> Cursor:
        return delivered_to(self.collector, self._folder)

    async def _wait(self) -> None:
        with trio.move_on_after(POLL_SECONDS):
            await self._written.wait()


def _place_of(collector: SyslogRepository, folder: Path) -> Path:
    return folder / f"collector-{collector.file_name}.json"


def delivered_to(collector: SyslogRepository, folder: Path) -> Cursor:
    """How far *collector* has got in the trail in *folder*; the beginning where nobody knows."""
    place = _place_of(collector, folder)
    try:
        content = orjson.loads(place.read_bytes())
        return Cursor(int(content["first"]), int(content["offset"]), int(content["sequence"]))
    except FileNotFoundError:
        return Cursor()
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.error("%s cannot be read (%s); everything is sent again", place, error)
        return Cursor()


_T = TypeVar("_T")


async def _in_thread(work: Callable[..., _T], *arguments: object) -> _T:
    return await trio.to_thread.run_sync(work, *arguments)


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether nobody else holds it; held while the context lasts."""
    try:
        descriptor = open_lock_file(path)
    except OSError:  # the folder is not there yet
        yield False
        return
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)


def _unacknowledged(stream: trio.abc.Stream) -> int:
    """Bytes that the collector's machine has not acknowledged, where the system can tell."""
    if sys.platform != "linux":
        return 0
    import fcntl
    import termios

    if isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    assert isinstance(stream, trio.SocketStream)
    count = fcntl.ioctl(stream.socket.fileno(), termios.TIOCOUTQ, bytes(4))
    return int(struct.unpack("i", count)[0])


def _raise_error_of(sock: trio.socket.SocketType, collector: SyslogRepository) -> None:
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise RepositoryUnreachableError(f"the collector {collector}: {os.strerror(error)}")


def _first(group: BaseExceptionGroup[RepositoryUnreachableError]) -> RepositoryUnreachableError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
