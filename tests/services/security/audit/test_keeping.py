"""A trail that is looked after: compressed, and removed by rule."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from isocenter.services.cli import main
from isocenter.services.security.audit import trail_upkeep as keeping_module
from isocenter.services.security.audit.repository import Protocol, SyslogRepository
from isocenter.services.security.audit.trail_removal import RemovalPlan
from isocenter.services.security.audit.trail_segments import segments_of
from isocenter.services.security.audit.trail_upkeep import Keeping, run_trail_upkeep
from isocenter.services.security.audit.trail_verification import verify
from services.security.audit.trails import entry, filled, of_event, parsed, records, trail
from support.processes import served_archive, wait_until

#: The day after the records of `entry` were made.
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping_module, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(keeping_module, "REMOVAL_SECONDS", 0.0)


async def looked_after(
    folder: Path, keeping: Keeping, planned: list[RemovalPlan], *, looks: int, now: datetime = NOW
) -> None:
    """As many looks as that."""
    seen = 0

    async with trio.open_nursery() as nursery:

        def moment() -> datetime:
            nonlocal seen
            seen += 1
            if seen >= looks:
                nursery.cancel_scope.cancel()
            return now

        def record(plan: RemovalPlan) -> None:
            assert all(segment.path.exists() for segment in plan.segments), "before it goes"
            planned.append(plan)

        nursery.start_soon(lambda: run_trail_upkeep(folder, keeping, record, now=moment))


@pytest.mark.usefixtures("_often")
@pytest.mark.parametrize("compress", [True, False])
async def test_old_files_go_and_the_others_are_compressed(tmp_path: Path, compress: bool) -> None:
    filled(tmp_path, 6, rotate_bytes=1)
    made = trail(tmp_path, rotate_bytes=1)
    young = entry("young")
    object.__setattr__(young, "time", "2026-11-22T04:00:00.000000Z")
    for _ in range(3):
        made.append([young])
    planned: list[RemovalPlan] = []
    keeping = Keeping(compress=compress, keep_days=1, key=None)
    await looked_after(tmp_path, keeping, planned, looks=3)
    (plan,) = planned
    assert plan.removal.last.sequence == 6
    left = segments_of(tmp_path)
    assert [segment.first for segment in left] == [7, 8, 9]
    assert [segment.is_compressed for segment in left] == [compress, compress, False]
    verdict = verify(tmp_path)
    assert verdict.is_good
    assert verdict.removed == plan.removal


@pytest.mark.usefixtures("_often")
async def test_nothing_goes_where_nothing_was_said(tmp_path: Path) -> None:
    filled(tmp_path, 6, rotate_bytes=1)
    with trio.move_on_after(0.2):
        await run_trail_upkeep(
            tmp_path, Keeping(compress=True, keep_days=0, key=None), _never, now=_far_ahead
        )
    assert len(segments_of(tmp_path)) == 6


def _never(plan: RemovalPlan) -> None:
    raise AssertionError(plan)


def _far_ahead() -> datetime:
    return NOW + timedelta(days=10_000)


@pytest.mark.usefixtures("_often")
async def test_what_may_not_go_stays_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path, 6, rotate_bytes=1)
    first = segments_of(tmp_path)[0].path
    good = first.read_bytes()
    first.write_bytes(good.replace(b"CT1", b"CT2"))
    planned: list[RemovalPlan] = []
    with caplog.at_level(logging.ERROR, "isocenter.audit"):
        broken = Keeping(compress=False, keep_days=1, key=None)
        await looked_after(tmp_path, broken, planned, looks=4, now=_far_ahead())
        assert len(caplog.records) == 1
        assert "broken" in caplog.text
        first.write_bytes(good)
        caplog.clear()
        waiting = Keeping(
            compress=False,
            keep_days=1,
            key=None,
            collectors=[SyslogRepository(Protocol.UDP, "127.0.0.1", 1)],
        )
        await looked_after(tmp_path, waiting, planned, looks=4, now=_far_ahead())
        assert len(caplog.records) == 1
        assert "has not got all of them" in caplog.text
    assert not planned
    assert len(segments_of(tmp_path)) == 6


def test_a_server_compresses_and_removes_by_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data" / "audit"
    filled(folder, 6, rotate_bytes=1)
    words = ["--data-dir", str(tmp_path / "data")]
    # To the server, the last file is large enough.
    small = ["--config", str(tmp_path / "small.toml")]
    (tmp_path / "small.toml").write_text("[audit]\nrotate = 65536\n")
    with served_archive(tmp_path, *small) as archive:
        states = [True] * 5 + [False]
        wait_until(
            lambda: [one.is_compressed for one in segments_of(folder)] == states, archive.process
        )
    assert main(["audit", "verify", *words]) == 0
    assert main(["audit", "show", *words]) == 0
    shown = capsys.readouterr().out
    assert "unbroken" in shown
    assert "Application Start" in shown
    (tmp_path / "small.toml").write_text("[audit]\nkeep_days = 1\n")
    with served_archive(tmp_path, *small) as archive:
        wait_until(lambda: len(segments_of(folder)) == 1, archive.process)
    assert main(["audit", "verify", *words]) == 0
    assert "removed on purpose" in capsys.readouterr().err
    ours = [
        parsed(record.entry.message)
        for record in records(folder)
        if "note=" not in record.entry.message
    ]
    assert len(of_event(ours, "110113", "110132")) == 1
