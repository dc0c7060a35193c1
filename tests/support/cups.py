"""A print server of CUPS and an IPP printer, each of the test's own, on ports of their own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from support.processes import program, run, wait_for_port, wait_until

#: What has to be on the PATH (Debian: cups-daemon, cups-client, cups-ipp-utils, dbus-daemon).
PROGRAMS: Final = ("cupsd", "lp", "lpadmin", "ippeveprinter", "dbus-daemon")

_SERVER: Final = """\
Listen 127.0.0.1:{port}
LogLevel info
Browsing No
DefaultAuthType None
WebInterface No
JobRetryInterval 1
<Location />
  Order allow,deny
  Allow all
</Location>
<Location /admin>
  Order allow,deny
  Allow all
</Location>
<Policy default>
  <Limit All>
    Order deny,allow
  </Limit>
</Policy>
"""
_FILES: Final = """\
ServerRoot {folder}/root
RequestRoot {folder}/spool
CacheDir {folder}/cache
StateDir {folder}/state
TempDir {folder}/spool
AccessLog {folder}/access.log
ErrorLog {folder}/error.log
PageLog {folder}/page.log
Printcap {folder}/printcap
User nobody
Group nogroup
SystemGroup root
"""


@contextmanager
def public_folder() -> Iterator[Path]:
    """A folder that other users may read: cupsd of root prints as nobody."""
    with tempfile.TemporaryDirectory(prefix="isocenter-cups-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextmanager
def ipp_printer(folder: Path, port: int) -> Iterator[Path]:
    """An IPP Everywhere printer that takes PDF; the folder where it keeps what was printed.

    What it was told of each job is in ``printer.log``.
    """
    folder.mkdir()
    paper, bus = folder / "paper", folder / "bus"
    paper.mkdir()
    # It wants to tell the network of itself, which needs a bus, though nobody need be on it.
    with program(
        "dbus-daemon", "--session", "--nofork", f"--address=unix:path={bus}",
        log=folder / "bus.log", by_force=True,
    ) as process:  # fmt: skip
        wait_until(bus.exists, process)
        with program(
            "ippeveprinter", "-r", "off", "-n", "localhost", "-p", port, "-d", paper, "-k", "-vv",
            "-f", "application/pdf", "Film", log=folder / "printer.log",
            environment={"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={bus}"}, by_force=True,
        ) as printer:  # fmt: skip
            wait_for_port(printer, port, folder / "printer.log")
            yield paper


@contextmanager
def print_server(folder: Path, port: int, printer: int) -> Iterator[None]:
    """A scheduler of CUPS on *port*, with a queue ``film`` for the IPP printer on *printer*."""
    folder.mkdir()
    for name in ("root", "spool", "cache", "state"):
        (folder / name).mkdir()
    (folder / "cupsd.conf").write_text(_SERVER.format(port=port))
    (folder / "cups-files.conf").write_text(_FILES.format(folder=folder))
    # A copy, since AppArmor lets the one that is installed read no folder of ours.
    binary = Path(shutil.copy(shutil.which("cupsd") or "", folder / "cupsd"))
    log = folder / "cupsd.log"
    with program(
        binary, "-f", "-c", folder / "cupsd.conf", "-s", folder / "cups-files.conf",
        log=log, environment={"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={os.devnull}"},
    ) as process:  # fmt: skip
        wait_for_port(process, port, log)
        made = run(
            "lpadmin", "-h", f"127.0.0.1:{port}", "-p", "film", "-E",
            "-v", f"ipp://127.0.0.1:{printer}/ipp/print?waitjob=false", "-m", "raw",
        )  # fmt: skip
        assert made.returncode == 0, made.stdout
        yield
