"""Requests to the handlers of DICOMweb without a network, of an archive in files."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

from pydicom.dataset import Dataset

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import read_file_meta
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ports import Index, InstanceRecord
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import Piece, Request, Response
from isocenter.services.net.http.protocol import FileRegion
from isocenter.services.net.http.routing import RouteTable
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.objects.files.store import open_file_store


@asynccontextmanager
async def archive_in(folder: Path, index: Index | None = None) -> AsyncIterator[Archive]:
    """An archive whose objects are files."""
    store = await open_file_store(folder)
    try:
        async with Archive(store, MemoryIndex() if index is None else index) as archive:
            yield archive
    finally:
        await store.aclose()


async def keep(archive: Archive, *objects: bytes | Dataset) -> list[InstanceRecord]:
    """Store Part 10 files; what the index is told of them."""
    records = []
    for one in objects:
        content = one
        if isinstance(content, Dataset):
            buffer = BytesIO()
            content.save_as(buffer, enforce_file_format=True)
            content = buffer.getvalue()
        head = read_file_meta(content)
        async with await archive.receive(
            sop_class_uid=head.media_storage_sop_class_uid,
            sop_instance_uid=head.media_storage_sop_instance_uid,
            transfer_syntax_uid=head.transfer_syntax_uid,
            source_ae_title="TEST",
        ) as ingest:
            await ingest.write([memoryview(content)[head.data_set_offset :]])
            await ingest.commit()
            assert ingest.record is not None
            records.append(ingest.record)
    return records


async def ask(
    table: RouteTable[Handler],
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    authority: str = "archive.example",
) -> Response:
    """What a handler says to a request.

    Raises:
        HttpError: it refuses.
    """
    parts = urlsplit(url)
    raw = parts.path.encode()
    fields: Iterable[tuple[str, str]] = (headers or {}).items()
    request = Request(
        {
            "type": "http",
            "method": method,
            "scheme": "http",
            "raw_path": raw,
            "query_string": parts.query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in fields],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "isocenter.authority": authority,
        },
        _no_body,
    )
    route, request.arguments = table.find(method, raw)
    return await route.handler(request)


async def _no_body() -> dict[str, object]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def body_of(response: Response) -> bytes:
    """All bytes of a response, as they would be sent."""
    found = b""
    try:
        if isinstance(response.body, AsyncIterator):
            async for some in response.body:
                pieces = [some] if isinstance(some, Buffer | FileRegion) else some
                found += b"".join(map(_bytes_of, pieces))
        elif isinstance(response.body, Buffer | FileRegion):
            found = _bytes_of(response.body)
        else:
            found = b"".join(map(_bytes_of, response.body))
        return found
    finally:
        if response.close is not None:
            response.close()


def _bytes_of(piece: Piece) -> bytes:
    if isinstance(piece, FileRegion):
        return os.pread(piece.descriptor, piece.length, piece.offset)
    return bytes(piece)


def is_from_file(response: Response) -> bool:
    """Whether some of it lies in a file."""
    return isinstance(response.body, list | tuple) and any(
        isinstance(piece, FileRegion) for piece in response.body
    )


def header(response: Response, name: str) -> str | None:
    """A field of a response."""
    return next((value for given, value in response.headers if given.lower() == name), None)


def instance_path(record: InstanceRecord) -> str:
    """Where DICOMweb has an object."""
    return (
        f"/dicomweb/studies/{record.study_instance_uid}/series/{record.series_instance_uid}"
        f"/instances/{record.sop_instance_uid}"
    )
