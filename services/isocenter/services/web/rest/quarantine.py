"""Quarantine in the API: put there, looked at, released, deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.archive.deletion.ports import (
    DeletionRefusedError,
    DeletionSummary,
    TrashChoice,
    TrashedInstance,
)
from isocenter.services.archive.deletion.records import DeletionCause
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Route, ok
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.policy_answers import changing, moment, not_found
from isocenter.services.web.rest.reasoned_changes import (
    Reason,
    checked_reason,
    plan_of_study,
    requester_of,
)

_SERVICE: Final = "Quarantine"
_ONE: Final = "/quarantine/{quarantine}"
_CAUSES: Final = (DeletionCause.QUARANTINED,)
_MOST_OBJECTS: Final = 1_000
_REFUSED: Final = Answer(409, "Something is against it: see its text.")


class NewQuarantine(Body):
    """A study that is to be withheld, and why."""

    study_instance_uid: str
    reason: str


class QuarantineShown(Body):
    """Objects that are withheld together; `by` is empty where a rule did it."""

    id: str
    since: str | None
    by: str
    reason: str
    studies: int
    series: int
    instances: int
    bytes: int


class QuarantineList(Body):
    """What is withheld, the latest first."""

    quarantines: list[QuarantineShown]


class QuarantinedObject(Body):
    """An object that is withheld."""

    sop_instance_uid: str
    sop_class_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    bytes: int


class QuarantinedObjects(Body):
    """Objects that are withheld together; `is_cut`: there are more."""

    objects: list[QuarantinedObject]
    is_cut: bool


class Released(Body):
    """How many instances can be found again; `left` stay as they are."""

    instances: int
    left: int


class QuarantineApi:
    """Answers with what is withheld; withholds, releases and deletes."""

    def __init__(self, trash: Trash) -> None:
        self._trash = trash

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/quarantine", self.list, "What is withheld, the latest first.",
            name="ListQuarantines", service=_SERVICE, needs="delete", gives=QuarantineList,
        )  # fmt: skip
        yield endpoint(
            "POST", "/quarantine", self.add, "Withhold a study until it is released.",
            name="QuarantineStudy", service=_SERVICE, needs="delete", takes=NewQuarantine,
            gives=QuarantineShown, answers=(ok("It is withheld.", status=201), _REFUSED),
        )  # fmt: skip
        yield endpoint(
            "GET", _ONE, self.show, "The objects of one quarantine.",
            name="GetQuarantine", service=_SERVICE, needs="delete", gives=QuarantinedObjects,
        )  # fmt: skip
        yield endpoint(
            "POST", f"{_ONE}/release", self.release, "Let them be found, sent and forwarded.",
            name="ReleaseQuarantine", service=_SERVICE, needs="delete", gives=Released,
        )  # fmt: skip
        yield endpoint(
            "POST", f"{_ONE}/delete", self.delete, "Delete them, into the trash.",
            name="DeleteQuarantine", service=_SERVICE, needs="delete", takes=Reason,
            answers=(_REFUSED,),
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        async with changing():
            await self._trash.finish()
            rows = await self._trash.book.rows(_CAUSES)
        return answer(QuarantineList(quarantines=[_shown(row) for row in rows]))

    async def add(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, NewQuarantine)
        reason = checked_reason(body.reason)
        async with changing():
            plan = await plan_of_study(self._trash, body.study_instance_uid)
            try:
                done = await self._trash.delete(
                    plan, requester_of(request), reason, cause=DeletionCause.QUARANTINED
                )
            except DeletionRefusedError as error:
                raise HttpError(409, "REFUSED", str(error)) from error
            rows = await self._trash.book.rows(_CAUSES)
        for row in rows:
            if row.deletion.deletion_id == done.deletion_id:
                return answer(_shown(row), 201)
        raise not_found("study")  # it has gone since it was looked for

    async def show(self, request: Request) -> Response:
        """The handler."""
        choice = _choice(request)
        async with changing():
            await self._trash.finish()
            rows = await self._trash.book.chosen(choice, limit=_MOST_OBJECTS)
        if not rows:
            raise not_found("quarantine")
        return answer(
            QuarantinedObjects(
                objects=[_object(row) for row in rows], is_cut=len(rows) == _MOST_OBJECTS
            )
        )

    async def release(self, request: Request) -> Response:
        """The handler."""
        async with changing():
            done = await self._trash.restore(_choice(request), requester_of(request))
        left = done.there.count + done.damaged.count
        if not (done.instances or left):
            raise not_found("quarantine")
        return answer(Released(instances=done.instances, left=left))

    async def delete(self, request: Request) -> Response:
        """The handler."""
        reason = checked_reason((await read_body(request, Reason)).reason)
        name = request.arguments["quarantine"]
        async with changing():
            if not await self._trash.book.chosen(_choice(request), limit=1):
                raise not_found("quarantine")
            try:
                await self._trash.discard(name, requester_of(request), reason)
            except DeletionRefusedError as error:
                raise HttpError(409, "REFUSED", str(error)) from error
        return Response(status=204)


def _choice(request: Request) -> TrashChoice:
    return TrashChoice(deletion_ids=(request.arguments["quarantine"],), causes=_CAUSES)


def _shown(row: DeletionSummary) -> QuarantineShown:
    deletion = row.deletion
    return QuarantineShown(
        id=deletion.deletion_id,
        since=moment(deletion.at),
        by=deletion.actor,
        reason=deletion.reason,
        studies=row.studies,
        series=row.series,
        instances=row.instances,
        bytes=row.size,
    )


def _object(row: TrashedInstance) -> QuarantinedObject:
    stored = row.stored
    return QuarantinedObject(
        sop_instance_uid=stored.sop_instance_uid,
        sop_class_uid=stored.sop_class_uid,
        study_instance_uid=stored.study_instance_uid,
        series_instance_uid=stored.series_instance_uid,
        transfer_syntax_uid=stored.transfer_syntax_uid,
        bytes=stored.size,
    )
