"""The units of systemd, held against systemd itself, and what they promise against us."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from isocenter.services.net import listeners as listening
from isocenter.services.settings.loading import load_settings
from support.processes import ISOCENTER, program, run, wait_for_line

FOLDER = Path(__file__).parents[2] / "packaging" / "systemd"
UNITS = ("isocenter.service", "isocenter-dicom-tls.socket", "isocenter-dicom.socket")
#: In tenths; systemd calls less than 2 "OK", and most services are above 9.
MOST_EXPOSURE = 15


class _Unit(configparser.ConfigParser):
    """A unit file; the last of several values of a key counts."""

    def __init__(self, name: str) -> None:
        super().__init__(strict=False, interpolation=None, delimiters=("=",))
        self.read_string((FOLDER / name).read_text())

    def optionxform(self, optionstr: str) -> str:
        return optionstr


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a program that exists."""
    for name in UNITS:
        text = (FOLDER / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/isocenter/bin/isocenter", "/bin/true"))
    return tmp_path


@pytest.mark.interop("systemd-analyze")
def test_systemd_understands_the_units(units: Path) -> None:
    done = run("systemd-analyze", "verify", *(units / name for name in UNITS))
    assert done.returncode == 0, done.stdout
    ours = [line for line in done.stdout.splitlines() if "isocenter" in line]
    assert ours == [], "no warning either"


@pytest.mark.interop("systemd-analyze")
def test_systemd_finds_little_that_the_service_could_do(units: Path) -> None:
    done = run(
        "systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSURE}",
        units / "isocenter.service",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_names_of_the_sockets_are_those_that_serve_knows() -> None:
    names = {name: _Unit(name)["Socket"]["FileDescriptorName"] for name in UNITS[1:]}
    assert names == {
        "isocenter-dicom-tls.socket": listening.TLS_NAME,
        "isocenter-dicom.socket": listening.PLAIN_NAME,
    }


def test_in_the_clear_only_this_machine_is_served() -> None:
    assert _Unit("isocenter-dicom.socket")["Socket"]["ListenStream"].startswith("127.0.0.1:")


def test_systemd_waits_for_longer_than_the_server_takes_to_stop() -> None:
    wait = float(_Unit("isocenter.service")["Service"]["TimeoutStopSec"])
    assert wait > load_settings(environ={}).deadlines.shutdown + 5


def test_the_settings_that_are_installed_load() -> None:
    settings = load_settings(FOLDER / "isocenter.toml", environ={})
    state = _Unit("isocenter.service")["Service"]["StateDirectory"]
    assert str(settings.storage.data_dir) == f"/var/lib/{state}"


#: Refuses memory that is written and executed, from here on, as MemoryDenyWriteExecute= does.
_DENY = """
import ctypes, os, sys
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
if ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
    sys.exit(77)
os.execv(sys.argv[1], sys.argv[1:])
"""


def _can_deny() -> bool:
    if sys.platform != "linux" or shutil.which("true") is None:
        return False
    words = [sys.executable, "-c", _DENY, "/bin/true"]
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not _can_deny(), reason="needs Linux 6.3 (PR_SET_MDWE)")
def test_it_serves_without_memory_that_is_written_and_executed(tmp_path: Path) -> None:
    log = tmp_path / "serve.log"
    words = ("serve", "--data-dir", tmp_path / "data", "--port", "0", "--tls-host", "127.0.0.1")
    command = (sys.executable, "-c", _DENY, *ISOCENTER, *words, "--tls-port", "0")
    with program(*command, log=log) as process:
        ready = wait_for_line(process, r"^ready dicom://127\.0\.0\.1:(\d+)", log)
        done = run(*ISOCENTER, "doctor", f"ISOCENTER@127.0.0.1:{ready[1]}", "--store", "--find")
        assert done.returncode == 0, done.stdout
