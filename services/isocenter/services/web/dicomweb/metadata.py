"""WADO-RS metadata (PS3.18 10.4.1.1.2): data sets as DICOM JSON, bulk data by URI."""

from __future__ import annotations

import re
import zlib
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from json.encoder import encode_basestring as quoted
from typing import Final

import trio

from isocenter.engine.dataset import (
    EXPLICIT_LITTLE,
    DataSetError,
    Encoding,
    Inflater,
    PixelDataMap,
    encoding_of,
    map_pixel_data,
)
from isocenter.engine.dataset.walker import Tolerance
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.dicom.bulk_data import BulkValue
from isocenter.services.dicom.json_writer import json_of
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.xml_writer import xml_of
from isocenter.services.net.http.conditions import entity_tag, is_not_modified
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.web.dicomweb.framing import boundary_for, multipart_response
from isocenter.services.web.dicomweb.representations import (
    DICOM_JSON,
    DICOM_XML,
    Offer,
    choose,
)
from isocenter.services.web.dicomweb.resources import instances_of
from isocenter.services.web.dicomweb.urls import PublicUrls, instance_url

_FORMS: Final = (
    Offer(media_type=DICOM_JSON, is_multipart=False),
    Offer(media_type=DICOM_XML, is_multipart=True),
)
_RETRIEVE_URL: Final = 0x00081190
_AVAILABLE_TRANSFER_SYNTAX: Final = 0x00083002
_WINDOW: Final = 64 << 10
#: Of a data set without Pixel Data, and of one that is deflated; what is larger has no metadata
#: here, since it would have to be held.
MOST_BYTES: Final = 256 << 20
#: Objects as XML are held until all are written.
_MOST_XML: Final = 1_000
_TOGETHER: Final = 64 << 10
#: Compresses ten times as fast as the default, to nearly the same.
_GZIP_LEVEL: Final = 2
_GZIP: Final = re.compile(r"\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A data set without its pixels.

    Attributes:
        data: what stands before Pixel Data and behind it.
        pixel_vr: of Pixel Data; empty: there is none.
        pixel_tag: likewise.
    """

    data: bytes
    encoding: Encoding
    pixel_vr: str = ""
    pixel_tag: int = 0


class Metadata:
    """Answers with the metadata of studies, series and instances."""

    def __init__(self, archive: Archive, urls: PublicUrls) -> None:
        self._archive = archive
        self._urls = urls

    async def __call__(self, request: Request) -> Response:
        form, _ = choose(request, _FORMS)
        instances = await instances_of(self._archive.index, request)
        base = self._urls.base(request)
        is_gzip = form.media_type == DICOM_JSON and bool(
            _GZIP.search(request.header("accept-encoding") or "")
        )
        digests = [one.digest for one in instances]
        tag = entity_tag(boundary_for("metadata", base, str(form), str(is_gzip), *digests))
        headers = [
            ("etag", tag),
            ("cache-control", "private, no-cache"),
            ("vary", "Accept, Accept-Encoding"),
        ]
        if is_not_modified(request.header("if-none-match"), tag):
            return Response(status=304, headers=headers)
        if form.media_type == DICOM_XML:
            return await self._xml(instances, base, headers)
        headers.append(("content-type", DICOM_JSON))
        if is_gzip:
            headers.append(("content-encoding", "gzip"))
        first = await self._json(instances[0], base)
        return Response(headers=headers, body=self._array(first, instances[1:], base, is_gzip))

    async def _array(
        self, first: bytes, others: Sequence[StoredInstance], base: str, is_gzip: bool
    ) -> AsyncGenerator[bytes, None]:
        compressor = zlib.compressobj(_GZIP_LEVEL, wbits=31) if is_gzip else None
        pending = bytearray(b"[" + first)

        def taken() -> bytes:
            piece = bytes(pending)
            pending.clear()
            return piece if compressor is None else compressor.compress(piece)

        for stored in others:
            pending += b"," + await self._json(stored, base)
            if len(pending) >= _TOGETHER and (piece := taken()):
                yield piece
        pending += b"]"
        piece = taken()
        yield piece if compressor is None else piece + compressor.flush()

    async def _json(self, stored: StoredInstance, base: str) -> bytes:
        header = await self._header(stored)
        return await trio.to_thread.run_sync(partial(metadata_json, header, stored, base))

    async def _xml(
        self, instances: Sequence[StoredInstance], base: str, headers: list[tuple[str, str]]
    ) -> Response:
        if len(instances) > _MOST_XML:
            raise HttpError(
                406, "NOT_ACCEPTABLE", f"more than {_MOST_XML} instances are had as {DICOM_JSON}"
            )
        parts: list[bytes] = []
        for stored in instances:
            header = await self._header(stored)
            uri = _bulk_uri(stored, base)
            parts.append(
                await trio.to_thread.run_sync(
                    partial(
                        xml_of,
                        header.data,
                        header.encoding,
                        bulk=uri,
                        tolerance=Tolerance.SALVAGE,
                    )
                )
            )
        return multipart_response(DICOM_XML, parts, headers)

    async def _header(self, stored: StoredInstance) -> Header:
        try:
            async with await self._archive.open(stored) as reader:
                return await read_header(
                    reader, stored.data_set_offset, encoding_of(stored.transfer_syntax_uid)
                )
        except KeyError:
            raise HttpError(410, "GONE", "an object is not there any more") from None


async def read_header(reader: ObjectReader, start: int, encoding: Encoding) -> Header:
    """All of a data set but its pixels.

    Raises:
        DataSetError: it cannot be read.
        HttpError: it is too large to be held (500).
    """
    size = reader.size - start
    if encoding.deflated:
        data = await _inflated(reader, start, size)
        return Header(data=data, encoding=EXPLICIT_LITTLE)
    try:
        found = await _map(reader, start, size, encoding)
    except DataSetError:
        found = PixelDataMap()  # as much of it as can be understood is written all the same
    pixels = found.pixel_data
    if pixels is None:
        if size > MOST_BYTES:
            raise HttpError(500, "TOO_LARGE", f"data sets of {MOST_BYTES:,} bytes are written")
        return Header(data=await reader.read(start, size), encoding=encoding)
    data = await reader.read(start, pixels.start)
    if pixels.end < size:
        data += await reader.read(start + pixels.end, min(size - pixels.end, MOST_BYTES))
    vr = pixels.vr or "OW"
    return Header(data=data, encoding=encoding, pixel_vr=vr, pixel_tag=pixels.tag)


async def _map(reader: ObjectReader, start: int, size: int, encoding: Encoding) -> PixelDataMap:
    mapping = map_pixel_data(encoding, size, frozenset(), frozenset())
    try:
        offset, length = next(mapping)
        while True:
            length = min(max(length, _WINDOW), size - offset)
            offset, length = mapping.send(await reader.read(start + offset, length))
    except StopIteration as done:
        found: PixelDataMap = done.value
        return found


async def _inflated(reader: ObjectReader, start: int, size: int) -> bytes:
    inflater = Inflater()
    found = bytearray()
    for offset in range(0, size, _WINDOW):
        for piece in inflater.feed(await reader.read(start + offset, min(_WINDOW, size - offset))):
            found += piece
            if len(found) > MOST_BYTES:
                raise HttpError(500, "TOO_LARGE", f"data sets of {MOST_BYTES:,} bytes are written")
    inflater.finish()
    return bytes(found)


def metadata_json(header: Header, stored: StoredInstance, base: str) -> bytes:
    """The metadata of one instance: a JSON object in ascending order of tags.

    Retrieve URL (0008,1190) and Available Transfer Syntax UID (0008,3002) are ours; what the
    object says there is left out.
    """
    url = instance_url(
        base, stored.study_instance_uid, stored.series_instance_uid, stored.sop_instance_uid
    )
    own = (
        (_RETRIEVE_URL, f'"00081190":{{"vr":"UR","Value":[{quoted(url)}]}}'),
        (
            _AVAILABLE_TRANSFER_SYNTAX,
            f'"00083002":{{"vr":"UI","Value":["{stored.transfer_syntax_uid}"]}}',
        ),
    )
    uri = _bulk_uri(stored, base)
    objects: list[bytes] = []
    low = -1
    for tag, text in (*own, (1 << 32, "")):
        objects.append(
            json_of(
                header.data,
                header.encoding,
                bulk=uri,
                tolerance=Tolerance.SALVAGE,
                wants=partial(_is_between, low, tag),
            )[1:-1]
        )
        objects.append(text.encode())
        low = tag
    if header.pixel_vr:
        where = quoted(f"{url}/bulkdata/{header.pixel_tag:08X}")
        pixels = f'"{header.pixel_tag:08X}":{{"vr":"{header.pixel_vr}","BulkDataURI":{where}}}'
        # Behind it there are only signatures and padding.
        objects.append(pixels.encode())
    return b"{" + b",".join(filter(None, objects)) + b"}"


def _is_between(low: int, high: int, tag: int) -> bool:
    return low < tag < high


def _bulk_uri(stored: StoredInstance, base: str) -> Callable[[BulkValue], str]:
    url = instance_url(
        base, stored.study_instance_uid, stored.series_instance_uid, stored.sop_instance_uid
    )
    return lambda value: f"{url}/bulkdata/{value.path_text}"
