"""What one peer can make us write into the log is bounded."""

from __future__ import annotations

import logging

import pytest

from isocenter.services.net.peer_log import PeerLog

log = logging.getLogger("isocenter.association")


def test_first_lines_are_written_then_counted(caplog: pytest.LogCaptureFixture) -> None:
    peer_log = PeerLog("192.0.2.1:104")
    with caplog.at_level(logging.WARNING):
        for number in range(1_000):
            peer_log.write(log, logging.WARNING, "fault %d", number)
        peer_log.log_suppressed()
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "192.0.2.1:104: fault 0"
    assert f"{1_000 - (len(lines) - 1)} more lines were left out" in lines[-1]
    assert sum(map(len, lines)) < 4_096 - len(lines) * 60


def test_one_long_line_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    peer_log = PeerLog("peer")
    peer_log.write(log, logging.WARNING, "%s", "x" * 100_000)
    assert len(caplog.records[0].getMessage()) < 600


def test_a_traceback_is_written_once(caplog: pytest.LogCaptureFixture) -> None:
    peer_log = PeerLog("peer")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            try:
                raise ValueError("ours")
            except ValueError:
                peer_log.write(log, logging.ERROR, "failed", exc_info=True)
        peer_log.log_suppressed()
        peer_log.log_suppressed()
    assert [bool(record.exc_info) for record in caplog.records] == [True, False]
    assert "2 more lines" in caplog.records[1].getMessage()
