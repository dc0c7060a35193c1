"""One delivery of one event: by HTTP, to a program, to a Python function.

Each either returns, and the event has arrived, or raises `DeliveryError`.  What the other side
answers is not repeated in faults but for its status: it may say anything.
"""

from __future__ import annotations

import hashlib
import hmac
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib import import_module
from time import time
from typing import TYPE_CHECKING, Any, Final, Protocol, assert_never

import trio

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.services.net.tls.errors import describe_tls_error
from isocenter.services.system.environment import environment_of_programs
from isocenter.services.system.private_files import SecretFileError, read_secret
from isocenter.services.system.programs import ProgramError, run_program
from isocenter.services.workflow.events.consumer import (
    Availability,
    Consumer,
    ProgramTarget,
    Publication,
    PythonFunction,
    Webhook,
)
from isocenter.services.workflow.events.event import StoredEvent

if TYPE_CHECKING:
    import httpx

#: Of an answer as much is read, so that the connection can be used again.
_MOST_ANSWER_BYTES: Final = 65_536
_REST_SECONDS: Final = 1.0
_MOST_DIGITS: Final = 18
KIND_VARIABLE: Final = "ISOCENTER_EVENT_KIND"


class DeliveryError(IsocenterError):
    """An event did not arrive; the message says why."""

    error_code = ErrorCode.EVENT_DELIVERY


class ConsumerError(IsocenterError):
    """A consumer that cannot be used: a file is missing, a function is not there."""

    error_code = ErrorCode.EVENT_DELIVERY


class Deliver(Protocol):
    """Delivers an event; *attempt* counts from 1."""

    def __call__(self, event: StoredEvent, attempt: int) -> Awaitable[None]: ...


#: Tells the peer of an AE title what it can retrieve of the study that an event is about.
#: Raises `DeliveryError`.
NotifyAvailability = Callable[[str, StoredEvent], Awaitable[None]]
#: Has a repository, by its name, brought up to date after an event.  Raises `DeliveryError`.
Publish = Callable[[str, StoredEvent], Awaitable[None]]


@asynccontextmanager
async def open_target(
    consumer: Consumer,
    notify_availability: NotifyAvailability | None = None,
    publish: Publish | None = None,
) -> AsyncIterator[Deliver]:
    """What delivers to *consumer*, each time within its timeout.

    Args:
        notify_availability: for consumers that are peers.
        publish: for repositories of documents.

    Raises:
        ConsumerError: it cannot be used at all.
    """
    match consumer.target:
        case Webhook() as webhook:
            async with _client(webhook, consumer.concurrency) as client:
                deliver: Deliver = partial(_post, client, webhook.url, _secret(webhook), consumer)
                yield _in_time(deliver, consumer.timeout)
        case ProgramTarget(argv):
            yield _in_time(partial(_run, argv), consumer.timeout)
        case PythonFunction(entry_point):
            limiter = trio.CapacityLimiter(consumer.concurrency)
            deliver = partial(_call, _function(entry_point), limiter)
            yield _in_time(deliver, consumer.timeout)
        case Availability(ae_title):
            if notify_availability is None:
                raise ConsumerError(f"nothing here sends notifications to {ae_title}")
            yield _in_time(partial(_notify, notify_availability, ae_title), consumer.timeout)
        case Publication(repository):
            if publish is None:
                raise ConsumerError(f"nothing here publishes to {repository}")
            yield _in_time(partial(_notify, publish, repository), consumer.timeout)
        case _:
            assert_never(consumer.target)


def check_target(consumer: Consumer) -> None:
    """Look at what `open_target` will need.

    Raises:
        ConsumerError: it is not there.
    """
    try:
        match consumer.target:
            case Webhook() as webhook:
                _secret(webhook)
                _tls_context(webhook)
            case PythonFunction(entry_point):
                _function(entry_point)
            case ProgramTarget() | Availability() | Publication():
                pass  # it may come later; a delivery that fails says so
            case _:
                assert_never(consumer.target)
    except ConsumerError as error:
        raise ConsumerError(f"consumer {consumer.name}: {error}") from error


def _in_time(deliver: Deliver, timeout: float) -> Deliver:
    async def within(event: StoredEvent, attempt: int) -> None:
        try:
            with trio.fail_after(timeout):
                await deliver(event, attempt)
        except trio.TooSlowError:
            raise DeliveryError(f"no answer within {timeout:g} s") from None

    return within


# -- By HTTP -----------------------------------------------------------------------------


