"""Faults for a real server: a small disk of its own, system calls that fail, a clock that jumps."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from support.processes import (
    ISOCENTER,
    ServedArchive,
    program,
    run,
    served_archive,
    wait_for_line,
)

#: Mount a tmpfs of so many KiB over the data directory, for this process and its children.
_OWN_DISK = 'mount -t tmpfs -o size="$0k",mode=700 none "$1" && shift && exec "$@"'

#: Calls that the main thread of a server makes too, for its log.
_OF_MAIN_THREAD = frozenset(("write", "openat"))


@contextmanager
def on_own_disk(folder: Path, kibibytes: int, *options: object) -> Iterator[ServedArchive]:
    """`isocenter serve` whose data directory is a file system of that size.

    The mount lives in a namespace of the server's and ends with it.  `data_dir` is how it is
    seen from outside; SQLite follows it to the wrong place, so `verify_own_disk` asks inside.
    """
    mount_point = folder / "data"
    mount_point.mkdir(parents=True)
    run_by = ["unshare", "-Urm", "sh", "-c", _OWN_DISK, kibibytes, mount_point]
    with served_archive(folder, *options, run_by=run_by) as archive:
        archive.data_dir = Path(f"/proc/{archive.process.pid}/root{mount_point}")
        yield archive


def verify_own_disk(archive: ServedArchive) -> subprocess.CompletedProcess[str]:
    """`isocenter db verify` where the server's disk is mounted."""
    process = archive.process.pid
    data_dir = str(archive.data_dir).removeprefix(f"/proc/{process}/root")
    enter = ["nsenter", "-t", process, "-U", "-m", "--preserve-credentials"]
    return run(*enter, *ISOCENTER, "db", "verify", "--data-dir", data_dir)


def fill(folder: Path, *, leave: int) -> Path:
    """A file that takes all room in the file system but *leave* bytes."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        state = os.statvfs(folder)
        left = state.f_bavail * state.f_frsize - leave
        with suppress(OSError):  # the server writes as well: it is full before that
            while left > 0:
                left -= file.write(bytes(min(left, 1 << 16)))
    return path


class ThreadStarted(Exception):
    """A thread of the server began after `failing_calls`: its calls did not fail."""


@contextmanager
def failing_calls(archive: ServedArchive, calls: str, error: str, folder: Path) -> Iterator[None]:
    """Every such system call of the server fails, but for those of its main thread.

    That one only talks to peers and writes the log.

    Raises:
        ThreadStarted: at the end, where the main thread makes such calls, so that threads which
            it starts meanwhile are let alone as well.
    """
    main = archive.process.pid
    threads = _threads(main) - {main}
    words: list[object] = ["strace", "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"]
    of_main = not _OF_MAIN_THREAD.isdisjoint(calls.split(","))
    attached = threads if of_main else {main}
    for thread in attached:
        words += ["-p", thread]
    if not of_main:
        words.append("-f")
    log = folder / "strace.log"
    with program(*words, "-o", folder / "failed.calls", log=log) as process:
        for thread in attached:
            wait_for_line(process, rf"^strace: Process {thread} attached", log)
        try:
            yield
        finally:
            if of_main and _threads(main) - {main} - threads:
                raise ThreadStarted
        process.send_signal(signal.SIGINT)
        process.wait()


def _threads(process: int) -> set[int]:
    return {int(name) for name in os.listdir(f"/proc/{process}/task")}


def failed_calls(folder: Path) -> Sequence[str]:
    """What `failing_calls` made fail."""
    lines = (folder / "failed.calls").read_text().splitlines()
    return [line for line in lines if line.endswith("(INJECTED)")]


def alerts(log: Path) -> list[str]:
    """The lines of the log that say that storage fails."""
    text = log.read_text()
    return [line for line in text.splitlines() if "objects cannot be kept" in line]


def is_running(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is None
