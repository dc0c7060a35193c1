"""A department at work: ordered by HL7, on the worklist, performed, stored, committed, sent on."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from attacks.peer import (
    COMMITMENT,
    COMMITMENT_CONTEXT,
    CT,
    DATA,
    MPPS,
    MPPS_CONTEXT,
    STORE_CONTEXT,
    WORKLIST,
    WORKLIST_CONTEXT,
    Closed,
    Peer,
    Sender,
    command,
    data_set,
    pdu,
    pdv,
    store,
)
from isocenter.engine.dimse.message_codec import (
    CFindRequest,
    NActionRequest,
    NCreateRequest,
    NEventReportRequest,
    NEventReportResponse,
    NSetRequest,
    encode_message,
)
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.service_classes.commitment.transaction import (
    WELL_KNOWN_INSTANCE,
    CommitmentEvent,
    Reference,
    request_of,
)
from isocenter.services.service_classes.mpps.performed_step import StepState
from isocenter.services.service_classes.mpps.scu import final_step, new_step, performed_series
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.worklist.scu import worklist_keys
from services.integration.hl7.samples import ORM, changed
from services.workflow.events.hooks import Hook
from soak.load import ROOT, Client, object_of
from support.processes import program, wait_for_port

#: Whose objects are sent on by rule.
MODALITY = "SOAKCT"
DESTINATION = "SOAKPACS"
CONSUMER = "soak"
IMAGES = 3
_IMAGE_BYTES = 12_000
#: Share of events that the consumer refuses at first.
_REFUSED = 0.1
_AWAY_SECONDS = 3.0

CONFIGURATION_FILE = "soak.toml"
CONFIGURATION = """
[hl7]
enabled = true
port = 0

[events]
quiet_seconds = 1
settle_seconds = 0.5

[[events.consumers]]
name = "{consumer}"
webhook = "{url}/"
longest_retry = 2
kinds = ["study.complete", "mpps.changed", "commitment.done", "worklist.changed"]

[forwarding]
first_retry = 0.5
longest_retry = 2

[[peers]]
ae_title = "{destination}"
host = "127.0.0.1"
port = {port}

