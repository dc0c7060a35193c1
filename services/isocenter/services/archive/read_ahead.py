"""Reading ahead: the next objects of a transfer, opened while others are sent."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from isocenter.services.archive.locks.reading import check_reading
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.reading import ReadableArchive
from isocenter.services.concurrency import Broadcast, open_plain_nursery
from isocenter.services.dicom.object_reader import ObjectReader

#: Objects of one transfer that are open before they are asked for.
_DEPTH: Final = 8
#: So many are opened together: a hop to a thread costs more than opening one.
_AT_ONCE: Final = 4


class ReadAhead:
    """Opens the objects of a transfer shortly before they are asked for.

    It begins when the first one is asked for, and counts on about the order that is given; any
    other order is right as well, and slower.
    """

    def __init__(self, archive: ReadableArchive, instances: Iterable[StoredInstance]) -> None:
        self.archive = archive
        by_uid = {stored.sop_instance_uid: stored for stored in instances}
        self._todo = deque(by_uid.values())
        #: SOP Instance UIDs that were neither opened nor asked for.
        self._planned = set(by_uid)
        #: By SOP Instance UID, what nobody has asked for yet, the oldest first.
        self._ready: dict[str, ObjectReader] = {}
        #: Whoever looks at what is ready looks again.
        self._changed = Broadcast()
        #: `run` waits for this, and not for the disk.
        self._wanted = Broadcast()
        self._is_waiting = True

    async def open(self, stored: StoredInstance) -> ObjectReader:
        """As `Archive.open`."""
        uid = stored.sop_instance_uid
        if self._is_waiting and len(self._ready) <= _DEPTH - _AT_ONCE:
            self._wake()
        while uid in self._planned and not self._is_waiting:
            await self._changed.wait()
        check_reading()
        reader = self._ready.pop(uid, None)
        if reader is not None:
            return self.archive.opened(stored, reader)
        self._planned.discard(uid)
        if self._is_waiting and self._ready:
            # They are asked for in another order, or some are not asked for at all.
            await _close(self._ready.pop(next(iter(self._ready))))
        return await self.archive.open(stored)

    async def run(self) -> None:
        """Open one after the other, as long as there is room."""
        at_once = 1  # somebody waits for the first
        while True:
            while self._is_waiting:
                await self._wanted.wait()
            batch = self._next(at_once)
            if not batch:
                return
            opened = await self.archive.store.open_ahead([one.object_key for one in batch])
            for stored, reader in zip(batch, opened, strict=True):
                uid = stored.sop_instance_uid
                if reader is not None:
                    self._ready[uid] = reader
                self._planned.discard(uid)
            self._is_waiting = len(self._ready) > _DEPTH - _AT_ONCE
            self._changed.send()
            at_once = _AT_ONCE

    def _wake(self) -> None:
        self._is_waiting = False
        self._wanted.send()

    def _next(self, count: int) -> Sequence[StoredInstance]:
        batch: list[StoredInstance] = []
        while self._todo and len(batch) < count:
            stored = self._todo.popleft()
            if stored.sop_instance_uid in self._planned:
                batch.append(stored)
        return batch

    async def close(self) -> None:
        """Close what was opened and not asked for."""
        while self._ready:
            await _close(self._ready.popitem()[1])


async def _close(reader: ObjectReader) -> None:
    await reader.__aexit__(None, None, None)


@asynccontextmanager
async def reading_ahead(
    archive: ReadableArchive, instances: Iterable[StoredInstance]
) -> AsyncIterator[ReadAhead]:
    """A `ReadAhead` at work, for as long as *instances* are sent."""
    ahead = ReadAhead(archive, instances)
    try:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(ahead.run)
            yield ahead
            nursery.cancel_scope.cancel()
    finally:
        await ahead.close()
