"""The list of studies, as a page and as comma-separated values."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.viewing.ports import RecentStudies
from isocenter.services.web.parts import Receiver
from isocenter.services.web.principal import caller_of
from isocenter.services.web.ui.catalogue import Catalogue, Row
from isocenter.services.web.ui.csv_tables import MOST_CSV_ROWS, csv_response
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.study_filter import StudyFilter

_ROWS: Final = 50
#: Studies of whoever asks that are offered again.
_MOST_SEEN: Final = 5
_COLUMNS: Final = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "ModalitiesInStudy", "StudyDescription", "AccessionNumber", "ReferringPhysicianName",
    "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances", "StudyInstanceUID",
)  # fmt: skip


class StudyList:
    """Answers with studies, the newest first.

    Args:
        receiver: None: no port takes DICOM in the clear.
        recent: what people looked at last; None: nobody knows.
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
        recent: RecentStudies | None = None,
    ) -> None:
        self._recent = recent
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
            recent=await self._seen(request) if asked.is_empty and asked.page == 1 else (),
        )

    async def _seen(self, request: Request) -> list[Row]:
        """The studies that whoever asks has looked at last."""
        user = caller_of(request).user
        if self._recent is None or not user:
            return []
        uids = [one.study_instance_uid for one in await self._recent.of(user, limit=_MOST_SEEN)]
        if not uids:
            return []
        asked = [("StudyInstanceUID", ",".join(uids))]
        found = await self._catalogue.studies(asked, limit=_MOST_SEEN)
        return sorted(found, key=lambda row: uids.index(row["StudyInstanceUID"]))

    async def table(self, request: Request) -> Response:
        """The handler of the same as comma-separated values (RFC 4180)."""
        try:
            parameters = StudyFilter.of(request).parameters()
        except ValueError as error:
            raise HttpError(400, "BAD_QUERY", str(error)) from None
        found = await self._catalogue.studies(parameters, limit=MOST_CSV_ROWS)
        return csv_response("studies.csv", _COLUMNS, found)
