"""An SCU under anyio, with several operations at once: C-ECHO, then C-STORE of the files.

    python examples/anyio_scu.py 127.0.0.1 11112 *.dcm --called ISOCENTER

It asks for a window of `WINDOW` operations (PS3.7 D.3.3.3) and begins as many as the peer grants:
while one object waits for its answer, the next is sent.  One task reads; each operation is a task
of its own.  What they share is one lock, held for a message to the last part of its data set.
"""

from __future__ import annotations

import math
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from anyio.abc import SocketAttribute, SocketStream
from sending import (
    Arguments,
    arguments_of,
    data_set_parts,
    exit_code_of,
    file_meta,
    store_request,
    tell,
)

from isocenter.engine import (
    VERIFICATION,
    AssociateRequest,
    Association,
    AssociationError,
    CEchoRequest,
    Clock,
    DeadlineExceeded,
    Deadlines,
    Effect,
    Moments,
    Negotiated,
    Request,
    Role,
    Status,
    Waiting,
    commands,
    context_for,
    effects,
    end_reason,
    events,
    is_request,
    is_response,
    next_deadline,
    refusal_of,
    response_to,
)

DEADLINES = Deadlines()
#: Operations to have outstanding at once.
WINDOW = 4
#: In bytes.
RECEIVE_LENGTH = 65_536


class Waiter:
    """One request of ours until its response has come."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.status: int | None = None


class AnyioAssociation:
    """An association as requestor, over a connection that stands."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self._engine = Association(Role.REQUESTOR)
        self._moments = Moments()
        #: A message, to the last part of its data set, and the writes that follow from it.
        self._sending = anyio.Lock()
        self._waiting = Waiting[Waiter](self._engine.operations)
        self._owed: list[commands.Command] = []
        self._changed = anyio.Event()
        self._is_open = True
        self._is_cut = False
        self._why: AssociationError | None = None
        self._is_released = False

    @property
    def negotiated(self) -> Negotiated:
        """What both sides agreed on."""
        assert self._engine.negotiated is not None
        return self._engine.negotiated

    # The driver.

    async def read(self) -> None:
        """Until the connection is closed: what comes goes through the engine."""
        while self._is_open:
            due, clock = next_deadline(self._engine, self._moments, DEADLINES)
            chunk: bytes | None = None
            # A wait that has begun since may end before: look again each second.
            with anyio.move_on_after(max(0.0, min(due - anyio.current_time(), 1.0))):
                try:
                    chunk = await self._stream.receive(RECEIVE_LENGTH)
                except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                    chunk = b""
            self._moments.received = anyio.current_time() if chunk else self._moments.received
            if chunk:
                await self._apply_effects(self._engine.receive_data(chunk))
            elif chunk is not None:
                self._is_open = False
                await self._apply_effects(self._engine.transport_closed())
            elif due <= anyio.current_time():
                await self._time_out(clock)

    async def _time_out(self, clock: Clock) -> None:
        if clock is Clock.ARTIM:
            self._moments.artim = math.inf
            await self._apply_effects(self._engine.timer_expired())
        else:
            self._end(DeadlineExceeded(f"waited too long for {clock.value}"))
            await self.abort()

    async def _apply_effects(self, answer: Iterable[Effect]) -> None:
        for effect in answer:
            match effect:
                case effects.OpenTransport():
                    pass  # whoever made this object has connected
                case effects.SendBytes(buffers):
                    await self._write(b"".join(buffers))
                case effects.CloseTransport():
                    self._is_open = False
                case effects.StartArtim():
                    self._moments.artim = anyio.current_time()
                case effects.StopArtim():
                    self._moments.artim = math.inf
                case effects.PeerFault(cause):
                    print(f"the peer broke the protocol: {cause}", file=sys.stderr)
                case event:
                    self._handle(event)
        if self._engine.is_over:
            self._end(AssociationError("the association has ended"))
        self._tell()

    async def _write(self, data: bytes) -> None:
        if self._is_cut:
            return
        self._is_cut = True  # until all of it has left, nothing else can be framed
        try:
            with anyio.fail_after(DEADLINES.write_blocked):
                await self._stream.send(data)
            self._is_cut = False
        except TimeoutError:
            self._end(DeadlineExceeded(f"waited too long for {Clock.WRITE.value}"))
            self._is_open = False
            await self._stream.aclose()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # the reader finds the end, after what may still be there to be received

    def _handle(self, event: events.Event) -> None:
        match event:
            case events.MessageReceived(context_id, message) if is_request(message):
                refusal = refusal_of(self.negotiated.contexts[context_id], message)
                status = refusal.status if refusal else Status.UNRECOGNIZED_OPERATION
                self._owed.append(commands.SendMessage(context_id, response_to(message, status)))
            case events.MessageReceived(_, message) if is_response(message):
                waiter = self._waiting.of(message)
                if waiter is not None:
                    waiter.status = message.status
                    waiter.done.set()
            case events.ReleaseRequested():
                self._owed.append(commands.AcceptRelease())
            case events.AssociationReleased():
                self._is_released = True
                if not self._engine.is_over:  # two releases have met
                    self._owed.append(commands.AcceptRelease())
            case _:
                reason = end_reason(event)
                if reason is not None:
                    self._end(reason)

    async def answer(self) -> None:
        """What the peer asks of us is answered when no data set of ours is on its way; the reader
        reads on meanwhile."""
        while True:
            await self._until(lambda: bool(self._owed) or self._why is not None)
            if self._why is not None:
                return
            async with self._sending:
                command = self._owed.pop(0)
                if self._engine.allows(command):
                    await self._apply_effects(self._engine.send(command))

    def _tell(self) -> None:
        """Whoever waits for something looks again."""
        self._changed.set()
        self._changed = anyio.Event()

    def _end(self, why: AssociationError) -> None:
        if self._why is None:
            self._why = why
        for waiter in self._waiting:
            waiter.done.set()
        self._tell()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()

    async def abort(self) -> None:
        """A-ABORT where there still is an association."""
        if self._engine.allows(commands.Abort()):
            await self._apply_effects(self._engine.send(commands.Abort()))

    # What the service-user asks for.

    async def establish(self, request: AssociateRequest) -> None:
        """A-ASSOCIATE, and wait for its answer."""
        await self._ask(commands.RequestAssociation(request))
        await self._apply_effects(self._engine.transport_opened())
        await self._until(lambda: self._engine.negotiated is not None or self._why is not None)
        if self._why is not None:
            raise self._why

    async def release(self) -> None:
        """A-RELEASE, and wait for the end."""
        async with self._sending:
            if not self._engine.allows(commands.RequestRelease()):
                raise self._why or AssociationError("the peer released the association")
            await self._ask(commands.RequestRelease())
        await self._until(lambda: self._why is not None)
        if self._why is not None and not self._is_released:
            raise self._why

    async def close(self) -> None:
        """From any state: A-ABORT where there still is an association; the reader ends."""
        await self.abort()
        await self._until(lambda: not self._is_open)

    async def echo(self) -> int:
        """C-ECHO: the status that the peer answers."""
        context = context_for(self.negotiated, VERIFICATION)
        async with self._operation() as (message_id, waiter):
            request = CEchoRequest(
                message_id=message_id, affected_sop_class_uid=context.abstract_syntax
            )
            async with self._sending:
                await self._ask(commands.SendMessage(context.context_id, request))
            return await self._status(request, waiter)

    async def store(self, path: Path) -> int:
        """C-STORE of a Part 10 file, sent in parts as it is read: the status of the answer."""
        with path.open("rb") as file:
            meta = file_meta(file)
            context = context_for(
                self.negotiated, meta.media_storage_sop_class_uid, meta.transfer_syntax_uid
            )
            async with self._operation() as (message_id, waiter):
                request = store_request(meta, message_id)
                async with self._sending:
                    await self._ask(
                        commands.SendMessage(context.context_id, request, has_data_set=True)
                    )
                    for part, is_last in data_set_parts(file, meta):
                        await self._ask(commands.SendDataSet(context.context_id, part, is_last))
                return await self._status(request, waiter)

    @asynccontextmanager
    async def _operation(self) -> AsyncIterator[tuple[int, Waiter]]:
        """A Message ID and a place in the window, as soon as there is one."""
        operations = self._engine.operations
        await self._until(lambda: not operations.is_window_full or self._why is not None)
        if self._why is not None:
            raise self._why
        message_id, waiter = operations.next_message_id(), Waiter()
        self._waiting.begin(message_id, waiter)
        try:
            yield message_id, waiter
        finally:
            self._waiting.leave(message_id, waiter)
            self._tell()

    async def _ask(self, command: commands.Command) -> None:
        """The reader may have ended the association while we waited for the lock."""
        if self._why is not None:
            raise self._why
        self._moments.asked = anyio.current_time()
        await self._apply_effects(self._engine.send(command))

    async def _status(self, request: Request, waiter: Waiter) -> int:
        await waiter.done.wait()
        if waiter.status is None:
            raise self._why or AssociationError(f"no answer to Message ID {request.message_id}")
        return waiter.status


