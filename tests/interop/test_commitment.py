"""Storage commitment with other people's programs, and across `kill -9` of our server."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import trio
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from isocenter.engine.errors import AssociationError
from isocenter.services.association.peer import Peer
from isocenter.services.net.listeners import ListenAddress
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.commitment.scu import CONTEXTS, CommitmentResults
from isocenter.services.service_classes.commitment.transaction import (
    STORAGE_COMMITMENT,
    WELL_KNOWN_INSTANCE,
    Reference,
    request_of,
)
from isocenter.services.service_classes.normalized.operations import n_action
from support.peers import orthanc
from support.ports import free_port
from support.processes import (
    STOP_SECONDS,
    ServedArchive,
    isocenter_command,
    program,
    served_archive,
    wait_for_line,
)
from support.studies import CT_IMAGE_STORAGE, ROOT, instance, write_studies

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]

WELL_KNOWN = "1.2.840.10008.1.20.1.1"
MODALITY = "CT1"
SECONDS = 120.0
#: Longer than the server needs to come to the commit at which it is killed.
KILL_SECONDS = 5.0
#: From the request to the first attempt to report, and one more.
MOST_COMMITS = 5
STORED = [Reference(CT_IMAGE_STORAGE, f"{ROOT}.1.1.{number}") for number in (1, 2)]
MISSING = Reference(CT_IMAGE_STORAGE, f"{ROOT}.9.9.9")


def request(transaction_uid: str, *references: Reference) -> Dataset:
    information = Dataset()
    information.TransactionUID = transaction_uid
    information.ReferencedSOPSequence = [item_of(reference) for reference in references]
    return information


def item_of(reference: Reference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    return item


class Reports:
    """What pynetdicom was told: event type, committed and failed instances, on which side."""

    def __init__(self) -> None:
        self.came = threading.Semaphore(0)
        self.of: dict[str, tuple[int, list[str], dict[str, int], bool]] = {}

    def take(self, event: Any) -> tuple[int, None]:
        said = event.event_information
        self.of[str(said.TransactionUID)] = (
            event.event_type,
            [str(i.ReferencedSOPInstanceUID) for i in said.get("ReferencedSOPSequence", [])],
            {
                str(i.ReferencedSOPInstanceUID): i.FailureReason
                for i in said.get("FailedSOPSequence", [])
            },
            event.assoc.is_acceptor,
        )
        self.came.release()
        return 0x0000, None

    def wait(self) -> None:
        assert self.came.acquire(timeout=SECONDS)


@contextmanager
def pynetdicom_modality(port: int) -> Iterator[tuple[AE, Reports]]:
    """pynetdicom as SCU that listens for reports, too."""
    reports = Reports()
    entity = AE(MODALITY)
    entity.add_requested_context(StorageCommitmentPushModel)
    entity.add_requested_context(CT_IMAGE_STORAGE)
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    handlers = [(evt.EVT_N_EVENT_REPORT, reports.take)]
    listener = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    try:
        yield entity, reports
    finally:
        listener.shutdown()


def test_pynetdicom_asks_and_hears_on_either_association(tmp_path: Path) -> None:
    port = free_port()
    with (
        served_archive(tmp_path, "--peer", f"{MODALITY}@127.0.0.1:{port}") as archive,
        pynetdicom_modality(port) as (entity, reports),
    ):
        handlers = [(evt.EVT_N_EVENT_REPORT, reports.take)]
        caller = entity.associate(
            "127.0.0.1", archive.port, ae_title="ISOCENTER", evt_handlers=handlers
        )
        for number in (1, 2):
            assert caller.send_c_store(instance(number=number)).Status == 0
        status, _ = caller.send_n_action(
            request("1.2.1", *STORED), 1, StorageCommitmentPushModel, WELL_KNOWN
        )
        assert status.Status == 0
        reports.wait()
        stored = [reference.sop_instance_uid for reference in STORED]
        assert reports.of["1.2.1"] == (1, stored, {}, False)
        other = Reference("1.2.840.10008.5.1.4.1.1.4", stored[1])
        status, _ = caller.send_n_action(
            request("1.2.2", STORED[0], other, MISSING), 1, StorageCommitmentPushModel, WELL_KNOWN
        )
        caller.release()
        reports.wait()
        failed = {other.sop_instance_uid: 0x0119, MISSING.sop_instance_uid: 0x0112}
        assert reports.of["1.2.2"][:3] == (2, stored[:1], failed)


def test_pynetdicom_gets_the_statuses_of_the_standard(tmp_path: Path) -> None:
    with served_archive(tmp_path) as archive:
        entity = AE(MODALITY)
        entity.add_requested_context(StorageCommitmentPushModel)
        good = request("1.2.3", MISSING)
        empty = request("1.2.3")
        for information, action, uid, expected in (
            (good, 2, WELL_KNOWN, 0x0123),
            (good, 1, "1.2.3", 0x0112),
            (empty, 1, WELL_KNOWN, 0x0121),
            (None, 1, WELL_KNOWN, 0x0120),
        ):
            # One after the other on one association, pynetdicom may take an answer for a request.
            caller = entity.associate("127.0.0.1", archive.port, ae_title="ISOCENTER")
            status, _ = caller.send_n_action(information, action, StorageCommitmentPushModel, uid)
            assert status.Status == expected
            caller.release()


class Pacs:
    """pynetdicom's storage commitment SCP, as its documentation shows one: it promises everything
    but `MISSING`, and reports on an association of its own."""

    def __init__(self, report_port: int) -> None:
        self.report_port = report_port
        self.threads: list[threading.Thread] = []
        #: Of the reports; an assertion in a thread of its own would fail no test.
        self.statuses: list[int] = []

    def act(self, event: Any) -> tuple[int, None]:
        information = event.action_information
        caller = event.assoc.requestor.ae_title
        self.threads.append(threading.Thread(target=self.report, args=(information, caller)))
        self.threads[-1].start()
        return 0x0000, None

    def report(self, asked: Dataset, caller: str) -> None:
        said = Dataset()
        said.TransactionUID = asked.TransactionUID
        said.ReferencedSOPSequence = []
        said.FailedSOPSequence = []
        for item in asked.ReferencedSOPSequence:
            if item.ReferencedSOPInstanceUID == MISSING.sop_instance_uid:
                item.FailureReason = 0x0112
                said.FailedSOPSequence.append(item)
            else:
                said.ReferencedSOPSequence.append(item)
        if not said.FailedSOPSequence:
            del said.FailedSOPSequence
        entity = AE("PACS")
        entity.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = entity.associate(
            "127.0.0.1", self.report_port, ae_title=caller, ext_neg=[role]
        )
        if not association.is_established:
            return
        kind = 2 if "FailedSOPSequence" in said else 1
        status, _ = association.send_n_event_report(
            said, kind, StorageCommitmentPushModel, WELL_KNOWN
        )
        self.statuses.append(int(status.Status))
        association.release()


def test_our_command_asks_pynetdicom(tmp_path: Path) -> None:
    port, report_port = free_port(), free_port()
    files = write_studies(tmp_path / "files", studies=1)
    pacs = Pacs(report_port)
    entity = AE("PACS")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = SECONDS
    entity.add_supported_context(StorageCommitmentPushModel)
    listener = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_ACTION, pacs.act)]
    )
    call = [
        "commitscu", f"PACS@127.0.0.1:{port}", "-aet", MODALITY, "--format", "json",
        "--port", report_port, "--receive-host", "127.0.0.1",
    ]  # fmt: skip
    try:
        done = isocenter_command(*call, tmp_path / "files", "-q")
        assert done.returncode == 0, done.stdout
        (result,) = orjson.loads(done.stdout)
        assert len(result["committed"]) == len(files)
        instance(9, 9, 9).save_as(tmp_path / "files" / "missing.dcm", enforce_file_format=True)
        done = isocenter_command(*call, tmp_path / "files", "--no-stay", "-q")
        assert done.returncode == 1
        (result,) = orjson.loads(done.stdout)
        (failed,) = result["failed"]
        assert failed["sop_instance_uid"] == MISSING.sop_instance_uid
        assert failed["failure_reason"] == "0112"
        for thread in pacs.threads:
            thread.join(SECONDS)
        assert pacs.statuses == [0, 0]
    finally:
        listener.shutdown()


@pytest.mark.interop("Orthanc")
def test_orthanc_asks_us_and_we_ask_orthanc(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "files")
    orthanc_port, report_port = free_port(), free_port()
    with served_archive(tmp_path, "--peer", f"ORTHANC@127.0.0.1:{orthanc_port}") as archive:
        modalities: dict[str, dict[str, object]] = {
            "isocenter": {"AET": "ISOCENTER", "Host": "127.0.0.1", "Port": archive.port},
            "modality": {"AET": MODALITY, "Host": "127.0.0.1", "Port": report_port},
        }
        with orthanc(tmp_path / "orthanc", modalities=modalities, dicom_port=orthanc_port) as peer:
            for path in files:
                peer.post("/instances", path.read_bytes())
            known = peer.get("/instances")
            peer.post("/modalities/isocenter/store", known[:5])
            for asked, status, failed in ((known[:5], "Success", 0), (known, "Failure", 3)):
                answer = peer.post("/modalities/isocenter/storage-commitment", {"Resources": asked})
                outcome = _outcome(peer, answer["Path"])
                assert outcome["Status"] == status
                assert len(outcome["Success"]) == 5
                assert [each["FailureReason"] for each in outcome["Failures"]] == [274] * failed
            call = [
                "commitscu", f"ORTHANC@127.0.0.1:{orthanc_port}", "-aet", MODALITY, "-q",
                "--port", report_port, "--receive-host", "127.0.0.1", "--format", "json",
            ]  # fmt: skip
            done = isocenter_command(*call, tmp_path / "files")
            assert done.returncode == 0, done.stdout
            (result,) = orjson.loads(done.stdout)
            assert len(result["committed"]) == len(files)
            instance(9, 9, 9).save_as(tmp_path / "files" / "missing.dcm", enforce_file_format=True)
            done = isocenter_command(*call, tmp_path / "files")
            assert done.returncode == 1
            (result,) = orjson.loads(done.stdout)
            assert [each["failure_reason"] for each in result["failed"]] == ["0112"]


def _outcome(peer: Any, path: str) -> Any:
    """Of a transaction, when Orthanc knows it."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        outcome = peer.get(path)
        if outcome["Status"] != "Pending":
            return outcome
    raise AssertionError("no report came")


