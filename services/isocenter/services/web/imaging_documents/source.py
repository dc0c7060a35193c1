"""Imaging Document Source: objects of the archive over SOAP 1.2 with MTOM (RAD-69)."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Final

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue, ValueList
from isocenter.services.archive.opened_ahead import OpenedAhead
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.reading import ReadableArchive
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.dicom.pixels.transfer_syntaxes import PIXEL_SYNTAXES
from isocenter.services.integration.sharing.imaging_document_set import (
    RETRIEVE_IMAGING,
    RETRIEVED,
    ImagingDocument,
    ImagingError,
    ImagingRequest,
    imaging_response,
    read_imaging_request,
)
from isocenter.services.integration.sharing.soap import (
    ADDRESSING,
    SOAP,
    SoapAnswer,
    fault,
    read_answer,
    response_envelope,
)
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.client_errors import BrokenAnswerError
from isocenter.services.net.http.messages import HttpError, Piece, Request, Response
from isocenter.services.net.http.multipart import MultipartWriter
from isocenter.services.net.http.routing import Answer, Route, ok
from isocenter.services.web.deidentified_answers import ByProject
from isocenter.services.web.dicomweb.representations import DICOM
from isocenter.services.web.dicomweb.retrieve.object_bodies import ObjectBodies, Outgoing
from isocenter.services.web.dicomweb.retrieve.partial_answers import still_there
from isocenter.services.web.study_reading import begin_reading

#: Where it is.
PATH: Final = "/xdsi/imaging-document-source"
_MULTIPART: Final = "multipart/related"
#: Of a request with as many documents as there may be.
_MOST_BYTES: Final = 16 << 20
#: Messages that are read at once: each takes a hundred times its length while it is.
_MOST_READ: Final = 2
#: UIDs that the index is asked for at once.
_AT_ONCE: Final = 500
_MOST_ID: Final = 256
#: Of an envelope without documents.
_ALONE: Final = (("content-type", f"{SOAP}; charset=UTF-8"), ("cache-control", "no-store"))

# Codes of ITI TF-3 Table 4.2.4.1-2, and of PS3.18 (2011) for the transfer syntax.
_UNKNOWN_DOCUMENT: Final = "XDSDocumentUniqueIdError"
_UNKNOWN_REPOSITORY: Final = "XDSUnknownRepositoryId"
_NOT_IN_SYNTAX: Final = "urn:dicom:wado:0007"


class _FaultError(Exception):
    """A message that is answered by a fault, whose code and reason these are."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class _Provided:
    document: ImagingDocument
    outgoing: Outgoing
    content_id: str

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [
            ("Content-Type", DICOM),
            ("Content-Transfer-Encoding", "binary"),
            ("Content-ID", f"<{self.content_id}>"),
        ]


