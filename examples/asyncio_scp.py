"""An SCP over asyncio streams: answers C-ECHO, stores what C-STORE brings into a folder.

    python examples/asyncio_scp.py received --port 11112

One coroutine per connection reads, tells the engine and carries out its answer before it reads
on; that is the backpressure.  It shows what an SCP must do to store safely, and leaves out what
an archive does beyond it: an index, access rules, TLS, one sync for many objects.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import socket
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from isocenter.engine import commands, effects, events
from isocenter.engine.ae import is_ae_title
from isocenter.engine.association import Association
from isocenter.engine.dataset import write_file_meta
from isocenter.engine.dimse.messages import (
    CEchoRequest,
    CStoreRequest,
    Message,
    Request,
    UnrecognizedMessage,
    is_request,
    response_to,
)
from isocenter.engine.dimse.status import Status
from isocenter.engine.driving import end_reason
from isocenter.engine.effects import Effect
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.negotiation import ANY, Acceptor, Offer, Role, negotiate
from isocenter.engine.pdu import AssociateReject, AssociateRequest
from isocenter.engine.states import Sta
from isocenter.engine.uid import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
    is_safe_uid,
)

#: In seconds: the standard's timer, then ours.  Whoever sends nothing, or takes nothing, goes.
ARTIM_SECONDS = 5.0
IDLE_SECONDS = 60.0
WRITE_SECONDS = 30.0
#: In bytes.
RECEIVE_LENGTH = 262_144
#: Associations at once; the next is told to come again (PS3.8 Table 9-21).
MOST_ASSOCIATIONS = 100
LOCAL_LIMIT_EXCEEDED = AssociateReject(2, 3, 2)

#: How the names of files start that are not complete.
TEMPORARY = ".incoming-"
STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
IN_THE_CLEAR = Offer(transfer_syntaxes=(EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN))
AS_IT_COMES = Offer(transfer_syntaxes=(EXPLICIT_VR_LITTLE_ENDIAN, ANY))


def offer(abstract_syntax: str) -> Offer | None:
    """Verification, and every storage SOP class: a data set is kept in whatever syntax it has."""
    if abstract_syntax == VERIFICATION:
        return IN_THE_CLEAR
    return AS_IT_COMES if abstract_syntax.startswith(STORAGE_ROOT) else None


ACCEPTOR = Acceptor(offer=offer, max_pdu_length=DEFAULT_LIMITS.max_pdu_length)


class IncomingObject:
    """A C-STORE while its data set comes: a temporary file that gets its name at the end."""

    def __init__(self, request: CStoreRequest, context_id: int) -> None:
        self.request = request
        self.context_id = context_id
        self.status = Status.SUCCESS
        self._file: BinaryIO | None = None
        self._path = Path()

    def begin(self, folder: Path, head: bytes) -> None:
        """Make the temporary file, with the File Meta Information in it."""
        try:
            number, name = tempfile.mkstemp(dir=folder, prefix=TEMPORARY)
            self._path, self._file = Path(name), os.fdopen(number, "wb")
        except OSError:
            self.status = Status.OUT_OF_RESOURCES
        self.write(head)

    def write(self, data: bytes | memoryview) -> None:
        """Take a part of the data set: it goes to the page cache, only the sync has to wait."""
        if self._file is None:
            return
        try:
            self._file.write(data)
        except OSError:
            self.refuse(Status.OUT_OF_RESOURCES)

    def refuse(self, status: Status) -> None:
        """Answer with *status* at the end of the data set, and keep nothing."""
        self.status = status
        self.discard()

    def commit(self, path: Path) -> None:
        """Give the object its name once its bytes are durable; blocks, so not for the loop."""
        if self._file is None:
            return
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._path.replace(path)
            self._file = None
            sync_folder(path.parent)
        except OSError:
            self.refuse(Status.OUT_OF_RESOURCES)

    def discard(self) -> None:
        """Leave no trace."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
            self._path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in *folder* durable."""
    if os.name == "nt":
        return  # folders cannot be opened there; NTFS keeps a journal of names
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


class Connection:
    """One association as acceptor."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        folder: Path,
        is_full: bool,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._folder = folder
        self._is_full = is_full
        self._engine = Association(Role.ACCEPTOR)
        self._artim_ends = math.inf
        self._is_open = True
        self._incoming: IncomingObject | None = None

    # The driver.

    async def run(self) -> None:
        """Serve until the connection is closed."""
        try:
            await self._carry_out(self._engine.transport_opened())
            while self._is_open:
                await self._receive()
        finally:
            self._discard()
            self._writer.transport.abort()  # whatever was to be sent has been, or is not wanted

    async def _receive(self) -> None:
        """Wait until something happens, tell the engine, and carry out its answer."""
        idle_ends = asyncio.get_running_loop().time() + IDLE_SECONDS
        due = min(self._artim_ends, idle_ends)
        try:
            async with asyncio.timeout_at(due):
                chunk = await self._reader.read(RECEIVE_LENGTH)
        except TimeoutError:
            if due == self._artim_ends:
                self._artim_ends = math.inf
                await self._carry_out(self._engine.timer_expired())
            else:
                await self._carry_out(self._engine.send(commands.Abort()))
            return
        except OSError:
            chunk = b""  # reset by the peer
        if chunk:
            await self._carry_out(self._engine.receive_data(chunk))
        else:
            await self._carry_out(self._engine.transport_closed())
            self._is_open = False

    async def _carry_out(self, answer: Iterable[Effect]) -> None:
        for effect in answer:
            match effect:
                case effects.SendBytes(buffers):
                    await self._write(buffers)
                case effects.CloseTransport():
                    self._is_open = False
                case effects.StartArtim():
                    self._artim_ends = asyncio.get_running_loop().time() + ARTIM_SECONDS
                case effects.StopArtim():
                    self._artim_ends = math.inf
                case effects.PeerFault(cause):
                    print(f"the peer broke the protocol: {cause}", file=sys.stderr)
                case effects.OpenTransport():
                    raise AssertionError("an acceptor opens no connection")
                case event:
                    await self._handle(event)

    async def _write(self, buffers: Iterable[bytes | bytearray | memoryview]) -> None:
        self._writer.writelines(buffers)
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._writer.drain()
        except TimeoutError:
            self._writer.transport.abort()  # the reader finds the end
        except OSError:
            pass  # the reader finds the end, after what may still be there to be received

    # The service-user.

    async def _handle(self, event: events.Event) -> None:
        match event:
            case events.AssociationRequested(request):
                await self._answer(request)
            case events.MessageReceived(context_id, message, has_data_set):
                await self._message_received(context_id, message, has_data_set)
            case events.DataSetReceived(_, data, is_last):
                if self._incoming is not None:
                    self._incoming.write(data)
                    if is_last:
                        await self._store()
            case events.ReleaseRequested():
                await self._send(commands.AcceptRelease(), Sta.STA8)
            case _:
                reason = end_reason(event)
                if reason is not None:
                    self._discard()
                    print(reason, file=sys.stderr)

    async def _send(self, command: commands.Command, *states: Sta) -> None:
        """Answer, if the association is still where it was when the event arose.

        The engine took in the whole chunk before we saw its first event: an A-ABORT, or what
        causes one, may have come right behind the request.
        """
        if self._engine.state in states:
            await self._carry_out(self._engine.send(command))

    async def _answer(self, request: AssociateRequest) -> None:
        answer = LOCAL_LIMIT_EXCEEDED if self._is_full else negotiate(request, ACCEPTOR)
        if isinstance(answer, AssociateReject):
            await self._send(commands.RejectAssociation(answer), Sta.STA3)
        else:
            await self._send(commands.AcceptAssociation(answer), Sta.STA3)

    async def _respond(self, context_id: int, request: Request, status: int) -> None:
        response = commands.SendMessage(context_id, response_to(request, status))
        await self._send(response, Sta.STA6, Sta.STA8)

    async def _message_received(
        self, context_id: int, message: Message, has_data_set: bool
    ) -> None:
        assert self._engine.negotiated is not None
        context = self._engine.negotiated.contexts[context_id]
        if not is_request(message):  # a response, and we asked for nothing
            await self._send(commands.Abort(), Sta.STA6)
            return
        match message:
            case UnrecognizedMessage():
                await self._respond(context_id, message, message.status)
            case (
                CEchoRequest(affected_sop_class_uid=uid) | CStoreRequest(affected_sop_class_uid=uid)
            ) if uid != context.abstract_syntax:
                await self._respond(context_id, message, Status.SOP_CLASS_NOT_SUPPORTED)
            case CEchoRequest():
                await self._respond(context_id, message, Status.SUCCESS)
            case CStoreRequest() if context.abstract_syntax == VERIFICATION:
                await self._respond(context_id, message, Status.UNRECOGNIZED_OPERATION)
            case CStoreRequest() if not has_data_set:
                await self._respond(context_id, message, Status.CANNOT_UNDERSTAND)
            case CStoreRequest():
                self._begin(IncomingObject(message, context_id), context.transfer_syntax)
            case _:
                await self._respond(context_id, message, Status.UNRECOGNIZED_OPERATION)

    # Storing.

    def _begin(self, incoming: IncomingObject, transfer_syntax: str) -> None:
        assert self._engine.negotiated is not None
        self._incoming = incoming
        # Both become text in a file, and one of them the name of it.
        uids = incoming.request.affected_sop_class_uid, incoming.request.affected_sop_instance_uid
        if not all(is_safe_uid(uid) for uid in uids):
            incoming.refuse(Status.INVALID_SOP_INSTANCE)
            return
        calling = self._engine.negotiated.calling_ae_title
        source = calling if is_ae_title(calling) else ""
        incoming.begin(self._folder, write_file_meta(*uids, transfer_syntax, source))

    async def _store(self) -> None:
        incoming, self._incoming = self._incoming, None
        assert incoming is not None
        path = self._folder / f"{incoming.request.affected_sop_instance_uid}.dcm"
        await asyncio.to_thread(incoming.commit, path)
        await self._respond(incoming.context_id, incoming.request, incoming.status)

    def _discard(self) -> None:
        if self._incoming is not None:
            self._incoming.discard()
            self._incoming = None


async def serve(folder: Path, host: str, port: int) -> None:
    """Accept associations until cancelled; says ``ready`` and the port when it listens."""
    connections: set[Connection] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(reader, writer, folder, len(connections) >= MOST_ASSOCIATIONS)
        connections.add(connection)
        try:
            await connection.run()
        finally:
            connections.discard(connection)

    server = await asyncio.start_server(accept, host, port, limit=RECEIVE_LENGTH)
    print(f"ready {host}:{server.sockets[0].getsockname()[1]}", flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=11112, help="0: any that is free")
    arguments = parser.parse_args()
    arguments.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for leftover in arguments.folder.glob(f"{TEMPORARY}*"):  # of a run that was killed
        leftover.unlink()
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(arguments.folder, arguments.host, arguments.port))


if __name__ == "__main__":
    main()
