"""A small HTTP server for looking: ``GET`` and ``HEAD``, no bodies, every wait bounded.

h11 knows the protocol; this carries its bytes.  It shares the loop with DICOM, so what
one caller can take is little: a few connections, short requests, a deadline for each.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import h11
import trio

from isocenter.services.listening import Shortage

log = logging.getLogger("isocenter.http")

#: Connections at once; who comes then waits in the kernel's queue.
MOST_CONNECTIONS: Final = 16
#: From accept to the end of the answer, and between requests of one connection.
DEADLINE_SECONDS: Final = 10.0
_MOST_HEADER_BYTES: Final = 8 << 10
_RECEIVED: Final = 4 << 10
_MOST_REQUESTS: Final = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """What a page says."""

    status: int
    content_type: str
    body: bytes


#: A page by its path; the argument: whether the caller is on this machine.
Page = Callable[[bool], Awaitable[Answer]]


async def serve_http(listener: socket.socket, pages: dict[str, Page]) -> None:
    """Answer on *listener*, which is bound and listens, until cancelled."""
    listener.setblocking(False)
    limiter = trio.CapacityLimiter(MOST_CONNECTIONS)
    own = trio.socket.from_stdlib_socket(listener)
    shortage = Shortage(log, "connections for monitoring")
    async with trio.open_nursery() as nursery:
        while True:
            await limiter.acquire_on_behalf_of(slot := object())
            try:
                sock, address = await own.accept()
            except OSError as error:
                limiter.release_on_behalf_of(slot)
                await shortage.rest(error)
                continue
            except BaseException:
                limiter.release_on_behalf_of(slot)
                raise
            shortage.is_over()
            nursery.start_soon(_serve_one, sock, str(address[0]), pages, limiter, slot)


async def _serve_one(
    sock: trio.socket.SocketType,
    host: str,
    pages: dict[str, Page],
    limiter: trio.CapacityLimiter,
    slot: object,
) -> None:
    try:
        with sock:
            connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_HEADER_BYTES)
            for _ in range(_MOST_REQUESTS):
                with trio.move_on_after(DEADLINE_SECONDS) as scope:
                    if not await _exchange(sock, connection, _is_loopback(host), pages):
                        return
                if scope.cancelled_caught:
                    return
    except OSError:
        pass  # the caller has gone
    except Exception:
        log.exception("a request for monitoring failed")
    finally:
        limiter.release_on_behalf_of(slot)


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host in ("::1", "::ffff:127.0.0.1")


async def _exchange(
    sock: trio.socket.SocketType, connection: h11.Connection, is_local: bool, pages: dict[str, Page]
) -> bool:
    """One request and its answer; whether another may follow."""
    try:
        request = await _next_request(sock, connection)
        if request is None:
            return False
        answer = await _answer(request, is_local, pages)
    except h11.RemoteProtocolError as error:
        if connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return False
        request = None
        answer = _text(error.error_status_hint, "not an HTTP request that is understood\n")
    headers = [
        ("content-type", answer.content_type),
        ("content-length", str(len(answer.body))),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ]
    if request is None:
        headers.append(("connection", "close"))
    said = connection.send(h11.Response(status_code=answer.status, headers=headers)) or b""
    if request is None or request.method != b"HEAD":
        said += connection.send(h11.Data(data=answer.body)) or b""
    said += connection.send(h11.EndOfMessage()) or b""
    await _send(sock, said)
    if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
        return False
    connection.start_next_cycle()
    return True


async def _next_request(
    sock: trio.socket.SocketType, connection: h11.Connection
) -> h11.Request | None:
    """A whole request; None: the caller has gone, or its request has a body."""
    request: h11.Request | None = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await sock.recv(_RECEIVED))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            raise h11.RemoteProtocolError("a body", error_status_hint=413)
        elif isinstance(event, h11.EndOfMessage):
            return request
        else:
            return None


async def _answer(request: h11.Request, is_local: bool, pages: dict[str, Page]) -> Answer:
    if request.method not in (b"GET", b"HEAD"):
        return _text(405, "GET and HEAD are all there is\n")
    path = request.target.partition(b"?")[0].decode("ascii", "replace")
    page = pages.get(path)
    if page is None:
        return _text(404, "there is " + " ".join(pages) + "\n")
    return await page(is_local)


def _text(status: int, text: str) -> Answer:
    return Answer(status, "text/plain; charset=utf-8", text.encode())


async def _send(sock: trio.socket.SocketType, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[await sock.send(view) :]
