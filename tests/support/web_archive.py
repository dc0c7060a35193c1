"""HTTP servers in the test's own event loop: DICOMweb of an archive, or what a test says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import (
    AsyncExitStack,
    asynccontextmanager,
)

import trio

from isocenter.services.archive.archive import Archive
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.net.http.application import RoutedApplication
from isocenter.services.net.http.exchange import Application, Receive, Scope, Send
from isocenter.services.net.http.messages import Request
from isocenter.services.net.http.routing import RouteTable
from isocenter.services.net.http.server import HttpServer
from isocenter.services.net.listeners import ListenAddress, open_listener
from isocenter.services.notices import Caller, Notices
from isocenter.services.web.dicomweb.search.qido_rs import SearchLimits
from isocenter.services.web.dicomweb.service import dicomweb_routes
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.objects.memory import MemoryStore


@asynccontextmanager
async def http_serving(
    application: Application, address: ListenAddress | None = None
) -> AsyncIterator[str]:
    """A server of *application*; its address, without a path."""
    bind = address or ListenAddress(host="127.0.0.1", port=0)
    (listener,) = open_listener(bind)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(HttpServer(application).run, [(listener, bind)])
            scheme = "http" if bind.tls is None else "https"
            try:
                yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                nursery.cancel_scope.cancel()
    finally:
        listener.close()


@asynccontextmanager
async def dicomweb_serving(
    *, default: int = 50, most: int = 100, codecs: bool = False
) -> AsyncIterator[str]:
    """DICOMweb of an empty archive; the address of the service.

    Args:
        default, most: matches of a search.
        codecs: whether pictures and other transfer syntaxes can be made.
    """
    async with AsyncExitStack() as stack:
        archive = await stack.enter_async_context(Archive(MemoryStore(), MemoryIndex()))
        pool: CodecPool | None = None
        if codecs:
            pool = await stack.enter_async_context(CodecPool(PoolLimits(workers=1)))
        routes = dicomweb_routes(
            archive,
            Notices(),
            pool=pool,
            transcoder=None if pool is None else Transcoder(pool),
            search_limits=SearchLimits(default=default, most=most),
            caller_of=_caller_of,
        )
        application = RoutedApplication(RouteTable(routes))
        yield await stack.enter_async_context(http_serving(application)) + "/dicomweb"


def _caller_of(request: Request) -> Caller:
    return Caller(association="test", address=request.host)


class Asked:
    """What a scripted server was asked: method, path with query, headers by name, body."""

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body


#: Status, headers, body: of pieces, of which the last may be None: the connection breaks there.
Answer = tuple[int, list[tuple[str, str]], list[bytes | None]]


class Scripted:
    """An application that answers as *answer* says, and remembers what it was asked."""

    def __init__(self, answer: Callable[[Asked], Awaitable[Answer]]) -> None:
        self._answer = answer
        self.asked: list[Asked] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        headers = {n.decode("latin-1"): v.decode("latin-1") for n, v in scope["headers"]}
        target = scope["raw_path"].decode()
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode()
        asked = Asked(scope["method"], target, headers, bytes(body))
        self.asked.append(asked)
        status, fields, pieces = await self._answer(asked)
        raw = [(name.encode(), value.encode()) for name, value in fields]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        for piece in pieces:
            if piece is None:
                raise RuntimeError("the script says that the answer breaks off here")
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})
