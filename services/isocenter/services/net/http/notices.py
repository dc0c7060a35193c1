"""Notices of HTTP: requests that were answered, and limits that were reached."""

from __future__ import annotations

from isocenter.engine.fast_init import dataclass
from isocenter.services.notices import WingNotice


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAnswered(WingNotice):
    """A request is over; nothing in it tells of a patient.

    Attributes:
        method: of those that routes have; another is ``other``.
        route: its path, with the places unfilled; empty: there is none.
        status: 499: the caller had gone, or the answer was not sent as a whole.
        size: bytes of the answer's body.
        seconds: from its head to the end of the answer.
    """

    method: str
    route: str
    status: int
    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class HttpLimitReached(WingNotice):
    """A bound kept somebody out, or ended what somebody did.

    Attributes:
        limit: as `HttpLimits`, or the setting, calls it.
    """

    limit: str
