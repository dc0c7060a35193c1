"""Sender of an association: messages whole and one after the other, and A-ABORT."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import Final

import trio

from isocenter.engine import commands, effects
from isocenter.engine.buffers import Buffer
from isocenter.engine.commands import Command
from isocenter.engine.dimse.message_codec import Message, Request
from isocenter.engine.effects import Effect
from isocenter.engine.errors import AssociationError, DeadlineExceeded, LocalProtocolError
from isocenter.engine.negotiation import Role
from isocenter.engine.states import Sta
from isocenter.services.association.state import AssociationOptions, AssociationState
from isocenter.services.concurrency import FairLock
from isocenter.services.net.transport import Transport

#: Writes that need not wait before others get their turn: a peer may ask thousands of times
#: in one chunk, and a query may have thousands of matches.
_FAIR_SHARE: Final = 16
#: Of a data set, and whether it is the last.
Part = tuple[Buffer, bool]


class MessageSender(AssociationState):
    """The side of an association that sends."""

    def __init__(self, transport: Transport, role: Role, options: AssociationOptions) -> None:
        super().__init__(transport, role, options)
        self._sends = 0
        self._sending = FairLock()
        self._message_lock = FairLock()
        #: Half of something has left: nothing else can be framed.
        self._write_incomplete = False
        #: The peer takes nothing any more.
        self._transport_broken = False

    @abstractmethod
    async def _apply_effects(self, answer: Iterable[Effect]) -> None:
        """Do what the engine answered, in its order."""

    async def send(self, command: Command) -> None:
        """Have the engine do it, and carry out what follows.

        Raises:
            LocalProtocolError: not allowed now; nothing was sent.
            AssociationError: the association has ended.
        """
        if self._end_reason is not None:
            raise self._end_reason
        if self._is_traced:
            self._trace(command)
        if isinstance(command, commands.SendMessage):
            lock = self._message_lock
            if not lock.take_now():
                await lock.take()
            try:
                if self._end_reason is not None:
                    raise self._end_reason
                self.traffic.messages_sent += 1
                (effect,) = self._by_engine(command)
                if self._is_traced:
                    self._trace(effect)
                assert isinstance(effect, effects.SendBytes)
                await self._write(effect.buffers)
            finally:
                lock.release()
        else:
            await self._apply_effects(self._engine.send(command))

    async def send_messages(
        self, context_id: int, messages: Sequence[tuple[Message, Buffer | None]]
    ) -> None:
        """Several messages, each with its data set, in one write.

        Raises:
            LocalProtocolError: one is not allowed now; those before it were not sent either.
            AssociationError: the association has ended.
        """
        if self._end_reason is not None:
            raise self._end_reason
        buffers: list[Buffer] = []
        async with self._message_lock:
            for message, data_set in messages:
                command = commands.SendMessage(context_id, message, data_set)
                if self._is_traced:
                    self._trace(command)
                buffers += _bytes_of(self._engine.send(command))
            self.traffic.messages_sent += len(messages)
            await self._write(buffers)

    async def send_followed(self, context_id: int, message: Message) -> None:
        """A message without a data set, with another one close behind it.

        It may leave with the next one, and reach the peer in one piece with it.

        Raises:
            LocalProtocolError: not allowed now; nothing was sent.
            AssociationError: the association has ended.
        """
        if self._end_reason is not None:
            raise self._end_reason
        async with self._message_lock:
            command = commands.SendMessage(context_id, message)
            if self._is_traced:
                self._trace(command)
            buffers = _bytes_of(self._by_engine(command))
            self.traffic.messages_sent += 1
            await self._write(buffers, is_followed=True)

    async def send_streamed(
        self, context_id: int, message: Request, parts: AsyncGenerator[Part, None]
    ) -> None:
        """Send a message whose data set comes in *parts*; each has left when the next is asked for,
        and the last when they are closed.

        When *parts* raises, the message cannot be completed any more: the association is
        aborted and the exception goes on.
        """
        none: Part = (b"", True)
        async with self._message_lock, aclosing(parts):
            part, is_last = await anext(parts, none)
            if self._end_reason is not None:
                raise self._end_reason
            self.traffic.messages_sent += 1
            if is_last:
                whole = commands.SendMessage(context_id, message, part)
                if self._is_traced:
                    self._trace(whole)
                await self._write(_bytes_of(self._by_engine(whole)))
                return
            buffers = _bytes_of(
                self._by_engine(commands.SendMessage(context_id, message, has_data_set=True))
            )
            try:
                while True:
                    sent = self._by_engine(commands.SendDataSet(context_id, part, is_last))
                    await self._write([*buffers, *_bytes_of(sent)])
                    if is_last:
                        return
                    buffers = ()
                    part, is_last = await anext(parts, none)
                    if self._end_reason is not None:
                        raise self._end_reason
            except BaseException:
                if self._engine.is_sending_data_set:
                    await self.abort()
                raise

    def _by_engine(self, command: Command) -> tuple[Effect, ...]:
        """Have the engine do it.  It may know before us that the association is over: the reader
        carries out what came before the end."""
        try:
            return self._engine.send(command)
        except LocalProtocolError as error:
            if self._engine.is_over:
                raise AssociationError("the association has ended") from error
            raise

    async def abort(self, reason: AssociationError | None = None) -> None:
        """A-ABORT now, if it can still be framed; else close.

        The reader goes on until the peer has closed or ARTIM has run out: closing at once
        could destroy the A-ABORT on its way.
        """
        self._end(reason or AssociationError("the association was aborted here"))
        with trio.move_on_after(self.deadlines.abort, shield=True):
            if not self._write_incomplete:
                if self._engine.allows(commands.Abort()):
                    await self._apply_effects(self._engine.send(commands.Abort()))
                    return
                if self._engine.state is Sta.STA13:
                    return
        await self._close()

    # The socket.

    async def _write(self, buffers: Sequence[Buffer], *, is_followed: bool = False) -> None:
        lock = self._sending
        if not lock.take_now():
            await lock.take()
        try:
            if self._write_incomplete or self._closed:
                await trio.lowlevel.checkpoint()  # whoever is cancelled by now gets to know
                return
            self.traffic.bytes_sent += sum(map(len, buffers))
            self._write_incomplete = True  # until all of it has left, nothing else can be framed
            try:
                left = self.transport.send_now(buffers, is_followed)
                if left:
                    await self._write_slowly(left)
                else:
                    self._write_incomplete = False
            except BrokenPipeError:
                # The reader sees the end of the connection, and Evt17 tells the engine, once it
                # has read what the peer had sent; until then nobody works for it any more.
                self._transport_broken = True
                self._cancel_operations()
        finally:
            lock.release()
        self._sends += 1
        if self._sends % _FAIR_SHARE == 0:
            await trio.lowlevel.checkpoint()

    async def _write_slowly(self, buffers: Sequence[Buffer]) -> None:
        limit = self.deadlines.write_blocked
        with trio.CancelScope() as scope:

            def progress() -> None:
                scope.deadline = trio.current_time() + limit

            progress()
            try:
                await self.transport.send(buffers, progress)
                self._write_incomplete = False
            except trio.Cancelled:
                if not scope.cancel_called and not self._closed:
                    # Half a message has left; whoever comes next must not wait for an answer.
                    self.start_soon(self._close)
                    self._end(AssociationError("a message was cut short here"))
                raise
        if scope.cancelled_caught:
            self._end(DeadlineExceeded(f"the peer took no data for {limit:g} s"))
            await self._close()

    async def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self.closed.set()
            await self.transport.aclose()


def _bytes_of(answer: Sequence[Effect]) -> tuple[Buffer, ...]:
    if len(answer) == 1 and isinstance(answer[0], effects.SendBytes):
        return answer[0].buffers
    return tuple(
        buffer
        for effect in answer
        if isinstance(effect, effects.SendBytes)
        for buffer in effect.buffers
    )
