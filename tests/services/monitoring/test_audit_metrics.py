"""Metrics of the audit trail: what is recorded, waits, is lost, and is sent to collectors."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from isocenter.services.concurrency import Broadcast
from isocenter.services.monitoring.metrics import Metrics
from isocenter.services.security.audit import trail_writer as writer_module
from isocenter.services.security.audit.hash_chain import Entry
from isocenter.services.security.audit.message_builder import audit_log_used
from isocenter.services.security.audit.messages import AuditMessage, AuditSource
from isocenter.services.security.audit.participants import ActiveProcess, Patient
from isocenter.services.security.audit.recorder import AuditRecorder, run_recorder
from isocenter.services.security.audit.repository import Protocol, SyslogRepository
from isocenter.services.security.audit.syslog_delivery import Delivery
from isocenter.services.security.audit.trail_writer import trail_of

HERE = ActiveProcess(ae_titles=("US",), machine="vm", user="root", process_id=7)
SOURCE = AuditSource(source_id="US")


async def nobody(studies: Sequence[str]) -> dict[str, Patient]:
    return {}


def message() -> AuditMessage:
    return audit_log_used(HERE, Path("/trail"))


def figures(metrics: Metrics, collector: SyslogRepository | None = None) -> dict[str, float | None]:
    metrics.refresh()
    sample = metrics.registry.get_sample_value
    to = {"collector": str(collector)}
    return {
        "recorded": sample("isocenter_audit_messages_total", {"outcome": "recorded"}),
        "lost": sample("isocenter_audit_messages_total", {"outcome": "lost"}),
        "waiting": sample("isocenter_audit_messages_waiting"),
        "sent": sample("isocenter_audit_sent_total", to),
        "failures": sample("isocenter_audit_send_failures_total", to),
        "unsent": sample("isocenter_audit_unsent", to),
    }


async def test_what_a_collector_gets_and_has_yet_to_get_is_counted(tmp_path: Path) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    collector = SyslogRepository(Protocol.TCP, "127.0.0.1", port)
    trail = trail_of(tmp_path / "audit", HERE, SOURCE, rotate_bytes=1 << 20, key=None)
    trail.prepare()
    written = Broadcast()
    delivery = Delivery(collector, trail.folder, written=written, machine="vm")
    recorder = AuditRecorder(
        trail, HERE, SOURCE, patients=nobody, written=written, deliveries=[delivery]
    )
    metrics = Metrics(version="1")
    metrics.audit = recorder
    for _ in range(3):
        recorder.record(message())
    assert figures(metrics, collector) == {
        "recorded": 0, "lost": 0, "waiting": 3, "sent": 0, "failures": 0, "unsent": None,
    }  # fmt: skip
    with trio.fail_after(60):
        async with run_recorder(recorder):
            stream = await listener.accept()
            received = b""
            while received.count(b"</AuditMessage>") < 3:
                received += await stream.receive_some(65_536)
            await metrics.look_at_collectors()
            assert figures(metrics, collector) == {
                "recorded": 3, "lost": 0, "waiting": 0, "sent": 3, "failures": 0, "unsent": 3,
            }  # fmt: skip
            # It goes away; what it did not confirm waits for it.
            await listener.aclose()
            await stream.aclose()
            while not delivery.statistics.failures:
                await trio.lowlevel.checkpoint()
            recorder.record(message())
            while recorder.writer.waiting:
                await written.wait()
            await metrics.look_at_collectors()
            found = figures(metrics, collector)
            assert (found["recorded"], found["unsent"]) == (4, 4)
            assert found["failures"] == delivery.statistics.failures > 0


async def test_a_process_that_does_not_send_says_nothing_of_collectors(tmp_path: Path) -> None:
    """It would take back what the one that sends has said."""
    trail = trail_of(tmp_path / "audit", HERE, SOURCE, rotate_bytes=1 << 20, key=None)
    trail.prepare()
    collector = SyslogRepository(Protocol.UDP, "127.0.0.1", 9)
    delivery = Delivery(collector, trail.folder, written=Broadcast(), machine="vm")
    metrics = Metrics(version="1")
    metrics.audit = AuditRecorder(trail, HERE, SOURCE, patients=nobody, deliveries=[delivery])
    await metrics.look_at_collectors()
    assert figures(metrics, collector)["unsent"] is None


async def test_what_is_lost_on_a_full_disk_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "MOST_WAITING", 2)
    trail = trail_of(tmp_path / "audit", HERE, SOURCE, rotate_bytes=1 << 20, key=None)

    def full(entries: Sequence[Entry]) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(trail, "append", full)
    metrics = Metrics(version="1")
    metrics.audit = recorder = AuditRecorder(trail, HERE, SOURCE, patients=nobody)
    for _ in range(5):
        recorder.record(message())
    for _ in range(2):
        found = figures(metrics)
        assert (found["recorded"], found["waiting"], found["lost"]) == (0, 2, 3)
