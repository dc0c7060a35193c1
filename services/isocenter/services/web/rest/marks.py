"""Marks in the API: what annotations, measurements and key images have in common."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from time import time
from typing import Any, Final, Protocol, TypeVar

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Parameter
from isocenter.services.notices import InstancesMarked, Notices
from isocenter.services.viewing.document_parts import MarkedImage
from isocenter.services.viewing.ports import Mark, MarkChoice, MarkKind, Marks
from isocenter.services.web.cursors import Key, of_another_list
from isocenter.services.web.principal import caller_name, caller_of, what_may
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.entity_tags import check_unchanged, tagged
from isocenter.services.web.rest.paging import Page, link_headers, page_of_some, page_request
from isocenter.services.web.rest.stored_instances import attributes_of

Kind = TypeVar("Kind", bound=Body)
#: A mark as the answer.
Shown = Callable[[Mark], Body]

SERVICE: Final = "Annotations, measurements and key images"
#: On one image, of one kind: nobody could look at more.
MOST_PER_IMAGE: Final = 2_000
_ID_BYTES: Final = 12
NOT_THERE: Final = Answer(404, "There is no such mark, or the archive does not have its image.")
NOT_YOURS: Final = Answer(403, "The caller may not do that, or it is somebody else's.")
BROKEN: Final = Answer(400, "It makes no sense, or not on this image.")
MADE: Final = (
    BROKEN,
    Answer(404, "The archive does not have the image, or not in that study and series."),
    Answer(406, "The object cannot be read."),
    Answer(409, "There are too many on this image, or its value contradicts the image."),
    Answer(410, "The image is not there any more."),
)
FILTERS: Final = (
    Parameter(name="study_uid", text="On images of this study."),
    Parameter(name="series_uid", text="On images of this series."),
    Parameter(name="sop_instance_uid", text="On this image."),
    Parameter(name="user_id", text="Of this person."),
)


class MarkedOn(Protocol):
    """What bodies say of the image that something is to be noted on; study and series are looked
    at where they are said, and whose it is follows from who asks."""

    @property
    def sop_instance_uid(self) -> str: ...

    @property
    def study_uid(self) -> str | None: ...

    @property
    def series_uid(self) -> str | None: ...

    @property
    def frame_number(self) -> int: ...

    @property
    def user_id(self) -> str | None: ...


class MarkDesk:
    """Takes, shows, changes and removes marks of one kind.

    Args:
        shown: a mark as the answer.
        noun: what it is, for people: ``annotation``.
    """

    def __init__(
        self,
        archive: Archive,
        marks: Marks,
        notices: Notices,
        *,
        kind: MarkKind,
        noun: str,
        shown: Shown,
    ) -> None:
        self._archive = archive
        self._marks = marks
        self._notices = notices
        self._kind = kind
        self._noun = noun
        self._shown = shown

    # -- In -----------------------------------------------------------------------------

    async def image(self, said: MarkedOn, request: Request, study: str = "") -> MarkedImage:
        """The image that something is to be noted on.

        Args:
            study: in which it has to be; empty: in any.

        Raises:
            HttpError: it is not there, or not as it is said; whoever asks is somebody else than is
                said.
        """
        author = author_of(request)
        if said.user_id not in (None, "", author):
            raise HttpError(
                400, "INVALID_REQUEST", f"user_id: you are {author}; leave it out, or say that"
            )
        uid = said.sop_instance_uid
        stored = (await self._archive.index.get([uid])).get(uid)
        if stored is None:
            raise HttpError(404, "NOT_FOUND", "the archive has no such instance")
        for wanted, found in (
            (study or said.study_uid, stored.study_instance_uid),
            (said.series_uid, stored.series_instance_uid),
        ):
            if wanted and wanted != found:
                raise HttpError(404, "NOT_FOUND", "the instance is not in that study and series")
        view = await attributes_of(self._archive, stored)
        if not 1 <= said.frame_number <= view.frames:
            raise HttpError(400, "NO_FRAME", f"the image has {view.frames} frames")
        if not (view.count("Rows") and view.count("Columns")):
            raise HttpError(400, "NOT_IMAGE", "the object has no pixels to note something on")
        return MarkedImage(stored=stored, view=view)

    async def add(
        self, request: Request, image: MarkedImage, form: str, frame: int, content: str
    ) -> Response:
        """Keep one more: 201, and where it is."""
        uid = image.stored.sop_instance_uid
        _, count = await self._marks.chosen(
            MarkChoice(kind=self._kind, sop_instance_uid=uid), limit=1
        )
        if count >= MOST_PER_IMAGE:
            raise HttpError(
                409, "TOO_MANY", f"an image has at most {MOST_PER_IMAGE:,} {self._noun}s"
            )
        kept = await self._marks.add(
            Mark(
                mark_id=secrets.token_hex(_ID_BYTES),
                kind=self._kind,
                form=form,
                sop_instance_uid=uid,
                frame_number=frame,
                author=author_of(request),
                content=content,
                created_at=time(),
            )
        )
        if kept is None:
            raise HttpError(404, "NOT_FOUND", "the archive has the instance no more")
        self._tell(request, kept, "C", "made")
        return tagged(request, self._shown(kept), 201)

    # -- Out ----------------------------------------------------------------------------

    async def mark(self, request: Request) -> Mark:
        """The mark in the path of a request.

        Raises:
            HttpError: there is none (404).
        """
        found = await self._marks.find(self._kind, request.arguments["mark"])
        if found is None:
            raise HttpError(404, "NOT_FOUND", f"there is no such {self._noun}")
        request.told["matches"] = 1
        return found

    async def one(self, request: Request) -> Response:
        """The handler of one."""
        return tagged(request, self._shown(await self.mark(request)))

    async def listed(self, request: Request, **more: str) -> Response:
        """Those that the filters of a request leave, the oldest first.

        Args:
            more: fields of `MarkChoice` that follow from the path.
        """
        wanted = page_request(request)
        fields: dict[str, Any] = {
            "study_instance_uid": request.parameter("study_uid") or "",
            "series_instance_uid": request.parameter("series_uid") or "",
            "sop_instance_uid": request.parameter("sop_instance_uid") or "",
            "author": request.parameter("user_id") or "",
        }
        choice = MarkChoice(kind=self._kind, **{**fields, **more})
        found, total = await self._marks.chosen(
            choice, limit=wanted.limit + 1, offset=wanted.offset, after=_place(wanted.after)
        )
        made = page_of_some(found, wanted, lambda mark: (mark.created_at, mark.mark_id), total)
        request.told["matches"] = len(made.data)
        page: Page[Any] = Page(
            data=[self._shown(mark) for mark in made.data], pagination=made.pagination
        )
        return answer(page, headers=link_headers(request, page))

    async def on_instance(self, request: Request) -> Response:
        """The handler of those on one instance."""
        uid = request.arguments["instance"]
        if uid not in await self._archive.index.get([uid]):
            raise HttpError(404, "NOT_FOUND", "the archive has no such instance")
        return await self.listed(request, sop_instance_uid=uid)

    # -- Changes ------------------------------------------------------------------------

    async def stored(self, mark: Mark) -> StoredInstance:
        """The image of a mark.

        Raises:
            HttpError: it is not there any more (410).
        """
        known = await self._archive.index.get([mark.sop_instance_uid])
        if mark.sop_instance_uid not in known:
            raise HttpError(410, "GONE", "the archive has its image no more")
        return known[mark.sop_instance_uid]

    async def change(
        self, request: Request, mark: Mark, form: str, frame: int, content: str
    ) -> Response:
        """Give a mark that was read another content, if it is whose and what it was."""
        if mark.author != author_of(request):
            raise HttpError(
                403, "NOT_YOURS", f"this {self._noun} is of {mark.author}; make one of your own"
            )
        check_unchanged(request, self._shown(mark))
        changed = await self._marks.change(
            replace(mark, form=form, frame_number=frame, content=content, changed_at=time())
        )
        if changed is None:
            raise _changed()
        self._tell(request, changed, "U", "changed")
        return tagged(request, self._shown(changed))

    async def remove(self, request: Request) -> Response:
        """The handler: whose it is removes it, and whoever may delete studies."""
        mark = await self.mark(request)
        if mark.author != author_of(request) and "delete" not in what_may(request.caller):
            raise HttpError(
                403, "NOT_YOURS", f"this {self._noun} is of {mark.author}; who may delete studies "
                "may remove it, too",
            )  # fmt: skip
        check_unchanged(request, self._shown(mark))
        if not await self._marks.remove(mark.mark_id, mark.version):
            raise _changed()
        self._tell(request, mark, "D", "removed")
        return Response(status=204)

    def _tell(self, request: Request, mark: Mark, action: str, what: str) -> None:
        self._notices.publish(
            InstancesMarked(
                caller=caller_of(request),
                study_instance_uid=mark.study_instance_uid,
                sop_classes={mark.sop_class_uid: 1},
                action=action,
                what=f"{self._noun} {mark.mark_id} {what}",
            )
        )


async def read_mark(request: Request, kind: type[Kind]) -> Kind:
    """What the body of a request says of a mark.

    Raises:
        HttpError: as `read_body`; a field is missing (MISSING_FIELD), or its type is none
            (INVALID_TYPE).
    """
    try:
        return await read_body(request, kind)
    except HttpError as error:
        code = error.code
        if code == "INVALID_REQUEST" and "missing required field" in error.message:
            code = "MISSING_FIELD"
        elif code == "INVALID_REQUEST" and "Invalid enum value" in error.message:
            code = "INVALID_TYPE"
        raise HttpError(error.status, code, error.message, error.headers) from error


def author_of(request: Request) -> str:
    """Who asks, as the author of what it notes."""
    return caller_name(caller_of(request))


def moment_text(seconds: float) -> str:
    """A time as ISO 8601 has it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def where_of(mark: Mark) -> Mapping[str, Any]:
    """What all marks say in answers."""
    return {
        "id": mark.mark_id,
        "study_uid": mark.study_instance_uid,
        "series_uid": mark.series_instance_uid,
        "sop_instance_uid": mark.sop_instance_uid,
        "frame_number": mark.frame_number,
        "user_id": mark.author,
        "created_at": moment_text(mark.created_at),
    }


def _place(key: Key | None) -> tuple[float, str] | None:
    """Behind which mark a page begins: when it was made, and its ID."""
    match key:
        case None:
            return None
        case (int() | float() as made_at, str() as mark_id):
            return float(made_at), mark_id
        case _:
            raise of_another_list()


def _changed() -> HttpError:
    return HttpError(409, "CONFLICT", "it was changed or removed just now; read it again")
