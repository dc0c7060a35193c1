"""STOW-RS (PS3.18 10.5): objects of one request into the archive, as they come.

No object is held: each is written as it arrives and committed while the next one comes, so that
a request costs few rounds.  200 is said when all of them are durable and can be found.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import orjson
import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dimse.status import Status
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.committer import StoreOutcome, StoreResult
from isocenter.services.archive.ingest import Ingest
from isocenter.services.archive.object_scan import StoreError
from isocenter.services.concurrency import alone
from isocenter.services.dicom.file_recognition import (
    HEAD_BYTES,
    DamagedFileError,
    FileIdentity,
    NotDicomFileError,
    identify,
)
from isocenter.services.net.http.media_types import MediaType, MediaTypeError, parse_media_type
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.multipart import (
    MultipartError,
    MultipartParser,
    PartData,
    PartEnded,
    PartStarted,
    boundary_of,
)
from isocenter.services.notices import Caller, InstanceRefused, InstanceStored, Notices
from isocenter.services.web.dicomweb.framing import multipart_response
from isocenter.services.web.dicomweb.representations import (
    DICOM,
    DICOM_JSON,
    DICOM_XML,
    MULTIPART,
    choose,
)
from isocenter.services.web.dicomweb.resources import parents_of
from isocenter.services.web.dicomweb.search import FORMS, xml_of_answer
from isocenter.services.web.dicomweb.urls import PublicUrls, instance_url

log = logging.getLogger("isocenter.http")

#: Objects of one request.
MOST_OBJECTS: Final = 100_000
#: Objects of one request that are being committed while others come.
_MOST_COMMITTING: Final = 32
#: What the object is of is not the study of the path.
_OTHER_STUDY: Final = 0xA901
_STUDY: Final = 0x0020000D
_PATIENT_NAME: Final = 0x00100010
_PATIENT_ID: Final = 0x00100020


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What became of one object; *status* as a C-STORE would be answered."""

    status: int
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    comment: str = ""

    @property
    def is_stored(self) -> bool:
        return not self.status or self.status >> 12 == 0xB


class Store:
    """Takes objects.

    Args:
        notices: is told of each object, as of one that came by C-STORE.
        source: stands as the Source AE Title of what is stored.
    """

    def __init__(
        self,
        archive: Archive,
        urls: PublicUrls,
        notices: Notices,
        *,
        caller_of: Callable[[Request], Caller],
    ) -> None:
        self._archive = archive
        self._urls = urls
        self._notices = notices
        self._caller_of = caller_of

    async def __call__(self, request: Request) -> Response:
        """The handler of studies, and of one study."""
        form, _ = choose(request, FORMS)
        study = "".join(parents_of(request).values())
        content = _content_type(request)
        if content.name == MULTIPART:
            outcomes = await self._multipart(request, content, study)
        elif content.name == DICOM:
            outcomes = await self._single(request, study)
        else:
            raise _unsupported()
        if not outcomes:
            raise HttpError(400, "NO_INSTANCES", "the request holds no object")
        stored = sum(one.is_stored for one in outcomes)
        is_plain = all(not one.status for one in outcomes)
        status = 200 if is_plain else 202 if stored else 409
        base = self._urls.base(request)
        answer = _answer(outcomes, base)
        headers = [("cache-control", "no-store")]
        if form.media_type == DICOM_XML:
            response = multipart_response(DICOM_XML, [xml_of_answer(answer)], headers)
            return Response(status=status, headers=response.headers, body=response.body)
        headers.append(("content-type", DICOM_JSON))
        return Response(status=status, headers=headers, body=orjson.dumps(answer))

    async def _multipart(self, request: Request, content: MediaType, study: str) -> list[_Outcome]:
        kind = content.parameter("type")
        if kind is not None and parse_media_type(kind).name != DICOM:
            raise _unsupported()
        try:
            parser = MultipartParser(boundary_of(content), most_parts=MOST_OBJECTS)
            async with _Objects(self, self._caller_of(request), study) as objects:
                async for chunk in request.chunks():
                    for event in parser.feed(chunk):
                        match event:
                            case PartStarted():
                                objects.begin(_name_of(event))
                            case PartData(data):
                                await objects.write(data)
                            case PartEnded():
                                await objects.end()
                parser.close()
            return objects.outcomes
        except MultipartError as error:
            raise HttpError(400, "BAD_MULTIPART", str(error)) from error

    async def _single(self, request: Request, study: str) -> list[_Outcome]:
        async with _Objects(self, self._caller_of(request), study) as objects:
            objects.begin(DICOM)
            async for chunk in request.chunks():
                await objects.write(chunk)
            await objects.end()
        return objects.outcomes

    # What the objects of a request need.

    async def receive(self, identity: FileIdentity) -> Ingest:
        return await self._archive.receive(
            sop_class_uid=identity.sop_class_uid,
            sop_instance_uid=identity.sop_instance_uid,
            transfer_syntax_uid=identity.transfer_syntax_uid,
            source_ae_title="",
        )

    def identify(self, head: Buffer, *, is_whole: bool) -> FileIdentity:
        return identify(head, self._archive.limits, is_whole=is_whole)

    def publish(self, notice: InstanceStored | InstanceRefused) -> None:
        self._notices.publish(notice)


