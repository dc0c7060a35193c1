"""Values made from the bytes of an input: numbers, texts and lists that a user might give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

#: Characters that matter somewhere: in UIDs, AE titles, comments, or nowhere at all.
_CHARACTERS: Final = "0123456789.. AZaz_-\\\0\n\x7f\xe9\u5c71"
_NUMBERS: Final = (0, 1, 2, 3, 0x0101, 0xFE00, 0xFF00, 0xFFFF, 0x1_0000, -1, 0xFFFF_FFFF, 1 << 32)
_UIDS: Final = (
    "1.2.840.10008.1.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.5.1.4.1.2.1.1",
    "1.2.3",
    "",
    "1." + "2" * 62,
    "1." + "2" * 63,
    "../1",
)


class Choices:
    """Takes decisions from bytes, one after the other; zero when there are no more."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def byte(self) -> int:
        self._position += 1
        data = self._data
        return data[self._position - 1] if self._position <= len(data) else 0

    def flag(self) -> bool:
        return bool(self.byte() & 1)

    def one_of(self, values: tuple[T, ...]) -> T:
        return values[self.byte() % len(values)]

    def number(self) -> int:
        """Mostly one that fits somewhere."""
        kind = self.byte()
        return self.one_of(_NUMBERS) if kind & 1 else kind >> 1

    def raw(self) -> bytes:
        """At most 31 bytes."""
        return bytes(self.byte() for _ in range(self.byte() % 32))

    def text(self) -> str:
        """At most 31 characters."""
        return "".join(_CHARACTERS[self.byte() % len(_CHARACTERS)] for _ in range(self.byte() % 32))

    def uid(self) -> str:
        return self.one_of(_UIDS) if self.flag() else self.text()

    def some(self, make: Callable[[], T]) -> tuple[T, ...]:
        """At most three."""
        return tuple(make() for _ in range(self.byte() % 4))

    def perhaps(self, make: Callable[[], T]) -> T | None:
        return make() if self.flag() else None
