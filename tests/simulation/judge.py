"""Judge of late writes: whoever has lost a claim, a lease or a lock changes nothing.

It looks at each transaction where the database carries it out, and asks the tables by itself: what
the fences of the product say does not count.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from isocenter.services.cluster.fence import HELD, Fence, LockFence
from isocenter.services.cluster.leasing import Leasing
from isocenter.services.cluster.ports import Leases
from isocenter.services.errors import StorageError
from isocenter.services.workflow.jobs.job import Job
from isocenter.storage.database.database import Connection
from simulation.links import BOUND_TO, Link
from support.virtual_database import DatabaseServer, VirtualDatabase, database_clock

P = ParamSpec("P")
T = TypeVar("T")

#: What a write may be bound to; by one that ends a job, or leaves it, the claim is given up.
CLAIM: Final = "claim"
GIVEN_UP: Final = "claim to be given up"
LEASE: Final = "lease"
LOCK: Final = "lock"
KINDS: Final = (CLAIM, GIVEN_UP, LEASE, LOCK)

#: Leases under which a task works, as `WatchedLeasing` has seen them being taken.
_WATCHED: Final[ContextVar[tuple[Fence, ...]]] = ContextVar("_WATCHED", default=())

_HOLDS: Final[Mapping[str, str]] = {
    CLAIM: "SELECT count(*) FROM job WHERE job_pk = ? AND claims = ?",
    GIVEN_UP: "SELECT count(*) FROM job WHERE job_pk = ? AND claims = ?",
    LEASE: "SELECT count(*) FROM duty WHERE name = ? AND claimed_by = ? AND claims = ? "
    "AND claimed_until > ?",
    LOCK: "SELECT count(*) FROM study_lock WHERE lock_id = ? AND until > ?",
}
#: A right to write: its kind, and what the table has as long as it holds.
_Right = tuple[str, tuple[Any, ...]]


class JudgedDatabase(VirtualDatabase):
    """The database as one process has it, whose late writes are looked at."""

    def __init__(self, server: DatabaseServer, link: Link) -> None:
        super().__init__(server, link)
        self._link = link

    async def write(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        rights = list(_claims(args))
        for fence in {*HELD.get(), *_WATCHED.get()}:
            if isinstance(fence, LockFence):
                rights.append((LOCK, (fence.lock_id,)))
            else:
                rights.append((LEASE, (fence.duty, fence.holder, fence.number)))
        token = BOUND_TO.set(frozenset(kind for kind, _ in rights))
        try:
            return await super().write(self._judged(function, rights), *args, **kwargs)
        finally:
            BOUND_TO.reset(token)

    note = write
    write_beside = write

    def _judged(
        self, function: Callable[Concatenate[Connection, P], T], rights: Iterable[_Right]
    ) -> Callable[Concatenate[Connection, P], T]:
        @wraps(function)
        def judged(connection: Any, *args: P.args, **kwargs: P.kwargs) -> T:
            lost = [kind for kind, what in rights if not _holds(connection, kind, what)]
            before = connection.total_changes
            try:
                result = function(connection, *args, **kwargs)
            except StorageError:
                self._tell(lost, changes=0)
                raise
            self._tell(lost, changes=connection.total_changes - before)
            return result

        return judged

    def _tell(self, lost: Iterable[str], changes: int) -> None:
        for kind in sorted(set(lost)):
            self._link.world.note(f"{self._link.name} writes too late: its {kind} is lost")
            self._link.world.check(
                not changes, f"{self._link.name} changes {changes} rows, and its {kind} is lost"
            )


def _claims(values: Iterable[object]) -> Iterator[_Right]:
    """Claims of jobs by which a transaction writes."""
    for each in values:
        match each:
            case Job():
                yield CLAIM, (each.number, each.claim)
            case {"number": number, "claim": claim}:
                yield GIVEN_UP, (number, claim)
            case tuple():
                yield from _claims(each)


def _holds(connection: Any, kind: str, what: tuple[Any, ...]) -> bool:
    values = what if kind in (CLAIM, GIVEN_UP) else (*what, database_clock())
    return bool(connection.execute(_HOLDS[kind], values).fetchone()[0])


class WatchedLeasing(Leasing):
    """The real one; what is done under its leases is known beside what the product says."""

    def __init__(self, leases: Leases) -> None:
        self._taken = _Taken(leases)
        super().__init__(self._taken)

    async def run(self, duty: str, work: Callable[[], Awaitable[None]]) -> None:
        async def watched() -> None:
            token = _WATCHED.set((*_WATCHED.get(), self._taken.last[duty]))
            try:
                await work()
            finally:
                _WATCHED.reset(token)

        await super().run(duty, watched)

    @asynccontextmanager
    async def hold(self, duty: str) -> AsyncIterator[None]:
        async with super().hold(duty):
            token = _WATCHED.set((*_WATCHED.get(), self._taken.last[duty]))
            try:
                yield
            finally:
                _WATCHED.reset(token)


class _Taken:
    """Leases, and which one of each duty was taken last."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self.last: dict[str, Fence] = {}

    async def take(self, duty: str, holder: str, seconds: float) -> Fence | None:
        fence = await self._leases.take(duty, holder, seconds)
        if fence is not None:
            self.last[duty] = fence
        return fence

    async def renew(self, fence: Fence, seconds: float) -> bool:
        return await self._leases.renew(fence, seconds)

    async def give_back(self, fence: Fence) -> None:
        await self._leases.give_back(fence)
