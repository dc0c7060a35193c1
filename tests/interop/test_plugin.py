"""The plug-in of examples/, installed by pip, served by `isocenter serve`, asked by pynetdicom."""

from __future__ import annotations

import json
import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pynetdicom import AE

from support.plugins import EXAMPLE, install, wheel
from support.processes import (
    ENVIRONMENT,
    ISOCENTER,
    STOP_SECONDS,
    program,
    run,
    served_archive,
    wait_for_line,
    wait_until,
)

RAW_DATA = "2.25.160447813486329485038264826194826371"
CT = "1.2.840.10008.5.1.4.1.1.2"


class Site:
    """An installation with the plug-in."""

    def __init__(self, folder: Path, source: str) -> None:
        self.folder = folder
        self.packages = folder / "packages"
        built = wheel(
            folder, "acme-raw-data", "1.0", "acme_raw_data", source, raw_data="acme_raw_data:plugin"
        )
        install(self.packages, built)
        self.environment = {
            "PYTHONPATH": os.pathsep.join((ENVIRONMENT["PYTHONPATH"], str(self.packages)))
        }
        self.config = folder / "isocenter.toml"
        self.raw = folder / "raw"
        self.configure("folder = 'raw'")

    def configure(self, settings: str) -> None:
        self.config.write_text(
            f"[[plugins]]\nname = 'raw-data'\n{settings}\n"
            "[server]\nport = 0\n[tls]\nenabled = false\n[storage]\ndata_dir = 'data'\n"
            "[monitoring]\nport = 0\n"
        )

    def isocenter(self, *words: object, code: int = 0) -> str:
        done = run(*ISOCENTER, *words, environment=self.environment)
        assert done.returncode == code, done.stdout
        return done.stdout

    @contextmanager
    def served(self) -> Iterator[int]:
        log = self.folder / "serve.log"
        command = (*ISOCENTER, "serve", "--config", self.config)
        with program(*command, log=log, environment=self.environment) as process:
            yield int(wait_for_line(process, r"^ready dicom://[^ ]*:(\d+)", log)[1])


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, EXAMPLE.read_text("utf-8"))


def send(port: int, *objects: pydicom.Dataset, ae_title: str = "SCANNER") -> list[int]:
    """The statuses; -1 where no presentation context was accepted."""
    ae = AE(ae_title)
    for uid in {one.SOPClassUID for one in objects}:
        ae.add_requested_context(uid)
    association = ae.associate("127.0.0.1", port, ae_title="ISOCENTER")
    if not association.is_established:
        return [-1] * len(objects)
    accepted = {one.abstract_syntax for one in association.accepted_contexts}
    statuses = [
        association.send_c_store(one).Status if one.SOPClassUID in accepted else -1
        for one in objects
    ]
    association.release()
    return statuses


def raw_data() -> pydicom.Dataset:
    dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = RAW_DATA
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.99"
    return dataset


def test_a_plugin_serves_when_the_settings_name_it(site: Site) -> None:
    image = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    with site.served() as port:
        said = site.folder.joinpath("serve.log").read_text()
        assert "plug-in                      raw-data (acme-raw-data 1.0)" in said
        assert send(port, image, raw_data()) == [0, 0]
        # What it checks and counts is what the server says.
        monitoring = re.search(r"(http://127\.0\.0\.1:\d+)/metrics", said)
        assert monitoring is not None
        with urllib.request.urlopen(f"{monitoring[1]}/health") as answer:
            assert json.load(answer)["checks"] == {"raw-data.disk": {"ok": True}}
        with urllib.request.urlopen(f"{monitoring[1]}/metrics") as answer:
            (size,) = re.findall(
                rb"isocenter_plugin_raw_data_bytes_total ([0-9.]+)\n", answer.read()
            )
    (kept,) = site.raw.rglob("*.dcm")
    assert 0 < float(size) < kept.stat().st_size
    assert pydicom.dcmread(kept).SOPClassUID == RAW_DATA
    # In the archive is the image, and the raw data are not.
    (stored,) = (site.folder / "data" / "objects").rglob("*.dcm")
    assert pydicom.dcmread(stored).SOPClassUID == CT

    records = [
        json.loads(line)
        for line in site.isocenter(
            "audit", "export", "--data-dir", site.folder / "data"
        ).splitlines()
        if line.startswith("{")
    ]
    (started,) = (one for one in records if "configuration:plugin:raw-data" in one["message"])
    assert started["type"] == "Software Configuration"
    (done,) = (one for one in records if RAW_DATA in one["message"])
    assert done["event"] == "DICOM Instances Accessed"
    assert "AETITLES=SCANNER" in done["message"]
    # The study, and its patient, whom the archive knows from the image.
    assert image.StudyInstanceUID in done["message"]
    assert image.PatientID in done["message"]


