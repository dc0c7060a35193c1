"""Regions of files on their way to a socket, without a copy."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol, runtime_checkable

import trio

#: Of a file, read or sent in one go.
PIECE_BYTES: Final = 1 << 20
#: sendfile(2) as Linux has it: it says how many bytes left, and never waits for the peer.
_SENDS: Final = sys.platform == "linux" and hasattr(os, "sendfile")
#: Take only what is in the page cache, never wait for the disk.
_NO_WAIT: Final = getattr(os, "RWF_NOWAIT", None)
#: The file system, or the kind of socket, cannot do it.
_CANNOT: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
SHORTER: Final = "a file is shorter than it was"


@runtime_checkable
class SendsFiles(Protocol):
    """A transport that takes bytes out of files by itself."""

    async def send_file(
        self, descriptor: int, offset: int, count: int, progress: Callable[[], None]
    ) -> int:
        """Write bytes of a file; how many: fewer than *count* when the rest has to be read and
        sent, which then is for the caller.

        Raises:
            BrokenPipeError: the connection is gone.
            OSError: the file is shorter than that, or cannot be read.
        """
        ...

    def send_file_now(self, descriptor: int, offset: int, count: int) -> int:
        """Write what of it can leave without waiting, neither for the disk nor for the peer; how
        many bytes.

        Raises:
            BrokenPipeError: the connection is gone.
        """
        ...


def send_file_now(sock: socket.socket, descriptor: int, offset: int, count: int) -> int:
    """See `SendsFiles.send_file_now`; *sock* does not block."""
    step = min(count, PIECE_BYTES)
    if not _SENDS or not step or not is_cached(descriptor, offset + step - 1):
        return 0
    try:
        return os.sendfile(sock.fileno(), descriptor, offset, step)
    except ConnectionError as error:
        raise BrokenPipeError(str(error)) from error
    except OSError:
        return 0  # it has to wait, or `send_file` tells of it


async def send_file(
    sock: socket.socket,
    descriptor: int,
    offset: int,
    count: int,
    progress: Callable[[], None],
) -> int:
    """See `SendsFiles.send_file`; *sock* does not block."""
    sent = 0
    while sent < count and _SENDS:
        step = min(count - sent, PIECE_BYTES)
        try:
            if is_cached(descriptor, offset + sent + step - 1):
                moved = os.sendfile(sock.fileno(), descriptor, offset + sent, step)
            else:
                announce(descriptor, offset + sent + step)
                moved = await trio.to_thread.run_sync(
                    os.sendfile, sock.fileno(), descriptor, offset + sent, step
                )
        except BlockingIOError:
            try:
                await trio.lowlevel.wait_writable(sock)
            except trio.ClosedResourceError as error:
                raise BrokenPipeError(str(error)) from error
            continue
        except ConnectionError as error:
            raise BrokenPipeError(str(error)) from error
        except OSError as error:
            if error.errno in _CANNOT and not sent:
                break
            raise
        if not moved:
            raise OSError(SHORTER)
        sent += moved
        if sent < count:
            progress()
    return sent


async def read_region(descriptor: int, offset: int, count: int) -> bytes:
    """Bytes of a file, all of them; the system fetches what follows.

    Raises:
        OSError: it is shorter, or cannot be read.
    """
    data = bytearray(count)
    if _NO_WAIT is not None and count:
        with suppress(OSError):  # not in the cache, or a file system that cannot tell
            if os.preadv(descriptor, [data], offset, _NO_WAIT) == count:
                await trio.lowlevel.checkpoint()
                return bytes(data)

    def read() -> bytes:
        pieces: list[bytes] = []
        missing = count
        while missing:
            piece = os.pread(descriptor, missing, offset + count - missing)
            if not piece:
                raise OSError(SHORTER)
            pieces.append(piece)
            missing -= len(piece)
        announce(descriptor, offset + count)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    return await trio.to_thread.run_sync(read)


def is_cached(descriptor: int, place: int) -> bool:
    """Whether a byte of a file can be had without waiting for a disk, as far as one can tell."""
    if _NO_WAIT is None:
        return False
    try:
        return os.preadv(descriptor, [bytearray(1)], place, _NO_WAIT) == 1
    except OSError:
        return False


def announce(descriptor: int, offset: int) -> None:
    """Tell the system that a piece is read next."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(descriptor, offset, PIECE_BYTES, os.POSIX_FADV_WILLNEED)