class ImagingDocumentSource:
    """Answers with whole objects.

    Args:
        place: OID by which requests name this archive, its Retrieve Location UID.
        transcoder: makes what is stored in none of the transfer syntaxes of a request; None:
            nothing compressed is made or taken apart.
    """

    def __init__(
        self, archive: ReadableArchive, place: str, transcoder: Transcoder | None = None
    ) -> None:
        self._archive = archive
        self._place = place
        self._bodies = ObjectBodies(archive, transcoder)
        self._reading = trio.CapacityLimiter(_MOST_READ)

    async def __call__(self, request: Request) -> Response:
        """The handler."""
        raw = await request.body(_MOST_BYTES)
        message_id = ""
        try:
            kind = request.header("content-type") or ""
            # That of many documents takes a while.
            message_id, wanted = await trio.to_thread.run_sync(
                _understood, kind, raw, limiter=self._reading
            )
        except _FaultError as error:
            said = fault(error.code, str(error))
            body = response_envelope(f"{ADDRESSING}/fault", message_id, said)
            return Response(status=400, headers=_ALONE, body=body)
        if not self._archive.project:
            await self._archive.until_corrected()
        studies = {one.study_instance_uid for one in wanted.documents}
        end = await begin_reading(self._archive, studies, request)
        try:
            provided, errors = await self._choose(wanted)
            request.told["instances"] = [one.outgoing.stored for one in provided]
            return self._response(message_id, provided, errors, end)
        except BaseException:
            end()
            raise

    async def _choose(self, wanted: ImagingRequest) -> tuple[list[_Provided], list[ImagingError]]:
        here = [one for one in wanted.documents if one.place == self._place]
        found = await self._found(here)
        provided: list[_Provided] = []
        errors: list[ImagingError] = []
        series = secrets.token_hex(8)
        for one in dict.fromkeys(wanted.documents):
            stored = found.get(one.sop_instance_uid)
            if one.place != self._place:
                why = "this archive is another repository"
                errors.append(ImagingError(code=_UNKNOWN_REPOSITORY, document=one, why=why))
                continue
            if stored is None or (stored.study_instance_uid, stored.series_instance_uid) != (
                one.study_instance_uid, one.series_instance_uid,
            ):  # fmt: skip
                why = "the archive has it not, or not within that series"
                errors.append(ImagingError(code=_UNKNOWN_DOCUMENT, document=one, why=why))
                continue
            outgoing = self._outgoing(stored, wanted.transfer_syntaxes)
            if outgoing is None:
                why = "it cannot be had in any of the transfer syntaxes"
                errors.append(ImagingError(code=_NOT_IN_SYNTAX, document=one, why=why))
                continue
            content_id = f"{len(provided)}.{series}@isocenter"
            provided.append(_Provided(document=one, outgoing=outgoing, content_id=content_id))
        return provided, errors

    async def _found(self, documents: Sequence[ImagingDocument]) -> dict[str, StoredInstance]:
        """Those of the objects that are here, by SOP Instance UID."""
        found: list[StoredInstance] = []
        by_study: dict[str, dict[str, None]] = {}
        for one in documents:
            by_study.setdefault(one.study_instance_uid, {})[one.sop_instance_uid] = None
        for study, wanted in by_study.items():
            uids = tuple(wanted)
            for start in range(0, len(uids), _AT_ONCE):
                criteria = (
                    Criterion(UNIQUE_KEY[Level.STUDY], SingleValue(study)),
                    Criterion(UNIQUE_KEY[Level.IMAGE], ValueList(uids[start : start + _AT_ONCE])),
                )
                query = Query(level=Level.IMAGE, criteria=criteria)
                async with self._archive.index.instances(query) as blocks:
                    async for block in blocks:
                        found += block
        if not found:
            return {}
        try:
            there = await still_there(self._archive, found)
        except HttpError as error:
            if error.status != 410:
                raise
            return {}
        if self._archive.check_on_line is not None:
            # A response that has begun can only break off.
            await self._archive.check_on_line(there)
        return {one.sop_instance_uid: one for one in there}

    def _outgoing(self, stored: StoredInstance, wanted: Sequence[str]) -> Outgoing | None:
        have = stored.transfer_syntax_uid
        if not wanted or have in wanted:
            return Outgoing(stored=stored, transfer_syntax=have)
        # What everybody reads, and no compression of ours where none was; with losses if nothing
        # else is taken.
        order = sorted(wanted, key=lambda uid: (uid != EXPLICIT_VR_LITTLE_ENDIAN, _is_lossy(uid)))
        for target in order:
            if self._bodies.can_become(have, target):
                return Outgoing(stored=stored, transfer_syntax=target)
        return None

    def _response(
        self,
        message_id: str,
        provided: Sequence[_Provided],
        errors: Sequence[ImagingError],
        end: Callable[[], None],
    ) -> Response:
        boundary = f"MIMEBoundary_{secrets.token_hex(16)}"
        root = f"root.{secrets.token_hex(8)}@isocenter"
        said = imaging_response([(one.document, one.content_id) for one in provided], errors)
        envelope = response_envelope(RETRIEVED, message_id, said)
        if not provided:
            # Consumers look for errors in an envelope that stands alone.
            return Response(headers=_ALONE, body=envelope, close=end)
        root_headers = [
            ("Content-Type", f'application/xop+xml; charset=UTF-8; type="{SOAP}"'),
            ("Content-Transfer-Encoding", "binary"),
            ("Content-ID", f"<{root}>"),
        ]
        kind = (
            f'{_MULTIPART}; boundary="{boundary}"; type="application/xop+xml"; '
            f'start="<{root}>"; start-info="{SOAP}"; action="{RETRIEVED}"'
        )
        length: int | None = None
        if all(one.outgoing.is_as_stored for one in provided):
            sizes = [(one.headers, one.outgoing.stored.size) for one in provided]
            length = MultipartWriter(boundary).length([(root_headers, len(envelope)), *sizes])

        async def parts() -> AsyncGenerator[Sequence[Piece], None]:
            writer = MultipartWriter(boundary)
            yield [writer.begin_part(root_headers), envelope]
            as_stored = [one.outgoing.stored for one in provided if one.outgoing.is_as_stored]
            async with OpenedAhead(self._archive, as_stored) as ahead:
                for one in provided:
                    before: list[Piece] = [writer.begin_part(one.headers)]
                    made = self._bodies.bytes_of(one.outgoing, ahead.open)
                    async with aclosing(made) as pieces:
                        async for piece in pieces:
                            yield [*before, piece]
                            before = []
                    if before:
                        yield before
            yield [writer.end()]

        headers = [("content-type", kind), ("cache-control", "private, no-store")]
        return Response(headers=headers, body=parts(), length=length, close=end)


