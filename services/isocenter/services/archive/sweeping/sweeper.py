"""Sweeper of objects that are in a store and not in the index."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import time
from typing import Final

import trio

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.sweeping.ports import StagedKeys
from isocenter.services.errors import StorageError

_log = logging.getLogger("isocenter.storage")

#: Nothing takes so long from the note of a key to the row in the index; and a request to a store
#: that timed out here is not carried out there so much later.
AGE_SECONDS: Final = 3600.0
_EVERY_SECONDS: Final = 600.0
_AT_ONCE: Final = 500


class Sweeper:
    """Removes what has a note of its key that is older than *age_seconds*.

    Several may be at work, in any process.
    """

    def __init__(
        self,
        archive: Archive,
        keys: StagedKeys,
        *,
        age_seconds: float = AGE_SECONDS,
        now: Callable[[], float] = time,
    ) -> None:
        self._archive = archive
        self._keys = keys
        self._age = age_seconds
        self._now = now

    async def sweep(self) -> int:
        """One pass; how many objects it removed.

        Raises:
            StorageError: index or store failed; what is left, the next pass removes.
        """
        removed = 0
        while True:
            # Nobody names them, and from here on nobody takes them up.
            keys = sorted(await self._keys.claim_overdue(self._now() - self._age, _AT_ONCE))
            if not keys:
                return removed
            await self._archive.remove_unnamed(keys)
            await self._keys.end(keys)
            removed += len(keys)

    async def run(self) -> None:
        """Sweep now and then, until cancelled."""
        while True:
            try:
                removed = await self.sweep()
                if removed:
                    _log.info(
                        "swept %d objects from the store that the index does not have", removed
                    )
            except StorageError as error:
                _log.warning("the store was not swept: %s", error)
            await trio.sleep(_EVERY_SECONDS)