[[rules]]
name = "soak"
when = {{ calling_ae = "{modality}" }}
forward = ["{destination}"]
"""


def configuration(folder: Path, hook: Hook, port: int) -> Path:
    path = folder / CONFIGURATION_FILE
    path.write_text(
        CONFIGURATION.format(
            consumer=CONSUMER,
            url=hook.url,
            destination=DESTINATION,
            port=port,
            modality=MODALITY,
        )
    )
    return path


@dataclass
class Done:
    """Examinations that are over: what has to be there at the end.

    Attributes:
        studies: of each, all objects acknowledged.
        told: studies that the consumer heard to be complete.
    """

    studies: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)

    def listen(self, hook: Hook) -> None:
        """Have the consumer refuse an event now and then."""
        draw = random.Random(1)

        def judged(event: dict[str, Any]) -> int:
            if draw.random() < _REFUSED:
                return 503
            if event["kind"] == "study.complete":
                self.told.add(event["study_instance_uid"])
            return 204

        hook.status = judged


@dataclass
class Department(Client):
    """One who has orders sent, and performs them."""

    done: Done = field(default_factory=Done)

    def examination(self) -> None:
        """From the order to the promise to keep its images."""
        self.count += 1
        name = f"{self.number}-{self.count}"
        study = f"{ROOT}.{self.number}.9.{self.count}"
        self._timed("HL7", lambda: self._order(name, study))
        with Peer(self.target.port) as peer:
            peer.associate(self.target.called, MODALITY)
            entry = self._timed("worklist", lambda: self._scheduled(peer, name))
            assert entry.StudyInstanceUID == study
            step = f"{study}.99"
            self._timed("MPPS", lambda: self._begin(peer, step, entry))
            images = [self._store(peer, study, number) for number in range(1, IMAGES + 1)]
            self._timed("MPPS", lambda: self._end(peer, step, images))
            self._timed("commitment", lambda: self._commit(peer, f"{study}.98", images))
            self._release(peer)
        self.done.studies.add(study)

    def everything(self) -> None:
        """What a modality asks in the morning: all of its steps, which are completed soon."""
        keys = worklist_keys({"station_ae": MODALITY})
        with Peer(self.target.port) as peer:
            peer.associate(self.target.called, MODALITY)
            status, _ = peer.ask(WORKLIST_CONTEXT, _find(), _identifier(keys))
            assert status == 0, f"{status:04X}H"
            self._release(peer)

    def _timed(self, what: str, act: Any) -> Any:
        began = time.perf_counter()
        result = act()
        self.ledger.done(what, time.perf_counter() - began)
        return result

    def _order(self, name: str, study: str) -> None:
        message = ORM
        for segment, number, value in (
            ("MSH", 10, name), ("ORC", 2, name), ("ORC", 3, name), ("OBR", 2, name),
            ("OBR", 3, name), ("OBR", 18, f"A{name}"), ("OBR", 19, f"R{name}"),
            ("OBR", 20, f"S{name}"), ("OBR", 21, MODALITY), ("ZDS", 1, study),
        ):  # fmt: skip
            message = changed(message, segment, number, value)
        with Sender(self.target.hl7_port) as sender:
            answer = sender.order(message)
        assert answer == "AA", answer

    def _scheduled(self, peer: Peer, name: str) -> Dataset:
        keys = worklist_keys({"accession_no": f"A{name}"})
        status, found = peer.ask(WORKLIST_CONTEXT, _find(), _identifier(keys))
        assert (status, len(found)) == (0, 1), f"{status:04X}H, {len(found)} entries"
        return AttributeList.read(found[0], EXPLICIT_VR_LITTLE_ENDIAN).to_dataset()

    def _begin(self, peer: Peer, step: str, entry: Dataset) -> None:
        content = new_step(
            performed_step_id=f"P{self.count}",
            station_ae_title=MODALITY,
            modality="CT",
            started=datetime.now(UTC),
            worklist_entry=entry,
        )
        request = NCreateRequest(
            message_id=2, affected_sop_class_uid=MPPS, affected_sop_instance_uid=step
        )
        status, _ = peer.ask(MPPS_CONTEXT, request, _encoded(content))
        assert status == 0, f"{status:04X}H"

    def _store(self, peer: Peer, study: str, number: int) -> Dataset:
        image = Dataset()
        image.SOPClassUID, image.SOPInstanceUID = CT, f"{study}.{number}"
        image.SeriesInstanceUID = f"{study}.1"
        content = object_of(image.SOPInstanceUID, study, self.draw.randbytes(_IMAGE_BYTES))
        peer.send(command(STORE_CONTEXT, store(image.SOPInstanceUID), has_data_set=True))
        peer.send(*data_set(STORE_CONTEXT, content))
        response, _ = peer.message()
        status = getattr(response, "status", None)
        assert status == 0, status
        self.ledger.acknowledged(image.SOPInstanceUID, _IMAGE_BYTES)
        return image

    def _end(self, peer: Peer, step: str, images: list[Dataset]) -> None:
        content = final_step(
            StepState.COMPLETED,
            ended=datetime.now(UTC),
            series=performed_series(images, protocol_name="SOAK"),
        )
        request = NSetRequest(
            message_id=3, requested_sop_class_uid=MPPS, requested_sop_instance_uid=step
        )
        status, _ = peer.ask(MPPS_CONTEXT, request, _encoded(content))
        assert status == 0, f"{status:04X}H"

    def _commit(self, peer: Peer, transaction: str, images: list[Dataset]) -> None:
        """Asked for, and reported on the same association."""
        references = [Reference(CT, image.SOPInstanceUID) for image in images]
        request = NActionRequest(
            message_id=4,
            requested_sop_class_uid=COMMITMENT,
            requested_sop_instance_uid=WELL_KNOWN_INSTANCE,
            action_type_id=1,
        )
        content = request_of(transaction, references).encode(EXPLICIT_VR_LITTLE_ENDIAN)
        status, _ = peer.ask(COMMITMENT_CONTEXT, request, content)
        assert status == 0, f"{status:04X}H"
        report, _ = peer.message()
        if not isinstance(report, NEventReportRequest):
            raise Closed("sent no report")
        assert report.event_type_id == CommitmentEvent.SUCCESSFUL, "not all is committed"
        response = NEventReportResponse(
            message_id_being_responded_to=report.message_id,
            status=0,
            affected_sop_class_uid=COMMITMENT,
            affected_sop_instance_uid=WELL_KNOWN_INSTANCE,
        )
        answer = encode_message(response, has_data_set=False)
        peer.send(pdu(DATA, pdv(COMMITMENT_CONTEXT, 3, answer)))


def _find() -> CFindRequest:
    return CFindRequest(message_id=1, affected_sop_class_uid=WORKLIST)


def _identifier(keys: list[tuple[str, str]]) -> bytes:
    return build_identifier(keys, None, EXPLICIT_VR_LITTLE_ENDIAN)


def _encoded(dataset: Dataset) -> bytes:
    return AttributeList.from_dataset(dataset).encode(EXPLICIT_VR_LITTLE_ENDIAN)


class Destination:
    """DCMTK's storescp, which goes away now and then.

    Args:
        folder: for its log.
        stop: set when the soak is over; then it comes back at once.
    """

    def __init__(self, folder: Path, port: int, stop: threading.Event) -> None:
        self._stop = stop
        self._log = folder / "storescp.log"
        self.port = port
        self._running = ExitStack()

    @contextmanager
    def running(self) -> Iterator[None]:
        self._start()
        try:
            yield
        finally:
            self._running.close()

    def go_away(self) -> None:
        """And come back after a while."""
        self._running.close()
        self._stop.wait(_AWAY_SECONDS)
        self._start()  # what waits for it is still to be sent

    def _start(self) -> None:
        process: subprocess.Popen[bytes] = self._running.enter_context(
            program("storescp", "--ignore", "--aetitle", DESTINATION, self.port, log=self._log)
        )
        wait_for_port(process, self.port, self._log)
