"""Chunks of a stream, by a seed: what a network does to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

#: Longest chunk for each way to cut; 0 is the whole stream at once.
_LONGEST: Final = (0, 1, 2, 7, 13, 64, 97, 1_000)


def chunks(data: bytes, seed: int) -> Iterator[bytes]:
    """Chunks of *data*, the same ones for the same *seed*, which is a byte."""
    longest = _LONGEST[seed % len(_LONGEST)]
    position = 0
    while position < len(data):
        # A linear congruential generator: the same on every Python.
        seed = (seed * 1_103_515_245 + 12_345) & 0x7FFF_FFFF
        length = 1 + (seed >> 8) % longest if longest else len(data)
        yield data[position : position + length]
        position += length
