"""Alert in the log when storing fails, and when it works again.

Each object that is refused has a line with its association, bounded there.  What whoever runs
the archive has to see is that its storage fails, and that once: not for each of a thousand.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from isocenter.services.errors import StorageError

_log = logging.getLogger("isocenter.storage")

#: A fault that comes and goes, or that stays, is told again after so long.
AGAIN_AFTER_SECONDS: Final = 300.0


class StorageAlert:
    """Told of each failure and success; says what is worth saying."""

    def __init__(self, now: Callable[[], float] = trio.current_time) -> None:
        self._now = now
        self._said_at: float | None = None
        #: An outage was told whose end was not.
        self._is_told = False
        self._is_failing = False
        self._refused = 0

    @property
    def is_failing(self) -> bool:
        """Whether the last that was heard is a failure."""
        return self._is_failing

    def report_failure(self, error: StorageError) -> None:
        """Objects could not be kept."""
        self._refused += 1
        self._is_failing = True
        now = self._now()
        if self._said_at is None or now - self._said_at >= AGAIN_AFTER_SECONDS:
            self._said_at = now
            self._is_told = True
            _log.error("objects cannot be kept: %s", error)

    def report_success(self) -> None:
        """Objects are durable and indexed, or could be."""
        self._is_failing = False
        if self._is_told:
            self._is_told = False
            refused, self._refused = self._refused, 0
            _log.warning("objects are kept again; %d failures before", refused)
