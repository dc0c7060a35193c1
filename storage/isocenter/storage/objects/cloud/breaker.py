"""Circuit breaker of an object store that is away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from isocenter.storage.objects.cloud.errors import BucketError

#: So many requests fail in a row before nobody is let through.
FAILURES: Final = 3
#: How long nobody is, the first time and at most; then one is let through as a trial.
PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 15.0


class Breaker:
    """Fails at once while the store is away.

    Args:
        place: the URL of the store.
    """

    def __init__(self, place: str, *, now: Callable[[], float] = trio.current_time) -> None:
        self._place = place
        self._now = now
        self._failures = 0
        self._pause = PAUSE_SECONDS
        self._closed_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the store is taken for away."""
        return self._failures >= FAILURES

    def check(self) -> None:
        """Raises:
        BucketError: the store is away, and it is not time yet to try again.
        """
        left = self._closed_until - self._now()
        if self.is_open and left > 0:
            raise BucketError(
                f"{self._place} does not answer; it is tried again in {left:.0f} s", is_away=True
            )

    def begin(self) -> None:
        """Before a request.

        Raises:
            BucketError: as of `check`.
        """
        self.check()
        if self.is_open:
            # This one is the trial; the others wait for what comes of it.
            self._closed_until = self._now() + self._pause

    def succeeded(self) -> None:
        """The store answered."""
        self._failures = 0
        self._pause = PAUSE_SECONDS

    def failed(self) -> None:
        """It did not."""
        self._failures += 1
        if self._failures > FAILURES:
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        if self.is_open:
            self._closed_until = self._now() + self._pause
