"""Real programs as peers: our own command, DCMTK's, Orthanc; started and stopped by their id."""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import isocenter.engine
import isocenter.services
import isocenter.storage
from support.forked import Forking
from support.paths import SEARCH_PATH
from support.patients import named_in

START_SECONDS = 120.0
STOP_SECONDS = 120.0
RUN_SECONDS = 300.0

#: Where this process has Isocenter from: the checkout, or the wheel in site-packages.
_ROOTS = [
    str(Path(package.__path__[0]).parent.parent)
    for package in (isocenter.engine, isocenter.services, isocenter.storage)
]
ENVIRONMENT = {
    **os.environ,
    "PATH": SEARCH_PATH,
    "PYTHONPATH": os.pathsep.join(dict.fromkeys(_ROOTS)),
    # Many servers run at once here.
    "ISOCENTER__MONITORING__PORT": "0",
    "ISOCENTER__WEB__PORT": "0",
    # Nagle's algorithm off: without it DCMTK's tools wait 40 ms for each message.
    "TCP_NODELAY": "1",
}
ISOCENTER = (sys.executable, "-m", "isocenter.services.cli")
_FORKING = Forking(ENVIRONMENT)


def run(
    *command: object,
    cwd: Path | None = None,
    seconds: float = RUN_SECONDS,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; output and errors together, as text."""
    variables = {**ENVIRONMENT, **(environment or {})}
    if _is_ours(command) and _FORKING.takes(variables):
        return _run_forked([str(word) for word in command], variables, cwd, seconds)
    return subprocess.run(
        [str(word) for word in command],
        check=False,
        text=True,
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        timeout=seconds,
        env=variables,
        cwd=cwd,
    )


def _is_ours(command: Sequence[object]) -> bool:
    return command[: len(ISOCENTER)] == ISOCENTER


def _run_forked(
    command: list[str], environment: Mapping[str, str], cwd: Path | None, seconds: float
) -> subprocess.CompletedProcess[str]:
    words = command[len(ISOCENTER) :]
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = _FORKING.start(words, environment=environment, stdout=output.fileno(), cwd=cwd)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        output.seek(0)
        text = output.read()
    return subprocess.CompletedProcess(command, code, text)


def isocenter_command(
    *arguments: object, cwd: Path | None = None, seconds: float = RUN_SECONDS
) -> subprocess.CompletedProcess[str]:
    """`isocenter …`, to its end."""
    return run(*ISOCENTER, *arguments, cwd=cwd, seconds=seconds)


@contextmanager
def program(
    *command: object,
    log: Path,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    by_force: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:
    """A program in the background, its output in *log*; stopped at the end, by force if need be.

    Args:
        by_force: at once, where how it ends is of no interest.
    """
    variables = {**ENVIRONMENT, **(environment or {})}
    with log.open("wb") as output:
        process: subprocess.Popen[bytes]
        if _is_ours(command) and not pass_fds and _FORKING.takes(variables):
            words = [str(word) for word in command[len(ISOCENTER) :]]
            process = _FORKING.start(words, environment=variables, stdout=output.fileno(), cwd=cwd)
        else:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=variables,
                cwd=cwd,
                pass_fds=pass_fds,
            )
    try:
        yield process
    finally:
        if not by_force:
            process.terminate()
        try:
            process.wait(0 if by_force else STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if _is_ours(command):
        assert not named_in(log.read_text(errors="replace")), f"{log} names patients"


def wait_for_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until somebody listens on *port*."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        _check(process, deadline, log)


def wait_for_line(process: subprocess.Popen[bytes], pattern: str, log: Path) -> re.Match[str]:
    """Until a line of the output matches."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        whole_lines = log.read_text(errors="replace").rpartition("\n")[0]
        found = re.search(pattern, whole_lines, re.MULTILINE)
        if found is not None:
            return found
        _check(process, deadline, log)


def wait_until(
    is_so: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = START_SECONDS
) -> None:
    """Until *is_so* is true, which *process* brings about."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it took too long"
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.02)


def _check(process: subprocess.Popen[bytes], deadline: float, log: Path) -> None:
    assert process.poll() is None, f"ended with {process.poll()}:\n{log.read_text()}"
    assert time.monotonic() < deadline, f"did not start:\n{log.read_text(errors='replace')}"
    # Waiting for another process: there is nothing to be woken by.
    with suppress(subprocess.TimeoutExpired):
        process.wait(0.02)


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(word) for word in path.read_text().split()]


@dataclass
class ServedArchive:
    """`isocenter serve`, running."""

    process: subprocess.Popen[bytes]
    port: int
    tls_port: int | None
    data_dir: Path
    log: Path
    ae_title: str = "ISOCENTER"
    certificates: dict[str, tuple[Path, Path, Path]] = field(default_factory=dict)

    def kill(self) -> None:
        """SIGKILL to the first process; back when its workers, who notice, are gone as well."""
        watched = [os.pidfd_open(worker) for worker in workers_of(self.process)]
        self.process.kill()
        self.process.wait()
        for descriptor in watched:
            is_gone, _, _ = select.select([descriptor], [], [], STOP_SECONDS)
            os.close(descriptor)
            assert is_gone, "a worker outlives its parent"

    def certificate(self, ae_title: str, folder: Path) -> tuple[Path, Path, Path]:
        """Certificate, key and CA for a peer, issued by the archive's own CA."""
        if ae_title not in self.certificates:
            done = isocenter_command(
                "certs", "issue", ae_title.lower(), "--ae-title", ae_title,
                "--ca-dir", self.data_dir / "certs", "--out", folder,
                "--host", "127.0.0.1", "--host", "localhost",
            )  # fmt: skip
            assert done.returncode == 0, done.stdout
            stem = folder / ae_title.lower()
            self.certificates[ae_title] = (
                stem.with_suffix(".crt"), stem.with_suffix(".key"), folder / "ca.crt",
            )  # fmt: skip
        return self.certificates[ae_title]

    @property
    def web_url(self) -> str:
        """Where it offers DICOMweb in the clear, as its line `ready` says."""
        found = re.search(
            r"^ready .*(http://\S+/dicomweb)$", self.log.read_text("utf-8"), re.MULTILINE
        )
        assert found is not None
        return found[1]

    def objects(self) -> list[Path]:
        """The Part 10 files that it keeps."""
        return sorted((self.data_dir / "objects").rglob("*.dcm"))


@contextmanager
def served_archive(
    folder: Path,
    *options: object,
    tls: bool = False,
    plain: bool = True,
    run_by: Sequence[object] = (),
) -> Iterator[ServedArchive]:
    """`isocenter serve` on free ports, with its data in *folder*; *run_by* execs it."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "serve.log"
    words: list[object] = [
        *run_by,
        *ISOCENTER,
        "serve",
        "--data-dir",
        folder / "data",
        "--port",
        "0",
    ]
    words += ["--tls-host", "127.0.0.1", "--tls-port", "0"] if tls else ["--no-tls"]
    words += [] if plain else ["--no-plain"]
    with program(*words, *options, log=log) as process:
        ready = wait_for_line(process, r"^ready (.*)$", log)[1]
        ports = dict(re.findall(r"(dicom|dicom-tls)://[^ ]*:(\d+)", ready))
        yield ServedArchive(
            process,
            int(ports.get("dicom", 0)),
            int(ports["dicom-tls"]) if "dicom-tls" in ports else None,
            folder / "data",
            log,
        )


def options_for_tls(names: Sequence[Path], *, style: str = "dcmtk") -> list[object]:
    """How DCMTK's tools, or ours, are told of (certificate, key, CA)."""
    certificate, key, ca = names
    if style == "dcmtk":
        return ["+tls", key, certificate, "+cf", ca]
    return ["--tls", "--tls-cert", certificate, "--tls-key", key, "--tls-ca", ca]
