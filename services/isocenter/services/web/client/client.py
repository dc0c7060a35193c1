"""Client of a DICOMweb service: search, retrieve, store, delete.

async with DicomWebClient("https://archive.example/dicomweb", token=token) as archive:
    async for study in archive.search(Level.STUDY, [("PatientName", "DOE*")]):
        …
"""

from __future__ import annotations

import ssl
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from typing import Final, Self
from urllib.parse import quote

from isocenter.services.archive.index.attributes import Level
from isocenter.services.dicom.attribute_path import KeyName
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.net.http.client import Headers, HttpClient, HttpDeadlines, Retries
from isocenter.services.web.client.download import Download, Downloaded
from isocenter.services.web.client.models import (
    DICOM_JSON,
    Model,
    models_of,
    text_of,
)
from isocenter.services.web.client.object_files import DownloadFolder
from isocenter.services.web.client.parts import AnswerParts, parts_of
from isocenter.services.web.client.resources import WebResource, below
from isocenter.services.web.client.search import PAGE, SearchResults, search_query
from isocenter.services.web.client.storing import ObjectOutcome, Storing
from isocenter.services.web.client.workitems import WorkitemClient

#: As the server has it (PS3.18 8.7.3).
AS_STORED: Final = "*"
#: What one request stores at most, unless a single object has more.
_REQUEST_BYTES: Final = 64 << 20
_REQUEST_OBJECTS: Final = 200
#: Where the DICOMweb service of an Isocenter is.
_OF_ISOCENTER: Final = "/dicomweb"
_MOST_TOLD: Final = 64 << 20


