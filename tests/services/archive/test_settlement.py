"""Settlement of answered objects: many together, soon, and not without bound."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from isocenter.services.archive.ports import ObjectStore, StagedObject
from isocenter.services.archive.settlement import (
    MAX_UNSETTLED,
    MOST_UNSETTLED,
    SETTLE_AFTER_SECONDS,
    Settlement,
)
from isocenter.services.errors import StorageError


class Settling:
    """A store that settles when it may."""

    def __init__(self) -> None:
        self.rounds: list[tuple[float, int]] = []
        self.may = trio.Event()
        self.may.set()
        self.error: StorageError | None = None

    async def settle(self, staged: Sequence[StagedObject]) -> None:
        await self.may.wait()
        self.rounds.append((trio.current_time(), len(staged)))
        if self.error is not None:
            raise self.error


def objects(count: int) -> list[StagedObject]:
    return cast(Any, list(range(count)))


def settlement() -> tuple[Settlement, Settling]:
    store = Settling()
    return Settlement(cast(ObjectStore, store)), store


async def test_few_wait_for_others(autojump_clock: MockClock) -> None:
    ours, store = settlement()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.run)
        began = trio.current_time()
        ours.add(objects(1))
        await trio.sleep(SETTLE_AFTER_SECONDS / 2)
        ours.add(objects(2))
        assert (store.rounds, ours.unsettled) == ([], 3)
        await trio.sleep(SETTLE_AFTER_SECONDS)
        assert store.rounds == [(began + SETTLE_AFTER_SECONDS, 3)]
        assert ours.unsettled == 0
        nursery.cancel_scope.cancel()


async def test_many_wait_for_nothing(autojump_clock: MockClock) -> None:
    ours, store = settlement()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.run)
        began = trio.current_time()
        ours.add(objects(MAX_UNSETTLED))
        await wait_all_tasks_blocked()
        assert store.rounds == [(began, MAX_UNSETTLED)]
        nursery.cancel_scope.cancel()


async def test_a_store_that_falls_behind_is_waited_for(autojump_clock: MockClock) -> None:
    ours, store = settlement()
    store.may = trio.Event()
    waited = trio.Event()

    async def wait() -> None:
        await ours.until_few()
        waited.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.run)
        ours.add(objects(MOST_UNSETTLED))
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert (waited.is_set(), ours.unsettled) == (False, MOST_UNSETTLED)
        store.may.set()
        await waited.wait()
        nursery.cancel_scope.cancel()


async def test_what_cannot_be_settled_is_left_to_the_next_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ours, store = settlement()
    store.error = StorageError("no room")
    ours.add(objects(2))
    with caplog.at_level(logging.ERROR, "isocenter.storage"):
        await ours.settle()
    assert "2 objects are durable" in caplog.text
    assert ours.unsettled == 0
