"""Recall of objects that are not on line, for whoever wants to read one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import time
from typing import Final, Literal

import trio

from isocenter.engine.error_codes import ErrorCode
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.object_keys import sop_instance_uid_of
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.retention.ports import RetentionBook
from isocenter.services.archive.tiers.mover import TierMover
from isocenter.services.archive.tiers.ports import TierBook, TieredObjects, TierOrder
from isocenter.services.archive.tiers.tier import InstanceAvailability, Tier, tier_of
from isocenter.services.errors import StorageError

log = logging.getLogger("isocenter.storage")

#: ``wait``: whoever reads waits until the object is back; ``refuse``: asks again later.
RecallAnswer = Literal["wait", "refuse"]

_AT_ONCE: Final = 4
_LOOK_SECONDS: Final = 0.2
_ORDER_AGAIN_SECONDS: Final = 60.0
_MOST_REMEMBERED: Final = 10_000


class NotOnLineError(StorageError):
    """An object is not where it can be read; the message says whether it will be."""

    error_code = ErrorCode.TIER


class Recaller:
    """Brings objects back: `recall` is for `Archive`.

    The rest of the study is ordered as well, since who reads one reads the others.

    Args:
        seconds: how long whoever reads waits for an object.
    """

    def __init__(
        self,
        archive: Archive,
        book: TierBook,
        objects: TieredObjects,
        mover: TierMover,
        uses: RetentionBook,
        *,
        answer: RecallAnswer,
        seconds: float,
    ) -> None:
        self._archive = archive
        self._book = book
        self._objects = objects
        self._mover = mover
        self._uses = uses
        self._answer = answer
        self._seconds = seconds
        self._turns = trio.CapacityLimiter(_AT_ONCE)
        self._ordered: dict[str, float] = {}

    async def recall(self, key: str) -> str:
        """The key under which the object can be read.

        Raises:
            KeyError: the archive has it no more.
            NotOnLineError: it cannot be read now.
        """
        if self._objects.availability_of(key) is InstanceAvailability.ONLINE:
            return key
        stored = await self._stored(key)
        if self._is_readable(stored):
            return stored.object_key
        tier = tier_of(stored.object_key)
        if self._objects.availability_of(stored.object_key) is InstanceAvailability.OFFLINE:
            raise NotOnLineError(
                f"instance {stored.sop_instance_uid} is in the tier {tier.value}, which is off "
                "line; have its study brought back with isocenter tiers move --to hot",
                comment="stored off line; ask the archive's staff for it",
            )
        await self._order(stored.study_instance_uid)
        if self._answer == "wait":
            with trio.move_on_after(self._seconds):
                return await self._bring_back(stored)
        raise NotOnLineError(
            f"instance {stored.sop_instance_uid} is being brought back from the tier {tier.value}",
            out_of_resources=True,
            comment="it is being brought back; ask again later",
        )

    async def check(self, instances: Sequence[StoredInstance]) -> None:
        """Before the first of several is read.

        Raises:
            NotOnLineError: one cannot be read now, and whoever reads is not to wait for it.
        """
        for stored in instances:
            found = self._objects.availability_of(stored.object_key)
            if found is InstanceAvailability.OFFLINE or (
                found is InstanceAvailability.NEARLINE and self._answer == "refuse"
            ):
                await self.recall(stored.object_key)

    async def _bring_back(self, stored: StoredInstance) -> str:
        while True:
            async with self._turns:
                if await self._mover.recall(stored):
                    log.debug("instance %s was brought back", stored.sop_instance_uid)
            # By us, or by whoever else had begun to.
            stored = await self._stored(stored.object_key)
            if self._is_readable(stored):
                return stored.object_key
            await trio.sleep(_LOOK_SECONDS)

    async def _stored(self, key: str) -> StoredInstance:
        uid = sop_instance_uid_of(key)
        known = {} if uid is None else await self._archive.index.get([uid])
        if uid is None or uid not in known:
            raise KeyError("no such object")
        return known[uid]

    def _is_readable(self, stored: StoredInstance) -> bool:
        found = self._objects.availability_of(stored.object_key)
        return found is InstanceAvailability.ONLINE

    async def _order(self, study_instance_uid: str) -> None:
        now = trio.current_time()
        if now < self._ordered.get(study_instance_uid, 0.0):
            return
        if len(self._ordered) > _MOST_REMEMBERED:
            self._ordered.clear()
        self._ordered[study_instance_uid] = now + _ORDER_AGAIN_SECONDS
        await self._book.order([TierOrder(study_instance_uid=study_instance_uid, tier=Tier.HOT)])
        # What is read today, no rule takes away tomorrow.
        await self._uses.note_use([study_instance_uid], time())
