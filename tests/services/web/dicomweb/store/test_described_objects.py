"""STOW-RS of metadata and bulk data, held against pydicom and dicomweb-client."""

from __future__ import annotations

import io
import json
from base64 import b64encode
from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian

from isocenter.services.web.dicomweb.store import described_objects
from support.dicomweb import body, multipart, served

#: All as long.
NUMBERS = count(1_000_000)
DICOM_JSON = "application/dicom+json"
DICOM_XML = "application/dicom+xml"
OCTETS = "application/octet-stream"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served() as found:
        yield found.url


def attribute(vr: str, *values: Any) -> Json:
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def metadata(uid: str, **more: Json) -> Json:
    """Of an image of 4 × 6 samples of 16 bits; *more*: by tag, behind a letter."""
    found = {
        "00080016": attribute("UI", "1.2.840.10008.5.1.4.1.1.7"),
        "00080018": attribute("UI", uid),
        "00080060": attribute("CS", "OT"),
        "00100010": attribute("PN", {"Alphabetic": "Test^One"}),
        "00100020": attribute("LO", "ID1"),
        "0020000D": attribute("UI", "1.2.3.1"),
        "0020000E": attribute("UI", "1.2.3.1.1"),
        "00280002": attribute("US", 1),
        "00280004": attribute("CS", "MONOCHROME2"),
        "00280010": attribute("US", 4),
        "00280011": attribute("US", 6),
        "00280100": attribute("US", 16),
        "00280101": attribute("US", 12),
        "00280102": attribute("US", 11),
        "00280103": attribute("US", 0),
        "7FE00010": {"vr": "OW", "BulkDataURI": f"bulk/{uid}"},
    }
    for tag, value in more.items():
        found[tag[1:]] = value
    return found


SAMPLES = bytes(range(48))


def post(url: str, sent: Json, study: str = "", **headers: str) -> httpx.Response:
    return httpx.post(
        f"{url}/studies{study and '/' + study}",
        content=sent["content"],
        headers={**sent["headers"], **headers},
        timeout=60,
    )


def items(answer: httpx.Response, tag: str) -> list[Json]:
    found: list[Json] = answer.json().get(tag, {}).get("Value", [])
    return found


def reasons(answer: httpx.Response, tag: str = "00081198") -> list[int]:
    return [item["00081197"]["Value"][0] for item in items(answer, tag)]


def comment(answer: httpx.Response, tag: str = "00081198") -> str:
    (item,) = items(answer, tag)
    text: str = item["00000902"]["Value"][0]
    return text


def retrieved(url: str, uid: str) -> pydicom.FileDataset:
    (found,) = httpx.get(f"{url}/instances?SOPInstanceUID={uid}").json()
    answer = httpx.get(
        found["00081190"]["Value"][0],
        headers={"accept": "application/dicom; transfer-syntax=*"},
        timeout=60,
    )
    assert answer.status_code == 200
    read = pydicom.dcmread(io.BytesIO(answer.content))
    assert read.file_meta.MediaStorageSOPInstanceUID == uid
    return read


def test_instances_of_one_list_with_their_bulk_data(url: str) -> None:
    sent = [metadata(f"1.2.3.1.1.{number}") for number in range(1, 4)]
    parts = [(OCTETS, f"bulk/1.2.3.1.1.{n}", SAMPLES + bytes([n, 0])) for n in range(1, 4)]
    answer = post(url, body(DICOM_JSON, (DICOM_JSON, json.dumps(sent).encode()), *parts))
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"00081190", "00081199"}
    assert answer.json()["00081190"]["Value"] == [f"{url}/studies/1.2.3.1"]
    assert len(items(answer, "00081199")) == 3
    for number in range(1, 4):
        found = retrieved(url, f"1.2.3.1.1.{number}")
        assert found.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert found.PixelData == SAMPLES + bytes([number, 0])
        assert (found.Rows, found["PixelData"].VR, found.PatientName) == (4, "OW", "Test^One")


def test_text_is_in_a_character_set_that_has_it(url: str) -> None:
    name = {"Alphabetic": "Müßig^Ödön", "Ideographic": "山田^太郎"}
    sent = metadata("1.2.3.1.1.10", t00100010=attribute("PN", name))
    del sent["7FE00010"]
    answer = post(url, body(DICOM_JSON, (DICOM_JSON, json.dumps([sent]).encode())))
    assert answer.status_code == 200, answer.text
    found = retrieved(url, "1.2.3.1.1.10")
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert str(found.PatientName) == "Müßig^Ödön=山田^太郎"


