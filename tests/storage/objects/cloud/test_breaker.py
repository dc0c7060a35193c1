from __future__ import annotations

import pytest

from isocenter.storage.objects.cloud.breaker import FAILURES, LONGEST_PAUSE_SECONDS, Breaker
from isocenter.storage.objects.cloud.errors import BucketError


def test_after_some_failures_one_at_a_time_is_let_through() -> None:
    now = 0.0
    breaker = Breaker("s3://pacs", now=lambda: now)
    for _ in range(FAILURES):
        breaker.begin()
        breaker.failed()
    assert breaker.is_open
    with pytest.raises(BucketError, match="s3://pacs does not answer; it is tried again in 1 s"):
        breaker.begin()
    now = 1.5
    breaker.check()  # costs nobody the trial
    breaker.begin()
    with pytest.raises(BucketError):
        breaker.begin()
    breaker.succeeded()
    breaker.begin()
    breaker.begin()
    assert not breaker.is_open


def test_the_pauses_grow_and_have_a_bound() -> None:
    now = 0.0
    breaker = Breaker("s3://pacs", now=lambda: now)
    for _ in range(FAILURES):
        breaker.failed()
    pauses = []
    for _ in range(8):
        breaker.failed()
        began = now
        while True:
            try:
                breaker.check()
                break
            except BucketError:
                now += 0.5
        pauses.append(now - began)
    assert pauses == sorted(pauses)
    assert pauses[0] == 2
    assert pauses[-1] == LONGEST_PAUSE_SECONDS
