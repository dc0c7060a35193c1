"""Forwarding in the API: what rules send on, and once more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Parameter, Route
from isocenter.services.notices import FunctionUsed, Notices
from isocenter.services.web.principal import caller_of
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.paging import (
    PAGE_PARAMETERS,
    Page,
    link_headers,
    page_of_some,
    page_request,
)
from isocenter.services.web.rest.policy_answers import moment
from isocenter.services.workflow.forwarding.ports import ForwardQueue, ForwardState, ForwardSummary

_SERVICE: Final = "Forwarding"
_STATES: Final = tuple(one.value for one in ForwardState)


class Forward(Body):
    """An object that is to be sent on, and what became of it."""

    id: int
    sop_instance_uid: str
    study_instance_uid: str
    destination: str
    rule: str
    priority: str
    state: str
    attempts: int
    created_at: str | None
    due_at: str | None
    ended_at: str | None
    last_fault: str


class Destination(Body):
    """A destination, how many objects are in which state, and how it does.

    `failures`: attempts to reach it that failed in a row; until `retry_at` it is left alone.
    """

    destination: str
    counts: dict[str, int]
    failures: int
    retry_at: str | None
    last_fault: str


class Destinations(Body):
    """All destinations that have records."""

    destinations: list[Destination]


class Retry(Body):
    """Which records are sent now: these, all of a destination, or all."""

    ids: tuple[int, ...] = ()
    destination: str = ""


class CommitOrder(Body):
    """Of which study which destination is asked whether it keeps it."""

    study_instance_uid: str
    destination: str


class Count(Body):
    """How many records."""

    count: int


class ForwardingApi:
    """Answers with what is to be sent on, and has it sent again."""

    def __init__(self, queue: ForwardQueue, notices: Notices) -> None:
        self._queue = queue
        self._notices = notices

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is."""
        yield endpoint(
            "GET", "/forwarding", self.list, "Records, the latest first.",
            name="ListForwards", service=_SERVICE, needs="state", gives=Page[Forward],
            parameters=(
                Parameter(name="state", text="Those that are so.", values=_STATES),
                Parameter(name="destination", text="Those of this AE title."),
                *PAGE_PARAMETERS,
            ),
        )  # fmt: skip
        yield endpoint(
            "GET", "/forwarding/destinations", self.destinations, "How each destination does.",
            name="ListDestinations", service=_SERVICE, needs="state", gives=Destinations,
        )  # fmt: skip
        yield endpoint(
            "POST", "/forwarding/retry", self.retry, "Send what failed now.",
            name="RetryForwards", service=_SERVICE, needs="configure", takes=Retry, gives=Count,
        )  # fmt: skip

        yield endpoint(
            "POST", "/forwarding/commit", self.commit,
            "Ask a destination whether it keeps what it was sent of a study (storage commitment).",
            name="CommitForwards", service=_SERVICE, needs="configure", takes=CommitOrder,
            gives=Count,
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        wanted, state = page_request(request), request.parameter("state")
        if state is not None and state not in _STATES:
            raise HttpError(400, "INVALID_REQUEST", f"a state is one of {', '.join(_STATES)}")
        before = None
        if wanted.after is not None:
            if not isinstance(wanted.after[0], int):
                raise HttpError(400, "INVALID_REQUEST", "after is of another list")
            # The key is turned round: what is behind in the list has a smaller number.
            before = -wanted.after[0]
        rows = await self._queue.rows(
            state=None if state is None else ForwardState(state),
            destination=request.parameter("destination") or "",
            limit=wanted.offset + wanted.limit + 1,
            before=before,
        )
        shown = [_forward(one) for one in rows[wanted.offset :]]
        page = page_of_some(shown, wanted, lambda one: (-one.id,))
        return answer(page, headers=link_headers(request, page))

    async def destinations(self, request: Request) -> Response:
        """The handler."""
        shown = [
            Destination(
                destination=one.destination,
                counts={state.value: count for state, count in one.counts.items()},
                failures=one.failures,
                retry_at=moment(one.retry_at or None),
                last_fault=one.last_fault,
            )
            for one in await self._queue.destinations()
        ]
        return answer(Destinations(destinations=shown))

    async def retry(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, Retry)
        count = await self._queue.retry(body.ids, destination=body.destination)
        what = f"what failed to go to {body.destination or 'any destination'} is sent again"
        self._notices.publish(FunctionUsed(caller=caller_of(request), what=what))
        return answer(Count(count=count))

    async def commit(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, CommitOrder)
        count = await self._queue.commit(body.destination, body.study_instance_uid)
        what = f"{body.destination} is asked to commit a study that it was sent"
        self._notices.publish(FunctionUsed(caller=caller_of(request), what=what))
        return answer(Count(count=count))


def _forward(one: ForwardSummary) -> Forward:
    return Forward(
        id=one.number,
        sop_instance_uid=one.sop_instance_uid,
        study_instance_uid=one.study_instance_uid,
        destination=one.destination,
        rule=one.rule,
        priority=one.priority.name.lower(),
        state=one.state.value,
        attempts=one.attempts,
        created_at=moment(one.created_at),
        due_at=moment(one.due_at),
        ended_at=moment(one.ended_at),
        last_fault=one.last_fault,
    )
