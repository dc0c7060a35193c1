"""Administration of tiers: their state, studies that people move and pin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import time
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.archive.tiers.ports import (
    TierBook,
    TierFault,
    TierOrder,
    TierPin,
    TierUsage,
)
from isocenter.services.archive.tiers.tier import InstanceAvailability, Tier

#: Has it recorded what somebody (second) wants of a study (first).
TierRecorder = Callable[[str, str, str], Awaitable[None]]

_MOST_SHOWN: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TierPlace:
    """A tier as the settings name it.

    Attributes:
        place: its URL; of the hot one, of the place of objects.
    """

    place: str
    availability: InstanceAvailability


@dataclass(frozen=True, slots=True, kw_only=True)
class TierStatus:
    """What is where, and what is to move; of long lists the first."""

    usage: Sequence[TierUsage]
    orders: Sequence[TierOrder]
    pins: Sequence[TierPin]
    faults: Sequence[TierFault]


class TierAdministration:
    """See the module.

    Args:
        places: the tiers that there are.
        now: seconds since 1970.
    """

    def __init__(
        self,
        book: TierBook,
        places: Mapping[Tier, TierPlace],
        record: TierRecorder,
        *,
        now: Callable[[], float] = time,
    ) -> None:
        self.places = places
        self._book = book
        self._record = record
        self._now = now

    async def status(self) -> TierStatus:
        """What is where now."""
        return TierStatus(
            usage=await self._book.usage(),
            orders=await self._book.orders(limit=_MOST_SHOWN),
            pins=await self._book.pins(),
            faults=await self._book.faults(limit=_MOST_SHOWN),
        )

    async def order(self, studies: Sequence[str], tier: Tier, requester: Requester) -> None:
        """Have studies moved.

        Raises:
            NotPermittedError: *requester* may not.
        """
        requester.check()
        now = self._now()
        await self._book.order(
            [
                TierOrder(study_instance_uid=study, tier=tier, actor=requester.name, at=now)
                for study in studies
            ]
        )
        for study in studies:
            await self._record(study, requester.name, f"is to be moved to the tier {tier.value}")

    async def pin(self, study: str, tier: Tier, requester: Requester, reason: str) -> None:
        """Keep a study in a tier, whatever rules say; it is moved there.

        Raises:
            NotPermittedError: *requester* may not.
        """
        requester.check()
        await self._book.pin(
            TierPin(
                study_instance_uid=study,
                tier=tier,
                actor=requester.name,
                reason=reason,
                at=self._now(),
            )
        )
        await self._record(study, requester.name, f"is kept in the tier {tier.value}: {reason}")
        await self._book.order(
            [TierOrder(study_instance_uid=study, tier=tier, actor=requester.name, at=self._now())]
        )

    async def unpin(self, study: str, requester: Requester) -> bool:
        """Let rules move it again; False: it was not pinned.

        Raises:
            NotPermittedError: *requester* may not.
        """
        requester.check()
        if not await self._book.unpin(study):
            return False
        await self._record(study, requester.name, "is moved by the rules of tiers again")
        return True