# -- kill -9 -------------------------------------------------------------------------------


async def _store(archive: ServedArchive) -> None:
    contexts = [(CT_IMAGE_STORAGE, ("1.2.840.10008.1.2.1",))]
    async with open_association(_peer(archive), contexts) as association:
        for number in (1, 2):
            assert (await association.store(instance(number=number, rows=512))).status == 0


def _peer(archive: ServedArchive) -> Peer:
    return Peer("ISOCENTER", "127.0.0.1", archive.port)


async def _ask(archive: ServedArchive, transaction_uid: str) -> int:
    async with open_association(_peer(archive), CONTEXTS, calling_ae_title=MODALITY) as association:
        information = request_of(transaction_uid, STORED)
        answer = await n_action(
            association, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE, 1, information
        )
        return answer.status


@contextmanager
def killed_at_sync(archive: ServedArchive, number: int, folder: Path) -> Iterator[None]:
    """The server gets SIGKILL as one of its threads syncs the index for the *number*th time."""
    threads = [int(name) for name in os.listdir(f"/proc/{archive.process.pid}/task")]
    threads.remove(archive.process.pid)
    inject = f"inject=fdatasync:signal=SIGKILL:when={number}"
    words: list[object] = ["strace", "-e", "trace=fdatasync", "-e", inject]
    for thread in threads:
        words += ["-p", thread]
    log = folder / f"strace-{number}.log"
    with program(*words, "-o", folder / "calls", log=log) as process:
        for thread in threads:
            wait_for_line(process, rf"^strace: Process {thread} attached", log)
        yield