class _Objects:
    """The objects of one request, one after the other.  An async context manager: left, all of
    them have their outcome; left by an exception, what was not committed leaves no trace."""

    def __init__(self, store: Store, caller: Caller, study: str) -> None:
        self._store = store
        self._caller = caller
        self._study = study
        self._outcomes: list[_Outcome | None] = []
        self._committing = trio.CapacityLimiter(_MOST_COMMITTING)
        self._head: bytearray | None = None
        self._identity: FileIdentity | None = None
        self._ingest: Ingest | None = None
        self._manager = trio.open_nursery()
        self._nursery: trio.Nursery

    @property
    def outcomes(self) -> list[_Outcome]:
        """Of all objects, in their order, once the context was left."""
        return [one for one in self._outcomes if one is not None]

    async def __aenter__(self) -> Self:
        self._nursery = await self._manager.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if error is not None:
            await self._discard()
        try:
            return await self._manager.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as group:
            raise alone(group) from None

    def begin(self, media_type: str) -> None:
        """An object begins."""
        self._outcomes.append(None)
        self._head = bytearray() if media_type == DICOM else None
        self._identity = None
        if media_type != DICOM:
            self._fail(Status.CANNOT_UNDERSTAND, f"a part is no {DICOM}")

    async def write(self, data: Buffer) -> None:
        """Some of it."""
        if self._outcomes[-1] is not None:
            return  # it was refused already
        if self._ingest is not None:
            await self._write(data)
        elif self._head is not None:
            self._head += data
            if len(self._head) >= HEAD_BYTES:
                await self._open(is_whole=False)

    async def end(self) -> None:
        """It is here as a whole."""
        if self._outcomes[-1] is None and self._ingest is None:
            await self._open(is_whole=True)
        ingest, self._ingest = self._ingest, None
        if ingest is None or self._outcomes[-1] is not None:
            return
        await self._committing.acquire_on_behalf_of(ingest)
        self._nursery.start_soon(self._commit, len(self._outcomes) - 1, ingest)

    async def _open(self, *, is_whole: bool) -> None:
        assert self._head is not None
        head, self._head = bytes(self._head), None
        try:
            self._identity = self._store.identify(head, is_whole=is_whole)
        except (DamagedFileError, NotDicomFileError) as error:
            self._fail(Status.CANNOT_UNDERSTAND, str(error))
            return
        try:
            self._ingest = await self._store.receive(self._identity)
        except StoreError as error:
            self._fail(error.status, error.comment)
            return
        await self._write(memoryview(head)[self._identity.data_set_offset :])

    async def _write(self, data: Buffer) -> None:
        assert self._ingest is not None
        try:
            await self._ingest.write([data])
        except StoreError as error:
            await self._discard()
            self._fail(error.status, error.comment)

    async def _discard(self) -> None:
        ingest, self._ingest = self._ingest, None
        if ingest is not None:
            await ingest.__aexit__(None, None, None)

    async def _commit(self, place: int, ingest: Ingest) -> None:
        try:
            async with ingest:
                if self._study and ingest.study_instance_uid != self._study:
                    self._refuse(place, ingest, _OTHER_STUDY, "it is of another study")
                    return
                try:
                    result = await ingest.commit()
                except StoreError as error:
                    self._refuse(place, ingest, error.status, error.comment)
                    return
                self._keep(place, ingest, result)
        finally:
            self._committing.release_on_behalf_of(ingest)

    def _keep(self, place: int, ingest: Ingest, result: StoreResult) -> None:
        record = ingest.record
        assert record is not None
        for what in (*result.changes, *result.forgiven):
            log.info("instance %s: %s", record.sop_instance_uid, what)
        self._outcomes[place] = _Outcome(
            status=result.status,
            sop_class_uid=record.sop_class_uid,
            sop_instance_uid=record.sop_instance_uid,
            study_instance_uid=record.study_instance_uid,
            series_instance_uid=record.series_instance_uid,
            comment=result.comment if result.outcome is not StoreOutcome.STORED else "",
        )
        self._store.publish(
            InstanceStored(
                caller=self._caller,
                study_instance_uid=record.study_instance_uid,
                series_instance_uid=record.series_instance_uid,
                sop_class_uid=record.sop_class_uid,
                sop_instance_uid=record.sop_instance_uid,
                size=record.size - record.data_set_offset,
                outcome=result.outcome.value,
                patient_id=record.attributes.get(_PATIENT_ID, ""),
                patient_name=record.attributes.get(_PATIENT_NAME, ""),
            )
        )

    def _refuse(self, place: int, ingest: Ingest, status: int, comment: str) -> None:
        self._tell_refused(place, status, comment, ingest.sop_class_uid, ingest.sop_instance_uid)

    def _fail(self, status: int, comment: str) -> None:
        identity = self._identity
        self._tell_refused(
            len(self._outcomes) - 1,
            status,
            comment,
            identity.sop_class_uid if identity else "",
            identity.sop_instance_uid if identity else "",
        )

    def _tell_refused(
        self, place: int, status: int, comment: str, sop_class_uid: str, sop_instance_uid: str
    ) -> None:
        self._outcomes[place] = _Outcome(
            status=status,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            comment=comment,
        )
        log.info("an object of a request was refused: %04XH %s", status, comment)
        self._store.publish(
            InstanceRefused(
                caller=self._caller,
                sop_class_uid=sop_class_uid,
                sop_instance_uid=sop_instance_uid,
                status=status,
            )
        )


