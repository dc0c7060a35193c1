"""Settling of a job's objects in batches, while work on them goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

from isocenter.services.concurrency import open_plain_nursery
from isocenter.services.workflow.jobs.job import Job
from isocenter.services.workflow.jobs.ports import ItemOutcome, JobItems

T = TypeVar("T")

_SECONDS: Final = 1.0
#: When work is cancelled, what came of it is written down within so many seconds.
_GOODBYE_SECONDS: Final = 2.0


async def settling(
    job: Job,
    queue: JobItems,
    work: Callable[[Callable[[ItemOutcome], None]], Awaitable[T]],
) -> T:
    """What *work* gives; what it tells of objects meanwhile is written down each second, and at
    the end however it ends.

    Raises:
        StorageError: it cannot be.  And what *work* raises.
    """
    outcomes: list[ItemOutcome] = []

    async def settle() -> None:
        some = outcomes[:]
        await queue.settle(job, some)
        del outcomes[: len(some)]

    async def settle_now_and_then() -> None:
        while True:
            await trio.sleep(_SECONDS)
            await settle()

    results: list[T] = []
    broken: Exception | None = None
    try:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(settle_now_and_then)
            try:
                results.append(await work(outcomes.append))
            except Exception as error:
                broken = error  # the nursery would wrap it
            nursery.cancel_scope.cancel()
    finally:
        with trio.move_on_after(_GOODBYE_SECONDS, shield=True):
            await settle()
    if broken is not None:
        raise broken
    return results[0]
