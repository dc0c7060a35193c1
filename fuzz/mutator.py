"""Inputs that a broken or hostile peer might send, made from others; by a seed, on any Python.

Knows nothing of what the code does with them.  Where atheris is installed, `guided` finds
more in the same time; this one needs nothing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Final

from bounds import Run, run_bounded

_MOST_BYTES: Final = 1 << 16
#: Values at which lengths and kinds change their meaning.
_EDGES: Final = (0, 1, 2, 3, 4, 5, 6, 7, 0x10, 0x20, 0x30, 0x40, 0x50, 0x7F, 0x80, 0xFE, 0xFF)
_NUMBERS: Final = (0, 1, 0xFFFF, 0x1_0000, 0x7FFF_FFFF, 0xFFFF_FFFF)


class Found(Exception):
    """An input broke the invariant; ``__cause__`` says how."""

    def __init__(self, data: bytes) -> None:
        super().__init__(f"{len(data)} bytes")
        self.data = data


def mutate(
    chance: random.Random, data: bytes, others: Sequence[bytes], words: Sequence[bytes]
) -> bytes:
    """*data* with a few changes; *others* are mixed in, and *words* of a dictionary."""
    result = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        position = chance.randrange(len(result)) if result else 0
        match chance.randrange(8):
            case 0 if result:
                result[position] = chance.choice(_EDGES)
            case 1 if result:
                result[position] = chance.randrange(256)
            case 2:
                del result[position : position + chance.randint(1, 16)]
            case 3:
                result[position:position] = chance.randbytes(chance.randint(1, 16))
            case 4:
                piece = result[position : position + chance.randint(1, 200)]
                result[position:position] = piece * chance.randint(1, 8)
            case 5:
                other = chance.choice(others)
                result += other[chance.randrange(len(other) or 1) :]
            case 6 if words:
                word = chance.choice(words)
                end = position + len(word) * chance.randrange(2)  # over what is there, or before it
                result[position:end] = word
            case _:
                width = chance.choice((2, 4))
                number = chance.choice(_NUMBERS) % (1 << 8 * width)
                value = number.to_bytes(width, "big")
                result[position : position + width] = chance.choice((value, value[::-1]))
    return bytes(result[:_MOST_BYTES])


def fuzz(
    run: Run, corpus: Sequence[bytes], words: Sequence[bytes], seconds: float, seed: int
) -> int:
    """Run the corpus, then what becomes of it.

    Returns:
        How many inputs were run.  Which, depends on *seed* alone; how many, on the time.

    Raises:
        Found: the first one that broke the invariant.
    """
    chance = random.Random(seed)
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        data = (
            corpus[count]
            if count < len(corpus)
            else mutate(chance, chance.choice(corpus), corpus, words)
        )
        try:
            run_bounded(run, data, count)
        except Exception as error:
            raise Found(data) from error
        count += 1
    return count
