"""Key images in the API: those that matter of a study, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import orjson

from isocenter.services.archive.archive import Archive
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Route, ok
from isocenter.services.notices import Notices
from isocenter.services.viewing.annotations import AnnotationError, check_text
from isocenter.services.viewing.key_object_documents import TITLES, title_for
from isocenter.services.viewing.ports import Mark, MarkKind, Marks
from isocenter.services.web.rest.bodies import Body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.marks import (
    BROKEN,
    FILTERS,
    MADE,
    NOT_THERE,
    NOT_YOURS,
    SERVICE,
    MarkDesk,
    read_mark,
    where_of,
)
from isocenter.services.web.rest.paging import PAGE_PARAMETERS, Page

_PATH: Final = "/studies/{study}/key-images"
_CONFLICT: Final = Answer(409, "It was removed just now.")


class NewKeyImage(Body):
    """An image that matters; `document_title` is a title of key object selections (CID 7010), by
    its meaning or its code."""

    sop_instance_uid: str
    study_uid: str | None = None
    series_uid: str | None = None
    frame_number: int = 1
    user_id: str | None = None
    reason: str = ""
    document_title: str = "Of Interest"


class KeyImage(Body):
    """An image that matters."""

    id: str
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    frame_number: int
    user_id: str
    reason: str
    document_title: str
    title_code: str
    created_at: str


class KeyImageApi:
    """Takes and shows key images."""

    def __init__(self, archive: Archive, marks: Marks, notices: Notices) -> None:
        self._desk = MarkDesk(
            archive, marks, notices, kind=MarkKind.KEY_IMAGE, noun="key image", shown=_shown
        )

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "POST", _PATH, self.add, "Mark an image as a key image.", name="AddKeyImage",
            service=SERVICE, needs="write", takes=NewKeyImage, gives=KeyImage,
            answers=(ok("It is kept.", status=201), *MADE),
        )  # fmt: skip
        yield endpoint(
            "GET", _PATH, self.list, "The key images of a study, the oldest first.",
            name="ListKeyImages", service=SERVICE, needs="search", gives=Page[KeyImage],
            parameters=(*FILTERS[1:], *PAGE_PARAMETERS), answers=(BROKEN,),
        )  # fmt: skip
        yield endpoint(
            "DELETE", "/key-images/{mark}", self._desk.remove, "Mark it no more.",
            name="RemoveKeyImage", service=SERVICE, needs="write",
            answers=(NOT_YOURS, NOT_THERE, _CONFLICT), has_tag=True,
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        return await self._desk.listed(request, study_instance_uid=request.arguments["study"])

    async def add(self, request: Request) -> Response:
        """The handler."""
        said = await read_mark(request, NewKeyImage)
        try:
            title = title_for(said.document_title)
            check_text(said.reason, "reason")
        except (ValueError, AnnotationError) as error:
            raise HttpError(400, "INVALID_REQUEST", str(error)) from error
        image = await self._desk.image(said, request, request.arguments["study"])
        content = orjson.dumps({"reason": said.reason}).decode()
        return await self._desk.add(request, image, title.value, said.frame_number, content)


def _shown(mark: Mark) -> KeyImage:
    return KeyImage(
        **where_of(mark),
        reason=orjson.loads(mark.content)["reason"],
        document_title=TITLES[mark.form].meaning,
        title_code=mark.form,
    )
