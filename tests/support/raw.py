"""A peer that sends whatever bytes a test wants, and reads what comes back PDU by PDU."""

from __future__ import annotations

import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from isocenter.engine import pdu
from isocenter.engine.dimse.command_set import decode_command_set
from isocenter.engine.dimse.message_codec import Message, decode_message, encode_message
from isocenter.engine.items import (
    AsynchronousOperationsWindow,
    ExtendedNegotiation,
    ProposedContext,
    RoleSelection,
    UserInformation,
)
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.negotiation import Acceptor, Offer, negotiate
from isocenter.engine.pdu import (
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    Pdu,
    PduType,
)
from isocenter.engine.uid import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
)

#: Seconds of real time before a test that waits for the other side fails.
PATIENCE = 60.0
#: Smaller than any peer's maximum length.
FRAGMENT_BYTES = 16_000


@dataclass(frozen=True)
class Data:
    """A P-DATA-TF, its PDVs as (context ID, message control header, fragment)."""

    pdvs: tuple[tuple[int, int, bytes], ...]


def pdu_of(pdu_type: int, body: bytes) -> bytes:
    return struct.pack(">BxI", pdu_type, len(body)) + body


def pdv(context_id: int, control: int, fragment: bytes) -> bytes:
    """Item length, context ID, message control header (1: command, 2: last), fragment."""
    return struct.pack(">IBB", len(fragment) + 2, context_id, control) + fragment


def p_data(*pdvs: bytes) -> bytes:
    return pdu_of(PduType.P_DATA_TF, b"".join(pdvs))


def message_bytes(
    context_id: int, message: Message | bytes, data_set: bytes | None = None
) -> bytes:
    """A message as P-DATA-TFs; a command set may be given as bytes."""
    command = (
        message
        if isinstance(message, bytes)
        else encode_message(message, has_data_set=data_set is not None)
    )
    parts = [p_data(pdv(context_id, 3, command))]
    if data_set is not None:
        cuts = range(0, max(len(data_set), 1), FRAGMENT_BYTES)
        parts += [
            p_data(
                pdv(
                    context_id,
                    2 if start + FRAGMENT_BYTES >= len(data_set) else 0,
                    data_set[start : start + FRAGMENT_BYTES],
                )
            )
            for start in cuts
        ]
    return b"".join(parts)


def associate_request(
    *abstract_syntaxes: str,
    calling: str = "RAW",
    called: str = "ISOCENTER",
    transfer_syntaxes: Sequence[str] = (EXPLICIT_VR_LITTLE_ENDIAN,),
    roles: Sequence[RoleSelection] = (),
    extended: Sequence[ExtendedNegotiation] = (),
    max_pdu_length: int = 16_384,
    window: AsynchronousOperationsWindow | None = None,
) -> AssociateRequest:
    """Context IDs are 1, 3, 5 … in this order; without any, Verification is proposed."""
    return AssociateRequest(
        called_ae_title=called,
        calling_ae_title=calling,
        presentation_contexts=tuple(
            ProposedContext(2 * number + 1, uid, tuple(transfer_syntaxes))
            for number, uid in enumerate(abstract_syntaxes or (VERIFICATION,))
        ),
        user_information=UserInformation(
            max_pdu_length=max_pdu_length,
            implementation_class_uid="1.2.3",
            role_selections=tuple(roles),
            extended_negotiations=tuple(extended),
            asynchronous_operations_window=window,
        ),
    )


