"""Page of the audit trail: who has done what, without patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.notices import Caller, Notices
from isocenter.services.security.audit.hash_chain import Record
from isocenter.services.security.audit.trail_reader import (
    Selection,
    Summary,
    TrailRead,
    latest,
    summarize,
)
from isocenter.services.web.ui.layout import Layout

_MOST_ROWS: Final = 100
_MOST_DIGITS: Final = 16
#: All that the address says: what is looked for, and the record that the page is behind.
_FIELDS: Final = ("event", "ae", "user", "outcome", "study", "first", "last", "before")
#: The same, as the API says it.
_IN_API: Final = {
    "event": "event_type", "ae": "source_ae", "user": "user_id", "outcome": "outcome",
    "study": "study_uid", "first": "date_from", "last": "date_to",
}  # fmt: skip
_OUTCOMES: Final = {"0": "ok", "4": "minor failure", "8": "serious failure", "12": "major failure"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """A record as a page shows it."""

    sequence: int
    time: str
    outcome: str
    what: str
    summary: Summary


class AuditPage:
    """Answers with the latest records.  That somebody reads them is recorded, too."""

    def __init__(
        self,
        trail: Path,
        layout: Layout,
        notices: Notices,
        *,
        caller_of: Callable[[Request], Caller],
    ) -> None:
        self._trail = trail
        self._layout = layout
        self._notices = notices
        self._caller_of = caller_of

    async def __call__(self, request: Request) -> Response:
        fields = {name: (request.parameter(name) or "").strip() for name in _FIELDS}
        fault, rows = "", list[AuditRow]()
        try:
            selection = _selection(fields)
        except ValueError:
            fault = "write a day as 2026-11-29"
        else:
            self._notices.publish(TrailRead(trail=self._trail, caller=self._caller_of(request)))
            try:
                look = partial(_rows, self._trail, selection, _number(fields["before"]))
                rows = await trio.to_thread.run_sync(look)
            except OSError as error:
                raise HttpError(503, "UNAVAILABLE", "the audit trail cannot be read") from error
        return self._layout.page(
            request,
            "audit.html",
            status=400 if fault else 200,
            section="audit",
            fields=fields,
            fault=fault,
            rows=rows[:_MOST_ROWS],
            outcomes=_OUTCOMES,
            latest=_query(fields, None),
            whole=_whole(fields),
            older=_query(fields, rows[_MOST_ROWS - 1].sequence) if len(rows) > _MOST_ROWS else "",
        )


def _selection(fields: dict[str, str]) -> Selection:
    """What the form says.

    Raises:
        ValueError: a day is none.
    """
    last = _day(fields["last"])
    return Selection(
        since=_day(fields["first"]),
        until=None if last is None else last + timedelta(days=1),
        event=fields["event"],
        ae_title=fields["ae"],
        user=fields["user"],
        outcome=fields["outcome"] if fields["outcome"] in _OUTCOMES else "",
        study_uid=fields["study"],
    )


def _day(text: str) -> datetime | None:
    day = date.fromisoformat(text) if text else None
    return None if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC)


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < _MOST_DIGITS else None


def _whole(fields: Mapping[str, str]) -> str:
    """What the API is asked for all that is found, as comma-separated values."""
    said = {name: fields[field] for field, name in _IN_API.items() if fields[field]}
    return f"?{urlencode({**said, 'format': 'csv'})}"


def _query(fields: Mapping[str, str], before: int | None) -> str:
    """The same list, behind a record; with its question mark."""
    said = {name: value for name, value in fields.items() if value and name != "before"}
    if before is not None:
        said["before"] = str(before)
    return f"?{urlencode(said)}"


def _rows(trail: Path, selection: Selection, before: int | None) -> list[AuditRow]:
    """One more than a page has, to know whether there are more."""
    return [_row(record) for record in latest(trail, selection, _MOST_ROWS + 1, before=before)]


def _row(record: Record) -> AuditRow:
    entry = record.entry
    return AuditRow(
        sequence=record.sequence,
        time=entry.time,
        outcome=_OUTCOMES.get(str(entry.outcome), str(entry.outcome)),
        what=f"{entry.event}: {entry.type}" if entry.type else entry.event,
        summary=summarize(record),
    )
