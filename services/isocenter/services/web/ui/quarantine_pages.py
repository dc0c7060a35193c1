"""Pages of quarantine: put a study there, look, release, delete."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final
from urllib.parse import quote

from isocenter.services.archive.deletion.ports import (
    DeletionRefusedError,
    TrashChoice,
    TrashedInstance,
)
from isocenter.services.archive.deletion.records import DeletionCause
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.dicom.uid_registry import name_of
from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.ui.attribute_rows import attribute_rows
from isocenter.services.web.ui.catalogue import Catalogue
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import action, page
from isocenter.services.web.ui.reasoned_forms import read_reasoned, study_query, to, unavailable

#: Objects that one page lists.
_MOST_OBJECTS: Final = 500
_CAUSES: Final = (DeletionCause.QUARANTINED,)
_ONE: Final = "/quarantine/{quarantine}"


class QuarantinePages:
    """Answers with what is withheld; withholds, releases and deletes.

    Args:
        name_of: the caller, for the audit trail.
    """

    def __init__(
        self,
        trash: Trash,
        catalogue: Catalogue,
        layout: Layout,
        *,
        name_of: Callable[[Request], str],
    ) -> None:
        self._trash = trash
        self._catalogue = catalogue
        self._layout = layout
        self._name_of = name_of

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        of_study = "/studies/{study}/quarantine"
        yield page(of_study, "delete", self.ask, "What quarantining a study would take.")
        yield action(of_study, "delete", self.quarantine, "Quarantine a study.")
        yield page("/quarantine", "delete", self.list, "What is withheld, and why.")
        yield page(_ONE, "delete", self.show, "The objects of one quarantine.")
        path = f"{_ONE}/objects/{{number}}"
        yield page(path, "delete", self.attributes, "The attributes of an object in quarantine.")
        yield action(f"{_ONE}/release", "delete", self.release, "Release it.")
        yield action(f"{_ONE}/delete", "delete", self.delete, "Delete it, into the trash.")

    async def ask(self, request: Request) -> Response:
        """The handler of the page that says what would be quarantined."""
        return await self._ask(request, "", "")

    async def quarantine(self, request: Request) -> Response:
        """The handler of its form."""
        _, reason, fault = await read_reasoned(request)
        if fault:
            return await self._ask(request, fault, reason)
        try:
            plan = await self._trash.plan(study_query(request))
            if not plan.instances:
                raise HttpError(404, "NOT_FOUND", "the archive has no such study")
            await self._trash.delete(
                plan, self._requester(request), reason, cause=DeletionCause.QUARANTINED
            )
        except DeletionRefusedError as error:
            return await self._ask(request, str(error), reason)
        except StorageError as error:
            raise unavailable() from error
        return to("/quarantine")

    async def list(self, request: Request) -> Response:
        """The handler of the list."""
        try:
            await self._trash.finish()
            rows = await self._trash.book.rows(_CAUSES)
        except StorageError as error:
            raise unavailable() from error
        return self._layout.page(request, "quarantine.html", section="quarantine", rows=rows)

    async def show(self, request: Request) -> Response:
        """The handler of one quarantine."""
        return await self._show(request, "", "")

    async def attributes(self, request: Request) -> Response:
        """The handler of an object's attributes."""
        text = request.arguments["number"]
        number = int(text) if text.isdecimal() and len(text) < 18 else 0
        name = request.arguments["quarantine"]
        choice = TrashChoice(deletion_ids=(name,), causes=_CAUSES)
        try:
            rows = await self._trash.book.chosen(choice, after=number - 1, limit=1)
            if not rows or rows[0].number != number:
                raise _none()
            stored = rows[0].stored
            shown = await attribute_rows(
                lambda: self._trash.files.open(name, stored.object_key), stored
            )
        except StorageError as error:
            raise unavailable() from error
        return self._layout.page(
            request,
            "quarantined_object.html",
            section="quarantine",
            stored=stored,
            sop_class=name_of(stored.sop_class_uid),
            transfer_syntax=name_of(stored.transfer_syntax_uid),
            rows=shown,
            name=name,
            web="",
        )

    async def release(self, request: Request) -> Response:
        """The handler of the button that releases."""
        choice = TrashChoice(deletion_ids=(request.arguments["quarantine"],), causes=_CAUSES)
        try:
            done = await self._trash.restore(choice, self._requester(request))
        except StorageError as error:
            raise unavailable() from error
        left = done.there.count + done.damaged.count
        if not (done.instances or left):
            raise _none()
        if left:
            raise HttpError(
                409,
                "NOT_RELEASED",
                f"{done.instances} instances are released; {done.there.count} stay in quarantine, "
                "as the archive has other objects of their UIDs, and "
                f"{done.damaged.count}, as they are damaged",
            )
        return to("/quarantine")

    async def delete(self, request: Request) -> Response:
        """The handler of the form that deletes."""
        _, reason, fault = await read_reasoned(request)
        if fault:
            return await self._show(request, fault, reason)
        try:
            done = await self._trash.discard(
                request.arguments["quarantine"], self._requester(request), reason
            )
        except DeletionRefusedError as error:
            return await self._show(request, str(error), reason)
        except StorageError as error:
            raise unavailable() from error
        if not done:
            raise _none()
        return to("/trash")

    async def _show(self, request: Request, fault: str, reason: str) -> Response:
        name = request.arguments["quarantine"]
        choice = TrashChoice(deletion_ids=(name,), causes=_CAUSES)
        try:
            await self._trash.finish()
            rows = await self._trash.book.chosen(choice, limit=_MOST_OBJECTS)
            deletions = await self._trash.book.rows(_CAUSES)
        except StorageError as error:
            raise unavailable() from error
        summary = [one for one in deletions if one.deletion.deletion_id == name]
        if not (rows and summary):
            raise _none()
        return self._layout.page(
            request,
            "quarantined.html",
            status=400 if fault else 200,
            section="quarantine",
            summary=summary[0],
            rows=[(row, name_of(row.stored.sop_class_uid)) for row in rows],
            patients=_patients(rows),
            is_cut=len(rows) == _MOST_OBJECTS,
            fault=fault,
            reason=reason,
        )

    async def _ask(self, request: Request, fault: str, reason: str) -> Response:
        study = await self._catalogue.study(request.arguments["study"])
        try:
            plan = await self._trash.plan(study_query(request))
        except StorageError as error:
            raise unavailable() from error
        return self._layout.page(
            request,
            "quarantine_study.html",
            status=400 if fault else 200,
            section="studies",
            study=study,
            plan=plan,
            fault=fault,
            reason=reason,
            address=f"/studies/{quote(request.arguments['study'], safe='')}/quarantine",
        )

    def _requester(self, request: Request) -> Requester:
        return Requester(name=self._name_of(request))


def _patients(rows: Sequence[TrashedInstance]) -> list[tuple[str, str]]:
    """Whose objects they are: ID and name."""
    return sorted({(row.patient_id, row.patient_name) for row in rows})


def _none() -> HttpError:
    return HttpError(404, "NOT_FOUND", "there is no such quarantine")
