"""The list of studies, as a page and as comma-separated values."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.web.parts import Receiver
from isocenter.services.web.ui.catalogue import Catalogue, Row
from isocenter.services.web.ui.csv_tables import MOST_CSV_ROWS, csv_response
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.study_filter import StudyFilter

_ROWS: Final = 50
_COLUMNS: Final = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "ModalitiesInStudy", "StudyDescription", "AccessionNumber", "ReferringPhysicianName",
    "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances", "StudyInstanceUID",
)  # fmt: skip


class StudyList:
    """Answers with studies, the newest first.

    Args:
        receiver: None: no port takes DICOM in the clear.
        can_download: studies can be chosen for a ZIP file.
        tells_arrivals: there are streams of events, of which the page hears.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        layout: Layout,
        receiver: Receiver | None,
        *,
        can_download: bool = False,
        tells_arrivals: bool = False,
    ) -> None:
        self._tells_arrivals = tells_arrivals
        self._can_download = can_download
        self._catalogue = catalogue
        self._layout = layout
        self._receiver = receiver

    async def page(self, request: Request) -> Response:
        """The handler of the page."""
        asked = StudyFilter.of(request)
        fault = ""
        found: list[Row] = []
        try:
            parameters = asked.parameters()
            offset = (asked.page - 1) * _ROWS
            found = await self._catalogue.studies(parameters, limit=_ROWS + 1, offset=offset)
        except ValueError as error:
            fault = str(error)
        except HttpError as error:
            if error.status != 400:
                raise
            fault = error.message
        return self._layout.page(
            request,
            "studies.html",
            status=400 if fault else 200,
            section="studies",
            filter=asked,
            fault=fault,
            studies=found[:_ROWS],
            has_more=len(found) > _ROWS,
            first_row=(asked.page - 1) * _ROWS + 1,
            presets=asked.presets(datetime.now().astimezone().date()),
            receiver=self._receiver,
            can_download=self._can_download,
            tells_arrivals=self._tells_arrivals and asked.page == 1,
        )

    async def table(self, request: Request) -> Response:
        """The handler of the same as comma-separated values (RFC 4180)."""
        try:
            parameters = StudyFilter.of(request).parameters()
        except ValueError as error:
            raise HttpError(400, "BAD_QUERY", str(error)) from None
        found = await self._catalogue.studies(parameters, limit=MOST_CSV_ROWS)
        return csv_response("studies.csv", _COLUMNS, found)
