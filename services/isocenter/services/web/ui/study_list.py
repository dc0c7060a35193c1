"""The list of studies, as a page and as comma-separated values."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Final

from isocenter.services.archive.index.attributes import Level
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.viewing.ports import RecentStudies
from isocenter.services.web.parts import Receiver
from isocenter.services.web.principal import caller_of
from isocenter.services.web.ui.catalogue import Catalogue, Row
from isocenter.services.web.ui.csv_tables import csv_response
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.list_pages import ShownPage, shown_page
from isocenter.services.web.ui.study_filter import StudyFilter

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
        fault, shown = "", ShownPage()
        try:
            find = partial(self._catalogue.studies, asked.parameters())
            shown = await shown_page(find, Level.STUDY, request)
        except ValueError as error:
            fault = str(error)
        except HttpError as error:
            if error.status != 400:
                raise
            fault = error.message
        is_first = shown.number == 1
        return self._layout.page(
            request,
            "studies.html",
            status=400 if fault else 200,
            section="studies",
            filter=asked,
            fault=fault,
            page=shown,
            presets=asked.presets(datetime.now().astimezone().date()),
            receiver=self._receiver,
            can_download=self._can_download,
            tells_arrivals=self._tells_arrivals and is_first,
            recent=await self._seen(request) if asked.is_empty and is_first else (),
        )

    async def _seen(self, request: Request) -> list[Row]:
        """The studies that whoever asks has looked at last."""
        user = caller_of(request).user
        if self._recent is None or not user:
            return []
        uids = [one.study_instance_uid for one in await self._recent.of(user, limit=_MOST_SEEN)]
        found = await self._catalogue.studies_named(uids)
        return [found[uid] for uid in uids if uid in found]

    async def table(self, request: Request) -> Response:
        """The handler of the same as comma-separated values (RFC 4180)."""
        try:
            parameters = StudyFilter.of(request).parameters()
        except ValueError as error:
            raise HttpError(400, "BAD_QUERY", str(error)) from None
        return await csv_response(
            "studies.csv", _COLUMNS, partial(self._catalogue.studies, parameters)
        )
