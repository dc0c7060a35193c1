"""The soak test for some seconds, so that it works when somebody has hours for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from soak.soak import Report, Sample, _judge_growth, soak

pytestmark = pytest.mark.slow
MIB = 1 << 20


@pytest.mark.interop("getscu")
def test_some_seconds_of_it(tmp_path: Path) -> None:
    said: list[str] = []
    report = soak(tmp_path, 8, workers=1, tell=said.append, every=2)
    assert report.problems == []
    assert report.stored > 5
    assert report.operations > 20
    assert len(report.samples) >= 3
    assert any("C-STORE" in line for line in said)


def test_growth_is_noticed() -> None:
    report = Report([Sample(n, (100 + 3 * n) * MIB, 20, 5, n) for n in range(40)])
    _judge_growth(report)
    assert any("memory grows" in problem for problem in report.problems)
    report = Report([Sample(n, 100 * MIB, 20 + 4 * n, 5, n) for n in range(40)])
    _judge_growth(report)
    assert any("descriptors grow" in problem for problem in report.problems)
    report = Report([Sample(n, (100 + n % 5) * MIB, 20 + n % 9, 5, n) for n in range(40)])
    _judge_growth(report)
    assert report.problems == []
