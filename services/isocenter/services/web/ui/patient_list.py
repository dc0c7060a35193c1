"""The list of patients, as a page and as comma-separated values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Final

from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Page
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.ui.catalogue import Catalogue, Listed
from isocenter.services.web.ui.csv_tables import csv_response
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.list_pages import ShownPage, shown_page
from isocenter.services.web.ui.page_routes import page
from isocenter.services.web.ui.study_filter import address_query, anywhere
from isocenter.services.web.ui.texts import date_of_form

_FIELDS: Final = ("name", "patient", "born")
_COLUMNS: Final = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
    "NumberOfPatientRelatedStudies",
)  # fmt: skip


class PatientList:
    """Answers with patients, in the order of their IDs.

    Args:
        can_correct: there is a page that merges two of them.
    """

    def __init__(self, catalogue: Catalogue, layout: Layout, *, can_correct: bool = False) -> None:
        self._catalogue = catalogue
        self._layout = layout
        self._can_correct = can_correct

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is."""
        yield page("/patients", "search", self.show, "The list of patients.")
        yield Route(
            method="GET",
            path="/patients.csv",
            handler=self.table,
            text="The list of patients as comma-separated values.",
            needs="search",
            produces=("text/csv",),
        )

    async def show(self, request: Request) -> Response:
        """The handler of the page."""
        fields = {name: (request.parameter(name) or "").strip() for name in _FIELDS}
        fault, shown = "", ShownPage()
        try:
            shown = await shown_page(self._find(fields), Level.PATIENT, request)
        except HttpError as error:
            if error.status != 400:
                raise
            fault = error.message
        return self._layout.page(
            request,
            "patients.html",
            status=400 if fault else 200,
            section="patients",
            fields=fields,
            fault=fault,
            can_correct=self._can_correct,
            page=shown,
            query=lambda address: address_query(fields | address),
        )

    async def table(self, request: Request) -> Response:
        """The handler of the same as comma-separated values."""
        fields = {name: (request.parameter(name) or "").strip() for name in _FIELDS}
        return await csv_response("patients.csv", _COLUMNS, self._find(fields))

    def _find(self, fields: Mapping[str, str]) -> Callable[[Page], Awaitable[Listed]]:
        try:
            born = date_of_form(fields["born"])
        except ValueError:
            raise HttpError(400, "BAD_QUERY", "write a day as 2026-11-29") from None
        asked = [
            ("PatientName", anywhere(fields["name"])),
            ("PatientID", fields["patient"]),
            ("PatientBirthDate", born),
        ]
        wanted = [(name, value) for name, value in asked if value]
        return partial(self._catalogue.patients, wanted)
