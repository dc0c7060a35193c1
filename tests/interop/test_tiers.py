"""A served archive with a cold tier, asked by DCMTK and over DICOMweb."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pydicom
import pytest
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelGet,
)

from support.corpus import data_set_bytes
from support.processes import ServedArchive, isocenter_command, run, served_archive
from support.studies import write_studies

pytestmark = [pytest.mark.interop("storescu", "findscu", "getscu"), pytest.mark.slow]


class Site:
    """An archive whose first study is in the cold tier."""

    def __init__(self, folder: Path, served: ServedArchive, files: list[Path]) -> None:
        self.folder = folder
        self.served = served
        self.files = files
        self.study = str(pydicom.dcmread(files[0]).StudyInstanceUID)
        self.of_study = [
            path for path in files if pydicom.dcmread(path).StudyInstanceUID == self.study
        ]

    def tiers(self, *words: str) -> str:
        done = isocenter_command("tiers", *words, "--config", self.folder / "isocenter.toml")
        assert done.returncode == 0, done.stdout
        return done.stdout

    def availability(self) -> dict[str, str]:
        """By study, as C-FIND says."""
        answers = self.folder / "found"
        answers.mkdir(exist_ok=True)
        for old in answers.iterdir():
            old.unlink()
        found = run(
            "findscu", "-S", "-X", "-od", answers, "-aec", "ISOCENTER", "127.0.0.1",
            self.served.port, "-k", "0008,0052=STUDY", "-k", "0020,000D", "-k", "0008,0056",
        )  # fmt: skip
        assert found.returncode == 0, found.stdout
        items = [pydicom.dcmread(path, force=True) for path in answers.iterdir()]
        return {str(one.StudyInstanceUID): one.InstanceAvailability for one in items}

    def searched(self) -> dict[str, str]:
        """By study, as QIDO-RS says."""
        answer = httpx.get(f"{self.served.web_url}/studies").raise_for_status()
        return {one["0020000D"]["Value"][0]: one["00080056"]["Value"][0] for one in answer.json()}

    def refused(self) -> tuple[int, int]:
        """Final status and failed sub-operations of a C-GET by pynetdicom."""
        entity = AE()
        entity.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
        entity.add_requested_context(CTImageStorage)
        association = entity.associate(
            "127.0.0.1",
            self.served.port,
            ae_title="ISOCENTER",
            ext_neg=[build_role(CTImageStorage, scp_role=True)],
            evt_handlers=[(evt.EVT_C_STORE, lambda event: 0x0000)],
        )
        assert association.is_established
        asked = pydicom.Dataset()
        asked.QueryRetrieveLevel, asked.StudyInstanceUID = "STUDY", self.study
        statuses = [
            status
            for status, _ in association.send_c_get(
                asked, StudyRootQueryRetrieveInformationModelGet
            )
        ]
        association.release()
        return statuses[-1].Status, statuses[-1].NumberOfFailedSuboperations

    def get(self, name: str) -> tuple[str, dict[str, Path]]:
        folder = self.folder / name
        folder.mkdir()
        done = run(
            "getscu", "-v", "+B", "-S", "-aec", "ISOCENTER", "-od", folder, "127.0.0.1",
            self.served.port, "-k", "0008,0052=STUDY", "-k", f"0020,000D={self.study}",
        )  # fmt: skip
        came = {str(pydicom.dcmread(path).SOPInstanceUID): path for path in folder.iterdir()}
        return done.stdout, came


@pytest.fixture(params=["wait", "refuse"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    config = tmp_path / "isocenter.toml"
    config.write_text(
        f"""
        [storage]
        data_dir = "{tmp_path / "data"}"
        [web]
        enabled = true
        port = 0
        [monitoring]
        port = 0
        [tiers]
        cold = "file://{tmp_path / "cold"}"
        recall = "{request.param}"
        """
    )
    files = write_studies(tmp_path / "in", studies=2, series=1, instances=3)
    with served_archive(tmp_path, "--config", config) as served:
        stored = run("storescu", "-aec", "ISOCENTER", "127.0.0.1", served.port, *files)
        assert stored.returncode == 0
        site = Site(tmp_path, served, files)
        assert "moved 3 objects" in site.tiers("move", site.study, "--to", "cold")
        yield site


def test_a_cold_study_is_nearline_and_comes_back_when_it_is_asked_for(
    site: Site, request: pytest.FixtureRequest
) -> None:
    (other,) = site.availability().keys() - {site.study}
    nearline = {site.study: "NEARLINE", other: "ONLINE"}
    assert site.availability() == nearline
    assert site.searched() == nearline
    sent = {str(pydicom.dcmread(path).SOPInstanceUID): path for path in site.of_study}
    if "refuse" in request.node.callspec.id:
        # DCMTK's getscu goes away at the first that fails.
        status, failed = site.refused()
        assert status == 0xA702
        assert failed == 3
        answer = httpx.get(f"{site.served.web_url}/studies/{site.study}")
        assert answer.status_code == 503
        # What was wanted is being brought back.
        site.tiers("move", site.study, "--to", "hot")
    _, came = site.get("out")
    assert came.keys() == sent.keys()
    for uid, path in came.items():
        assert data_set_bytes(path) == data_set_bytes(sent[uid])
    assert site.availability() == {site.study: "ONLINE", other: "ONLINE"}
    assert site.searched() == {site.study: "ONLINE", other: "ONLINE"}
    assert len(site.served.objects()) == 6
    metrics = re.search(r"(http://\S+)/metrics", site.served.log.read_text("utf-8"))
    assert metrics is not None
    assert 'isocenter_tier_instances{tier="hot"}' in httpx.get(metrics[0]).text
