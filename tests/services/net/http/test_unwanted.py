"""Bounds of what is passed over of an answer."""

from __future__ import annotations

import pytest
import trio

from isocenter.services.net.http import unwanted
from isocenter.services.net.http.client_errors import BrokenAnswerError
from isocenter.services.net.http.unwanted import MOST_UNWANTED_SECONDS, Unwanted


def test_bytes_that_are_taken_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unwanted, "MOST_UNWANTED_BYTES", 3 << 20)

    async def main() -> None:
        counted = Unwanted()
        for _ in range(50):
            counted.came(1 << 20)
            counted.taken()
        for _ in range(4):
            counted.came(1 << 20)
        with pytest.raises(BrokenAnswerError, match="more than 3 MiB that nobody asked for"):
            counted.came(1)

    trio.run(main)


async def test_a_trickle_that_nobody_wants_has_an_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def trickle() -> None:
        counted = Unwanted()
        while True:
            counted.came(1)
            await trio.sleep(29)

    begun = trio.current_time()
    with pytest.raises(BrokenAnswerError, match="nothing came that anybody asked for"):
        await trickle()
    assert MOST_UNWANTED_SECONDS < trio.current_time() - begun < MOST_UNWANTED_SECONDS + 60


async def test_a_slow_answer_that_is_wanted_has_none(
    autojump_clock: trio.testing.MockClock,
) -> None:
    counted = Unwanted()
    for _ in range(1_000):
        counted.came(1)
        counted.taken()
        await trio.sleep(29)
