"""Trash in the API: what was deleted, and put back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.archive.deletion.ports import DeletionSummary, TrashChoice
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Route
from isocenter.services.web.cursors import Key
from isocenter.services.web.principal import caller_name, caller_of
from isocenter.services.web.rest.bodies import Body, answer
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.paging import (
    PAGE_PARAMETERS,
    Page,
    link_headers,
    page_of,
    page_request,
)
from isocenter.services.web.rest.policy_answers import moment, not_found

_SERVICE: Final = "Trash"


class Deleted(Body):
    """A deletion, and what of it is in the trash now; `bytes` of their files."""

    id: str
    cause: str
    deleted_at: str | None
    removed_for_good_at: str | None
    by: str
    reason: str
    studies: int
    series: int
    instances: int
    bytes: int


class Restored(Body):
    """How many instances are back."""

    instances: int


class TrashApi:
    """Answers with deletions, and puts them back."""

    def __init__(self, trash: Trash) -> None:
        self._trash = trash

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is."""
        yield endpoint(
            "GET", "/trash", self.list, "Deletions, the latest first.", name="ListTrash",
            service=_SERVICE, needs="delete", gives=Page[Deleted], parameters=PAGE_PARAMETERS,
        )  # fmt: skip
        yield endpoint(
            "POST", "/trash/{deletion}/restore", self.restore, "Put a deletion back.",
            name="RestoreDeletion", service=_SERVICE, needs="delete", gives=Restored,
            answers=(Answer(409, "Some of it stays: the archive has it again, or it is damaged."),),
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        made = page_of(await self._trash.book.rows(), page_request(request), _latest_first)
        page = Page(data=[_deleted(one) for one in made.data], pagination=made.pagination)
        return answer(page, headers=link_headers(request, page))

    async def restore(self, request: Request) -> Response:
        """The handler."""
        choice = TrashChoice(deletion_ids=(request.arguments["deletion"],))
        done = await self._trash.restore(choice, Requester(name=caller_name(caller_of(request))))
        left = done.there.count + done.damaged.count
        if not (done.instances or left):
            raise not_found("deletion in the trash")
        if left:
            raise HttpError(
                409,
                "NOT_RESTORED",
                f"{done.instances} instances are back; {done.there.count} stay in the trash, as "
                f"the archive has them again, and {done.damaged.count}, as they are damaged",
            )
        return answer(Restored(instances=done.instances))


def _latest_first(one: DeletionSummary) -> Key:
    return (-one.deletion.at, one.deletion.deletion_id)


def _deleted(one: DeletionSummary) -> Deleted:
    deletion = one.deletion
    return Deleted(
        id=deletion.deletion_id,
        cause=deletion.cause.value,
        deleted_at=moment(deletion.at),
        removed_for_good_at=moment(deletion.purge_at),
        by=deletion.actor,
        reason=deletion.reason,
        studies=one.studies,
        series=one.series,
        instances=one.instances,
        bytes=one.size,
    )
