"""Usage of the room of an archive, by modality and by day."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from time import time
from typing import Final

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.usage.ports import Usage, UsageBook
from isocenter.services.errors import StorageError

log = logging.getLogger("isocenter.storage")

#: So old may figures be before they are counted again, when somebody asks: it reads all rows.
_OLD_SECONDS: Final = 3_600.0
_WEEK: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """Objects and their bytes."""

    instances: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedUsage:
    """What was counted.

    Attributes:
        at: when, in seconds since 1970.
        by_modality: the one with the most bytes first.
        by_month: by 2026-11, the latest first.
        bytes_a_day: that came on the average of the last week.
    """

    at: float
    by_modality: Mapping[str, Total]
    by_month: Mapping[str, Total]
    bytes_a_day: float


def summed(rows: Sequence[Usage], now: float) -> CountedUsage:
    """Rows as people ask for them."""
    modalities: dict[str, list[Usage]] = defaultdict(list)
    months: dict[str, list[Usage]] = defaultdict(list)
    today = datetime.fromtimestamp(now, UTC).date()
    since = (today - timedelta(days=_WEEK)).isoformat()
    last_week = 0
    for one in rows:
        modalities[one.modality].append(one)
        months[one.day[: len("2026-11")]].append(one)
        if since <= one.day < today.isoformat():
            last_week += one.size
    by_modality = {name: _total(some) for name, some in modalities.items()}
    return CountedUsage(
        at=now,
        by_modality=dict(sorted(by_modality.items(), key=lambda one: -one[1].size)),
        by_month={name: _total(months[name]) for name in sorted(months, reverse=True)},
        bytes_a_day=last_week / _WEEK,
    )


def _total(rows: Sequence[Usage]) -> Total:
    return Total(instances=sum(one.instances for one in rows), size=sum(one.size for one in rows))


def filled_on(free: float, bytes_a_day: float, today: date) -> date | None:
    """When so many bytes will have come; None: nobody can say."""
    if bytes_a_day <= 0 or free <= 0:
        return None
    days = free / bytes_a_day
    return today + timedelta(days=int(days)) if days < 36_500 else None


class UsageFigures:
    """Has usage counted beside what else is done, when somebody asks and it is old."""

    def __init__(self, book: UsageBook, now: Callable[[], float] = time) -> None:
        self._book = book
        self._now = now
        self._latest: CountedUsage | None = None
        self._wanted = trio.Event()

    def latest(self) -> CountedUsage | None:
        """What was counted last; None: it is being counted for the first time."""
        if self._latest is None or self._now() - self._latest.at >= _OLD_SECONDS:
            self._wanted.set()
        return self._latest

    async def run(self) -> None:
        """Count when it is wanted, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            try:
                await self.count()
            except StorageError as error:
                log.warning("what is kept could not be counted: %s", error)

    async def count(self) -> None:
        """Count now.

        Raises:
            StorageError: it cannot be counted.
        """
        self._latest = summed(await self._book.usage(), self._now())
