"""The queue between the server and the disk: bounds, a disk that is full, stopping."""

from __future__ import annotations

import base64
import errno
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from isocenter.services.notices import (
    Caller,
    InstancesSent,
    ServerStarted,
    ServerStopped,
    TransferStarted,
)
from isocenter.services.security.audit import recorder as auditor_module
from isocenter.services.security.audit import trail_writer as writer_module
from isocenter.services.security.audit.hash_chain import Entry
from isocenter.services.security.audit.message_builder import audit_log_used
from isocenter.services.security.audit.messages import AuditMessage, AuditSource
from isocenter.services.security.audit.participants import ActiveProcess, Patient
from isocenter.services.security.audit.recorder import AuditRecorder, run_recorder
from isocenter.services.security.audit.trail_verification import verify
from isocenter.services.security.audit.trail_writer import trail_of
from services.security.audit.trails import audited_object, messages, of_event, records

HERE = ActiveProcess(ae_titles=("US",), machine="vm", user="root", process_id=7)
SOURCE = AuditSource(source_id="US")


class Disk:
    """A trail on a disk that can be full."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "audit"
        self.trail = trail_of(self.folder, HERE, SOURCE, rotate_bytes=1 << 20, key=None)
        self.is_full = False
        self.batches: list[int] = []
        self._append = self.trail.append
        self.trail.append = self.append  # type: ignore[method-assign]

    def append(self, entries: Sequence[Entry]) -> None:
        self.batches.append(len(entries))
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._append(entries)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


async def nobody(studies: Sequence[str]) -> dict[str, Patient]:
    return {}


def auditor_on(disk: Disk, **options: object) -> AuditRecorder:
    return AuditRecorder(disk.trail, HERE, SOURCE, patients=nobody, **options)  # type: ignore[arg-type]


def message() -> AuditMessage:
    return audit_log_used(HERE, Path("/trail"))


async def test_what_comes_together_is_written_together(disk: Disk) -> None:
    auditor = auditor_on(disk)
    with trio.fail_after(60):
        async with run_recorder(auditor):
            for _ in range(50):
                auditor.record(message())
            await auditor.writer.written.wait()
    assert disk.batches == [50]
    assert auditor.writer.statistics.recorded == len(records(disk.folder)) == 50


async def test_what_is_in_memory_is_written_at_the_end(disk: Disk) -> None:
    auditor = auditor_on(disk)
    async with run_recorder(auditor):
        auditor.record(message())
    assert len(records(disk.folder)) == 1


async def test_what_is_in_memory_is_written_when_everything_is_cancelled(disk: Disk) -> None:
    auditor = auditor_on(disk)
    with trio.CancelScope() as scope:
        async with run_recorder(auditor):
            auditor.record(message())
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert len(records(disk.folder)) == 1


async def test_a_full_queue_is_written_by_who_fills_it(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "MOST_WAITING", 5)
    auditor = auditor_on(disk)
    for _ in range(12):
        auditor.record(message())
    assert disk.batches == [5, 5]
    assert auditor.writer.statistics.lost == 0
    await auditor.close()
    assert len(records(disk.folder)) == 12


async def test_a_full_disk_loses_nothing_up_to_the_bound_and_says_what_it_lost_beyond(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer_module, "MOST_WAITING", 5)
    monkeypatch.setattr(writer_module, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(writer_module, "LINGER_SECONDS", 0.01)
    caplog.set_level(logging.WARNING, "isocenter.audit")
    monkeypatch.setattr(logging.getLogger("isocenter"), "propagate", True)
    auditor = auditor_on(disk)
    disk.is_full = True
    with trio.fail_after(60):
        async with run_recorder(auditor):
            for _ in range(8):
                auditor.record(message())
            await auditor.writer.failed.wait()
            assert auditor.writer.statistics.lost == 3
            disk.is_full = False
            await auditor.writer.written.wait()
            auditor.record(message())
    assert verify(disk.folder).is_good
    found = messages(disk.folder)
    assert len(of_event(found, "110101")) == 6
    (outage,) = of_event(found, "110113", "110134")
    text = base64.b64decode(
        audited_object(outage, "12").find("ParticipantObjectDetail").get("value")
    )
    assert b"No space left on device; 3 messages are missing" in text
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "cannot be written: No space left on device" in errors[0].getMessage()
    assert "written again" in caplog.records[-1].getMessage()


async def test_a_retrieval_is_told_with_its_patients_in_order(disk: Disk) -> None:
    async def patients(studies: Sequence[str]) -> dict[str, Patient]:
        await trio.lowlevel.checkpoint()
        return {study: Patient(f"ID-{study}", "Name") for study in studies if study != "2"}

    auditor = AuditRecorder(disk.trail, HERE, SOURCE, patients=patients)
    begun, sent = retrieval({"1": 2, "2": 1})
    async with run_recorder(auditor):
        auditor.on_notice(ServerStarted(addresses=()))
        auditor.on_notice(begun)
        auditor.on_notice(sent)
    codes = [
        root.find("EventIdentification/EventID").get("csd-code") for root in messages(disk.folder)
    ]
    assert codes == ["110100", "110102", "110102", "110104", "110104"]
    ids = [
        audited_object(root, "2").get("ParticipantObjectID") for root in messages(disk.folder)[1:]
    ]
    assert ids == ["ID-1", "", "ID-1", ""]


async def test_lookups_have_a_bound(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditor_module, "MOST_LOOKUPS", 2)
    auditor = auditor_on(disk)
    begun, _ = retrieval({"1": 2})
    for _ in range(5):
        auditor.on_notice(begun)
    await auditor.close()
    assert len(records(disk.folder)) == 5


def retrieval(studies: dict[str, int]) -> tuple[TransferStarted, InstancesSent]:
    caller = Caller(association="a", address="10.0.0.1:104", calling_ae_title="WS")
    begun = TransferStarted(
        caller=caller,
        command="C-MOVE",
        destination="WS",
        destination_address="ws:104",
        studies=studies,
        sop_classes=frozenset({"1.2", "1.3"}),
    )
    sent = InstancesSent(
        caller=caller,
        command="C-MOVE",
        destination="WS",
        destination_address="ws:104",
        studies=studies,
        sop_classes=begun.sop_classes,
        completed=3,
        failed=0,
        warning=0,
        status=0,
        sent=studies,
    )
    return begun, sent


async def test_a_node_says_that_it_joins_and_leaves_and_a_server_alone_does_not(
    disk: Disk,
) -> None:
    for node in ("", "east"):
        auditor = AuditRecorder(disk.trail, replace(HERE, node=node), SOURCE, patients=nobody)
        async with run_recorder(auditor):
            auditor.on_notice(ServerStarted(addresses=()))
            auditor.on_notice(ServerStopped())
    told = messages(disk.folder)
    entries = of_event(told, "110108")
    assert [each.find(".//EventTypeCode").get("csd-code") for each in entries] == [
        "110124",
        "110125",
    ]
    for entry in entries:
        assert entry.find("EventIdentification").get("EventActionCode") == "E"
        (who,) = entry.findall("ActiveParticipant")
        assert (who.get("UserID"), who.get("UserIsRequestor")) == ("east", "false")
        assert not entry.findall("ParticipantObjectIdentification")
    # Its own life encloses that of the node.
    assert told[-4:] == [
        *of_event(told, "110100", "110120")[-1:],
        *entries,
        *of_event(told, "110100", "110121")[-1:],
    ]
