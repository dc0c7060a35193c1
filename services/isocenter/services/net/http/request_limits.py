"""Bounds on requests of one caller: at once, and for each second."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from typing import Final

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.net.http.messages import HttpError

#: Callers whose rate is remembered; who has been quiet for the longest is forgotten.
_CALLERS_KEPT: Final = 4_096
#: What a caller may ask for at once after a pause, in seconds of its rate.
_BURST_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """What one caller may ask for; 0: there is no bound.

    Attributes:
        at_once: requests under way.
        per_second: requests in each second, twice as many after a pause.
    """

    at_once: int = 0
    per_second: int = 0


class RequestLimiter:
    """Lets the requests of each caller through, as far as its bounds allow.

    Args:
        on_limit: told which bound was reached.
    """

    def __init__(
        self, limits: RequestLimits, on_limit: Callable[[str], None] = lambda limit: None
    ) -> None:
        self._limits = limits
        self._on_limit = on_limit
        self._under_way: Counter[str] = Counter()
        #: Caller → how many requests it has left, and when that was so.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @contextmanager
    def one_more(self, caller: str) -> Iterator[None]:
        """A request of *caller* is under way while the context lasts.

        Raises:
            HttpError: it asks for too much (429).
        """
        most = self._limits.at_once
        if most and self._under_way[caller] >= most:
            self._on_limit("requests_per_caller")
            raise _too_many(f"{most} requests at once are allowed; wait for the answers", 1)
        if self._limits.per_second:
            wait = self._take(caller)
            if wait:
                self._on_limit("request_rate")
                raise _too_many(f"{self._limits.per_second} requests a second are allowed", wait)
        self._under_way[caller] += 1
        try:
            yield
        finally:
            self._under_way[caller] -= 1
            if not self._under_way[caller]:
                del self._under_way[caller]

    def _take(self, caller: str) -> int:
        """Seconds that it has to wait; 0: one is taken."""
        rate = self._limits.per_second
        now = trio.current_time()
        most = rate * _BURST_SECONDS
        left, when = self._left.pop(caller, (most, now))
        left = min(left + (now - when) * rate, most)
        is_enough = left >= 1
        self._left[caller] = (left - 1 if is_enough else left, now)
        if len(self._left) > _CALLERS_KEPT:
            self._left.popitem(last=False)
        return 0 if is_enough else max(ceil((1 - left) / rate), 1)


def _too_many(message: str, seconds: int) -> HttpError:
    return HttpError(429, "TOO_MANY_REQUESTS", message, [("retry-after", str(seconds))])
