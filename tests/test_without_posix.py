"""Engine, clients and tools where the calls of POSIX are missing, as on Windows.

They are taken away from a Python of its own (`support.without_posix`); a server in full stands at
the other end.  What cannot be there says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from isocenter.services.cli.commands import COMMANDS
from support import without_posix
from support.processes import ENVIRONMENT, ServedArchive, program, served_archive, wait_for_line
from support.studies import write_studies

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="there is nothing to take away"),
]

EVERY_MODULE = """
import importlib, os, pkgutil, socket
assert not hasattr(os, "pread")
assert not hasattr(socket.socket, "sendmsg")
import isocenter.engine, isocenter.services, isocenter.storage
count = 0
for package in (isocenter.engine, isocenter.services, isocenter.storage):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
            count += 1
print(count)
"""
EVERY_HELP = """
from contextlib import redirect_stdout, suppress
from io import StringIO
from isocenter.services.cli import COMMANDS, main
for command in COMMANDS:
    with redirect_stdout(StringIO()) as said, suppress(SystemExit):
        main([command.name, "--help"])
    assert "examples:" in said.getvalue(), command.name
print(len(COMMANDS))
"""
IDENTITY = """
import os
from isocenter.services.security.audit.message_builder import ActiveProcess
here = ActiveProcess(ae_titles=("A",))
assert here.user and here.machine
"""


class Elsewhere:
    """Runs our programs without what POSIX has."""

    def __init__(self, folder: Path) -> None:
        taken = folder / "without"
        taken.mkdir()
        shutil.copy(without_posix.__file__, taken / "sitecustomize.py")
        path = os.pathsep.join(filter(None, [str(taken), ENVIRONMENT.get("PYTHONPATH", "")]))
        self.environment = {
            **ENVIRONMENT, "PYTHONPATH": path, "ISOCENTER_TEST_WITHOUT_POSIX": "1",
            "USERNAME": "operator",
        }  # fmt: skip

    def python(self, *words: object, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            check=False, text=True, timeout=120, env=self.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == code, done.stdout
        return done.stdout

    def isocenter(self, *words: object, code: int = 0) -> str:
        return self.python("-m", "isocenter.services.cli", *words, code=code)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Elsewhere:
    return Elsewhere(tmp_path)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedArchive]:
    folder = tmp_path_factory.mktemp("posix")
    with served_archive(folder, tls=True) as served:
        yield served


def test_every_module_can_be_imported(elsewhere: Elsewhere) -> None:
    assert int(elsewhere.python("-c", EVERY_MODULE)) > 300


def test_every_command_has_its_help(elsewhere: Elsewhere) -> None:
    assert int(elsewhere.python("-c", EVERY_HELP)) == len(COMMANDS)
    elsewhere.python("-c", IDENTITY)


def test_clients_do_their_work(
    elsewhere: Elsewhere, archive: ServedArchive, tmp_path: Path
) -> None:
    files = write_studies(tmp_path / "in", studies=1, series=1, instances=3)
    peer = f"ISOCENTER@127.0.0.1:{archive.port}"
    elsewhere.isocenter("echoscu", peer)
    elsewhere.isocenter("storescu", peer, *files)
    study = dcmread(files[0]).StudyInstanceUID
    found = elsewhere.isocenter(
        "findscu", peer, "-S", "-L", "STUDY", "-k", f"StudyInstanceUID={study}", "-o", "json"
    )
    assert str(study) in found
    elsewhere.isocenter(
        "getscu", peer, "-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}",
        "-od", tmp_path / "out",
    )  # fmt: skip
    came = sorted((tmp_path / "out").rglob("*.dcm"))
    assert {dcmread(path).SOPInstanceUID for path in came} == {
        dcmread(path).SOPInstanceUID for path in files
    }
    elsewhere.isocenter("commitscu", peer, *files)
    elsewhere.isocenter("worklistscu", peer, code=1)  # nothing is scheduled
    uid = elsewhere.isocenter(
        "mppsscu", peer, "create", "-aet", "CT1", "-k", "Modality=CT", "-k", "PatientID=P1"
    ).strip()
    elsewhere.isocenter("mppsscu", peer, "discontinue", uid, "-aet", "CT1")
    assert "C-ECHO" in elsewhere.isocenter("doctor", peer)


def test_clients_over_tls(elsewhere: Elsewhere, archive: ServedArchive, tmp_path: Path) -> None:
    elsewhere.isocenter(
        "certs", "issue", "ct1", "--ae-title", "CT1", "--data-dir", archive.data_dir, "--out",
        tmp_path,
    )  # fmt: skip
    (file,) = write_studies(tmp_path / "in", studies=1, series=1, instances=1)
    elsewhere.isocenter(
        "storescu", f"ISOCENTER@localhost:{archive.tls_port}", "-aet", "CT1", file,
        "--tls-cert", tmp_path / "ct1.crt", "--tls-key", tmp_path / "ct1.key",
        "--tls-ca", tmp_path / "ca.crt",
    )  # fmt: skip


def test_tools_that_need_no_server(elsewhere: Elsewhere, tmp_path: Path) -> None:
    where = ("--data-dir", tmp_path / "data")
    assert "[server]" in elsewhere.isocenter("config", "show", *where)
    assert "Verification" in elsewhere.isocenter("conformance", *where)
    assert "no limit on this system" in elsewhere.isocenter("doctor", *where)
    elsewhere.isocenter("certs", "init", *where)
    elsewhere.isocenter("ae", "add", "CT1", *where)
    assert "CT1" in elsewhere.isocenter("ae", "list", *where)


def test_a_server_in_memory(elsewhere: Elsewhere, tmp_path: Path) -> None:
    """Both ends without POSIX: what is sent comes back."""
    files = write_studies(tmp_path / "in", studies=1, series=1, instances=2)
    log = tmp_path / "serve.log"
    words = (
        sys.executable, "-m", "isocenter.services.cli", "serve", "--data-dir", ":memory:",
        "--no-tls", "--port", "0", "--monitoring-port", "0",
    )  # fmt: skip
    with program(*words, log=log, environment=elsewhere.environment) as process:
        port = wait_for_line(process, r"^ready dicom://127\.0\.0\.1:(\d+)", log)[1]
        peer = f"ISOCENTER@127.0.0.1:{port}"
        elsewhere.isocenter("storescu", peer, *files)
        study = dcmread(files[0]).StudyInstanceUID
        elsewhere.isocenter(
            "getscu", peer, "-S", "-k", "QueryRetrieveLevel=STUDY",
            "-k", f"StudyInstanceUID={study}", "-od", tmp_path / "out",
        )  # fmt: skip
        assert len(sorted((tmp_path / "out").rglob("*.dcm"))) == 2
    assert "Traceback" not in log.read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("serve", "--no-tls", "--port", "0"), 2, "no POSIX file locks"),
        (("serve", "--no-tls", "--port", "0", "--workers", "2"), 2, "need a system with fork"),
        (("import", "."), 1, "no POSIX file locks"),
        (("reload",), 1, "needs a system with SIGHUP"),
    ],
)
def test_what_cannot_be_says_so(
    elsewhere: Elsewhere, tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    output = elsewhere.isocenter(*words, "--data-dir", tmp_path / "data", code=code)
    assert said in output
    assert "Traceback" not in output


def test_dissect_reads_a_capture(elsewhere: Elsewhere, tmp_path: Path) -> None:
    with served_archive(tmp_path, "--capture", tmp_path / "captures") as served:
        elsewhere.isocenter("echoscu", f"ISOCENTER@127.0.0.1:{served.port}")
    (capture,) = (tmp_path / "captures").iterdir()
    said = elsewhere.isocenter("dissect", capture)
    assert "C-ECHO-RQ" in said