def test_inline_binary_and_a_body_without_parts(url: str) -> None:
    sent = metadata("1.2.3.1.1.11")
    sent["7FE00010"] = {"vr": "OW", "InlineBinary": b64encode(SAMPLES).decode()}
    answer = httpx.post(f"{url}/studies", json=[sent], headers={"content-type": DICOM_JSON})
    assert answer.status_code == 200, answer.text
    assert retrieved(url, "1.2.3.1.1.11").PixelData == SAMPLES


def test_bulk_data_within_sequences(url: str) -> None:
    inner = {"003A0005": attribute("US", 2), "54001010": {"vr": "OW", "BulkDataURI": "w/1"}}
    empty: Json = {}
    sent = metadata("1.2.3.1.1.12", t54000100=attribute("SQ", inner, empty, {"00080100": {
        "vr": "SH", "Value": ["A"]}}))  # fmt: skip
    answer = post(
        url,
        body(
            DICOM_JSON,
            (DICOM_JSON, json.dumps([sent]).encode()),
            (OCTETS, "w/1", b"wave" * 1001),
            (OCTETS, "bulk/1.2.3.1.1.12", SAMPLES),
        ),
    )
    assert answer.status_code == 200, answer.text
    found = retrieved(url, "1.2.3.1.1.12")
    first, second, third = found.WaveformSequence
    assert first.WaveformData == b"wave" * 1001
    assert (len(second), third.CodeValue) == (0, "A")
    assert found.PixelData == SAMPLES


def test_xml_metadata_of_several_objects(url: str) -> None:
    def xml(uid: str) -> bytes:
        values = {
            "00080016": ("UI", "1.2.840.10008.5.1.4.1.1.66"),
            "00080018": ("UI", uid),
            "0020000D": ("UI", "1.2.3.2"),
            "0020000E": ("UI", "1.2.3.2.1"),
            "00080060": ("CS", "OT"),
        }
        text = "".join(
            f'<DicomAttribute tag="{tag}" vr="{vr}"><Value number="1">{value}</Value>'
            "</DicomAttribute>"
            for tag, (vr, value) in values.items()
        )
        text += f'<DicomAttribute tag="00420011" vr="OB"><BulkData uri="{uid}"/></DicomAttribute>'
        return f"<NativeDicomModel>{text}</NativeDicomModel>".encode()

    answer = post(
        url,
        body(
            DICOM_XML,
            (DICOM_XML, xml("1.2.3.2.1.1")),
            (DICOM_XML, xml("1.2.3.2.1.2")),
            (OCTETS, "1.2.3.2.1.2", b"two!"),
            (OCTETS, "1.2.3.2.1.1", b"one."),
        ),
        accept='multipart/related; type="application/dicom+xml"',
    )
    assert answer.status_code == 200, answer.text
    assert b'keyword="ReferencedSOPSequence"' in answer.content
    assert retrieved(url, "1.2.3.2.1.1").EncapsulatedDocument == b"one."
    assert retrieved(url, "1.2.3.2.1.2").EncapsulatedDocument == b"two!"


def test_bulk_data_is_found_under_other_spellings(url: str) -> None:
    for number, uri, location in (
        (20, "/studies/1/bulk%20data", "/studies/1/bulk data"),
        (21, f"{url}/studies/x/y", "x/y"),
        (22, "cid:a@b", ""),
        (23, "  spaced ", "spaced"),
    ):
        sent = metadata(f"1.2.3.1.1.{number}")
        sent["7FE00010"] = {"vr": "OW", "BulkDataURI": uri}
        where = f"Content-Location: {location}" if location else "Content-ID: <a@b>"
        answer = post(
            url,
            multipart(
                DICOM_JSON,
                [
                    f"content-type:{DICOM_JSON}; charset=utf-8\r\n\r\n".encode()
                    + json.dumps(sent).encode(),
                    f"{where}\r\nContent-Type: {OCTETS}\r\n\r\n".encode() + SAMPLES,
                ],
            ),
        )
        assert answer.status_code == 200, (uri, answer.text)
        assert retrieved(url, f"1.2.3.1.1.{number}").PixelData == SAMPLES


@pytest.mark.parametrize(
    "uri",
    ["http://127.0.0.1:1/secret", "file:///etc/passwd", "https://example.org/x", "../../other", ""],
)
def test_nothing_is_fetched(url: str, uri: str) -> None:
    sent = metadata("1.2.3.1.1.30")
    sent["7FE00010"] = {"vr": "OW", "BulkDataURI": uri}
    answer = post(url, body(DICOM_JSON, (DICOM_JSON, json.dumps([sent]).encode())))
    assert answer.status_code == 409
    assert reasons(answer) == [0xC000]
    assert "(7FE0,0010)" in comment(answer)
    (failed,) = items(answer, "00081198")
    assert failed["00081155"]["Value"] == ["1.2.3.1.1.30"]
    assert list(failed) == sorted(failed)


