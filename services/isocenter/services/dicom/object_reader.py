"""Reading the bytes of one object, wherever they are."""

from __future__ import annotations

from typing import Protocol, Self, TypeGuard

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


class FileBacked(Protocol):
    """A reader whose object lies in a file as it is, so that others can take bytes out of that."""

    @property
    def descriptor(self) -> int:
        """Of the file; it is the reader's."""
        ...

    def close(self) -> None:
        """Nothing is read from it any more; may be called again."""
        ...


def is_file_backed(reader: ObjectReader) -> TypeGuard[FileBacked]:
    """Whether bytes can be taken out of a file; asked for each frame, hence no `isinstance`, which
    takes ten times as long for a protocol."""
    return hasattr(reader, "descriptor")
