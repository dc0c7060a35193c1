"""HTTP client of one service: TLS, a token, deadlines, safe retries.

httpx carries the bytes.  Its transport is used alone: its client would write whole addresses, and
so names of patients, into the log, and follow redirects with the token.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, Self, cast
from urllib.parse import urlsplit

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.fast_init import dataclass
from isocenter.services.net.connect import connect_fault
from isocenter.services.net.http.client_errors import (
    BrokenAnswerError,
    HttpClientError,
    HttpStatusError,
    ServerUnreachableError,
    said_of,
)
from isocenter.services.net.http.media_types import MediaType, MediaTypeError, parse_media_type
from isocenter.services.net.tls.errors import describe_tls_error

if TYPE_CHECKING:
    import httpx

log = logging.getLogger("isocenter.client")

Headers = Sequence[tuple[str, str]]

#: Methods that change nothing: asked twice, they do what they do once (RFC 9110 9.2.1).
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
#: Statuses by which a server says that it has done nothing, and to come again.
_NOT_NOW: Final = frozenset({429, 503})
#: The same from whatever stands before it; nobody knows whether it was done.
_BROKEN_GATEWAY: Final = frozenset({502, 504})
#: Longest pause that a server may ask for.
_MOST_PAUSE: Final = 60.0
#: Of an answer that says what was wrong.
_MOST_ERROR_BYTES: Final = 64 << 10
#: For what is left of an answer nobody reads to its end.
_CLOSE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpDeadlines:
    """How long is waited, in seconds.

    Attributes:
        connect: for the connection, and once more for the TLS handshake.
        answer: from the end of a request to the beginning of its answer.
        idle: without a byte in the middle of a request or an answer.
    """

    connect: float = 30.0
    answer: float = 300.0
    idle: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often a request is made again that has failed and may be repeated.

    Attributes:
        attempts: in all.
        first_seconds: before the second; doubled each time, unless the server says how long.
    """

    attempts: int = 4
    first_seconds: float = 0.5

    def pause(self, failures: int, asked: float | None) -> float:
        """Until the next attempt, in seconds."""
        own = self.first_seconds * 2.0 ** (failures - 1)
        return min(own if asked is None else max(own, asked), _MOST_PAUSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The body of a request.

    Attributes:
        media_type: for `Content-Type`.
        pieces: makes its bytes, each time from the beginning.
        length: in bytes; None: nobody knows.
    """

    media_type: str
    pieces: Callable[[], AsyncGenerator[Buffer, None]]
    length: int | None = None


class HttpResponse:
    """An answer of status 200 to 299, whose body is read as it comes."""

    def __init__(self, response: httpx.Response, idle_seconds: float) -> None:
        self._response = response
        self._idle_seconds = idle_seconds
        self.status: int = response.status_code

    def header(self, name: str) -> str | None:
        """A field, several joined by commas; None: it is not there."""
        found: str | None = self._response.headers.get(name)
        return found

    def headers(self, name: str) -> list[str]:
        """Each value of a field that may be there several times."""
        return list(self._response.headers.get_list(name))

    @property
    def media_type(self) -> MediaType | None:
        """Of the body; None: nothing, or nothing that can be understood, is said."""
        try:
            return parse_media_type(self.header("content-type") or "")
        except MediaTypeError:
            return None

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body, without its content encoding.

        Raises:
            BrokenAnswerError: it ends too early, or nothing comes for too long.
        """
        import httpx

        async with _reading(self._response) as pieces:
            while True:
                try:
                    with trio.fail_after(self._idle_seconds):
                        piece = await anext(pieces)
                except StopAsyncIteration:
                    return
                except trio.TooSlowError:
                    raise BrokenAnswerError(
                        f"nothing came for {self._idle_seconds:g} s in the middle of the answer"
                    ) from None
                except (httpx.HTTPError, httpx.StreamError, OSError) as error:
                    raise BrokenAnswerError("the answer broke off before its end") from error
                yield piece

    async def body(self, most: int) -> bytes:
        """The whole body.

        Raises:
            BrokenAnswerError: as of `pieces`.
            HttpClientError: it is longer than *most* bytes.
        """
        found = bytearray()
        async with aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                found += piece
                if len(found) > most:
                    raise HttpClientError(f"the answer is longer than {most >> 20} MiB")
        return bytes(found)


class HttpClient:
    """Requests to one service; an async context manager, which keeps connections.

    Args:
        base: the address of the service; paths are appended to it.
        tls: for ``https``; None: the CAs of the system, no certificate of ours.
        headers: of each request, as `Authorization`; they go to this service only.
        http2: speak HTTP/2 where the server does, over TLS.
        connections: at once.

    Raises:
        ValueError: *base* is no address of this kind.
    """

    def __init__(
        self,
        base: str,
        *,
        tls: ssl.SSLContext | None = None,
        headers: Headers = (),
        deadlines: HttpDeadlines | None = None,
        retries: Retries | None = None,
        http2: bool = False,
        connections: int = 8,
    ) -> None:
        self.base = checked_base(base)
        self._tls = tls
        self._headers = tuple(headers)
        self._deadlines = deadlines or HttpDeadlines()
        self._retries = retries or Retries()
        self._http2 = http2
        self._connections = connections
        self._transport: httpx.AsyncHTTPTransport | None = None
        self._was_reached = False

    async def __aenter__(self) -> Self:
        import httpx  # costs a tenth of a second

        is_tls = self.base.startswith("https:")
        self._transport = httpx.AsyncHTTPTransport(
            verify=(self._tls or ssl.create_default_context()) if is_tls else False,
            http2=self._http2,
            # Where requests go is said by whoever makes them, not by the environment.
            trust_env=False,
            limits=httpx.Limits(max_connections=self._connections, keepalive_expiry=30.0),
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            with trio.move_on_after(_CLOSE_SECONDS, shield=True):
                await transport.aclose()

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Headers = (),
        content: Content | None = None,
        also: Collection[int] = (),
    ) -> AsyncIterator[HttpResponse]:
        """A request, as a context in which its answer is read.

        Requests that change nothing are repeated when the server cannot be reached any more, breaks
        off before it answers, or says that it cannot answer now; others when it is certain that
        nothing was done.

        Args:
            url: within the service: see `url`.
            also: statuses of 300 and above whose answer is wanted like those below.

        Raises:
            ServerUnreachableError, BrokenAnswerError, HttpStatusError: in the end it failed so.
        """
        response = await self._answered(method, url, headers, content, also)
        try:
            yield HttpResponse(response, self._deadlines.idle)
        finally:
            await _closed(response)

    def url(self, path: str) -> str:
        """The address of a path of the service, which begins with a slash."""
        return self.base + path

    async def _answered(
        self,
        method: str,
        url: str,
        headers: Headers,
        content: Content | None,
        also: Collection[int],
    ) -> httpx.Response:
        failures = 0
        while True:
            asked: float | None = None
            try:
                response = await self._attempt(method, url, headers, content)
                self._was_reached = True
                if response.status_code < 300 or response.status_code in also:
                    return response
                asked = _retry_after(response)
                raise await _status_error(response)
            except (ServerUnreachableError, BrokenAnswerError, HttpStatusError) as error:
                failures += 1
                if failures >= self._retries.attempts or not self._may_be_repeated(method, error):
                    raise
                pause = self._retries.pause(failures, asked)
                # Not what the server says: that may name whom it is about.
                reason = error.status if isinstance(error, HttpStatusError) else error
                log.info("%s is repeated in %.1f s: %s", method, pause, reason)
            await trio.sleep(pause)

    def _may_be_repeated(self, method: str, error: HttpClientError) -> bool:
        match error:
            case ServerUnreachableError():
                return self._was_reached  # else the address is wrong, rather
            case BrokenAnswerError():
                return method in _SAFE
            case HttpStatusError(status=status):
                return status in _NOT_NOW or (status in _BROKEN_GATEWAY and method in _SAFE)
            case _:
                return False

    async def _attempt(
        self, method: str, url: str, headers: Headers, content: Content | None
    ) -> httpx.Response:
        import httpx

        assert self._transport is not None, "an HttpClient is used within its context"
        deadlines = self._deadlines
        fields = [("host", urlsplit(url).netloc), ("user-agent", "Isocenter")]
        fields += [*self._headers, *headers]
        if content is not None:
            fields.append(("content-type", content.media_type))
            if content.length is not None:
                fields.append(("content-length", str(content.length)))
            else:
                fields.append(("transfer-encoding", "chunked"))
        with trio.CancelScope() as scope:
            sending = _Sending(content, deadlines, scope)
            request = httpx.Request(
                method,
                url,
                headers=fields,
                stream=_stream(sending),
                extensions={"timeout": {"connect": deadlines.connect}},
            )
            try:
                return await self._transport.handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
                raise ServerUnreachableError(_connect_text(url, error, deadlines)) from error
            except (httpx.HTTPError, OSError) as error:
                raise BrokenAnswerError(
                    "the server ended the connection before it answered"
                ) from error
            finally:
                await sending.pieces.aclose()
        if sending.is_sent:
            raise BrokenAnswerError(f"no answer within {deadlines.answer:g} s")
        raise BrokenAnswerError(f"the server took no more of the request for {deadlines.idle:g} s")


class _Sending:
    """The body of one request, empty or not; each of its pieces that is asked for moves the
    deadline of *scope*, and its end begins the wait for the answer."""

    def __init__(
        self, content: Content | None, deadlines: HttpDeadlines, scope: trio.CancelScope
    ) -> None:
        self.is_sent = False
        self.pieces = self._timed(content, deadlines, scope)

    async def _timed(
        self, content: Content | None, deadlines: HttpDeadlines, scope: trio.CancelScope
    ) -> AsyncGenerator[bytes, None]:
        if content is not None:
            async with aclosing(content.pieces()) as pieces:
                async for piece in pieces:
                    scope.deadline = trio.current_time() + deadlines.idle
                    yield bytes(piece)
        self.is_sent = True
        scope.deadline = trio.current_time() + deadlines.answer


def _stream(sending: _Sending) -> httpx.AsyncByteStream:
    """For httpx, whose own wrapper would leave a generator behind when it is cancelled."""
    import httpx

    class Stream(httpx.AsyncByteStream):
        def __aiter__(self) -> AsyncIterator[bytes]:
            return sending.pieces

    return Stream()


def checked_base(text: str) -> str:
    """The address of a service, without a slash at its end.

    Raises:
        ValueError: it is none.
    """
    try:
        parts = urlsplit(text)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        is_good = False
    if not is_good or parts.query or parts.fragment or not text.isprintable() or " " in text:
        raise ValueError("an address of a service is like https://archive.example/dicomweb")
    if parts.username is not None or parts.password is not None:
        raise ValueError("an address holds no user and password: everybody could read them")
    return text.rstrip("/")


def origin_of(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port: whom a token may be shown to."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), port


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds until the server wants to be asked again (RFC 9110 10.2.3)."""
    said = response.headers.get("retry-after", "").strip()
    if said.isdecimal() and len(said) < 10:
        return float(said)
    try:
        when = parsedate_to_datetime(said)
        sent = parsedate_to_datetime(response.headers.get("date", ""))
        return max((when - sent).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None


async def _status_error(response: httpx.Response) -> HttpStatusError:
    body = bytearray()
    with trio.move_on_after(_CLOSE_SECONDS):
        try:
            async with _reading(response) as pieces:
                async for piece in pieces:
                    body += piece
                    if len(body) > _MOST_ERROR_BYTES:
                        break
        except Exception as error:  # what is wrong is said by the status already
            log.debug("the answer %d broke off: %s", response.status_code, type(error).__name__)
    await _closed(response)
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    status = response.status_code
    location = response.headers.get("location", "").partition("?")[0] if status < 400 else ""
    return HttpStatusError(status, said_of(bytes(body), kind), location)


@asynccontextmanager
async def _reading(response: httpx.Response) -> AsyncIterator[AsyncGenerator[bytes, None]]:
    """The body of an answer; left before its end, it is read no further.

    The generators of httpx stand in each other, and closing the outer one leaves the others to
    the garbage collector: so the connection is closed, which ends them all from within.
    """
    pieces = cast("AsyncGenerator[bytes, None]", response.aiter_bytes())
    try:
        yield pieces
    finally:
        with trio.move_on_after(_CLOSE_SECONDS, shield=True), suppress(Exception):
            if not response.is_stream_consumed or not response.is_closed:
                await response.aclose()
                async for _ in pieces:
                    pass
        await pieces.aclose()


async def _closed(response: httpx.Response) -> None:
    with trio.move_on_after(_CLOSE_SECONDS, shield=True):
        await response.aclose()


def _connect_text(url: str, error: BaseException, deadlines: HttpDeadlines) -> str:
    scheme, host, port = origin_of(url)
    where = f"cannot connect to {host}:{port}"
    cause: BaseException | None = error
    while cause is not None:
        match cause:
            case ssl.SSLError():
                return f"{where}: {describe_tls_error(cause)}"
            case trio.TooSlowError():
                return f"{where}: no answer within {deadlines.connect:g} s; is the address right?"
            case OSError():
                return f"{where}: {connect_fault(cause)}"
            case trio.BrokenResourceError() if scheme == "https" and cause.__cause__ is None:
                return f"{where}: the server closed the connection; does it speak TLS there?"
        cause = cause.__cause__ or cause.__context__
    return where
