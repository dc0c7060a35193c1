"""Line to a server that may come and go behind it, cut at a chosen byte."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum

import trio

_PIECE = 1 << 12
_CLOSED = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class Way(Enum):
    """Where bytes go: what is asked, what is answered."""

    ASKED = "asked"
    ANSWERED = "answered"


class Line:
    """A port that stays, before one that changes.

    Attributes:
        port: where clients connect.
        target: where the server listens now.
        passed: bytes that went each way since `watch`.
        is_cut: set when as many went as `watch` was told; nothing goes on from then.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.target = 0
        self.passed = dict.fromkeys(Way, 0)
        self.is_cut = trio.Event()
        self._limit: tuple[Way, int] | None = None
        self._scopes: set[trio.CancelScope] = set()

    def watch(self, way: Way | None = None, count: int = 0) -> None:
        """Count anew; cut it where *count* bytes have gone one *way*."""
        self.passed = dict.fromkeys(Way, 0)
        self.is_cut = trio.Event()
        self._limit = None if way is None else (way, count)

    def drop(self) -> None:
        """Close all connections."""
        for scope in self._scopes:
            scope.cancel()

    async def serve(self, client: trio.SocketStream) -> None:
        """One connection."""
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                async with (
                    client,
                    await trio.open_tcp_stream("127.0.0.1", self.target) as server,
                    trio.open_nursery() as nursery,
                ):
                    nursery.start_soon(self._pass_on, client, server, Way.ASKED)
                    nursery.start_soon(self._pass_on, server, client, Way.ANSWERED)
            except* _CLOSED:
                pass
            finally:
                self._scopes.discard(scope)

    async def _pass_on(
        self, source: trio.SocketStream, target: trio.SocketStream, way: Way
    ) -> None:
        while piece := await source.receive_some(_PIECE):
            if self.is_cut.is_set():
                await trio.sleep_forever()
            if self._limit is not None and self._limit[0] is way:
                piece = piece[: max(self._limit[1] - self.passed[way], 0)]
                if self.passed[way] + len(piece) >= self._limit[1]:
                    self._limit = None
                    await target.send_all(piece)
                    self.passed[way] += len(piece)
                    self.is_cut.set()
                    await trio.sleep_forever()
            self.passed[way] += len(piece)
            await target.send_all(piece)
        await target.send_eof()


@asynccontextmanager
async def open_line() -> AsyncIterator[Line]:
    """A line, for as long as the context lasts."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    line = Line(listener.socket.getsockname()[1])
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, line.serve, [listener])
        yield line
        nursery.cancel_scope.cancel()
