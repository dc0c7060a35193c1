"""Engine, clients and tools use nothing that only POSIX has without something in its place.

`test_without_posix` runs them without it; here their text is read, so that what no test runs is
seen as well.  A server in full needs POSIX, and says so.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SERVICES = "services/isocenter/services"
#: What a client or a tool is made of.
PARTS = (
    "engine/isocenter/engine",
    f"{SERVICES}/dicom",
    f"{SERVICES}/net",
    f"{SERVICES}/association",
    f"{SERVICES}/service_classes",
    f"{SERVICES}/testing",
    f"{SERVICES}/web/client",
    f"{SERVICES}/cli/scu",
    f"{SERVICES}/cli/files",
    f"{SERVICES}/diagnostics/dissect",
)
#: Modules that Windows does not have.
MODULES = {"curses", "fcntl", "grp", "pty", "pwd", "readline", "resource", "syslog", "termios",
           "tty"}  # fmt: skip
#: Names of `os`, `socket`, `signal` and of sockets likewise; some macOS has not either.
NAMES = {
    "os": {
        "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "WNOHANG", "chown", "chroot",
        "fchmod", "fchown", "fdatasync", "fork", "forkpty", "getegid", "geteuid", "getgid",
        "getloadavg", "getpgid", "getuid", "initgroups", "kill", "killpg", "lchown", "mkfifo",
        "nice", "pipe2", "posix_fadvise", "posix_fallocate", "pread", "preadv", "pwrite",
        "pwritev", "register_at_fork", "sched_getaffinity", "sendfile", "setgid", "setsid",
        "setuid", "statvfs", "sync", "ttyname", "umask", "uname", "wait4", "waitid",
    },
    "socket": {"AF_UNIX", "MSG_DONTWAIT", "MSG_NOSIGNAL", "SO_REUSEPORT", "TCP_CORK",
               "TCP_USER_TIMEOUT"},
    "signal": {"SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGTSTP",
               "SIGUSR1", "SIGUSR2", "SIGWINCH", "pthread_sigmask", "sigwait"},
}  # fmt: skip
METHODS = {"recvmsg", "recvmsg_into", "sendmsg"}

#: Where one is used, what in the module keeps it from where it is not.
GUARDED = {
    (f"{SERVICES}/dicom/long_values.py", "pread"): r'hasattr\(os, "pread"\)',
    (f"{SERVICES}/dicom/pixels/worker.py", "nice"): r'hasattr\(os, "nice"\)',
    (f"{SERVICES}/dicom/pixels/worker.py", "resource"): r"import resource\s+except ImportError",
    (
        f"{SERVICES}/net/transport.py",
        "sendmsg",
    ): r'_GATHERS.* = hasattr\(socket.socket, "sendmsg"\)',
    (f"{SERVICES}/net/file_regions.py", "sendfile"): r'_SENDS.* and hasattr\(os, "sendfile"\)',
    (f"{SERVICES}/net/file_regions.py", "posix_fadvise"): r'hasattr\(os, "posix_fadvise"\)',
}
#: Only servers come there: files of theirs, by descriptors that only their stores give.
OF_SERVERS = {
    (f"{SERVICES}/net/file_regions.py", "pread"),
    (f"{SERVICES}/net/file_regions.py", "preadv"),
    (f"{SERVICES}/net/http/static_files.py", "pread"),
}


def uses(tree: ast.AST) -> Iterator[str]:
    """The names that only POSIX has, as far as the text of a module tells."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names if each.name in MODULES)
            case ast.ImportFrom(module=str(module), names=names):
                if module in MODULES:
                    yield module
                yield from (each.name for each in names if each.name in NAMES.get(module, ()))
            case ast.Attribute(value=ast.Name(id=owner), attr=name) if name in NAMES.get(owner, ()):
                yield name
            case ast.Attribute(attr=name) if name in METHODS:
                yield name


def found() -> set[tuple[str, str]]:
    return {
        (path.relative_to(ROOT).as_posix(), name)
        for part in PARTS
        for path in (ROOT / part).rglob("*.py")
        for name in uses(ast.parse(path.read_text(encoding="utf-8")))
    }


def test_nothing_is_used_that_others_do_not_have() -> None:
    assert found() - GUARDED.keys() - OF_SERVERS == set()
    # What is not used any more needs no exception.
    assert GUARDED.keys() | OF_SERVERS <= found()


@pytest.mark.parametrize(("module", "name"), GUARDED)
def test_there_is_something_in_its_place(module: str, name: str) -> None:
    text = (ROOT / module).read_text(encoding="utf-8")
    assert re.search(GUARDED[module, name], text), f"{name} is used where it is not there, too"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import fcntl", ["fcntl"]),
        ("from os import pread", ["pread"]),
        ("import os\nos.fork()", ["fork"]),
        ("connection.sendmsg([])", ["sendmsg"]),
        ("import signal\nsignal.signal(signal.SIGHUP, x)", ["SIGHUP"]),
        ("import os\nos.stat('.')\nother.fork()", []),
    ],
)
def test_such_names_are_seen(text: str, names: list[str]) -> None:
    assert list(uses(ast.parse(text))) == names
