"""Python as it is where the calls of POSIX are missing, Windows above all.

As ``sitecustomize.py`` in a folder on PYTHONPATH it takes away what Windows does not have: calls
and constants for everybody, modules for our own code (the standard library looks at the platform
and would miss them).
"""

from __future__ import annotations

import builtins
import os
import signal
import socket
import sys
from typing import Any

CALLS = (
    "fork", "forkpty", "getuid", "geteuid", "getgid", "getegid", "getpgid", "killpg", "setsid",
    "pread", "preadv", "pwrite", "pwritev", "posix_fadvise", "sendfile", "sysconf",
    "O_NOFOLLOW", "O_DIRECTORY", "O_DIRECT", "O_CLOEXEC", "O_NONBLOCK", "RWF_NOWAIT", "fchmod",
    "fchown", "chown", "sync", "fdatasync", "wait", "waitpid", "getloadavg", "sched_getaffinity",
)  # fmt: skip
SIGNALS = ("SIGHUP", "SIGALRM", "SIGPIPE", "SIGUSR1", "SIGUSR2", "pthread_sigmask", "setitimer")
#: Not AF_UNIX: what Python's own socket pairs are made of here.
SOCKETS = ("SO_REUSEPORT", "TCP_QUICKACK", "MSG_DONTWAIT")
MODULES = frozenset({"fcntl", "termios", "resource", "pwd", "grp", "tty", "pty", "posix"})


class Missing:
    """A method that a class does not have, though its base has it."""

    def __get__(self, instance: object, owner: type) -> Any:
        raise AttributeError("not on this system")


def take_away() -> None:
    """What there would not be."""
    # Before they are missed: what looks for them when it is imported.
    import asyncio
    import multiprocessing.util
    import subprocess

    import trio

    assert asyncio
    assert multiprocessing.util
    assert subprocess
    assert trio
    for module, names in ((os, CALLS), (signal, SIGNALS), (socket, SOCKETS)):
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    for method in ("sendmsg", "recvmsg", "recvmsg_into"):
        setattr(socket.socket, method, Missing())
    import_module = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        scope = rest[0] if rest else named.get("globals")
        if name in MODULES and (scope or {}).get("__name__", "").startswith("isocenter"):
            raise ImportError(f"No module named {name!r}", name=name)
        return import_module(name, *rest, **named)

    builtins.__import__ = without


if sys.platform != "win32" and os.environ.get("ISOCENTER_TEST_WITHOUT_POSIX"):
    take_away()
