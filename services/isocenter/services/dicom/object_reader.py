"""Reading the bytes of one object, wherever they are."""

from __future__ import annotations

from typing import Protocol, Self

from isocenter.engine.buffers import Buffer


class ObjectReader(Protocol):
    """Reads any part of one object: a data set, a frame, a range that somebody asks for.

    A part costs what it is long, however large the object is.  Closing is the caller's duty (it
    is an async context manager).
    """

    @property
    def size(self) -> int: ...

    async def read(self, offset: int, length: int) -> bytes:
        """Exactly *length* bytes from *offset* on, fewer only at the end of the object."""
        ...

    async def view(self, offset: int, length: int) -> Buffer:
        """As `read`; what it gives is good until the next call, or until the reader is closed."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...
