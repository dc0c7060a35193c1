"""Notes of keys that are about to be written, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from isocenter.services.archive.sweeping.ports import StagedKeys


class Intents:
    """Notes keys, many at a time: whoever comes first notes those of all who wait with it."""

    def __init__(self, keys: StagedKeys) -> None:
        self._keys = keys
        self._waiting: dict[str, list[_Wish]] = {}
        self._turn = trio.Lock()

    async def begin(self, key: str) -> bool:
        """Note *key*, durably; False: somebody has noted it before.

        Raises:
            StorageError: it could not be noted.
        """
        wish = _Wish()
        self._waiting.setdefault(key, []).append(wish)
        async with self._turn:
            if not wish.is_decided:
                waiting, self._waiting = self._waiting, {}
                with trio.CancelScope(shield=True):  # it is not only ours
                    await self._note(waiting)
        if wish.error is not None:
            raise wish.error
        return wish.is_granted

    async def _note(self, waiting: dict[str, list[_Wish]]) -> None:
        try:
            granted = await self._keys.begin(list(waiting))
        except Exception as error:
            for wishes in waiting.values():
                for wish in wishes:
                    wish.is_decided, wish.error = True, error
            return
        for wishes, is_granted in zip(waiting.values(), granted, strict=True):
            for place, wish in enumerate(wishes):
                wish.is_decided = True
                wish.is_granted = is_granted and place == 0

    async def end(self, keys: Sequence[str]) -> None:
        """Nothing is under *keys*.

        Raises:
            StorageError: the notes stay.
        """
        await self._keys.end(keys)


class _Wish:
    """One who waits."""

    __slots__ = ("error", "is_decided", "is_granted")

    def __init__(self) -> None:
        self.is_decided = False
        self.is_granted = False
        self.error: Exception | None = None
