"""Retention of studies by rule: what has expired, and its deletion.

Without rules nothing is deleted.  A rule deletes whole studies, into the trash, and never what is
held, is being promised, or has yet to reach a destination; what was promised (storage commitment)
only when the rule says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from time import time
from typing import Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services.archive.deletion.ports import Obstacles
from isocenter.services.archive.deletion.records import DeletionCause
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.deletion.values import Plan, Requester
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.retention.ports import RetentionBook
from isocenter.services.archive.retention.rules import RetentionRule

log = logging.getLogger("isocenter.storage")

#: How often the rules are looked at when there was nothing to do.
LOOK_SECONDS: Final = 3_600.0
_MINUTE_SECONDS: Final = 60.0
#: Deleted studies are gone from the next look; those that stay are remembered up to this.
_MOST_SKIPPED: Final = 10_000

_STUDY_INSTANCE_UID: Final = 0x0020000D


async def planned(trash: Trash, study_instance_uid: str) -> Plan:
    """What deleting a study would take."""
    criterion = Criterion(_STUDY_INSTANCE_UID, SingleValue(study_instance_uid))
    return await trash.plan(Query(level=Level.STUDY, criteria=(criterion,)))


async def keep_to(
    rules: Sequence[RetentionRule],
    book: RetentionBook,
    trash: Trash,
    *,
    studies_per_minute: int,
    now: Callable[[], float] = time,
) -> None:
    """Delete what is past its time, so many studies a minute, until cancelled.

    Args:
        now: seconds since 1970.
    """
    while True:
        for rule in rules:
            try:
                await _apply(rule, book, trash, studies_per_minute, now)
            except IsocenterError as error:
                log.error("retention rule %r rests: %s", rule.name, error)
        await trio.sleep(LOOK_SECONDS)


async def _apply(
    rule: RetentionRule,
    book: RetentionBook,
    trash: Trash,
    studies_per_minute: int,
    now: Callable[[], float],
) -> None:
    skipped: set[str] = set()
    requester = Requester(name="isocenter")
    deleted = 0
    while len(skipped) < _MOST_SKIPPED:
        # Asked anew each time: a study may have been used, or have grown.
        found = await book.candidates(rule, now(), limit=studies_per_minute + len(skipped))
        fresh = [each for each in found if each.study_instance_uid not in skipped]
        if not fresh:
            break
        studies: list[tuple[StoredInstance, ...]] = []
        for each in fresh[:studies_per_minute]:
            plan = await planned(trash, each.study_instance_uid)
            skipped.add(each.study_instance_uid)
            if plan.instances and rule.may_delete(plan.obstacles):
                studies += plan.studies
        if studies:
            plan = Plan(studies=tuple(studies), patients=0, obstacles=Obstacles())
            done = await trash.delete(
                plan,
                requester,
                f"retention rule {rule.name}",
                cause=DeletionCause.RETENTION,
                overrule=rule.although_promised,
            )
            deleted += done.instances
            # What was deleted is no candidate any more.
            skipped -= {study[0].study_instance_uid for study in studies}
            await trio.sleep(_MINUTE_SECONDS)
    if deleted:
        log.info("retention rule %r has deleted %d instances", rule.name, deleted)
