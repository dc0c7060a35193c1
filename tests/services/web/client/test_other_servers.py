"""The DICOMweb client with what other servers do: quirks, faults, answers that break off."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import trio

from isocenter.engine.dataset import write_file_meta
from isocenter.services.archive.index.attributes import Level
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.net.http import unwanted
from isocenter.services.net.http.client import Retries
from isocenter.services.net.http.client_errors import (
    BrokenAnswerError,
    HttpClientError,
    HttpStatusError,
)
from isocenter.services.web.client.client import DicomWebClient
from isocenter.services.web.client.models import value_of
from isocenter.services.web.client.object_files import DownloadFolder
from isocenter.services.web.client.resources import WebResource, split_address
from isocenter.services.web.client.storing import ObjectOutcome
from support.studies import ROOT, instance
from support.web_archive import Answer, Asked, Scripted, http_serving

JSON = ("content-type", "application/dicom+json")
ONCE = Retries(attempts=1)
SOON = Retries(attempts=3, first_seconds=0.001)


def matches(*uids: str) -> bytes:
    return json.dumps([{"0020000D": {"vr": "UI", "Value": [uid]}} for uid in uids]).encode()


async def search(application: Scripted, **options: Any) -> tuple[list[str], list[str]]:
    async with http_serving(application) as url, DicomWebClient(url) as client:
        results = client.search(Level.STUDY, **options)
        return [value_of(one, "0020000D") async for one in results], results.warnings


@pytest.mark.parametrize(
    "answer",
    [(204, [], []), (200, [JSON], [b"[]"]), (200, [JSON], []), (200, [JSON], [b" \n"])],
    ids=["204", "empty list", "no body", "blanks"],
)
async def test_no_match_in_each_way_of_saying_so(answer: Answer) -> None:
    async def answers(asked: Asked) -> Answer:
        return answer

    assert await search(Scripted(answers)) == ([], [])


async def test_one_match_without_a_list_and_a_name_for_not_a_number() -> None:
    async def answers(asked: Asked) -> Answer:
        body = b'{"0020000D":{"vr":"UI","Value":["1.2"]},"00181041":{"vr":"FD","Value":[NaN]}}'
        return 200, [("content-type", "application/json")], [body]

    assert await search(Scripted(answers)) == (["1.2"], [])


async def test_xml_where_json_is_not_known() -> None:
    document = (
        b'<?xml version="1.0"?><NativeDicomModel><DicomAttribute tag="0020000D" vr="UI">'
        b'<Value number="1">1.2</Value></DicomAttribute></NativeDicomModel>'
    )

    async def answers(asked: Asked) -> Answer:
        body = b"--x\r\nContent-Type: application/dicom+xml\r\n\r\n" + document + b"\r\n"
        kind = 'multipart/related; type="application/dicom+xml"; boundary=x'
        return 200, [("content-type", kind)], [body + b"--x--"]

    assert await search(Scripted(answers)) == (["1.2"], [])


def page_of(asked: Asked, uids: Sequence[str], most: int) -> list[str]:
    query = parse_qs(urlsplit(asked.target).query)
    offset = int(query.get("offset", ["0"])[0])
    return list(uids[offset : offset + min(int(query.get("limit", ["9999"])[0]), most)])


async def test_a_server_that_gives_less_than_is_asked_for_and_does_not_say_so() -> None:
    uids = [f"1.{number}" for number in range(250)]

    async def answers(asked: Asked) -> Answer:
        return 200, [JSON], [matches(*page_of(asked, uids, 100))]

    scripted = Scripted(answers)
    assert (await search(scripted))[0] == uids
    assert len(scripted.asked) == 3


async def test_a_server_without_offsets_and_one_without_limits() -> None:
    uids = [f"1.{number}" for number in range(120)]

    async def same(asked: Asked) -> Answer:
        return 200, [JSON], [matches(*uids)]

    scripted = Scripted(same)
    assert (await search(scripted))[0] == uids
    assert len(scripted.asked) == 2  # the second brings nothing new
    scripted = Scripted(same)
    assert (await search(scripted, page=50))[0] == uids
    assert len(scripted.asked) == 1


async def test_a_limit_that_is_refused_and_a_warning_of_more() -> None:
    uids = [f"1.{number}" for number in range(60)]

    async def answers(asked: Asked) -> Answer:
        if "limit=1000" in asked.target:
            return 400, [("content-type", "text/plain")], [b"limit: 1 to 200"]
        found = page_of(asked, uids, 40)
        warning = ("warning", '299 host "There are 20 additional results that can be requested"')
        return 200, [JSON, *([warning] if len(found) == 40 else [])], [matches(*found)]

    found, warnings = await search(Scripted(answers))
    assert found == uids
    assert len(warnings) == 1


async def test_what_a_query_looks_like() -> None:
    async def answers(asked: Asked) -> Answer:
        return 200, [JSON], [b"[]"]

    scripted = Scripted(answers)
    keys = [
        ("PatientName", "Müller^J* & Co"),
        ("StudyDate", "20260101-20261231"),
        ("ModalitiesInStudy", "CT\\MR"),
        ("RequestAttributesSequence[0].ScheduledProcedureStepID", "S1"),
        ("0008,1030", ""),
        ("QueryRetrieveLevel", "STUDY"),
    ]
    await search(scripted, keys=keys, fuzzy=True)
    (asked,) = scripted.asked
    assert asked.target == (
        "/studies?00100010=M%C3%BCller%5EJ*%20%26%20Co&00080020=20260101-20261231"
        "&00080061=CT,MR&00400275.00400009=S1&includefield=00081030&fuzzymatching=true&limit=1000"
    )
    assert asked.headers["accept"] == "application/dicom+json"
    assert not {"cookie", "authorization", "referer"} & asked.headers.keys()


# -- Faults ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "body", "said"),
    [
        ([("content-type", "application/json")], b'{"error":{"message":"no, why"}}', ": no, why"),
        ([("content-type", "application/json")], b'{"errorMessage":"odd"}', ": odd"),
        ([("content-type", "application/json")], b'{"Message":"Bad","Details":"x"}', ": x"),
        ([("content-type", "text/plain")], b"two\r\nlines", ": two lines"),
        ([("content-type", "text/html")], b"<html>no</html>", ""),
        ([("content-type", "application/json")], b"{", ""),
        ([], b"", ""),
    ],
)
async def test_what_a_server_says_of_an_error(
    fields: list[tuple[str, str]], body: bytes, said: str
) -> None:
    async def answers(asked: Asked) -> Answer:
        return 403, fields, [body]

    text = await failed(Scripted(answers), HttpStatusError)
    assert text == f"the server answered 403 Forbidden{said}"


async def failed(application: Scripted, kind: type[HttpClientError], **options: Any) -> str:
    """The text of the error with which a search ends."""
    async with http_serving(application) as url:
        async with DicomWebClient(url, **options) as client:
            with pytest.raises(kind) as info:
                _ = [one async for one in client.search(Level.STUDY)]
        return str(info.value)


async def test_a_redirect_is_told_and_not_followed_with_the_token() -> None:
    async def answers(asked: Asked) -> Answer:
        return 301, [("location", "https://elsewhere.example/dicomweb/studies?x=1")], []

    scripted = Scripted(answers)
    text = await failed(scripted, HttpStatusError, token="t0ken")
    assert text.endswith(
        "it redirects to https://elsewhere.example/dicomweb/studies, so give that address"
    )
    assert [one.headers["authorization"] for one in scripted.asked] == ["Bearer t0ken"]


async def test_something_else_at_the_address() -> None:
    async def answers(asked: Asked) -> Answer:
        return 200, [("content-type", "text/html")], [b"<!doctype html><title>Hello</title>"]

    assert "is this the address of DICOMweb?" in await failed(Scripted(answers), HttpClientError)


async def test_a_server_that_is_busy_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    left = [503, 429]

    async def answers(asked: Asked) -> Answer:
        if left:
            fields = [("retry-after", "0"), ("content-type", "text/plain")]
            return left.pop(), fields, ["no room for Müller^Jörg".encode()]
        return 200, [JSON], [matches("1.2")]

    async with http_serving(Scripted(answers)) as url, DicomWebClient(url, retries=SOON) as client:
        keys = [("PatientName", "Müller^Jörg")]
        found = [value_of(one, "0020000D") async for one in client.search(Level.STUDY, keys)]
    assert found == ["1.2"]
    # No address is in any log, at no level: it would name the patient.
    assert "00100010" not in caplog.text
    assert "Müller" not in caplog.text


async def test_one_that_stays_busy_and_one_that_breaks_off() -> None:
    async def busy(asked: Asked) -> Answer:
        return 503, [], []

    scripted = Scripted(busy)
    assert "503" in await failed(scripted, HttpStatusError, retries=SOON)
    assert len(scripted.asked) == 3

    async def cut(asked: Asked) -> Answer:
        return 200, [JSON, ("content-length", "100")], [b"[", None]

    assert "broke off" in await failed(Scripted(cut), BrokenAnswerError, retries=SOON)


# -- Retrieve ----------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def part_10(number: int) -> bytes:
    from io import BytesIO

    import pydicom

    written = BytesIO()
    item = instance(1, 1, number)
    item.file_meta.MediaStorageSOPClassUID = item.SOPClassUID
    item.file_meta.MediaStorageSOPInstanceUID = item.SOPInstanceUID
    pydicom.dcmwrite(written, item, enforce_file_format=True)
    return written.getvalue()


def multipart(
    *numbers: int, head: bytes = b"Content-Type: application/dicom", end: bytes = b"--"
) -> bytes:
    parts = [b"\r\n--b\r\n" + head + b"\r\n\r\n" + part_10(number) for number in numbers]
    return b"".join(parts) + b"\r\n--b" + end


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ('multipart/related; type="application/dicom"; boundary=b', multipart(1, 2)),
        ('Multipart/Related;boundary="b";type=application/dicom', multipart(1, 2)[2:]),
        ("multipart/related; type=application/dicom", multipart(1, 2)),
        ("multipart/mixed; boundary=b", multipart(1, 2, head=b"X: y") + b"\r\nbye"),
        (
            "multipart/related; boundary=b",
            b"preamble" + multipart(1, 2, head=b"content-type:application/dicom"),
        ),
    ],
    ids=["plain", "quoted, no line before", "no boundary", "no type", "preamble"],
)
@pytest.mark.parametrize("size", [31, 100_000])
async def test_multipart_as_servers_write_it(
    kind: str, body: bytes, size: int, tmp_path: Path
) -> None:
    async def answers(asked: Asked) -> Answer:
        pieces: list[bytes | None] = [body[at : at + size] for at in range(0, len(body), size)]
        return 200, [("content-type", kind)], pieces

    files = DownloadFolder(tmp_path, "{instance}.dcm")
    scripted = Scripted(answers)
    async with http_serving(scripted) as url, DicomWebClient(url) as client:
        await client.download(WebResource(f"{ROOT}.1"), files)
    assert scripted.asked[0].headers["accept"] == (
        'multipart/related; type="application/dicom"; transfer-syntax=*'
    )
    assert files.counts.written == 2
    assert contents(tmp_path) == {f"{ROOT}.1.1.{number}.dcm": part_10(number) for number in (1, 2)}


async def test_a_single_part_and_one_that_is_no_object(tmp_path: Path) -> None:
    async def single(asked: Asked) -> Answer:
        return 200, [("content-type", "application/dicom")], [part_10(1)]

    async def junk(asked: Asked) -> Answer:
        body = multipart(1).replace(b"DICM", b"NOPE")
        return 200, [("content-type", "multipart/related; boundary=b")], [body]

    for answers, counts in ((single, (1, 0)), (junk, (0, 1))):
        files = DownloadFolder(tmp_path / answers.__name__)
        async with http_serving(Scripted(answers)) as url, DicomWebClient(url) as client:
            await client.download(WebResource(f"{ROOT}.1"), files)
        assert (files.counts.written, files.counts.failed) == counts


async def test_a_download_that_breaks_off_goes_on(tmp_path: Path) -> None:
    """What came stays, what did not is asked for by instance, and nothing is half there."""

    async def answers(asked: Asked) -> Answer:
        path = urlsplit(asked.target).path
        kind = ("content-type", "multipart/related; boundary=b")
        if path.endswith("/instances"):
            listed = [
                {
                    "0020000E": {"vr": "UI", "Value": [f"{ROOT}.1.1"]},
                    "00080018": {"vr": "UI", "Value": [f"{ROOT}.1.1.{number}"]},
                }
                for number in (1, 2, 3)
            ]
            return 200, [JSON], [json.dumps(listed).encode()]
        if "/instances/" in path:
            return 200, [kind], [multipart(int(path.rpartition(".")[2]))]
        whole = multipart(1, 2, 3)
        return 200, [kind], [whole[: len(whole) // 2], None]

    scripted = Scripted(answers)
    files = DownloadFolder(tmp_path, "{instance}.dcm")
    async with http_serving(scripted) as url, DicomWebClient(url, retries=ONCE) as client:
        result = await client.download(WebResource(f"{ROOT}.1"), files)
    assert result.cuts == 1
    assert sorted(contents(tmp_path)) == [f"{ROOT}.1.1.{number}.dcm" for number in (1, 2, 3)]
    again = [one.target.rpartition(".")[2] for one in scripted.asked if "/instances/" in one.target]
    assert sorted(again) == ["2", "3"]


async def test_what_a_server_lists_and_does_not_give(tmp_path: Path) -> None:
    """Some of it with 206, and one by one with 410."""

    async def answers(asked: Asked) -> Answer:
        kind = ("content-type", "multipart/related; boundary=b")
        if urlsplit(asked.target).path.endswith("/instances"):
            listed = [
                {"00080018": {"vr": "UI", "Value": [f"{ROOT}.1.1.{number}"]}} for number in (1, 2)
            ]
            return 200, [JSON], [json.dumps(listed).encode()]
        if asked.target.endswith(".2"):
            return 410, [], []
        return 206, [kind, ("warning", '299 host "one is gone"')], [multipart(1)]

    async with http_serving(Scripted(answers)) as url, DicomWebClient(url) as client:
        series = WebResource(f"{ROOT}.1", f"{ROOT}.1.1")
        result = await client.download(series, DownloadFolder(tmp_path, "{instance}.dcm"))
        assert result.is_partial
        assert result.warnings == ('299 host "one is gone"',)
        folder = DownloadFolder(tmp_path, "{instance}.dcm")
        result = await client.download(series, folder, skip_existing=True)
    assert result.missing == (f"{ROOT}.1.1.2",)
    assert (folder.counts.written, folder.counts.kept) == (0, 1)


async def test_a_body_without_its_last_delimiter_is_cut(tmp_path: Path) -> None:
    async def answers(asked: Asked) -> Answer:
        return 200, [("content-type", "multipart/related; boundary=b")], [multipart(1)[:-4]]

    resource = WebResource(f"{ROOT}.1", f"{ROOT}.1.1", f"{ROOT}.1.1.1")
    async with http_serving(Scripted(answers)) as url, DicomWebClient(url, retries=ONCE) as client:
        with pytest.raises(BrokenAnswerError, match="last delimiter"):
            await client.download(resource, DownloadFolder(tmp_path))
    assert not contents(tmp_path)


@pytest.mark.parametrize(
    "uri",
    [
        "http://10.0.0.1:8042/orthanc/dicom-web/studies/1.2/bulk/7fe00010",
        "/dicom-web/studies/1.2/bulk/7fe00010",
        "studies/1.2/bulk/7fe00010",
    ],
)
async def test_bulk_data_of_a_server_that_does_not_know_its_own_name(uri: str) -> None:
    async def answers(asked: Asked) -> Answer:
        assert urlsplit(asked.target).path == "/web/studies/1.2/bulk/7fe00010"
        return 200, [("content-type", "application/octet-stream")], [b"pixels"]

    async with (
        http_serving(Scripted(answers)) as url,
        DicomWebClient(f"{url}/web/") as client,
        client.bulk_data(uri) as parts,
    ):
        assert [await part.read(100) async for part in parts] == [b"pixels"]


def test_addresses() -> None:
    base = "https://a.example:8443/web/dicomweb"
    for tail, resource in (
        ("", None),
        ("/studies/1.2", WebResource("1.2")),
        ("/studies/1.2/series/1.3/metadata", WebResource("1.2", "1.3")),
        ("/studies/1.2/series/1.3/instances/1.4/", WebResource("1.2", "1.3", "1.4")),
        (
            "/studies/1.2/series/1.3/instances/1.4/frames/1,3/rendered",
            WebResource("1.2", "1.3", "1.4", (1, 3)),
        ),
        (
            "/studies/1.2/series/1.3/instances/1.4/bulkdata/00420011",
            WebResource("1.2", "1.3", "1.4", (), "/bulkdata/00420011"),
        ),
    ):
        assert split_address(base + tail) == (base, resource)
    with pytest.raises(ValueError, match="UIDs"):
        split_address(f"{base}/studies/..%2F")
    for bad in (
        "ftp://x/",
        "http://",
        "http://u:p@host/",
        "archive:8080",
        "http://h/a b",
        "http://h:x/",
    ):
        with pytest.raises(ValueError, match="address"):
            DicomWebClient(bad)


# -- Store -------------------------------------------------------------------------------


async def store(scripted: Scripted, *numbers: int, **options: Any) -> list[ObjectOutcome]:
    async with http_serving(scripted) as url, DicomWebClient(url, **options) as client:
        items = [DicomObject.from_dataset(instance(1, 1, number)) for number in numbers]
        return [one async for one in client.store(items)]


def references(tag: str, *numbers: int, reason: int | None = None) -> dict[str, Any]:
    items: list[dict[str, Any]] = []
    for number in numbers:
        item = {"00081155": {"vr": "UI", "Value": [f"{ROOT}.1.1.{number}"]}}
        if reason is not None:
            item["00081197"] = {"vr": "US", "Value": [reason]}  # type: ignore[list-item]
        items.append(item)
    return {tag: {"vr": "SQ", "Value": items}} if items else {}


async def test_the_body_of_a_store_request() -> None:
    async def answers(asked: Asked) -> Answer:
        return 200, [JSON], [json.dumps(references("00081199", 1, 2)).encode()]

    scripted = Scripted(answers)
    outcomes = await store(scripted, 1, 2)
    assert all(one.is_stored for one in outcomes)
    (asked,) = scripted.asked
    kind = asked.headers["content-type"]
    boundary = kind.rpartition("boundary=")[2].encode()
    assert kind.startswith('multipart/related; type="application/dicom"; boundary=')
    assert int(asked.headers["content-length"]) == len(asked.body)
    head = write_file_meta(
        instance().SOPClassUID, f"{ROOT}.1.1.1", instance().file_meta.TransferSyntaxUID
    )
    assert asked.body.startswith(
        b"--" + boundary + b"\r\nContent-Type: application/dicom\r\n\r\n" + bytes(head)
    )
    assert asked.body.endswith(b"\r\n--" + boundary + b"--\r\n")


async def test_outcomes_as_servers_tell_them() -> None:
    async def partly(asked: Asked) -> Answer:
        found = references("00081199", 1) | references("00081198", 2, reason=0xA700)
        return 202, [JSON], [json.dumps(found).encode()]

    outcomes = await store(Scripted(partly), 1, 2, 3)
    assert [(one.is_stored, one.status) for one in outcomes] == [
        (True, None), (False, 0xA700), (False, None),
    ]  # fmt: skip

    async def silent(asked: Asked) -> Answer:
        return 200, [], []

    assert [one.is_stored for one in await store(Scripted(silent), 1, 2)] == [True, True]

    async def conflict(asked: Asked) -> Answer:
        found = references("00081198", 1, 2, reason=0x0110)
        return 409, [JSON], [json.dumps(found).encode()]

    outcomes = await store(Scripted(conflict), 1, 2)
    assert [(one.is_stored, one.status) for one in outcomes] == [(False, 0x0110)] * 2


async def test_a_request_that_is_refused_for_one_object_is_sent_one_by_one() -> None:
    bad = f"{ROOT}.1.1.2".encode()

    async def answers(asked: Asked) -> Answer:
        if bad in asked.body:
            return 400, [("content-type", "text/plain")], [b"cannot parse"]
        return 200, [], []

    scripted = Scripted(answers)
    outcomes = await store(scripted, 1, 2, 3)
    assert [one.is_stored for one in outcomes] == [True, False, True]
    assert outcomes[1].reason == "the server answered 400 Bad Request: cannot parse"
    assert len(scripted.asked) == 4


async def test_a_store_is_not_repeated_when_it_may_have_been_done() -> None:
    async def cut(asked: Asked) -> Answer:
        raise RuntimeError("the script ends the connection without an answer")

    scripted = Scripted(cut)
    async with http_serving(scripted) as url, DicomWebClient(url, retries=SOON) as client:
        with pytest.raises(HttpStatusError, match="500"):
            _ = [one async for one in client.store([DicomObject.from_dataset(instance())])]
    assert len(scripted.asked) == 1

    left = [503]

    async def busy(asked: Asked) -> Answer:
        return (left.pop(), [], []) if left else (200, [], [])

    scripted = Scripted(busy)
    assert [one.is_stored for one in await store(scripted, 1, retries=SOON)] == [True]
    assert len(scripted.asked) == 2


@pytest.mark.parametrize("end", [b"", b"\r\n--x--\r\n"], ids=["a part", "behind the parts"])
async def test_what_nobody_reads_of_an_answer_has_an_end(
    end: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unwanted, "MOST_UNWANTED_BYTES", 1 << 20)

    async def answers(asked: Asked) -> Any:
        head = b"--x\r\nContent-Type: application/dicom\r\n\r\nDICM" + end
        related = ("content-type", "multipart/related; boundary=x")
        return 200, [related], chain([head], repeat(b"\0" * 65_536))

    async def look_at_each(client: DicomWebClient) -> None:
        async with client.retrieve(WebResource("1.2")) as parts:
            async for part in parts:
                async for _ in part:
                    break

    with trio.fail_after(60):
        async with http_serving(Scripted(answers)) as url, DicomWebClient(url) as client:
            with pytest.raises(BrokenAnswerError, match="nobody asked for"):
                await look_at_each(client)
