"""Retention of the worklist and of workitems: what has ended goes after some days."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from time import time
from typing import Final

import trio

from isocenter.services.errors import StorageError

log = logging.getLogger("isocenter.worklist")

_DAY_SECONDS: Final = 86_400.0
#: How often is looked; a day more or less does not matter, a server may run for minutes only.
LOOK_SECONDS: Final = 3_600.0


async def remove_expired(
    remove_ended: Callable[[float], Awaitable[int]], days: int, what: str = "worklist entries"
) -> None:
    """Remove what ended more than *days* ago, again and again, until cancelled.

    Args:
        remove_ended: removes some of the entries that ended before a time (seconds since
            1970) and says how many; 0: there are no more.
        what: they are, for the log.
    """
    while True:
        before, removed = time() - days * _DAY_SECONDS, 0
        try:
            while some := await remove_ended(before):
                removed += some
        except StorageError as error:
            log.warning("%s cannot be tidied: %s", what, error)
        else:
            if removed:
                log.info("removed %d %s that ended %d days ago", removed, what, days)
        await trio.sleep(LOOK_SECONDS)
