"""Throttle: so many bytes a second leave, over all connections that share it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import trio

from isocenter.engine.buffers import Buffer
from isocenter.services.net.peer_identity import PeerIdentity
from isocenter.services.net.transport import Transport

#: What leaves in one go: smaller pieces cost more, larger ones come in bursts.
_PIECE: Final = 64 << 10
#: So many seconds may be made up for after nothing was sent.
_BURST_SECONDS: Final = 0.25


class Throttle:
    """A rate that connections share; who waits longest is next.

    Args:
        rate: bytes a second; it may be changed.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._free_at = -1.0
        self._turn = trio.Lock()

    async def wait(self, count: int) -> None:
        """Until so many bytes may leave."""
        async with self._turn:
            now = trio.current_time()
            self._free_at = max(self._free_at, now - _BURST_SECONDS) + count / self.rate
            await trio.sleep(max(self._free_at - now, 0.0))


class ThrottledTransport:
    """A `Transport` over another one that sends no faster than *throttle* lets it."""

    def __init__(self, transport: Transport, throttle: Throttle) -> None:
        self._transport = transport
        self._throttle = throttle

    @property
    def peer_address(self) -> str:
        """See `Transport`."""
        return self._transport.peer_address

    @property
    def identity(self) -> PeerIdentity | None:
        """See `Transport`."""
        return self._transport.identity

    async def receive(self) -> Buffer:
        """See `Transport.receive`."""
        return await self._transport.receive()

    def send_now(self, buffers: Sequence[Buffer], is_followed: bool = False) -> Sequence[Buffer]:
        """Nothing leaves without waiting for its turn."""
        return buffers

    async def send(self, buffers: Sequence[Buffer], progress: Callable[[], None]) -> None:
        """See `Transport.send`."""
        for piece in _pieces(buffers):
            await self._throttle.wait(len(piece))
            rest = self._transport.send_now((piece,))
            if rest:
                await self._transport.send(rest, progress)
            progress()

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        await self._transport.aclose()


def _pieces(buffers: Sequence[Buffer]) -> list[Buffer]:
    """Small ones joined, large ones cut."""
    found: list[Buffer] = []
    small = bytearray()
    for buffer in buffers:
        if len(small) + len(buffer) <= _PIECE:
            small += buffer
            continue
        if small:
            found.append(bytes(small))
            small = bytearray()
        view = memoryview(buffer)
        found += [view[start : start + _PIECE] for start in range(0, len(view), _PIECE)]
    if small:
        found.append(bytes(small))
    return found
