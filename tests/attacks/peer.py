"""The attacker's side: a blocking socket that sends what it likes and gives up in time."""

from __future__ import annotations

import re
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from isocenter.engine.dimse.message_codec import (
    CEchoRequest,
    CFindRequest,
    CStoreRequest,
    Message,
    Request,
    decode_message,
    encode_message,
)
from isocenter.engine.items import ProposedContext, UserInformation
from isocenter.engine.pdu import (
    AssociateRequest,
    encode_associate_request,
    encode_release_request,
)
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
WORKLIST = "1.2.840.10008.5.1.4.31"
MPPS = "1.2.840.10008.3.1.2.3.3"
COMMITMENT = "1.2.840.10008.1.20.1"
#: Context IDs of every association here.
ECHO_CONTEXT, STORE_CONTEXT, FIND_CONTEXT, DEFLATED_CONTEXT = 1, 3, 5, 7
WORKLIST_CONTEXT, MPPS_CONTEXT, COMMITMENT_CONTEXT = 9, 11, 13
RQ, AC, RJ, DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
#: Of a server that neither answers nor closes.
PATIENCE_SECONDS = 60.0
_RECEIVED = 1 << 16


@dataclass(frozen=True)
class Target:
    """A server under attack.

    Attributes:
        folder: everything that it may write lies below it, in a folder of its own.
        hl7_port: where it takes orders.
        http_port, https_port: of its web services.
        hooks: ports of its consumers of events: one that attacks, and one that does not.
        entries: on its worklist, at the least.
    """

    port: int
    called: str
    folder: Path
    tls_port: int | None = None
    hl7_port: int = 0
    http_port: int = 0
    https_port: int = 0
    hooks: tuple[int, int] = (0, 0)
    entries: int = 0


class Closed(Exception):
    """The server has closed the connection, or reset it."""


def pdu(pdu_type: int, body: bytes = b"", length: int | None = None) -> bytes:
    """A PDU that may lie about its length."""
    return struct.pack(">BxI", pdu_type, len(body) if length is None else length) + body


def pdv(context_id: int, control: int, fragment: bytes, length: int | None = None) -> bytes:
    """A presentation data value; *control*: 1 of a command, 2 the last."""
    real = len(fragment) + 2
    return struct.pack(">IBB", real if length is None else length, context_id, control) + fragment


def command(context_id: int, request: Request, *, has_data_set: bool = False) -> bytes:
    return pdu(DATA, pdv(context_id, 3, encode_message(request, has_data_set)))


def echo(message_id: int = 1) -> CEchoRequest:
    return CEchoRequest(message_id=message_id, affected_sop_class_uid=VERIFICATION)


def find(message_id: int = 1) -> CFindRequest:
    return CFindRequest(message_id=message_id, affected_sop_class_uid=FIND)


def store(uid: str, message_id: int = 1) -> CStoreRequest:
    return CStoreRequest(
        message_id=message_id, affected_sop_class_uid=CT, affected_sop_instance_uid=uid
    )


def data_set(context_id: int, data: bytes, size: int = 16_000) -> Iterator[bytes]:
    """PDUs of a data set."""
    for start in range(0, max(len(data), 1), size):
        control = 2 if start + size >= len(data) else 0
        yield pdu(DATA, pdv(context_id, control, data[start : start + size]))


def association(called: str, calling: str = "ATTACKER") -> bytes:
    explicit = (EXPLICIT_VR_LITTLE_ENDIAN,)
    return encode_associate_request(
        AssociateRequest(
            called_ae_title=called,
            calling_ae_title=calling,
            presentation_contexts=(
                ProposedContext(ECHO_CONTEXT, VERIFICATION, explicit),
                ProposedContext(STORE_CONTEXT, CT, explicit),
                ProposedContext(FIND_CONTEXT, FIND, explicit),
                ProposedContext(DEFLATED_CONTEXT, CT, (DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,)),
                ProposedContext(WORKLIST_CONTEXT, WORKLIST, explicit),
                ProposedContext(MPPS_CONTEXT, MPPS, explicit),
                ProposedContext(COMMITMENT_CONTEXT, COMMITMENT, explicit),
            ),
            user_information=UserInformation(
                max_pdu_length=16_384, implementation_class_uid="1.2.3"
            ),
        )
    )


