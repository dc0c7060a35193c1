"""What one worker does for the lines about C-FIND, C-GET and C-MOVE."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from isocenter.engine import (
    CFindRequest,
    CGetRequest,
    CMoveRequest,
    CStoreRequest,
    Response,
    response_to,
)
from isocenter.engine.dataset import encoding_of, write_data_set
from isocenter.engine.dimse.message_codec import decode_message
from peers.load import Done
from peers.objects import CT, EXPLICIT
from peers.wire import Accepted, Connection, Failed, Wire, pdus
from peers.work import Job

STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
IMPLICIT: Final = "1.2.840.10008.1.2"
#: AE title of the C-MOVE destination.
DESTINATION: Final = "BENCHDEST"
_PENDING: Final = (0xFF00, 0xFF01)
_ACCEPT_SECONDS: Final = 0.2
_MS: Final = 1e3

#: What every archive has: no key that one of them would have to count or to compute.
_RETURN_KEYS: Final = (
    (0x00080020, "DA"),
    (0x00080030, "TM"),
    (0x00080050, "SH"),
    (0x00081030, "LO"),
    (0x00100010, "PN"),
    (0x00100020, "LO"),
    (0x00200010, "SH"),
)


def _identifier(study_uid: str, keys: Iterable[tuple[int, str]] = ()) -> bytes:
    elements = [
        (0x00080052, "CS", b"STUDY"),
        (0x0020000D, "UI", study_uid.encode()),
        *((tag, vr, b"") for tag, vr in keys),
    ]
    return write_data_set(sorted(elements), encoding_of(IMPLICIT))


def take(wire: Wire, on_response: Callable[[Response, bool], bool]) -> None:
    """Answer every C-STORE-RQ with success; pass each response on until one is the last.

    Args:
        on_response: gets a response when its command set is there, and whether a data set
            follows; says whether more may come.
    """
    command, request, more = b"", None, True
    for fragment in wire.fragments():
        if fragment.is_command:
            command += fragment.data
            if not fragment.is_last:
                continue
            message, has_data_set = decode_message(command)
            command = b""
            if isinstance(message, CStoreRequest):
                request = message
            else:
                more = on_response(message, has_data_set)  # type: ignore[arg-type]
                if not more and not has_data_set:
                    return
        elif fragment.is_last:
            if request is not None:
                wire.socket.sendall(pdus(fragment.context_id, response_to(request, 0)))
                request = None
            if not more:
                return


class Answers:
    """Responses of one operation: when the first one came, how many were pending, the last."""

    def __init__(self) -> None:
        self.first: float | None = None
        self.pending = 0
        self.completed = 0
        self.status = 0

    def take(self, response: Response, _has_data_set: bool) -> bool:
        if self.first is None:
            self.first = time.monotonic()
        if response.status in _PENDING:
            self.pending += 1
            return True
        self.status = response.status
        self.completed = getattr(response, "number_of_completed_suboperations", None) or 0
        return False


def find(job: Job, _index: int, studies: int) -> Done:
    """C-FIND of all *studies*, again and again: milliseconds to the first and last response."""
    connection = Connection(job.address, ((STUDY_ROOT_FIND, (IMPLICIT,)),))
    identifier = _identifier("", _RETURN_KEYS)
    firsts: list[float] = []
    lasts: list[float] = []
    found, fewest = 0, studies
    began = ended = time.monotonic()
    while not lasts or ended - began < job.seconds:
        request = CFindRequest(message_id=len(lasts) + 1, affected_sop_class_uid=STUDY_ROOT_FIND)
        answers = Answers()
        asked = time.monotonic()
        connection.socket.sendall(pdus(1, request, identifier))
        take(connection, answers.take)
        ended = time.monotonic()
        if answers.status or answers.first is None:
            raise Failed(f"C-FIND ended with status {answers.status:04X}H")
        found += answers.pending
        fewest = min(fewest, answers.pending)
        firsts.append((answers.first - asked) * _MS)
        lasts.append((ended - asked) * _MS)
    connection.release()
    notes = [connection.tls] if connection.tls else []
    if fewest < studies:
        notes.append(f"{studies - fewest} acknowledged studies not found")
    values = (statistics.median(firsts), statistics.median(lasts))
    return Done(began, ended, found, values, ", ".join(notes))


def get(job: Job, _index: int, study_uid: str, instances: int) -> Done:
    """C-GET after C-GET of a study of *instances*."""
    connection = Connection(
        job.address, ((STUDY_ROOT_GET, (IMPLICIT,)), (CT, (EXPLICIT,))), scp_of=(CT,)
    )
    request = CGetRequest(message_id=1, affected_sop_class_uid=STUDY_ROOT_GET)
    return _retrieve(job, connection, pdus(1, request, _identifier(study_uid)), instances)


def move(job: Job, _index: int, study_uid: str, instances: int, listener: socket.socket) -> Done:
    """C-MOVE after C-MOVE of a study of *instances* to *listener*, which answers at once."""
    connection = Connection(job.address, ((STUDY_ROOT_MOVE, (IMPLICIT,)),))
    threading.Thread(target=_serve, args=(listener,), daemon=True).start()
    request = CMoveRequest(
        message_id=1, affected_sop_class_uid=STUDY_ROOT_MOVE, move_destination=DESTINATION
    )
    return _retrieve(job, connection, pdus(1, request, _identifier(study_uid)), instances)


def _retrieve(job: Job, connection: Connection, request: bytes, instances: int) -> Done:
    retrieved = 0
    began = ended = time.monotonic()
    while not retrieved or ended - began < job.seconds:
        answers = Answers()
        connection.socket.sendall(request)
        take(connection, answers.take)
        ended = time.monotonic()
        if answers.status or answers.completed != instances:
            raise Failed(
                f"{answers.completed} of {instances} objects came, status {answers.status:04X}H"
            )
        retrieved += instances
    connection.release()
    return Done(began, ended, retrieved, note=connection.tls)


def _serve(listener: socket.socket) -> None:
    """Accept associations until this process ends, each in a thread of its own."""
    listener.settimeout(_ACCEPT_SECONDS)
    while True:
        with suppress(TimeoutError):
            sock, _ = listener.accept()
            threading.Thread(target=_serve_one, args=(sock,), daemon=True).start()


def _serve_one(sock: socket.socket) -> None:
    with sock, suppress(Failed, OSError):
        take(Accepted(sock), lambda _response, _has_data_set: True)