def test_what_the_settings_do_not_name_serves_nothing(site: Site) -> None:
    site.config.write_text(site.config.read_text().partition("[server]")[2].join(("[server]", "")))
    with site.served() as port:
        assert send(port, raw_data()) == [-1]
    assert not site.raw.exists()


def test_the_policy_says_who_may(site: Site) -> None:
    with site.served() as port:
        where = ("--data-dir", site.folder / "data")
        site.isocenter("ae", "add", "SCANNER", "--role", "Modality", *where)
        site.isocenter("ae", "add", "VIEWER", "--role", "Viewer", *where)
        assert send(port, raw_data()) == [0]
        assert send(port, raw_data(), ae_title="VIEWER") == [-1]


def test_a_plugin_may_need_more_than_its_operation_does(tmp_path: Path) -> None:
    source = EXAMPLE.read_text("utf-8")
    needs = 'operations=("C-STORE",), permissions=("system:execute",)'
    site = Site(tmp_path, source.replace('operations=("C-STORE",)', needs))
    image = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    with site.served() as port:
        where = ("--data-dir", site.folder / "data")
        site.isocenter("ae", "add", "SCANNER", "--role", "Modality", *where)
        assert send(port, image, raw_data()) == [0, -1]
        log = site.folder.joinpath("serve.log").read_text()
        assert "SCANNER lacks system:execute for C-STORE; allow it with " in log
        site.isocenter("ae", "allow", "SCANNER", "system:execute", *where)
        assert send(port, raw_data()) == [0]
    assert "| C-STORE | system:execute |" in site.isocenter("conformance", "--config", site.config)


def test_the_conformance_statement_and_the_settings_know_it(site: Site) -> None:
    statement = site.isocenter("conformance", "--config", site.config)
    row = f"| raw-data | acme-raw-data 1.0 | Acme Raw Data Storage | {RAW_DATA} | C-STORE | "
    assert f"{row}study:write |" in statement
    assert f"| Acme Raw Data Storage | {RAW_DATA} | no | yes |" in statement
    assert "Raw-data, beside those:" in statement

    said = site.isocenter("config", "explain", "plugins", "--config", site.config)
    assert "Installed plug-ins: raw-data" in said
    assert "raw-data (acme-raw-data 1.0): Keeps the raw data of Acme's scanners" in said
    assert "plugins.raw-data.folder" in said
    assert 'now       "raw"' in said
    assert 'plugins = [\n    { name = "raw-data", folder = "raw" },\n]' in site.isocenter(
        "config", "show", "--config", site.config
    )


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ("", "raw-data (acme-raw-data 1.0): folder is missing: where the files go"),
        ("folder = 'raw'\nflder = 1", "there is no flder; it has folder"),
        ("folder = 'isocenter.toml'", "raw-data (acme-raw-data 1.0) fails: FileExistsError"),
    ],
)
def test_a_server_with_a_broken_plugin_does_not_start(
    site: Site, settings: str, fault: str
) -> None:
    site.configure(settings)
    said = site.isocenter("serve", "--config", site.config, code=2)
    assert fault in said
    assert "isocenter serve: Traceback" not in said


