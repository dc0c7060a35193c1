"""ASGI application over a route table: routing, errors, CORS, access log."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.fast_init import dataclass
from isocenter.services.errors import StorageError
from isocenter.services.net.http.cross_origin import NO_ORIGINS, AllowedOrigins
from isocenter.services.net.http.exchange import (
    WHOLE_RESPONSE,
    BodyTimeoutError,
    Message,
    Receive,
    Scope,
    Send,
)
from isocenter.services.net.http.forwarded import NO_PROXIES, TrustedProxies
from isocenter.services.net.http.handshake import accept_headers, check_handshake
from isocenter.services.net.http.messages import (
    Headers,
    HttpError,
    Piece,
    Request,
    Response,
    Upgrade,
    json_response,
)
from isocenter.services.net.http.protections import protections
from isocenter.services.net.http.protocol import FileRegion
from isocenter.services.net.http.request_limits import RequestLimiter
from isocenter.services.net.http.routing import (
    MethodNotAllowedError,
    NotFoundError,
    Route,
    RouteTable,
)
from isocenter.services.net.http.socket_session import WebSocket, WebSocketClosed
from isocenter.services.net.http.websocket import CloseCode

log = logging.getLogger("isocenter.http")

Handler = Callable[[Request], Awaitable[Response]]
#: Says who calls, in `Request.caller`; raises `HttpError` for who may not.
Authorize = Callable[[Request, Route[Handler]], Awaitable[None]]

#: How often it is looked whether who speaks by WebSocket still may.
_LOOK_SECONDS: Final = 5.0
#: For what a handler still does when its WebSocket is closed.
_LAST_SECONDS: Final = 5.0
_NO_WEBSOCKET: Final = HttpError(
    426,
    "UPGRADE_REQUIRED",
    "this path is for WebSockets, over HTTP/1.1",
    [("upgrade", "websocket")],
)
#: Shorter pieces of a response leave together with what comes behind them.
_HELD_BACK: Final = 16 << 10
#: A response of known length of at most so much is sent at once; of others each piece is counted.
_WHOLE_BYTES: Final = 1 << 20
#: For closing what a body was made of.
_GOODBYE_SECONDS: Final = 5.0


#: What the disk or the database cannot do may be done later.
_LATER: Final = HttpError(
    503, "UNAVAILABLE", "the archive cannot do that now; ask again", [("retry-after", "10")]
)


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that was answered, for metrics; nothing in it tells of a patient.

    Attributes:
        path: the path of its route, with the places unfilled; empty: there is none.
        status: 499: the caller had gone.
        size: bytes of the body.
    """

    method: str
    path: str
    status: int
    size: int
    seconds: float


async def anybody(request: Request, route: Route[Handler]) -> None:
    """Let everybody in."""


#: Told of a request that is over.
OnAnswered = Callable[[Request, Route[Handler] | None, Answered], None]


def _nothing(request: Request, route: Route[Handler] | None, answered: Answered) -> None:
    pass


def _no_page(request: Request, error: HttpError) -> Response | None:
    return None


async def _always(request: Request) -> bool:
    return True


async def _end_with(socket: WebSocket, scope: trio.CancelScope) -> None:
    """A handler that waits for something else does not notice that its peer has gone."""
    await socket.until_closed()
    await trio.sleep(_LAST_SECONDS)
    scope.cancel()