def test_one_of_two_lacks_its_bulk_data(url: str) -> None:
    sent = [metadata("1.2.3.1.1.31"), metadata("1.2.3.1.1.32")]
    answer = post(
        url,
        body(
            DICOM_JSON,
            (DICOM_JSON, json.dumps(sent).encode()),
            (OCTETS, "bulk/1.2.3.1.1.32", SAMPLES),
        ),
    )
    assert answer.status_code == 202
    assert [one["00081155"]["Value"][0] for one in items(answer, "00081198")] == ["1.2.3.1.1.31"]
    assert [one["00081155"]["Value"][0] for one in items(answer, "00081199")] == ["1.2.3.1.1.32"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "no JSON"),
        (b"[{", "no JSON"),
        (b'{"00080018": {"vr": "UI"}, "00080018": {"vr": "UI"}}', "twice"),
        (b'[{"00080018": {"vr": "XX"}}]', ""),
        (b"[" * 5000, ""),
        (b"[1]", "no data set"),
        (b"\xff\xfe", "no UTF-8"),
        (b"[]", ""),
    ],
)
def test_metadata_that_are_none(url: str, text: bytes, says: str) -> None:
    answer = post(url, body(DICOM_JSON, (DICOM_JSON, text)))
    if says:
        assert answer.status_code == 400, answer.text
        assert says in answer.json()["error"]["message"]
    else:
        assert answer.status_code in (400, 409)


def test_deep_metadata_are_refused(url: str) -> None:
    sent: Json = metadata("1.2.3.1.1.33")
    for _ in range(70):
        sent = metadata("1.2.3.1.1.33") | {"00082112": attribute("SQ", sent)}
    answer = post(url, body(DICOM_JSON, (DICOM_JSON, json.dumps([sent]).encode())))
    assert answer.status_code == 409
    assert reasons(answer) == [0xC000]


def test_entities_are_refused(url: str) -> None:
    text = b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><NativeDicomModel>&e;</NativeDicomModel>'
    answer = post(url, body(DICOM_XML, (DICOM_XML, text)))
    assert answer.status_code == 400
    assert "DOCTYPE" in answer.json()["error"]["message"]


def test_a_round_trip_of_what_the_archive_says(url: str) -> None:
    """Metadata and bulk data as they are retrieved make the same object again."""
    client = DICOMwebClient(url)
    for name in ("CT_small.dcm", "rtplan.dcm", "waveform_ecg.dcm", "JPEG2000.dcm",
                 "rtdose_rle.dcm", "examples_palette.dcm"):  # fmt: skip
        path = get_testdata_file(name)
        assert isinstance(path, str)
        original = pydicom.dcmread(path)
        client.store_instances([original])
        uids = original.StudyInstanceUID, original.SeriesInstanceUID, original.SOPInstanceUID
        found = client.retrieve_instance_metadata(*uids)
        new = f"{original.SOPInstanceUID[:50].rstrip('.')}.77"
        found["00080018"]["Value"] = [new]
        parts: list[tuple[str, str, bytes]] = []
        syntax = original.file_meta.TransferSyntaxUID
        for one in bulk_uris(found):
            accept = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
            answer = httpx.get(one, headers={"accept": accept}, timeout=60)
            assert answer.status_code == 200, answer.text
            said = f"{OCTETS}; transfer-syntax={syntax}" if syntax.is_compressed else OCTETS
            parts += [(said, one, part) for part in parts_of(answer)]
        answer = post(url, body(DICOM_JSON, (DICOM_JSON, json.dumps([found]).encode()), *parts))
        assert answer.status_code == 200, (name, answer.text)
        again = retrieved(url, new)
        again.SOPInstanceUID = original.SOPInstanceUID
        if syntax.is_compressed:
            assert again.file_meta.TransferSyntaxUID == syntax
            assert again.pixel_array.tobytes() == original.pixel_array.tobytes()
            del again.PixelData, original.PixelData
        for tag in (0xFFFCFFFC,):
            original.pop(tag, None)
        assert {e.tag for e in again} ^ {e.tag for e in original} <= {0x00080005}, name
        for element in again:
            if element.tag in original and element.VR not in ("SQ", "UN"):
                assert element.value == original[element.tag].value, (name, element.tag)


