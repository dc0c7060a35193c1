"""Studies and series as ZIP files, by pages and by DICOMweb."""

from __future__ import annotations

import io
import socket
import subprocess
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from pydicom import dcmread

from isocenter.engine.errors import IsocenterError
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.export.service import Exporter
from isocenter.services.archive.export.values import ExportedStudy
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Query
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.net.http.messages import HttpError, Request
from isocenter.services.net.http.notices import HttpLimitReached
from isocenter.services.notices import AccessDenied, InstancesRead, Notices
from isocenter.services.security.access.permissions import ALL_PERMISSIONS
from isocenter.services.web.downloads import Downloads, DownloadSlots
from isocenter.services.web.principal import Principal
from services.archive_support import STUDY, data_set, store, uid
from services.web.signed_in import ALICE, MOST_DOWNLOAD, Site, opened

DOCTOR = replace(ALICE, name="doctor", roles=("Radiologist",))
OTHER = replace(ALICE, name="other", roles=("Radiologist",))
SECOND = "1.2.7"


async def keep(site: Site, number: int, **options: Any) -> None:
    await store(site.parts.archive, number, data_set(number, **options))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(tmp_path, more=(DOCTOR, OTHER)) as found:
        for number in (1, 2, 3):
            await store(found.parts.archive, number)
        await keep(found, 4, series="1.2.3.5")
        await keep(found, 5, study=SECOND, series=f"{SECOND}.1")
        yield found


async def all_stored(archive: Archive) -> list[StoredInstance]:
    async with archive.index.instances(Query(level=Level.STUDY)) as blocks:
        return [one async for block in blocks for one in block]


async def contents(archive: Archive) -> dict[str, bytes]:
    """The files of an archive, by SOP Instance UID."""
    found = {}
    for one in await all_stored(archive):
        async with await archive.open(one) as reader:
            found[one.sop_instance_uid] = bytes(await reader.read(0, reader.size))
    return found


def unpacked(answer: httpx.Response) -> dict[str, bytes]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as opened:
        assert opened.testzip() is None
        return {name: opened.read(name) for name in opened.namelist()}


async def test_a_study_is_downloaded_as_it_is_stored_and_recorded(site: Site) -> None:
    cookie = await site.cookie("doctor")
    answer = await site.client.get(f"/download?study={STUDY}", headers=cookie)
    files = unpacked(answer)
    stored = await contents(site.parts.archive)
    assert files == {
        f"{STUDY}/{'1.2.3.5' if number == 4 else '1.2.3.4'}/{uid(number)}.dcm": stored[uid(number)]
        for number in (1, 2, 3, 4)
    }
    assert answer.headers["content-disposition"] == f'attachment; filename="{STUDY}.zip"'
    assert "no-store" in answer.headers["cache-control"]
    (exported,) = site.exported
    assert (exported.study_instance_uid, exported.actor, exported.access_point) == (
        STUDY, "doctor", "127.0.0.1",
    )  # fmt: skip
    assert sum(exported.sop_classes.values()) == 4
    assert exported.is_whole


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        (f"study={STUDY}&series=1.2.3.5", {4}),
        (f"study={STUDY}&series=1.2.3.5&series=1.2.3.4", {1, 2, 3, 4}),
        (f"study={STUDY}&study={SECOND}&study={STUDY}", {1, 2, 3, 4, 5}),
    ],
)
async def test_what_is_chosen_is_downloaded(site: Site, query: str, numbers: set[int]) -> None:
    cookie = await site.cookie("doctor")
    files = unpacked(await site.client.get(f"/download?{query}", headers=cookie))
    assert {Path(name).stem for name in files} == {uid(number) for number in numbers}


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("study=", 400),
        (f"series={STUDY}.1", 400),
        (f"study={STUDY}&study={SECOND}&series=1.2.3.4", 400),
        ("&".join(f"study=1.{number}" for number in range(201)), 400),
        ("study=1.2.99", 404),
        (f"study={STUDY}&study=1.2.99", 404),
        (f"study={SECOND}&series=1.2.3.4", 404),
    ],
)
async def test_what_cannot_be_is_said_before_the_first_byte(
    site: Site, query: str, status: int
) -> None:
    cookie = await site.cookie("doctor")
    answer = await site.client.get(f"/download?{query}", headers=cookie)
    assert answer.status_code == status
    assert "content-disposition" not in answer.headers
    assert not site.exported


