"""Background tasks begin anew after what nobody thought of, and end when they are told to."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing

from isocenter.services.composition.lasting_tasks import outlast


async def test_what_nobody_thought_of_ends_no_task(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    faults: list[Exception] = [
        ExceptionGroup("tasks", [KeyError("somebody"), ValueError("somebody")]),
        RuntimeError("somebody"),
    ]
    begun: list[float] = []

    async def task() -> None:
        begun.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if faults:
            raise faults.pop()

    start = trio.current_time()
    with caplog.at_level(logging.ERROR, "isocenter.server"):
        await outlast("retention", task)
    assert [round(at - start) for at in begun] == [0, 1, 3]
    assert caplog.messages == [
        "retention: internal error (RuntimeError); again in 1 s",
        "retention: internal error (KeyError, ValueError); again in 2 s",
    ]


async def test_what_lasts_is_cancelled_all_the_same() -> None:
    with trio.move_on_after(0.01) as scope:
        await outlast("retention", trio.sleep_forever)
    assert scope.cancelled_caught
