"""An archive whose objects are in S3, with DCMTK and over DICOMweb."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pydicom
import pytest

from support.buckets import new_location
from support.corpus import data_set_bytes
from support.postgresql import Server
from support.processes import ServedArchive, run, served_archive
from support.studies import write_studies

CREDENTIALS = ("env", "AWS_ACCESS_KEY_ID=somebody", "AWS_SECRET_ACCESS_KEY=secret")
LOCATION_PREFIX = "pacs"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedArchive]:
    folder = tmp_path_factory.mktemp("objects")
    location = new_location(LOCATION_PREFIX)
    with served_archive(folder, "--objects", location, run_by=CREDENTIALS) as served:
        yield served


@pytest.mark.interop("storescu", "getscu")
def test_what_was_stored_comes_back_byte_for_byte(archive: ServedArchive, tmp_path: Path) -> None:
    there_and_back(archive, tmp_path)


@pytest.mark.slow
@pytest.mark.interop("storescu", "getscu")
def test_with_the_index_in_postgresql(postgresql_server: Server, tmp_path: Path) -> None:
    name = postgresql_server.new_database()
    options = ["--database", postgresql_server.url(name), "--objects", new_location()]
    with served_archive(tmp_path / "archive", *options, run_by=CREDENTIALS) as archive:
        there_and_back(archive, tmp_path)
    postgresql_server.give_back(name)


def there_and_back(archive: ServedArchive, tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", studies=1, series=2, instances=3)
    done = run("storescu", "-aec", archive.ae_title, "127.0.0.1", archive.port, *files)
    assert done.returncode == 0, done.stdout
    assert archive.objects() == []
    sent = {str(pydicom.dcmread(path).SOPInstanceUID): path for path in files}
    study = pydicom.dcmread(files[0]).StudyInstanceUID
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


@pytest.mark.interop("storescu")
def test_a_frame_is_read_by_its_range(archive: ServedArchive, tmp_path: Path) -> None:
    (file,) = write_studies(tmp_path / "in", studies=1, series=1, instances=1)
    run("storescu", "-aec", archive.ae_title, "127.0.0.1", archive.port, file)
    image = pydicom.dcmread(file)
    url = (
        f"{archive.web_url}/studies/{image.StudyInstanceUID}/series/{image.SeriesInstanceUID}"
        f"/instances/{image.SOPInstanceUID}/frames/1"
    )
    answer = httpx.get(url, headers={"accept": "multipart/related; type=application/octet-stream"})
    assert answer.status_code == 200
    assert image.PixelData in answer.content