async def test_with_a_directory_the_names_are_those_of_media(site: Site, tmp_path: Path) -> None:
    cookie = await site.cookie("doctor")
    query = f"study={STUDY}&study={SECOND}&dicomdir=1"
    files = unpacked(await site.client.get(f"/download?{query}", headers=cookie))
    assert set(files) == {
        "DICOM/ST000001/SE000001/IM000001",
        "DICOM/ST000001/SE000001/IM000002",
        "DICOM/ST000001/SE000001/IM000003",
        "DICOM/ST000001/SE000002/IM000001",
        "DICOM/ST000002/SE000001/IM000001",
        "DICOMDIR",
    }
    for name, content in files.items():
        path = tmp_path / "cd" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    listed = dcmread(tmp_path / "cd" / "DICOMDIR").DirectoryRecordSequence
    assert [one.DirectoryRecordType for one in listed].count("IMAGE") == 5
    for one in listed:
        if one.DirectoryRecordType == "IMAGE":
            named = dcmread(tmp_path.joinpath("cd", *one.ReferencedFileID))
            assert named.SOPInstanceUID == one.ReferencedSOPInstanceUIDInFile


@pytest.mark.interop("unzip", "dcmdump")
async def test_other_programs_read_it(site: Site, tmp_path: Path) -> None:
    cookie = await site.cookie("doctor")
    answer = await site.client.get(f"/download?study={STUDY}&dicomdir=1", headers=cookie)
    file = tmp_path / "study.zip"
    file.write_bytes(answer.content)
    await trio.run_process(["unzip", "-tq", str(file)], capture_stdout=True)
    await trio.run_process(["unzip", "-q", str(file), "-d", str(tmp_path / "cd")])
    for name in ("DICOMDIR", "DICOM/ST000001/SE000002/IM000001"):
        ran = await trio.run_process(
            ["dcmdump", str(tmp_path / "cd" / name)], capture_stdout=True, stderr=subprocess.STDOUT
        )
        assert b"W:" not in ran.stdout
        assert b"E:" not in ran.stdout


async def test_dicomweb_gives_the_same_to_who_accepts_it(site: Site) -> None:
    cookie = await site.cookie("doctor")
    path = f"/dicomweb/studies/{STUDY}/series/1.2.3.4"
    for accept in ("application/zip", "application/zip; transfer-syntax=*, */*;q=.1"):
        headers = {**cookie, "accept": accept}
        assert len(unpacked(await site.client.get(path, headers=headers))) == 3
    assert len(unpacked(await site.client.get(f"{path}?accept=application/zip", headers=cookie)))
    one = f"{path}/instances/{uid(1)}?accept=application/zip"
    assert len(unpacked(await site.client.get(one, headers=cookie))) == 1
    for accept, status in (
        ("*/*", 200),
        ("application/zip; transfer-syntax=1.2.840.10008.1.2.4.90", 406),
    ):
        answer = await site.client.get(path, headers={**cookie, "accept": accept})
        assert answer.status_code == status
        assert answer.headers["content-type"] != "application/zip"
    exported = len(site.exported)
    headers = {**cookie, "accept": "application/zip"}
    assert (await site.client.head(path, headers=headers)).status_code == 200
    assert len(site.exported) == exported
    assert not [one for one in site.told if isinstance(one, InstancesRead)]


async def test_who_may_read_only_downloads_nothing(site: Site) -> None:
    cookie = await site.cookie("alice")  # a viewer
    for path in (
        f"/download?study={STUDY}",
        f"/dicomweb/studies/{STUDY}?accept=application/zip",
    ):
        assert await site.status(path, cookie) == 403
    assert [type(one) for one in site.told].count(AccessDenied) == 2
    assert not site.exported
    for page in ("/", f"/studies/{STUDY}", f"/studies/{STUDY}/series/1.2.3.4"):
        text = (await site.client.get(page, headers=cookie)).text
        assert "/download" not in text
        text = (await site.client.get(page, headers=await site.cookie("doctor"))).text
        assert "/download" in text


async def test_an_object_that_is_gone_is_left_out_and_named(site: Site) -> None:
    (gone,) = [
        one for one in await all_stored(site.parts.archive) if one.sop_instance_uid == uid(2)
    ]
    await site.parts.archive.store.remove([gone.object_key])
    cookie = await site.cookie("doctor")
    answer = await site.client.get(f"/download?study={STUDY}&dicomdir=1", headers=cookie)
    files = unpacked(answer)
    assert uid(2).encode() in files["LEFTOUT.TXT"]
    assert len(files) == 3 + 2


async def test_a_download_that_is_too_large_is_told(site: Site) -> None:
    await keep(site, 6, study="1.2.9", pixels=bytes(MOST_DOWNLOAD))
    cookie = await site.cookie("doctor")
    answer = await site.client.get("/download?study=1.2.9", headers=cookie)
    assert answer.status_code == 413
    assert "web.max_download" in answer.text
    assert not site.exported


# -- Bounds, without a network ---------------------------------------------------------------


