"""The requestor of the benchmark: a blocking socket, PDUs made by the engine beforehand.

What is on the way of every operation does as little as possible, so that the server is what
is measured: one `sendall`, one `recv`, a look for the status.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

from isocenter.engine import (
    DEFAULT_LIMITS,
    AssociateAccept,
    Message,
    ProposedContext,
    RoleSelection,
    UserInformation,
    describe,
)
from isocenter.engine.dimse.fragments import encode_fragments
from isocenter.engine.dimse.messages import encode_message
from isocenter.engine.pdu import (
    AssociateRequest,
    PduType,
    decode_pdu,
    encode_associate_request,
    encode_release_request,
)

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
    def client_context(self) -> ssl.SSLContext:
        """Read once: what a handshake costs is the server's share of it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca)
        context.load_cert_chain(self.client, self.client_key)
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


class Connection:
    """An association as requestor: (abstract syntax, transfer syntaxes) for each context.

    Attributes:
        max_length: of the PDUs that the peer takes.
        tls: version of TLS, or None.

    Raises:
        Failed: the peer rejected it, or accepted none of the contexts.
    """

    def __init__(
        self,
        address: Address,
        contexts: Iterable[tuple[str, tuple[str, ...]]],
        *,
        scp_of: Iterable[str] = (),
    ) -> None:
        self._request = associate_request(tuple(contexts), tuple(scp_of))
        self.tls: str | None = None
        self.socket = self._connect(address)
        self._buffer = bytearray(_RECEIVED)
        self._view = memoryview(self._buffer)
        self.associate()

    def _connect(self, address: Address) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", address.port), TIMEOUT_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if address.tls is not None:
            sock = address.tls.client_context().wrap_socket(sock, server_hostname="127.0.0.1")
            self.tls = sock.version()
        return sock

    def associate(self) -> None:
        self.socket.sendall(self._request)
        pdu_type, body = self._control()
        if pdu_type != PduType.A_ASSOCIATE_AC:
            raise Failed(_described(pdu_type, body))
        accept = decode_pdu(pdu_type, body, DEFAULT_LIMITS)
        assert isinstance(accept, AssociateAccept)
        self.accepted = {
            result.context_id: result.transfer_syntax
            for result in accept.presentation_contexts
            if result.result == 0
        }
        if not self.accepted:
            raise Failed("no presentation context was accepted")
        self.max_length = min(accept.user_information.max_pdu_length or MAX_PDU_LENGTH, MAX_PDU_LENGTH)

    def release(self) -> None:
        self.socket.sendall(_RELEASE)
        pdu_type, body = self._control()
        if pdu_type != PduType.A_RELEASE_RP:
            raise Failed(_described(pdu_type, body))
        self.socket.close()

    def _control(self) -> tuple[int, memoryview]:
        """A PDU other than P-DATA-TF."""
        end = self._fill(0, _HEADER.size)
        pdu_type, length = _HEADER.unpack_from(self._buffer)
        self._fill(end, _HEADER.size + length)
        return pdu_type, self._view[_HEADER.size : _HEADER.size + length]

    def _fill(self, end: int, wanted: int) -> int:
        """Read until the buffer holds *wanted* bytes; it held *end*."""
        while end < wanted:
            received = self.socket.recv_into(self._view[end:])
            if not received:
                raise Failed("the peer closed the connection")
            end += received
        return end

    def status(self) -> int:
        """Read a response without a data set, alone in one PDU; its status."""
        end = self._fill(0, _HEADER.size)
        pdu_type, length = _HEADER.unpack_from(self._buffer)
        end = self._fill(end, _HEADER.size + length)
        if pdu_type != _P_DATA:
            raise Failed(_described(pdu_type, self._view[_HEADER.size : end]))
        return status_of(self._buffer, end)

    def expect_success(self) -> None:
        status = self.status()
        if status:
            raise Failed(f"status {status:04X}H")

    def fragments(self) -> Iterator[Fragment]:
        """Whatever PDVs come, for as long as they are asked for."""
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
                raise Failed(_described(pdu_type, view[position:start]))
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


_RELEASE: Final = encode_release_request()


def _described(pdu_type: int, body: memoryview) -> str:
    """What came instead of what is measured, in the standard's words."""
    return f"answered by {describe(decode_pdu(pdu_type, body, DEFAULT_LIMITS))}"


def status_of(buffer: bytes | bytearray, end: int | None = None) -> int:
    """Of the command set in *buffer*; Failed where there is none."""
    found = buffer.find(_STATUS_HEADER, 0, end)
    if found < 0:
        raise Failed("a message without a status instead of a response")
    place = found + len(_STATUS_HEADER)
    return int.from_bytes(buffer[place : place + 2], "little")


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
