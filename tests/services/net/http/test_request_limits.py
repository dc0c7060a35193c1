"""Bounds on what one caller asks for: at once, and in each second."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import trio.testing

from isocenter.services.net.http.messages import HttpError
from isocenter.services.net.http.request_limits import RequestLimiter, RequestLimits


def refused(limiter: RequestLimiter, caller: str) -> dict[str, str]:
    with pytest.raises(HttpError) as caught, limiter.one_more(caller):
        raise AssertionError("it was let through")
    assert (caught.value.status, caught.value.code) == (429, "TOO_MANY_REQUESTS")
    return dict(caught.value.headers)


async def test_at_once() -> None:
    reached: list[str] = []
    limiter = RequestLimiter(RequestLimits(at_once=3), reached.append)
    with ExitStack() as under_way:
        for _ in range(3):
            under_way.enter_context(limiter.one_more("a"))
        refused(limiter, "a")
        with limiter.one_more("b"):
            pass  # another has its own
    for _ in range(10):
        with limiter.one_more("a"):
            pass
    assert reached == ["requests_per_caller"]
    assert not limiter._under_way, "nothing is kept of who is gone"


async def test_in_each_second(autojump_clock: trio.testing.MockClock) -> None:
    reached: list[str] = []
    limiter = RequestLimiter(RequestLimits(per_second=5), reached.append)

    def let_through() -> int:
        count = 0
        while limiter._left.get("a", (1, 0))[0] >= 1 or not count:
            try:
                with limiter.one_more("a"):
                    count += 1
            except HttpError:
                break
        assert refused(limiter, "a") == {"retry-after": "1"}
        return count

    assert let_through() == 10, "after a pause"
    await trio.sleep(1)
    assert let_through() == 5
    await trio.sleep(0.3)
    assert let_through() == 1
    await trio.sleep(3_600)
    assert let_through() == 10
    with limiter.one_more("b"):
        pass
    assert reached == ["request_rate"] * 4


async def test_without_bounds() -> None:
    limiter = RequestLimiter(RequestLimits())
    with ExitStack() as under_way:
        for _ in range(2_000):
            under_way.enter_context(limiter.one_more("a"))


async def test_a_request_that_fails_is_over() -> None:
    limiter = RequestLimiter(RequestLimits(at_once=1))
    for _ in range(3):
        with pytest.raises(KeyError), limiter.one_more("a"):
            raise KeyError


async def test_what_is_remembered_is_bounded() -> None:
    limiter = RequestLimiter(RequestLimits(per_second=1))
    for number in range(5_000):
        with limiter.one_more(str(number)):
            pass
    assert len(limiter._left) == 4_096
