"""Whole objects over the web, where they lie in files."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

import trio
import trio.lowlevel
from pydicom.dataset import Dataset

from isocenter.services.archive.archive import Archive
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.protocol import FileRegion
from isocenter.services.net.http.routing import RouteTable
from isocenter.services.notices import Caller, Notices
from isocenter.services.web.dicomweb.service import dicomweb_routes
from support.images import dataset_of, describe, pixels
from support.web_requests import archive_in, ask, body_of, header, keep

AS_STORED = {"accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
STUDY = "1.2.826.0.1.3680043.8.498.1"


def routes(archive: Archive) -> RouteTable[Handler]:
    return RouteTable(
        dicomweb_routes(archive, Notices(), caller_of=lambda _: Caller(association="test"))
    )


def image(number: int) -> Dataset:
    described = describe(4, 4, bits=12)
    made = dataset_of(described, [pixels(described, number)])
    made.StudyInstanceUID, made.SeriesInstanceUID = STUDY, f"{STUDY}.1"
    made.InstanceNumber = str(number)
    return made


def open_objects(folder: Path) -> int:
    """Of the archive in *folder*."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{name}").startswith(f"{folder}/objects/")
    return found


async def settled(archive: Archive) -> None:
    """Nothing of what was stored is still being written."""
    while archive.committer.unsettled:
        await trio.lowlevel.checkpoint()


async def test_a_series_is_sent_as_it_is_stored(tmp_path: Path) -> None:
    async with archive_in(tmp_path) as archive:
        records = await keep(archive, *map(image, range(20)))
        response = await ask(routes(archive), f"/dicomweb/studies/{STUDY}", headers=AS_STORED)
        body = await body_of(response)
        assert response.length == len(body)
        boundary = (header(response, "content-type") or "").partition("boundary=")[2]
        parts = body.split(b"--" + boundary.encode())[1:-1]
        assert len(parts) == len(records)
        for record, part in zip(records, parts, strict=True):
            async with await archive.open(record) as reader:
                stored = await reader.read(0, record.size)
            assert part.partition(b"\r\n\r\n")[2] == stored + b"\r\n"


async def test_what_is_not_sent_to_its_end_is_closed(tmp_path: Path) -> None:
    async with archive_in(tmp_path) as archive:
        await keep(archive, *map(image, range(20)))
        await settled(archive)
        assert not open_objects(tmp_path)
        response = await ask(routes(archive), f"/dicomweb/studies/{STUDY}", headers=AS_STORED)
        assert isinstance(response.body, AsyncGenerator)
        _, region = await anext(response.body)
        assert isinstance(region, FileRegion)
        assert open_objects(tmp_path)
        await response.body.aclose()
        assert not open_objects(tmp_path)
