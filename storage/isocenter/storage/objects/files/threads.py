"""Worker threads for what blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import outcome
import trio

T = TypeVar("T")


async def run_in_thread(call: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
    """Run *call* in a thread of trio's; it is never abandoned, so a cancellation waits for it.

    `trio.to_thread.run_sync` does more that is not needed here (names for the thread, context
    variables, calls back into trio), for a quarter of its time.
    """
    await trio.lowlevel.checkpoint_if_cancelled()
    task = trio.lowlevel.current_task()
    try:
        limiter.acquire_on_behalf_of_nowait(task)  # a turn of the scheduler less
    except trio.WouldBlock:
        await limiter.acquire_on_behalf_of(task)
    try:
        token = trio.lowlevel.current_trio_token()

        def deliver(result: outcome.Outcome[T]) -> None:
            token.run_sync_soon(trio.lowlevel.reschedule, task, result)

        trio.lowlevel.start_thread_soon(call, deliver)
        result: T = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        return result
    finally:
        limiter.release_on_behalf_of(task)