class DicomWebClient:
    """A DICOMweb service at another server; an async context manager.

    What each call raises: `ServerUnreachableError`, `HttpStatusError` for what the server refuses,
    `BrokenAnswerError` when an answer is cut, and for all of them `HttpClientError`.  What changes
    nothing, and what the server has certainly not begun, is asked again a few times before.

    Args:
        base: the address of the service, as ``https://archive.example/dicomweb``.
        tls: for ``https``, as of `client_context`; None: the CAs of the system, no certificate.
        token: for `Authorization: Bearer`.
        headers: of each request.
        http2: speak HTTP/2 where the server does, over TLS.

    Attributes:
        workitems: unified procedure steps at the same service.

    Raises:
        ValueError: *base* is no address, or the token no token.
    """

    def __init__(
        self,
        base: str,
        *,
        tls: ssl.SSLContext | None = None,
        token: str = "",
        headers: Headers = (),
        deadlines: HttpDeadlines | None = None,
        retries: Retries | None = None,
        http2: bool = False,
    ) -> None:
        fields = list(headers)
        if token:
            fields.append(("authorization", f"Bearer {token}"))
        for name, value in fields:
            if not (name.isascii() and value.isascii() and (name + value).isprintable()):
                raise ValueError(f"the value of the header {name!r} has a character it cannot have")
        self._http = HttpClient(
            base, tls=tls, headers=fields, deadlines=deadlines, retries=retries, http2=http2
        )
        self.workitems = WorkitemClient(self._http, tls=tls, headers=fields)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._http.__aexit__(*exc)

    @property
    def base(self) -> str:
        """The address of the service."""
        return self._http.base

    async def told_beside(self, path: str) -> bytes | None:
        """What the server of an Isocenter says at a path beside its DICOMweb service; None: the
        address is none of such a server."""
        if not self.base.endswith(_OF_ISOCENTER):
            return None
        url = self.base.removesuffix(_OF_ISOCENTER) + path
        async with self._http.request("GET", url, headers=[("accept", "application/json")]) as said:
            return await said.body(_MOST_TOLD)

    # Search.

    def search(
        self,
        level: Level,
        keys: Iterable[tuple[KeyName, str]] = (),
        *,
        within: WebResource | None = None,
        limit: int | None = None,
        offset: int = 0,
        all_fields: bool = False,
        fuzzy: bool = False,
        page: int = PAGE,
    ) -> SearchResults:
        """Matches by ``async for``, in DICOM JSON, however many pages they have.

        Args:
            keys, within, all_fields, fuzzy: as of `search_query`.
            limit, offset, page: as of `SearchResults`.

        Raises:
            KeySyntaxError, ValueError: nobody can be asked so.
        """
        query = search_query(level, keys, within=within, all_fields=all_fields, fuzzy=fuzzy)
        return SearchResults(self._http, query, limit=limit, offset=offset, page=page)

    # Retrieve.

    @asynccontextmanager
    async def retrieve(
        self, resource: WebResource, *, transfer_syntaxes: Sequence[str] = (AS_STORED,)
    ) -> AsyncIterator[AnswerParts]:
        """Objects as Part 10 files, as a context in which they are read.

        Args:
            transfer_syntaxes: one of which each is to have, the most wanted first.
        """
        accept = ", ".join(
            f'multipart/related; type="application/dicom"; transfer-syntax={one}'
            for one in transfer_syntaxes
        )
        async with self._parts(resource.path, accept) as parts:
            yield parts

    async def download(
        self,
        resource: WebResource,
        files: DownloadFolder,
        *,
        transfer_syntaxes: Sequence[str] = (AS_STORED,),
        skip_existing: bool = False,
    ) -> Downloaded:
        """Objects into files; goes on where an answer was cut.

        Args:
            skip_existing: ask for nothing that has a file already.

        Raises:
            OSError: files cannot be written.
        """
        download = Download(
            lambda one: self.retrieve(one, transfer_syntaxes=transfer_syntaxes),
            self._instances,
            files,
        )
        return await download.run(resource, skip_existing=skip_existing)

    async def _instances(self, resource: WebResource) -> list[Model]:
        keys = [("SOPInstanceUID", resource.instance)] if resource.instance else []
        within = WebResource(resource.study, resource.series)
        found = self.search(Level.IMAGE, [*keys, ("SeriesInstanceUID", "")], within=within)
        return [model async for model in found]

    @asynccontextmanager
    async def frames(
        self,
        resource: WebResource,
        *,
        media_type: str = "application/octet-stream",
        transfer_syntax: str = AS_STORED,
    ) -> AsyncIterator[AnswerParts]:
        """The frames that *resource* names, each a part, as a context in which they are read.

        Args:
            transfer_syntax: empty: the default of *media_type*.
        """
        accept = f'multipart/related; type="{media_type}"'
        if transfer_syntax:
            accept += f"; transfer-syntax={transfer_syntax}"
        async with self._parts(resource.path, accept) as parts:
            yield parts

    @asynccontextmanager
    async def bulk_data(
        self, uri: str, *, first: int = 0, length: int | None = None
    ) -> AsyncIterator[AnswerParts]:
        """What metadata names by BulkDataURI, as a context in which its parts are read.

        Nobody but the service is asked, with the token or without.

        Args:
            first, length: of a range of bytes; a server may give all the same (status 200).

        Raises:
            ValueError: *uri* leads elsewhere.
        """
        # As it is, in one part or several: there are servers that understand no list here.
        fields = [("accept", "*/*")]
        if first or length is not None:
            last = "" if length is None else str(first + length - 1)
            fields.append(("range", f"bytes={first}-{last}"))
        url = below(self._http.base, [uri])
        async with (
            self._http.request("GET", url, headers=fields) as response,
            parts_of(response) as parts,
        ):
            yield parts

    @asynccontextmanager
    async def rendered(
        self,
        resource: WebResource,
        *,
        media_types: Sequence[str] = ("image/jpeg",),
        thumbnail: bool = False,
        parameters: Sequence[tuple[str, str]] = (),
    ) -> AsyncIterator[AnswerParts]:
        """A picture, as a context in which its one part is read.

        Args:
            media_types: the most wanted first; ``video/mp4`` and ``application/pdf`` for what is
                no picture.
            parameters: ``window``, ``viewport``, ``quality``, ``annotation`` (PS3.18 8.3.5).
        """
        name = "thumbnail" if thumbnail else "rendered"
        query = "&".join(f"{key}={_quoted(value)}" for key, value in parameters)
        path = f"{resource.path}/{name}" + (f"?{query}" if query else "")
        async with self._parts(path, ", ".join(media_types)) as parts:
            yield parts

    async def metadata(self, resource: WebResource) -> list[Model]:
        """All attributes of all instances, in DICOM JSON; long values by BulkDataURI."""
        async with self._http.request(
            "GET", self._http.url(f"{resource.path}/metadata"), headers=_JSON
        ) as response:
            return await models_of(response)

    async def metadata_text(self, resource: WebResource) -> bytes:
        """The same, as the server wrote it."""
        async with self._http.request(
            "GET", self._http.url(f"{resource.path}/metadata"), headers=_JSON
        ) as response:
            return await text_of(response)

    @asynccontextmanager
    async def _parts(self, path: str, accept: str) -> AsyncIterator[AnswerParts]:
        headers = (("accept", accept),)
        async with (
            self._http.request("GET", self._http.url(path), headers=headers) as response,
            parts_of(response) as parts,
        ):
            yield parts

    # Store and delete.

    async def store(
        self,
        objects: Iterable[DicomObject] | AsyncIterable[DicomObject],
        *,
        study: str = "",
        one_by_one: bool = False,
    ) -> AsyncGenerator[ObjectOutcome, None]:
        """Store objects, several in one request; what became of each, as it becomes known.

        Args:
            study: Study Instance UID that all of them are to be of; empty: of any.
            one_by_one: one object in each request.
        """
        most = 1 if one_by_one else _REQUEST_OBJECTS
        storing = Storing(self._http, study)
        held: list[DicomObject] = []
        size = 0
        async with aclosing(_each(objects)) as items:
            async for item in items:
                length = await _size_of(item)
                if held and (size + length > _REQUEST_BYTES or len(held) >= most):
                    for outcome in await storing.store(held):
                        yield outcome
                    held, size = [], 0
                held.append(item)
                size += length
        if held:
            for outcome in await storing.store(held):
                yield outcome

    async def delete(self, resource: WebResource) -> None:
        """Delete a study, a series or an instance, where the server lets us."""
        async with self._http.request("DELETE", self._http.url(resource.path)):
            pass


_JSON: Final = (("accept", DICOM_JSON), ("accept-encoding", "gzip"))


def _quoted(value: str) -> str:
    return quote(value, safe=",;:-._~")


async def _size_of(item: DicomObject) -> int:
    """Of an object; one that cannot be read is told of when its turn comes."""
    try:
        async with await item.open() as reader:
            return reader.size
    except Exception:  # whatever an adapter raises
        return 0


async def _each(
    objects: Iterable[DicomObject] | AsyncIterable[DicomObject],
) -> AsyncGenerator[DicomObject, None]:
    if isinstance(objects, AsyncIterable):
        async for item in objects:
            yield item
    else:
        for item in objects:
            yield item
