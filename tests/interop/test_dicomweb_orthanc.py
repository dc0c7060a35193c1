"""Orthanc's DICOMweb plugin: as a server for our client, and as a client of our server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from isocenter.services.archive.index.attributes import Level
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.web.client.client import DicomWebClient
from isocenter.services.web.client.models import bulk_uri_of, dataset_of, value_of
from isocenter.services.web.client.object_files import DownloadFolder
from isocenter.services.web.client.resources import WebResource
from support.corpus import data_set_bytes
from support.peers import Orthanc, orthanc
from support.ports import free_port
from support.processes import ServedArchive, isocenter_command, served_archive
from support.studies import ROOT, write_studies

pytestmark = [pytest.mark.interop("Orthanc"), pytest.mark.slow]

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
OURS = "isocenter"


@dataclass
class Pair:
    """An archive of ours and an Orthanc that knows its DICOMweb service."""

    archive: ServedArchive
    orthanc: Orthanc
    url: str
    files: list[Path]

    @property
    def orthanc_url(self) -> str:
        """Where Orthanc's service is."""
        return f"http://127.0.0.1:{self.orthanc.http_port}/dicom-web"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    if not PLUGIN.exists():
        pytest.skip(f"needs {PLUGIN} (Debian: apt-get install orthanc-dicomweb)")
    folder = tmp_path_factory.mktemp("dicomweb")
    files = write_studies(folder / "sent")
    jpeg = get_testdata_file("SC_rgb_jpeg_dcmtk.dcm")
    files.append(Path(str(jpeg)))
    with served_archive(folder / "archive") as archive:
        more = {
            "Plugins": [str(PLUGIN)],
            "AuthenticationEnabled": False,
            "DicomWeb": {
                "Enable": True,
                "Root": "/dicom-web/",
                "Servers": {OURS: [f"{archive.web_url}/"]},
            },
        }
        with orthanc(folder / "orthanc", modalities={}, dicom_port=free_port(), more=more) as peer:
            for path in files:
                peer.post("/instances", path.read_bytes())
            yield Pair(archive, peer, archive.web_url, files)


@pytest.fixture
async def client(pair: Pair) -> AsyncIterator[DicomWebClient]:
    async with DicomWebClient(pair.orthanc_url) as found:
        yield found


# -- Our client at Orthanc -------------------------------------------------------------


def files_in(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in folder.rglob("*.dcm")}


async def test_what_we_store_there_comes_back(
    pair: Pair, client: DicomWebClient, tmp_path: Path
) -> None:
    pair.orthanc.delete_everything()
    items = [await DicomObject.from_file(path) for path in pair.files]
    outcomes = [one async for one in client.store(items)]
    assert [one.reason for one in outcomes if not one.is_stored] == []
    assert len(outcomes) == len(pair.files)
    studies = {value_of(one, "0020000D") async for one in client.search(Level.STUDY)}
    assert studies == {pydicom.dcmread(path).StudyInstanceUID for path in pair.files}
    for study in studies:
        folder = DownloadFolder(tmp_path)
        result = await client.download(WebResource(study), folder)
        assert not result.is_partial
    came = files_in(tmp_path)
    for path in pair.files:
        uid = pydicom.dcmread(path).SOPInstanceUID
        assert data_set_bytes(came[uid]) == data_set_bytes(path)
    # Orthanc knows no instance twice, and says so.
    again = [one async for one in client.store(items[:1])]
    assert again[0].is_stored


