"""Protocol of systemd and its services: sockets handed over, and notices.

Two small protocols, each a few environment variables: `sd_listen_fds(3)` (socket
activation: the sockets listen before and after the process lives, so that a restart
refuses nobody) and `sd_notify(3)` (ready, stopping, alive).  Without systemd nothing in
here does anything.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, MutableMapping
from typing import Final

import trio

log = logging.getLogger("isocenter.server")

#: The first descriptor that is handed over (SD_LISTEN_FDS_START).
_FIRST_DESCRIPTOR: Final = 3
_MOST_DESCRIPTORS: Final = 64
_MICROSECONDS: Final = 1_000_000
#: A beat is sent this many times within the time that systemd waits for one.
_BEATS: Final = 3


def inherited_sockets(
    environ: MutableMapping[str, str] | None = None, first: int = _FIRST_DESCRIPTOR
) -> list[tuple[str, socket.socket]]:
    """Listening sockets that systemd hands over, each with its name; and forget about it.

    The name is that of ``FileDescriptorName=`` in the socket unit.

    Raises:
        OSError: a descriptor is no socket; the message says which.
    """
    environ = os.environ if environ is None else environ
    process, number = environ.get("LISTEN_PID"), environ.get("LISTEN_FDS", "")
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environ.pop(name, None)  # they are ours, and not for children
    if process != str(os.getpid()) or not number.isascii() or not number.isdigit():
        return []
    found: list[tuple[str, socket.socket]] = []
    try:
        for position in range(min(int(number), _MOST_DESCRIPTORS)):
            name = names[position] if position < len(names) else ""
            found.append((name, _inherited(first + position, name)))
    except OSError:
        for _, sock in found:
            sock.close()
        raise
    return found


def _inherited(descriptor: int, name: str) -> socket.socket:
    what = f"descriptor {descriptor} ({name}) of systemd"
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise OSError(error.errno, f"{what} is no socket") from error
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(
        socket.SOL_SOCKET, socket.SO_ACCEPTCONN
    ):
        sock.close()
        raise OSError(f"{what} does not listen for TCP")
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


def notify(state: str) -> None:
    """Tell systemd, if it wants to know: ``READY=1``, ``STOPPING=1``, ``WATCHDOG=1`` …"""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path or not hasattr(socket, "AF_UNIX"):
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(state.encode(), address)
        except OSError as error:
            log.warning("cannot tell systemd: %s", error)


def watchdog_seconds(*, is_child: bool = False) -> float | None:
    """How long systemd waits for a sign of life (``WatchdogSec=``); None: it does not.

    Args:
        is_child: we are a worker of the process that systemd has started.
    """
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    process = os.environ.get("WATCHDOG_PID")
    if not microseconds.isascii() or not microseconds.isdigit() or not int(microseconds):
        return None
    if process not in (None, str(os.getppid() if is_child else os.getpid())):
        return None
    return int(microseconds) / _MICROSECONDS


def beat_seconds(watchdog: float) -> float:
    """How often to give a sign of life."""
    return watchdog / _BEATS


async def keep_alive(seconds: float, beat: Callable[[], None]) -> None:
    """Signs of life for ever, from the event loop that serves: one that hangs is restarted.

    Args:
        seconds: that systemd waits.
        beat: gives one sign.
    """
    while True:
        beat()
        await trio.sleep(beat_seconds(seconds))


def notify_alive() -> None:
    """One sign of life of a process that systemd has started itself."""
    notify("WATCHDOG=1")
