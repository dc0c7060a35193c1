"""Jobs of `isocenter serve` with archives of other people, over DIMSE and DICOMweb."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from support.peers import Orthanc, PeerArchive, dcmqrscp, orthanc, qrscp
from support.ports import free_port
from support.processes import (
    ServedArchive,
    isocenter_command,
    run,
    served_archive,
    wait_until,
)
from support.studies import ROOT, write_studies

pytestmark = [pytest.mark.slow, pytest.mark.interop("dcmqrscp", "storescu", "Orthanc")]

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
SECONDS = 60.0


def command(archive: ServedArchive, *words: object) -> subprocess.CompletedProcess[str]:
    """`isocenter …` beside the server."""
    return isocenter_command(*words, "--data-dir", archive.data_dir)


def done(archive: ServedArchive, *words: object) -> str:
    result = command(archive, *words)
    assert result.returncode == 0, result.stdout
    return result.stdout


def jobs(archive: ServedArchive) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = orjson.loads(done(archive, "jobs", "list", "--json"))
    return found


def instances(archive: ServedArchive) -> set[str]:
    return {path.stem for path in archive.objects()}


@dataclass
class Others:
    """Archives of other people, filled alike."""

    dcmqrscp: PeerArchive
    qrscp: PeerArchive
    orthanc: Orthanc
    uids: set[str]

    def address(self, name: str) -> str:
        return {
            "dcmqrscp": f"QRSCP@127.0.0.1:{self.dcmqrscp.port}",
            "pynetdicom's qrscp": f"{self.qrscp.ae_title}@127.0.0.1:{self.qrscp.port}",
            "Orthanc": f"ORTHANC@127.0.0.1:{self.orthanc.dicom_port}",
            "Orthanc's DICOMweb": f"http://127.0.0.1:{self.orthanc.http_port}/dicom-web",
        }[name]


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Others]:
    folder = tmp_path_factory.mktemp("others")
    files = write_studies(folder / "sent", studies=3, series=2, instances=4)
    plugins = {"Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}
    more = {"AuthenticationEnabled": False} | (plugins if PLUGIN.exists() else {})
    with (
        dcmqrscp(folder / "dcmqrscp") as dcmtk,
        qrscp(folder / "qrscp") as pynetdicom,
        orthanc(
            folder / "orthanc",
            modalities={"us": {"AET": "ISOCENTER", "Host": "127.0.0.1", "Port": 1}},
            dicom_port=free_port(),
            more=more,
        ) as peer,
    ):
        for archive in (dcmtk, pynetdicom):
            result = run("storescu", "-aec", archive.ae_title, "127.0.0.1", archive.port, *files)
            assert result.returncode == 0, result.stdout
        for path in files:
            peer.post("/instances", path.read_bytes())
        yield Others(
            dcmtk, pynetdicom, peer, {f"{ROOT}.{path.stem.replace('-', '.')}" for path in files}
        )


@pytest.mark.parametrize(
    "name", ["dcmqrscp", "pynetdicom's qrscp", "Orthanc", "Orthanc's DICOMweb"]
)
def test_studies_come_and_go_back(name: str, others: Others, tmp_path: Path) -> None:
    if "web" in name and not PLUGIN.exists():
        pytest.skip(f"needs {PLUGIN} (Debian: apt-get install orthanc-dicomweb)")
    with served_archive(tmp_path) as archive:
        done(archive, "node", "add", others.address(name), "--name", "other")
        assert "other: online" in done(archive, "node", "test", "other")
        one = done(archive, "retrieve", "other", "--study", f"{ROOT}.2", "--wait")
        assert "8 objects came" in one
        keys = ("-k", "PatientID=P1", "-k", f"StudyInstanceUID={ROOT}.1\\{ROOT}.2\\{ROOT}.3")
        if name == "pynetdicom's qrscp":  # knows no lists of UIDs
            keys = ("--all",)
        rest = done(archive, "retrieve", "other", *keys, "--wait")
        assert "16 objects came, 8 were here already" in rest
        assert len(archive.objects()) == 24
        none = command(archive, "retrieve", "other", "--study", "1.2.3", "--no-such")
        assert none.returncode == 2
        # What it has not, it is given.
        files = write_studies(tmp_path / "more", studies=4, series=1, instances=3)
        new = [path for path in files if path.stem.startswith("4-")]
        result = run("storescu", "-aec", "ISOCENTER", "127.0.0.1", archive.port, *new)
        assert result.returncode == 0, result.stdout
        sent = done(archive, "send", f"{ROOT}.4", "other", "--wait")
        assert "3 objects were sent" in sent
        states = {job["state"] for job in jobs(archive)}
        assert states == {"completed"}
    with served_archive(tmp_path / "second") as second:
        done(second, "node", "add", others.address(name), "--name", "other")
        back = done(second, "retrieve", "other", "--study", f"{ROOT}.4", "--wait")
        assert "3 objects came" in back


def test_a_job_goes_on_after_a_kill_and_ends_once(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "sent", studies=4, series=2, instances=20, rows=256)
    with dcmqrscp(tmp_path / "qrscp") as qrscp:
        result = run("storescu", "-aec", qrscp.ae_title, "127.0.0.1", qrscp.port, *files)
        assert result.returncode == 0, result.stdout
        with served_archive(tmp_path / "archive") as archive:
            done(archive, "node", "add", f"QRSCP@127.0.0.1:{qrscp.port}")
            done(archive, "retrieve", "QRSCP", "--all")
            wait_until(lambda: bool(archive.objects()), archive.process, SECONDS)
            archive.kill()
        with served_archive(tmp_path / "archive") as archive:
            (job,) = jobs(archive)
            wait_until(
                lambda: jobs(archive)[0]["state"] == "completed", archive.process, 3 * SECONDS
            )
            (job,) = jobs(archive)
            assert (job["total"], job["done"] + job["skipped"], job["failed"]) == (160, 160, 0)
            assert len(archive.objects()) == 160
            assert "0 objects came, 160 were here already" in done(
                archive, "retrieve", "QRSCP", "--all", "--wait"
            )
            assert "0 changed, 0 unreadable" in done(archive, "db", "verify")


def test_without_a_server_the_command_does_the_work(others: Others, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    with served_archive(folder) as archive:
        done(archive, "node", "add", others.address("dcmqrscp"))
    waiting = command(archive, "retrieve", "QRSCP", "--study", f"{ROOT}.1")
    assert waiting.returncode == 0
    assert "no server runs" in waiting.stdout
    finished = command(archive, "retrieve", "QRSCP", "--study", f"{ROOT}.1", "--wait")
    assert finished.returncode == 0, finished.stdout
    assert "8 objects came" in finished.stdout
    assert len(archive.objects()) == 8
    unknown = command(archive, "retrieve", "NOBODY", "--all")
    assert unknown.returncode == 1
    assert "there is no node 'NOBODY'" in unknown.stdout


@pytest.mark.parametrize(
    ("name", "own"),
    [("dcmqrscp", 5), ("pynetdicom's qrscp", 8), ("Orthanc", 6), ("Orthanc's DICOMweb", 7)],
)
def test_archives_are_kept_alike(name: str, own: int, others: Others, tmp_path: Path) -> None:
    if "web" in name and not PLUGIN.exists():
        pytest.skip(f"needs {PLUGIN} (Debian: apt-get install orthanc-dicomweb)")
    files = write_studies(tmp_path / "own", studies=own, series=1, instances=3)
    new = [path for path in files if path.stem.startswith(f"{own}-")]
    with served_archive(tmp_path) as archive:
        result = run("storescu", "-aec", "ISOCENTER", "127.0.0.1", archive.port, *new)
        assert result.returncode == 0, result.stdout
        done(archive, "node", "add", others.address(name), "--name", "other")
        parameters = ("-p", "node=other", "-p", "direction=both")
        done(archive, "task", "add", "alike", "sync", "every 1d", *parameters)
        said = done(archive, "task", "run", "alike", "--wait")
        assert "1 to be sent" in said
        assert "to be retrieved" in said

        def are_over() -> bool:
            return all(job["state"] in ("completed", "failed") for job in jobs(archive))

        wait_until(are_over, archive.process, SECONDS)
        assert {job["state"] for job in jobs(archive)} == {"completed"}
        assert others.uids <= instances(archive)
        said = done(archive, "task", "run", "alike", "--wait").splitlines()[-1]
        assert re.fullmatch(r"alike: completed: \d+ alike", said), said
        assert not orjson.loads(done(archive, "sync", "list", "--json"))
