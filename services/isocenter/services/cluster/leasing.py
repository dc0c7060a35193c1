"""Leasing: work of one worker at a time, under a lease."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from isocenter.services.cluster.fence import HELD, Fence
from isocenter.services.cluster.ports import Leases
from isocenter.services.cluster.worker_names import new_worker_name
from isocenter.services.concurrency import open_plain_nursery
from isocenter.services.errors import StorageError

_log = logging.getLogger("isocenter.cluster")

#: Whoever stands still for so long has lost what it had.
LEASE_SECONDS: Final = 15.0
RENEW_SECONDS: Final = 3.0
#: How often is looked whether a duty is free.
LOOK_SECONDS: Final = 2.0
#: The same of what is held for moments.
_HOLD_LOOK_SECONDS: Final = 0.1
#: At the end of a server nobody waits longer for the database.
_GIVE_BACK_SECONDS: Final = 2.0


class Leasing:
    """Does work under leases."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases

    async def run(self, duty: str, work: Callable[[], Awaitable[None]]) -> None:
        """Wait until nobody has *duty*, then do *work* to its end; when the lease is lost it is
        cancelled, and waits for its turn again."""
        while True:
            fence, until = await self._wait_for(duty, LOOK_SECONDS)
            is_done = False
            with trio.CancelScope(deadline=until) as scope:
                async with self._kept(fence, scope):
                    await work()
                    is_done = True
            if is_done:
                return
            await trio.lowlevel.checkpoint_if_cancelled()
            _log.warning("the lease of %r was lost; what was done under it begins anew", duty)

    @asynccontextmanager
    async def hold(self, duty: str) -> AsyncIterator[None]:
        """Wait until nobody has *duty*, and have it for as long as the context lasts.

        Raises:
            StorageError: it was lost meanwhile, or cannot be had.
        """
        fence, until = await self._wait_for(duty, _HOLD_LOOK_SECONDS, gives_up=True)
        is_done = False
        with trio.CancelScope(deadline=until) as scope:
            async with self._kept(fence, scope):
                yield
                is_done = True
        if not is_done:
            raise StorageError(f"the lease of {duty!r} was lost: the database did not answer")

    async def _wait_for(
        self, duty: str, look_seconds: float, *, gives_up: bool = False
    ) -> tuple[Fence, float]:
        """The lease, and until when it holds by our own clock."""
        holder = new_worker_name()
        while True:
            asked_at = trio.current_time()
            try:
                fence = await self._leases.take(duty, holder, LEASE_SECONDS)
            except StorageError as error:
                if gives_up:
                    raise
                _log.warning("who does %r cannot be told: %s", duty, error)
                fence = None
            if fence is not None:
                return fence, asked_at + LEASE_SECONDS
            await trio.sleep(look_seconds)

    @asynccontextmanager
    async def _kept(self, fence: Fence, scope: trio.CancelScope) -> AsyncIterator[None]:
        """It is renewed while the context lasts; when it is lost, *scope* is cancelled, also by its
        deadline, while the database does not answer."""
        async with open_plain_nursery() as nursery:
            nursery.start_soon(self._renew, fence, scope)
            token = HELD.set((*HELD.get(), fence))
            try:
                yield
            finally:
                HELD.reset(token)
                nursery.cancel_scope.cancel()
                with trio.move_on_after(_GIVE_BACK_SECONDS, shield=True):
                    try:
                        await self._leases.give_back(fence)
                    except StorageError:
                        pass  # it ends by itself

    async def _renew(self, fence: Fence, scope: trio.CancelScope) -> None:
        while True:
            await trio.sleep(RENEW_SECONDS)
            asked_at = trio.current_time()
            try:
                if not await self._leases.renew(fence, LEASE_SECONDS):
                    scope.cancel()
                    return
            except StorageError as error:
                _log.warning("the lease of %r could not be renewed: %s", fence.duty, error)
            else:
                scope.deadline = asked_at + LEASE_SECONDS