def _tls_context(webhook: Webhook) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=webhook.ca)
    except (OSError, ssl.SSLError) as error:
        raise ConsumerError(f"cannot use the certificates in {webhook.ca}: {error}") from error


def _client(webhook: Webhook, concurrency: int) -> httpx.AsyncClient:
    import httpx  # costs a tenth of a second that only servers with webhooks need

    return httpx.AsyncClient(
        verify=_tls_context(webhook),
        # Events go where the settings say, whatever proxies the environment names.
        trust_env=False,
        follow_redirects=False,
        timeout=None,  # noqa: S113 (`_in_time` has the whole)
        limits=httpx.Limits(max_connections=concurrency),
    )


def _secret(webhook: Webhook) -> bytes:
    if webhook.secret_file is None:
        return webhook.secret.encode()
    try:
        return read_secret(webhook.secret_file)
    except SecretFileError as error:
        raise ConsumerError(str(error)) from error


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """What stands in ``Isocenter-Signature``."""
    signed = hmac.new(secret, timestamp.encode("ascii") + b"." + body, hashlib.sha256)
    return f"sha256={signed.hexdigest()}"


async def _post(
    client: httpx.AsyncClient,
    url: str,
    secret: bytes,
    consumer: Consumer,
    event: StoredEvent,
    attempt: int,
) -> None:
    import httpx

    body = event.json()
    timestamp = str(int(time()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Isocenter",
        "Isocenter-Event": event.kind,
        "Isocenter-Delivery": f"{consumer.name}-{event.number}-{attempt}",
        "Isocenter-Timestamp": timestamp,
    }
    if secret:
        headers["Isocenter-Signature"] = signature(secret, timestamp, body)
    try:
        async with client.stream("POST", url, content=body, headers=headers) as response:
            status = response.status_code
            if _is_short(response):
                # It has arrived, whatever becomes of the rest.
                with trio.move_on_after(_REST_SECONDS), suppress(httpx.HTTPError):
                    await response.aread()
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise DeliveryError(_fault_of(error)) from error
    if not 200 <= status < 300:
        raise DeliveryError(f"HTTP {status}")


def _is_short(response: httpx.Response) -> bool:
    """Whether reading an answer costs less than a new connection."""
    length = response.headers.get("Content-Length", "")
    return (
        length.isascii()
        and length.isdecimal()
        and int(length[:_MOST_DIGITS]) <= _MOST_ANSWER_BYTES
        and "Content-Encoding" not in response.headers
    )


def _fault_of(error: BaseException) -> str:
    """What lies below it says more than the library around it."""
    said = ""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLError):
            return describe_tls_error(seen)
        said = said or str(seen)
        seen = seen.__cause__ or seen.__context__
    return f"{type(error).__name__}: {said}".rstrip(": ")


# -- To a program ------------------------------------------------------------------------


def _environment(kind: str) -> dict[str, str]:
    return environment_of_programs() | {KIND_VARIABLE: kind}


async def _run(argv: tuple[str, ...], event: StoredEvent, _attempt: int) -> None:
    try:
        await run_program(argv, event.json(), _environment(event.kind))
    except ProgramError as error:
        raise DeliveryError(str(error)) from error


# -- To a peer, and to a repository ------------------------------------------------------


async def _notify(
    tell: NotifyAvailability | Publish, name: str, event: StoredEvent, _attempt: int
) -> None:
    await tell(name, event)


# -- To a function -----------------------------------------------------------------------


def _function(entry_point: str) -> Callable[[dict[str, object]], object]:
    module, _, names = entry_point.partition(":")
    try:
        found: Any = import_module(module)
        for name in names.split("."):
            found = getattr(found, name)
    except Exception as error:  # whatever an import runs
        raise ConsumerError(f"cannot import {entry_point}: {error}") from error
    if not callable(found):
        raise ConsumerError(f"{entry_point} is no function")
    function: Callable[[dict[str, object]], object] = found
    return function


async def _call(
    function: Callable[[dict[str, object]], object],
    limiter: trio.CapacityLimiter,
    event: StoredEvent,
    _attempt: int,
) -> None:
    def call() -> None:
        try:
            function(event.members())
        except (Exception, SystemExit) as error:  # anything is possible in code of others
            raise DeliveryError(f"{type(error).__name__}: {error}") from error

    # Nobody can end a thread: one that hangs is left to itself, and keeps its place in the limiter.
    await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=limiter)
