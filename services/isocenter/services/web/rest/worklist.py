"""Worklist in the API: entries found, added, changed and removed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from datetime import date
from operator import getitem
from typing import Any, Final

import msgspec

from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Parameter, Route, ok
from isocenter.services.service_classes.worklist.entry import Entry, EntryState, InvalidEntryError
from isocenter.services.service_classes.worklist.order_changes import changed_entry
from isocenter.services.service_classes.worklist.order_fields import (
    ATTRIBUTES,
    CODES,
    DATE_TIME,
    FIELDS,
    STEP_STATUS,
    entry_fields,
    entry_of_fields,
)
from isocenter.services.service_classes.worklist.ports import StoredEntry
from isocenter.services.service_classes.worklist.query_keys import Keys
from isocenter.services.web.cursors import Key
from isocenter.services.web.principal import caller_of
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import ROOT, endpoint
from isocenter.services.web.rest.entity_tags import check_unchanged, tagged
from isocenter.services.web.rest.paging import (
    PAGE_PARAMETERS,
    Page,
    PageRequest,
    link_headers,
    page_of_some,
    page_request,
)
from isocenter.services.web.rest.policy_answers import moment, not_found
from isocenter.services.web.worklist_entries import WorklistEntries, worklist_keys

_SERVICE: Final = "Worklist"
_PATH: Final = "/worklist"
_ONE: Final = f"{_PATH}/{{entry}}"
_FIELDS: Final = (*FIELDS, *CODES, DATE_TIME)
_REQUIRED: Final = ("step_id", "patient_id", "modality", DATE_TIME)
_MOST_DIGITS: Final = 18
_NO_DAY: Final = "write a day as 2026-11-29"
#: Where in an entry's key its day ends.
_DAY_DIGITS: Final = 8

#: Parameter → what `worklist_keys` calls it.
_KEYS: Final = {
    "station_ae": "station",
    "modality": "modality",
    "patient_id": "patient",
    "patient_name": "name",
    "accession_no": "accession",
    "step_id": "step",
}
_FILTERS: Final = (
    *(Parameter(name=name, text="Those that match, with wild cards.") for name in _KEYS),
    Parameter(name="scheduled_date_from", text="First day, as 2026-11-29."),
    Parameter(name="scheduled_date_to", text="Last day, as 2026-11-29."),
    Parameter(
        name="include_all_status",
        text="true: also those that were started, completed or discontinued.",
        values=("true", "false"),
    ),
    Parameter(
        name="step_status",
        text="Those in this state only.",
        values=tuple(one.value for one in EntryState),
    ),
)


def _body(name: str, text: str, *fields: tuple[str, Any] | tuple[str, Any, Any]) -> Any:
    """A body with all the fields that an order has (`order_fields`)."""
    namespace: dict[str, Any] = {
        "__doc__": text,
        "__module__": __name__,
        "__annotations__": {field[0]: field[1] for field in fields},
        **{field[0]: field[2] for field in fields if len(field) > 2},
    }
    kind: Any = type(Body)
    return kind(name, (Body,), namespace)


#: For types that are made here.
_AnyPage: Final[Any] = Page
#: An entry as it stands on the list; its texts are those of DICOM.
EntryShown: Final = _body(
    "WorklistEntry",
    "A scheduled procedure step; `pk` names it here, and its texts are as DICOM has them.",
    ("pk", int),
    (STEP_STATUS, EntryState),
    *((name, str, "") for name in _FIELDS),
    ("source", str),
    ("created_at", str | None),
    ("updated_at", str | None),
)
_EntryPage: Final[Any] = getitem(_AnyPage, EntryShown)
NewEntry: Final = _body(
    "NewWorklistEntry",
    "An entry to be added; `attributes` has what has no field, by keyword, tag or path.",
    *((name, str) for name in _REQUIRED),
    *((name, str, "") for name in _FIELDS if name not in _REQUIRED),
    (STEP_STATUS, EntryState, EntryState.SCHEDULED),
    (ATTRIBUTES, dict[str, str], msgspec.field(default_factory=dict)),
)
EntryChange: Final = _body(
    "WorklistEntryChange",
    "What of an entry is to change; what is left out stays.",
    *((name, str | msgspec.UnsetType, msgspec.UNSET) for name in _FIELDS),
    (STEP_STATUS, EntryState | msgspec.UnsetType, msgspec.UNSET),
    (ATTRIBUTES, dict[str, str], msgspec.field(default_factory=dict)),
)


class WorklistApi:
    """Answers with entries, and changes them."""

    def __init__(self, entries: WorklistEntries) -> None:
        self._entries = entries

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", _PATH, self.list, "Entries, the earliest first.", name="ListWorklist",
            service=_SERVICE, needs="search", gives=_EntryPage,
            parameters=(*_FILTERS, *PAGE_PARAMETERS),
        )  # fmt: skip
        yield endpoint(
            "POST", _PATH, self.add, "Add an entry.", name="AddWorklistEntry", service=_SERVICE,
            needs="write", takes=NewEntry, gives=EntryShown,
            answers=(
                ok("It is on the list.", status=201, headers=("Location",)),
                Answer(400, "A field is missing, or its value cannot be."),
                Answer(409, "There is an entry of that step ID and accession number."),
            ),
        )  # fmt: skip
        yield endpoint(
            "GET", _ONE, self.show, "One entry.", name="GetWorklistEntry", service=_SERVICE,
            needs="search", gives=EntryShown, has_tag=True,
        )  # fmt: skip
        yield endpoint(
            "PUT", _ONE, self.change, "Change fields of an entry, or its state.",
            name="ChangeWorklistEntry", service=_SERVICE, needs="write", takes=EntryChange,
            gives=EntryShown, has_tag=True,
            answers=(Answer(409, "There is another entry with the new key."),),
        )  # fmt: skip
        yield endpoint(
            "DELETE", _ONE, self.remove, "Take an entry off the list.",
            name="RemoveWorklistEntry", service=_SERVICE, needs="write", has_tag=True,
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        wanted, states = page_request(request), _states(request)
        keys = _keys(request, wanted)
        found: list[Any] = []
        left = wanted.offset
        async with _available(), aclosing(self._entries.found(keys, states)) as entries:
            async for one in entries:
                if wanted.after is not None and _key(one) <= wanted.after:
                    continue
                left -= 1
                if left < 0:
                    found.append(_shown(one))
                if len(found) > wanted.limit:
                    break
        page = page_of_some(found, wanted, _key_of_shown)
        request.told["matches"] = len(page.data)
        return answer(page, headers=link_headers(request, page))

    async def add(self, request: Request) -> Response:
        """The handler."""
        order = _order(await read_body(request, NewEntry))
        try:
            entry, state = entry_of_fields(order, "the entry")
        except InvalidEntryError as error:
            # The message names the field, and no value.
            raise HttpError(400, "INVALID_REQUEST", str(error)) from error
        async with _available():
            if not await self._entries.add(entry, state, caller_of(request)):
                raise HttpError(
                    409, "CONFLICT", "there is an entry of that step ID and accession number"
                )
            stored = await self._entries.get(entry.key)
        if stored is None:
            raise not_found("entry")
        return answer(_shown(stored), 201, [("location", f"{ROOT}{_PATH}/{stored.number}")])

    async def show(self, request: Request) -> Response:
        """The handler."""
        return tagged(request, _shown(await self._entry(request)))

    async def change(self, request: Request) -> Response:
        """The handler."""
        order = _order(await read_body(request, EntryChange))
        stored = await self._entry(request)
        check_unchanged(request, _shown(stored))
        has_tag, is_valid = request.header("if-match") is not None, False
        state = EntryState(order.pop(STEP_STATUS)) if STEP_STATUS in order else None

        def edit(entry: Entry) -> Entry:
            nonlocal is_valid
            if has_tag and entry_fields(entry) != entry_fields(stored.entry):
                raise HttpError(412, "CHANGED", "it has changed meanwhile; read it again")
            changed = changed_entry(order, entry) if order else entry
            is_valid = True
            return changed

        async with _available():
            try:
                is_there = await self._entries.change(
                    stored.entry.key, edit, state, caller_of(request)
                )
            except InvalidEntryError as error:
                status, code = (409, "CONFLICT") if is_valid else (400, "INVALID_REQUEST")
                raise HttpError(status, code, str(error)) from error
        if not is_there:
            raise not_found("entry")
        return tagged(request, _shown(await self._entry(request)))

    async def remove(self, request: Request) -> Response:
        """The handler."""
        stored = await self._entry(request)
        check_unchanged(request, _shown(stored))
        async with _available():
            if not await self._entries.remove(stored.entry.key, caller_of(request)):
                raise not_found("entry")
        return Response(status=204)

    async def _entry(self, request: Request) -> StoredEntry:
        text = request.arguments["entry"]
        if not (text.isascii() and text.isdecimal()) or len(text) > _MOST_DIGITS:
            raise not_found("entry")
        async with _available():
            stored = await self._entries.numbered(int(text))
        if stored is None:
            raise not_found("entry")
        return stored


@asynccontextmanager
async def _available() -> AsyncIterator[None]:
    """What cannot be read or written now is answered so."""
    try:
        yield
    except StorageError as error:
        raise HttpError(
            503, "UNAVAILABLE", "the worklist cannot be used now", [("retry-after", "5")]
        ) from error


def _key(stored: StoredEntry) -> tuple[str, int]:
    return entry_fields(stored.entry)[DATE_TIME], stored.number


def _key_of_shown(shown: Any) -> Key:
    return (shown.scheduled_datetime, shown.pk)


def _keys(request: Request, wanted: PageRequest) -> Keys:
    """What a request asks for.

    Raises:
        HttpError: it says what cannot be (400).
    """
    said = {name: (request.parameter(parameter) or "").strip() for parameter, name in _KEYS.items()}
    first, last = _day(request, "scheduled_date_from"), _day(request, "scheduled_date_to")
    after = wanted.after
    if after is not None:
        if len(after) != 2 or not isinstance(after[0], str) or not isinstance(after[1], int):
            raise HttpError(400, "INVALID_REQUEST", "after is of another list")
        # The index finds the day; what is left of it is passed over.
        day = after[0][:_DAY_DIGITS]
        first = max(first, day) if day.isascii() and day.isdecimal() else first
    said["days"] = f"{first}-{last}" if first or last else ""
    try:
        return worklist_keys(said)
    except ValueError as error:
        raise HttpError(400, "INVALID_REQUEST", str(error)) from error


def _day(request: Request, name: str) -> str:
    try:
        text = (request.parameter(name) or "").strip()
        return date.fromisoformat(text).strftime("%Y%m%d") if text else ""
    except ValueError:
        raise HttpError(400, "INVALID_REQUEST", _NO_DAY) from None


def _states(request: Request) -> tuple[EntryState, ...]:
    said = request.parameter("step_status")
    if said:
        try:
            return (EntryState(said),)
        except ValueError:
            names = ", ".join(one.value for one in EntryState)
            raise HttpError(400, "INVALID_REQUEST", f"step_status is one of {names}") from None
    if (request.parameter("include_all_status") or "").lower() in ("true", "1", "yes"):
        return tuple(EntryState)
    return (EntryState.SCHEDULED,)


def _order(body: Any) -> dict[str, Any]:
    """The fields of a body that were said, as `order_fields` reads them."""
    order: dict[str, Any] = {}
    for name in body.__struct_fields__:
        value = getattr(body, name)
        if value is msgspec.UNSET or (name == ATTRIBUTES and not value):
            continue
        order[name] = value.value if isinstance(value, EntryState) else value
    return order


def _shown(stored: StoredEntry) -> Any:
    return EntryShown(
        pk=stored.number,
        step_status=stored.state,
        source=stored.source,
        created_at=moment(stored.created_at),
        updated_at=moment(stored.changed_at),
        **entry_fields(stored.entry),
    )
