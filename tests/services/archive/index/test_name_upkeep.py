"""Words of names in the background: they go on whatever goes wrong."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing

from isocenter.services.archive.index.name_upkeep import write_missing_names
from isocenter.services.errors import StorageError


class Failing:
    """A book of names that fails twice, and then is asked for a third time."""

    def __init__(self) -> None:
        self.left: list[Exception] = [ValueError("Doe^Jane"), StorageError("not now")]
        self.done = trio.Event()

    async def write_missing(self) -> bool:
        if self.left:
            raise self.left.pop(0)
        self.done.set()
        return False


async def test_whatever_goes_wrong_is_tried_again(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    book = Failing()
    with caplog.at_level(logging.WARNING, "isocenter.storage"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_missing_names, book)
            await book.done.wait()
            nursery.cancel_scope.cancel()
    first, second = (record.getMessage() for record in caplog.records)
    assert "ValueError" in first
    assert "Doe" not in first
    assert "not now" in second