class Peer:
    """One connection.  Nothing it does raises but `Closed`."""

    #: How many there have been.
    count = 0

    def __init__(self, port: int, patience: float = PATIENCE_SECONDS) -> None:
        Peer.count += 1
        self._pdvs: deque[tuple[int, bytes]] = deque()
        try:
            self.sock = socket.create_connection(("127.0.0.1", port), patience)
        except OSError as error:
            raise Closed(str(error)) from error
        self.sock.settimeout(PATIENCE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def send(self, *pieces: bytes) -> None:
        try:
            self.sock.sendall(b"".join(pieces))
        except OSError as error:
            raise Closed(str(error)) from error

    def receive(self) -> tuple[int, bytes]:
        """The next PDU."""
        header = self._exactly(6)
        return header[0], self._exactly(struct.unpack(">xxI", header)[0])

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                piece = self.sock.recv(min(count - len(data), _RECEIVED))
            except TimeoutError:
                raise Closed("says nothing") from None
            except OSError as error:
                raise Closed("reset") from error
            if not piece:
                raise Closed("closed")
            data += piece
        return data

    def associate(self, called: str, calling: str = "ATTACKER") -> None:
        self.send(association(called, calling))
        pdu_type, _ = self.receive()
        if pdu_type != AC:
            raise Closed(f"answered PDU {pdu_type}")

    def status(self) -> int:
        """Of the next response."""
        while True:
            pdu_type, body = self.receive()
            if pdu_type != DATA:
                raise Closed({ABORT: "aborted", RJ: "rejected"}.get(pdu_type, f"PDU {pdu_type}"))
            at = body.find(bytes.fromhex("0000 0009 02000000"))
            if at >= 0:
                return int.from_bytes(body[at + 8 : at + 10], "little")

    def message(self) -> tuple[Message, bytes]:
        """The next DIMSE message, whole, and its data set."""
        parts = [b"", b""]
        message: Message | None = None
        while True:
            control, fragment = self._pdv()
            is_command = control & 1
            parts[is_command] += fragment
            if not control & 2:
                continue
            if not is_command and message is not None:
                return message, parts[0]
            message, has_data_set = decode_message(parts[1])
            if not has_data_set:
                return message, b""

    def _pdv(self) -> tuple[int, bytes]:
        while not self._pdvs:
            pdu_type, body = self.receive()
            if pdu_type != DATA:
                raise Closed({ABORT: "aborted", RJ: "rejected"}.get(pdu_type, f"PDU {pdu_type}"))
            at = 0
            while at < len(body):
                length, _, control = struct.unpack_from(">IBB", body, at)
                self._pdvs.append((control, body[at + 6 : at + 4 + length]))
                at += 4 + length
        return self._pdvs.popleft()

    def ask(self, context_id: int, request: Request, content: bytes) -> tuple[int, list[bytes]]:
        """Send a request with a data set; the last status, and the data sets that came."""
        self.send(command(context_id, request, has_data_set=True), *data_set(context_id, content))
        found = []
        while True:
            response, content = self.message()
            if content:
                found.append(content)
            status = getattr(response, "status", None)
            if status is None:
                raise Closed("asked something else")
            if status not in (0xFF00, 0xFF01):
                return status, found

    def fate(self) -> str:
        """What the server says next, in a word."""
        try:
            pdu_type, _ = self.receive()
        except Closed as closed:
            return str(closed)
        return {AC: "accepted", RJ: "rejected", ABORT: "aborted", DATA: "answered"}.get(
            pdu_type, f"PDU {pdu_type}"
        )


class Sender(Peer):
    """A connection for HL7 orders over MLLP."""

    def order(self, message: str | bytes) -> str:
        """What it is acknowledged with: AA, AE or AR."""
        self.send(framed(message))
        return self.acknowledgement()

    def acknowledgement(self) -> str:
        """Of the next one."""
        data = b""
        while not data.endswith(b"\x1c\r"):
            data += self._exactly(1)
        found = re.search(rb"\rMSA\|([A-Z]{2})[|\r]", data)
        return "no MSA" if found is None else found[1].decode()


def framed(message: str | bytes) -> bytes:
    content = message.encode() if isinstance(message, str) else message
    return b"\x0b" + content + b"\x1c\r"


@contextmanager
def associated(target: Target, calling: str = "ATTACKER") -> Iterator[Peer]:
    with Peer(target.port) as peer:
        peer.associate(target.called, calling)
        yield peer


def probe(target: Target) -> float:
    """Seconds of an association with one C-ECHO.

    Raises:
        Closed: it was not served.
    """
    began = time.perf_counter()
    with Peer(target.port) as peer:
        peer.associate(target.called, "PROBE")
        peer.send(command(ECHO_CONTEXT, echo()))
        if peer.status() != 0:
            raise Closed("C-ECHO failed")
        peer.send(encode_release_request())
        with suppress(Closed):
            peer.receive()
    return time.perf_counter() - began


def summed_up(fates: Sequence[str]) -> str:
    """Each with how often, most first."""
    counted = sorted({fate: fates.count(fate) for fate in fates}.items(), key=lambda item: -item[1])
    return ", ".join(f"{number} × {fate}" for fate, number in counted)
