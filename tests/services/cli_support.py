"""Servers in a thread of their own, for commands that run in the main one."""

from __future__ import annotations

import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from isocenter.engine.dataset import write_file_meta
from isocenter.engine.negotiation import Offer
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services import composition
from isocenter.services.association.access import AeTitleRules
from isocenter.services.association.operation import Operation
from isocenter.services.association.server import Server, serve
from isocenter.services.association.service_registry import ServiceRegistry
from isocenter.services.dicom.uid_registry import TRANSFER_SYNTAXES
from isocenter.services.net.listeners import ListenAddress
from isocenter.services.settings.loading import load_settings
from services.archive_support import CT, data_set, uid

AE_TITLE = "ISOCENTER"


class RunningServer:
    """Where it listens, and what it did."""

    def __init__(self, port: int, server: Server) -> None:
        self.port = port
        self.server = server

    @property
    def peer(self) -> str:
        return f"{AE_TITLE}@127.0.0.1:{self.port}"


@contextmanager
def running(
    registry: Callable[[], AbstractAsyncContextManager[ServiceRegistry]],
    tls: ssl.SSLContext | None = None,
    operations_window: int = 1,
) -> Iterator[RunningServer]:
    """A server on a free port of this machine while the context lasts."""
    started: list[RunningServer] = []
    failures: list[BaseException] = []
    ready = threading.Event()
    token: list[trio.lowlevel.TrioToken] = []

    async def main() -> None:
        bind = ListenAddress(host="127.0.0.1", port=0, tls=None if tls is None else lambda: tls)
        access = AeTitleRules(ae_titles=frozenset({AE_TITLE}))
        async with registry() as services, trio.open_nursery() as nursery:
            server = await nursery.start(
                partial(
                    serve,
                    services,
                    [bind],
                    access=access,
                    grace_seconds=0.2,
                    operations_window=operations_window,
                )
            )
            token.append(trio.lowlevel.current_trio_token())
            started.append(RunningServer(server.addresses[0][1], server))
            ready.set()

    def body() -> None:
        try:
            trio.run(main)
        except BaseException as error:
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=body)
    thread.start()
    ready.wait()
    try:
        if started:
            yield started[0]
    finally:
        if started:
            trio.from_thread.run_sync(started[0].server.stop, trio_token=token[0])
        thread.join()
    if failures:
        raise failures[0]


@contextmanager
def archive_server(
    *peers: str, tls: ssl.SSLContext | None = None, data_dir: str = ":memory:"
) -> Iterator[RunningServer]:
    """Our archive, in memory if nothing else is said."""
    settings = load_settings(
        environ={}, overrides={"storage.data_dir": data_dir, "peers": list(peers)}
    )

    @asynccontextmanager
    async def registry() -> AsyncIterator[ServiceRegistry]:
        async with composition.open_archive_parts(settings) as parts:
            yield composition.build_services(settings, parts.archive, parts.stores, None)

    with running(registry, tls) as server:
        yield server


class Scripted:
    """A service that does what a test says, for the abstract syntaxes of the test."""

    name = "scripted"

    def __init__(
        self,
        perform: Callable[[Operation], Awaitable[None]],
        *abstract_syntaxes: str,
        syntaxes: Sequence[str] = tuple(TRANSFER_SYNTAXES),
    ) -> None:
        self._perform = perform
        self._abstract_syntaxes = abstract_syntaxes
        self._offer = Offer(transfer_syntaxes=tuple(syntaxes), scp_role=True)

    def offer(self, abstract_syntax: str) -> Offer | None:
        if self._abstract_syntaxes and abstract_syntax not in self._abstract_syntaxes:
            return None
        return self._offer

    async def perform(self, operation: Operation) -> None:
        await self._perform(operation)


def scripted_server(*services: Any, operations_window: int = 1) -> Any:
    """A server with these services."""

    @asynccontextmanager
    async def registry() -> AsyncIterator[ServiceRegistry]:
        yield ServiceRegistry(services)

    return running(registry, operations_window=operations_window)


def write_object(folder: Path, number: int = 1, **options: Any) -> Path:
    """A small CT image as a Part 10 file."""
    sop_class = options.get("sop_class", CT)
    path = folder / f"{number}.dcm"
    head = write_file_meta(sop_class, uid(number), EXPLICIT_VR_LITTLE_ENDIAN)
    path.write_bytes(head + data_set(number, **options))
    return path
