"""STOW-RS: statuses and answers, bodies that are odd, archives without room, peers that go."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pydicom
import pytest
import trio
from pydicom.data import get_testdata_file

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.capacity import Room
from isocenter.services.archive.rules.evaluation import Rules
from isocenter.services.notices import InstanceRefused, InstanceStored
from isocenter.services.settings.rules import parse_rule
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.objects.memory import MemoryStore
from support.dicomweb import Served, body, multipart, served, serving

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def archive() -> Iterator[Served]:
    with served() as found:
        yield found


def image(uid: str, *, study: str = "1.2.7.1", comment: str = "") -> bytes:
    path = get_testdata_file("CT_small.dcm")
    assert isinstance(path, str)
    found = pydicom.dcmread(path)
    found.SOPInstanceUID = found.file_meta.MediaStorageSOPInstanceUID = uid
    found.StudyInstanceUID, found.SeriesInstanceUID = study, f"{study}.1"
    if comment:
        found.ImageComments = comment
    written = io.BytesIO()
    found.save_as(written)
    return written.getvalue()


def post(url: str, sent: Json, **headers: str) -> httpx.Response:
    return httpx.post(
        f"{url}/studies",
        content=sent["content"],
        headers={**sent["headers"], **headers},
        timeout=60,
    )


def items(answer: httpx.Response, tag: str) -> list[Json]:
    found: list[Json] = answer.json().get(tag, {}).get("Value", [])
    return found


def numbers(answer: httpx.Response, sequence: str, tag: str) -> list[int | None]:
    return [item.get(tag, {}).get("Value", [None])[0] for item in items(answer, sequence)]


def test_an_object_twice_in_one_request(archive: Served) -> None:
    one = image("1.2.7.1.1")
    answer = post(archive.url, body(DICOM, (DICOM, one), (DICOM, one)))
    assert answer.status_code == 200
    assert len(items(answer, "00081199")) == 2
    other = image("1.2.7.1.1", comment="another")
    answer = post(archive.url, body(DICOM, (DICOM, one), (DICOM, other)))
    assert answer.status_code == 202
    assert numbers(answer, "00081199", "00081196") == [None, 0xB007]
    assert "another object" in items(answer, "00081199")[1]["00000902"]["Value"][0]
    found = httpx.get(f"{archive.url}/instances?SOPInstanceUID=1.2.7.1.1").json()
    assert len(found) == 1


def test_objects_of_two_studies_have_no_study_url(archive: Served) -> None:
    answer = post(
        archive.url,
        body(DICOM, (DICOM, image("1.2.7.1.2")), (DICOM, image("1.2.7.2.2", study="1.2.7.2"))),
    )
    assert answer.status_code == 200
    assert set(answer.json()) == {"00081199"}
    for item in items(answer, "00081199"):
        assert list(item) == sorted(item)
        assert httpx.head(item["00081190"]["Value"][0]).status_code == 200


def test_what_names_no_object_stands_apart(archive: Served) -> None:
    archive.notices.clear()
    answer = post(archive.url, body(DICOM, (DICOM, b"junk"), ("image/png", "", b"x"), (DICOM, b"")))
    assert answer.status_code == 409
    assert set(answer.json()) == {"0008119A"}
    assert numbers(answer, "0008119A", "00081197") == [0xC000] * 3
    assert all(item["00000902"]["Value"][0] for item in items(answer, "0008119A"))
    assert [type(one) for one in archive.notices] == [InstanceRefused] * 3


def test_the_answer_as_xml(archive: Served) -> None:
    accept = 'multipart/related; type="application/dicom+xml"'
    answer = post(archive.url, body(DICOM, (DICOM, image("1.2.7.1.3"))), accept=accept)
    assert answer.status_code == 200
    assert b'keyword="RetrieveURL"' in answer.content
    answer = post(archive.url, body(DICOM, (DICOM, b"junk")), accept=accept)
    assert answer.status_code == 409
    assert b'tag="0008119A"' in answer.content
    refused = post(archive.url, body(DICOM, (DICOM, b"junk")), accept="text/csv")
    assert refused.status_code == 406


@pytest.mark.parametrize(
    "part",
    [
        b"content-type:application/dicom\r\n\r\n",
        b'Content-Type: Application/DICOM; transfer-syntax="1.2.840.10008.1.2.1"\r\n\r\n',
        b"X-Other: 1\r\nContent-Type: application/dicom;\r\n\r\n",
        b"Content-Type:\r\n application/dicom\r\n\r\n",
        b"Content-Type: application/dicom\n\n",
        b"MIME-Version: 1.0\r\nContent-Transfer-Encoding: binary\r\n\r\n",
        b"\r\n",
    ],
)
def test_headers_of_parts_are_read_as_they_are_written(archive: Served, part: bytes) -> None:
    one = image("1.2.7.1.4")
    answer = post(archive.url, multipart(DICOM, [part + one]))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/related; boundary=b0b0",
        "multipart/related; type=application/dicom; boundary=b0b0",
        'Multipart/Related;TYPE="application/dicom";Boundary="b0b0"',
        'multipart/related; type="application/dicom; transfer-syntax=*"; boundary=b0b0; start=<a>',
    ],
)
def test_content_types_of_the_body(archive: Served, content_type: str) -> None:
    sent = body(DICOM, (DICOM, image("1.2.7.1.4")))
    sent["headers"]["content-type"] = content_type
    for before in (b"", b"\r\n", b"a preamble\r\n"):
        answer = httpx.post(
            f"{archive.url}/studies", content=before + sent["content"], headers=sent["headers"]
        )
        assert answer.status_code == 200, answer.text


def test_what_looks_like_a_delimiter_is_none(archive: Served) -> None:
    one = image("1.2.7.1.5", comment="\r\n--b0b\r\n\r\n--b0b0".replace("--b0b0", "--b0b1"))
    assert post(archive.url, body(DICOM, (DICOM, one))).status_code == 200
    accept = {"accept": "application/dicom; transfer-syntax=*"}
    where = "studies/1.2.7.1/series/1.2.7.1.1/instances/1.2.7.1.5"
    found = pydicom.dcmread(io.BytesIO(httpx.get(f"{archive.url}/{where}", headers=accept).content))
    assert found.ImageComments.startswith("\r\n--b0b")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods(archive: Served, method: str) -> None:
    for path in ("/studies", "/studies/1.2.7.1"):
        answer = httpx.request(method, archive.url + path)
        assert answer.status_code == 405
        assert "POST" in answer.headers["allow"]


def without_room() -> Archive:
    async def used() -> int:
        return 10 << 20

    room = Room(quota=10 << 20, count=used)
    return Archive(MemoryStore(), MemoryIndex(), room=room)


async def test_no_room_is_503() -> None:
    async with serving(without_room()) as found:
        for sent in (
            body(DICOM, (DICOM, image("1.2.7.1.6")), (DICOM, image("1.2.7.1.7"))),
            {"content": image("1.2.7.1.6"), "headers": {"content-type": DICOM}},
        ):
            answer = await trio.to_thread.run_sync(partial(post, found.url, sent))
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
            assert set(numbers(answer, "00081198", "00081197")) == {0xA700}
        # What cannot be understood at all is no matter of room.
        mixed = body(DICOM, (DICOM, image("1.2.7.1.6")), (DICOM, b"junk"))
        answer = await trio.to_thread.run_sync(partial(post, found.url, mixed))
        assert answer.status_code == 409


async def test_the_study_of_the_path_is_known_also_where_rules_change_objects() -> None:
    """They hold the head of a small object to its end."""
    rule = parse_rule({"name": "r", "coerce": [{"set": "PatientID", "value": "NEW"}]})
    archive = Archive(MemoryStore(), MemoryIndex(), rules=Rules([rule]))
    small = pydicom.dcmread(io.BytesIO(image("1.2.7.1.8")))
    for element in list(small):
        if element.tag.group > 0x20:  # nothing stands behind the last one that rules may change
            del small[element.tag]
    written = io.BytesIO()
    small.save_as(written)
    async with serving(archive) as found:
        for study, expected in (("1.2.7.1", 202), ("1.2.7.2", 409)):
            sent = {"content": written.getvalue(), "headers": {"content-type": DICOM}}
            ask = partial(httpx.post, f"{found.url}/studies/{study}", timeout=60, **sent)
            answer = await trio.to_thread.run_sync(ask)
            assert answer.status_code == expected, answer.text
        assert numbers(answer, "00081198", "00081197") == [0xA901]
        (record,) = (await archive.index.records(["1.2.7.1.8"])).values()
        assert record.attributes[0x00100020] == "NEW"


async def test_no_room_for_bulk_data_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from isocenter.services.web.dicomweb.store import bulk_spool

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bulk_spool, "_write_all", full)
    model = {
        "00080018": {"vr": "UI", "Value": ["1.2"]},
        "7FE00010": {"vr": "OW", "BulkDataURI": "x"},
    }
    parts = ((DICOM_JSON, json.dumps(model).encode()), ("application/octet-stream", "x", bytes(99)))
    async with serving() as found:
        sent = body(DICOM_JSON, *parts)
        answer = await trio.to_thread.run_sync(partial(post, found.url, sent))
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert answer.json()["error"]["code"] == "NO_ROOM"


@pytest.mark.parametrize("kind", [DICOM, DICOM_JSON])
async def test_a_peer_that_goes_leaves_nothing_half_stored(kind: str) -> None:
    model: Json = {
        "00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.7"]},
        "00080018": {"vr": "UI", "Value": ["1.2.7.9.9"]},
        "0020000D": {"vr": "UI", "Value": ["1.2.7.9"]},
        "0020000E": {"vr": "UI", "Value": ["1.2.7.9.1"]},
        "7FE00010": {"vr": "OW", "BulkDataURI": "x"},
    }
    if kind == DICOM:
        sent = body(DICOM, (DICOM, image("1.2.7.1.8")), (DICOM, image("1.2.7.1.9")))
    else:
        metadata = (DICOM_JSON, json.dumps(model).encode())
        sent = body(DICOM_JSON, metadata, ("application/octet-stream", "x", bytes(99_000)))
    content: bytes = sent["content"]
    async with serving() as found:
        host = found.url.removeprefix("http://").partition("/")[0]
        head = (
            f"POST /dicomweb/studies HTTP/1.1\r\nHost: {host}\r\n"
            f"Content-Type: {sent['headers']['content-type']}\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        name, _, port = host.partition(":")
        async with await trio.open_tcp_stream(name, int(port)) as stream:
            await stream.send_all(head.encode() + content[: len(content) - 100])
        # Once the connection is gone, whatever was whole may be there, and nothing else.
        async with await trio.open_tcp_stream(name, int(port)) as stream:
            await stream.send_all(head.encode() + content)
            answer = await stream.receive_some()
            assert answer.startswith(b"HTTP/1.1 200")
        listed = await trio.to_thread.run_sync(partial(httpx.get, f"{found.url}/instances"))
        assert len(listed.json()) == (2 if kind == DICOM else 1)
        stored = [one for one in found.notices if isinstance(one, InstanceStored)]
        assert {one.sop_instance_uid for one in stored} == (
            {"1.2.7.1.8", "1.2.7.1.9"} if kind == DICOM else {"1.2.7.9.9"}
        )


async def test_what_is_gone_is_told_before_the_first_byte() -> None:
    async with serving() as found:
        sent = body(DICOM, *((DICOM, image(f"1.2.7.1.{number}")) for number in range(1, 4)))
        await trio.to_thread.run_sync(partial(post, found.url, sent))
        index = found.archive.index
        known = await index.get(["1.2.7.1.2", "1.2.7.1.1", "1.2.7.1.3"])
        accept = {"accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
        series = f"{found.url}/studies/1.2.7.1/series/1.2.7.1.1"

        async def get(url: str) -> httpx.Response:
            return await trio.to_thread.run_sync(partial(httpx.get, url, headers=accept))

        whole = await get(series)
        assert (whole.status_code, whole.content.count(b"DICM")) == (200, 3)
        await found.archive.store.remove([known["1.2.7.1.2"].object_key])
        for url in (series, f"{found.url}/studies/1.2.7.1"):
            part = await get(url)
            assert (part.status_code, part.content.count(b"DICM")) == (206, 2)
            assert int(part.headers["content-length"]) == len(part.content)
            assert part.headers["warning"].startswith(f"299 {found.url} ")
            assert "1 of 3" in part.headers["warning"]
            assert part.headers["etag"] != whole.headers["etag"]
        assert (await get(f"{series}/instances/1.2.7.1.2")).status_code == 410
        assert (await get(f"{series}/instances/1.2.7.1.1")).status_code == 200
        await found.archive.store.remove([one.object_key for one in known.values()])
        assert (await get(series)).status_code == 410
