"""Ports for programs that have to be told one; our own are given 0, and say which they got."""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

#: Below those that Linux hands out by itself (32768 and up): nobody is given one of ours by
#: chance between our asking and the moment when the program listens on it.
PORTS: Final = range(20_000, 32_000)
BLOCK: Final = 100
FOLDER: Final = Path(tempfile.gettempdir()) / f"isocenter-test-ports-{os.getuid()}"


def free_port() -> int:
    """A port that nobody listens on now, and that no other process that runs tests will use."""
    for port in itertools.islice(_ports_of(os.getpid()), BLOCK):
        with socket.socket() as sock:
            try:
                sock.bind(("", port))
            except OSError:
                continue
            return port
    raise AssertionError("somebody listens on each port of this process")


@cache
def _ports_of(process: int) -> Iterator[int]:
    """Those of one block, round and round: a port that was just used rests for long."""
    first = _take_block()
    return itertools.cycle(range(first, first + BLOCK))


def _take_block() -> int:
    """The first port of a block that no living process has; it is ours as long as we live."""
    FOLDER.mkdir(exist_ok=True)
    for first in PORTS[::BLOCK]:
        lock = os.open(FOLDER / str(first), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return first  # the descriptor stays open until the process ends
    raise AssertionError("each block of ports is in use")
