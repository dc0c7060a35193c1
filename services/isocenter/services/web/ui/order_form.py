"""Form that puts a scheduled step on the worklist by hand."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Final

from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.service_classes.worklist.entry import EntryState, InvalidEntryError
from isocenter.services.service_classes.worklist.order_fields import DATE_TIME, entry_of_order
from isocenter.services.web.forms import read_fields
from isocenter.services.web.principal import caller_of
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import action, page
from isocenter.services.web.worklist_entries import WorklistEntries

#: Fields that go into the order as they are written.
_FIELDS: Final = (
    "patient_id", "accession_no", "modality", "station_ae", "procedure_desc", "referring_phys",
    "sex",
)  # fmt: skip
_PATH: Final = "/worklist/new"
_ID_BYTES: Final = 4
_WHERE: Final = "the step"


class OrderForm:
    """Answers with the form, and takes it."""

    def __init__(self, entries: WorklistEntries, layout: Layout) -> None:
        self._entries = entries
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is."""
        yield page(_PATH, "write", self.show, "The form for a scheduled step.")
        yield action(_PATH, "write", self.add, "Put a step on the worklist.")

    async def show(self, request: Request) -> Response:
        """The handler of the form."""
        return self._page(request, {}, "")

    async def add(self, request: Request) -> Response:
        """The handler of what it sends."""
        fields = {name: text.strip() for name, text in (await read_fields(request)).items()}
        missing = [
            words
            for name, words in (
                ("family", "a name"), ("patient_id", "a Patient ID"), ("modality", "a modality"),
                ("day", "a day"),
            )
            if not fields.get(name)
        ]  # fmt: skip
        if missing:
            return self._page(request, fields, f"a step needs {', '.join(missing)}")
        try:
            entry, _ = entry_of_order(_order(fields), _WHERE)
        except InvalidEntryError as error:
            return self._page(request, fields, str(error))
        try:
            is_new = await self._entries.add(entry, EntryState.SCHEDULED, caller_of(request))
        except StorageError as error:
            raise HttpError(503, "UNAVAILABLE", "the worklist cannot be changed now") from error
        if not is_new:
            return self._page(request, fields, "there is a step of that ID already; send it again")
        return Response(status=303, headers=[("location", f"/worklist?day={fields['day']}")])

    def _page(self, request: Request, fields: Mapping[str, str], fault: str) -> Response:
        return self._layout.page(
            request,
            "order_form.html",
            status=400 if fault else 200,
            section="worklist",
            fields=fields,
            fault=fault,
        )


def _order(fields: Mapping[str, str]) -> Mapping[str, str]:
    """What the form says, as the order of a program; its step gets an ID."""
    order = {name: fields[name] for name in _FIELDS if fields.get(name)}
    order["step_id"] = f"SPS{secrets.token_hex(_ID_BYTES).upper()}"
    order["modality"] = order["modality"].upper()
    order["patient_name"] = f"{fields['family']}^{fields.get('given', '')}".rstrip("^")
    if fields.get("birth_date"):
        order["birth_date"] = fields["birth_date"].replace("-", "")
    order[DATE_TIME] = f"{fields['day']} {fields.get('time', '')}".strip()
    return order
