"""An SCU under asyncio: C-ECHO, then C-STORE of each file that is named.

    python examples/asyncio_scu.py 127.0.0.1 11112 image.dcm --called ISOCENTER

The driver is an `asyncio.Protocol`: each callback of the loop is one input of the engine.  No
callback waits for anything, so an A-ABORT is seen while a data set is on its way.
"""

from __future__ import annotations

import asyncio
import math
import socket
import sys
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Self, TypeVar, cast

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
#: Answers that may wait for the end of a data set of ours; a peer that asks for more is aborted.
MOST_OWED = 8

Result = TypeVar("Result")


class AsyncioAssociation(asyncio.Protocol):
    """An association as requestor; its block establishes it and releases, or aborts, it."""

    def __init__(self, host: str, port: int, request: AssociateRequest) -> None:
        self._address = (host, port)
        self._request = request
        self._engine = Association(Role.REQUESTOR)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._moments = Moments()
        self._alarm: asyncio.TimerHandle | None = None
        #: A message whose data set comes in parts holds it to the last part.
        self._sending = asyncio.Lock()
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._established = self._loop.create_future()
        self._waiting = Waiting[asyncio.Future[int]](self._engine.operations)
        self._owed: deque[commands.Command] = deque()
        self._ended = asyncio.Event()
        self._closed = asyncio.Event()
        self._why: AssociationError | None = None
        self._is_released = False

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
        self._apply_effects(self._engine.transport_opened())

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._moments.received = self._loop.time()
        self._apply_effects(self._engine.receive_data(data))

    def connection_lost(self, exc: Exception | None) -> None:
        """Evt17, whoever closed."""
        self._transport = None
        self._apply_effects(self._engine.transport_closed())
        self._closed.set()
        self._may_write.set()

    def pause_writing(self) -> None:
        """The transport holds enough."""
        self._moments.writing = self._loop.time()
        self._may_write.clear()
        self._set_alarm()

    def resume_writing(self) -> None:
        """The transport takes more."""
        self._moments.writing = math.inf
        self._may_write.set()

    def _time_out(self) -> None:
        self._alarm = None
        due, clock = next_deadline(self._engine, self._moments, DEADLINES)
        if self._loop.time() < due:
            self._set_alarm()  # it has moved since
        elif clock is Clock.ARTIM:
            self._moments.artim = math.inf
            self._apply_effects(self._engine.timer_expired())
        else:
            self._end(DeadlineExceeded(f"waited too long for {clock.value}"))
            if clock is Clock.WRITE and self._transport is not None:
                self._transport.abort()  # an A-ABORT could not leave either
            else:
                self.abort()

    # What the engine answers.

    def _apply_effects(self, answer: Iterable[Effect]) -> None:
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
                    self._moments.artim = self._loop.time()
                case effects.StopArtim():
                    self._moments.artim = math.inf
                case effects.PeerFault(cause):
                    print(f"the peer broke the protocol: {cause}", file=sys.stderr)
                case event:
                    self._handle(event)
        if self._engine.is_over:
            self._end(AssociationError("the association has ended"))
        self._set_alarm()

    def _handle(self, event: events.Event) -> None:
        match event:
            case events.AssociationAccepted():
                if not self._established.done():
                    self._established.set_result(None)
            case events.MessageReceived(context_id, message) if is_request(message):
                # We perform nothing.
                refusal = refusal_of(self.negotiated.contexts[context_id], message)
                status = refusal.status if refusal else Status.UNRECOGNIZED_OPERATION
                self._owe(commands.SendMessage(context_id, response_to(message, status)))
            case events.MessageReceived(_, message) if is_response(message):
                waiter = self._waiting.of(message)
                if waiter is not None and not waiter.done():
                    waiter.set_result(message.status)
            case events.ReleaseRequested():
                self._owe(commands.AcceptRelease())
            case events.AssociationReleased():
                self._is_released = True
                if not self._engine.is_over:  # two releases have met
                    self._owe(commands.AcceptRelease())
            case _:
                reason = end_reason(event)
                if reason is not None:
                    self._end(reason)

    def _owe(self, command: commands.Command) -> None:
        """Answer the peer: at once, or when the data set that we are sending has ended."""
        self._owed.append(command)
        if len(self._owed) > MOST_OWED:
            self._owed.clear()
            self.abort()
        self._pay()

    def _pay(self) -> None:
        while self._owed and not self._engine.is_sending_data_set:
            command = self._owed.popleft()
            if self._engine.allows(command):  # what came behind the request may have ended it
                self._apply_effects(self._engine.send(command))

    def _end(self, why: AssociationError) -> None:
        """Nobody need wait for anything any more; the first to say why is right."""
        if self._why is None:
            self._why = why
        for waiter in (self._established, *self._waiting):
            if not waiter.done():
                waiter.set_exception(self._why)
                waiter.exception()  # seen, also where nobody waits for it
        self._ended.set()
        self._may_write.set()

    def _set_alarm(self) -> None:
        due, _ = next_deadline(self._engine, self._moments, DEADLINES)
        if self._alarm is not None:
            if self._alarm.when() <= due:
                return  # it looks again when it rings
            self._alarm.cancel()
            self._alarm = None
        if due < math.inf:
            self._alarm = self._loop.call_at(due, self._time_out)

    def abort(self) -> None:
        """A-ABORT where there still is an association."""
        if self._engine.allows(commands.Abort()):
            self._apply_effects(self._engine.send(commands.Abort()))

    # What the service-user asks for.

    async def __aenter__(self) -> Self:
        try:
            self._ask(commands.RequestAssociation(self._request))
            try:
                async with asyncio.timeout(DEADLINES.connect):
                    await self._loop.create_connection(lambda: self, *self._address)
            except TimeoutError:
                raise DeadlineExceeded(f"waited too long for {Clock.CONNECT.value}") from None
            await self._established
        except BaseException:
            await self._finish()
            raise
        return self

    async def __aexit__(self, exception_type: type[BaseException] | None, *_: object) -> None:
        try:
            if exception_type is None:
                async with self._sending:
                    if not self._engine.allows(commands.RequestRelease()):
                        raise self._why or AssociationError("the peer released the association")
                    self._ask(commands.RequestRelease())
                await self._ended.wait()
                if self._why is not None and not self._is_released:
                    raise self._why
        finally:
            await self._finish()

    async def echo(self) -> int:
        """C-ECHO: the status that the peer answers."""
        context = context_for(self.negotiated, VERIFICATION)
        request = CEchoRequest(
            message_id=self._engine.operations.next_message_id(),
            affected_sop_class_uid=context.abstract_syntax,
        )
        waiter = self._begin(request)
        async with self._sending:
            self._ask(commands.SendMessage(context.context_id, request))
        return await self._answer_to(request, waiter)

    async def store(self, path: Path) -> int:
        """C-STORE of a Part 10 file, sent in parts as it is read: the status of the answer."""
        with await asyncio.to_thread(path.open, "rb") as file:
            meta = await asyncio.to_thread(file_meta, file)
            context = context_for(
                self.negotiated, meta.media_storage_sop_class_uid, meta.transfer_syntax_uid
            )
            request = store_request(meta, self._engine.operations.next_message_id())
            waiter = self._begin(request)
            parts = data_set_parts(file, meta)
            async with self._sending:
                self._ask(commands.SendMessage(context.context_id, request, has_data_set=True))
                is_last = False
                while not is_last:
                    part, is_last = await asyncio.to_thread(next, parts)
                    await self._may_write.wait()
                    if self._why is not None:
                        raise self._why
                    self._ask(commands.SendDataSet(context.context_id, part, is_last))
            self._pay()
        return await self._answer_to(request, waiter)

    def _begin(self, request: Request) -> asyncio.Future[int]:
        waiter: asyncio.Future[int] = self._loop.create_future()
        self._waiting.begin(request.message_id, waiter)
        return waiter

    async def _answer_to(self, request: Request, waiter: asyncio.Future[int]) -> int:
        try:
            return await waiter
        finally:
            self._waiting.leave(request.message_id, waiter)

    def _ask(self, command: commands.Command) -> None:
        """The reader may have ended the association while we waited for the lock."""
        if self._why is not None:
            raise self._why
        self._moments.asked = self._loop.time()
        self._apply_effects(self._engine.send(command))

    async def _finish(self) -> None:
        """From any state: A-ABORT where there still is an association, and close."""
        self.abort()
        if self._transport is not None:  # ARTIM runs
            await self._closed.wait()
        if self._alarm is not None:
            self._alarm.cancel()


async def converse(arguments: Arguments) -> bool:
    """C-ECHO and the C-STOREs over one association; whether the peer took everything."""
    async with AsyncioAssociation(arguments.host, arguments.port, arguments.request) as association:
        took = [tell("C-ECHO", await association.echo())]
        took += [tell(f"C-STORE {path}", await association.store(path)) for path in arguments.files]
    return all(took)


def main() -> int:
    """What to exit with."""
    return exit_code_of(lambda: asyncio.run(converse(arguments_of(__doc__))))


if __name__ == "__main__":
    sys.exit(main())
