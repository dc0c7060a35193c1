"""Programs in the background: started, watched through /proc, stopped by their id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import isocenter.engine
import isocenter.services
import isocenter.storage

START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.02
_REASON_LENGTH: Final = 120
_KIB: Final = 1 << 10
#: What resets the peak of a process (proc(5), clear_refs).
_RESET_PEAK: Final = "5"
#: Of /proc/PID/stat, behind the name: utime, stime, and those of the children waited for.
_TIMES: Final = slice(11, 15)

#: Where this process has Isocenter from: the checkout, or the wheel in site-packages.
_ROOTS: Final = [
    str(Path(package.__path__[0]).resolve().parent.parent)
    for package in (isocenter.engine, isocenter.services, isocenter.storage)
]
#: Where DCMTK and Orthanc are: not beside Python, where pynetdicom has programs of the same
#: names; and Debian keeps Orthanc where only root looks.
SEARCH_PATH: Final = os.pathsep.join(
    [
        *(
            folder
            for folder in os.environ.get("PATH", os.defpath).split(os.pathsep)
            if Path(folder) != Path(sys.executable).parent
        ),
        "/usr/sbin",
    ]
)
SERVER_ENVIRONMENT: Final = {
    **os.environ,
    "PATH": SEARCH_PATH,
    "PYTHONPATH": os.pathsep.join(dict.fromkeys(_ROOTS)),
    # DCMTK's servers (and Orthanc, which is made of its parts) without Nagle's algorithm:
    # else each answer of two packets waits 40 ms.
    "TCP_NODELAY": "1",
}


class NotStarted(Exception):
    """A program that is not there, ended at once, or never listened; says which."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Program:
    """One that runs, with whatever processes it starts."""

    process: subprocess.Popen[bytes]
    log: Path

    def tree(self) -> list[int]:
        """Its id and those of all that come from it, the dead that nobody waited for too."""
        found = [self.process.pid]
        for pid in found:
            with suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    with suppress(OSError):
                        found += map(int, _read(f"/proc/{pid}/task/{task}/children").split())
        return found

    def cpu_seconds(self) -> float:
        """User and system time of all its processes, past and present."""
        ticks = 0
        for pid in self.tree():
            with suppress(OSError):
                fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
                ticks += sum(map(int, fields[_TIMES]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """What the largest of its processes holds now."""
        return max((_status(pid, "VmRSS") for pid in self.tree()), default=0)

    def peak_bytes(self) -> int:
        """The most that one of its living processes held since `reset_peak`."""
        return max((_status(pid, "VmHWM") for pid in self.tree()), default=0)

    def reset_peak(self) -> None:
        for pid in self.tree():
            with suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK)


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _status(pid: int, name: str) -> int:
    """A figure of /proc/PID/status, in bytes; 0 for who is gone."""
    with suppress(OSError):
        for line in _read(f"/proc/{pid}/status").splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * _KIB
    return 0


@contextmanager
def started(
    command: Sequence[object],
    *,
    port: int,
    folder: Path,
    environment: Mapping[str, str] = SERVER_ENVIRONMENT,
) -> Iterator[Program]:
    """*command* in *folder*, from when it listens on *port* until the end of the block.

    Raises:
        NotStarted: it is not installed, it ended, or nobody listens after `START_SECONDS`.
    """
    log = folder / "log"
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                cwd=folder,
                start_new_session=True,  # Ctrl-C is ours; we stop it
            )
        except OSError as error:
            raise NotStarted(f"{command[0]}: {error.strerror}") from error
    program = Program(process, log)
    try:
        _wait_until(lambda: _listens(port), process, log)
        yield program
    finally:
        _stop(program)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _wait_until(done: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not done():
        if process.poll() is not None:
            lines = log.read_text(errors="replace").strip().splitlines()
            last = f": {lines[-1][:_REASON_LENGTH]}" if lines else ""
            raise NotStarted(f"ended with {process.returncode}{last}")
        if time.monotonic() > deadline:
            raise NotStarted(f"did not listen within {START_SECONDS:.0f} s")
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_SECONDS)


def _stop(program: Program) -> None:
    """Ask, then insist; and whoever serves one association in a process of its own too."""
    process = program.process
    others = program.tree()[1:]
    process.terminate()
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    finally:  # also when a second Ctrl-C comes
        process.kill()
        process.wait()
        for pid in others:
            with suppress(OSError):
                if os.getsid(pid) == process.pid:  # still the one that we knew
                    os.kill(pid, signal.SIGKILL)