def _content_type(request: Request) -> MediaType:
    said = request.header("content-type")
    try:
        return parse_media_type(said or "")
    except MediaTypeError as error:
        raise _unsupported() from error


def _unsupported() -> HttpError:
    return HttpError(
        415,
        "UNSUPPORTED_MEDIA_TYPE",
        f'send {MULTIPART}; type="{DICOM}" with a boundary, or one object as {DICOM}',
    )


def _name_of(part: PartStarted) -> str:
    try:
        media_type = part.media_type
    except MediaTypeError:
        return ""
    return DICOM if media_type is None else media_type.name


def _answer(outcomes: list[_Outcome], base: str) -> dict[str, Any]:
    """The response data set (PS3.18 10.5.3.2, Annex I)."""
    stored = [one for one in outcomes if one.is_stored]
    failed = [one for one in outcomes if not one.is_stored]
    studies = {one.study_instance_uid for one in stored}
    found: dict[str, Any] = {}
    if len(studies) == 1:
        found["00081190"] = _one("UR", instance_url(base, *studies))
    if failed:
        found["00081198"] = {"vr": "SQ", "Value": [_failed(one) for one in failed]}
    if stored:
        found["00081199"] = {"vr": "SQ", "Value": [_stored(one, base) for one in stored]}
    return found


def _stored(one: _Outcome, base: str) -> dict[str, Any]:
    url = instance_url(base, one.study_instance_uid, one.series_instance_uid, one.sop_instance_uid)
    found = {
        "00081150": _one("UI", one.sop_class_uid),
        "00081155": _one("UI", one.sop_instance_uid),
        "00081190": _one("UR", url),
    }
    if one.status:
        found["00081196"] = _one("US", one.status)
    return found


def _failed(one: _Outcome) -> dict[str, Any]:
    return {
        "00081150": _one("UI", one.sop_class_uid),
        "00081155": _one("UI", one.sop_instance_uid),
        "00081197": _one("US", one.status),
    }


def _one(vr: str, value: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]} if value != "" else {"vr": vr}
