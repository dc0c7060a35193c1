"""Notes of keys for a bucket that is a tier: none are needed."""

from __future__ import annotations

from collections.abc import Sequence

from isocenter.services.archive.sweeping.ports import Announced


class NoNotes:
    """See `isocenter.services.archive.sweeping.ports.StagedKeys`; each key is used once."""

    async def begin(self, keys: Sequence[str]) -> Sequence[bool]:
        """See `StagedKeys.begin`."""
        return [True] * len(keys)

    async def announce(self, wanted: Sequence[tuple[str, str, str]]) -> Sequence[Announced]:
        """See `StagedKeys.announce`."""
        return [Announced(None, is_noted=True)] * len(wanted)

    async def end(self, keys: Sequence[str]) -> None:
        """See `StagedKeys.end`."""

    async def claim_overdue(self, before: float, limit: int) -> Sequence[str]:
        """See `StagedKeys.claim_overdue`."""
        return ()

    async def count(self) -> int:
        """See `StagedKeys.count`."""
        return 0
