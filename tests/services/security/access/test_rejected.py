"""Learn mode: who was turned away is remembered, and strangers cannot flood it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from isocenter.services.notices import (
    AssociationRejected,
    Caller,
    ConnectionRefused,
    RefusalReason,
    ServerStopped,
)
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.rejected_callers import (
    MOST_CALLERS,
    MOST_OF_ADDRESS,
    RejectedCaller,
    RejectedCallers,
    RejectedFile,
    merge_rejections,
)

CALLER = Caller(
    association="a-1", address="10.0.0.7:40000", calling_ae_title="CT1", called_ae_title="ARCHIVE"
)
REJECTED = AssociationRejected(
    caller=CALLER,
    result=1,
    source=1,
    reason=3,
    why="not in the policy; admit it with isocenter ae add CT1",
    cure="isocenter ae add CT1",
)


def caller(number: int, address: str = "", certificate: str = "") -> RejectedCaller:
    when = f"2026-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}+00:00"
    return RejectedCaller(
        address=address or f"10.1.{number // 256}.{number % 256}",
        calling_ae_title=f"AE{number}",
        called_ae_title="ARCHIVE",
        certificate=certificate,
        count=1,
        first=when,
        last=when,
        why="why",
        cure="",
    )


def test_the_same_caller_is_counted() -> None:
    first, last = caller(1, "10.0.0.1"), caller(9, "10.0.0.1")
    last = replace(last, calling_ae_title="AE1", why="another", count=4)
    (one,) = merge_rejections([last], [first])
    assert (one.count, one.first, one.last, one.why) == (5, first.first, last.last, "another")


def test_a_flood_from_one_address_pushes_out_only_itself() -> None:
    flood = [caller(number, "10.6.6.6") for number in range(5_000)]
    kept = merge_rejections([caller(0, "10.0.0.1")], flood)
    assert len(kept) == MOST_OF_ADDRESS + 1
    assert kept[-1].address == "10.0.0.1"


def test_a_flood_from_everywhere_pushes_out_nobody_with_a_certificate() -> None:
    known = [caller(number, f"10.0.0.{number}", "CT") for number in range(1, 9)]
    kept = merge_rejections(known, [caller(number) for number in range(100, 3_000)])
    assert len(kept) == MOST_CALLERS
    assert set(known) <= set(kept)
    assert [one.last for one in kept] == sorted((one.last for one in kept), reverse=True)


def test_what_is_written_is_read_and_forgotten(tmp_path: Path) -> None:
    file = RejectedFile(tmp_path / "access")
    assert file.read() == []
    assert file.clear() == 0
    file.add([caller(1)])
    file.add([caller(2), caller(1)])
    assert [(one.calling_ae_title, one.count) for one in file.read()] == [("AE2", 1), ("AE1", 2)]
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.clear() == 2
    assert file.read() == []
    file.path.write_text("{")
    with pytest.raises(PolicyError, match="cannot be read; remove it"):
        file.read()


async def test_what_is_heard_is_kept_soon_and_at_the_end(tmp_path: Path) -> None:
    file = RejectedFile(tmp_path)
    rejected = RejectedCallers(file)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rejected.run)
        rejected.on_notice(REJECTED)
        with trio.fail_after(60):
            while not file.path.exists():  # a thread writes it
                await trio.lowlevel.checkpoint()
        (one,) = file.read()
        assert (one.address, one.calling_ae_title, one.called_ae_title) == (
            "10.0.0.7",
            "CT1",
            "ARCHIVE",
        )
        assert (one.why, one.cure, one.count) == ("not in the policy", "isocenter ae add CT1", 1)
        rejected.on_notice(REJECTED)
        rejected.on_notice(replace(REJECTED, result=2))  # too many now: no matter of who it is
        rejected.on_notice(ServerStopped())
        rejected.on_notice(
            ConnectionRefused(
                address="[fe80::1]:5",
                refusal=RefusalReason.TLS_HANDSHAKE,
                detail="its CA is unknown",
            )
        )
        rejected.on_notice(
            ConnectionRefused(address="x:5", refusal=RefusalReason.DEADLINE, detail="late")
        )
        nursery.cancel_scope.cancel()
    assert {(one.address, one.calling_ae_title, one.count) for one in file.read()} == {
        ("10.0.0.7", "CT1", 2),
        ("fe80::1", "", 1),
    }


async def test_a_flood_takes_no_memory(tmp_path: Path) -> None:
    rejected = RejectedCallers(RejectedFile(tmp_path))
    for number in range(20_000):
        title = replace(CALLER, calling_ae_title=f"X{number}", address="10.6.6.6:1")
        rejected.on_notice(replace(REJECTED, caller=title))
    assert len(rejected._new) <= 2 * MOST_CALLERS


async def test_a_folder_that_cannot_be_written_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "access").write_text("a file")
    rejected = RejectedCallers(RejectedFile(tmp_path / "access"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rejected.run)
        rejected.on_notice(REJECTED)
        nursery.cancel_scope.cancel()
    assert "rejected callers are not kept" in caplog.text