@asynccontextmanager
async def open_association(arguments: Arguments) -> AsyncIterator[AnyioAssociation]:
    """An association in a block, which releases it, or aborts it when something is raised."""
    try:
        with anyio.fail_after(DEADLINES.connect):
            stream = await anyio.connect_tcp(arguments.host, arguments.port)
    except TimeoutError:
        raise DeadlineExceeded(f"waited too long for {Clock.CONNECT.value}") from None
    async with stream:
        sock = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 (no Django)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        association = AnyioAssociation(stream)
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(association.read)
            tasks.start_soon(association.answer)
            try:
                await association.establish(arguments.request)
                yield association
                await association.release()
            except Exception as error:
                failure = error  # out of the task group it would come in a group
            await association.close()
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure


async def converse(arguments: Arguments) -> bool:
    """C-ECHO, then the C-STOREs as they come; whether the peer took everything."""
    took = []
    failures: list[Exception] = []

    async def store(association: AnyioAssociation, path: Path) -> None:
        try:
            took.append(tell(f"C-STORE {path}", await association.store(path)))
        except Exception as error:
            failures.append(error)

    async with open_association(arguments) as association:
        took.append(tell("C-ECHO", await association.echo()))
        async with anyio.create_task_group() as tasks:
            for path in arguments.files:
                tasks.start_soon(store, association, path)
        if failures:
            raise failures[0]
    return all(took)


def main() -> int:
    """What to exit with."""
    return exit_code_of(lambda: anyio.run(converse, arguments_of(__doc__, WINDOW)))


if __name__ == "__main__":
    sys.exit(main())
