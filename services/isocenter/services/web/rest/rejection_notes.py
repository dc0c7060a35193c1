"""Rejection notes in the API: made, listed, taken back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from isocenter.services.archive.deletion.ports import DeletionRefusedError
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.rejection.ports import NoteRow
from isocenter.services.archive.rejection.reasons import RejectionReason
from isocenter.services.archive.rejection.service import NoSuchNoteError, Rejections
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Route, ok
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.policy_answers import changing, moment, not_found
from isocenter.services.web.rest.quarantine import Released
from isocenter.services.web.rest.reasoned_changes import (
    Reason,
    checked_reason,
    plan_of_study,
    requester_of,
)

_SERVICE: Final = "Rejection notes"
_MOST_ROWS: Final = 1_000


class NewRejection(Body):
    """A study that nobody is to use, why in a word (a title of PS3.16 CID 7010), and in words."""

    study_instance_uid: str
    cause: Literal["quality", "patient-safety", "worklist", "retention"]
    reason: str


class NoteShown(Body):
    """A rejection note; `code` is its title, and `fault` why it is not obeyed."""

    sop_instance_uid: str
    study_instance_uid: str
    at: str | None
    state: str
    code: str
    meaning: str
    by: str
    text: str
    instances: int
    fault: str


class NoteList(Body):
    """Rejection notes, the latest first; `is_cut`: there are more."""

    notes: list[NoteShown]
    is_cut: bool


class NewNotes(Body):
    """SOP Instance UIDs of notes that were made."""

    notes: list[str]


class RejectionApi:
    """Answers with notes; makes them, and takes them back."""

    def __init__(self, rejections: Rejections, trash: Trash) -> None:
        self._rejections = rejections
        self._trash = trash

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/rejection-notes", self.list, "Rejection notes, the latest first.",
            name="ListRejectionNotes", service=_SERVICE, needs="delete", gives=NoteList,
        )  # fmt: skip
        yield endpoint(
            "POST", "/rejection-notes", self.add, "Reject a study by a note.",
            name="RejectStudy", service=_SERVICE, needs="delete", takes=NewRejection,
            gives=NewNotes, answers=(ok("It is rejected.", status=201),),
        )  # fmt: skip
        yield endpoint(
            "POST", "/rejection-notes/{note}/revoke", self.revoke,
            "Take a note back: what it alone rejects can be found again.",
            name="RevokeRejectionNote", service=_SERVICE, needs="delete", takes=Reason,
            gives=Released, answers=(Answer(409, "The note cannot be deleted now."),),
        )  # fmt: skip
        yield endpoint(
            "POST", "/rejection-notes/{note}/delete", self.delete,
            "Delete what a note hides, into the trash; the note stays.",
            name="DeleteRejected", service=_SERVICE, needs="delete", takes=Reason,
            answers=(Answer(409, "Something is against it: see its text."),),
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        async with changing():
            rows = await self._rejections.book.rows(limit=_MOST_ROWS)
        shown = [_shown(row) for row in rows]
        return answer(NoteList(notes=shown, is_cut=len(rows) == _MOST_ROWS))

    async def add(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, NewRejection)
        reason = checked_reason(body.reason)
        async with changing():
            plan = await plan_of_study(self._trash, body.study_instance_uid)
            made = await self._rejections.reject(
                plan, RejectionReason(body.cause), requester_of(request), reason
            )
        return answer(NewNotes(notes=made), 201)

    async def revoke(self, request: Request) -> Response:
        """The handler."""
        reason = checked_reason((await read_body(request, Reason)).reason)
        async with changing():
            try:
                done = await self._rejections.revoke(
                    request.arguments["note"], requester_of(request), reason
                )
            except NoSuchNoteError as error:
                raise not_found("rejection note") from error
            except DeletionRefusedError as error:
                raise HttpError(409, "REFUSED", str(error)) from error
        left = done.there.count + done.damaged.count
        return answer(Released(instances=done.instances, left=left))

    async def delete(self, request: Request) -> Response:
        """The handler."""
        reason = checked_reason((await read_body(request, Reason)).reason)
        async with changing():
            try:
                await self._rejections.delete(
                    request.arguments["note"], requester_of(request), reason
                )
            except NoSuchNoteError as error:
                raise not_found("rejection note that hides something") from error
            except DeletionRefusedError as error:
                raise HttpError(409, "REFUSED", str(error)) from error
        return Response(status=204)


def _shown(row: NoteRow) -> NoteShown:
    return NoteShown(
        sop_instance_uid=row.sop_instance_uid,
        study_instance_uid=row.study_instance_uid,
        at=moment(row.at),
        state=row.state.value,
        code="" if row.reason is None else row.reason.code,
        meaning="" if row.reason is None else row.reason.meaning,
        by=row.actor,
        text=row.text,
        instances=row.instances,
        fault=row.fault,
    )
