"""Upkeep of the trash: expired deletions purged, interrupted ones finished."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import time
from typing import Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services.archive.deletion.ports import OF_ANY_CAUSE, TrashChoice
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.notices import Notices, TrashMeasured

log = logging.getLogger("isocenter.storage")

UPKEEP_SECONDS: Final = 30.0
#: In whose name what is over is removed.
_BY_ITSELF: Final = Requester(name="isocenter")


def _expired(at: float) -> TrashChoice:
    """What is over, for whatever cause it was deleted."""
    return TrashChoice(expired_at=at, causes=OF_ANY_CAUSE)


async def run_trash_upkeep(
    trash: Trash, notices: Notices, *, now: Callable[[], float] = time
) -> None:
    """Do it every `UPKEEP_SECONDS`, until cancelled; *now*: seconds since 1970."""
    while True:
        try:
            await trash.finish()
            purged = await trash.purge(_expired(now()), _BY_ITSELF)
            if purged:
                log.info("%d deleted objects were removed from the trash for good", purged)
            seen = await trash.book.statistics()
            notices.publish(
                TrashMeasured(
                    instances=seen.instances,
                    size=seen.size,
                    deleted=seen.deleted,
                    deleted_size=seen.deleted_size,
                    quarantined=seen.quarantined,
                    rejected=seen.rejected,
                )
            )
        except IsocenterError as error:
            log.error("the trash cannot be looked after: %s", error)
        await trio.sleep(UPKEEP_SECONDS)
