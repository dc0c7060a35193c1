"""Worker of tiers: what was ordered, and what rules say."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from time import time
from typing import Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.tiers.mover import MoveReport, TierMover
from isocenter.services.archive.tiers.ports import TierBook, TierUsage
from isocenter.services.archive.tiers.tier import TierRule
from isocenter.services.notices import WingNotice

log = logging.getLogger("isocenter.storage")

#: How often orders are looked for.
LOOK_SECONDS: Final = 5.0
_AT_ONCE: Final = 100
_MEASURE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TiersMeasured(WingNotice):
    """What each tier has."""

    usage: Sequence[TierUsage]


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleLimits:
    """What rules may move in one cycle.

    Attributes:
        interval: seconds from one cycle to the next.
        instances, size: after so many instances or bytes the rest waits for the next one.
    """

    interval: float = 3_600.0
    instances: int = 10_000
    size: int = 10 << 30


async def work_off_orders(
    book: TierBook, mover: TierMover, report: MoveReport, *, limit: int = _AT_ONCE
) -> None:
    """Move what was ordered, that which somebody waits for first.

    Raises:
        StorageError: a store or the database is away; the orders stay.
    """
    for order in await book.orders(limit=limit):
        busy = report.busy
        await mover.move(
            order.study_instance_uid,
            order.tier,
            report,
            person=order.actor,
            waits=bool(order.tier.depth),
        )
        if report.busy == busy:
            await book.fulfilled(order)


async def apply_rules(
    rules: Sequence[TierRule],
    book: TierBook,
    mover: TierMover,
    report: MoveReport,
    limits: CycleLimits,
    now: float,
) -> None:
    """Move what rules say, as far as the limits go.

    Raises:
        StorageError: a store or the database is away.
    """
    for rule in rules:
        tried: set[str] = set()
        while candidates := [
            study
            for study in await book.candidates(rule, now, limit=_AT_ONCE + len(tried))
            if study not in tried
        ]:
            for study in candidates:
                if report.instances >= limits.instances or report.size >= limits.size:
                    return
                await mover.move(study, rule.tier, report, by_rule=True)
                # What could not be moved is there again.
                tried.add(study)


async def run_tiers(
    rules: Callable[[], Sequence[TierRule]],
    book: TierBook,
    mover: TierMover,
    limits: CycleLimits,
    *,
    on_measured: Callable[[TiersMeasured], None] = lambda measured: None,
    now: Callable[[], float] = time,
) -> None:
    """Work off orders as they come, and rules in cycles, until cancelled."""
    due = measured_at = trio.current_time()
    while True:
        report = MoveReport()
        try:
            await mover.recover()
            await work_off_orders(book, mover, report)
            if trio.current_time() >= due:
                due = trio.current_time() + limits.interval
                await apply_rules(rules(), book, mover, report, limits, now())
            if trio.current_time() >= measured_at:
                measured_at = trio.current_time() + _MEASURE_SECONDS
                on_measured(TiersMeasured(usage=await book.usage()))
        except IsocenterError as error:
            log.warning("moving between tiers rests: %s", error)
        except Exception as error:
            log.error("moving between tiers failed (%s)", type(error).__name__)
        if report.instances or report.failed:
            log.info(
                "%d objects (%d bytes) have another tier, %d could not be moved",
                report.instances,
                report.size,
                report.failed,
            )
        await trio.sleep(LOOK_SECONDS)
