"""Links to studies in the API: list, making (shown once), revocation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.archive.index.query import Page as IndexPage
from isocenter.services.archive.ports import Index
from isocenter.services.archive.selection import matches_of
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Route, ok
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.ports import ShareLink
from isocenter.services.web.dicomweb.urls import ROOT, PublicUrls
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.paging import (
    PAGE_PARAMETERS,
    Page,
    link_headers,
    page_of,
    page_request,
)
from isocenter.services.web.rest.policy_answers import moment, not_found
from isocenter.services.web.study_links import StudyLinks

_SERVICE: Final = "Share links"
_PATH: Final = "/share-links"


class Link(Body):
    """What is kept of a link to a study; its secret is not."""

    id: str
    study_instance_uid: str
    label: str
    state: str
    may_download: bool
    has_passcode: bool
    created_at: str | None
    created_by: str
    expires_at: str | None
    opened: int
    last_opened_at: str | None
    revoked_at: str | None


class NewLink(Body):
    """A link to be made: to look at one study, and to download it where that is allowed."""

    study_instance_uid: str
    label: str = ""
    days: int = 7
    may_download: bool = False
    passcode: str = ""


class MadeLink(Body):
    """The address, which nobody can be told again, and what is kept of it."""

    address: str
    kept: Link


class LinkApi:
    """Answers with links to studies, makes and revokes them."""

    def __init__(self, links: StudyLinks, index: Index, urls: PublicUrls) -> None:
        self._links = links
        self._index = index
        self._urls = urls

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", _PATH, self.list,
            "Links to studies, the oldest first: those of the caller; all, who administers.",
            name="ListLinks", service=_SERVICE, needs="export", gives=Page[Link],
            parameters=PAGE_PARAMETERS,
        )  # fmt: skip
        yield endpoint(
            "POST", _PATH, self.add, "Make a link to a study.", name="AddLink", service=_SERVICE,
            needs="export", takes=NewLink, gives=MadeLink,
            answers=(
                ok("It is made; keep its address.", status=201),
                Answer(400, "It cannot be made so."),
                Answer(404, "There is no such study."),
            ),
        )  # fmt: skip
        yield endpoint(
            "DELETE", f"{_PATH}/{{link}}", self.revoke, "Revoke a link to a study.",
            name="RevokeLink", service=_SERVICE, needs="export",
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        found, now = await self._links.listed(request), self._links.now()
        made = page_of(found, page_request(request), lambda one: (one.created_at, one.link_id))
        page = Page(data=[_link(one, now) for one in made.data], pagination=made.pagination)
        return answer(page, headers=link_headers(request, page))

    async def add(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, NewLink)
        if not await self._is_there(body.study_instance_uid):
            raise not_found("study")
        try:
            text, link = await self._links.add(
                request,
                body.study_instance_uid,
                label=body.label,
                days=body.days,
                may_download=body.may_download,
                passcode=body.passcode,
            )
        except PolicyError as error:
            raise HttpError(400, "INVALID_REQUEST", str(error)) from error
        address = f"{self._urls.base(request).removesuffix(ROOT)}/share/{text}"
        return answer(MadeLink(address=address, kept=_link(link, self._links.now())), 201)

    async def revoke(self, request: Request) -> Response:
        """The handler."""
        await self._links.revoke(request, request.arguments["link"])
        return Response(status=204)

    async def _is_there(self, uid: str) -> bool:
        criterion = Criterion(UNIQUE_KEY[Level.STUDY], SingleValue(uid))
        query = Query(level=Level.STUDY, criteria=(criterion,))
        return bool(uid) and bool(await matches_of(self._index, query, IndexPage(limit=1)))


def _link(link: ShareLink, now: float) -> Link:
    return Link(
        id=link.link_id,
        study_instance_uid=link.study_instance_uid,
        label=link.label,
        state=link.state(now),
        may_download=link.may_download,
        has_passcode=bool(link.passcode_hash),
        created_at=moment(link.created_at),
        created_by=link.created_by,
        expires_at=moment(link.expires_at),
        opened=link.uses,
        last_opened_at=moment(link.last_used_at),
        revoked_at=moment(link.revoked_at),
    )
