"""Audit trail in the API: its records, and all as a file."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, closing
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import trio

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Parameter, Route, ok
from isocenter.services.notices import Notices
from isocenter.services.security.audit.hash_chain import Record
from isocenter.services.security.audit.trail_reader import (
    Cursor,
    Selection,
    TrailRead,
    TrailReader,
    latest,
    summarize,
)
from isocenter.services.web.comma_separated import CSV, MARK, csv_headers, csv_lines
from isocenter.services.web.principal import caller_of
from isocenter.services.web.rest.bodies import JSON, Body, answer, encoded
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.paging import (
    PAGE_PARAMETERS,
    Page,
    link_headers,
    page_of_some,
    page_request,
)
from isocenter.services.web.rest.policy_answers import not_found

_SERVICE: Final = "Audit trail"
_FORMATS: Final = ("json", "csv")
_OUTCOMES: Final = ("0", "4", "8", "12")
_COLUMNS: Final = (
    "id", "time", "event", "type", "outcome", "participants", "objects", "description",
)  # fmt: skip

_FILTERS: Final = (
    Parameter(name="event_type", text="A code, or a part of the name, of event or type."),
    Parameter(
        name="outcome", text="0 success, 4 minor, 8 serious, 12 major failure.", values=_OUTCOMES
    ),
    Parameter(name="user_id", text="User ID, or AE title, of a participant."),
    Parameter(name="source_ae", text="AE title that took part."),
    Parameter(name="patient_id", text="Whose objects it was about, or who was asked for."),
    Parameter(name="study_uid", text="Study Instance UID of what it was about."),
    Parameter(name="date_from", text="First day or moment, as 2026-11-29 or with a time."),
    Parameter(name="date_to", text="Last day, or the moment before which it was."),
)
_FORMAT: Final = Parameter(name="format", text="As a file: json or csv.", values=_FORMATS)


class AuditRecord(Body):
    """A record of the audit trail, without patients."""

    id: int
    time: str
    event: str
    type: str
    outcome: str
    ae_titles: tuple[str, ...]
    process: int
    participants: tuple[str, ...]
    objects: tuple[str, ...]
    description: str


class WholeRecord(Body):
    """A record with its message (PS3.15 A.5), which names patients, and its digest."""

    record: AuditRecord
    message: str
    digest: str
    previous: str


class AuditApi:
    """Answers with records.  That somebody reads them is recorded, too."""

    def __init__(self, trail: Path, notices: Notices) -> None:
        self._trail = trail
        self._notices = notices

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/audit/logs", self.list,
            "Records, the last one first; with format=csv a file of the page.",
            name="ListAuditRecords", service=_SERVICE, needs="audit", gives=Page[AuditRecord],
            parameters=(*_FILTERS, _FORMAT, *PAGE_PARAMETERS), also=(CSV,),
        )  # fmt: skip
        yield endpoint(
            "GET", "/audit/logs/{record}", self.show, "One record, with its message.",
            name="GetAuditRecord", service=_SERVICE, needs="audit", gives=WholeRecord,
        )  # fmt: skip
        yield endpoint(
            "GET", "/audit/export", self.export, "All records that fit as a file, the first first.",
            name="ExportAuditTrail", service=_SERVICE, needs="audit", gives=list[AuditRecord],
            parameters=(*_FILTERS, _FORMAT), also=(CSV,),
            answers=(ok("The file."), Answer(400, "A filter says what cannot be.")),
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        wanted, selection, as_csv = page_request(request), _selection(request), _is_csv(request)
        before = None
        if wanted.after is not None:
            if not isinstance(wanted.after[0], int):
                raise HttpError(400, "INVALID_REQUEST", "after is of another list")
            # The key is turned round: what is behind in the list has a smaller number.
            before = -wanted.after[0]
        most = wanted.offset + wanted.limit + 1
        self._tell(request)
        records = await self._read(partial(latest, self._trail, selection, most, before=before))
        shown = [_record(one) for one in records[wanted.offset :]]
        page = page_of_some(shown, wanted, lambda one: (-one.id,))
        if as_csv:
            body = MARK + csv_lines([_COLUMNS, *map(_row, page.data)])
            return Response(headers=csv_headers("audit_logs.csv"), body=body)
        return answer(page, headers=link_headers(request, page))

    async def show(self, request: Request) -> Response:
        """The handler."""
        text = request.arguments["record"]
        if not text.isascii() or not text.isdecimal() or len(text) > 15:
            raise not_found("record")
        number = int(text)
        self._tell(request)
        read = partial(latest, self._trail, Selection(), 1, before=number + 1)
        found = await self._read(read)
        if not found or found[0].sequence != number:
            raise not_found("record")
        (record,) = found
        return answer(
            WholeRecord(
                record=_record(record),
                message=record.entry.message,
                digest=record.digest,
                previous=record.previous,
            )
        )

    async def export(self, request: Request) -> Response:
        """The handler."""
        selection, as_csv = _selection(request), _is_csv(request)
        self._tell(request)
        if as_csv:
            return Response(
                headers=csv_headers("audit_logs.csv"), body=_as_csv(self._trail, selection)
            )
        headers = (
            ("content-type", JSON),
            ("content-disposition", 'attachment; filename="audit_logs.json"'),
            ("cache-control", "private, no-store"),
        )
        return Response(headers=headers, body=_as_json(self._trail, selection))

    def _tell(self, request: Request) -> None:
        self._notices.publish(TrailRead(trail=self._trail, caller=caller_of(request)))

    async def _read(self, read: Callable[[], Sequence[Record]]) -> Sequence[Record]:
        try:
            return await trio.to_thread.run_sync(read)
        except OSError as error:
            raise HttpError(503, "UNAVAILABLE", "the audit trail cannot be read") from error


async def _batches(
    trail: Path, selection: Selection
) -> AsyncGenerator[Sequence[AuditRecord], None]:
    """All records that are wanted, some at a time."""
    cursor = Cursor()
    with closing(TrailReader(trail)) as reader:
        while True:
            records, cursor = await trio.to_thread.run_sync(reader.read_on, cursor)
            if not records:
                return
            yield [_record(one) for one in records if selection.admits(one)]


async def _as_csv(trail: Path, selection: Selection) -> AsyncIterator[bytes]:
    yield MARK + csv_lines([_COLUMNS])
    async with aclosing(_batches(trail, selection)) as batches:
        async for batch in batches:
            yield csv_lines(map(_row, batch))


async def _as_json(trail: Path, selection: Selection) -> AsyncIterator[bytes]:
    yield b"["
    is_first = True
    async with aclosing(_batches(trail, selection)) as batches:
        async for batch in batches:
            for one in batch:
                yield (b"" if is_first else b",\n") + encoded(one)
                is_first = False
    yield b"]\n"


def _selection(request: Request) -> Selection:
    """What a request asks for.

    Raises:
        HttpError: it says what cannot be (400).
    """
    said = {one.name: (request.parameter(one.name) or "").strip() for one in _FILTERS}
    if said["outcome"] not in ("", *_OUTCOMES):
        raise HttpError(400, "INVALID_REQUEST", f"outcome is one of {', '.join(_OUTCOMES)}")
    return Selection(
        since=_moment(said["date_from"], is_last=False),
        until=_moment(said["date_to"], is_last=True),
        event=said["event_type"],
        ae_title=said["source_ae"],
        outcome=said["outcome"],
        user=said["user_id"],
        study_uid=said["study_uid"],
        patient_id=said["patient_id"],
    )


def _moment(text: str, *, is_last: bool) -> datetime | None:
    """A day, of which the last belongs to it, or a moment; without a zone it is UTC."""
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        pass
    else:
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        try:
            return midnight + timedelta(days=1) if is_last else midnight
        except OverflowError:
            return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise HttpError(
            400, "INVALID_REQUEST", "write a day as 2026-11-29, a moment as 2026-11-29T17:05:00Z"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _is_csv(request: Request) -> bool:
    said = request.parameter("format") or "json"
    if said not in _FORMATS:
        raise HttpError(400, "INVALID_REQUEST", f"format is one of {', '.join(_FORMATS)}")
    return said == "csv"


def _record(record: Record) -> AuditRecord:
    entry, summary = record.entry, summarize(record)
    return AuditRecord(
        id=record.sequence,
        time=entry.time,
        event=entry.event,
        type=entry.type,
        outcome=str(entry.outcome),
        ae_titles=tuple(entry.ae_titles),
        process=entry.process,
        participants=summary.participants,
        objects=summary.objects,
        description=summary.description,
    )


def _row(record: AuditRecord) -> Sequence[str]:
    values = (getattr(record, name) for name in _COLUMNS)
    return ["; ".join(one) if isinstance(one, tuple) else str(one) for one in values]
