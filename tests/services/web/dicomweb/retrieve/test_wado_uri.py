"""WADO-URI: its parameters, one by one, and what cannot be had."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import httpx
import imagecodecs as codecs
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from support.dicomweb import body, served
from support.images import dataset_of, describe, file_of, pixels
from support.payloads import CDA, mp4
from support.states import state_of

DICOM_JSON = "application/dicom+json"
FILES = ("CT_small.dcm", "rtplan.dcm", "examples_ybr_color.dcm", "SC_rgb_jpeg_dcmtk.dcm")
REPORT = "test-SR.dcm"
IMAGE = dataset_of(describe(40, 60, bits=12), [pixels(describe(40, 60, bits=12))])
STATE = state_of(IMAGE)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Of an archive with `FILES`, an image and a presentation state of it, documents and video."""
    with served() as found:
        STATE.PresentationLUTShape = "INVERSE"
        objects = [bytes_of(name) for name in (*FILES, REPORT)] + [file_of(IMAGE), file_of(STATE)]
        sent = body("application/dicom", *(("application/dicom", one) for one in objects))
        assert httpx.post(f"{found.url}/studies", **sent).status_code == 200
        for uid, sop_class, tag, media_type, content in (
            ("1.2.9.1", "104.1", "00420011", "application/pdf", b"%PDF-1.4 odd %%EOF\n"),
            ("1.2.9.2", "104.2", "00420011", "text/xml", CDA),
            ("1.2.9.3", "77.1.4.1", "7FE00010", "video/mp4", mp4()),
        ):
            values = {
                "00080016": ("UI", f"1.2.840.10008.5.1.4.1.1.{sop_class}"),
                "00080018": ("UI", uid),
                "00080060": ("CS", "OT"),
                "0020000D": ("UI", "1.2.9"),
                "0020000E": ("UI", "1.2.9.7"),
                "00200013": ("IS", 1),
            }
            model: dict[str, object] = {
                key: {"vr": vr, "Value": [value]} for key, (vr, value) in values.items()
            }
            model[tag] = {"vr": "OB", "BulkDataURI": "x"}
            parts = ((DICOM_JSON, json.dumps(model).encode()), (media_type, "x", content))
            answer = httpx.post(f"{found.url}/studies", **body(DICOM_JSON, *parts))
            assert answer.status_code == 200, answer.text
        yield found.url


def path_of(name: str) -> str:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    return path


def bytes_of(name: str) -> bytes:
    with open(path_of(name), "rb") as file:
        return file.read()


def names_of(file: str | pydicom.Dataset) -> dict[str, str]:
    found = (
        pydicom.dcmread(path_of(file), stop_before_pixels=True) if isinstance(file, str) else file
    )
    return {
        "studyUID": found.StudyInstanceUID,
        "seriesUID": found.SeriesInstanceUID,
        "objectUID": found.SOPInstanceUID,
    }


def get(url: str, said: dict[str, str], accept: str = "*/*", **more: object) -> httpx.Response:
    query = {"requestType": "WADO", **said, **{k: str(v) for k, v in more.items()}}
    return httpx.get(f"{url}/wado", params=query, headers={"accept": accept}, timeout=60)


