"""Pages of rejection notes: reject a study, list notes, take one back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import quote

from isocenter.services.archive.deletion.ports import DeletionRefusedError
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.archive.rejection.reasons import RejectionReason
from isocenter.services.archive.rejection.service import NoSuchNoteError, Rejections
from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.ui.catalogue import Catalogue
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import action, page
from isocenter.services.web.ui.reasoned_forms import read_reasoned, study_query, to, unavailable

#: Notes on one page.
_MOST_ROWS: Final = 500


class RejectionPages:
    """Answers with notes; makes them and takes them back.

    Args:
        name_of: the caller, for the audit trail.
    """

    def __init__(
        self,
        rejections: Rejections,
        trash: Trash,
        catalogue: Catalogue,
        layout: Layout,
        *,
        name_of: Callable[[Request], str],
    ) -> None:
        self._rejections = rejections
        self._trash = trash
        self._catalogue = catalogue
        self._layout = layout
        self._name_of = name_of

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        of_study = "/studies/{study}/reject"
        yield page(of_study, "delete", self.ask, "What rejecting a study would take.")
        yield action(of_study, "delete", self.reject, "Reject a study by a note.")
        yield page("/rejections", "delete", self.list, "Rejection notes.")
        yield action("/rejections/{note}/revoke", "delete", self.revoke, "Take a note back.")
        text = "Delete what a note hides, into the trash."
        yield action("/rejections/{note}/delete", "delete", self.delete, text)

    async def ask(self, request: Request) -> Response:
        """The handler of the page that says what would be rejected."""
        return await self._ask(request, "", "", RejectionReason.QUALITY)

    async def reject(self, request: Request) -> Response:
        """The handler of its form."""
        fields, text, fault = await read_reasoned(request)
        try:
            reason = RejectionReason(fields.get("for", ""))
        except ValueError:
            reason, fault = RejectionReason.QUALITY, fault or "say for which reason"
        if fault:
            return await self._ask(request, fault, text, reason)
        try:
            plan = await self._trash.plan(study_query(request))
            if not plan.instances:
                raise HttpError(404, "NOT_FOUND", "the archive has no such study")
            await self._rejections.reject(plan, reason, self._requester(request), text)
        except StorageError as error:
            raise unavailable() from error
        return to("/rejections")

    async def list(self, request: Request) -> Response:
        """The handler of the list of notes."""
        return await self._list(request, "")

    async def revoke(self, request: Request) -> Response:
        """The handler of the form that takes a note back."""
        _, text, fault = await read_reasoned(request)
        if fault:
            return await self._list(request, fault)
        note = request.arguments["note"]
        try:
            done = await self._rejections.revoke(note, self._requester(request), text)
        except NoSuchNoteError as error:
            raise HttpError(404, "NOT_FOUND", str(error)) from error
        except DeletionRefusedError as error:
            return await self._list(request, str(error))
        except StorageError as error:
            raise unavailable() from error
        left = done.there.count + done.damaged.count
        if left:
            raise HttpError(
                409, "NOT_RESTORED", f"{done.instances} instances are back; {left} could not be"
            )
        return to("/rejections")

    async def delete(self, request: Request) -> Response:
        """The handler of the form that deletes what a note hides."""
        _, text, fault = await read_reasoned(request)
        if fault:
            return await self._list(request, fault)
        try:
            note = request.arguments["note"]
            await self._rejections.delete(note, self._requester(request), text)
        except NoSuchNoteError as error:
            raise HttpError(404, "NOT_FOUND", str(error)) from error
        except DeletionRefusedError as error:
            return await self._list(request, str(error))
        except StorageError as error:
            raise unavailable() from error
        return to("/trash")

    async def _list(self, request: Request, fault: str) -> Response:
        try:
            rows = await self._rejections.book.rows(limit=_MOST_ROWS)
        except StorageError as error:
            raise unavailable() from error
        return self._layout.page(
            request,
            "rejections.html",
            status=400 if fault else 200,
            section="rejections",
            rows=rows,
            fault=fault,
            is_cut=len(rows) == _MOST_ROWS,
        )

    async def _ask(
        self, request: Request, fault: str, text: str, reason: RejectionReason
    ) -> Response:
        study = await self._catalogue.study(request.arguments["study"])
        try:
            plan = await self._trash.plan(study_query(request))
        except StorageError as error:
            raise unavailable() from error
        return self._layout.page(
            request,
            "reject_study.html",
            status=400 if fault else 200,
            section="studies",
            study=study,
            plan=plan,
            reasons=list(RejectionReason),
            chosen=reason,
            fault=fault,
            reason=text,
            address=f"/studies/{quote(request.arguments['study'], safe='')}/reject",
        )

    def _requester(self, request: Request) -> Requester:
        return Requester(name=self._name_of(request))
