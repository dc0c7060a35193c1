"""Deletion over the web, and what is told of it afterwards.

No part of PS3.18: a server may offer it.  What is deleted goes into the trash, as by any other way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from isocenter.services.archive.deletion.ports import DeletionRefusedError, TrashBook, TrashChoice
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.archive.index.attributes import Level
from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.web.dicomweb.resources import parents_of, query_of

#: Deleted objects that are looked at in one go.
_AT_ONCE: Final = 1_000
_MOST_REASON: Final = 200
_REASON: Final = "DELETE over DICOMweb"


class Deletion:
    """Deletes what the path of a request names.

    Args:
        name_of: the caller, for the audit trail.
    """

    def __init__(self, trash: Trash, *, name_of: Callable[[Request], str]) -> None:
        self._trash = trash
        self._name_of = name_of

    async def __call__(self, request: Request) -> Response:
        """The handler of a study, a series and an instance."""
        reason = (request.parameter("reason") or _REASON).strip()
        if not (reason.isprintable() and 0 < len(reason) <= _MOST_REASON):
            raise HttpError(
                400, "BAD_PARAMETER", f"reason: it is text of at most {_MOST_REASON} characters"
            )
        try:
            plan = await self._trash.plan(query_of(request))
            if not plan.instances:
                raise HttpError(404, "NOT_FOUND", "the archive has it not")
            deleted = await self._trash.delete(plan, Requester(name=self._name_of(request)), reason)
        except DeletionRefusedError as error:
            raise HttpError(409, "NOT_DELETED", str(error)) from error
        except StorageError as error:
            raise HttpError(
                503, "UNAVAILABLE", "nothing can be deleted now", [("retry-after", "60")]
            ) from error
        if not deleted.instances:
            raise HttpError(
                409, "CHANGED", "it was changed while it was to be deleted; look at it again"
            )
        return Response(status=204)


class Trashed:
    """Tells 410 from 404: what is in the trash was here, and what was purged nobody knows of."""

    def __init__(self, book: TrashBook) -> None:
        self._book = book

    def telling(self, handler: Handler) -> Handler:
        """*handler*, whose "not found" becomes "gone" where that is so."""

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except HttpError as error:
                if error.code == "NOT_FOUND" and await self.has(parents_of(request)):
                    raise gone() from error
                raise

        return answer

    async def has(self, parents: dict[Level, str]) -> bool:
        """Whether the trash has an instance below all of these."""
        study, series, instance = (
            parents.get(level, "") for level in (Level.STUDY, Level.SERIES, Level.IMAGE)
        )
        choice = TrashChoice(
            study_instance_uids=(study,) if study else (),
            sop_instance_uids=(instance,) if instance else (),
        )
        after = 0
        while found := await self._book.chosen(choice, after=after, limit=_AT_ONCE):
            for one in found:
                if series in ("", one.stored.series_instance_uid):
                    return True
            after = found[-1].number
        return False


def gone() -> HttpError:
    """410."""
    return HttpError(410, "GONE", "it was deleted, and is still in the trash")