def bulk_uris(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["BulkDataURI"]] if "BulkDataURI" in value else []
        return own + [uri for one in value.values() for uri in bulk_uris(one)]
    return [uri for one in value for uri in bulk_uris(one)] if isinstance(value, list) else []


def parts_of(answer: httpx.Response) -> list[bytes]:
    boundary = answer.headers["content-type"].partition("boundary=")[2].encode()
    pieces = answer.content.split(b"--" + boundary)[1:-1]
    return [piece.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for piece in pieces]


def test_what_answers_add_is_not_stored(url: str) -> None:
    sent = metadata(
        "1.2.3.1.1.40",
        t00080056=attribute("CS", "ONLINE"),
        t00081190=attribute("UR", "http://elsewhere/"),
        t00083002=attribute("UI", "1.2.840.10008.1.2.1"),
    )
    answer = post(
        url,
        body(
            DICOM_JSON,
            (DICOM_JSON, json.dumps([sent]).encode()),
            (OCTETS, "bulk/1.2.3.1.1.40", SAMPLES),
        ),
    )
    assert answer.status_code == 200
    found = retrieved(url, "1.2.3.1.1.40")
    assert not {0x00080056, 0x00081190, 0x00083002} & {element.tag for element in found}


def test_parts_that_are_odd(url: str) -> None:
    sent = json.dumps([metadata("1.2.3.1.1.41")]).encode()
    whole = (DICOM_JSON.encode() + b"\r\n\r\n").join([b"Content-Type: ", sent])
    for part, says in (
        (b"Content-Type: application/octet-stream\r\n\r\n" + SAMPLES, "Content-Location"),
        (
            b"Content-Type: application/octet-stream\r\nContent-Location: bulk/1.2.3.1.1.41\r\n"
            b"Content-Transfer-Encoding: base64\r\n\r\n" + b64encode(SAMPLES),
            "Content-Transfer-Encoding",
        ),
        (b"Content-Type: nonsense\r\nContent-Location: x\r\n\r\nx", "media type"),
    ):
        answer = post(url, multipart(DICOM_JSON, [whole, part]))
        assert answer.status_code == 409
        assert says in comment(answer, "0008119A")
        assert reasons(answer) == [0xC000]


def test_bulk_data_before_its_metadata(url: str) -> None:
    answer = post(
        url,
        body(
            DICOM_JSON,
            (OCTETS, "bulk/1.2.3.1.1.42", SAMPLES),
            (DICOM_JSON, json.dumps([metadata("1.2.3.1.1.42")]).encode()),
        ),
    )
    assert answer.status_code == 200
    assert retrieved(url, "1.2.3.1.1.42").PixelData == SAMPLES


def test_two_objects_share_a_value(url: str) -> None:
    sent = [metadata("1.2.3.1.1.43"), metadata("1.2.3.1.1.44")]
    sent[1]["7FE00010"] = sent[0]["7FE00010"]
    answer = post(
        url,
        body(
            DICOM_JSON,
            (DICOM_JSON, json.dumps(sent).encode()),
            (OCTETS, "bulk/1.2.3.1.1.43", SAMPLES),
        ),
    )
    assert answer.status_code == 200
    assert retrieved(url, "1.2.3.1.1.44").PixelData == SAMPLES


def test_another_study_than_that_of_the_path(url: str) -> None:
    sent = body(
        DICOM_JSON,
        (DICOM_JSON, json.dumps([metadata("1.2.3.1.1.45")]).encode()),
        (OCTETS, "bulk/1.2.3.1.1.45", SAMPLES),
    )
    answer = post(url, sent, study="1.2.3.99")
    assert answer.status_code == 409
    assert reasons(answer) == [0xA901]
    assert post(url, sent, study="1.2.3.1").status_code == 200
    assert post(url, sent).status_code == 200  # once more, with the same bytes


