"""Headers and values on their way into another encoding, in pieces of any size."""

from __future__ import annotations

from array import array
from typing import Final

from isocenter.engine.buffers import Buffer

#: Smaller pieces of values are joined with the headers around them.
_MIN_OWN_BUFFER: Final = 4096
#: Array type codes for `SWAP_WIDTH`; these sizes hold wherever CPython runs.
_ARRAY_CODES: Final = {2: "H", 4: "I", 8: "Q"}


class ValueWriter:
    """Collects headers and values; changes the byte order of a value that comes in pieces.

    Attributes:
        remaining: bytes of the current value that are still to come.
        mutes: while it is not 0, nothing is collected.
    """

    __slots__ = (
        "_buffers",
        "_is_dropped",
        "_padding",
        "_residue",
        "_small",
        "_width",
        "mutes",
        "remaining",
    )

    def __init__(self) -> None:
        self.remaining = 0
        self.mutes = 0
        self._width = 1
        self._is_dropped = False
        #: What is still to be written behind the current value.
        self._padding = b""
        #: Less than one number of the value, from the end of the last piece.
        self._residue = b""
        self._small = bytearray()
        self._buffers: list[Buffer] = []

    def are_expected(self) -> bool:
        """Whether bytes of the current value are still to come."""
        return self.remaining > 0

    def put(self, header: bytes) -> None:
        if not self.mutes:
            self._small += header

    def begin(self, header: bytes, length: int, width: int, padding: bytes = b"") -> None:
        """Write *header*; the next *length* bytes are its value, numbers of *width* bytes
        whose order is reversed (1: as they are), and *padding* is written behind it."""
        self.put(header)
        self._padding = padding
        self.remaining = length
        self._width = width
        self._is_dropped = bool(self.mutes)

    def skip(self, length: int) -> None:
        self.remaining = length
        self._is_dropped = True

    def write(self, chunk: Buffer, pos: int) -> int:
        """Take what *chunk* has of the value from *pos* on; returns where it ends."""
        end = min(pos + self.remaining, len(chunk))
        self.remaining -= end - pos
        if not self._is_dropped:
            view = memoryview(chunk)[pos:end]
            if self._width == 1:
                self._put_value(view)
            else:
                self._put_swapped(view)
            if not self.remaining:
                self._small += self._padding
                self._padding = b""
        return end

    def drain(self) -> list[Buffer]:
        self._flush()
        buffers = self._buffers
        self._buffers = []
        return buffers

    def _put_swapped(self, view: memoryview) -> None:
        width = self._width
        if self._residue:
            missing = width - len(self._residue)
            self._residue += view[:missing]
            view = view[missing:]
            if len(self._residue) == width:
                self._small += self._residue[::-1]
                self._residue = b""
        whole = len(view) - len(view) % width
        if whole:
            numbers = array(_ARRAY_CODES[width])
            numbers.frombytes(view[:whole])
            numbers.byteswap()
            self._put_value(memoryview(numbers).cast("B"))
        if whole < len(view):
            self._residue += view[whole:]
        if not self.remaining and self._residue:
            # Not a whole number: the value is malformed and stays as it is.
            self._small += self._residue
            self._residue = b""

    def _put_value(self, view: memoryview) -> None:
        if len(view) < _MIN_OWN_BUFFER:
            self._small += view
        else:
            self._flush()
            self._buffers.append(view)

    def _flush(self) -> None:
        if self._small:
            self._buffers.append(bytes(self._small))
            self._small.clear()
