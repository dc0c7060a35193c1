"""Tasks that wait for each other, and intervals between attempts."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from isocenter.services.concurrency import Backoff, Broadcast, FairLock


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 5.0), (2, 10.0), (4, 40.0), (5, 60.0), (10_000, 60.0)]
)
def test_intervals_double_up_to_a_bound(failures: int, seconds: float) -> None:
    backoff = Backoff(longest_seconds=60, give_up_after_seconds=1_000)
    assert backoff.interval(failures) == seconds
    assert backoff.next_interval(failures, 999.0) == seconds
    assert backoff.next_interval(failures, 1_000.0) is None


def test_a_bound_beyond_every_interval_is_none() -> None:
    backoff = Backoff(first_seconds=1, longest_seconds=1e9, give_up_after_seconds=1e12)
    assert backoff.interval(10**9) == 1e9


async def test_a_broadcast_wakes_who_waits_now_and_nobody_later() -> None:
    broadcast = Broadcast()
    woken: list[str] = []

    async def wait(name: str) -> None:
        await broadcast.wait()
        woken.append(name)

    broadcast.send()  # to nobody
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "first")
        nursery.start_soon(wait, "second")
        await trio.testing.wait_all_tasks_blocked()
        assert woken == []
        broadcast.send()
        nursery.start_soon(wait, "third")
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(woken) == ["first", "second"]
        broadcast.send()
    assert woken[-1] == "third"


async def test_a_free_lock_costs_no_turn_and_a_taken_one_waits() -> None:
    lock = FairLock()
    with trio.testing.assert_no_checkpoints():
        async with lock:
            assert lock.is_taken
    order: list[str] = []

    async def wait(name: str) -> None:
        async with lock:
            order.append(name)

    async with trio.open_nursery() as nursery, lock:
        nursery.start_soon(wait, "second")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(wait, "third")
        await trio.testing.wait_all_tasks_blocked()
        order.append("first")
    assert order == ["first", "second", "third"]
    assert not lock.is_taken


@pytest.mark.parametrize("is_its_turn", [False, True])
async def test_who_gives_up_a_lock_leaves_it_to_the_next(is_its_turn: bool) -> None:
    lock = FairLock()
    order: list[str] = []
    giving_up = trio.CancelScope()

    async def give_up() -> None:
        with giving_up:
            async with lock:
                await trio.lowlevel.checkpoint()
                order.append("gave up")

    async def wait() -> None:
        async with lock:
            order.append("next")

    async with trio.open_nursery() as nursery:
        async with lock:
            nursery.start_soon(give_up)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            if not is_its_turn:
                giving_up.cancel()
                await trio.testing.wait_all_tasks_blocked()
        giving_up.cancel()  # handed over, and not told yet
    assert order == ["next"]
    assert not lock.is_taken
