"""Retention of studies by rule: what has expired, and its deletion.

Without rules nothing is deleted.  A rule deletes whole studies, into the trash, and never what is
held, is being promised, or has yet to reach a destination; what was promised (storage commitment)
only when the rule says so.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import field
from time import time
from typing import Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.deletion.ports import Obstacles
from isocenter.services.archive.deletion.records import DeletionCause
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.deletion.values import Deleted, Plan, Requester
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.retention.fullness import Excess
from isocenter.services.archive.retention.ports import Candidate, RetentionBook
from isocenter.services.archive.retention.rules import RetentionRule

log = logging.getLogger("isocenter.storage")

#: How often the rules are looked at when there was nothing to do.
LOOK_SECONDS: Final = 3_600.0
_MINUTE_SECONDS: Final = 60.0
#: Deleted studies are gone from the next look; those that stay are remembered up to this.
_MOST_SKIPPED: Final = 10_000

_STUDY_INSTANCE_UID: Final = 0x0020000D


async def always(percent: int) -> int:
    """For archives whose disk nobody looks at: a rule is always to be kept to."""
    return sys.maxsize


@dataclass(slots=True, kw_only=True)
class RetentionLook:
    """What a rule would delete now.

    Attributes:
        going: in the order in which they go.
        kept: past their time, too, but something is against it: that, in words.
        is_cut: there are more than were looked at.
    """

    going: list[Candidate] = field(default_factory=list)
    kept: list[tuple[Candidate, list[str]]] = field(default_factory=list)
    is_cut: bool = False

    @property
    def instances(self) -> int:
        return sum(each.instances for each in self.going)

    @property
    def size(self) -> int:
        """Bytes of Part 10 files."""
        return sum(each.size for each in self.going)


async def look(
    rule: RetentionRule,
    book: RetentionBook,
    trash: Trash,
    excess: Excess,
    now: float,
    *,
    limit: int,
) -> RetentionLook:
    """What a rule would delete now; nothing is changed.

    Raises:
        StorageError: that cannot be known now.
    """
    found = RetentionLook()
    left = await _left(rule, excess)
    candidates = await book.candidates(rule, now, limit=limit) if left > 0 else ()
    found.is_cut = len(candidates) == limit
    for each in candidates:
        if left <= 0:
            found.is_cut = False
            break
        plan = await planned(trash, each.study_instance_uid)
        if rule.may_delete(plan.obstacles):
            found.going.append(each)
            left -= each.size
        else:
            found.kept.append((each, plan.obstacles.texts()))
    unproven = await book.unproven(rule, now, limit=limit)
    found.is_cut = found.is_cut or len(unproven) == limit
    found.kept += [(each.candidate, each.texts()) for each in unproven]
    return found


async def _left(rule: RetentionRule, excess: Excess) -> int:
    """Bytes that are to go by a rule."""
    return await excess(rule.disk_percent) if rule.disk_percent else sys.maxsize


async def planned(trash: Trash, study_instance_uid: str) -> Plan:
    """What deleting a study would take."""
    criterion = Criterion(_STUDY_INSTANCE_UID, SingleValue(study_instance_uid))
    return await trash.plan(Query(level=Level.STUDY, criteria=(criterion,)))


async def apply_once(
    rule: RetentionRule,
    found: RetentionLook,
    trash: Trash,
    requester: Requester,
    reason: str,
) -> Deleted:
    """Delete what *found* says goes, study by study, as it is now; what is in use stays.

    Raises:
        StorageError: it cannot be done now.
    """
    studies: list[tuple[StoredInstance, ...]] = []
    for each in found.going:
        plan = await planned(trash, each.study_instance_uid)
        if plan.instances and rule.may_delete(plan.obstacles):
            studies += plan.studies
    plan = Plan(studies=tuple(studies), patients=0, obstacles=Obstacles())
    return await trash.delete(
        plan,
        requester,
        reason,
        cause=DeletionCause.RETENTION,
        overrule=rule.although_promised,
        passes_refused=True,
    )


async def keep_to(
    rules: Callable[[], Sequence[RetentionRule]],
    book: RetentionBook,
    trash: Trash,
    *,
    studies_per_minute: int,
    excess: Excess = always,
    now: Callable[[], float] = time,
) -> None:
    """Delete what is past its time, so many studies a minute, until cancelled.

    Args:
        rules: those that hold now.
        excess: for rules that look at the disk.
        now: seconds since 1970.
    """
    while True:
        for rule in rules():

            def holds(rule: RetentionRule = rule) -> bool:
                return rule in rules()

            try:
                await _apply(rule, holds, book, trash, studies_per_minute, excess, now)
            except IsocenterError as error:
                log.error("retention rule %r rests: %s", rule.name, error)
        await trio.sleep(LOOK_SECONDS)


async def _apply(
    rule: RetentionRule,
    holds: Callable[[], bool],
    book: RetentionBook,
    trash: Trash,
    studies_per_minute: int,
    excess: Excess,
    now: Callable[[], float],
) -> None:
    skipped: set[str] = set()
    requester = Requester(name="isocenter")
    deleted = 0
    # A rule that somebody changes or switches off ends here: what it deletes may take days.
    while len(skipped) < _MOST_SKIPPED and holds():
        # Asked anew each time: a study may have been used, or have grown.
        left = await _left(rule, excess)
        if left <= 0:
            break
        found = await book.candidates(rule, now(), limit=studies_per_minute + len(skipped))
        fresh = [each for each in found if each.study_instance_uid not in skipped]
        if not fresh:
            break
        studies: list[tuple[StoredInstance, ...]] = []
        for each in fresh[:studies_per_minute]:
            if left <= 0:
                break
            plan = await planned(trash, each.study_instance_uid)
            skipped.add(each.study_instance_uid)
            if plan.instances and rule.may_delete(plan.obstacles):
                studies += plan.studies
                left -= plan.size
        if studies:
            plan = Plan(studies=tuple(studies), patients=0, obstacles=Obstacles())
            done = await trash.delete(
                plan,
                requester,
                f"retention rule {rule.name}",
                cause=DeletionCause.RETENTION,
                overrule=rule.although_promised,
                passes_refused=True,
            )
            deleted += done.instances
            # What was deleted is no candidate any more; what somebody reads is seen by the next
            # look again.
            skipped -= {study[0].study_instance_uid for study in studies} - done.refused
            await trio.sleep(_MINUTE_SECONDS)
    if deleted:
        log.info("retention rule %r has deleted %d instances", rule.name, deleted)
