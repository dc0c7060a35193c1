"""An archive whose index is in PostgreSQL, with DCMTK, and when PostgreSQL goes away."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
import pytest

from support.corpus import data_set_bytes
from support.postgresql import Server, binaries, running_server
from support.processes import (
    ServedArchive,
    isocenter_command,
    run,
    served_archive,
    wait_until,
)
from support.studies import write_studies

pytestmark = [pytest.mark.interop("storescu", "findscu", "getscu"), pytest.mark.slow]
_DATABASE = "pacs"


@pytest.fixture(scope="module")
def server(postgresql_server: Server) -> Iterator[Server]:
    """One that may be stopped, and that syncs what it says it has."""
    assert binaries() is not None
    with running_server("fsync=on") as running:
        running.execute("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0", _DATABASE)
        yield running


@pytest.fixture(scope="module")
def archive(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedArchive]:
    folder = tmp_path_factory.mktemp("archive")
    with served_archive(folder, "--database", server.url(_DATABASE)) as served:
        yield served


def store(archive: ServedArchive, files: list[Path]) -> int:
    return run("storescu", "-aec", archive.ae_title, "127.0.0.1", archive.port, *files).returncode


def test_what_was_stored_is_found_and_comes_back(archive: ServedArchive, tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", studies=1, series=2, instances=3)
    assert store(archive, files) == 0
    sent = {str(pydicom.dcmread(path).SOPInstanceUID): path for path in files}
    study = pydicom.dcmread(files[0]).StudyInstanceUID
    found = run(
        "findscu", "-S", "-aec", archive.ae_title, "127.0.0.1", archive.port,
        "-k", "0008,0052=SERIES", "-k", f"0020,000D={study}", "-k", "0020,000E",
    )  # fmt: skip
    assert found.stdout.count("Pending") == 2
    out = tmp_path / "out"
    out.mkdir()
    run(
        "getscu", "+B", "-S", "-aec", archive.ae_title, "-od", out, "127.0.0.1", archive.port,
        "-k", "0008,0052=STUDY", "-k", f"0020,000D={study}",
    )  # fmt: skip
    came = {str(pydicom.dcmread(path).SOPInstanceUID): path for path in out.iterdir()}
    assert came.keys() == sent.keys()
    for uid, path in came.items():
        assert data_set_bytes(path) == data_set_bytes(sent[uid])


def test_a_backup_while_it_stores_is_served_and_found(
    archive: ServedArchive, server: Server, tmp_path: Path
) -> None:
    # The first study has more objects, of other tests.
    files = write_studies(tmp_path / "in", studies=9, series=2, instances=2)[4:]
    before, during = files[:4], files[4:]
    assert store(archive, before) == 0
    backups, new = tmp_path / "backups", tmp_path / "new"
    where = ("--data-dir", archive.data_dir, "--database", server.url(_DATABASE))
    with ThreadPoolExecutor(1) as executor:
        done = executor.submit(isocenter_command, "backup", backups, *where)
        assert store(archive, during) == 0
    assert done.result().returncode == 0, done.result().stdout
    verified = isocenter_command("backup", "--verify", backups)
    assert verified.returncode == 0, verified.stdout
    restored = isocenter_command("restore", backups, "--data-dir", new / "data")
    assert restored.returncode == 0, restored.stdout
    sent = {str(pydicom.dcmread(path).SOPInstanceUID): path for path in files}
    study = str(pydicom.dcmread(before[0]).StudyInstanceUID)
    with served_archive(new) as again:
        found = run(
            "findscu", "-S", "-aec", again.ae_title, "127.0.0.1", again.port,
            "-k", "0008,0052=SERIES", "-k", f"0020,000D={study}", "-k", "0020,000E",
        )  # fmt: skip
        assert found.stdout.count("Pending") == 2
        out = tmp_path / "out"
        out.mkdir()
        run(
            "getscu", "+B", "-S", "-aec", again.ae_title, "-od", out, "127.0.0.1", again.port,
            "-k", "0008,0052=STUDY", "-k", f"0020,000D={study}",
        )  # fmt: skip
    came = {str(pydicom.dcmread(path).SOPInstanceUID): path for path in out.iterdir()}
    assert len(came) == len(before)
    for uid, path in came.items():
        assert data_set_bytes(path) == data_set_bytes(sent[uid])


def test_a_rule_is_made_counted_explained_and_examined(
    archive: ServedArchive, server: Server, tmp_path: Path
) -> None:
    def command(*words: str) -> str:
        where = ("--data-dir", archive.data_dir, "--database", server.url(_DATABASE))
        done = isocenter_command(*words, *where)
        assert done.returncode in (0, 1), done.stdout
        return done.stdout

    command("node", "add", "FAR@127.0.0.1:1")
    command("rules", "add", "all", "--when", "modality=CT", "--forward", "FAR")
    command("node", "hold", "FAR")
    wait_until(lambda: "revision 1: in use" in archive.log.read_text(), archive.process)
    files = write_studies(tmp_path / "in", studies=10, series=1, instances=1)[-1:]
    assert store(archive, files) == 0
    study = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    wait_until(lambda: "what rules did" in command("rules", "explain", study), archive.process)
    said = command("doctor")
    assert "1 object for FAR wait: it is held" in said


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_nothing_acknowledged_is_lost_when_postgresql_goes_and_comes_back(
    archive: ServedArchive, server: Server, tmp_path: Path, mode: str
) -> None:
    before, during, after = (
        write_studies(tmp_path / name, studies=1, series=1, instances=2)
        for name in ("before", "during", "after")
    )
    assert store(archive, before) == 0
    server.stop(mode)
    assert store(archive, during) != 0
    server.start("fsync=on")
    assert store(archive, after) == 0
    done = isocenter_command(
        "db", "verify", "--data-dir", archive.data_dir, "--database", server.url(_DATABASE)
    )
    assert done.returncode == 0, done.stdout
    assert " 0 missing" in done.stdout
    assert " 0 not in the index" in done.stdout
