"""Counts of broken rules, kept up to date in the background."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from isocenter.services.archive.validation.ports import ValidationBook
from isocenter.services.errors import StorageError

log = logging.getLogger("isocenter.archive")

#: Between two counts at least.
_LEAST_SECONDS: Final = 60.0
#: So many times as long as a count takes it is left alone.
_REST: Final = 50.0


async def keep_counts(
    book: ValidationBook, *, sleep: Callable[[float], Awaitable[None]] = trio.sleep
) -> None:
    """Count again and again, until cancelled; of many marks less often, so that it is never more
    than a fiftieth of the time."""
    while True:
        began = trio.current_time()
        try:
            await book.count()
        except StorageError as error:
            log.warning("what validation found is counted later: %s", error)
        except Exception as error:
            # Nobody has thought of it; the archive goes on without fresh counts.
            name = type(error).__name__
            log.error("what validation found is counted later: unexpected %s", name)
        await sleep(max(_LEAST_SECONDS, _REST * (trio.current_time() - began)))
