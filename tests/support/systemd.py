"""As much of systemd as a service sees: sockets that outlive it, and a socket for notices."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from support.processes import ISOCENTER, START_SECONDS

#: Puts descriptors where systemd does, from 3 on, and becomes the service.
_LAUNCH = """
import fcntl, os, sys
given, names, words = sys.argv[1].split(","), sys.argv[2], sys.argv[3:]
kept = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in given if number]
for position, number in enumerate(kept):
    os.dup2(number, 3 + position)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(kept)), LISTEN_FDNAMES=names)
os.execv(words[0], words)
"""


def listening_socket() -> socket.socket:
    """What a socket unit keeps; inheritable, on a free port of 127.0.0.1."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(256)
    os.set_inheritable(sock.fileno(), True)
    return sock


def launched(sockets: Mapping[str, socket.socket], *arguments: object) -> Sequence[object]:
    """The command that starts `isocenter …` with *sockets* handed over by name."""
    descriptors = ",".join(str(sock.fileno()) for sock in sockets.values())
    return sys.executable, "-c", _LAUNCH, descriptors, ":".join(sockets), *ISOCENTER, *arguments


class Notices:
    """Takes what a service tells systemd."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(START_SECONDS)

    def next(self) -> str:
        """The next notice; an error when none comes."""
        return self._socket.recv(4096).decode()

    def wait_for(self, notice: str) -> list[str]:
        """All notices up to *notice*."""
        seen = []
        while not seen or seen[-1] != notice:
            seen.append(self.next())
        return seen

    def close(self) -> None:
        """Nobody listens any more."""
        self._socket.close()


@contextmanager
def notices(folder: Path) -> Iterator[Notices]:
    """Systemd's end of ``NOTIFY_SOCKET``."""
    taken = Notices(folder / "notify")
    try:
        yield taken
    finally:
        taken.close()
