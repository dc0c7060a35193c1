"""The requestor of the benchmark: a blocking socket, PDUs made by the engine beforehand.

What is on the way of every operation does as little as possible, so that the server is what
is measured: one `sendall`, one `recv`, a look for the status.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

from isocenter.engine import (
    ANY,
    DEFAULT_LIMITS,
    Acceptor,
    AssociateAccept,
    AssociateRequest,
    Message,
    Offer,
    ProposedContext,
    RoleSelection,
    UserInformation,
    describe,
    negotiate,
)
from isocenter.engine.dimse.message_codec import encode_message
from isocenter.engine.pdu import (
    PduType,
    decode_pdu,
    encode_associate_accept,
    encode_associate_request,
    encode_release_request,
    encode_release_response,
)
from isocenter.engine.pdv import encode_fragments

CALLED: Final = "ISOCENTER"
CALLING: Final = "BENCH"
#: What we announce, and the most that we send in one PDU: DCMTK's ceiling.
MAX_PDU_LENGTH: Final = 131_072
#: A peer that says nothing for so long has failed.
TIMEOUT_SECONDS: Final = 60.0
#: More than one PDU.
_RECEIVED: Final = 256 << 10
_IMPLEMENTATION: Final = "1.2.826.0.1.3680043.8.498.1"

_HEADER: Final = Struct(">BxI")
_PDV: Final = Struct(">IBB")
_P_DATA: Final = int(PduType.P_DATA_TF)
_IS_COMMAND: Final = 1
_IS_LAST: Final = 2
#: (0000,0900), Implicit VR Little Endian, two bytes.
_STATUS_HEADER: Final = bytes.fromhex("0000 0009 02000000")


class Failed(Exception):
    """The peer did something else than what is measured; says what."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """What both sides show each other: PEM files."""

    server: Path
    server_key: Path
    client: Path
    client_key: Path
    ca: Path


@cache
def client_context(certificates: Certificates) -> ssl.SSLContext:
    """Read once: what a handshake costs is the server's share of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificates.ca)
    context.load_cert_chain(certificates.client, certificates.client_key)
    return context


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens, and how."""

    port: int
    tls: Certificates | None = None


class Fragment(NamedTuple):
    """One PDV; ``data`` is only good until the next one is read."""

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview


class Wire:
    """One end of an association over a blocking socket: PDUs in, PDVs out of them."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(TIMEOUT_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self._buffer = bytearray(_RECEIVED)
        self._view = memoryview(self._buffer)

    def control(self) -> tuple[int, memoryview]:
        """A PDU other than P-DATA-TF: its type, and what follows its header."""
        end = self._fill(0, _HEADER.size)
        pdu_type, length = _HEADER.unpack_from(self._buffer)
        self._fill(end, _HEADER.size + length)
        return pdu_type, self._view[_HEADER.size : _HEADER.size + length]

    def status(self) -> int:
        """Of a response without a data set, alone in one PDU."""
        end = self._fill(0, _HEADER.size)
        pdu_type, length = _HEADER.unpack_from(self._buffer)
        end = self._fill(end, _HEADER.size + length)
        if pdu_type != PduType.P_DATA_TF:
            raise Failed(described(pdu_type, self._view[_HEADER.size : end]))
        # The last: a Message ID before it can look like its end.
        found = self._buffer.rfind(_STATUS_HEADER, 0, end)
        if found < 0:
            raise Failed("a message without a status instead of a response")
        place = found + len(_STATUS_HEADER)
        return int.from_bytes(self._buffer[place : place + 2], "little")

    def expect_success(self) -> None:
        status = self.status()
        if status:
            raise Failed(f"status {status:04X}H")

    def fragments(self) -> Iterator[Fragment]:
        """Whatever PDVs come, for as long as they are asked for or until the peer releases."""
        start = end = 0
        view = self._view
        while True:
            if end - start < _HEADER.size:
                start, end = self._make_room(start, end, _HEADER.size)
            pdu_type, length = _HEADER.unpack_from(view, start)
            if end - start < _HEADER.size + length:
                start, end = self._make_room(start, end, _HEADER.size + length)
            position = start + _HEADER.size
            start = position + length
            if pdu_type != _P_DATA:
                if pdu_type == PduType.A_RELEASE_RQ:
                    self.socket.sendall(encode_release_response())
                    return
                raise Failed(described(pdu_type, view[position:start]))
            while position < start:
                item_length, context_id, control = _PDV.unpack_from(view, position)
                position += _PDV.size
                data = view[position : position + item_length - 2]
                position += item_length - 2
                yield Fragment(
                    context_id, bool(control & _IS_COMMAND), bool(control & _IS_LAST), data
                )

    def _make_room(self, start: int, end: int, wanted: int) -> tuple[int, int]:
        """Move what is left to the front, and read until *wanted* bytes are there."""
        self._view[: end - start] = bytes(self._view[start:end])
        return 0, self._fill(end - start, wanted)

    def _fill(self, end: int, wanted: int) -> int:
        """Read until the buffer holds *wanted* bytes; it held *end*."""
        if wanted > len(self._buffer):
            raise Failed(f"a PDU of {wanted} bytes")
        while end < wanted:
            received = self.socket.recv_into(self._view[end:])
            if not received:
                raise Failed("the peer closed the connection")
            end += received
        return end


