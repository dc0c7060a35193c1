"""Capture files: the bytes of one association, written and read.

A capture holds what a network tap would see, after TLS: data sets with names and dates,
PHI in the clear.  So it is written only when somebody asks (``isocenter serve --capture
DIR``), into files and a folder for their owner alone, under names that nothing of a peer
gets into.

The format, all numbers big endian::

    header   8  89 49 53 4F 43 41 50 0A ("ISOCAP" between a byte beyond ASCII and a newline)
             1  version: 1
             1  who recorded: 0 association requestor, 1 association acceptor
             2  length of the peer's address
             8  when the connection began, nanoseconds since 1970 (UTC)
             n  the peer's address, ASCII
    record   1  R received, S sent, E the peer closed, C we closed, X recording stopped
             3  zero
             4  length of the data, at most 1 MiB; 0 for E, C and X
             8  nanoseconds since the connection began, on a clock that only moves forward
             n  data

Whatever is sent is recorded before it leaves, so that an answer never stands before what
it answers.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from struct import Struct
from typing import BinaryIO, Final

from isocenter.engine.buffers import Buffer
from isocenter.engine.negotiation import Role
from isocenter.services.diagnostics.dissect.capture_events import (
    BytesCaptured,
    Captured,
    CaptureEnded,
    CaptureError,
    ConnectionClosed,
    ConnectionOpened,
)
from isocenter.services.errors import text_of
from isocenter.services.net.peer_identity import PeerIdentity
from isocenter.services.net.transport import Transport
from isocenter.services.system.private_files import PRIVATE_FILE, make_private_directory

log = logging.getLogger("isocenter.capture")

MAGIC: Final = b"\x89ISOCAP\n"
SUFFIX: Final = ".isocapture"
_VERSION: Final = 1
_HEADER: Final = Struct(">8sBBHQ")
_RECORD: Final = Struct(">cxxxIQ")
_RECEIVED: Final = b"R"
_SENT: Final = b"S"
_CLOSED_BY_PEER: Final = b"E"
_CLOSED: Final = b"C"
_STOPPED: Final = b"X"
#: One record: bounds what a reader has to hold.
_LONGEST_RECORD: Final = 1 << 20
_LONGEST_ADDRESS: Final = 256
_NANOSECONDS: Final = 1_000_000_000
#: An archive must not stop for want of room that captures took.
_LEAST_FREE_BYTES: Final = 1 << 30
#: How much is written between two looks at the room that is left.
_LOOK_EVERY_BYTES: Final = 64 << 20
_ROLES: Final = (Role.REQUESTOR, Role.ACCEPTOR)
#: Permissions of group and others.
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class CaptureFolder:
    """Where captures go, one file for each association.

    Args:
        only_look: a folder that is not there is not made.

    Raises on construction:
        CaptureError: the folder cannot be used, or others may read it.
    """

    def __init__(self, path: Path, *, only_look: bool = False) -> None:
        self.path = path
        self._numbers = itertools.count(1)
        if only_look and not path.exists():
            return
        try:
            make_private_directory(path)
            mode = path.stat().st_mode
        except OSError as error:
            raise CaptureError(f"cannot capture into {path}: {text_of(error)}") from error
        if os.name == "posix" and mode & _OTHERS:
            raise CaptureError(
                f"cannot capture into {path}: captures hold PHI, and this folder is open to "
                f"others; chmod 700 {path}"
            )

    def record(self, transport: Transport, role: Role) -> Transport:
        """*transport*, with all that goes over it written down; as it is where that fails."""
        began = datetime.now(UTC)
        # The process, because workers share the folder.
        name = f"{began:%Y%m%dT%H%M%SZ}-{os.getpid()}-{next(self._numbers):06d}{SUFFIX}"
        path = self.path / name
        try:
            _look_for_room(self.path)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            file = os.fdopen(os.open(path, flags, PRIVATE_FILE), "wb")
        except OSError as error:
            log.error(
                "%s: cannot capture into %s: %s", transport.peer_address, path, text_of(error)
            )
            return transport
        return RecordingTransport(transport, Recorder(file, path, role, transport.peer_address))


class Recorder:
    """Writes one capture; when the disk fails it says so once, and stops."""

    def __init__(self, file: BinaryIO, path: Path, role: Role, peer_address: str) -> None:
        self._file: BinaryIO | None = file
        self._path = path
        self._unlooked = 0
        self._began = time.monotonic_ns()
        address = peer_address.encode("ascii", "replace")[:_LONGEST_ADDRESS]
        header = _HEADER.pack(MAGIC, _VERSION, _ROLES.index(role), len(address), time.time_ns())
        self._write(header + address)

    def received(self, data: Buffer) -> None:
        """The peer sent *data*; nothing means that it closed."""
        if data:
            self._record(_RECEIVED, data)
        else:
            self._record(_CLOSED_BY_PEER)

    def sent(self, data: Buffer) -> None:
        """We are about to send *data*."""
        if data:
            self._record(_SENT, data)

    def close(self) -> None:
        """We closed the connection."""
        self._record(_CLOSED)
        if self._file is not None:
            self._file.close()
            self._file = None

    def _record(self, kind: bytes, data: Buffer = b"") -> None:
        if self._file is None:
            return
        offset = time.monotonic_ns() - self._began
        view = memoryview(data)
        for start in range(0, max(len(view), 1), _LONGEST_RECORD):
            piece = view[start : start + _LONGEST_RECORD]
            self._write(_RECORD.pack(kind, len(piece), offset), piece)

    def _write(self, *buffers: Buffer) -> None:
        file = self._file
        if file is None:
            return
        try:
            for buffer in buffers:
                file.write(buffer)
                self._unlooked += len(buffer)
            # A killed process leaves whole records.
            file.flush()
            if self._unlooked >= _LOOK_EVERY_BYTES:
                self._unlooked = 0
                _look_for_room(self._path.parent)
        except OSError as error:
            log.error("the capture %s ends here: %s", self._path, text_of(error))
            self._file = None
            try:
                file.write(_RECORD.pack(_STOPPED, 0, time.monotonic_ns() - self._began))
                file.close()
            except OSError:
                pass  # said above; the record is for a disk that has a little room left


class RecordingTransport:
    """A transport that writes down what goes over it.

    The file is written where the bytes pass, in the event loop: a capture is for finding a
    fault, not for every day.
    """

    def __init__(self, transport: Transport, recorder: Recorder) -> None:
        self._transport = transport
        self._recorder = recorder

    @property
    def peer_address(self) -> str:
        return self._transport.peer_address

    @property
    def identity(self) -> PeerIdentity | None:
        return self._transport.identity

    async def receive(self) -> Buffer:
        data = await self._transport.receive()
        self._recorder.received(data)
        return data

    def send_now(self, buffers: Sequence[Buffer], is_followed: bool = False) -> Sequence[Buffer]:
        return buffers  # what is recorded has to leave whole

    async def send(self, buffers: Sequence[Buffer], progress: Callable[[], None]) -> None:
        for buffer in buffers:
            self._recorder.sent(buffer)
        await self._transport.send(buffers, progress)

    async def aclose(self) -> None:
        self._recorder.close()
        await self._transport.aclose()


def _look_for_room(folder: Path) -> None:
    if shutil.disk_usage(folder).free < _LEAST_FREE_BYTES:
        raise OSError(None, f"less than {_LEAST_FREE_BYTES >> 30} GiB is free on its disk")


def read_capture(file: BinaryIO, name: str) -> Iterator[Captured]:
    """What a capture of ours holds, as connection 1.

    Raises:
        CaptureError: *file* is none, or is damaged or cut short; what could be read of it
            was yielded.
    """
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(MAGIC):
        raise CaptureError(f"{name}: no capture of isocenter serve")
    _, version, role, length, began = _HEADER.unpack(header)
    if version != _VERSION or role >= len(_ROLES) or length > _LONGEST_ADDRESS:
        raise CaptureError(
            f"{name}: a capture of version {version}; this isocenter reads version {_VERSION}"
        )
    address = file.read(length)
    if len(address) < length:
        raise _cut_short(name)
    peer = address.decode("ascii", "backslashreplace")
    is_acceptor = _ROLES[role] is Role.ACCEPTOR
    # Who recorded does not know its own address.
    client, server = (peer, "isocenter") if is_acceptor else ("isocenter", peer)
    yield ConnectionOpened(1, 0.0, client, server, at=began / _NANOSECONDS)
    yield from _read_records(file, name, peer_is_client=is_acceptor)


def _read_records(file: BinaryIO, name: str, *, peer_is_client: bool) -> Iterator[Captured]:
    at = 0.0
    while True:
        head = file.read(_RECORD.size)
        if not head:
            yield CaptureEnded(1, at)
            return
        if len(head) < _RECORD.size:
            break
        kind, length, offset = _RECORD.unpack(head)
        at = offset / _NANOSECONDS
        if length > _LONGEST_RECORD:
            yield CaptureEnded(1, at)
            raise CaptureError(f"{name}: damaged: a record of {length} bytes")
        data = file.read(length)
        if data:
            if kind not in (_RECEIVED, _SENT):
                yield CaptureEnded(1, at)
                raise CaptureError(f"{name}: damaged: a record of kind {kind[0]:02X}H with data")
            yield BytesCaptured(1, at, (kind == _RECEIVED) is peer_is_client, data)
        if len(data) < length:
            break
        if kind in (_CLOSED_BY_PEER, _CLOSED):
            yield ConnectionClosed(1, at, (kind == _CLOSED_BY_PEER) is peer_is_client)
        elif kind == _STOPPED:
            yield CaptureEnded(1, at)
            raise CaptureError(f"{name}: recording stopped here, as there was no room on the disk")
        elif kind not in (_RECEIVED, _SENT):
            yield CaptureEnded(1, at)
            raise CaptureError(f"{name}: damaged: a record of kind {kind[0]:02X}H")
    yield CaptureEnded(1, at)
    raise _cut_short(name)


def _cut_short(name: str) -> CaptureError:
    return CaptureError(f"{name}: cut short; what stands before was read")
