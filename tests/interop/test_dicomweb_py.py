"""dicomweb-client from PyPI: every service that it knows, against a served archive."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from pydicom.data import get_testdata_file
from requests import HTTPError

from support.processes import served_archive
from support.studies import ROOT, instance

AS_STORED = (("application/octet-stream", "*"),)
OBJECTS = (("application/dicom", "*"),)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DICOMwebClient]:
    """Of an archive with two studies and a compressed image."""
    folder = tmp_path_factory.mktemp("web")
    with served_archive(folder) as archive:
        found = DICOMwebClient(archive.web_url)
        items = [
            instance(study, series, n) for study in (1, 2) for series in (1, 2) for n in (1, 2)
        ]
        found.store_instances([*items, compressed()])
        yield found


def compressed() -> pydicom.Dataset:
    return pydicom.dcmread(str(get_testdata_file("SC_rgb_jpeg_dcmtk.dcm")))


def uids(series: int = 1, number: int = 1) -> tuple[str, str, str]:
    return f"{ROOT}.1", f"{ROOT}.1.{series}", f"{ROOT}.1.{series}.{number}"


def test_storing(client: DICOMwebClient) -> None:
    answer = client.store_instances([instance(3)])
    (stored,) = answer.ReferencedSOPSequence
    assert stored.ReferencedSOPInstanceUID == f"{ROOT}.3.1.1"
    assert "FailedSOPSequence" not in answer
    answer = client.store_instances([instance(3)], study_instance_uid=f"{ROOT}.3")
    assert len(answer.ReferencedSOPSequence) == 1
    with pytest.raises(HTTPError, match="409"):
        client.store_instances([instance(3)], study_instance_uid=f"{ROOT}.1")


def test_searching(client: DICOMwebClient) -> None:
    def values(found: list[dict[str, dict]], tag: str) -> list[str]:
        return sorted(one[tag]["Value"][0] for one in found)

    filters = {"PatientID": "P1", "AccessionNumber": "A?", "StudyDate": "20260101-"}
    studies = client.search_for_studies(search_filters=filters, fuzzymatching=True)
    assert {f"{ROOT}.1", f"{ROOT}.2"} <= set(values(studies, "0020000D"))
    every = client.search_for_studies(limit=1, get_remaining=True)
    assert len(every) == len(set(values(every, "0020000D"))) >= 3
    assert len(client.search_for_studies(limit=1, offset=1)) == 1
    (one,) = client.search_for_studies(
        search_filters={"StudyInstanceUID": f"{ROOT}.1"}, fields=["StudyDescription", "00080090"]
    )
    assert one["00081030"]["Value"] == ["Study 1"]
    series = client.search_for_series(f"{ROOT}.1", search_filters={"Modality": "CT"})
    assert values(series, "0020000E") == [f"{ROOT}.1.1", f"{ROOT}.1.2"]
    assert len(client.search_for_series()) >= 5
    images = client.search_for_instances(*uids()[:2])
    assert values(images, "00080018") == [uids()[2], uids(number=2)[2]]
    assert len(client.search_for_instances(f"{ROOT}.1")) == 4
    assert len(client.search_for_instances(limit=2)) == 2


def test_metadata(client: DICOMwebClient) -> None:
    assert len(client.retrieve_study_metadata(f"{ROOT}.1")) == 4
    assert len(client.retrieve_series_metadata(*uids()[:2])) == 2
    found = client.retrieve_instance_metadata(*uids())
    assert found["00100010"]["Value"] == [{"Alphabetic": "Müller^Jörg"}]
    uri = found["7FE00010"]["BulkDataURI"]
    pixels = instance().PixelData
    assert client.retrieve_bulkdata(uri) == [pixels]
    assert client.retrieve_bulkdata(uri, media_types=("application/octet-stream",)) == [pixels]
    assert list(client.iter_bulkdata(uri)) == [pixels]


def test_objects(client: DICOMwebClient) -> None:
    written = BytesIO()
    instance().save_as(written)
    sent = pydicom.dcmread(written, force=True)
    assert client.retrieve_instance(*uids(), media_types=OBJECTS) == sent
    # The default is Explicit VR Little Endian, whatever is stored.
    assert client.retrieve_instance(*uids()).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    for found in (
        client.retrieve_series(*uids()[:2]),
        list(client.iter_series(*uids()[:2], media_types=OBJECTS)),
    ):
        assert sorted(one.SOPInstanceUID for one in found) == [uids()[2], uids(number=2)[2]]
    for found in (client.retrieve_study(f"{ROOT}.1"), list(client.iter_study(f"{ROOT}.1"))):
        assert len(found) == 4
    image = compressed()
    names = (image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID)
    stored = client.retrieve_instance(*names, media_types=OBJECTS)
    assert stored.file_meta.TransferSyntaxUID == image.file_meta.TransferSyntaxUID
    assert stored.PixelData == image.PixelData
    with pytest.raises(HTTPError, match="404"):
        client.retrieve_study("1.2.3.4")


def test_frames_and_pictures(client: DICOMwebClient) -> None:
    pixels = instance().PixelData
    assert client.retrieve_instance_frames(*uids(), [1]) == [pixels]
    assert list(client.iter_instance_frames(*uids(), [1], media_types=AS_STORED)) == [pixels]
    image = compressed()
    names = (image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID)
    jpeg = (("image/jpeg", "1.2.840.10008.1.2.4.50"),)
    (frame,) = client.retrieve_instance_frames(*names, [1], media_types=jpeg)
    assert Image.open(BytesIO(frame)).size == (image.Columns, image.Rows)
    assert client.retrieve_instance_frames(*names, [1]) == [frame]
    plain = (("application/octet-stream", "1.2.840.10008.1.2.1"),)
    decoded = client.retrieve_instance_frames(*names, [1], media_types=plain)
    assert len(decoded[0]) == image.Rows * image.Columns * 3
    for found in (
        client.retrieve_instance_rendered(*names),
        client.retrieve_series_rendered(*names[:2]),
        client.retrieve_instance_frames_rendered(
            *names, [1], media_types=("image/png",), params={"viewport": "50,50"}
        ),
    ):
        assert Image.open(BytesIO(found)).format in ("JPEG", "PNG")
