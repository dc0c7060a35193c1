"""The day of a modality, each step until it is done, whatever happens to the archive meanwhile."""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import orjson
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ModalityPerformedProcedureStep,
    ModalityWorklistInformationFind,
    StorageCommitmentPushModel,
)

from day.department import MODALITY, WAIT_SECONDS, Department
from day.proxy import Relay
from isocenter.services.service_classes.mpps.performed_step import StepState
from isocenter.services.service_classes.mpps.scu import final_step, new_step, performed_series
from services.service_classes.mpps.samples import BEGAN, ENDED
from support.processes import isocenter_command, run
from support.studies import CT_IMAGE_STORAGE, ROOT, instance

INSTANCES = 300
#: These leave in several parts: of 2 MiB each.
LARGE = frozenset([20, 200])
LARGE_ROWS = 1024
STEP_UID = f"{ROOT}.100"
TRANSACTION_UID = f"{ROOT}.200"
WELL_KNOWN = "1.2.840.10008.1.20.1.1"
ORDER = "\r".join(
    [
        "MSH|^~\\&|RIS|HOSP|ISOCENTER|HOSP|20260102080000||OMI^O23|MSG1|P|2.5.1||||||UNICODE UTF-8",
        "PID|1||P1^^^HOSPITAL||Müller^Jörg||19700102|O",
        "PV1|1|O",
        "ORC|NW|PL1|FI1||||||20260102080000",
        "TQ1|1||||||20260102101500||R",
        "OBR|1|PL1|FI1|CTHEAD^CT head^99HOSP",
        f"IPC|A1|RP1|{ROOT}.1|SPS1|CT|HEAD1^Head native^99HOSP|CT1NAME|ROOM1|{MODALITY}",
        "",
    ]
)


@dataclass(frozen=True)
class Killer:
    """Kills the archive at a random point of a step: once so many bytes of it have passed."""

    random: Random

    @contextmanager
    def during(self, department: Department, relay: Relay, most: int) -> Iterator[None]:
        """*most*: about as many bytes as the step takes."""
        relay.arm(self.random.randrange(1, most), department.kill)
        yield
        if relay.disarm():  # it took fewer: then right after it
            department.kill()


@contextmanager
def nobody(department: Department, relay: Relay, most: int) -> Iterator[None]:
    """The day on which nothing is killed."""
    yield


@contextmanager
def associated(department: Department, *contexts: str) -> Iterator[Any]:
    """pynetdicom as the modality; None: the archive is not there."""
    entity = AE(MODALITY)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = WAIT_SECONDS
    for uid in contexts:
        entity.add_requested_context(uid)
    roles = [build_role(StorageCommitmentPushModel, scu_role=True)]
    association = entity.associate(
        "127.0.0.1", department.dicom.port, ae_title="ISOCENTER",
        ext_neg=roles if StorageCommitmentPushModel in contexts else None,
    )  # fmt: skip
    transport = association.dul.socket.socket
    try:
        yield association if association.is_established else None
    finally:
        if association.is_established:
            association.release()
        if transport is not None:
            transport.close()  # pynetdicom forgets it when the other side has cut it


def order(department: Department) -> bool:
    """The RIS sends its order, and is told that it is kept."""
    try:
        with socket.create_connection(("127.0.0.1", department.hl7.port), WAIT_SECONDS) as sock:
            sock.sendall(b"\x0b" + ORDER.encode("utf-8") + b"\x1c\r")
            answer = b""
            while not answer.endswith(b"\x1c\r"):
                piece = sock.recv(4_096)
                if not piece:
                    return False
                answer += piece
    except OSError:
        return False
    code = re.search(r"MSA\|(\w\w)", answer.decode())
    assert code is not None, answer
    assert code[1] == "AA", answer.decode()
    return True


