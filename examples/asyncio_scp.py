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
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from storing import (
    ACCEPTOR,
    LOCAL_LIMIT_EXCEEDED,
    MOST_ASSOCIATIONS,
    Receiving,
    prepare,
)

from isocenter.engine import (
    Arrived,
    AssociateReject,
    AssociateRequest,
    Association,
    Clock,
    Deadlines,
    Effect,
    Moments,
    Role,
    commands,
    effects,
    end_reason,
    events,
    is_request,
    negotiate,
    next_deadline,
)

DEADLINES = Deadlines()
#: In bytes.
RECEIVE_LENGTH = 262_144


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
        self._is_full = is_full
        self._engine = Association(Role.ACCEPTOR)
        self._moments = Moments()
        self._is_open = True
        self._receiving = Receiving(folder)

    # The driver.

    async def run(self) -> None:
        """Serve until the connection is closed."""
        try:
            await self._apply_effects(self._engine.transport_opened())
            while self._is_open:
                await self._receive()
        finally:
            self._receiving.discard()
            self._writer.transport.abort()  # whatever was to be sent has been, or is not wanted

    async def _receive(self) -> None:
        """Wait until something happens, tell the engine, and carry out its answer."""
        loop = asyncio.get_running_loop()
        self._moments.received = loop.time()
        due, clock = next_deadline(self._engine, self._moments, DEADLINES)
        try:
            async with asyncio.timeout_at(due if due < math.inf else None):
                chunk = await self._reader.read(RECEIVE_LENGTH)
        except TimeoutError:
            if clock is Clock.ARTIM:
                self._moments.artim = math.inf
                await self._apply_effects(self._engine.timer_expired())
            else:
                await self._send(commands.Abort())
            return
        except OSError:
            chunk = b""  # reset by the peer
        if chunk:
            await self._apply_effects(self._engine.receive_data(chunk))
        else:
            await self._apply_effects(self._engine.transport_closed())
            self._is_open = False

    async def _apply_effects(self, answer: Iterable[Effect]) -> None:
        for effect in answer:
            match effect:
                case effects.SendBytes(buffers):
                    await self._write(buffers)
                case effects.CloseTransport():
                    self._is_open = False
                case effects.StartArtim():
                    self._moments.artim = asyncio.get_running_loop().time()
                case effects.StopArtim():
                    self._moments.artim = math.inf
                case effects.PeerFault(cause):
                    print(f"the peer broke the protocol: {cause}", file=sys.stderr)
                case effects.OpenTransport():
                    raise AssertionError("an acceptor opens no connection")
                case event:
                    await self._handle(event)

    async def _write(self, buffers: Iterable[bytes | bytearray | memoryview]) -> None:
        self._writer.writelines(buffers)
        try:
            async with asyncio.timeout(DEADLINES.write_blocked):
                await self._writer.drain()
        except TimeoutError:
            self._writer.transport.abort()  # the reader finds the end
        except OSError:
            pass  # the reader finds the end, after what may still be there to be received

    async def _send(self, command: commands.Command) -> None:
        """Answer, if the association is still where it was when the event arose.

        The engine took in the whole chunk before we saw its first event: an A-ABORT, or what
        causes one, may have come right behind the request.
        """
        if self._engine.allows(command):
            await self._apply_effects(self._engine.send(command))

    # The service-user.

    async def _handle(self, event: events.Event) -> None:
        match event:
            case events.AssociationRequested(request):
                await self._answer(request)
            case events.MessageReceived(_, message) if is_request(message):
                assert self._engine.negotiated is not None
                await self._finish(self._receiving.begin(event, self._engine.negotiated))
            case events.MessageReceived():  # a response, and we asked for nothing
                await self._send(commands.Abort())
            case events.DataSetReceived():
                await self._finish(self._receiving.add(event))
            case events.ReleaseRequested():
                self._receiving.discard()  # of half a data set the rest cannot come any more
                await self._send(commands.AcceptRelease())
            case _:
                reason = end_reason(event)
                if reason is not None:
                    self._receiving.discard()
                    print(reason, file=sys.stderr)

    async def _answer(self, request: AssociateRequest) -> None:
        answer = LOCAL_LIMIT_EXCEEDED if self._is_full else negotiate(request, ACCEPTOR)
        if isinstance(answer, AssociateReject):
            await self._send(commands.RejectAssociation(answer))
        else:
            await self._send(commands.AcceptAssociation(answer))

    async def _finish(self, arrived: Arrived | None) -> None:
        if arrived is None:
            return
        if self._receiving.has_object:
            await self._send(await asyncio.to_thread(self._receiving.answer, arrived))
        else:
            await self._send(self._receiving.answer(arrived))


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
    prepare(arguments.folder)
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(arguments.folder, arguments.host, arguments.port))


if __name__ == "__main__":
    main()
