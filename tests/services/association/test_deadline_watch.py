"""Deadlines of many, watched by one task."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing

from isocenter.services.association.deadline_watch import DeadlineWatch


class Looked:
    """Something watched that notes when it was looked after."""

    def __init__(self, *moments: float) -> None:
        self.looks: list[float] = []
        self._later = list(moments)
        self.wake_at = self._next()

    def look(self) -> None:
        self.looks.append(trio.current_time())
        self.wake_at = self._next()

    def _next(self) -> float:
        return trio.current_time() + self._later.pop(0) if self._later else math.inf


async def test_each_is_looked_after_when_its_time_has_come(
    autojump_clock: trio.testing.MockClock,
) -> None:
    began = trio.current_time()
    often, once, never = Looked(1, 1, 3), Looked(2), Looked()
    watch = DeadlineWatch()
    for each in (often, once, never):
        watch.add(each)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await trio.sleep(60)
        watch.stop()
    assert [each - began for each in often.looks] == pytest.approx([1, 2, 5])
    assert [each - began for each in once.looks] == pytest.approx([2])
    assert never.looks == []


async def test_a_deadline_may_move_forward_while_nobody_looks(
    autojump_clock: trio.testing.MockClock,
) -> None:
    began = trio.current_time()
    watched = Looked(50)
    watch = DeadlineWatch()
    watch.add(watched)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await trio.sleep(1)
        watched.wake_at = began + 3
        watch.wake_by(watched.wake_at)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert [each - began for each in watched.looks] == pytest.approx([3])


async def test_who_has_left_is_not_looked_after(autojump_clock: trio.testing.MockClock) -> None:
    watched = Looked(5)
    watch = DeadlineWatch()
    watch.add(watched)
    watch.remove(watched)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await trio.sleep(10)
        watch.stop()
    assert watched.looks == []