async def test_search_there(pair: Pair, client: DicomWebClient) -> None:
    async def found(level: Level, *keys: tuple[str, str], **options: int) -> list[str]:
        tag = {Level.STUDY: "0020000D", Level.SERIES: "0020000E", Level.IMAGE: "00080018"}[level]
        results = client.search(level, keys, **options)  # type: ignore[arg-type]
        return sorted([value_of(one, tag) async for one in results])

    assert await found(Level.STUDY, ("AccessionNumber", "A2")) == [f"{ROOT}.2"]
    assert await found(Level.STUDY, ("StudyDate", "20260101-20260131")) == [
        f"{ROOT}.1", f"{ROOT}.2",
    ]  # fmt: skip
    assert await found(Level.SERIES, ("StudyInstanceUID", f"{ROOT}.1")) == [
        f"{ROOT}.1.1", f"{ROOT}.1.2",
    ]  # fmt: skip
    instances = await found(Level.IMAGE, ("StudyInstanceUID", f"{ROOT}.1"), page=1)
    assert len(instances) == 4
    assert await found(Level.STUDY, ("PatientID", "NOBODY")) == []
    (model,) = [one async for one in client.search(Level.STUDY, [("AccessionNumber", "A1")])]
    assert dataset_of(model).PatientName == "Müller^Jörg"


async def test_metadata_frames_and_bulk_data_there(pair: Pair, client: DicomWebClient) -> None:
    image = pydicom.dcmread(pair.files[0])
    uids = (image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID)
    (model,) = await client.metadata(WebResource(*uids))
    assert value_of(model, "00080018") == image.SOPInstanceUID
    async with client.frames(WebResource(*uids, (1,)), transfer_syntax="") as parts:
        assert [await part.read(1 << 20) async for part in parts] == [image.PixelData]
    uri = bulk_uri_of(model, "7FE00010")
    assert uri
    async with client.bulk_data(uri) as parts:
        assert [await part.read(1 << 20) async for part in parts] == [image.PixelData]
    async with client.rendered(WebResource(*uids)) as parts:
        async for part in parts:
            assert (await part.read(1 << 20)).startswith(b"\xff\xd8")


def test_the_command_there(pair: Pair, tmp_path: Path) -> None:
    command = "dicomweb"
    done = isocenter_command(command, "search", pair.orthanc_url, "--patient-id", "P1", "-o", "csv")
    assert done.returncode == 0, done.stdout
    assert f"{ROOT}.1" in done.stdout
    done = isocenter_command(
        command, "retrieve", pair.orthanc_url, "--accession-number", "A1", "-od", tmp_path
    )
    assert done.returncode == 0, done.stdout
    done = isocenter_command(
        command, "retrieve", f"{pair.orthanc_url}/studies/{ROOT}.1", "-od", tmp_path,
        "--skip-existing",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "4 were there already" in done.stdout


# -- Orthanc's client at ours ------------------------------------------------------------


def test_orthanc_pushes_searches_and_pulls(pair: Pair) -> None:
    peer = pair.orthanc
    pushed = peer.post(
        f"/dicom-web/servers/{OURS}/stow", {"Resources": peer.get("/studies"), "Synchronous": True}
    )
    assert pushed is not None
    found = peer.post(
        f"/dicom-web/servers/{OURS}/qido",
        {"Uri": "/studies", "Arguments": {"AccessionNumber": "A1", "limit": "10"}},
    )
    assert [one["0020000D"]["Value"] for one in found] == [f"{ROOT}.1"]
    series = peer.post(
        f"/dicom-web/servers/{OURS}/qido", {"Uri": f"/studies/{ROOT}.1/series", "Arguments": {}}
    )
    assert sorted(one["0020000E"]["Value"] for one in series) == [f"{ROOT}.1.1", f"{ROOT}.1.2"]
    before = _files(peer)
    peer.delete_everything()
    studies = sorted({pydicom.dcmread(path).StudyInstanceUID for path in pair.files})
    peer.post(
        f"/dicom-web/servers/{OURS}/retrieve",
        {"Resources": [{"Study": uid} for uid in studies], "Synchronous": True},
    )
    assert _files(peer) == before
    metadata = peer.post(
        f"/dicom-web/servers/{OURS}/get",
        {"Uri": f"/studies/{ROOT}.1/metadata", "HttpHeaders": {"Accept": "application/dicom+json"}},
    )
    assert len(metadata) == 4


def _files(peer: Orthanc) -> dict[str, pydicom.Dataset]:
    found = {}
    for number in peer.get("/instances"):
        item = pydicom.dcmread(BytesIO(peer.get_bytes(f"/instances/{number}/file")))
        found[item.SOPInstanceUID] = item
    return found
