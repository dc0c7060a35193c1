"""Pages to delete a study, and to put back what was deleted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import quote

from isocenter.engine.uid import is_uid
from isocenter.services.archive.deletion.ports import DeletionRefusedError, TrashChoice
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, Query, ValueList
from isocenter.services.errors import StorageError
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.web.forms import read_fields, read_lists
from isocenter.services.web.ui.catalogue import Catalogue
from isocenter.services.web.ui.layout import Layout

_MOST_REASON: Final = 200
#: Studies that are deleted with one reason.
MOST_CHOSEN: Final = 100


class TrashPages:
    """Answers with what is deleted, and deletes and restores.

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

    async def ask(self, request: Request) -> Response:
        """The handler of the page that says what a deletion would take."""
        return await self._ask(request, "", "")

    async def delete(self, request: Request) -> Response:
        """The handler of its form."""
        reason = (await read_fields(request)).get("reason", "").strip()
        fault = _fault_of(reason)
        if fault:
            return await self._ask(request, fault, reason[:_MOST_REASON])
        try:
            plan = await self._trash.plan(_query([request.arguments["study"]]))
            if not plan.instances:
                raise HttpError(404, "NOT_FOUND", "the archive has no such study")
            await self._trash.delete(plan, self._requester(request), reason)
        except DeletionRefusedError as error:
            return await self._ask(request, str(error), reason)
        except StorageError as error:
            raise _unavailable() from error
        return _to("/trash")

    async def ask_chosen(self, request: Request) -> Response:
        """The handler of the page that says what a deletion of several studies would take."""
        chosen = [value for name, value in request.query if name == "study"]
        return await self._ask_chosen(request, chosen, "", "")

    async def delete_chosen(self, request: Request) -> Response:
        """The handler of its form."""
        fields = await read_lists(request)
        chosen = fields.get("study", ())
        reason = fields.get("reason", ("",))[-1].strip()
        fault = _fault_of(reason)
        if fault:
            return await self._ask_chosen(request, chosen, fault, reason[:_MOST_REASON])
        try:
            plan = await self._trash.plan(_query(_checked(chosen)))
            if not plan.instances:
                raise HttpError(404, "NOT_FOUND", "the archive has none of these studies")
            await self._trash.delete(plan, self._requester(request), reason)
        except DeletionRefusedError as error:
            return await self._ask_chosen(request, chosen, str(error), reason)
        except StorageError as error:
            raise _unavailable() from error
        return _to("/trash")

    async def list(self, request: Request) -> Response:
        """The handler of the trash."""
        try:
            deletions = await self._trash.book.rows()
        except StorageError as error:
            raise _unavailable() from error
        return self._layout.page(request, "trash.html", section="trash", deletions=deletions)

    async def restore(self, request: Request) -> Response:
        """The handler of the button that puts a deletion back."""
        choice = TrashChoice(deletion_ids=(request.arguments["deletion"],))
        try:
            done = await self._trash.restore(choice, self._requester(request))
        except StorageError as error:
            raise _unavailable() from error
        left = done.there.count + done.damaged.count
        if not (done.instances or left):
            raise HttpError(404, "NOT_FOUND", "the trash has no such deletion")
        if left:
            raise HttpError(
                409,
                "NOT_RESTORED",
                f"{done.instances} instances are back; {done.there.count} stay in the trash, as "
                f"the archive has them again, and {done.damaged.count}, as they are damaged",
            )
        return _to("/trash")

    async def _ask(self, request: Request, fault: str, reason: str) -> Response:
        study = await self._catalogue.study(request.arguments["study"])
        try:
            plan = await self._trash.plan(_query([request.arguments["study"]]))
        except StorageError as error:
            raise _unavailable() from error
        return self._layout.page(
            request,
            "delete.html",
            status=400 if fault else 200,
            section="studies",
            study=study,
            plan=plan,
            obstacles=plan.obstacles.texts(),
            fault=fault,
            reason=reason,
            address=f"/studies/{quote(request.arguments['study'], safe='')}/delete",
        )

    async def _ask_chosen(
        self, request: Request, chosen: Sequence[str], fault: str, reason: str
    ) -> Response:
        uids = _checked(chosen)
        studies = await self._catalogue.studies_named(uids)
        try:
            plan = await self._trash.plan(_query(uids))
        except StorageError as error:
            raise _unavailable() from error
        return self._layout.page(
            request,
            "delete_chosen.html",
            status=400 if fault else 200,
            section="studies",
            studies=list(studies.values()),
            plan=plan,
            obstacles=plan.obstacles.texts(),
            fault=fault,
            reason=reason,
        )

    def _requester(self, request: Request) -> Requester:
        return Requester(name=self._name_of(request))


def _query(uids: Sequence[str]) -> Query:
    criterion = Criterion(UNIQUE_KEY[Level.STUDY], ValueList(tuple(uids)))
    return Query(level=Level.STUDY, criteria=(criterion,))


def _checked(uids: Sequence[str]) -> Sequence[str]:
    """Raises:
    HttpError: they are none, or too many (400).
    """
    if not 0 < len(uids) <= MOST_CHOSEN or not all(map(is_uid, uids)):
        raise HttpError(400, "BAD_CHOICE", f"choose studies, {MOST_CHOSEN} at most")
    return tuple(dict.fromkeys(uids))


def _fault_of(reason: str) -> str:
    """Why a reason is none; empty: it is one."""
    if reason and reason.isprintable() and len(reason) <= _MOST_REASON:
        return ""
    return f"say why, in at most {_MOST_REASON} characters: it stands in the audit trail"


def _to(path: str) -> Response:
    return Response(status=303, headers=[("location", path)])


def _unavailable() -> HttpError:
    return HttpError(503, "UNAVAILABLE", "the archive cannot do that now", [("retry-after", "60")])
