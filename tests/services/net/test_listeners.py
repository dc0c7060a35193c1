"""Every port of ours when the process has no descriptor left: pauses, and few lines of log."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import NoReturn, cast

import pytest
import trio
import trio.testing

from isocenter.services.association.server import Server, ServerOptions
from isocenter.services.association.service_registry import ServiceRegistry
from isocenter.services.integration.hl7.listener import OrderListener
from isocenter.services.monitoring.pages import MONITORING_LIMITS
from isocenter.services.net.http.application import RoutedApplication
from isocenter.services.net.http.routing import RouteTable
from isocenter.services.net.http.server import HttpServer
from isocenter.services.net.listeners import ListenAddress, open_listener

BIND = ListenAddress(host="127.0.0.1", port=0)
SECONDS = 100


class Exhausted:
    """A listening socket: there is somebody, and no descriptor for him."""

    def __init__(self) -> None:
        self.attempts = 0

    def setblocking(self, _: bool) -> None: ...

    def close(self) -> None: ...

    def accept(self) -> object:
        self.attempts += 1
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


class OfTrio:
    """The same, as trio's sockets are asked."""

    def __init__(self, listener: Exhausted) -> None:
        self._listener = listener

    async def accept(self) -> object:
        await trio.lowlevel.checkpoint()
        return self._listener.accept()


def dicom(listener: socket.socket) -> Awaitable[None]:
    server = Server(ServiceRegistry([]), ServerOptions(grace_seconds=1.0))
    return server.run([(listener, BIND)], lambda: None)


def orders(listener: socket.socket) -> Awaitable[None]:
    async def take(*_: object) -> None: ...

    return OrderListener(take).run([(listener, BIND)])


def pages(listener: socket.socket) -> Awaitable[None]:
    server = HttpServer(RoutedApplication(RouteTable([])), MONITORING_LIMITS)
    return server.run([(listener, BIND)])


@pytest.mark.parametrize("serve", [dicom, orders, pages])
async def test_out_of_descriptors(
    serve: Callable[[socket.socket], Awaitable[None]],
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    listener = Exhausted()
    monkeypatch.setattr(trio.socket, "from_stdlib_socket", OfTrio)
    with trio.move_on_after(SECONDS):
        await serve(cast(socket.socket, listener))
    assert SECONDS <= listener.attempts <= 5 * SECONDS
    lines = [one for one in caplog.records if "cannot accept" in one.getMessage()]
    assert 1 <= len(lines) <= SECONDS / 10
    assert len(lines) == len(caplog.records)
    assert "Too many open files; raise the limit of open files" in lines[0].getMessage()


def test_a_context_itself_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="tls=lambda: context"):
        ListenAddress(host="::1", port=0, tls=ssl.create_default_context())  # type: ignore[arg-type]


def test_a_host_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody_knows(*_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody_knows)
    with pytest.raises(OSError, match="x:104: the host name is not known; give an address of this"):
        open_listener(ListenAddress(host="x", port=104))
