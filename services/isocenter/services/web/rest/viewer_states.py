"""States of viewers in the API, and studies seen."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from time import time
from typing import Any, Final

import msgspec

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Parameter, Route, ok
from isocenter.services.viewing.ports import RecentStudies, ViewerState, ViewerStates
from isocenter.services.web.principal import what_may
from isocenter.services.web.rest.bodies import Body, answer, encoded, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.marks import author_of, moment_text

_SERVICE: Final = "Viewer support"
#: Of one person; the last ones are kept.
MOST_STATES: Final = 200
#: Of one state, as JSON.
MOST_BYTES: Final = 256 << 10
_ID_BYTES: Final = 12
_DEFAULT_LIMIT: Final = 20
_MOST_LIMIT: Final = 100
_LIMIT: Final = Parameter(
    name="limit", text=f"How many at most, 1 to {_MOST_LIMIT}.", pattern="[1-9][0-9]?|100"
)
_NOT_THERE: Final = Answer(404, "There is none, or the archive does not have the study.")
_NOT_YOURS: Final = Answer(403, "The caller may not do that, or it is somebody else's.")
_BROKEN: Final = Answer(400, "It makes no sense.")


class NewViewerState(Body):
    """How a study is on the screen; what is in `state` is the viewer's own business."""

    study_uid: str
    state: dict[str, Any]


class ShownState(Body):
    """A state of a viewer."""

    id: str
    study_uid: str
    user_id: str
    state: dict[str, Any]
    created_at: str


class ShownStates(Body):
    """States of viewers, the last ones first."""

    data: list[ShownState]
    total: int


class SeenStudy(Body):
    """A study, and when somebody has looked at it last."""

    study_uid: str
    accessed_at: str


class SeenStudies(Body):
    """Studies that somebody has looked at, the last one first."""

    data: list[SeenStudy]
    total: int


class ViewerStatesApi:
    """Keeps what viewers want to know again, for each person by itself."""

    def __init__(self, states: ViewerStates, recent: RecentStudies) -> None:
        self._states = states
        self._recent = recent

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        path = "/viewer-states"
        yield endpoint(
            "POST", path, self.add, "Keep how a study is on the screen.", name="AddViewerState",
            service=_SERVICE, needs="read", takes=NewViewerState, gives=ShownState,
            answers=(ok("It is kept.", status=201), _NOT_THERE, _BROKEN),
        )  # fmt: skip
        yield endpoint(
            "GET", path, self.list, "One's own states, the last ones first.",
            name="ListViewerStates", service=_SERVICE, needs="read", gives=ShownStates,
            parameters=(
                Parameter(name="study_uid", text="Of this study."),
                Parameter(name="user_id", text="Oneself."), _LIMIT,
            ),
            answers=(_BROKEN, _NOT_YOURS),
        )  # fmt: skip
        one = f"{path}/{{state}}"
        yield endpoint(
            "GET", one, self.one, "A state of one's own.", name="GetViewerState",
            service=_SERVICE, needs="read", gives=ShownState, answers=(_NOT_THERE,),
        )  # fmt: skip
        yield endpoint(
            "DELETE", one, self.remove, "Remove a state of one's own.", name="RemoveViewerState",
            service=_SERVICE, needs="read", answers=(_NOT_THERE,),
        )  # fmt: skip
        yield endpoint(
            "GET", "/users/{user}/recent-studies", self.recent,
            "Studies that a person has looked at: one's own, or those of others for who reads "
            "the audit trail.",
            name="ListRecentStudies", service=_SERVICE, needs="read", gives=SeenStudies,
            parameters=(_LIMIT,),
            answers=(_BROKEN, Answer(404, "It is somebody else's business.")),
        )  # fmt: skip

    async def add(self, request: Request) -> Response:
        """The handler."""
        said = await read_body(request, NewViewerState, MOST_BYTES)
        state = ViewerState(
            state_id=secrets.token_hex(_ID_BYTES),
            study_instance_uid=said.study_uid,
            author=author_of(request),
            content=encoded(said.state).decode(),
            created_at=time(),
        )
        if not await self._states.add(state, most=MOST_STATES):
            raise HttpError(404, "NOT_FOUND", "the archive has no such study")
        return answer(_shown(state), 201)

    async def list(self, request: Request) -> Response:
        """The handler."""
        author = author_of(request)
        if request.parameter("user_id") not in (None, "", author):
            raise HttpError(403, "NOT_YOURS", "states are for whoever made them")
        found = await self._states.chosen(
            author=author,
            study_instance_uid=request.parameter("study_uid") or "",
            limit=_limit(request),
        )
        return answer(ShownStates(data=[_shown(one) for one in found], total=len(found)))

    async def one(self, request: Request) -> Response:
        """The handler."""
        return answer(_shown(await self._own(request)))

    async def remove(self, request: Request) -> Response:
        """The handler."""
        state = await self._own(request)
        await self._states.remove(state.state_id)
        return Response(status=204)

    async def recent(self, request: Request) -> Response:
        """The handler."""
        user = request.arguments["user"]
        if user != author_of(request) and "audit" not in what_may(request.caller):
            # Whether there is such a person is nobody else's business.
            raise HttpError(
                404, "NOT_FOUND", "what others look at is for whoever reads the audit trail"
            )
        found = await self._recent.of(user, limit=_limit(request))
        data = [
            SeenStudy(study_uid=one.study_instance_uid, accessed_at=moment_text(one.accessed_at))
            for one in found
        ]
        return answer(SeenStudies(data=data, total=len(data)))

    async def _own(self, request: Request) -> ViewerState:
        found = await self._states.find(request.arguments["state"])
        # Whether others have one of that name is their business.
        if found is None or found.author != author_of(request):
            raise HttpError(404, "NOT_FOUND", "there is no such state")
        return found


def _limit(request: Request) -> int:
    text = request.parameter("limit")
    if text is None:
        return _DEFAULT_LIMIT
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text[:4]) <= _MOST_LIMIT:
        raise HttpError(400, "INVALID_REQUEST", f"limit is a number from 1 to {_MOST_LIMIT}")
    return int(text)


def _shown(state: ViewerState) -> ShownState:
    return ShownState(
        id=state.state_id,
        study_uid=state.study_instance_uid,
        user_id=state.author,
        state=msgspec.json.decode(state.content),
        created_at=moment_text(state.created_at),
    )
