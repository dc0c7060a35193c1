"""Conflicts of synchronisations in the API: shown and resolved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Parameter, Route
from isocenter.services.web.principal import caller_name, caller_of, what_may
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.policy_answers import changing, moment, not_found
from isocenter.services.workflow.synchronization.comparison import ConflictKind, Resolution
from isocenter.services.workflow.synchronization.desk import SyncDesk
from isocenter.services.workflow.synchronization.ports import Conflict
from isocenter.services.workflow.tasks.task import TaskError

_SERVICE: Final = "Synchronisation"
_MOST: Final = 1_000
#: What a person says is to be done, and what that means.
RESOLUTIONS: Final = {
    "local": Resolution.LOCAL,
    "remote": Resolution.REMOTE,
    "leave": Resolution.LEAVE,
}


def needs_of(kind: ConflictKind, resolution: Resolution) -> frozenset[str]:
    """What a route would need that did the same, beside that of the routes that resolve."""
    match kind, resolution:
        case (_, Resolution.LEAVE) | (ConflictKind.DELETED_HERE, Resolution.LOCAL):
            return frozenset()  # it stays as it is
        case ConflictKind.DELETED_THERE, Resolution.REMOTE:
            return frozenset({"delete"})
        case _, Resolution.LOCAL:
            return frozenset({"export"})  # it overwrites what the node has
        case _:
            return frozenset({"write"})  # it overwrites what is here


def check_may_resolve(request: Request, conflict: Conflict, resolution: Resolution) -> None:
    """Whether a caller may do themselves what a resolution does.

    Raises:
        HttpError: they may not (403).
    """
    lacking = needs_of(conflict.kind, resolution) - what_may(request.caller)
    if lacking:
        words = ", ".join(sorted(lacking))
        raise HttpError(403, "NOT_ALLOWED", f"the policy does not give what that does: {words}")


class ConflictShown(Body):
    """A study of which a person has to say what is to be done; `here`, `there`: instances."""

    number: int
    task: str
    node: str
    study_instance_uid: str
    kind: str
    here: int
    there: int
    found: str | None
    resolution: str
    resolved_by: str
    resolved: str | None


class ConflictList(Body):
    """Conflicts, the latest first."""

    conflicts: list[ConflictShown]


class Decision(Body):
    """Whose study it is to be: `local`, `remote`; `leave`: it stays as it is."""

    prefer: Literal["local", "remote", "leave"]


class ConflictApi:
    """Answers with conflicts, and resolves them."""

    def __init__(self, desk: SyncDesk) -> None:
        self._desk = desk

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/sync/conflicts", self.list, "Conflicts, the latest first.",
            name="ListConflicts", service=_SERVICE, needs="search", gives=ConflictList,
            parameters=(
                Parameter(name="all", text="yes: also those that are resolved.", pattern="yes"),
            ),
        )  # fmt: skip
        yield endpoint(
            "POST", "/sync/conflicts/{conflict}/resolve", self.resolve,
            "Say what is to be done with a study; it is retrieved, sent, deleted or left.",
            name="ResolveConflict", service=_SERVICE, needs="delete", takes=Decision,
            answers=(Answer(409, "Somebody was quicker, or something is against it."),),
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        is_open = request.parameter("all") != "yes"
        async with changing():
            found = await self._desk.conflicts(is_open=is_open, limit=_MOST)
        return answer(
            ConflictList(
                conflicts=[
                    ConflictShown(
                        number=one.number,
                        task=one.task,
                        node=one.node,
                        study_instance_uid=one.study_instance_uid,
                        kind=one.kind.value,
                        here=one.here,
                        there=one.there,
                        found=moment(one.found_at),
                        resolution="" if one.resolution is None else one.resolution.value,
                        resolved_by=one.resolved_by,
                        resolved=moment(one.resolved_at),
                    )
                    for one in found
                ]
            )
        )

    async def resolve(self, request: Request) -> Response:
        """The handler."""
        resolution = RESOLUTIONS[(await read_body(request, Decision)).prefer]
        text = request.arguments["conflict"]
        number = int(text) if text.isascii() and text.isdecimal() and len(text) < 18 else 0
        caller = caller_of(request)
        async with changing():
            conflict = await self._desk.get(number)
            if conflict is None:
                raise not_found("conflict")
            check_may_resolve(request, conflict, resolution)
            try:
                is_done = await self._desk.resolve(
                    conflict, resolution, caller_name(caller), caller
                )
            except TaskError as error:
                raise HttpError(409, "CONFLICT", str(error)) from error
        if not is_done:
            raise HttpError(409, "CONFLICT", "somebody was quicker, or the study is in use or held")
        return Response(status=204)
