"""Background tasks that begin anew after an unexpected exception."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from math import inf
from typing import Final

import trio

from isocenter.services.concurrency import Backoff

log = logging.getLogger("isocenter.server")

_AGAIN: Final = Backoff(first_seconds=1.0, longest_seconds=300.0, give_up_after_seconds=inf)


async def outlast(name: str, task: Callable[[], Awaitable[None]]) -> None:
    """Do *task* until it ends by itself: what it does not expect is a fault of ours, and no reason
    for the server to end; it begins anew, later each time.

    Args:
        name: for the log.
    """
    failures = 0
    while True:
        began = trio.current_time()
        try:
            await task()
            return
        except Exception as error:
            # Its text may name a patient.
            classes = ", ".join(sorted(_classes(error)))
            failures = 0 if trio.current_time() - began > _AGAIN.longest_seconds else failures
            failures += 1
            seconds = _AGAIN.interval(failures)
            log.error("%s: internal error (%s); again in %.0f s", name, classes, seconds)
        await trio.sleep(seconds)


def _classes(error: Exception) -> set[str]:
    """Names of the classes of what happened, also in several tasks at once."""
    if isinstance(error, ExceptionGroup):
        return {name for each in error.exceptions for name in _classes(each)}
    return {type(error).__name__}