def picture(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    kind = answer.headers["content-type"]
    decode = {"image/jpeg": codecs.jpeg8_decode, "image/png": codecs.png_decode,
              "image/gif": codecs.gif_decode}[kind]  # fmt: skip
    found: np.ndarray = decode(answer.content)
    return found


def test_an_image_is_jpeg_unless_something_else_is_wanted(url: str) -> None:
    ct = names_of("CT_small.dcm")
    assert picture(get(url, ct)).shape[:2] == (128, 128)
    browser = "text/html,application/xhtml+xml,image/avif,image/webp,*/*;q=0.8"
    assert get(url, ct, browser).headers["content-type"] == "image/jpeg"
    assert get(url, ct, contentType="image/png").headers["content-type"] == "image/png"
    # Not the name of a media type, and what many write.
    assert get(url, ct, contentType="image/jpg").headers["content-type"] == "image/jpeg"
    assert (
        get(url, ct, contentType="image/jp2,image/gif;q=0.5").headers["content-type"] == "image/gif"
    )
    assert get(url, ct, "image/png").headers["content-type"] == "image/png"
    # The parameter wins over the header.
    assert (
        get(url, ct, "image/png", contentType="image/jpeg").headers["content-type"] == "image/jpeg"
    )
    for content_type in ("image/jp2", "text/html", "application/pdf"):
        answer = get(url, ct, contentType=content_type)
        assert answer.status_code == 406
        assert "image/jpeg" in answer.json()["error"]["message"]
    assert get(url, ct, contentType="nonsense").status_code == 400


def test_what_is_no_picture_is_dicom(url: str) -> None:
    for file in ("rtplan.dcm", "examples_ybr_color.dcm"):
        answer = get(url, names_of(file))
        assert answer.headers["content-type"].startswith("application/dicom; transfer-syntax=")
        assert (
            pydicom.dcmread(io.BytesIO(answer.content)).SOPInstanceUID
            == (names_of(file)["objectUID"])
        )
    answer = get(url, names_of("rtplan.dcm"), contentType="image/jpeg")
    assert answer.status_code == 406


def test_objects_in_a_transfer_syntax(url: str) -> None:
    ct = names_of("CT_small.dcm")

    def syntax_of(answer: httpx.Response) -> str:
        assert answer.status_code == 200, answer.text
        found = pydicom.dcmread(io.BytesIO(answer.content))
        assert answer.headers["content-type"].endswith(found.file_meta.TransferSyntaxUID)
        return str(found.file_meta.TransferSyntaxUID)

    wanted = "application/dicom"
    assert syntax_of(get(url, ct, contentType=wanted)) == "1.2.840.10008.1.2.1"
    assert syntax_of(
        get(url, ct, contentType=wanted, transferSyntax="1.2.840.10008.1.2.4.80")
    ) == "1.2.840.10008.1.2.4.80"  # fmt: skip
    rgb = names_of("SC_rgb_jpeg_dcmtk.dcm")
    assert syntax_of(get(url, rgb, contentType=wanted)) == "1.2.840.10008.1.2.4.50"
    assert syntax_of(
        get(url, rgb, contentType=wanted, transferSyntax="1.2.840.10008.1.2.1")
    ) == "1.2.840.10008.1.2.1"  # fmt: skip
    for syntax, status in (
        ("1.2.840.10008.1.2", 406), ("1.2.840.10008.1.2.2", 406), ("1.2.3", 406), ("x", 400),
    ):  # fmt: skip
        assert get(url, ct, contentType=wanted, transferSyntax=syntax).status_code == status


def test_objects_are_not_anonymized_as_if_they_were(url: str) -> None:
    ct = names_of("CT_small.dcm")
    answer = get(url, ct, contentType="application/dicom", anonymize="yes")
    assert (answer.status_code, answer.json()["error"]["code"]) == (406, "NOT_ANONYMIZED")
    assert get(url, ct, contentType="application/dicom", anonymize="no").status_code == 400


def test_the_size_of_a_picture(url: str) -> None:
    image = names_of(IMAGE)
    assert picture(get(url, image)).shape[:2] == (40, 60)
    assert picture(get(url, image, rows=20)).shape[:2] == (20, 30)
    assert picture(get(url, image, columns=30)).shape[:2] == (20, 30)
    assert picture(get(url, image, rows=20, columns=20)).shape[:2] == (13, 20)
    assert picture(get(url, image, region="0.5,0.5,1,1")).shape[:2] == (20, 30)
    assert picture(get(url, image, region="0,0,0.5,1", rows=80)).shape[:2] == (80, 60)
    whole = picture(get(url, image, contentType="image/png"))
    part = picture(get(url, image, contentType="image/png", region="0.5,0.5,1,1"))
    assert np.abs(part.astype(int) - whole[20:, 30:].astype(int)).max() <= 1


def test_the_window_of_a_picture(url: str) -> None:
    ct = names_of("CT_small.dcm")
    plain = picture(get(url, ct, contentType="image/png"))
    narrow = picture(get(url, ct, contentType="image/png", windowCenter="40.5", windowWidth=10))
    assert set(np.unique(narrow)[[0, -1]]) == {0, 255}
    assert (plain != narrow).any()


def test_frames_quality_and_annotation(url: str) -> None:
    video = names_of("examples_ybr_color.dcm")
    first, last = (picture(get(url, video, frameNumber=n)) for n in (1, 30))
    assert (first != last).any()
    assert get(url, video, frameNumber=31).status_code == 404
    ct = names_of("CT_small.dcm")
    small, large = (get(url, ct, imageQuality=n).content for n in (10, 100))
    assert len(small) < len(large)
    labelled = picture(get(url, ct, annotation="patient,technique"))
    assert (labelled != picture(get(url, ct))).any()


def test_a_presentation_state(url: str) -> None:
    image = names_of(IMAGE)
    said = {
        "presentationUID": STATE.SOPInstanceUID,
        "presentationSeriesUID": STATE.SeriesInstanceUID,
    }
    plain = picture(get(url, image, contentType="image/png")).astype(int)
    shown = picture(get(url, {**image, **said}, contentType="image/png")).astype(int)
    assert np.abs(plain + shown - 255).max() <= 2  # INVERSE
    for key, value in said.items():
        assert get(url, {**image, key: value}).status_code == 400
    both = {**image, **said}
    assert get(url, both, windowCenter=1, windowWidth=1).status_code == 400
    assert get(url, {**both, "presentationUID": "1.2.3"}).status_code == 404


def test_documents_as_they_are(url: str) -> None:
    pdf = {"objectUID": "1.2.9.1"}
    answer = get(url, pdf)
    assert answer.content == b"%PDF-1.4 odd %%EOF\n"
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["content-disposition"] == 'inline; filename="1.2.9.1.pdf"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    query = {"requestType": "WADO", **pdf}
    part = httpx.get(f"{url}/wado", params=query, headers={"range": "bytes=1-3"})
    assert (part.status_code, part.content) == (206, b"PDF")
    past = httpx.get(f"{url}/wado", params=query, headers={"range": "bytes=99-"})
    assert past.status_code == 416
    again = httpx.get(
        f"{url}/wado", params=query, headers={"if-none-match": answer.headers["etag"]}
    )
    assert again.status_code == 304
    assert get(url, pdf, contentType="image/jpeg").status_code == 406
    assert get(url, pdf, contentType="application/dicom").status_code == 200
    # What could act as a page does not.
    cda = get(url, {"objectUID": "1.2.9.2"}, charset="utf-8")
    assert cda.content == CDA
    assert cda.headers["content-security-policy"] == "sandbox"
    assert cda.headers["content-disposition"].startswith("attachment")
    assert get(url, {"objectUID": "1.2.9.2"}, charset="iso-8859-1").status_code == 406


def test_metadata(url: str) -> None:
    ct = names_of("CT_small.dcm")
    answer = get(url, ct, contentType=DICOM_JSON)
    assert answer.headers["content-type"].startswith(DICOM_JSON)
    (found,) = answer.json()
    assert found["00080018"]["Value"] == [ct["objectUID"]]


def test_reports_as_text(url: str) -> None:
    report = names_of(REPORT)
    page = get(url, report)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("sandbox")
    assert "<h1>Diagnosis</h1>" in page.text
    assert '&%$§"!()<>{}/;' in get(url, report, contentType="text/plain").text
    assert get(url, report, charset="utf-8").status_code == 200
    assert get(url, report, charset="iso-8859-1").status_code == 406
    assert get(url, report, contentType="image/jpeg").status_code == 406
    assert get(url, report, contentType="application/dicom").status_code == 200
    assert get(url, names_of("CT_small.dcm"), contentType="text/plain").status_code == 406


def test_video_as_it_is(url: str) -> None:
    for content_type in ({}, {"contentType": "video/mp4"}, {"contentType": "video/mpeg"}):
        answer = get(url, {"objectUID": "1.2.9.3"}, **content_type)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "video/mp4"
        assert answer.content[: len(mp4())] == mp4()
    part = httpx.get(
        f"{url}/wado?requestType=WADO&objectUID=1.2.9.3", headers={"range": "bytes=4-7"}
    )
    assert (part.status_code, part.content) == (206, b"ftyp")


def test_documents_and_video_rendered(url: str) -> None:
    """What a frame of a viewer or a video element asks for."""
    browser = {"accept": "text/html,application/xhtml+xml,image/avif,*/*;q=0.8"}
    instances = f"{url}/studies/1.2.9/series/1.2.9.7/instances"
    pdf = httpx.get(f"{instances}/1.2.9.1/rendered", headers=browser)
    assert pdf.content == b"%PDF-1.4 odd %%EOF\n"
    assert pdf.headers["content-type"] == "application/pdf"
    assert pdf.headers["content-disposition"].startswith("inline")
    assert httpx.get(f"{instances}/1.2.9.1/rendered?accept=application/pdf").status_code == 200
    wrong = httpx.get(f"{instances}/1.2.9.1/rendered", headers={"accept": "image/png"})
    assert wrong.status_code == 406
    video = {"accept": "video/mp4", "range": "bytes=4-7"}
    part = httpx.get(f"{instances}/1.2.9.3/rendered", headers=video)
    assert (part.status_code, part.content) == (206, b"ftyp")
    assert part.headers["content-type"] == "video/mp4"


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"requestType": "wado"}, 200),
        ({"requestType": "XDS"}, 400),
        ({"requestType": ""}, 400),
        ({"objectUID": ""}, 400),
        ({"objectUID": "1.2.3"}, 404),
        ({"objectUID": "../x"}, 404),
        ({"studyUID": "1.2.3"}, 404),
        ({"studyUID": "x"}, 404),
        ({"seriesUID": "1.2.3"}, 404),
        ({"rows": "0"}, 400),
        ({"rows": "-5"}, 400),
        ({"columns": "99999"}, 400),
        ({"columns": "1.5"}, 400),
        ({"region": "0,0,1"}, 400),
        ({"region": "0.5,0,0.5,1"}, 400),
        ({"region": "0,0,1,1.1"}, 400),
        ({"region": "a,b,c,d"}, 400),
        ({"region": "nan,0,1,1"}, 400),
        ({"windowCenter": "1"}, 400),
        ({"windowWidth": "1"}, 400),
        ({"windowCenter": "1", "windowWidth": "0"}, 400),
        ({"windowCenter": "x", "windowWidth": "1"}, 400),
        ({"frameNumber": "0"}, 400),
        ({"frameNumber": "2"}, 404),
        ({"imageQuality": "0"}, 400),
        ({"imageQuality": "101"}, 400),
        ({"annotation": "everything"}, 400),
        ({"presentationUID": "1.2.3"}, 400),
        ({"unknown": "1"}, 200),
    ],
    ids=str,
)
def test_parameters_that_make_no_sense(url: str, more: dict[str, str], status: int) -> None:
    answer = httpx.get(
        f"{url}/wado", params={"requestType": "WADO", **names_of("CT_small.dcm"), **more}
    )
    assert answer.status_code == status, answer.text
    if status != 200:
        assert answer.json()["error"]["code"]


def test_the_object_alone_says_enough(url: str) -> None:
    assert get(url, {"objectUID": names_of("CT_small.dcm")["objectUID"]}).status_code == 200
    assert httpx.get(f"{url}/wado").status_code == 400
    assert httpx.post(f"{url}/wado").status_code == 405
