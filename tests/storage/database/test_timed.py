"""Times of transactions: counted, kept, and told when they are long."""

from __future__ import annotations

import pytest

from isocenter.services.errors import StorageError
from isocenter.storage.database.timed import SLOW_SECONDS, Timer


class Clock:
    """A clock that the test turns."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def timed(*seconds: float) -> tuple[Timer, Clock]:
    clock = Clock()
    timer = Timer(clock=clock, now=clock)
    for one in seconds:
        with timer.timing("_find_studies"):
            assert timer.times().active == 1
            clock.now += one
    return timer, clock


def test_transactions_are_counted_and_timed() -> None:
    timer, clock = timed(0.25, 0.5, 0.125)
    clock.now += 1
    times = timer.times()
    assert (times.total, times.failed, times.active, times.slow) == (3, 0, 0, 0)
    assert times.recent == [0.125, 0.25, 0.5]
    assert times.recent_seconds == 1.625
    assert (times.quantile(0.0), times.quantile(0.5), times.quantile(0.99)) == (0.125, 0.25, 0.5)


def test_what_takes_long_is_kept_by_its_name() -> None:
    timer, _ = timed(SLOW_SECONDS, 0.5, 2 * SLOW_SECONDS)
    assert timer.times().slow == 2
    assert [(one.what, one.seconds) for one in timer.slow_queries()] == [
        ("find_studies", 2 * SLOW_SECONDS), ("find_studies", SLOW_SECONDS),
    ]  # fmt: skip


def test_what_fails_is_counted() -> None:
    timer, _ = timed(0.25)
    with pytest.raises(StorageError), timer.timing("x"):
        raise StorageError("the disk is full")
    # What a caller finds wrong is no fault of the database.
    with pytest.raises(KeyError), timer.timing("x"):
        raise KeyError
    times = timer.times()
    assert (times.total, times.failed, times.recent_failed) == (3, 1, 1)


def test_only_the_latest_are_kept() -> None:
    timer, _ = timed(*[SLOW_SECONDS] * 2_000)
    times = timer.times()
    assert (times.total, len(times.recent), len(timer.slow_queries())) == (2_000, 1_000, 100)


def test_nothing_was_asked_yet() -> None:
    assert Timer().times().quantile(0.5) == 0
