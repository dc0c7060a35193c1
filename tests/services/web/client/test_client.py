"""The DICOMweb client against our own server: what goes in comes out."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from isocenter.services.archive.index.attributes import Level
from isocenter.services.dicom.attribute_path import KeySyntaxError
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.net.http.client_errors import HttpStatusError
from isocenter.services.web.client.client import DicomWebClient
from isocenter.services.web.client.models import bulk_uri_of, dataset_of, value_of
from isocenter.services.web.client.object_files import DownloadFolder
from isocenter.services.web.client.resources import WebResource
from isocenter.services.web.client.storing import ObjectOutcome
from support.studies import ROOT, instance, write_studies
from support.web_archive import dicomweb_serving


@pytest.fixture
async def client() -> AsyncIterator[DicomWebClient]:
    async with dicomweb_serving(default=3, most=5) as url, DicomWebClient(url) as client:
        yield client


async def store(client: DicomWebClient, *items: pydicom.Dataset) -> list[ObjectOutcome]:
    return [one async for one in client.store(map(DicomObject.from_dataset, items))]


async def uids(client: DicomWebClient, level: Level, tag: str, **options: object) -> list[str]:
    found = client.search(level, **options)  # type: ignore[arg-type]
    return [value_of(one, tag) async for one in found]


async def test_all_pages_of_a_search(client: DicomWebClient) -> None:
    await store(client, *(instance(study) for study in range(1, 13)))
    found = await uids(client, Level.STUDY, "0020000D", page=5)
    assert sorted(found) == sorted(f"{ROOT}.{study}" for study in range(1, 13))
    assert len(await uids(client, Level.STUDY, "0020000D", page=5, limit=7)) == 7
    assert len(await uids(client, Level.STUDY, "0020000D", page=5, limit=7, offset=9)) == 3
    assert await uids(client, Level.STUDY, "0020000D", limit=0) == []


async def test_what_matches(client: DicomWebClient) -> None:
    await store(client, instance(1), instance(2), instance(2, 2), instance(2, 2, 2))

    async def found(level: Level, *keys: tuple[str, str]) -> list[str]:
        tag = {Level.STUDY: "0020000D", Level.SERIES: "0020000E", Level.IMAGE: "00080018"}[level]
        return [value_of(one, tag) async for one in client.search(level, keys)]

    assert await found(Level.STUDY, ("PatientName", "Müller^J*"), ("AccessionNumber", "A2")) == [
        f"{ROOT}.2"
    ]
    assert await found(Level.STUDY, ("0020,000D", f"{ROOT}.1\\{ROOT}.7")) == [f"{ROOT}.1"]
    series = await found(Level.SERIES, ("StudyInstanceUID", f"{ROOT}.2"))
    assert sorted(series) == [f"{ROOT}.2.1", f"{ROOT}.2.2"]
    images = await found(Level.IMAGE, ("SeriesInstanceUID", f"{ROOT}.2.2"))
    assert sorted(images) == [f"{ROOT}.2.2.1", f"{ROOT}.2.2.2"]
    assert await found(Level.STUDY, ("PatientName", "Nobody")) == []
    with pytest.raises(KeySyntaxError):
        await found(Level.STUDY, ("NoSuchKeyword", "x"))
    with pytest.raises(ValueError, match="no patients"):
        client.search(Level.PATIENT)


async def test_a_match_as_a_data_set(client: DicomWebClient) -> None:
    await store(client, instance())
    (model,) = [
        one async for one in client.search(Level.STUDY, [("StudyDescription", "")], fuzzy=True)
    ]
    found = dataset_of(model)
    assert found.PatientName == "Müller^Jörg"
    assert found.NumberOfStudyRelatedInstances == 1
    assert found.StudyDescription == "Study 1"


async def test_a_study_into_files(client: DicomWebClient, tmp_path: Path) -> None:
    sent = {path: path.read_bytes() for path in write_studies(tmp_path / "in", studies=1)}
    outcomes = [one async for one in client.store([await DicomObject.from_file(p) for p in sent])]
    assert [one.is_stored for one in outcomes] == [True] * len(sent)
    assert all(one.url.startswith(client.base) for one in outcomes)
    files = DownloadFolder(tmp_path / "out")
    await client.download(WebResource(f"{ROOT}.1"), files)
    assert files.counts.written == len(sent)
    for data in sent.values():
        dataset = pydicom.dcmread(io.BytesIO(data))
        came = tmp_path.joinpath(
            "out",
            dataset.StudyInstanceUID,
            dataset.SeriesInstanceUID,
            f"{dataset.SOPInstanceUID}.dcm",
        )
        assert pydicom.dcmread(came) == dataset
    # Once more: they are kept, and with `skip_existing` not even asked for.
    again = DownloadFolder(tmp_path / "out")
    await client.download(WebResource(f"{ROOT}.1"), again)
    assert (again.counts.written, again.counts.kept) == (0, len(sent))
    next(tmp_path.joinpath("out").rglob("*.dcm")).unlink()
    some = DownloadFolder(tmp_path / "out")
    await client.download(WebResource(f"{ROOT}.1"), some, skip_existing=True)
    assert (some.counts.written, some.counts.kept) == (1, len(sent) - 1)
    assert not [path for path in tmp_path.joinpath("out").iterdir() if path.suffix == ".part"]


async def test_a_series_and_an_instance(client: DicomWebClient, tmp_path: Path) -> None:
    await store(client, instance(1, 1, 1), instance(1, 2, 1), instance(1, 2, 2))
    for resource, count in (
        (WebResource(f"{ROOT}.1", f"{ROOT}.1.2"), 2),
        (WebResource(f"{ROOT}.1", f"{ROOT}.1.2", f"{ROOT}.1.2.2"), 1),
    ):
        files = DownloadFolder(tmp_path / str(count), "{instance}.dcm")
        await client.download(resource, files)
        assert files.counts.written == count
        assert await client.metadata(resource)
        assert len(await client.metadata(resource)) == count


async def test_frames_bulk_data_and_pieces_of_it(client: DicomWebClient) -> None:
    item = instance(rows=64)
    await store(client, item)
    resource = WebResource(f"{ROOT}.1", f"{ROOT}.1.1", f"{ROOT}.1.1.1")
    (model,) = await client.metadata(resource)
    uri = bulk_uri_of(model, "7FE00010")
    async with client.bulk_data(uri) as parts:
        (whole,) = [await part.read(1 << 20) async for part in parts]
    assert whole == item.PixelData
    async with client.bulk_data(uri, first=100, length=50) as parts:
        (piece,) = [await part.read(1 << 20) async for part in parts]
    assert piece == item.PixelData[100:150]
    async with client.frames(WebResource(*list_of(resource), (1,))) as parts:
        found = [(part.transfer_syntax, await part.read(1 << 20)) async for part in parts]
    assert found == [("1.2.840.10008.1.2.1", item.PixelData)]
    with pytest.raises(HttpStatusError, match="404 Not Found"):
        async with client.frames(WebResource(*list_of(resource), (2,))):
            pass
    with pytest.raises(ValueError, match="another server"):
        async with client.bulk_data("http://other.example/secret"):
            pass


def list_of(resource: WebResource) -> tuple[str, str, str]:
    return resource.study, resource.series, resource.instance


@pytest.mark.slow
async def test_pictures() -> None:
    path = get_testdata_file("CT_small.dcm")
    assert isinstance(path, str)
    head = pydicom.dcmread(path, stop_before_pixels=True)
    resource = WebResource(head.StudyInstanceUID, head.SeriesInstanceUID, head.SOPInstanceUID)
    async with dicomweb_serving(codecs=True) as url, DicomWebClient(url) as client:
        (outcome,) = [one async for one in client.store([await DicomObject.from_file(path)])]
        assert outcome.is_stored
        for media_type, begins in (("image/png", b"\x89PNG"), ("image/jpeg", b"\xff\xd8")):
            async with client.rendered(
                resource, media_types=[media_type], parameters=[("window", "40,400,linear")]
            ) as parts:
                (part,) = [part async for part in parts if (await part.read(1 << 20))[:4]]
            assert part.media_type is not None
            assert part.media_type.name == media_type
            async with client.rendered(resource, media_types=[media_type], thumbnail=True) as parts:
                async for small in parts:
                    assert (await small.read(1 << 20)).startswith(begins)


async def test_what_is_not_stored_and_why(client: DicomWebClient, tmp_path: Path) -> None:
    good = instance(1)
    other = instance(2)
    outcomes = [
        one
        async for one in client.store(
            map(DicomObject.from_dataset, (good, other)), study=f"{ROOT}.1"
        )
    ]
    assert [(one.is_stored, one.status) for one in outcomes] == [(True, None), (False, 0xA901)]
    assert outcomes[1].reason.startswith("the server answered A901H")
    # One that cannot be read costs the others nothing.
    (path,) = write_studies(tmp_path, studies=1, series=1, instances=1)
    item = await DicomObject.from_file(path)
    path.unlink()
    more = [DicomObject.from_dataset(instance(3)), item, DicomObject.from_dataset(instance(4))]
    outcomes = [one async for one in client.store(more)]
    assert [one.is_stored for one in outcomes] == [True, False, True]
    assert "cannot be read" in outcomes[1].reason
    found = await uids(client, Level.STUDY, "0020000D")
    assert sorted(found) == [f"{ROOT}.{study}" for study in (1, 3, 4)]
