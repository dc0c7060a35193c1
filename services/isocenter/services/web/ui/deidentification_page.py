"""Page of an object before and after de-identification."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.deidentification.service import (
    NotDeidentifiedError,
    UnknownProjectError,
)
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.dicom.uid_registry import name_of
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.dicomweb.urls import ROOT, instance_url
from isocenter.services.web.rest.endpoints import ROOT as API
from isocenter.services.web.ui.attribute_rows import attribute_rows
from isocenter.services.web.ui.compare_page import compared
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import page


class DeidentificationPage:
    """Answers with what becomes of an object under a project."""

    def __init__(self, archive: Archive, layout: Layout) -> None:
        self._archive = archive
        self._layout = layout

    def routes(self, instance: str) -> Iterator[Route[Handler]]:
        """Where it is, below the path of an instance."""
        yield page(
            f"{instance}/deidentified", "read", self.show,
            "An instance before and after de-identification.",
        )  # fmt: skip

    async def show(self, request: Request) -> Response:
        """The handler."""
        service = self._archive.deidentification
        uid = request.arguments["instance"]
        stored = (await self._archive.index.get([uid])).get(uid)
        place = request.arguments["study"], request.arguments["series"]
        if (
            service is None
            or stored is None
            or (stored.study_instance_uid, stored.series_instance_uid) != place
        ):
            raise HttpError(404, "NOT_FOUND", "the archive has no such instance")
        try:
            project = service.project(
                request.parameter("project") or next(iter(service.projects), "")
            )
        except UnknownProjectError as error:
            raise HttpError(404, "NOT_FOUND", str(error)) from error
        item = stored_object(stored, self._archive.open)
        fault, warnings, rows = "", list[str](), []
        try:
            made, report = await service.report_of(item, project)
        except KeyError:
            raise HttpError(410, "GONE", "the object is not there any more") from None
        except NotDeidentifiedError as error:
            fault = str(error)
        else:
            warnings = report.warnings
            after = replace(
                stored,
                sop_instance_uid=made.sop_instance_uid,
                transfer_syntax_uid=made.transfer_syntax_uid,
                data_set_offset=0,
            )
            rows = compared(
                await attribute_rows(partial(self._archive.open, stored), stored),
                await attribute_rows(made.open, after),
            )
        address = instance_url(ROOT, stored.study_instance_uid, stored.series_instance_uid, uid)
        return self._layout.page(
            request,
            "deidentified.html",
            section="studies",
            uid=uid,
            sop_class=name_of(stored.sop_class_uid) or stored.sop_class_uid,
            address=f"/studies/{stored.study_instance_uid}/series/{stored.series_instance_uid}"
            f"/instances/{uid}",
            before=f"{address}/rendered?viewport=512,512",
            after=f"{API}/deidentification/{project.name}/instances/{uid}",
            project=project.name,
            projects=list(service.projects),
            fault=fault,
            warnings=warnings,
            rows=[row for row in rows if row.differs],
        )