HANGING = """        import time
        await trio.to_thread.run_sync(time.sleep, 3600)
        return ""
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_check_that_hangs_in_a_thread_lets_the_server_end(tmp_path: Path, workers: int) -> None:
    head, _, rest = EXAMPLE.read_text("utf-8").partition("    async def disk() -> str:\n")
    _, _, rest = rest.partition("\n\n")
    site = Site(tmp_path, f"{head}    async def disk() -> str:\n{HANGING}\n{rest}")
    text = site.config.read_text().replace("[server]\n", f"[server]\nworkers = {workers}\n")
    site.config.write_text(f"{text}check_timeout = 1\n")
    log = tmp_path / "serve.log"
    command = (*ISOCENTER, "serve", "--config", site.config)
    with program(*command, log=log, environment=site.environment) as process:
        wait_for_line(process, r"^ready dicom://[^ ]*:(\d+)", log)
        said = re.search(r"(http://127\.0\.0\.1:\d+)/metrics", log.read_text())
        assert said is not None
        try:
            answer = urllib.request.urlopen(f"{said[1]}/health")
        except urllib.error.HTTPError as error:  # the disk is slow today
            answer = error
        with answer:
            checks = json.load(answer)["checks"]
        assert checks == {"raw-data.disk": {"ok": False, "message": "no answer within 1 s"}}
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0
    line = "the check raw-data.disk of the plug-in raw-data hangs; the process ends without it"
    assert log.read_text().count(line) == 1
    # It has ended as one does that is asked to: another takes the archive at once.
    with served_archive(tmp_path):
        assert "studies  " in site.isocenter("db", "stats", "--config", site.config)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_operation_that_hangs_in_a_thread_lets_the_server_end(
    tmp_path: Path, workers: int
) -> None:
    source = EXAMPLE.read_text("utf-8").replace(
        "        size.add(received.size)\n",
        "        import time\n"
        "        (folder / 'begun').write_text('')\n"
        "        await trio.to_thread.run_sync(time.sleep, 3600)\n",
    )
    site = Site(tmp_path, source)
    text = site.config.read_text().replace("[server]\n", f"[server]\nworkers = {workers}\n")
    site.config.write_text(f"{text}[deadlines]\nshutdown = 1\n")
    image = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    log = tmp_path / "serve.log"
    command = (*ISOCENTER, "serve", "--config", site.config)
    with program(*command, log=log, environment=site.environment) as process:
        port = int(wait_for_line(process, r"^ready dicom://[^ ]*:(\d+)", log)[1])
        assert send(port, image) == [0]
        ae = AE("SCANNER")
        ae.dimse_timeout = None
        ae.add_requested_context(RAW_DATA)
        association = ae.associate("127.0.0.1", port, ae_title="ISOCENTER")
        assert association.is_established
        sender = threading.Thread(target=association.send_c_store, args=(raw_data(),))
        sender.start()
        wait_until((site.raw / "begun").exists, process)
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0
        sender.join()
    line = "the operation C-STORE of the plug-in raw-data hangs; the process ends without it"
    assert log.read_text().count(line) == 1
    # What was acknowledged is there, and another takes the archive at once.
    with served_archive(tmp_path):
        said = site.isocenter("db", "stats", "--config", site.config)
        assert re.search(r"^instances +1$", said, re.MULTILINE)


def test_a_check_names_what_is_broken_and_what_is_not_there(tmp_path: Path) -> None:
    site = Site(tmp_path, "import nothing_like_that")
    said = site.isocenter(
        "serve", "--config", site.config, "--plugin", "raw-data", "--plugin", "other",
        "--check-config", code=2,
    )  # fmt: skip
    assert "cannot be imported from acme_raw_data:plugin: ModuleNotFoundError" in said
    assert "there is no plug-in 'other' in this Python environment (installed: raw-data)" in said
    # What does not serve, needs no plug-in, and imports none.
    site.config.write_text(site.config.read_text().replace("raw-data", "other"))
    with served_archive(tmp_path):
        assert "studies  " in site.isocenter("db", "stats", "--config", site.config)
