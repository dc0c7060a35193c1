"""Tasks that wait for each other, and intervals between attempts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from isocenter.engine.errors import IsocenterError
from isocenter.services.concurrency import (
    Backoff,
    Broadcast,
    FairLock,
    Gathered,
    open_plain_nursery,
)
from isocenter.services.errors import StorageError


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


async def test_an_error_leaves_a_plain_nursery_as_it_was_raised() -> None:
    async def fail_beside_another() -> None:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise StorageError("it is away")

    with pytest.raises(StorageError, match="is away"):
        await fail_beside_another()


async def test_that_others_were_cancelled_from_outside_makes_no_group_of_it() -> None:
    async def fail_at_the_end() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise StorageError("it is away")

    caught: list[StorageError] = []
    with trio.CancelScope() as outer:
        try:
            async with open_plain_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(fail_at_the_end)
                await trio.testing.wait_all_tasks_blocked()
                outer.cancel()
        except StorageError as error:
            caught.append(error)
        await trio.lowlevel.checkpoint()
    assert len(caught) == 1
    assert outer.cancelled_caught


async def test_of_several_expected_errors_the_first_leaves_and_a_fault_of_ours_is_not_hidden() -> (
    None
):
    async def fail(error: Exception) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    async def fail_with(*errors: Exception) -> None:
        async with open_plain_nursery() as nursery:
            for error in errors:
                nursery.start_soon(fail, error)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    with pytest.raises(IsocenterError, match="is away"):
        await fail_with(StorageError("it is away"), StorageError("it is away, too"))
    with pytest.raises(ExceptionGroup) as caught:
        await fail_with(StorageError("it is away"), TypeError("a fault"))
    assert caught.group_contains(TypeError)


async def test_whoever_is_cancelled_in_a_plain_nursery_ends() -> None:
    with trio.CancelScope() as outer:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            outer.cancel()
            await trio.sleep_forever()
    assert outer.cancelled_caught


async def test_questions_that_wait_together_are_asked_together() -> None:
    gathered = Gathered[int, int]()
    asked: list[list[int]] = []
    first_asks, may_answer = trio.Event(), trio.Event()

    async def double(numbers: Sequence[int]) -> Sequence[int]:
        asked.append(list(numbers))
        first_asks.set()
        await may_answer.wait()
        if 13 in numbers:
            raise KeyError
        return [2 * number for number in numbers]

    answers: dict[int, int | str] = {}

    async def ask(number: int) -> None:
        try:
            answers[number] = await gathered.ask(number, double)
        except KeyError:
            answers[number] = "failed"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, 1)
        await first_asks.wait()
        for number in (2, 3, 4):
            nursery.start_soon(ask, number)
        await trio.testing.wait_all_tasks_blocked()
        may_answer.set()
    assert answers == {1: 2, 2: 4, 3: 6, 4: 8}
    assert [sorted(each) for each in asked] == [[1], [2, 3, 4]]
    await ask(13)
    assert answers[13] == "failed"


async def test_questions_of_tasks_that_are_ready_are_asked_together() -> None:
    gathered = Gathered[int, int]()
    asked: list[list[int]] = []

    async def same(numbers: Sequence[int]) -> Sequence[int]:
        asked.append(sorted(numbers))
        return list(numbers)

    answers = []

    async def ask(number: int) -> None:
        answers.append(await gathered.ask(number, same))

    async with trio.open_nursery() as nursery:
        for number in (1, 2, 3):
            nursery.start_soon(ask, number)
    assert asked == [[1, 2, 3]]
    assert sorted(answers) == [1, 2, 3]


async def test_who_gives_up_when_it_is_to_ask_leaves_that_to_the_next() -> None:
    gathered = Gathered[int, int]()
    asked: list[list[int]] = []
    asks, may_answer = trio.Event(), trio.Event()
    scopes = {number: trio.CancelScope() for number in (1, 2, 3)}

    async def same(numbers: Sequence[int]) -> Sequence[int]:
        asked.append(list(numbers))
        asks.set()
        await may_answer.wait()
        scopes[2].cancel()  # it is told before it can hear of that
        return numbers

    answers = []

    async def ask(number: int) -> None:
        with scopes[number]:
            answers.append(await gathered.ask(number, same))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, 1)
        await asks.wait()
        for number in (2, 3):
            nursery.start_soon(ask, number)
            await trio.testing.wait_all_tasks_blocked()
        may_answer.set()
    assert answers == [1, 3]
    assert asked == [[1], [3]]
    assert await gathered.ask(4, same) == 4


async def test_who_gives_up_a_question_keeps_no_other_from_its_answer() -> None:
    gathered = Gathered[int, int]()
    asked: list[list[int]] = []
    asks, may_answer = trio.Event(), trio.Event()

    async def same(numbers: Sequence[int]) -> Sequence[int]:
        asked.append(list(numbers))
        asks.set()
        await may_answer.wait()
        return numbers

    answers = []

    async def ask(number: int, scope: trio.CancelScope) -> None:
        with scope:
            answers.append(await gathered.ask(number, same))

    scopes = {number: trio.CancelScope() for number in (1, 2, 3)}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, 1, scopes[1])
        await asks.wait()
        for number in (2, 3):
            nursery.start_soon(ask, number, scopes[number])
        await trio.testing.wait_all_tasks_blocked()
        scopes[2].cancel()
        await trio.testing.wait_all_tasks_blocked()
        may_answer.set()
    assert sorted(answers) == [1, 3]
    assert asked == [[1], [3]]