class Connection(Wire):
    """An association as requestor: (abstract syntax, transfer syntaxes) for each context.

    Attributes:
        max_length: of the PDUs that the peer takes and we send.
        tls: version of TLS, or "".

    Raises:
        Failed: the peer rejected it, or did not accept every context.
    """

    def __init__(
        self,
        address: Address,
        contexts: tuple[tuple[str, tuple[str, ...]], ...],
        *,
        scp_of: tuple[str, ...] = (),
    ) -> None:
        sock = socket.create_connection(("127.0.0.1", address.port), TIMEOUT_SECONDS)
        self.tls = ""
        if address.tls is not None:
            sock = client_context(address.tls).wrap_socket(sock, server_hostname="127.0.0.1")
            self.tls = sock.version() or ""
        super().__init__(sock)
        sock.sendall(associate_request(contexts, scp_of))
        pdu_type, body = self.control()
        if pdu_type != PduType.A_ASSOCIATE_AC:
            raise Failed(described(pdu_type, body))
        accept = decode_pdu(pdu_type, body, DEFAULT_LIMITS)
        assert isinstance(accept, AssociateAccept)
        if any(result.result for result in accept.presentation_contexts):
            raise Failed("a presentation context was not accepted")
        self.max_length = min(
            accept.user_information.max_pdu_length or MAX_PDU_LENGTH, MAX_PDU_LENGTH
        )

    def release(self) -> None:
        self.socket.sendall(_RELEASE)
        pdu_type, body = self.control()
        if pdu_type != PduType.A_RELEASE_RP:
            raise Failed(described(pdu_type, body))
        self.socket.close()


class Accepted(Wire):
    """An association as acceptor, which takes whatever is proposed: a C-MOVE destination."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        pdu_type, body = self.control()
        request = decode_pdu(pdu_type, body, DEFAULT_LIMITS)
        if not isinstance(request, AssociateRequest):
            raise Failed(describe(request))
        accept = negotiate(request, _ACCEPTS_ALL)
        if not isinstance(accept, AssociateAccept):
            raise Failed(describe(accept))
        sock.sendall(encode_associate_accept(accept))


_RELEASE: Final = encode_release_request()
_ACCEPTS_ALL: Final = Acceptor(
    offer=lambda _: Offer(transfer_syntaxes=(ANY,)), max_pdu_length=MAX_PDU_LENGTH
)


def described(pdu_type: int, body: memoryview) -> str:
    """What came instead of what is measured, in the standard's words."""
    return f"answered by {describe(decode_pdu(pdu_type, body, DEFAULT_LIMITS))}"


@cache
def associate_request(
    contexts: tuple[tuple[str, tuple[str, ...]], ...], scp_of: tuple[str, ...]
) -> bytes:
    return encode_associate_request(
        AssociateRequest(
            called_ae_title=CALLED,
            calling_ae_title=CALLING,
            presentation_contexts=tuple(
                ProposedContext(2 * number + 1, abstract, transfer)
                for number, (abstract, transfer) in enumerate(contexts)
            ),
            user_information=UserInformation(
                max_pdu_length=MAX_PDU_LENGTH,
                implementation_class_uid=_IMPLEMENTATION,
                role_selections=tuple(
                    RoleSelection(uid, scu_role=False, scp_role=True) for uid in scp_of
                ),
            ),
        )
    )


def pdus(context_id: int, message: Message, data_set: bytes | None = None) -> bytes:
    """*message* as it goes over the wire."""
    parts = encode_fragments(
        context_id,
        encode_message(message, data_set is not None),
        is_command=True,
        is_last=True,
        max_length=MAX_PDU_LENGTH,
    )
    if data_set is not None:
        parts += encode_fragments(
            context_id, data_set, is_command=False, is_last=True, max_length=MAX_PDU_LENGTH
        )
    return b"".join(parts)
