"""A small HTTP server for looking: ``GET`` and ``HEAD``, no bodies, every wait bounded.

Figures are for whoever has the token, or, where none is set, for programs on this machine.

h11 knows the protocol; this carries its bytes.  It shares the loop with DICOM, so what
one caller can take is little: a few connections, short requests, a deadline for each.
"""

from __future__ import annotations

import hmac
import logging
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import h11
import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.net.addresses import is_loopback
from isocenter.services.net.listeners import AcceptBackoff
from isocenter.services.system.private_files import SecretFileError, read_secret

log = logging.getLogger("isocenter.http")

#: Connections at once; who comes then waits in the kernel's queue.
MOST_CONNECTIONS: Final = 16
#: From accept to the end of the answer, and between requests of one connection.
DEADLINE_SECONDS: Final = 10.0
_MOST_HEADER_BYTES: Final = 8 << 10
_RECEIVED: Final = 4 << 10
_MOST_REQUESTS: Final = 100
#: What can stand in ``Authorization: Bearer`` (RFC 6750 2.1), and cannot be guessed by trying.
_TOKEN: Final = re.compile(rb"[A-Za-z0-9._~+/=-]{16,}")


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What a page says."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def read_token(path: Path) -> bytes:
    """The token by which figures are shown.

    Raises:
        SecretFileError: the file cannot be used, or holds no such token.
    """
    token = read_secret(path)
    if _TOKEN.fullmatch(token) is None:
        raise SecretFileError(
            f"{path} holds no token: at least 16 letters, digits or . _ ~ + / = -, as "
            "openssl rand -hex 32 makes them"
        )
    return token


#: A page by its path; the argument: whether figures are for the caller.  None: the page is not.
HttpHandler = Callable[[bool], Awaitable[HttpResponse | None]]


async def serve_http(
    listener: socket.socket, pages: dict[str, HttpHandler], *, token: bytes = b""
) -> None:
    """Answer on *listener*, which is bound and listens, until cancelled.

    Args:
        token: figures are for those who have it (``Authorization: Bearer``), wherever they are;
            empty: for those on this machine.
    """
    listener.setblocking(False)
    limiter = trio.CapacityLimiter(MOST_CONNECTIONS)
    own = trio.socket.from_stdlib_socket(listener)
    accept_backoff = AcceptBackoff(log, "connections for monitoring")
    async with trio.open_nursery() as nursery:
        while True:
            await limiter.acquire_on_behalf_of(slot := object())
            try:
                sock, address = await own.accept()
            except OSError as error:
                limiter.release_on_behalf_of(slot)
                await accept_backoff.wait(error)
                continue
            except BaseException:
                limiter.release_on_behalf_of(slot)
                raise
            accept_backoff.reset()
            nursery.start_soon(_serve_one, sock, str(address[0]), pages, token, limiter, slot)


async def _serve_one(
    sock: trio.socket.SocketType,
    host: str,
    pages: dict[str, HttpHandler],
    token: bytes,
    limiter: trio.CapacityLimiter,
    slot: object,
) -> None:
    try:
        with sock:
            connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_HEADER_BYTES)
            for _ in range(_MOST_REQUESTS):
                with trio.move_on_after(DEADLINE_SECONDS) as scope:
                    if not await _exchange(sock, connection, host, pages, token):
                        return
                if scope.cancelled_caught:
                    return
    except OSError:
        pass  # the caller has gone
    except Exception:
        log.exception("a request for monitoring failed")
    finally:
        limiter.release_on_behalf_of(slot)


def _may_see_figures(request: h11.Request, caller: str, token: bytes) -> bool:
    headers = dict(request.headers)
    if token:
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), token)
    # A page in a browser of this machine can reach us under its own name (DNS rebinding), and so
    # can a proxy that stands here for strangers: both say which name was asked for.
    return is_loopback(caller) and _is_named_loopback(headers.get(b"host"))


def _is_named_loopback(host: bytes | None) -> bool:
    if host is None:  # HTTP/1.0; no browser does that
        return True
    name = host.decode("ascii", "replace")
    if not name.endswith("]"):
        without_port, colon, port = name.rpartition(":")
        name = without_port if colon and port.isdecimal() else name
    return is_loopback(name)


async def _exchange(
    sock: trio.socket.SocketType,
    connection: h11.Connection,
    caller: str,
    pages: dict[str, HttpHandler],
    token: bytes,
) -> bool:
    """One request and its answer; whether another may follow."""
    try:
        request = await _next_request(sock, connection)
        if request is None:
            return False
        answer = await _answer(request, caller, pages, token)
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
        *answer.headers,
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


async def _answer(
    request: h11.Request, caller: str, pages: dict[str, HttpHandler], token: bytes
) -> HttpResponse:
    if request.method not in (b"GET", b"HEAD"):
        return _text(405, "GET and HEAD are all there is\n")
    path = request.target.partition(b"?")[0].decode("ascii", "replace")
    page = pages.get(path)
    if page is None:
        return _text(404, "there is " + " ".join(pages) + "\n")
    answer = await page(_may_see_figures(request, caller, token))
    if answer is not None:
        return answer
    if token:
        text = "send monitoring.token_file's token: Authorization: Bearer TOKEN\n"
        return _text(401, text, ("www-authenticate", "Bearer"))
    text = (
        "figures are for programs on this machine, at 127.0.0.1, [::1] or localhost; "
        "for others set monitoring.token_file\n"
    )
    return _text(403, text)


def _text(status: int, text: str, *headers: tuple[str, str]) -> HttpResponse:
    return HttpResponse(status, "text/plain; charset=utf-8", text.encode(), headers)


async def _send(sock: trio.socket.SocketType, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[await sock.send(view) :]
