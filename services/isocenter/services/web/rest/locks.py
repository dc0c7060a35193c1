"""Locks of studies in the API: who changes one, and taking that away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.archive.locks.administration import LockAdministration
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.principal import caller_name, caller_of
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.policy_answers import changing, moment, not_found
from isocenter.services.web.rest.reasoned_changes import Reason, checked_reason

_SERVICE: Final = "Locks"


class LockShown(Body):
    """A study that somebody changes; `waits_for`: who still reads it, and is waited for."""

    study_instance_uid: str
    kind: str
    by: str
    reason: str
    since: str | None
    until: str | None
    waits_for: list[str]


class LockList(Body):
    """Locks, the oldest first."""

    locks: list[LockShown]


class LockCountShown(Body):
    """What has become of locks of one kind, of all processes of the archive.

    `active`: that somebody has now; `released`, `forced` (taken away), `expired` (not renewed in
    time); `refused`: tries that gave up; `waited`: for which somebody had to wait.
    """

    kind: str
    active: int
    taken: int
    released: int
    forced: int
    expired: int
    refused: int
    waited: int
    waited_seconds: float
    average_seconds: float
    longest_seconds: float


class LockStatistics(Body):
    """Of each kind of lock."""

    kinds: list[LockCountShown]


class LockApi:
    """Answers with locks, and takes them away."""

    def __init__(self, locks: LockAdministration) -> None:
        self._locks = locks

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/locks", self.list, "Studies that somebody changes right now.",
            name="ListStudyLocks", service=_SERVICE, needs="delete", gives=LockList,
        )  # fmt: skip
        yield endpoint(
            "GET", "/locks/statistics", self.statistics, "What has become of locks of studies.",
            name="GetLockStatistics", service=_SERVICE, needs="state", gives=LockStatistics,
        )  # fmt: skip
        yield endpoint(
            "POST", "/locks/{study}/release", self.release,
            "Take the lock of a study away from whoever has it, who ends with an error.",
            name="ReleaseStudyLock", service=_SERVICE, needs="configure", takes=Reason,
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        async with changing():
            found = await self._locks.all()
        return answer(
            LockList(
                locks=[
                    LockShown(
                        study_instance_uid=lock.study_instance_uid,
                        kind=lock.kind.value,
                        by=lock.holder,
                        reason=lock.reason,
                        since=moment(lock.since),
                        until=moment(lock.until),
                        waits_for=list(lock.readers),
                    )
                    for lock in found
                ]
            )
        )

    async def statistics(self, request: Request) -> Response:
        """The handler."""
        async with changing():
            found = await self._locks.counts()
        names = LockCountShown.__struct_fields__
        return answer(
            LockStatistics(
                kinds=[
                    LockCountShown(
                        **{name: getattr(count, name) for name in names if name != "kind"},
                        kind=count.kind.value,
                    )
                    for count in found
                ]
            )
        )

    async def release(self, request: Request) -> Response:
        """The handler."""
        reason = checked_reason((await read_body(request, Reason)).reason)
        actor = caller_name(caller_of(request))
        async with changing():
            was_locked = await self._locks.release(request.arguments["study"], actor, reason)
        if not was_locked:
            raise not_found("lock")
        return Response(status=204)
