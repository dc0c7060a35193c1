"""Reader of an object that tells for how long it was open."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Self

from isocenter.engine.buffers import Buffer
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.errors import StorageError

#: Is told once, in the task that reads: the seconds from the wish for the object to its end, and
#: whether reading failed.  Must not wait.
ReadingEnded = Callable[[float, bool], None]


class WatchedReader:
    """An `ObjectReader`; where the one inside is file-backed, so is this one."""

    def __init__(self, reader: ObjectReader, began: float, on_end: ReadingEnded) -> None:
        self._reader = reader
        self._began = began
        self._on_end: ReadingEnded | None = on_end
        self._has_failed = False

    def __getattr__(self, name: str) -> Any:
        """What only some readers have, such as the descriptor of a file."""
        return getattr(self._reader, name)

    @property
    def size(self) -> int:
        return self._reader.size

    async def read(self, offset: int, length: int) -> bytes:
        """See `ObjectReader.read`."""
        try:
            return await self._reader.read(offset, length)
        except StorageError:
            self._has_failed = True
            raise

    async def view(self, offset: int, length: int) -> Buffer:
        """See `ObjectReader.view`."""
        try:
            return await self._reader.view(offset, length)
        except StorageError:
            self._has_failed = True
            raise

    def close(self) -> None:
        """See `FileBacked.close`."""
        self._tell()
        close: Callable[[], None] | None = getattr(self._reader, "close", None)
        if close is not None:
            close()

    async def __aenter__(self) -> Self:
        await self._reader.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._tell()
        await self._reader.__aexit__(*exc)

    def _tell(self) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(monotonic() - self._began, self._has_failed)
