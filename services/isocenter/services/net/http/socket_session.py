"""Driver of one WebSocket: messages, pings, and its end."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.fast_init import dataclass
from isocenter.services.concurrency import Broadcast
from isocenter.services.net.http.websocket import (
    CloseCode,
    MessageReceived,
    SocketClosed,
    WebSocketProtocol,
)

#: Of messages that nobody has asked for yet; then the peer has to wait.
_MOST_WAITING: Final = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketLimits:
    """What the peer of a WebSocket may take.

    Attributes:
        message_bytes: of one message.
        ping_seconds: of silence, after which it is asked whether it lives, and within which it
            has to say something then.
        close_seconds: to answer our close frame.
    """

    message_bytes: int = 64 << 10
    ping_seconds: float = 20.0
    close_seconds: float = 5.0


DEFAULT_SOCKET_LIMITS: Final = SocketLimits()


class WebSocketClosed(Exception):
    """Nothing more comes, and nothing more is sent.

    Attributes:
        code, reason: as `SocketClosed` has them.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"the WebSocket is closed ({code})")
        self.code = code
        self.reason = reason


class WebSocket:
    """One WebSocket, as its handler sees it.

    Args:
        write: sends bytes, in their order; waits while the peer takes none, and gives it up when
            that takes too long.
        resume: more may be read.
    """

    def __init__(
        self,
        write: Callable[[bytes], Awaitable[None]],
        resume: Callable[[], None],
        limits: SocketLimits = DEFAULT_SOCKET_LIMITS,
    ) -> None:
        self._protocol = WebSocketProtocol(limits.message_bytes)
        self._write = write
        self._resume = resume
        self._limits = limits
        self._messages: deque[str | bytes] = deque()
        self._waiting = 0
        self._changed = Broadcast()
        self._closed: SocketClosed | None = None
        self._heard = trio.current_time()

    # The side of the connection.

    def feed(self, data: Buffer) -> None:
        """Bytes have come; ``b""``: no more will."""
        self._heard = trio.current_time()
        for event in self._protocol.receive(data):
            match event:
                case MessageReceived(message):
                    self._messages.append(message)
                    self._waiting += len(message)
                case SocketClosed():
                    self._closed = event
        self._changed.send()

    @property
    def is_full(self) -> bool:
        """Whether more has come than is to be held."""
        return self._waiting >= _MOST_WAITING

    async def run(self) -> None:
        """Answer pings and close frames, and look after a peer that is silent, until it ends."""
        try:
            while self._closed is None:
                await self._write_own()
                silent_since = self._heard
                with trio.move_on_after(self._limits.ping_seconds):
                    await self._changed.wait()
                if self._heard == silent_since:
                    await self._ask(silent_since)
            await self._write_own()
        except trio.BrokenResourceError:
            self._end(SocketClosed(CloseCode.ABNORMAL))

    async def _ask(self, silent_since: float) -> None:
        """Whether it lives; who does not answer has gone."""
        if self.is_closed:
            return
        await self._write(self._protocol.ping())
        with trio.move_on_after(self._limits.ping_seconds):
            while self._heard == silent_since and not self.is_closed:
                await self._changed.wait()
        if self._heard == silent_since:
            self._end(SocketClosed(CloseCode.ABNORMAL))

    async def _write_own(self) -> None:
        output = self._protocol.take_output()
        if output:
            await self._write(output)

    def _end(self, closed: SocketClosed) -> None:
        self._closed = self._closed or closed
        self._changed.send()

    @property
    def is_finished(self) -> bool:
        """Whether both sides have said that it ends."""
        return self._protocol.is_finished

    @property
    def is_closed(self) -> bool:
        """Whether nothing more comes."""
        return self._closed is not None

    async def until_closed(self) -> None:
        """Until nothing more comes."""
        while self._closed is None:
            await self._changed.wait()

    # The side of the handler.

    async def receive(self) -> str | bytes:
        """The next message.

        Raises:
            WebSocketClosed: there will be none.
        """
        while not self._messages:
            if self._closed is not None:
                raise WebSocketClosed(self._closed.code, self._closed.reason)
            await self._changed.wait()
        message = self._messages.popleft()
        self._waiting -= len(message)
        self._resume()
        return message

    async def send(self, message: str | bytes) -> None:
        """Send a message; waits while the peer takes none.

        Raises:
            WebSocketClosed: it cannot be sent.
        """
        data = self._protocol.message(message)
        if self._closed is not None or not data:
            closed = self._closed or SocketClosed(CloseCode.NORMAL)
            raise WebSocketClosed(closed.code, closed.reason)
        try:
            await self._write(data)
        except trio.BrokenResourceError as error:
            self._end(SocketClosed(CloseCode.ABNORMAL))
            raise WebSocketClosed(CloseCode.ABNORMAL) from error

    async def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Say that it ends, and wait for a while until the peer says so as well."""
        data = self._protocol.take_output() + self._protocol.close(code, reason)
        with trio.move_on_after(self._limits.close_seconds):
            try:
                if data:
                    await self._write(data)
                self._messages.clear()
                self._waiting = 0
                self._resume()
                await self.until_closed()
            except trio.BrokenResourceError:
                pass  # it has gone without
        self._end(SocketClosed(code, reason))
