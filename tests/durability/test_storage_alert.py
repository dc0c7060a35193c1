"""What whoever runs the archive reads when its storage fails."""

from __future__ import annotations

import pytest

from isocenter.services.archive.storage_alert import AGAIN_AFTER_SECONDS, StorageAlert
from isocenter.services.errors import StorageError

FULL = StorageError("cannot write an object: No space left on device", out_of_resources=True)


def test_an_outage_is_told_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    alert = StorageAlert(lambda: 0.0)
    alert.report_success()
    for _ in range(1_000):
        alert.report_failure(FULL)
    for _ in range(3):
        alert.report_success()
    assert [record.getMessage() for record in caplog.records] == [
        "objects cannot be kept: cannot write an object: No space left on device",
        "objects are kept again; 1000 failures before",
    ]


def test_an_outage_that_stays_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    alert = StorageAlert(lambda: now)
    for _ in range(10):
        alert.report_failure(FULL)
        now += AGAIN_AFTER_SECONDS / 2
    assert len(caplog.records) == 5


def test_a_fault_that_comes_and_goes_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A sender of one object too large for what room is left, and small ones between."""
    alert = StorageAlert(lambda: 0.0)
    for _ in range(1_000):
        alert.report_failure(FULL)
        alert.report_success()
    assert len(caplog.records) == 2


def test_whether_it_fails_is_known_at_once_also_when_the_log_is_silent() -> None:
    """A disk that fills, is freed, and fills again before the second time is worth a line."""
    alert = StorageAlert(lambda: 0.0)
    for _ in range(3):
        alert.report_failure(FULL)
        assert alert.is_failing
        alert.report_success()
        assert not alert.is_failing
