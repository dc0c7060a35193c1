"""DICOMweb as programs of others see it: dicomweb-client, httpx, pydicom."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import httpx
import pydicom
import pytest
import trio
from dicomweb_client.api import DICOMwebClient
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from isocenter.services.notices import InstanceRefused, InstanceStored
from support.dicomweb import Served, served, serving

T = TypeVar("T")
FILES = ("CT_small.dcm", "JPEG2000.dcm", "SC_rgb_jpeg_dcmtk.dcm", "rtplan.dcm", "waveform_ecg.dcm")


def path_of(name: str) -> str:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    return path


def bytes_of(name: str) -> bytes:
    with open(path_of(name), "rb") as file:
        return file.read()


@pytest.fixture(scope="module")
def archive() -> Iterator[Served]:
    """With `FILES` in it."""
    with served() as found:
        client = DICOMwebClient(found.url)
        client.store_instances([pydicom.dcmread(path_of(name)) for name in FILES])
        yield found


@pytest.fixture(scope="module")
def base(archive: Served) -> str:
    return archive.url


@pytest.fixture
def notices(archive: Served) -> list[object]:
    """Those of this test."""
    archive.notices.clear()
    return archive.notices


@pytest.fixture(scope="module")
def client(base: str) -> DICOMwebClient:
    return DICOMwebClient(base)


def uids_of(name: str) -> tuple[str, str, str]:
    found = pydicom.dcmread(path_of(name), stop_before_pixels=True)
    return found.StudyInstanceUID, found.SeriesInstanceUID, found.SOPInstanceUID


def url_of(base: str, name: str) -> str:
    return "{}/studies/{}/series/{}/instances/{}".format(base, *uids_of(name))


def multipart(*objects: bytes, media_type: str = "application/dicom") -> dict[str, Any]:
    parts = [b"--b\r\nContent-Type: %s\r\n\r\n" % media_type.encode() + one for one in objects]
    return {
        "content": b"\r\n".join([*parts, b"--b--"]),
        "headers": {"content-type": 'multipart/related; type="application/dicom"; boundary=b'},
    }


def test_search(client: DICOMwebClient) -> None:
    studies = client.search_for_studies()
    assert len(studies) == len(FILES)
    dates = [study["00080020"].get("Value", [""])[0] for study in studies]
    assert dates == sorted(dates, reverse=True)
    (ct,) = client.search_for_studies(search_filters={"PatientName": "CompressedSamples^CT1"})
    assert ct["00100010"]["Value"] == [{"Alphabetic": "CompressedSamples^CT1"}]
    assert ct["00080061"]["Value"] == ["CT"]
    assert ct["00201208"]["Value"] == [1]
    assert ct["00081190"]["Value"][0].endswith(f"/studies/{uids_of('CT_small.dcm')[0]}")
    assert list(ct) == sorted(ct)
    assert len(client.search_for_series()) == len(FILES)
    (instance,) = client.search_for_instances(*uids_of("CT_small.dcm")[:2])
    assert instance["00080018"]["Value"] == [uids_of("CT_small.dcm")[2]]
    assert instance["00280010"] == {"vr": "US", "Value": [128]}
    assert client.search_for_studies(search_filters={"PatientID": "nobody"}) == []


def test_pages_neither_overlap_nor_leave_out(base: str) -> None:
    whole = httpx.get(f"{base}/instances").json()
    paged = [httpx.get(f"{base}/instances?limit=1&offset={n}") for n in range(len(FILES) + 1)]
    assert [one for page in paged for one in page.json()] == whole
    assert all("299" in page.headers["warning"] for page in paged[:-2])
    assert all("warning" not in page.headers for page in paged[-2:])
    assert httpx.get(f"{base}/instances?limit=101").json() == whole


def test_search_as_xml(base: str) -> None:
    answer = httpx.get(f"{base}/studies", headers={"accept": "application/dicom+xml"})
    assert answer.status_code == 406
    accept = 'multipart/related; type="application/dicom+xml"'
    answer = httpx.get(f"{base}/studies?limit=2", headers={"accept": accept})
    assert answer.content.count(b"<NativeDicomModel") == 2


@pytest.mark.parametrize("name", FILES)
def test_objects_come_back_as_they_were(client: DICOMwebClient, base: str, name: str) -> None:
    sent, uids = pydicom.dcmread(path_of(name)), uids_of(name)
    got = client.retrieve_instance(*uids, media_types=(("application/dicom", "*"),))
    assert got == sent
    single = httpx.get(
        url_of(base, name), headers={"accept": "application/dicom; transfer-syntax=*"}
    )
    assert pydicom.dcmread(io.BytesIO(single.content)) == sent
    (of_study,) = client.retrieve_study(uids[0], media_types=(("application/dicom", "*"),))
    assert of_study == sent


def test_syntaxes_on_request(base: str) -> None:
    def get(name: str, syntax: str) -> httpx.Response:
        accept = f"application/dicom{syntax and '; transfer-syntax=' + syntax}"
        return httpx.get(url_of(base, name), headers={"accept": accept}, timeout=60)

    def read(answer: httpx.Response) -> pydicom.Dataset:
        assert answer.status_code == 200, answer.text
        found = pydicom.dcmread(io.BytesIO(answer.content))
        said = answer.headers["content-type"].partition("transfer-syntax=")[2]
        assert said == found.file_meta.TransferSyntaxUID
        return found

    # A data set in implicit VR does not travel over the web as it is (PS3.18 8.7.3).
    plan = pydicom.dcmread(path_of("rtplan.dcm"))
    assert plan.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    for syntax in ("", "*", ExplicitVRLittleEndian):
        found = read(get("rtplan.dcm", syntax))
        assert found.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert found == plan
    assert get("rtplan.dcm", ImplicitVRLittleEndian).status_code == 406
    # What has losses may stay as it is when nothing is said, and is decoded when it is.
    rgb = pydicom.dcmread(path_of("SC_rgb_jpeg_dcmtk.dcm"))
    assert read(get(FILES[2], "")).file_meta.TransferSyntaxUID == rgb.file_meta.TransferSyntaxUID
    decoded = read(get(FILES[2], ExplicitVRLittleEndian))
    assert len(decoded.PixelData) == rgb.Rows * rgb.Columns * 3
    lossless = read(get("CT_small.dcm", "1.2.840.10008.1.2.4.80"))
    assert lossless.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.80"
    assert get("rtplan.dcm", "1.2.840.10008.1.2.4.80").status_code in (406, 500)


@pytest.mark.parametrize("name", FILES)
def test_metadata(client: DICOMwebClient, name: str) -> None:
    sent = pydicom.dcmread(path_of(name))
    found = client.retrieve_instance_metadata(*uids_of(name))
    assert list(found) == sorted(found)
    assert found["00083002"]["Value"] == [sent.file_meta.TransferSyntaxUID]
    expected = {f"{element.tag.group:04X}{element.tag.element:04X}" for element in sent}
    expected.discard("FFFCFFFC")  # padding says nothing
    assert expected <= set(found)
    for tag, attribute in found.items():
        if "BulkDataURI" in attribute:
            parts = client.retrieve_bulkdata(attribute["BulkDataURI"])
            if not sent.file_meta.TransferSyntaxUID.is_compressed:
                assert parts == [sent[int(tag, 16)].value]
    read = pydicom.Dataset.from_json(found, lambda *_: b"")
    assert read.SOPInstanceUID == sent.SOPInstanceUID


def test_metadata_of_a_series_compressed_and_conditional(base: str) -> None:
    url = url_of(base, "CT_small.dcm").rpartition("/instances/")[0] + "/metadata"
    plain = httpx.get(url, headers={"accept-encoding": "identity"})
    packed = httpx.get(url, headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert plain.json() == packed.json()
    assert plain.headers["etag"] != packed.headers["etag"]
    again = httpx.get(
        url, headers={"accept-encoding": "gzip", "if-none-match": packed.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")
    with httpx.stream("GET", url, headers={"accept-encoding": "gzip"}) as raw:
        assert gzip.decompress(b"".join(raw.iter_raw())) == plain.content


def test_frames(client: DICOMwebClient, base: str) -> None:
    ct = pydicom.dcmread(path_of("CT_small.dcm"))
    for media_type, syntax in (("application/octet-stream", "*"), ("application/octet-stream", "")):
        kinds = ((media_type, syntax),) if syntax else (media_type,)
        (frame,) = client.retrieve_instance_frames(*uids_of("CT_small.dcm"), [1], media_types=kinds)
        assert frame == ct.PixelData
    url = url_of(base, FILES[2]) + "/frames/1"
    stored = httpx.get(url, headers={"accept": "image/jpeg"})
    assert stored.headers["content-type"] == "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50"
    assert stored.content[:2] == b"\xff\xd8"
    octets = "multipart/related; type=application/octet-stream; transfer-syntax=*"
    part = httpx.get(url, headers={"accept": octets})
    assert b"transfer-syntax=1.2.840.10008.1.2.4.50\r\n" in part.content[:400]
    assert int(part.headers["content-length"]) == len(part.content)
    decoded = httpx.get(url, headers={"accept": "application/octet-stream"}, timeout=60)
    rgb = pydicom.dcmread(path_of(FILES[2]))
    assert len(decoded.content) == rgb.Rows * rgb.Columns * 3


def test_parts_of_a_frame(base: str) -> None:
    url = url_of(base, "CT_small.dcm") + "/frames/1"
    whole = httpx.get(url)
    part = httpx.get(url, headers={"range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, whole.content[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(whole.content)}"
    assert httpx.get(url, headers={"range": "bytes=99999999-"}).status_code == 416
    assert httpx.get(url, headers={"if-none-match": whole.headers["etag"]}).status_code == 304


def test_pictures(client: DICOMwebClient, base: str) -> None:
    jpeg = client.retrieve_instance_rendered(*uids_of("CT_small.dcm"))
    assert jpeg[:3] == b"\xff\xd8\xff"
    url = url_of(base, "CT_small.dcm")
    for path, query, accept, begins in (
        ("/rendered", "", "image/png", b"\x89PNG"),
        ("/rendered", "?window=40,400,linear&quality=50&viewport=64,64", "*/*", b"\xff\xd8"),
        ("/frames/1/rendered", "", "image/jpeg", b"\xff\xd8"),
        ("/thumbnail", "", "*/*", b"\xff\xd8"),
        ("/thumbnail", "?accept=image/png", "text/html", b"\x89PNG"),
    ):
        answer = httpx.get(url + path + query, headers={"accept": accept}, timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.content.startswith(begins)
    for query in ("?window=1", "?viewport=0,0", "?quality=101", "?iccprofile=x", "?window=a,b,c"):
        assert httpx.get(f"{url}/rendered{query}").status_code == 400
    assert httpx.get(f"{url_of(base, 'rtplan.dcm')}/rendered").status_code == 406


def test_what_is_not_there(base: str) -> None:
    study, series, instance = uids_of("CT_small.dcm")
    other = uids_of("rtplan.dcm")
    for path, status in (
        ("/studies/1.2.3", 404),
        ("/studies/no-uid", 404),
        ("/studies/1.2.3/metadata", 404),
        (f"/studies/{other[0]}/series/{series}", 404),
        (f"/studies/{study}/series/{series}/instances/{other[2]}", 404),
        (f"/studies/{study}/series/{series}/instances/{instance}/frames/2", 404),
        (f"/studies/{study}/series/{series}/instances/{instance}/frames/0", 400),
        (f"/studies/{study}/series/{series}/instances/{instance}/frames/1,x", 400),
        (f"/studies/{study}/series/{series}/instances/{instance}/bulkdata/00100010", 404),
        (f"/studies/{other[0]}/series/{other[1]}/instances/{other[2]}/frames/1", 404),
    ):
        answer = httpx.get(base + path)
        assert answer.status_code == status, path
        assert answer.json()["error"]["code"]
    for method in ("PUT", "DELETE"):
        answer = httpx.request(method, f"{base}/studies")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")


def sequence(answer: httpx.Response, tag: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answer.json().get(tag, {}).get("Value", [])
    return found


def test_what_is_stored_is_told(base: str, notices: list[object]) -> None:
    new = pydicom.dcmread(path_of("CT_small.dcm"))
    new.SOPInstanceUID = new.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    written = io.BytesIO()
    new.save_as(written)
    answer = httpx.post(f"{base}/studies", **multipart(written.getvalue()))
    assert answer.status_code == 200
    assert "00081198" not in answer.json()
    (stored,) = sequence(answer, "00081199")
    assert stored["00081155"]["Value"] == ["1.2.3.4"]
    assert httpx.get(stored["00081190"]["Value"][0]).status_code == 200
    assert [type(one) for one in notices] == [InstanceStored]
    # Once more: it is there already, with the same bytes.
    again = httpx.post(f"{base}/studies", **multipart(written.getvalue()))
    assert (again.status_code, again.json()) == (200, answer.json())
    new.PatientComments = "another object"
    written = io.BytesIO()
    new.save_as(written)
    other = httpx.post(f"{base}/studies", **multipart(written.getvalue()))
    assert other.status_code == 202
    assert sequence(other, "00081199")[0]["00081196"]["Value"] == [0xB007]


def test_some_fail(base: str, notices: list[object]) -> None:
    good, bad = bytes_of("CT_small.dcm"), b"no object at all"
    answer = httpx.post(f"{base}/studies", **multipart(good, bad, good[:3000]))
    assert answer.status_code == 202
    assert len(sequence(answer, "00081199")) == 1
    failed = [*sequence(answer, "00081198"), *sequence(answer, "0008119A")]
    assert [one["00081197"]["Value"][0] >> 12 for one in failed] == [0xC, 0xC]
    assert sum(isinstance(one, InstanceRefused) for one in notices) == 2
    answer = httpx.post(f"{base}/studies", **multipart(bad))
    assert answer.status_code == 409
    study = uids_of("rtplan.dcm")[0]
    answer = httpx.post(f"{base}/studies/{study}", **multipart(good))
    assert answer.status_code == 409
    assert sequence(answer, "00081198")[0]["00081197"]["Value"] == [0xA901]


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("", b"x", 415),
        ("text/plain", b"x", 415),
        ('multipart/related; type="application/pdf"; boundary=b', b"--b--", 415),
        ('multipart/related; type="application/dicom"', b"--b--", 400),
        ('multipart/related; type="application/dicom"; boundary=b', b"--b--", 400),
        ('multipart/related; type="application/dicom"; boundary=b', b"nothing", 400),
        ('multipart/related; type="application/dicom"; boundary=b', b"--b\r\n\r\nxyz", 400),
        ("application/dicom", b"", 409),
        ("application/dicom", b"x" * 1000, 409),
    ],
)
def test_bodies_that_are_none(base: str, content_type: str, body: bytes, status: int) -> None:
    headers = {"content-type": content_type} if content_type else {}
    answer = httpx.post(f"{base}/studies", content=body, headers=headers)
    assert answer.status_code == status, answer.text


def test_one_object_without_a_frame(base: str) -> None:
    answer = httpx.post(
        f"{base}/studies",
        content=bytes_of("CT_small.dcm"),
        headers={"content-type": "application/dicom"},
    )
    assert answer.status_code == 200


async def _in_thread(call: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(call)


async def test_a_body_that_is_cut_leaves_nothing() -> None:
    async with serving() as found:
        base = found.url
        host = base.removeprefix("http://").partition("/")[0]
        port = int(host.rpartition(":")[2])
        body = multipart(bytes_of("CT_small.dcm"), bytes_of("JPEG2000.dcm"))
        content = body["content"]
        head = (
            f"POST /dicomweb/studies HTTP/1.1\r\nHost: {host}\r\n"
            f"Content-Type: {body['headers']['content-type']}\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(head.encode() + content[:50_000])
        # The first object was whole, and may be there; the other is not.
        found = await _in_thread(partial(httpx.get, f"{base}/instances"))
        assert len(found.json()) <= 1
