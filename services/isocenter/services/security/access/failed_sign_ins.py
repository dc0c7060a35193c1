"""Failed sign-ins, counted by address: guessing is not worth while."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.notices import Caller, WingNotice

#: Addresses whose failures are remembered.
_ADDRESSES_KEPT: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInFailed(WingNotice):
    """Somebody could not prove who it is, over HTTP.

    Attributes:
        kind: ``api_token``, ``jwt`` or ``certificate``.
        why: in words, without what was shown.
    """

    caller: Caller
    kind: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRules:
    """How many failures from one address there may be, and for how long they count."""

    most: int = 10
    seconds: float = 60.0


class FailedSignIns:
    """Failures by address, of associations and of web requests together."""

    def __init__(self, rules: FailureRules | None = None) -> None:
        self.rules = rules or FailureRules()
        #: Address → when failures there began to count, and how many there were.
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def has_failed_often(self, host: str) -> bool:
        """Whether nothing that comes from there is looked at for the moment."""
        return self.seconds_left(host) > 0

    def seconds_left(self, host: str) -> float:
        """Until something that comes from there is looked at again; 0: it is now."""
        began, count = self._failures.get(host, (0.0, 0))
        if count < self.rules.most:
            return 0.0
        return max(began + self.rules.seconds - trio.current_time(), 0.0)

    def count(self, host: str) -> None:
        """One more from there."""
        now = trio.current_time()
        began, count = self._failures.pop(host, (now, 0))
        if now - began >= self.rules.seconds:
            began, count = now, 0
        self._failures[host] = began, count + 1
        if len(self._failures) > _ADDRESSES_KEPT:
            self._failures.popitem(last=False)
