"""Port of the usage of the room of an archive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from isocenter.engine.fast_init import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What came of one modality on one day, and is there still.

    Attributes:
        day: as 2026-11-30, in UTC.
        size: in bytes of Part 10 files.
    """

    modality: str
    day: str
    instances: int
    size: int


class UsageBook(Protocol):
    """Counts what is kept."""

    async def usage(self) -> Sequence[Usage]:
        """All of it; reads each row of the index.

        Raises:
            StorageError: it cannot be counted.
        """
        ...
