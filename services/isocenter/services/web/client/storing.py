"""STOW-RS as its user (PS3.18 10.5): objects in, an outcome of each out."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import DataSetError, write_file_meta
from isocenter.engine.dimse.status import describe_status
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.errors import StorageError, text_of
from isocenter.services.net.http.client import Content, HttpClient, HttpResponse
from isocenter.services.net.http.client_errors import HttpClientError, HttpStatusError
from isocenter.services.net.http.multipart import MultipartWriter
from isocenter.services.web.client.models import (
    DICOM_JSON,
    Model,
    items_of,
    models_of,
    number_of,
    value_of,
)

_DICOM: Final = "application/dicom"
_PART_HEADERS: Final = (("Content-Type", _DICOM),)
_REFERENCED_SEQUENCE: Final = "00081199"
_FAILED_SEQUENCE: Final = "00081198"
_OTHER_FAILURES: Final = "0008119A"
_REFERENCED_INSTANCE: Final = "00081155"
_RETRIEVE_URL: Final = "00081190"
_WARNING_REASON: Final = "00081196"
_FAILURE_REASON: Final = "00081197"
#: Statuses that may be due to one object of several: each is sent alone then.
_OF_ONE: Final = frozenset({400, 409, 413, 415, 422})
#: Answers that have a data set which names each object.
_WITH_OUTCOMES: Final = frozenset({409})


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectOutcome:
    """What became of one object.

    Attributes:
        is_stored: the server has it.
        status: its Warning Reason or Failure Reason; None: it gave none.
        reason: why it was not stored, or is not as it was sent; empty: it is.
        url: where it is retrieved, as the server says.
    """

    item: DicomObject
    is_stored: bool
    status: int | None = None
    reason: str = ""
    url: str = ""


class UnreadableObjectError(HttpClientError):
    """An object of a request could not be read while it was sent; the request was given up."""

    error_code = ErrorCode.FILE_NOT_DICOM

    def __init__(self, place: int, reason: str) -> None:
        super().__init__(f"cannot be read: {reason}")
        self.place = place


class Storing:
    """Sends objects.

    Args:
        study: Study Instance UID that all are to be of; empty: of any.
    """

    def __init__(self, http: HttpClient, study: str = "") -> None:
        self._http = http
        self._url = http.url(f"/studies/{study}" if study else "/studies")

    async def store(self, objects: Sequence[DicomObject]) -> list[ObjectOutcome]:
        """Send objects in one request; what became of each, in their order.

        When the server refuses the request as a whole for what may be one object's fault, each is
        sent alone.

        Raises:
            HttpClientError: nothing can be sent: the server is not there, or lets nobody in.
        """
        try:
            return await self._request(objects)
        except UnreadableObjectError as error:
            before, item = objects[: error.place], objects[error.place]
            outcomes = await self.store(before) if before else []
            outcomes.append(ObjectOutcome(item=item, is_stored=False, reason=str(error)))
            rest = objects[error.place + 1 :]
            return outcomes + (await self.store(rest) if rest else [])
        except HttpStatusError as error:
            if error.status not in _OF_ONE:
                raise
            if len(objects) == 1:
                return [ObjectOutcome(item=objects[0], is_stored=False, reason=str(error))]
            found: list[ObjectOutcome] = []
            for item in objects:
                found += await self.store([item])
            return found

    async def _request(self, objects: Sequence[DicomObject]) -> list[ObjectOutcome]:
        parts = [await _part_of(item, place) for place, item in enumerate(objects)]
        boundary = secrets.token_hex(20)
        writer = MultipartWriter(boundary)
        length = writer.length((_PART_HEADERS, len(part.head) + part.length) for part in parts)
        content = Content(
            media_type=f'multipart/related; type="{_DICOM}"; boundary={boundary}',
            pieces=lambda: _body(MultipartWriter(boundary), parts),
            length=length,
        )
        headers = (("accept", DICOM_JSON),)
        async with self._http.request(
            "POST", self._url, headers=headers, content=content, also=_WITH_OUTCOMES
        ) as response:
            answers = await _answers(response)
        if not answers and response.status >= 300:
            raise HttpStatusError(response.status, "")
        return _outcomes(objects, answers, response.status)


async def _answers(response: HttpResponse) -> list[Model]:
    """The response data set; what is none says nothing."""
    try:
        return await models_of(response)
    except HttpClientError:
        if response.status >= 300:
            return []
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    place: int
    item: DicomObject
    head: bytes
    length: int


async def _part_of(item: DicomObject, place: int) -> _Part:
    try:
        async with await item.open() as reader:
            length = reader.size - item.data_set_offset
    except (OSError, StorageError, DataSetError, KeyError) as error:
        raise UnreadableObjectError(place, text_of(error)) from error
    if item.transfer_syntax_uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        length += length & 1  # a NUL, which `DicomObject.parts` adds
    head = write_file_meta(item.sop_class_uid, item.sop_instance_uid, item.transfer_syntax_uid)
    return _Part(place=place, item=item, head=bytes(head), length=length)


async def _body(writer: MultipartWriter, parts: Sequence[_Part]) -> AsyncGenerator[Buffer, None]:
    for part in parts:
        yield writer.begin_part(_PART_HEADERS) + part.head
        sent = 0
        try:
            async with aclosing(part.item.parts()) as pieces:
                async for piece, _ in pieces:
                    sent += len(piece)
                    yield piece
        except (OSError, StorageError, DataSetError, KeyError) as error:
            raise UnreadableObjectError(part.place, text_of(error)) from error
        if sent != part.length:
            raise UnreadableObjectError(part.place, "it changed meanwhile")
    yield writer.end()


def _outcomes(
    objects: Sequence[DicomObject], answers: Sequence[Model], status: int
) -> list[ObjectOutcome]:
    stored: dict[str, Model] = {}
    failed: dict[str, Model] = {}
    others: list[Model] = []
    for answer in answers:
        for one in items_of(answer, _REFERENCED_SEQUENCE):
            stored[value_of(one, _REFERENCED_INSTANCE)] = one
        for one in items_of(answer, _FAILED_SEQUENCE):
            failed[value_of(one, _REFERENCED_INSTANCE)] = one
        others += items_of(answer, _OTHER_FAILURES)
    # Some servers tell of nothing but failures, or of nothing at all.
    is_silent = status == 200 and not (stored or failed or others)
    found: list[ObjectOutcome] = []
    for item in objects:
        uid = item.sop_instance_uid
        if uid in failed:
            found.append(_failure(item, failed[uid]))
        elif uid in stored:
            found.append(_success(item, stored[uid]))
        elif is_silent or (status == 200 and not stored and not others):
            found.append(ObjectOutcome(item=item, is_stored=True))
        elif len(objects) == 1 and len(failed) + len(others) == 1:
            # A failure whose object the server could not name.
            found.append(_failure(item, [*failed.values(), *others][0]))
        else:
            reason = "the server does not say what became of it"
            found.append(ObjectOutcome(item=item, is_stored=False, reason=reason))
    return found


def _success(item: DicomObject, answer: Model) -> ObjectOutcome:
    status = number_of(answer, _WARNING_REASON)
    return ObjectOutcome(
        item=item,
        is_stored=True,
        status=status,
        reason=f"the server answered {_described(status)}" if status else "",
        url=value_of(answer, _RETRIEVE_URL),
    )


def _failure(item: DicomObject, answer: Model) -> ObjectOutcome:
    status = number_of(answer, _FAILURE_REASON)
    said = "no reason" if status is None else _described(status)
    return ObjectOutcome(
        item=item, is_stored=False, status=status, reason=f"the server answered {said}"
    )


def _described(status: int) -> str:
    return f"{status:04X}H {describe_status(status & 0xFFFF)}"
