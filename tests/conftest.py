"""What all tests share: a clean environment, deterministic property tests, and who may skip."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from httpx._config import DEFAULT_TIMEOUT_CONFIG

from support.descriptors import SOCKET, open_here
from support.paths import SEARCH_PATH
from support.patients import Watch
from support.turns import turn

if TYPE_CHECKING:
    from support.postgresql import Server

#: What an `interop` marker without arguments needs.
DCMTK = ("echoscu", "storescu", "findscu", "movescu", "getscu", "dcmqrscp")

#: Seconds that httpx waits for a server; its own five are few on a busy machine.
HTTP_PATIENCE = 60.0

#: That a test may leave open in this process.
MOST_DESCRIPTORS = 400

#: Tests of what runs in this process.  The others start the product as a program of its own, and
#: what they leave open here is of a peer: pynetdicom never closes a socket that was reset.
IN_PROCESS = ("engine", "services", "storage", "simulation")

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("thorough", max_examples=5_000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def interop_is_required() -> bool:
    """In CI an interop test that cannot run is a failure."""
    required = os.environ.get("ISOCENTER_REQUIRE_INTEROP", "")
    if required:
        return required != "0"
    return os.environ.get("CI", "").lower() in {"1", "true"}


def pytest_configure(config: pytest.Config) -> None:
    os.environ["PATH"] = SEARCH_PATH
    # Hundreds of programs are started, and each would compile all that it imports.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    for wait in ("connect", "read", "write", "pool"):
        setattr(DEFAULT_TIMEOUT_CONFIG, wait, HTTP_PATIENCE)  # one object for all its clients
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As a shell starts what it runs in the background; tests press Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A peer's socket that nobody closed fails no test; ours does."""
    ours = tuple(Path(__file__).parent / wing for wing in IN_PROCESS)
    for item in items:
        if not any(item.path.is_relative_to(folder) for folder in ours):
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed .*socket:ResourceWarning"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    marker = item.get_closest_marker("interop")
    if marker is None:
        return
    missing = [name for name in marker.args or DCMTK if shutil.which(name) is None]
    if missing:
        message = (
            f"needs {', '.join(missing)} on the PATH "
            "(Debian: apt-get install dcmtk dicom3tools libgdcm-tools nodejs npm openjph-tools "
            "orthanc orthanc-dicomweb socat strace systemd util-linux cups-daemon cups-client "
            "cups-ipp-utils dbus-daemon)"
        )
        pytest.skip(message)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn every skipped interop test into a failure where interop is required."""
    report = yield
    is_interop = item.get_closest_marker("interop") is not None
    was_skipped = report.skipped and not hasattr(report, "wasxfail")
    if is_interop and was_skipped and interop_is_required():
        report.outcome = "failed"
        report.longrepr = f"must not be skipped in CI: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """A PostgreSQL server of the tests' own, with a template of our tables."""
    from support.postgresql import binaries, running_server

    if binaries() is None:
        message = "needs PostgreSQL (Debian: apt-get install postgresql)"
        if interop_is_required():
            pytest.fail(f"must not be skipped in CI: {message}")
        pytest.skip(message)
    with running_server() as server:
        server.make_template()
        yield server


@pytest.fixture(autouse=True)
def _in_turn(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Where tests run side by side (``-n``), those marked `alone` have no other beside them."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    of_all_workers = tmp_path_factory.getbasetemp().parent
    with turn(of_all_workers, alone=request.node.get_closest_marker("alone") is not None):
        yield


@pytest.fixture(autouse=True)
def _descriptors_are_closed() -> Iterator[None]:
    """Far below 1,024, above which `select` fails, and with it each program that uses it.

    A socket that nobody has closed is found here, not in a test after this one.
    """
    before = open_here()
    yield
    after = open_here()
    too_many = len(after) > max(MOST_DESCRIPTORS, len(before))
    # What a crash in a test has left is gone as soon as somebody looks for it.
    if too_many or after.count(SOCKET) > before.count(SOCKET):
        gc.collect()
        after = open_here()
    assert len(after) <= max(MOST_DESCRIPTORS, len(before)), Counter(after).most_common(12)


@pytest.fixture(autouse=True)
def _no_patient_in_the_log() -> Iterator[None]:
    """What is logged in this process; `support.processes.program` looks after the others.

    Afterwards logging is as it was: a command that a test runs in this process sets it up.
    """
    watch, logger = Watch(), logging.getLogger("isocenter")
    before = logger.level, logger.handlers[:], logger.propagate
    flags = logging.logThreads, logging.logProcesses, logging.logMultiprocessing, logging._srcfile
    logger.addHandler(watch)
    logger.setLevel(logging.DEBUG)
    yield
    level, logger.handlers[:], logger.propagate = before
    logger.setLevel(level)
    logging.logThreads, logging.logProcesses, logging.logMultiprocessing, logging._srcfile = flags
    assert not watch.lines, "the log names patients"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the developer has set for their own archive says nothing to a test."""
    for name in list(os.environ):
        if name.startswith("ISOCENTER_") and name != "ISOCENTER_REQUIRE_INTEROP":
            monkeypatch.delenv(name)
