"""Pace of what is wanted of an answer."""

from __future__ import annotations

import pytest

from isocenter.services.net.http.client_errors import BrokenAnswerError
from isocenter.services.net.http.pace import STEP_BYTES, STEP_SECONDS, Pace


def test_a_trickle_has_an_end() -> None:
    pace = Pace()
    for _ in range(10):
        pace.came(1, STEP_SECONDS / 10)
    with pytest.raises(BrokenAnswerError, match="too slowly: 11 bytes in 330 s"):
        pace.came(1, STEP_SECONDS / 10)


def test_what_comes_slowly_and_goes_on_is_taken() -> None:
    pace = Pace()
    for _ in range(1_000):
        pace.came(STEP_BYTES // 10, STEP_SECONDS / 11)


def test_each_part_has_its_time() -> None:
    pace = Pace()
    for _ in range(1_000):
        pace.begin()
        pace.came(100, STEP_SECONDS - 1)


def test_what_came_quickly_is_no_excuse() -> None:
    pace = Pace()
    pace.came(1_000 * STEP_BYTES, 1.0)
    pace.came(1, STEP_SECONDS)
    with pytest.raises(BrokenAnswerError):
        pace.came(1, 0.5)
