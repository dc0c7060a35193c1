"""Page of the modality worklist: scheduled steps, their states, and their end."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Final

from isocenter.services.errors import StorageError
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.service_classes.worklist.entry import EntryKey, EntryState
from isocenter.services.service_classes.worklist.order_fields import DATE_TIME, entry_fields
from isocenter.services.service_classes.worklist.ports import StoredEntry
from isocenter.services.service_classes.worklist.query_keys import Keys
from isocenter.services.web.forms import read_fields
from isocenter.services.web.principal import caller_of
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.texts import date_of_form, date_text, person_name, time_text
from isocenter.services.web.worklist_entries import WorklistEntries, worklist_keys

_MOST_ROWS: Final = 200
_STATES: Final = {state.value: state for state in EntryState}
_FIELDS: Final = ("name", "patient", "accession", "modality", "station", "day", "state")
_DATE_LENGTH: Final = 8


class WorklistPages:
    """Answers with entries, and changes their states."""

    def __init__(self, entries: WorklistEntries, layout: Layout) -> None:
        self._entries = entries
        self._layout = layout

    async def show(self, request: Request) -> Response:
        """The handler of the page."""
        said = {name: (request.parameter(name) or "").strip() for name in _FIELDS}
        fault, found = "", list[StoredEntry]()
        try:
            keys = _keys(said)
        except ValueError as error:
            fault = str(error)
        else:
            found = await self._found(keys, said["state"])
        return self._layout.page(
            request,
            "worklist.html",
            status=400 if fault else 200,
            section="worklist",
            fields=said,
            fault=fault,
            rows=[_row(one) for one in found],
            states=list(_STATES),
            today=date.today().isoformat(),  # noqa: DTZ011 - the day at the archive
            is_cut=len(found) == _MOST_ROWS,
        )

    async def change(self, request: Request) -> Response:
        """The handler of the form that gives an entry another state, or takes it off."""
        fields = await read_fields(request)
        key = EntryKey(fields.get("step_id", ""), fields.get("accession", ""))
        state = fields.get("state", "")
        try:
            if state == "remove":
                is_there = await self._entries.remove(key, caller_of(request))
            elif state in _STATES:
                is_there = await self._entries.set_state(key, _STATES[state], caller_of(request))
            else:
                raise HttpError(400, "BAD_FORM", f"a state is one of {', '.join(_STATES)}")
        except StorageError as error:
            raise HttpError(503, "UNAVAILABLE", "the worklist cannot be changed now") from error
        if not is_there:
            raise HttpError(404, "NOT_FOUND", "the worklist has no such entry")
        return Response(status=303, headers=[("location", "/worklist")])

    async def _found(self, keys: Keys, state: str) -> list[StoredEntry]:
        states = (_STATES[state],) if state in _STATES else tuple(EntryState)
        try:
            return await self._entries.some(keys, states, _MOST_ROWS)
        except StorageError as error:
            raise HttpError(503, "UNAVAILABLE", "the worklist cannot be read now") from error


def _keys(said: Mapping[str, str]) -> Keys:
    """What the form asks.

    Raises:
        ValueError: a value cannot be.
    """
    try:
        day = date_of_form(said["day"])
    except ValueError:
        raise ValueError("write a day as 2026-11-29") from None
    return worklist_keys({**said, "days": day})


def _row(stored: StoredEntry) -> dict[str, str]:
    fields = entry_fields(stored.entry)
    when = fields[DATE_TIME]
    key = stored.entry.key
    return {
        **fields,
        "step_id": key.step_id,
        "accession": key.accession_number,
        "state": stored.state.value,
        "day": date_text(when[:_DATE_LENGTH]),
        "time": time_text(when[_DATE_LENGTH:]),
        "name": person_name(fields.get("patient_name", "")),
        "source": stored.source,
    }
