"""The soak test for some seconds, so that it works when somebody has hours for it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from services.workflow.events.hooks import webhook
from soak.department import Department, Done, configuration
from soak.load import Ledger
from soak.soak import Report, Sample, judge_growth, judge_queues, soak, target_of
from support.ports import free_port
from support.processes import served_archive

pytestmark = pytest.mark.slow
MIB = 1 << 20


@pytest.mark.interop("getscu", "storescp")
def test_some_seconds_of_it(tmp_path: Path) -> None:
    said: list[str] = []
    report = soak(tmp_path, 12, workers=1, tell=said.append, every=1.0)
    assert report.problems == []
    assert report.stored > 5
    assert report.examinations > 0
    assert report.operations > 20
    assert len(report.samples) >= 3
    assert any("C-STORE" in line for line in said)


def test_growth_is_noticed() -> None:
    report = Report([Sample(n, (100 + 3 * n) * MIB, 20, 5, n) for n in range(40)])
    judge_growth(report)
    assert any("memory grows" in problem for problem in report.problems)
    report = Report([Sample(n, 100 * MIB, 20 + 4 * n, 5, n) for n in range(40)])
    judge_growth(report)
    assert any("descriptors grow" in problem for problem in report.problems)
    report = Report([Sample(n, (100 + n % 5) * MIB, 20 + n % 9, 5, n) for n in range(40)])
    judge_growth(report)
    assert report.problems == []


def test_what_still_waits_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soak.soak._DRAINED_SECONDS", 0.1)
    with webhook() as hook:
        config = configuration(tmp_path, hook, free_port())  # nobody listens there
        with served_archive(tmp_path, "--config", config) as archive:
            target = target_of(archive, tmp_path)
            room = Department(target, Ledger(), threading.Event(), 1, done=Done())
            room.examination()
            report = Report()
            judge_queues(archive, room.done, report)
    waiting, sent = report.problems
    assert waiting.endswith("s still to be sent: 3")
    assert sent == "0 objects were sent on, of at least 3"