class RoutedApplication:
    """An application that serves a route table.

    Args:
        authorize: called before each handler.
        origins: pages of which other origins may use it.
        proxies: whose word is taken for where a request came from.
        options: answers OPTIONS for a path that is there, or that leads to one; None: by `Allow`
            alone.
        on_answered: called for each request when it is over, with its route if it has one.
        is_allowed_still: whether the caller of a WebSocket would still be let in; asked for now and
            then while it lasts.
        limiter: bounds what one caller asks for; None: there is no bound.
        caller_key: what the requests of one caller have in common.
        error_page: what a person gets in the place of an error in JSON; None: the same.
        log_level: of the access log.
    """

    def __init__(
        self,
        table: RouteTable[Handler],
        *,
        authorize: Authorize = anybody,
        origins: AllowedOrigins = NO_ORIGINS,
        proxies: TrustedProxies = NO_PROXIES,
        options: Route[Handler] | None = None,
        on_answered: OnAnswered = _nothing,
        is_allowed_still: Callable[[Request], Awaitable[bool]] = _always,
        limiter: RequestLimiter | None = None,
        caller_key: Callable[[Request], str] = lambda request: request.host,
        error_page: Callable[[Request, HttpError], Response | None] = _no_page,
        log_level: int = logging.INFO,
    ) -> None:
        self.table = table
        self._authorize = authorize
        self._origins = origins
        self._proxies = proxies
        self._options = options
        self._on_answered = on_answered
        self._is_allowed_still = is_allowed_still
        self._limiter = limiter
        self._caller_key = caller_key
        self._error_page = error_page
        self._log_level = log_level

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"this is no application for {scope['type']}")
        request = Request(scope, receive)
        if self._proxies.trusts(request.peer):
            request.is_passed_on = True
            request.host = self._proxies.client(request.peer, request.header)
        name = request.name
        sender = _Sender(send, may_send_whole=WHOLE_RESPONSE in scope.get("extensions", ()))
        began = trio.current_time()
        path = ""
        route: Route[Handler] | None = None
        status = 499
        under_way = ExitStack()
        try:
            response = None
            try:
                route, request.arguments = self._route(request)
                path = route.path if route is not None else ""
                response = await self._answer(request, route, under_way)
            except HttpError as error:
                response = self._error(request, error)
            except BodyTimeoutError as error:
                response = self._error(request, HttpError(408, "TIMEOUT", str(error)))
            except StorageError as error:
                log.error("request %s has to wait: %s %s: %s", name, request.method, path, error)
                response = self._error(request, _LATER)
            except Exception:
                log.exception("request %s failed: %s %s", name, request.method, path)
                response = self._error(
                    request,
                    HttpError(500, "INTERNAL", "a fault of this server; its log knows more"),
                )
            status = response.status
            try:
                if isinstance(response, Upgrade):
                    status = 101
                    await self._speak(request, response)
                    return
                await sender.send(
                    response, self._common(request, response.headers), request.method == "HEAD"
                )
            except BaseException:
                status = 499
                raise
            finally:
                if response.close is not None:
                    response.close()
        finally:
            under_way.close()
            seconds = trio.current_time() - began
            # Who takes back a thousand requests writes no thousand lines; the metrics count them.
            is_taken_back = status == 499 and not sender.size
            log.log(
                logging.DEBUG if is_taken_back else self._log_level,
                "%s %s %s %d %d bytes %.1f ms",
                request.host, request.method, path or "-", status, sender.size, 1e3 * seconds,
            )  # fmt: skip
            answered = Answered(request.method, path, status, sender.size, seconds)
            self._on_answered(request, route, answered)

    def _route(self, request: Request) -> tuple[Route[Handler] | None, dict[str, str]]:
        """None: the request is OPTIONS, and the path is there."""
        try:
            return self.table.find(request.method, request.raw_path)
        except NotFoundError:
            if request.method == "OPTIONS" and self._leads_on(request.raw_path):
                return None, {}
            raise HttpError(404, "NOT_FOUND", "there is nothing at this path") from None
        except MethodNotAllowedError as error:
            if request.method == "OPTIONS":
                return None, {}
            allow = ", ".join(error.allowed)
            raise HttpError(
                405, "METHOD_NOT_ALLOWED", f"this path takes {allow}", [("allow", allow)]
            ) from None

    def _leads_on(self, raw_path: bytes) -> bool:
        """Whether there are routes below a path."""
        try:
            return raw_path == b"*" or bool(self.table.beneath(raw_path))
        except NotFoundError:
            return False

    def _allowed(self, raw_path: bytes) -> Sequence[str]:
        """The methods of a path; of one that only leads on, that which says so."""
        try:
            return self.table.allowed(raw_path)
        except NotFoundError:
            return ("OPTIONS",)

    async def _answer(
        self, request: Request, route: Route[Handler] | None, under_way: ExitStack
    ) -> Response:
        if route is not None:
            await self._authorize(request, route)
            if (request.header("content-encoding") or "identity").strip().lower() != "identity":
                # Nobody sends such bodies, and what they inflate to has no bound.
                raise HttpError(
                    415, "UNSUPPORTED_ENCODING", "send the body as it is, without Content-Encoding",
                    [("accept-encoding", "identity")],
                )  # fmt: skip
            if self._limiter is not None:
                under_way.enter_context(self._limiter.one_more(self._caller_key(request)))
            response = await route.handler(request)
            if isinstance(response, Upgrade):
                if not request.wants_websocket:
                    raise _NO_WEBSOCKET
                check_handshake(request.header)
            return response
        allowed = self._allowed(request.raw_path)
        if request.header("access-control-request-method") is not None:
            preflight = self._origins.preflight(request.header("origin"), allowed)
            return Response(status=204, headers=preflight)
        allow = ("allow", ", ".join(allowed))
        if self._options is None or request.raw_path == b"*":
            return Response(status=204, headers=[allow])
        await self._authorize(request, self._options)
        response = await self._options.handler(request)
        return replace(response, headers=[allow, *response.headers])

    def _error(self, request: Request, error: HttpError) -> Response:
        page = self._error_page(request, error)
        if page is not None:
            return page
        said = {"code": error.code, "message": error.message, "request": request.name}
        headers = (("cache-control", "no-store"), *error.headers)
        return json_response({"error": said}, error.status, headers)

    async def _speak(self, request: Request, response: Upgrade) -> None:
        """Go on as a WebSocket, for as long as who asked for it may."""
        said = accept_headers(request.header, response.subprotocol)
        socket = await request.upgrade([*said, ("x-request-id", request.name)])
        code = CloseCode.NORMAL
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._while_allowed, request, socket, nursery.cancel_scope)
            nursery.start_soon(_end_with, socket, nursery.cancel_scope)
            try:
                await response.serve(socket)
            except WebSocketClosed:
                pass
            except Exception:
                log.exception("request %s failed as a WebSocket", request.name)
                code = CloseCode.INTERNAL
            nursery.cancel_scope.cancel()
        await socket.close(code)

    async def _while_allowed(
        self, request: Request, socket: WebSocket, scope: trio.CancelScope
    ) -> None:
        is_allowed = True
        while is_allowed:
            await trio.sleep(_LOOK_SECONDS)
            is_allowed = await self._is_allowed_still(request)
        log.info("%s: a WebSocket ends: it is not allowed any more", request.host)
        await socket.close(CloseCode.POLICY, "not allowed any more; sign in again")
        scope.cancel()

    def _common(self, request: Request, headers: Headers) -> Headers:
        """What every response says, beside its own *headers*."""
        return [
            ("x-request-id", request.name),
            *protections(headers),
            *self._origins.headers(request.header("origin")),
        ]