class Modality:
    """What it knows as the day goes on."""

    def __init__(self, department: Department) -> None:
        self._department = department
        self.entry = Dataset()
        self.images = department.folder / "images"
        self.headers = [
            instance(1, 1, number, rows=LARGE_ROWS if number in LARGE else 16)
            for number in range(1, INSTANCES + 1)
        ]
        self.images.mkdir()
        for number, item in enumerate(self.headers):
            item.save_as(self.images / f"{number}.dcm", enforce_file_format=True)

    def ask(self) -> bool:
        """The worklist has the order."""
        keys = Dataset()
        for keyword in (
            "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber",
            "StudyInstanceUID", "RequestedProcedureID", "RequestedProcedureDescription",
        ):  # fmt: skip
            setattr(keys, keyword, "")
        step = Dataset()
        step.ScheduledStationAETitle = MODALITY
        step.Modality = step.ScheduledProcedureStepID = step.ScheduledProcedureStepDescription = ""
        step.ScheduledProcedureStepStartDate = "20260102"
        step.ScheduledProtocolCodeSequence = []
        keys.ScheduledProcedureStepSequence = [step]
        with associated(self._department, ModalityWorklistInformationFind) as association:
            if association is None:
                return False
            answers = list(association.send_c_find(keys, ModalityWorklistInformationFind))
        if [status.get("Status") for status, _ in answers] != [0xFF00, 0x0000]:
            return False
        self.entry = answers[0][1]
        return True

    def begin(self) -> bool:
        """The step is in progress, as this N-CREATE or an earlier one said."""
        step = new_step(
            performed_step_id="PPS1", station_ae_title=MODALITY, modality="", started=BEGAN,
            worklist_entry=self.entry,
        )  # fmt: skip
        with associated(self._department, ModalityPerformedProcedureStep) as association:
            if association is None:
                return False
            status, _ = association.send_n_create(step, ModalityPerformedProcedureStep, STEP_UID)
        return status.get("Status") in (0x0000, 0x0111)

    def store(self) -> bool:
        """All images were sent by DCMTK and acknowledged."""
        done = run(
            "storescu", "+sd", "-aet", MODALITY, "-aec", "ISOCENTER", "127.0.0.1",
            self._department.dicom.port, self.images,
        )  # fmt: skip
        return done.returncode == 0

    def commit(self) -> bool:
        """The archive was asked to promise that it keeps them."""
        asked = Dataset()
        asked.TransactionUID = TRANSACTION_UID
        asked.ReferencedSOPSequence = []
        for header in self.headers:
            item = Dataset()
            item.ReferencedSOPClassUID = CT_IMAGE_STORAGE
            item.ReferencedSOPInstanceUID = header.SOPInstanceUID
            asked.ReferencedSOPSequence.append(item)
        with associated(self._department, StorageCommitmentPushModel) as association:
            if association is None:
                return False
            status, _ = association.send_n_action(asked, 1, StorageCommitmentPushModel, WELL_KNOWN)
        # 0131H: it has this transaction already, of an earlier try.
        return status.get("Status") in (0x0000, 0x0131)

    def promised(self) -> bool:
        """The promise has come, by a report."""
        return self._department.reports.has(TRANSACTION_UID, 0.05)

    def complete(self) -> bool:
        """The step is completed, by this N-SET or an earlier one."""
        changes = final_step(
            StepState.COMPLETED, ended=ENDED,
            series=performed_series(self.headers, protocol_name="HEAD"),
        )  # fmt: skip
        with associated(self._department, ModalityPerformedProcedureStep) as association:
            if association is None:
                return False
            status, _ = association.send_n_set(changes, ModalityPerformedProcedureStep, STEP_UID)
        return status.get("Status") == 0x0000 or status.get("ErrorID") == 0xA710


def play(department: Department, during: Callable[..., Any] = nobody) -> dict[str, object]:
    """One day; the final state of everything."""
    department.up()
    modality = Modality(department)
    dicom = department.dicom
    forwarding = ExitStack()
    forwarding.enter_context(during(department, department.to_orthanc, 4_600_000))
    for what, relay, most, done in (
        ("order", department.hl7, 800, lambda: order(department)),
        ("worklist", dicom, 1_500, modality.ask),
        ("step in progress", dicom, 2_500, modality.begin),
        ("images", dicom, 4_600_000, modality.store),
        ("commitment asked", dicom, 30_000, modality.commit),
        ("commitment promised", department.to_modality, 20_000, modality.promised),
        ("step completed", dicom, 30_000, modality.complete),
    ):
        with during(department, relay, most):
            department.until(what, done)
    if during is not nobody:
        department.webhook.before_answer = department.kill
    department.until("study complete", lambda: department.webhook.has("study.complete", 0.05))
    department.until("forwarded", lambda: _at_orthanc(department) == INSTANCES)
    forwarding.close()
    department.until("everything told", lambda: _is_quiet(department))
    state = final_state(department)
    sent = sorted(map(_content, modality.headers))
    state["as sent"] = [_kept(department) == sent, _forwarded(department) == sent]
    department.stop()
    verified = isocenter_command("db", "verify", "--data-dir", department.data_dir)
    assert verified.returncode == 0, verified.stdout
    return state


def _at_orthanc(department: Department) -> int:
    return int(department.orthanc.get("/statistics")["CountInstances"])


def _content(item: Dataset) -> tuple[str, bytes]:
    return str(item.SOPInstanceUID), hashlib.sha256(item.PixelData).digest()


def _kept(department: Department) -> list[tuple[str, bytes]]:
    return sorted(_content(dcmread(path)) for path in _objects(department.data_dir))


def _forwarded(department: Department) -> list[tuple[str, bytes]]:
    """What Orthanc has."""
    orthanc = department.orthanc
    files = (orthanc.get_bytes(f"/instances/{each}/file") for each in orthanc.get("/instances"))
    return sorted(_content(dcmread(BytesIO(file))) for file in files)


def _listed(department: Department, *words: str) -> list[dict[str, Any]]:
    done = isocenter_command(*words, "--data-dir", department.data_dir, "--format", "json")
    assert done.returncode == 0, done.stdout
    found: list[dict[str, Any]] = orjson.loads(done.stdout.splitlines()[-1])
    return found


def _is_quiet(department: Department) -> bool:
    return len(department.webhook.of("study.complete")) > 0


def final_state(department: Department) -> dict[str, object]:
    """What is the same at the end of each day, however often the archive was killed."""
    (entry,) = _listed(department, "worklist", "list", "--state", "all")
    (step,) = _listed(department, "mpps", "list")
    (commitment,) = _listed(department, "commitments", "list")
    told = department.webhook.of("study.complete")
    return {
        "entry": {name: entry[name] for name in ("step_id", "step_status", "patient_id", "source")},
        "step": {name: step[name] for name in ("state", "series", "instances", "arrived")},
        "commitment": {name: commitment[name] for name in ("state", "instances", "failed")},
        "promise": department.reports.results[TRANSACTION_UID],
        "objects": sorted(path.stem for path in _objects(department.data_dir)),
        "studies complete": [event["study_instance_uid"] for event in told],
        "at Orthanc": _at_orthanc(department),
    }


def _objects(data_dir: Path) -> list[Path]:
    return list((data_dir / "objects").rglob("*.dcm"))
