"""WADO-RS metadata (PS3.18 10.4.1.1.2): data sets as DICOM JSON, bulk data by URI."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import trio

from isocenter.engine.dataset import DataSetError, DataSetLimitError, encoding_of
from isocenter.engine.dataset.walker import Tolerance
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.metadata.fragment import fragment_of, unpack_fragment, with_url
from isocenter.services.archive.metadata.gzip_parts import GzipPart, gzip_file
from isocenter.services.archive.metadata.header import Header, read_header
from isocenter.services.archive.metadata.ports import FORMAT, MetadataBook, SeriesContent
from isocenter.services.archive.opened_ahead import OpenedAhead
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.reading import ReadableArchive
from isocenter.services.dicom.bulk_data import BulkValue
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.xml_writer import xml_of
from isocenter.services.net.http.conditions import entity_tag, is_not_modified
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.web.dicomweb.multipart_responses import boundary_for, multipart_response
from isocenter.services.web.dicomweb.representations import (
    DICOM_JSON,
    DICOM_XML,
    Offer,
    accepts_gzip,
    choose,
)
from isocenter.services.web.dicomweb.resources import instances_of, parents_of
from isocenter.services.web.dicomweb.retrieve.partial_answers import still_there, with_warning
from isocenter.services.web.dicomweb.urls import PublicUrls, instance_url

_FORMS: Final = (
    Offer(media_type=DICOM_JSON, is_multipart=False),
    Offer(media_type=DICOM_XML, is_multipart=True),
)
#: Objects as XML are held until all are written.
_MOST_XML: Final = 1_000
#: Instances that are written in one go.
_TOGETHER: Final = 100
#: Of headers that wait to be written.
_MOST_HELD: Final = 4 << 20
#: A header that is written without a hop to a thread.
_SHORT: Final = 32 << 10
#: Compresses ten times as fast as the default, to nearly the same.
_GZIP_LEVEL: Final = 2
_BEGIN, _BETWEEN, _END = GzipPart.of(b"["), GzipPart.of(b","), GzipPart.of(b"]")


class _Known:
    """An object, and its metadata where they are at hand."""

    __slots__ = ("dictionary", "packed", "stored")

    def __init__(
        self, stored: StoredInstance, packed: bytes | None = None, dictionary: bytes = b""
    ) -> None:
        self.stored = stored
        self.packed = packed
        self.dictionary = dictionary

    def text(self, base: str) -> bytes:
        assert self.packed is not None
        return with_url(unpack_fragment(self.packed, self.dictionary), _url(self.stored, base))


class Metadata:
    """Answers with the metadata of studies, series and instances.

    Args:
        book: what was made beforehand; None: all is made of the objects.
    """

    def __init__(
        self, archive: ReadableArchive, urls: PublicUrls, book: MetadataBook | None = None
    ) -> None:
        self._archive = archive
        self._urls = urls
        self._book = book

    async def __call__(self, request: Request) -> Response:
        form, _ = choose(request, _FORMS)
        base = self._urls.base(request)
        if form.media_type == DICOM_XML:
            return await self._xml(request, base)
        is_gzip = accepts_gzip(request)
        contents = await self._contents(request, base)
        if contents is not None:
            return _joined(request, base, contents, is_gzip=is_gzip)
        named = await self._instances(request)
        instances = await self._there(named)
        request.told["instances"] = [one.stored for one in instances]
        digests = [f"{one.stored.digest} {one.stored.transfer_syntax_uid}" for one in instances]
        tag = entity_tag(boundary_for("metadata", base, str(is_gzip), str(FORMAT), *digests))
        headers = _headers(request, base, tag, is_gzip=is_gzip)
        if is_not_modified(request.header("if-none-match"), tag):
            return Response(status=304, headers=headers)
        first = await self._texts(instances[:1], base)
        body = self._array(first, instances[1:], base, is_gzip)
        response = Response(headers=headers, body=body)
        return with_warning(response, len(named) - len(instances), len(named), base)

    async def _contents(self, request: Request, base: str) -> list[SeriesContent] | None:
        """The metadata of the series that a request is about; None: they have to be put
        together."""
        parents = parents_of(request)
        if self._book is None or Level.IMAGE in parents:
            return None
        study, series = parents[Level.STUDY], parents.get(Level.SERIES, "")
        contents = await self._book.contents(study, series)
        found = [one for one in contents if one is not None and one.base == base]
        return found if found and len(found) == len(contents) else None

    async def _instances(self, request: Request) -> list[_Known]:
        if self._book is None:
            return [_Known(one) for one in await instances_of(self._archive.index, request)]
        parents = parents_of(request)
        found = await self._book.series(
            parents[Level.STUDY], parents.get(Level.SERIES, ""), parents.get(Level.IMAGE, "")
        )
        if not found:
            return [_Known(one) for one in await instances_of(self._archive.index, request)]
        return [
            _Known(
                one.stored,
                None if one.metadata is None else one.metadata.fragment,
                series.dictionary,
            )
            for series in found
            for one in series.instances
        ]

    async def _there(self, named: Sequence[_Known]) -> Sequence[_Known]:
        """Those whose metadata can be told."""
        to_read = [one.stored for one in named if one.packed is None]
        if not to_read:
            return named
        try:
            there = {one.sop_instance_uid: one for one in await still_there(self._archive, to_read)}
        except HttpError:
            if len(to_read) == len(named):
                raise
            there = {}
        found = []
        for one in named:
            if one.packed is not None:
                found.append(one)
            elif one.stored.sop_instance_uid in there:
                found.append(_Known(there[one.stored.sop_instance_uid]))
        return found

    async def _array(
        self, first: bytes, others: Sequence[_Known], base: str, is_gzip: bool
    ) -> AsyncGenerator[bytes, None]:
        compressor = zlib.compressobj(_GZIP_LEVEL, wbits=31) if is_gzip else None
        text = b"[" + first
        for start in range(0, len(others), _TOGETHER):
            text += b"," + await self._texts(others[start : start + _TOGETHER], base)
            if compressor is not None:
                text = await trio.to_thread.run_sync(compressor.compress, text)
            if text:
                yield text
            text = b""
        text += b"]"
        yield text if compressor is None else compressor.compress(text) + compressor.flush()

    async def _texts(self, instances: Sequence[_Known], base: str) -> bytes:
        """The metadata of some, with commas between them."""
        texts: list[bytes] = []
        waiting: list[tuple[_Known, Header | None]] = []
        held = 0
        to_read = [one.stored for one in instances if one.packed is None]
        async with OpenedAhead(self._archive, to_read) as ahead:
            for one in instances:
                header = None
                if one.packed is None:
                    header = await self._header(one.stored, ahead.open)
                    held += len(header.data)
                waiting.append((one, header))
                if held > _MOST_HELD:
                    texts += await trio.to_thread.run_sync(_written, waiting, base)
                    waiting, held = [], 0
        if len(waiting) == 1 and held < _SHORT:
            texts += _written(waiting, base)
        else:
            texts += await trio.to_thread.run_sync(_written, waiting, base)
        return b",".join(texts)

    async def _xml(self, request: Request, base: str) -> Response:
        named = await instances_of(self._archive.index, request)
        instances = await still_there(self._archive, named)
        request.told["instances"] = instances
        tag = entity_tag(boundary_for("metadata", base, "xml", *(one.digest for one in instances)))
        headers = [("etag", tag), *_VALID]
        if is_not_modified(request.header("if-none-match"), tag):
            return Response(status=304, headers=headers)
        if len(instances) > _MOST_XML:
            raise HttpError(
                406, "NOT_ACCEPTABLE", f"more than {_MOST_XML} instances are had as {DICOM_JSON}"
            )
        parts: list[bytes] = []
        for stored in instances:
            header = await self._header(stored, self._archive.open)
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
        response = multipart_response(DICOM_XML, parts, headers)
        return with_warning(response, len(named) - len(instances), len(named), base)

    async def _header(
        self,
        stored: StoredInstance,
        open_stored: Callable[[StoredInstance], Awaitable[ObjectReader]],
    ) -> Header:
        try:
            async with await open_stored(stored) as reader:
                return await header_of(reader, stored)
        except KeyError:
            raise HttpError(410, "GONE", "an object is not there any more") from None


async def header_of(reader: ObjectReader, stored: StoredInstance) -> Header:
    """The header of a stored object that is open.

    Raises:
        HttpError: it cannot be read, or be held (500).
    """
    encoding = encoding_of(stored.transfer_syntax_uid)
    try:
        return await read_header(reader, stored.data_set_offset, encoding)
    except DataSetLimitError as error:
        raise HttpError(500, "TOO_LARGE", str(error)) from error
    except DataSetError as error:
        raise HttpError(500, "UNREADABLE", f"the object cannot be read: {error}") from error


_VALID: Final = (
    ("cache-control", "private, no-cache"),
    ("vary", "Accept, Accept-Encoding"),
)


def _headers(request: Request, base: str, tag: str, *, is_gzip: bool) -> list[tuple[str, str]]:
    encoding = [("content-encoding", "gzip")] if is_gzip else []
    parents = parents_of(request)
    uids = (parents[Level.STUDY], parents.get(Level.SERIES, ""), parents.get(Level.IMAGE, ""))
    where = ("content-location", f"{instance_url(base, *uids)}/metadata")
    return [("etag", tag), *_VALID, ("content-type", DICOM_JSON), where, *encoding]


def _joined(
    request: Request, base: str, contents: Sequence[SeriesContent], *, is_gzip: bool
) -> Response:
    """The metadata of series one behind the other, as they are kept."""
    tag = entity_tag(boundary_for("series", str(is_gzip), *(one.tag for one in contents)))
    headers = _headers(request, base, tag, is_gzip=is_gzip)
    if is_not_modified(request.header("if-none-match"), tag):
        return Response(status=304, headers=headers)
    parts = [_BEGIN]
    for one in contents:
        parts += [one.part, _BETWEEN]
    parts[-1] = _END
    if is_gzip:
        return Response(headers=headers, body=gzip_file(parts))
    length = sum(part.length for part in parts)

    async def pieces() -> AsyncGenerator[bytes, None]:
        for part in parts:
            for piece in part.pieces():
                yield piece
                await trio.lowlevel.checkpoint()

    return Response(headers=headers, body=pieces(), length=length)


def _written(instances: Sequence[tuple[_Known, Header | None]], base: str) -> list[bytes]:
    return [
        one.text(base)
        if header is None
        else with_url(fragment_of(header, one.stored), _url(one.stored, base))
        for one, header in instances
    ]


def _url(stored: StoredInstance, base: str) -> str:
    return instance_url(
        base, stored.study_instance_uid, stored.series_instance_uid, stored.sop_instance_uid
    )


def _bulk_uri(stored: StoredInstance, base: str) -> Callable[[BulkValue], str]:
    url = _url(stored, base)
    return lambda value: f"{url}/bulkdata/{value.path_text}"
