"""Examinations as lists, and peers that are broken on purpose."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from isocenter.engine.deadlines import Deadlines
from isocenter.services.association.peer import Peer
from isocenter.services.diagnostics.doctor.check import CheckResult
from isocenter.services.diagnostics.doctor.connectivity import PeerTarget
from isocenter.services.diagnostics.doctor.peer import PeerCheckOptions, check_peer
from isocenter.services.diagnostics.findings import Finding

#: Short where a peer says nothing on purpose.
DEADLINES = Deadlines(
    connect=30, tls_handshake=30, association_response=30, response=30, release=30, idle=30
)
IMPATIENT = Deadlines(
    connect=30, tls_handshake=2, association_response=2, response=2, release=2, idle=30
)


class Found(list[CheckResult]):
    """What was examined, in order."""

    def named(self, what: str) -> CheckResult:
        """The one of that name."""
        return next(examined for examined in self if examined.what == what)

    @property
    def problems(self) -> list[Finding]:
        """Errors and warnings."""
        return [
            finding
            for examined in self
            for finding in examined.findings
            if examined.is_problem and finding.severity.value != "note"
        ]

    @property
    def texts(self) -> str:
        """Every finding, for looking for words."""
        return "\n".join(
            f"{one.what}: {finding.text} | {finding.meaning} | {finding.cure}"
            for one in self
            for finding in one.findings
        )


def way_to(
    port: int,
    *,
    called: str = "ISOCENTER",
    calling: str = "DOCTOR",
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    deadlines: Deadlines = DEADLINES,
) -> PeerTarget:
    return PeerTarget(
        peer=Peer(called, host, port), calling_ae_title=calling, tls=tls, deadlines=deadlines
    )


async def examined(way: PeerTarget, **wishes: Any) -> Found:
    found = Found()
    await check_peer(way, found.append, PeerCheckOptions(**wishes))
    return found


@asynccontextmanager
async def listening(
    handle: Callable[[trio.SocketStream], Awaitable[None]],
) -> AsyncIterator[int]:
    """Somebody on a port of this machine who does what *handle* does with each connection."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

        async def guarded(stream: trio.SocketStream) -> None:
            try:
                async with stream:
                    await handle(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

        nursery.start_soon(trio.serve_listeners, guarded, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def writing_in_pieces(port: int, *, nagle: bool) -> AsyncIterator[int]:
    """In front of *port*: what it answers leaves in two pieces, with Nagle's algorithm or not."""

    async def handle(stream: trio.SocketStream) -> None:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, not nagle)
        async with await trio.open_tcp_stream("127.0.0.1", port) as behind:

            async def forward() -> None:
                async for data in stream:
                    await behind.send_all(data)
                await behind.send_eof()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(forward)
                async for data in behind:
                    await stream.send_all(data[:6])
                    await stream.send_all(data[6:])
                nursery.cancel_scope.cancel()

    async with listening(handle) as front:
        yield front