async def _reported(port: int, *transaction_uids: str) -> None:
    results = CommitmentResults()
    for transaction_uid in transaction_uids:
        results.expect(transaction_uid)
    async with results.listening(ListenAddress(host="127.0.0.1", port=port)):
        with trio.fail_after(SECONDS):
            for transaction_uid in transaction_uids:
                assert (await results.wait(transaction_uid)).is_complete


def _rows(archive: ServedArchive) -> dict[str, Any]:
    """What the archive knows of its transactions."""
    call = ["commitments", "list", "--format", "json", "--data-dir", archive.data_dir]
    return {row["transaction_uid"]: row for row in orjson.loads(isocenter_command(*call).stdout)}


@pytest.mark.parametrize("workers", [1, 2])
async def test_what_was_asked_is_answered_after_kill_9(tmp_path: Path, workers: int) -> None:
    port = free_port()
    options = ["--peer", f"{MODALITY}@127.0.0.1:{port}", "--workers", workers]
    with served_archive(tmp_path, *options) as archive:
        await _store(archive)
        assert await _ask(archive, "1.2.3") == 0
        archive.kill()
    with served_archive(tmp_path, *options) as archive:
        await _reported(port, "1.2.3")
        # In time, or once more: what arrived is known to have arrived.
        await _delivered(archive, "1.2.3")


async def _delivered(archive: ServedArchive, transaction_uid: str) -> None:
    def is_known() -> bool:
        return bool(_rows(archive)[transaction_uid]["report"] == "delivered")

    with trio.fail_after(SECONDS):
        while not await trio.to_thread.run_sync(is_known):
            pass


@pytest.mark.interop("strace")
async def test_kill_9_at_each_commit(tmp_path: Path) -> None:
    """The request kept, the claim renewed, the outcome kept, the report claimed and delivered."""
    port = free_port()
    options = ["--peer", f"{MODALITY}@127.0.0.1:{port}"]
    with served_archive(tmp_path, *options) as archive:
        await _store(archive)
    asked: list[str] = []
    kills = 0
    for number in range(1, MOST_COMMITS + 1):
        transaction_uid = f"1.2.3.{number}"
        asked.append(transaction_uid)
        with (
            served_archive(tmp_path, *options) as archive,
            killed_at_sync(archive, number, tmp_path),
        ):
            is_taken = False
            try:
                is_taken = await _ask(archive, transaction_uid) == 0
                await trio.to_thread.run_sync(archive.process.wait, KILL_SECONDS)
            except AssociationError:
                archive.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                pass  # there are not so many commits before the modality listens
        kills += archive.process.returncode == -signal.SIGKILL
        with served_archive(tmp_path, *options) as archive:
            if not is_taken:  # the modality knows nothing, and asks again
                assert await _ask(archive, transaction_uid) == 0
            await _reported(port, transaction_uid)
            await _delivered(archive, transaction_uid)
            assert _rows(archive).keys() == set(asked)
    assert kills >= MOST_COMMITS // 2
    done = isocenter_command("db", "verify", "--data-dir", archive.data_dir)
    assert done.returncode == 0, done.stdout
