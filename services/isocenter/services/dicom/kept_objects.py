"""Objects that were made, kept for whoever opens them again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Self

import trio

from isocenter.engine.buffers import Buffer
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.objects import DicomObject


class KeptObjects:
    """The objects that were made last.

    Args:
        most: of them; each may be an open file.
        most_bytes: of all together; larger ones are made each time.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._kept: OrderedDict[str, _Made] = OrderedDict()
        self._making: dict[str, trio.Lock] = {}

    async def open(self, name: str, make: Callable[[], Awaitable[ObjectReader]]) -> ObjectReader:
        """A reader of the object called *name*; who asks at the same time waits for the first."""
        lock = self._making.setdefault(name, trio.Lock())
        try:
            async with lock:
                made = self._kept.get(name)
                if made is None:
                    made = self._keep(name, _Made(await make()))
                else:
                    self._kept.move_to_end(name)
                return made.opened()
        finally:
            if not lock.locked() and self._making.get(name) is lock:
                del self._making[name]

    def keeping(self, item: DicomObject) -> DicomObject:
        """*item*, which is made once, as long as it is kept."""

        async def open_object() -> ObjectReader:
            return await self.open(item.sop_instance_uid, item.open)

        return replace(item, open=open_object)

    def close(self) -> None:
        """Let go of all; readers that are open go on."""
        while self._kept:
            self._kept.popitem()[1].end()

    def _keep(self, name: str, made: _Made) -> _Made:
        if made.size <= self._most_bytes:
            self._kept[name] = made.shared()
            while len(self._kept) > self._most or (
                len(self._kept) > 1
                and sum(one.size for one in self._kept.values()) > self._most_bytes
            ):
                self._kept.popitem(last=False)[1].end()
        return made


class _Made:
    """An object that was made, for as long as somebody reads it, or it is kept."""

    def __init__(self, reader: ObjectReader) -> None:
        self._reader = reader
        self.size = reader.size
        self._users = 0

    def shared(self) -> Self:
        """One user more."""
        self._users += 1
        return self

    def opened(self) -> ObjectReader:
        """A reader of it."""
        return _SharedReader(self.shared(), self._reader)

    def end(self) -> None:
        """One user less; without any the object goes."""
        self._users -= 1
        if not self._users:
            close = getattr(self._reader, "close", None)
            if close is not None:
                close()


class _SharedReader:
    """An `ObjectReader` of what others read as well."""

    def __init__(self, made: _Made, reader: ObjectReader) -> None:
        self._made: _Made | None = made
        self._reader = reader
        self.size = reader.size

    async def read(self, offset: int, length: int) -> bytes:
        """See `ObjectReader.read`."""
        return await self._reader.read(offset, length)

    async def view(self, offset: int, length: int) -> Buffer:
        """See `ObjectReader.view`."""
        return await self._reader.view(offset, length)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let it go."""
        made, self._made = self._made, None
        if made is not None:
            made.end()