class RawPeer:
    """One connection.  Every wait ends after *patience* seconds, with an error.

    Attributes:
        address: how the other side's log names us.
    """

    def __init__(
        self, stream: trio.abc.Stream, patience: float = PATIENCE, address: str = ""
    ) -> None:
        self.stream = stream
        self.address = address
        self._patience = patience
        self._received = bytearray()

    async def send(self, data: bytes) -> None:
        with trio.fail_after(self._patience):
            await self.stream.send_all(data)

    async def _take(self, count: int) -> bytes | None:
        while len(self._received) < count:
            try:
                with trio.fail_after(self._patience):
                    more = await self.stream.receive_some()
            except trio.BrokenResourceError:
                more = b""
            if not more:
                return None
            self._received += more
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    async def pdu(self) -> Pdu | Data | None:
        """The next PDU; None when the connection was closed instead."""
        header = await self._take(6)
        if header is None:
            return None
        pdu_type, length = struct.unpack(">BxI", header)
        body = await self._take(length)
        assert body is not None, "the connection was closed within a PDU"
        if pdu_type != PduType.P_DATA_TF:
            return pdu.decode_pdu(pdu_type, body, DEFAULT_LIMITS)
        pdvs = []
        while body:
            size, context_id, control = struct.unpack(">IBB", body[:6])
            pdvs.append((context_id, control, body[6 : size + 4]))
            body = body[size + 4 :]
        return Data(tuple(pdvs))

    async def command_set(self) -> dict[int, bytes]:
        """Element number → value of the next message, which has no data set."""
        command = bytearray()
        while True:
            received = await self.pdu()
            assert isinstance(received, Data), received
            for _, control, fragment in received.pdvs:
                assert control & 1
                command += fragment
                if control & 2:
                    return decode_command_set(bytes(command))

    async def message(self) -> tuple[Message, bytes]:
        """The next message, with its data set."""
        command, data_set = bytearray(), bytearray()
        message: Message | None = None
        while True:
            received = await self.pdu()
            assert isinstance(received, Data), received
            for _, control, fragment in received.pdvs:
                if control & 1:
                    command += fragment
                    if control & 2:
                        message, has_data_set = decode_message(bytes(command))
                        if not has_data_set:
                            return message, b""
                else:
                    data_set += fragment
                    if control & 2:
                        assert message is not None
                        return message, bytes(data_set)

    async def associate(self, *abstract_syntaxes: str, **options: object) -> AssociateAccept:
        answer = await self.ask(associate_request(*abstract_syntaxes, **options))  # type: ignore[arg-type]
        assert isinstance(answer, AssociateAccept), answer
        return answer

    async def ask(self, request: AssociateRequest) -> AssociateAccept | AssociateReject | Abort:
        await self.send(pdu.encode_associate_request(request))
        answer = await self.pdu()
        assert isinstance(answer, AssociateAccept | AssociateReject | Abort), answer
        return answer

    async def exchange(
        self, context_id: int, message: Message | bytes, data_set: bytes | None = None
    ) -> tuple[Message, bytes]:
        """One message there, one back."""
        await self.send(message_bytes(context_id, message, data_set))
        return await self.message()

    async def release(self) -> None:
        await self.send(pdu.encode_release_request())
        assert isinstance(await self.pdu(), pdu.ReleaseResponse)
        await self.stream.aclose()

    async def is_closed(self) -> bool:
        """Whether the other side closes, and sends nothing before."""
        return await self.pdu() is None


@asynccontextmanager
async def raw_peer(
    port: int, *, tls: ssl.SSLContext | None = None, patience: float = PATIENCE
) -> AsyncIterator[RawPeer]:
    """Connected to a port of this machine; closed at the end, without a word."""
    connected = await trio.open_tcp_stream("127.0.0.1", port)
    host, number = connected.socket.getsockname()
    stream: trio.abc.Stream = connected
    if tls is not None:
        stream = trio.SSLStream(stream, tls, server_hostname="localhost")
    try:
        yield RawPeer(stream, patience, f"{host}:{number}")
    finally:
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def raw_acceptor(patience: float = PATIENCE) -> AsyncIterator[tuple[int, RawAcceptor]]:
    """A port of this machine, and who takes the one connection that comes to it."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    acceptor = RawAcceptor(listener, patience)
    try:
        yield listener.socket.getsockname()[1], acceptor
    finally:
        with trio.CancelScope(shield=True):
            await listener.aclose()
            if acceptor.stream is not None:
                await trio.aclose_forcefully(acceptor.stream)


class RawAcceptor:
    """The side of a `RawPeer` that is called."""

    def __init__(self, listener: trio.SocketListener, patience: float) -> None:
        self._listener = listener
        self._patience = patience
        self.stream: trio.abc.Stream | None = None

    async def connected(self) -> RawPeer:
        """Who has connected, before it says a word."""
        with trio.fail_after(self._patience):
            self.stream = await self._listener.accept()
        return RawPeer(self.stream, self._patience)

    async def associated(self) -> RawPeer:
        """Who has associated; everything that it proposed is accepted."""
        peer = await self.connected()
        request = await peer.pdu()
        assert isinstance(request, AssociateRequest), request
        syntaxes = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
        offer = Offer(transfer_syntaxes=syntaxes, scu_role=True, scp_role=True)
        acceptor = Acceptor(offer=lambda _: offer, max_pdu_length=16_384)
        answer = negotiate(request, acceptor)
        assert isinstance(answer, AssociateAccept), answer
        await peer.send(pdu.encode_associate_accept(answer))
        return peer