class _Sender:
    """Sends one response; counts the bytes of its body."""

    def __init__(self, send: Send, *, may_send_whole: bool) -> None:
        self._send = send
        self._may_send_whole = may_send_whole
        self.size = 0

    async def send(self, response: Response, common: Headers, is_head: bool) -> None:
        body = response.body
        headers = [*response.headers, *common]
        pieces: Sequence[Piece] = ()
        made: AsyncIterator[Piece | Sequence[Piece]] | None = None
        length = response.length
        if isinstance(body, AsyncIterator):
            made = body
        else:
            pieces = _pieces(body)
            length = sum(len(piece) for piece in pieces)
        has_body = response.status not in (204, 304)
        if length is not None and has_body:
            headers.append(("content-length", str(length)))
        encoded = [_encoded(name, value) for name, value in headers]
        if self._may_send_whole and made is None and (length or 0) <= _WHOLE_BYTES:
            pieces = pieces if has_body and not is_head else ()
            await self._send(
                {
                    "type": WHOLE_RESPONSE,
                    "status": response.status,
                    "headers": encoded,
                    "pieces": pieces,
                }
            )
            self.size += length or 0 if pieces else 0
            return
        await self._send(
            {"type": "http.response.start", "status": response.status, "headers": encoded}
        )
        last: Buffer = b""
        if has_body and not is_head:
            end = pieces[-1] if pieces else b""
            if not isinstance(end, FileRegion):
                pieces, last = pieces[:-1], end
            await self._send_pieces(pieces, is_followed=len(last) > 0)
            if made is not None:
                async with _closing(made):
                    async for some in made:
                        await self._send_pieces(_pieces(some))
        await self._send({"type": "http.response.body", "body": last})
        self.size += len(last)

    async def _send_pieces(self, pieces: Sequence[Piece], *, is_followed: bool = False) -> None:
        """*is_followed*: more comes at once."""
        for place, piece in enumerate(pieces):
            message: Message
            if isinstance(piece, FileRegion):
                message = {
                    "type": "http.response.zerocopysend",
                    "file": piece.descriptor,
                    "offset": piece.offset,
                    "count": piece.length,
                    "more_body": True,
                    "isocenter.is_followed": is_followed and place + 1 == len(pieces),
                }
            else:
                message = {
                    "type": "http.response.body",
                    "body": piece,
                    "more_body": True,
                    "isocenter.is_followed": (is_followed or place + 1 < len(pieces))
                    and len(piece) <= _HELD_BACK,
                }
            await self._send(message)
            self.size += len(piece)


@asynccontextmanager
async def _closing(made: AsyncIterator[Any]) -> AsyncIterator[None]:
    """What a body stands on is given back at once when it is not sent to its end."""
    try:
        yield
    finally:
        if isinstance(made, AsyncGenerator):
            with trio.move_on_after(_GOODBYE_SECONDS, shield=True):
                await made.aclose()


def _pieces(body: Piece | Sequence[Piece]) -> Sequence[Piece]:
    if isinstance(body, bytes | bytearray | memoryview | FileRegion):
        return (body,)
    return body


def _encoded(name: str, value: str) -> tuple[bytes, bytes]:
    if not value.isprintable():
        raise ValueError(f"the value of {name} would end its line")
    return name.encode("latin-1"), value.encode("latin-1")
