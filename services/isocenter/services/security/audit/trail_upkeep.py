"""Upkeep of a trail: segments compressed, and removed by rule."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services.errors import text_of
from isocenter.services.security.audit.repository import SyslogRepository
from isocenter.services.security.audit.trail_compression import compress_closed
from isocenter.services.security.audit.trail_removal import RemovalPlan, plan_removal, remove

log = logging.getLogger("isocenter.audit")

#: How often there is a look for files that have got a successor.
LOOK_SECONDS: Final = 60.0
#: How often there is one for files that are old enough to go.
REMOVAL_SECONDS: Final = 3_600.0

#: Has the audit message of a removal recorded, durably, before anything goes.
RecordRemoval = Callable[[RemovalPlan], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How a trail is kept.

    Attributes:
        compress: files that do not change any more.
        keep_days: older files are removed; 0: never.
        collectors: that must have what is removed.
    """

    compress: bool
    keep_days: int
    key: bytes | None
    collectors: Sequence[SyslogRepository] = ()


async def run_trail_upkeep(
    folder: Path,
    keeping: Keeping,
    record: RecordRemoval,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Compress and remove until cancelled; one process for all does it."""
    compressing = _Fault("files of the audit trail are not compressed")
    removing = _Fault("old files of the audit trail are not removed")
    next_removal = 0.0
    while True:
        if keeping.compress:
            await compressing.told_of(_compress, folder)
        if keeping.keep_days and trio.current_time() >= next_removal:
            before = now() - timedelta(days=keeping.keep_days)
            await removing.told_of(_remove, folder, keeping, before, record)
            next_removal = trio.current_time() + REMOVAL_SECONDS
        await trio.sleep(LOOK_SECONDS)


class _Fault:
    """Says what does not work once, and again when it is something else."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._told = ""

    async def told_of(self, work: Callable[..., None], *arguments: object) -> None:
        """Do *work* in a thread; when cancelled, not before it has stopped by itself."""
        try:
            await trio.to_thread.run_sync(work, *arguments)
        except (OSError, IsocenterError) as error:
            text = text_of(error)
            if text != self._told:
                log.error("%s: %s", self._what, text)
            self._told = text
        else:
            self._told = ""


def _compress(folder: Path) -> None:
    done = compress_closed(folder, trio.from_thread.check_cancelled)
    if done.files:
        log.info(
            "%d files of the audit trail compressed, %d bytes to %d",
            done.files,
            done.before,
            done.after,
        )


def _remove(folder: Path, keeping: Keeping, before: datetime, record: RecordRemoval) -> None:
    plan = plan_removal(folder, before, key=keeping.key, collectors=keeping.collectors)
    if plan is not None:
        record(plan)
        remove(folder, plan, key=keeping.key)
        log.info("%s of the audit trail removed: %s", plan.files, plan.removal)