def request_of(query: str, user: str = "doctor") -> Request:
    async def no_body() -> dict[str, object]:
        return {"type": "http.request"}

    request = Request(
        {
            "type": "http", "method": "GET", "scheme": "https", "raw_path": b"/download",
            "query_string": query.encode(), "headers": [], "client": ("10.0.0.7", 1),
        },
        no_body,
    )  # fmt: skip
    request.caller = Principal(permissions=ALL_PERMISSIONS, user=user)
    return request


def downloads_of(
    site: Site, record: Callable[..., Awaitable[None]], told: Notices | None = None
) -> Downloads:
    exporter = Exporter(site.parts.archive, record=record)
    return Downloads(exporter, told or Notices(), DownloadSlots(3, 2), most_bytes=1 << 30)


async def test_each_caller_and_all_have_so_many_at_once(site: Site) -> None:
    told: list[object] = []

    async def record(studies: object) -> None:
        pass

    downloads = downloads_of(site, record, Notices(told.append))
    query = f"study={STUDY}"
    first = await downloads(request_of(query))
    second = await downloads(request_of(query))
    with pytest.raises(HttpError) as refused:
        await downloads(request_of(query))
    assert refused.value.status == 429
    assert dict(refused.value.headers)["retry-after"]
    third = await downloads(request_of(query, "other"))
    with pytest.raises(HttpError) as refused:
        await downloads(request_of(query, "third"))
    assert refused.value.status == 503
    assert told == [HttpLimitReached("downloads")] * 2
    for response in (first, second, third):
        assert response.close is not None
        response.close()
        response.close()
    for _ in range(2):
        await downloads(request_of(query))


async def test_a_download_that_is_cut_is_recorded_as_such(site: Site) -> None:
    recorded: list[ExportedStudy] = []

    async def record(studies: list[ExportedStudy]) -> None:
        recorded.extend(studies)

    response = await downloads_of(site, record)(request_of(f"study={STUDY}"))
    assert [one.is_whole for one in recorded] == [True]
    body = response.body
    pieces = 0
    async for _ in body:  # type: ignore[union-attr]
        pieces += 1
        if pieces == 3:
            break
    with trio.CancelScope() as scope:
        scope.cancel()
        await body.aclose()  # type: ignore[union-attr]
    assert [one.is_whole for one in recorded] == [True, False]
    assert sum(recorded[1].sop_classes.values()) == 2
    assert recorded[1].access_point == "10.0.0.7"


async def test_what_cannot_be_recorded_does_not_leave(site: Site) -> None:
    async def record(studies: object) -> None:
        raise IsocenterError("the audit trail cannot be written")

    downloads = downloads_of(site, record)
    for _ in range(3):  # and its slot is given back
        with pytest.raises(HttpError) as refused:
            await downloads(request_of(f"study={STUDY}"))
        assert refused.value.status == 503


async def test_memory_does_not_grow_with_what_is_downloaded(site: Site) -> None:
    """Of an object that is longer than a piece, no more than some pieces are held at once."""

    async def record(studies: object) -> None:
        pass

    assert len(data_set(9, pixels=bytes(24 << 20))) > 24 << 20
    await keep(site, 9, study="1.2.9", pixels=bytes(24 << 20))
    response = await downloads_of(site, record)(request_of("study=1.2.9"))
    most = total = 0
    async for some in response.body:  # type: ignore[union-attr]
        size = sum(map(len, some))  # type: ignore[arg-type]
        most, total = max(most, size), total + size
    assert total > 24 << 20
    assert most <= 2 << 20


async def test_a_caller_that_goes_away_ends_the_download(site: Site) -> None:
    """Over a connection: what was taken for it is given back, and the trail says it was cut."""
    cookie = await site.cookie("doctor")
    for number in range(20, 24):
        await keep(site, number, study="1.2.9", pixels=bytes(7 << 20))
    port = httpx.URL(site.root).port
    assert port is not None
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        # What is on its way fits into no window: the server has to wait for its peer.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        fields = f"host: 127.0.0.1\r\ncookie: {cookie['cookie']}\r\n\r\n"
        await stream.send_all(f"GET /download?study=1.2.9 HTTP/1.1\r\n{fields}".encode())
        assert (await stream.receive_some(64)).startswith(b"HTTP/1.1 200")
        assert [one.is_whole for one in site.exported] == [True]
    with trio.fail_after(60):
        while len(site.exported) < 2:
            await trio.lowlevel.checkpoint()
    assert not site.exported[1].is_whole
    assert sum(site.exported[1].sop_classes.values()) < 4
    with trio.fail_after(60):
        while site.slots.under_way:
            await trio.lowlevel.checkpoint()
