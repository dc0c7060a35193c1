"""Notes of keys that are about to be written, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from isocenter.services.archive.sweeping.ports import Announced, StagedKeys
from isocenter.services.concurrency import Gathered


class Intents:
    """Notes keys, many at a time."""

    def __init__(self, keys: StagedKeys) -> None:
        self._keys = keys
        self._wanted = Gathered[str, bool]()
        self._announced = Gathered[tuple[str, str, str], Announced]()

    async def begin(self, key: str) -> bool:
        """Note *key*, durably; False: somebody has noted it before.

        Raises:
            StorageError: it could not be noted.
        """
        return await self._wanted.ask(key, self._note)

    async def _note(self, keys: Sequence[str]) -> Sequence[bool]:
        unique = list(dict.fromkeys(keys))
        granted = dict(zip(unique, await self._keys.begin(unique), strict=True))
        # Of several who want the same, one has it.
        return [granted.pop(key, False) for key in keys]

    async def announce(self, key: str, sop_instance_uid: str, digest: str) -> Announced:
        """What the index has under the UID; unless it is that very object, *key* is noted, if
        nobody has noted it before.

        Raises:
            StorageError: it could not be noted.
        """
        return await self._announced.ask((key, sop_instance_uid, digest), self._keys.announce)

    async def end(self, keys: Sequence[str]) -> None:
        """Nothing is under *keys*.

        Raises:
            StorageError: the notes stay.
        """
        await self._keys.end(keys)
