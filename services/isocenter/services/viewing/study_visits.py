"""Studies that people look at, gathered from notices."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import time
from typing import Final

import trio

from isocenter.services.errors import StorageError
from isocenter.services.notices import InstancesRead, Notice
from isocenter.services.viewing.ports import RecentStudies, RecentStudy

log = logging.getLogger("isocenter.viewing")

#: How often what was gathered is written.
WRITE_SECONDS: Final = 2.0
#: Studies of one person that are kept.
MOST_STUDIES: Final = 100
#: Visits that wait to be written; of more, the first ones are forgotten.
_MOST_WAITING: Final = 10_000
#: Whoever scrolls through a study does not have each image written down.
_AGAIN_SECONDS: Final = 60.0
_MOST_KNOWN: Final = 50_000


class StudyVisits:
    """Notes who has read of which study over the web: people that the policy knows, by name."""

    #: Kinds of notices that it listens for.
    hears = (InstancesRead,)

    def __init__(self, recent: RecentStudies, *, now: Callable[[], float] = time) -> None:
        self._recent = recent
        self._now = now
        self._waiting: dict[tuple[str, str], float] = {}
        self._written: dict[tuple[str, str], float] = {}

    def on_notice(self, notice: Notice) -> None:
        """A listener of `Notices`."""
        if not isinstance(notice, InstancesRead) or not notice.caller.user:
            return
        key, now = (notice.caller.user, notice.study_instance_uid), self._now()
        if now - self._written.get(key, 0.0) >= _AGAIN_SECONDS:
            self._waiting[key] = now
            if len(self._waiting) > _MOST_WAITING:
                del self._waiting[next(iter(self._waiting))]

    async def run(self) -> None:
        """Write what was gathered, until cancelled."""
        while True:
            await self.write()
            await trio.sleep(WRITE_SECONDS)

    async def write(self) -> None:
        """Write what was gathered; what cannot be written now waits."""
        taken, self._waiting = self._waiting, {}
        if not taken:
            return
        seen = [
            (user, RecentStudy(study_instance_uid=study, accessed_at=moment))
            for (user, study), moment in taken.items()
        ]
        try:
            await self._recent.note(seen, most=MOST_STUDIES)
        except StorageError as error:
            log.warning("which studies are looked at cannot be kept now: %s", error)
            self._waiting = taken | self._waiting
            return
        if len(self._written) > _MOST_KNOWN:
            self._written.clear()
        self._written |= taken
