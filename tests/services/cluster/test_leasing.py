"""Work under leases, with a clock that jumps."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from isocenter.services.cluster.fence import HELD, Fence
from isocenter.services.cluster.leasing import LEASE_SECONDS, LOOK_SECONDS, RENEW_SECONDS, Leasing
from isocenter.services.errors import StorageError
from services.cluster.memory_leases import MemoryLeases


async def test_one_of_two_works_and_the_other_takes_over(autojump_clock: MockClock) -> None:
    leases = MemoryLeases()
    began: list[str] = []

    async def work(name: str) -> None:
        began.append(name)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as first:

            async def begin_second() -> None:
                await trio.sleep(10 * LEASE_SECONDS)
                assert began == ["one"]
                nursery.start_soon(Leasing(leases).run, "sweep", lambda: work("other"))
                await trio.sleep(10 * LEASE_SECONDS)
                assert began == ["one"]
                first.cancel()

            nursery.start_soon(begin_second)
            await Leasing(leases).run("sweep", lambda: work("one"))
        await trio.sleep(LOOK_SECONDS + 1)
        assert began == ["one", "other"]
        nursery.cancel_scope.cancel()


async def test_work_that_ends_ends_the_duty(autojump_clock: MockClock) -> None:
    leases = MemoryLeases()
    await Leasing(leases).run("sweep", trio.lowlevel.checkpoint)
    assert await leases.take("sweep", "somebody", 1.0) is not None


async def test_work_has_the_fence_of_its_lease(autojump_clock: MockClock) -> None:
    held: list[int] = []

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)

    async def look() -> None:
        held.append(len(HELD.get()))

    leasing = Leasing(MemoryLeases())
    async with leasing.hold("around"):
        await leasing.run("sweep", work)
    assert held == [2]
    assert HELD.get() == ()


async def test_work_whose_lease_is_lost_is_cancelled_and_begins_anew(
    autojump_clock: MockClock,
) -> None:
    leases = MemoryLeases()
    ended: list[str] = []

    async def work() -> None:
        if ended:
            ended.append("again")
            return
        try:
            leases.forget()
            await trio.sleep_forever()
        finally:
            ended.append("cancelled")

    await Leasing(leases).run("sweep", work)
    assert ended == ["cancelled", "again"]


async def test_nobody_works_while_nobody_can_renew(autojump_clock: MockClock) -> None:
    leases = MemoryLeases()
    cancelled_after: list[float] = []
    began = trio.current_time()

    async def work() -> None:
        if cancelled_after:
            return
        leases.is_away = True
        try:
            await trio.sleep_forever()
        finally:
            cancelled_after.append(trio.current_time() - began)
            leases.is_away = False

    await Leasing(leases).run("sweep", work)
    assert cancelled_after == [LEASE_SECONDS]


async def test_nobody_works_while_a_renewal_hangs(autojump_clock: MockClock) -> None:
    class Hanging(MemoryLeases):
        hangs = True

        async def renew(self, fence: Fence, seconds: float) -> bool:
            if self.hangs:
                await trio.sleep(100 * LEASE_SECONDS)
            return await super().renew(fence, seconds)

    leases = Hanging()
    cancelled_after: list[float] = []

    async def work() -> None:
        if cancelled_after:
            return
        try:
            await trio.sleep_forever()
        finally:
            cancelled_after.append(trio.current_time() - began)
            leases.hangs = False

    began = trio.current_time()
    await Leasing(leases).run("sweep", work)
    assert cancelled_after == [LEASE_SECONDS]


async def test_whoever_holds_something_is_told_when_it_is_lost(autojump_clock: MockClock) -> None:
    leases = MemoryLeases()

    async def hold() -> None:
        async with Leasing(leases).hold("trash"):
            leases.forget()
            await trio.sleep_forever()

    with pytest.raises(StorageError, match="'trash' was lost"):
        await hold()


async def test_the_error_of_a_body_leaves_as_it_is(autojump_clock: MockClock) -> None:
    leases = MemoryLeases()
    with pytest.raises(ValueError, match="of the body"):
        async with Leasing(leases).hold("trash"):
            raise ValueError("of the body")
    assert await leases.take("trash", "somebody", 1.0) is not None


async def test_the_error_of_a_body_leaves_as_it_is_when_the_lease_is_lost_as_well(
    autojump_clock: MockClock,
) -> None:
    leases = MemoryLeases()

    async def change() -> None:
        async with Leasing(leases).hold("trash"):
            leases.is_away = True
            try:
                await trio.sleep_forever()
            finally:
                raise StorageError("the bucket is away")

    with pytest.raises(StorageError, match="the bucket is away"):
        await change()


async def test_what_is_held_is_waited_for(autojump_clock: MockClock) -> None:
    leases = MemoryLeases()
    order: list[str] = []

    async def hold(name: str) -> None:
        async with Leasing(leases).hold("trash"):
            order.append(f"{name} has it")
            await trio.sleep(2 * LEASE_SECONDS)
            order.append(f"{name} gives it back")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold, "one")
        await trio.sleep(1)
        nursery.start_soon(hold, "other")
    assert order == [
        "one has it", "one gives it back", "other has it", "other gives it back",
    ]  # fmt: skip
    assert leases.renewals > 2 * LEASE_SECONDS / RENEW_SECONDS


async def test_without_an_answer_nothing_is_held(autojump_clock: MockClock) -> None:
    leases = MemoryLeases()
    leases.is_away = True
    with pytest.raises(StorageError, match="does not answer"):
        async with Leasing(leases).hold("trash"):
            raise AssertionError("nobody has it")
