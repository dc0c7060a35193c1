"""Objects opened some at a time, to be sent or looked at."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from isocenter.services.archive.locks.reading import check_reading
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.reading import ReadableArchive
from isocenter.services.dicom.object_reader import ObjectReader

_AT_ONCE: Final = 8


class OpenedAhead:
    """Opens objects in the order in which they are asked for; an async context manager.

    A task of its own, as `read_ahead.ReadAhead` has, cannot live in the body of a response that is
    made while it is sent.  It is enough that several are opened in one hop to a thread, and that
    the system begins to fetch the next ones meanwhile.
    """

    def __init__(self, archive: ReadableArchive, instances: Sequence[StoredInstance]) -> None:
        self._archive = archive
        self._todo = deque(instances)
        self._opened: dict[str, ObjectReader | None] = {}

    async def open(self, stored: StoredInstance) -> ObjectReader:
        """As `Archive.open`."""
        check_reading()
        key = stored.object_key
        if key not in self._opened and self._todo:
            some = [self._todo.popleft() for _ in range(min(_AT_ONCE, len(self._todo)))]
            keys = [one.object_key for one in some]
            found = await self._archive.store.open_ahead(keys, reads=False)
            self._opened.update(zip(keys, found, strict=True))
        reader = self._opened.pop(key, None)
        if reader is None:
            return await self._archive.open(stored)
        return self._archive.opened(stored, reader)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close what was opened and not asked for."""
        while self._opened:
            _, reader = self._opened.popitem()
            if reader is not None:
                await reader.__aexit__(None, None, None)
