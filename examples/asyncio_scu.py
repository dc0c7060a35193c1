"""An SCU under asyncio: C-ECHO, then C-STORE of each file that is named.

    python examples/asyncio_scu.py 127.0.0.1 11112 image.dcm --called ISOCENTER

The driver is an `asyncio.Protocol`: each callback of the loop is one input of the engine.  No
callback waits for anything, so an A-ABORT is seen while a data set is on its way.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import BinaryIO, Self, TypeVar, cast

from isocenter.engine import commands, effects, events
from isocenter.engine.association import Association
from isocenter.engine.dataset import FILE_HEAD_LENGTH, FileMeta, read_file_meta
from isocenter.engine.dimse.messages import (
    CEchoRequest,
    CEchoResponse,
    CStoreRequest,
    CStoreResponse,
)
from isocenter.engine.dimse.status import StatusClass, classify, describe_status
from isocenter.engine.driving import associate_request, context_for, end_reason
from isocenter.engine.effects import Effect
from isocenter.engine.errors import AssociationError, IsocenterError
from isocenter.engine.negotiation import Negotiated, Role
from isocenter.engine.pdu import AssociateRequest
from isocenter.engine.states import Sta
from isocenter.engine.uid import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION

#: In seconds: the standard's timer, then ours.
ARTIM_SECONDS = 5.0
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0
WRITE_SECONDS = 30.0
#: In bytes.
PART_LENGTH = 262_144
#: Events that may wait for the service-user; a peer that answers what it was asked causes two.
MOST_EVENTS = 8

SomeEvent = TypeVar("SomeEvent", bound=events.Event)


class AsyncioAssociation(asyncio.Protocol):
    """An association as requestor; its block establishes it and releases, or aborts, it."""

    def __init__(self, host: str, port: int, request: AssociateRequest) -> None:
        self._address = (host, port)
        self._request = request
        self._engine = Association(Role.REQUESTOR)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._events: deque[events.Event] = deque()
        self._something_happened = asyncio.Event()
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._artim: asyncio.TimerHandle | None = None
        self._last_message_id = 0

    @property
    def negotiated(self) -> Negotiated:
        """What both sides agreed on."""
        assert self._engine.negotiated is not None
        return self._engine.negotiated

    # What the loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Evt2."""
        self._transport = cast(asyncio.Transport, transport)
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._carry_out(self._engine.transport_opened())

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._carry_out(self._engine.receive_data(data))

    def connection_lost(self, exc: Exception | None) -> None:
        """Evt17, whoever closed."""
        self._transport = None
        self._may_write.set()
        self._carry_out(self._engine.transport_closed())
        self._stop_artim()

    def pause_writing(self) -> None:
        """The transport holds enough."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """The transport takes more."""
        self._may_write.set()

    def _artim_expired(self) -> None:
        self._artim = None
        self._carry_out(self._engine.timer_expired())

    # What the engine answers.

    def _carry_out(self, answer: Iterable[Effect]) -> None:
        for effect in answer:
            match effect:
                case effects.OpenTransport():
                    pass  # whoever entered the block is about to
                case effects.SendBytes(buffers):
                    if self._transport is not None:
                        self._transport.writelines(buffers)
                case effects.CloseTransport():
                    if self._transport is not None:
                        self._transport.abort()  # the engine closes after the peer's last word
                case effects.StartArtim():
                    self._stop_artim()
                    self._artim = self._loop.call_later(ARTIM_SECONDS, self._artim_expired)
                case effects.StopArtim():
                    self._stop_artim()
                case effects.PeerFault(cause):
                    print(f"the peer broke the protocol: {cause}", file=sys.stderr)
                case events.DataSetReceived():
                    pass  # of nothing that we ask for
                case _:
                    self._events.append(effect)
        if len(self._events) > MOST_EVENTS:
            self._events.clear()
            self._abort()
        self._something_happened.set()

    def _stop_artim(self) -> None:
        if self._artim is not None:
            self._artim.cancel()
            self._artim = None

    def _abort(self) -> None:
        """A-ABORT where there still is an association."""
        if self._engine.state not in (Sta.STA1, Sta.STA13):
            self._carry_out(self._engine.send(commands.Abort()))

    # What the service-user asks for.

    async def __aenter__(self) -> Self:
        try:
            self._carry_out(self._engine.send(commands.RequestAssociation(self._request)))
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._loop.create_connection(lambda: self, *self._address)
            await self._wait_for(events.AssociationAccepted)
        except BaseException:
            await self._finish()
            raise
        return self

    async def __aexit__(self, exception_type: type[BaseException] | None, *_: object) -> None:
        try:
            if exception_type is None:
                if self._engine.state is Sta.STA6:
                    self._carry_out(self._engine.send(commands.RequestRelease()))
                await self._wait_for(events.AssociationReleased)
        finally:
            await self._finish()

    async def echo(self) -> int:
        """C-ECHO: the status that the peer answers."""
        context = context_for(self.negotiated, VERIFICATION)
        request = CEchoRequest(
            message_id=self._message_id(), affected_sop_class_uid=context.abstract_syntax
        )
        self._carry_out(self._engine.send(commands.SendMessage(context.context_id, request)))
        return await self._status_of(request.message_id)

    async def store(self, path: Path) -> int:
        """C-STORE of a Part 10 file, sent in parts as it is read: the status of the answer."""
        with await asyncio.to_thread(path.open, "rb") as file:
            meta = await asyncio.to_thread(file_meta, file)
            context = context_for(
                self.negotiated, meta.media_storage_sop_class_uid, meta.transfer_syntax_uid
            )
            request = CStoreRequest(
                message_id=self._message_id(),
                affected_sop_class_uid=meta.media_storage_sop_class_uid,
                affected_sop_instance_uid=meta.media_storage_sop_instance_uid,
            )
            message = commands.SendMessage(context.context_id, request, has_data_set=True)
            self._carry_out(self._engine.send(message))
            async for part, is_last in data_set_parts(file, meta):
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._may_write.wait()
                if self._engine.state is not Sta.STA6:
                    break  # what has come tells why
                data = commands.SendDataSet(context.context_id, part, is_last)
                self._carry_out(self._engine.send(data))
        return await self._status_of(request.message_id)

    def _message_id(self) -> int:
        self._last_message_id = self._last_message_id % 0xFFFF + 1
        return self._last_message_id

    async def _status_of(self, message_id: int) -> int:
        match (await self._wait_for(events.MessageReceived)).message:
            case CEchoResponse() | CStoreResponse() as response if (
                response.message_id_being_responded_to == message_id
            ):
                return response.status
            case _:  # we perform nothing, and have asked for nothing else
                raise AssociationError("the peer sent a message that nobody waits for")

    async def _wait_for(self, kind: type[SomeEvent]) -> SomeEvent:
        """The next event of this kind.

        Raises:
            AssociationError: the association ended first.
            TimeoutError: no answer came in time.
        """
        async with asyncio.timeout(ANSWER_SECONDS):
            while True:
                while not self._events:
                    if self._transport is None:
                        raise AssociationError("the association has ended")
                    self._something_happened.clear()
                    await self._something_happened.wait()
                event = self._events.popleft()
                if isinstance(event, kind):
                    return event
                reason = end_reason(event)
                if reason is not None:
                    raise reason
                # The engine may be further on than this event: more can have come behind it.
                if self._engine.state in (Sta.STA8, Sta.STA9):
                    self._carry_out(self._engine.send(commands.AcceptRelease()))

    async def _finish(self) -> None:
        """From any state: A-ABORT where there still is an association, and close."""
        self._abort()
        while self._transport is not None:  # ARTIM runs
            self._something_happened.clear()
            await self._something_happened.wait()


def file_meta(file: BinaryIO) -> FileMeta:
    """The File Meta Information of a Part 10 file."""
    return read_file_meta(file.read(FILE_HEAD_LENGTH))


async def data_set_parts(file: BinaryIO, meta: FileMeta) -> AsyncIterator[tuple[bytes, bool]]:
    """What stands behind the File Meta Information: parts, and whether each is the last."""
    await asyncio.to_thread(file.seek, meta.data_set_offset)
    part = await asyncio.to_thread(file.read, PART_LENGTH)
    while ahead := await asyncio.to_thread(file.read, PART_LENGTH):
        yield part, False
        part = ahead
    yield part, True


def proposals(paths: Iterable[Path]) -> list[tuple[str, list[str]]]:
    """The presentation contexts that C-ECHO and these files need, each once."""
    found = {(VERIFICATION, IMPLICIT_VR_LITTLE_ENDIAN): None}
    for path in paths:
        with path.open("rb") as file:
            meta = file_meta(file)
        found[meta.media_storage_sop_class_uid, meta.transfer_syntax_uid] = None
    return [(abstract_syntax, [syntax]) for abstract_syntax, syntax in found]


async def converse(host: str, port: int, request: AssociateRequest, paths: list[Path]) -> bool:
    """C-ECHO and the C-STOREs over one association; whether the peer took everything."""
    statuses = []
    async with AsyncioAssociation(host, port, request) as association:
        status = await association.echo()
        print(f"C-ECHO: {status:04X}H {describe_status(status)}")
        statuses.append(status)
        for path in paths:
            status = await association.store(path)
            print(f"C-STORE {path}: {status:04X}H {describe_status(status)}")
            statuses.append(status)
    return all(classify(status) is not StatusClass.FAILURE for status in statuses)


def main() -> int:
    """0 when the peer took everything, with or without a warning; else 1."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--called", default="ANY-SCP", help="AE title of the peer")
    parser.add_argument("--calling", default="EXAMPLE", help="AE title of ours")
    arguments = parser.parse_args()
    try:
        request = associate_request(arguments.called, arguments.calling, proposals(arguments.files))
        did_all = asyncio.run(converse(arguments.host, arguments.port, request, arguments.files))
    except TimeoutError:
        print("error: the peer took too long", file=sys.stderr)
        return 1
    except (IsocenterError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0 if did_all else 1


if __name__ == "__main__":
    sys.exit(main())