def _understood(kind: str, raw: bytes) -> tuple[str, ImagingRequest]:
    """The ID of a message, and what it asks for."""
    try:
        message = read_answer(kind, raw)
    except BrokenAnswerError as error:
        why = "the message is no SOAP 1.2 envelope, or beyond a bound"
        raise _FaultError("Sender", why) from error
    _check_understood(message)
    action = _header(message, "Action")
    if action not in ("", RETRIEVE_IMAGING):
        raise _FaultError("Sender", f"the action is another than {RETRIEVE_IMAGING}")
    try:
        return _header(message, "MessageID")[:_MOST_ID], read_imaging_request(message.body)
    except ValueError as error:
        raise _FaultError("Sender", str(error)) from error


def _check_understood(message: SoapAnswer) -> None:
    """Whoever asks may demand that a header is obeyed: nothing but addressing is."""
    for one in message.header.children if message.header is not None else ():
        must = one.attributes.get("mustUnderstand", "0").strip() in ("1", "true")
        if must and one.namespace != ADDRESSING:
            name = one.name if one.name.isalnum() else "a header"
            raise _FaultError("MustUnderstand", f"{name} is not understood here")


def _header(message: SoapAnswer, name: str) -> str:
    for one in message.header.children if message.header is not None else ():
        if (one.name, one.namespace) == (name, ADDRESSING):
            return one.text.strip()
    return ""


def _is_lossy(transfer_syntax_uid: str) -> bool:
    syntax = PIXEL_SYNTAXES.get(transfer_syntax_uid)
    return syntax is not None and syntax.is_lossy


def imaging_document_routes(
    archive: Archive, place: str, transcoder: Transcoder | None
) -> Iterator[Route[Handler]]:
    """The route; none where the archive has no OID by which others know it."""
    if not place:
        return
    sources: dict[str, ImagingDocumentSource] = {}

    def of_project(project: str) -> Handler:
        if project not in sources:
            sources[project] = ImagingDocumentSource(archive.seen_by(project), place, transcoder)
        return sources[project]

    yield Route(
        method="POST",
        path=PATH,
        handler=ByProject(of_project),
        text="Retrieve Imaging Document Set (RAD-69): objects by their UIDs, over SOAP 1.2.",
        needs="read",
        consumes=(SOAP, _MULTIPART),
        produces=(_MULTIPART, SOAP),
        name="RetrieveImagingDocumentSet",
        service="Sharing: imaging document source (XDS-I.b)",
        answers=(
            ok("The objects beside the envelope, which tells what is missing."),
            Answer(400, "The message is none that is understood; a SOAP fault says why."),
            Answer(413, "The message is too long."),
            Answer(503, "A study is being changed; ask again."),
        ),
    )
