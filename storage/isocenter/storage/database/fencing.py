"""Fenced database: no transaction under a lease that was lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from isocenter.services.cluster.fence import HELD, Fence, LeaseLostError, LockFence
from isocenter.storage.database.cluster import is_held
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.study_locks import is_locked
from isocenter.storage.database.wrapper import DatabaseWrapper

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")


class FencedDatabase(DatabaseWrapper):
    """Looks at fences before anything is written.

    A transaction of a task with fences (`isocenter.services.cluster.fence`) first looks whether
    they hold; where nobody has any, it costs nothing.

    Args:
        is_spare: nobody else has it, and the leases are not in it.
    """

    def __init__(self, database: Database, *, is_spare: bool = False) -> None:
        super().__init__(database)
        self._is_spare = is_spare

    def _wrap_spare(self, spare: Database) -> Self:
        return type(self)(spare, is_spare=True)

    async def write(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """See `Database.write`."""
        if (fences := HELD.get()) and not self._is_spare:
            return await self._database.write(_fenced, fences, function, args, kwargs)
        return await self._database.write(function, *args, **kwargs)

    async def note(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """See `Database.note`."""
        if (fences := HELD.get()) and not self._is_spare:
            return await self._database.note(_fenced, fences, function, args, kwargs)
        return await self._database.note(function, *args, **kwargs)

    async def write_beside(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """See `Database.write_beside`."""
        if (fences := HELD.get()) and not self._is_spare:
            return await self._database.write_beside(_fenced, fences, function, args, kwargs)
        return await self._database.write_beside(function, *args, **kwargs)

    async def write_after(
        self,
        prepare: Callable[[], U | None],
        function: Callable[Concatenate[Connection, U, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T | None:
        """See `Database.write_after`."""
        if (fences := HELD.get()) and not self._is_spare:
            return await self._database.write_after(
                prepare, _fenced_after, fences, function, args, kwargs
            )
        return await self._database.write_after(prepare, function, *args, **kwargs)


def _check(connection: Connection, fences: Sequence[Fence | LockFence]) -> None:
    for fence in fences:
        if isinstance(fence, LockFence):
            holds = is_locked(connection, fence.lock_id)
        else:
            holds = is_held(connection, fence)
        if not holds:
            raise LeaseLostError(fence)


def _fenced(
    connection: Connection,
    fences: Sequence[Fence | LockFence],
    function: Callable[..., T],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> T:
    _check(connection, fences)
    return function(connection, *args, **kwargs)


def _fenced_after(
    connection: Connection,
    prepared: U,
    fences: Sequence[Fence | LockFence],
    function: Callable[..., T],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> T:
    _check(connection, fences)
    return function(connection, prepared, *args, **kwargs)