@pytest.mark.parametrize(
    "said", ["image/jpeg", f"{OCTETS}; transfer-syntax=1.2.840.10008.1.2.4.50"]
)
def test_compressed_frames_are_parts_of_one_place(url: str, said: str) -> None:
    path = get_testdata_file("examples_ybr_color.dcm")
    assert isinstance(path, str)
    original = pydicom.dcmread(path)
    frames = list(pydicom.encaps.generate_frames(original.PixelData, number_of_frames=30))
    model = original.to_json_dict(1 << 30, lambda _: "")
    model["7FE00010"] = {"vr": "OB", "BulkDataURI": "pixels"}
    uid = f"1.2.3.5.{len(said)}"
    model["00080018"]["Value"] = [uid]
    parts = [(said, "pixels", frame) for frame in frames]
    answer = post(url, body(DICOM_JSON, (DICOM_JSON, json.dumps(model).encode()), *parts))
    assert answer.status_code == 200, answer.text
    found = retrieved(url, uid)
    assert found.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.50"
    assert list(pydicom.encaps.generate_frames(found.PixelData, number_of_frames=30)) == frames
    again = list(pydicom.encaps.generate_frames(found.PixelData))
    assert len(again) == 30  # by its offset table
    # One is missing: the number of frames is the sender's word, or the parts'.
    model["00080018"]["Value"] = [f"{uid}.9"]
    answer = post(url, body(DICOM_JSON, (DICOM_JSON, json.dumps(model).encode()), *parts[1:]))
    if said == "image/jpeg":
        assert answer.status_code == 202
        (stored,) = items(answer, "00081199")
        assert stored["00081196"]["Value"] == [0xB000]
        assert retrieved(url, f"{uid}.9").NumberOfFrames == 29
    else:
        assert (answer.status_code, reasons(answer)) == (409, [0xA900])


def test_an_unknown_transfer_syntax_fails_by_itself(url: str) -> None:
    answer = post(
        url,
        body(
            DICOM_JSON,
            (DICOM_JSON, json.dumps([metadata("1.2.3.1.1.46")]).encode()),
            (f"{OCTETS}; transfer-syntax=1.2.840.10008.1.2.2", "bulk/1.2.3.1.1.46", SAMPLES),
        ),
    )
    assert (answer.status_code, reasons(answer)) == (409, [0xC122])


def test_metadata_have_a_bound(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(described_objects, "MOST_METADATA", 1000)
    sent = body(DICOM_JSON, (DICOM_JSON, b"[" + b" " * 2000 + b"]"))
    assert post(url, sent).status_code == 413
    monkeypatch.setattr(described_objects, "MOST_METADATA", 1 << 20)
    assert post(url, sent).status_code == 400  # it holds no object
    # What others hold counts as well, as long as they hold it.
    monkeypatch.setattr(described_objects, "MOST_METADATA_OF_ALL", 3000)
    assert post(url, sent).status_code == 400
    other = body(DICOM_JSON, (DICOM_JSON, b"[" + b" " * 1500), (DICOM_JSON, b" " * 1500))
    answer = post(url, other)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert post(url, sent).status_code == 400


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_body_that_is_cut_or_changed_is_never_stored_as_another(
    url: str, data: st.DataObject
) -> None:
    """Wherever it is cut, nothing is; whatever byte is changed, what is stored has its pixels."""
    uid = f"1.2.3.1.3.{next(NUMBERS)}"
    sent = body(
        DICOM_JSON,
        (DICOM_JSON, json.dumps([metadata(uid)]).encode()),
        (OCTETS, f"bulk/{uid}", SAMPLES),
    )
    content: bytes = sent["content"]
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        sent["content"] = content[:place]
        # What follows the last delimiter says nothing.
        expected = (200,) if place >= len(content) - 2 else (400,)
    else:
        changed = bytes([data.draw(st.integers(0, 255))])
        sent["content"] = content[:place] + changed + content[place + 1 :]
        expected = (200, 202, 400, 409)
    answer = post(url, sent)
    assert answer.status_code in expected, answer.text
    for item in items(answer, "00081199") if answer.status_code in (200, 202) else []:
        found = retrieved(url, item["00081155"]["Value"][0])
        assert len(found.get("PixelData", SAMPLES)) == len(SAMPLES)
    if expected == (400,):
        assert httpx.get(f"{url}/instances?SOPInstanceUID={uid}").json() == []


def test_a_body_that_is_packed_is_refused(url: str) -> None:
    answer = post(url, body("application/dicom"), **{"content-encoding": "gzip"})
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "identity"


def test_mixed_parts(url: str) -> None:
    path = get_testdata_file("MR_small.dcm")
    assert isinstance(path, str)
    with open(path, "rb") as file:
        whole = file.read()
    answer = post(
        url,
        body(
            DICOM_JSON,
            (DICOM_JSON, json.dumps([metadata("1.2.3.1.1.47")]).encode()),
            ("application/dicom", whole),
            (OCTETS, "bulk/1.2.3.1.1.47", SAMPLES),
        ),
    )
    assert answer.status_code == 200
    assert len(items(answer, "00081199")) == 2
    assert "00081190" not in answer.json()  # they are of two studies
