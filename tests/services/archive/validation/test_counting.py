"""Counts of broken rules in the background."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from isocenter.services.archive.validation.counting import keep_counts
from isocenter.services.errors import StorageError


class Book:
    """Takes seconds to count, and fails once."""

    def __init__(self, seconds: float, fault: Exception) -> None:
        self.seconds = seconds
        self.fault = fault
        self.counted = 0

    async def count(self) -> None:
        self.counted += 1
        await trio.sleep(self.seconds)
        if self.counted == 2:
            raise self.fault


@pytest.mark.parametrize(
    ("takes", "rest", "fault"),
    [(0.1, 60.0, StorageError("away")), (10.0, 500.0, KeyError("unthought of"))],
    ids=["away", "unexpected"],
)
async def test_the_longer_it_takes_the_less_often_it_is_done(
    takes: float, rest: float, fault: Exception, autojump_clock: Any
) -> None:
    book, slept = Book(takes, fault), list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise trio.EndOfChannel
        await trio.sleep(seconds)

    with pytest.raises(trio.EndOfChannel):
        await keep_counts(book, sleep=sleep)  # type: ignore[arg-type]  # what it needs of one
    assert slept == pytest.approx([rest] * 3)
    assert book.counted == 3
