"""Associations in the API: those that last, figures, and the end of one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from time import time
from typing import Final

from isocenter.services.association.server import LiveAssociation
from isocenter.services.dicom.uid_registry import name_of
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import Request, Response
from isocenter.services.net.http.routing import Parameter, Route
from isocenter.services.web.parts import ServerState
from isocenter.services.web.principal import caller_of
from isocenter.services.web.processes import ServerProcesses
from isocenter.services.web.rest.bodies import Body, answer
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.paging import (
    PAGE_PARAMETERS,
    Pagination,
    link_headers,
    page_of,
    page_request,
)
from isocenter.services.web.rest.policy_answers import moment, not_found

_SERVICE: Final = "Associations"
_ONE: Final = "/associations/{association}"


class Context(Body):
    """A presentation context that was accepted."""

    id: int
    abstract_syntax: str
    abstract_syntax_name: str
    transfer_syntax: str


class Association(Body):
    """An association that lasts: who is at the other end, and what it does.

    `performing` are its operations under way, `performed` how many have ended.
    """

    id: str
    calling_ae_title: str
    called_ae_title: str
    address: str
    is_tls: bool
    certificate: str
    user: str
    since: str | None
    seconds: float
    contexts: list[Context]
    performing: list[str]
    performed: int
    bytes_received: int
    bytes_sent: int


class Associations(Body):
    """Associations of all processes of the server, and figures.

    There are `workers` processes; what those do that answered at once is told.
    """

    active_count: int
    max_associations: int
    total_associations: int
    rejected_associations: int
    aborted_associations: int
    messages_processed: int
    bytes_received: int
    bytes_sent: int
    server_running: bool
    uptime_seconds: float
    workers: int
    answering: int
    data: list[Association]
    pagination: Pagination


class AssociationApi:
    """Answers with associations, and ends one."""

    def __init__(
        self, processes: ServerProcesses, state: Callable[[], Awaitable[ServerState]]
    ) -> None:
        self._processes = processes
        self._state = state

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/associations/active", self.list, "Associations that last, by ID.",
            name="ListAssociations", service=_SERVICE, needs="state", gives=Associations,
            parameters=(
                Parameter(name="ae", text="Those with this in one of their AE titles."),
                *PAGE_PARAMETERS,
            ),
        )  # fmt: skip
        yield endpoint(
            "GET", _ONE, self.show, "One association.", name="GetAssociation",
            service=_SERVICE, needs="state", gives=Association,
        )  # fmt: skip
        yield endpoint(
            "DELETE", _ONE, self.abort,
            "Abort an association at once, also in the middle of an operation.",
            name="AbortAssociation", service=_SERVICE, needs="configure",
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        title = (request.parameter("ae") or "").strip()
        now = await self._processes.associations()
        found = [_association(one) for one in now.lasting if one.is_of(title)]
        page = page_of(found, page_request(request), lambda one: (one.id,))
        details = (await self._state()).details
        figures = now.figures
        return answer(
            Associations(
                active_count=figures.active,
                max_associations=figures.most,
                total_associations=figures.total,
                rejected_associations=figures.rejected,
                aborted_associations=figures.aborted,
                messages_processed=figures.operations,
                bytes_received=figures.bytes_received,
                bytes_sent=figures.bytes_sent,
                server_running=not self._processes.is_stopping,
                uptime_seconds=details["uptime_seconds"],
                workers=self._processes.number,
                answering=now.answering,
                data=page.data,
                pagination=page.pagination,
            ),
            headers=link_headers(request, page),
        )

    async def show(self, request: Request) -> Response:
        """The handler."""
        name = request.arguments["association"]
        for one in (await self._processes.associations()).lasting:
            if one.caller.association == name:
                return answer(_association(one))
        raise not_found("association; it has ended")

    async def abort(self, request: Request) -> Response:
        """The handler."""
        name = request.arguments["association"]
        if not await self._processes.end_association(name, caller_of(request)):
            raise not_found("association; it has ended")
        return Response(status=204)


def _association(live: LiveAssociation) -> Association:
    caller = live.caller
    return Association(
        id=caller.association,
        calling_ae_title=caller.calling_ae_title,
        called_ae_title=caller.called_ae_title,
        address=caller.address,
        is_tls=caller.is_tls,
        certificate=caller.certificate,
        user=caller.user,
        since=moment(time() - live.seconds),
        seconds=round(live.seconds, 3),
        contexts=[
            Context(
                id=one.context_id,
                abstract_syntax=one.abstract_syntax,
                abstract_syntax_name=name_of(one.abstract_syntax),
                transfer_syntax=one.transfer_syntax,
            )
            for one in live.contexts
        ],
        performing=list(live.performing),
        performed=live.performed,
        bytes_received=live.bytes_received,
        bytes_sent=live.bytes_sent,
    )
