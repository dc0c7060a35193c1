"""Records on their way to syslog collectors: real sockets that go away and come back."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from isocenter.services.concurrency import Broadcast
from isocenter.services.net.tls.contexts import TlsFiles, client_context, server_context
from isocenter.services.security.audit import syslog_delivery as delivery_module
from isocenter.services.security.audit.repository import Protocol, SyslogRepository
from isocenter.services.security.audit.syslog_delivery import Delivery
from isocenter.services.security.audit.trail import Trail
from isocenter.services.security.audit.trail_compression import compress_closed
from isocenter.services.security.certificates.authority import CertificateAuthority
from services.security.audit.trails import entry, trail

DEADLINE = 60


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rests of real life, shorter."""
    for name, seconds in (
        ("FIRST_PAUSE_SECONDS", 0.02),
        ("LONGEST_PAUSE_SECONDS", 0.05),
        ("POLL_SECONDS", 0.02),
        ("CONFIRM_SECONDS", 0.1),
    ):
        monkeypatch.setattr(delivery_module, name, seconds)


class Sink:
    """A collector over TCP or TLS that reads frames by octet counting, as long as it lives."""

    def __init__(self, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.messages: list[bytes] = []
        self.came = Broadcast()
        self.connections = 0
        self._tls = tls
        self.port = port

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Sink]:
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
            self.port = listener.socket.getsockname()[1]
            nursery.start_soon(self._accept, listener, nursery)
            try:
                yield self
            finally:
                nursery.cancel_scope.cancel()
                await listener.aclose()

    async def _accept(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        while True:
            nursery.start_soon(self._serve, await listener.accept())

    async def _serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        whole: trio.abc.Stream = stream
        if self._tls is not None:
            whole = trio.SSLStream(stream, self._tls, server_side=True, https_compatible=True)
        buffer = b""
        try:
            while chunk := await whole.receive_some(4096):
                buffer += chunk
                while match := re.match(rb"([1-9][0-9]*) ", buffer):
                    end = match.end() + int(match[1])
                    if len(buffer) < end:
                        break
                    self.messages.append(buffer[match.end() : end])
                    buffer = buffer[end:]
                    self.came.send()
        except trio.BrokenResourceError:
            pass  # a client that is refused, or stopped
        finally:
            await trio.aclose_forcefully(stream)

    async def has(self, count: int) -> None:
        with trio.fail_after(DEADLINE):
            while len(self.messages) < count:
                await self.came.wait()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(DEADLINE):
        while not condition():
            await trio.lowlevel.checkpoint()


def text_of(message: bytes) -> str:
    match = re.search(rb'note="([^"]*)"', message)
    assert match is not None
    return match[1].decode()


def texts(sink: Sink) -> list[str]:
    return [text_of(each) for each in sink.messages]


def append(made: Trail, *names: str) -> None:
    made.append([entry(name) for name in names])


@asynccontextmanager
async def delivering(
    folder: Path, collector: SyslogRepository, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Delivery]:
    """To one collector; finished at the end as a server does it."""
    delivery = Delivery(
        collector,
        folder,
        written=Broadcast(),
        machine="vm",
        tls=None if tls is None else lambda: tls,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(delivery.run)
        yield delivery
        nursery.cancel_scope.deadline = trio.current_time() + delivery_module.FINISH_SECONDS
        delivery.finish()


def tcp(port: int) -> SyslogRepository:
    return SyslogRepository(Protocol.TCP, "127.0.0.1", port)


async def test_what_is_recorded_arrives_as_it_comes_and_once(tmp_path: Path) -> None:
    made = trail(tmp_path, rotate_bytes=1_000)
    append(made, "1", "2")
    async with Sink().listening() as sink:
        async with delivering(tmp_path, tcp(sink.port)):
            await sink.has(2)
            for number in range(3, 9):
                append(made, f"{number}")
            await sink.has(8)
        async with delivering(tmp_path, tcp(sink.port)):
            append(made, "9")
            await sink.has(9)
    assert texts(sink) == [str(number) for number in range(1, 10)]
    assert sink.messages[0].startswith(
        b"<85>1 2026-11-21T04:20:22.340942Z vm isocenter 7 DICOM+RFC3881 - <"
    )


async def test_compressed_files_arrive_from_any_place_on(tmp_path: Path) -> None:
    made = trail(tmp_path, rotate_bytes=2_000)
    append(made, *(f"{number}" for number in range(1, 4)))
    async with Sink().listening() as sink:
        async with delivering(tmp_path, tcp(sink.port)):
            await sink.has(3)
        for number in range(4, 31):
            append(made, f"{number}")
        assert compress_closed(tmp_path).files == 4
        async with delivering(tmp_path, tcp(sink.port)):
            await sink.has(20)
            for number in range(31, 51):
                append(made, f"{number}")
                compress_closed(tmp_path)
            await sink.has(50)
    assert list(dict.fromkeys(texts(sink))) == [str(number) for number in range(1, 51)]


async def test_the_last_record_before_the_end_arrives(tmp_path: Path) -> None:
    made = trail(tmp_path)
    append(made, "1")
    async with Sink().listening() as sink:
        async with delivering(tmp_path, tcp(sink.port)):
            await sink.has(1)
            append(made, "last")
        assert texts(sink) == ["1", "last"]


async def test_a_collector_that_goes_and_comes_back_misses_nothing(tmp_path: Path) -> None:
    made = trail(tmp_path)
    append(made, "1")
    sink = Sink()
    async with sink.listening():
        pass  # now its port is known, and it is away
    async with delivering(tmp_path, tcp(sink.port)) as delivery:
        await until(lambda: delivery.statistics.failures > 0)
        assert delivery.statistics.is_away
        append(made, "2", "3")
        async with sink.listening():
            await sink.has(3)
            assert not delivery.statistics.is_away
        append(made, "4")
        async with sink.listening():
            with trio.fail_after(DEADLINE):
                while "4" not in texts(sink):
                    await sink.came.wait()
    # In order, each at least once; what was not confirmed may come twice.
    assert list(dict.fromkeys(texts(sink))) == ["1", "2", "3", "4"]


async def test_what_a_broken_connection_swallowed_is_sent_again(tmp_path: Path) -> None:
    """TCP has taken it, and nobody has read it."""
    made = trail(tmp_path)
    append(made, "1", "2")
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with delivering(tmp_path, tcp(port)) as delivery:
        stream = await listener.accept()
        await until(lambda: delivery.statistics.sent >= 2)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await stream.aclose()
        await listener.aclose()
        sink = Sink(port=port)
        async with sink.listening():
            await sink.has(2)
    assert texts(sink) == ["1", "2"]


async def test_what_was_confirmed_is_not_sent_again_after_a_kill(tmp_path: Path) -> None:
    made = trail(tmp_path)
    append(made, "1", "2")
    async with Sink().listening() as sink:
        with trio.CancelScope() as scope:
            async with delivering(tmp_path, tcp(sink.port)):
                await sink.has(2)
                await until(lambda: bool(list(tmp_path.glob("collector-*.json"))))
                scope.cancel()
                await trio.lowlevel.checkpoint()
        append(made, "3")
        async with delivering(tmp_path, tcp(sink.port)):
            await sink.has(3)
    assert texts(sink) == ["1", "2", "3"]


async def test_only_one_of_several_processes_sends(tmp_path: Path) -> None:
    made = trail(tmp_path)
    async with Sink().listening() as sink:
        async with delivering(tmp_path, tcp(sink.port)) as second:
            async with delivering(tmp_path, tcp(sink.port)) as first:
                append(made, "1")
                await sink.has(1)
            # Whoever is left takes over.
            append(made, "2")
            if first.statistics.sent:
                await sink.has(2)
        assert second.statistics.sent + first.statistics.sent == len(sink.messages)
    assert texts(sink)[:2] == ["1", "2"]


class Certificates:
    def __init__(self, folder: Path) -> None:
        CertificateAuthority.create(folder).issue("x", hosts=["127.0.0.1"], folder=folder)
        self.files = TlsFiles(
            certificate=folder / "x.crt", key=folder / "x.key", ca=folder / "ca.crt"
        )


async def test_over_tls_both_sides_show_certificates(tmp_path: Path) -> None:
    ours, foreign = Certificates(tmp_path / "ours"), Certificates(tmp_path / "foreign")
    made = trail(tmp_path)
    append(made, "1", "2" + "x" * 30_000)
    async with Sink(server_context(ours.files)).listening() as sink:
        collector = SyslogRepository(Protocol.TLS, "127.0.0.1", sink.port)
        stranger = TlsFiles(
            certificate=foreign.files.certificate, key=foreign.files.key, ca=ours.files.ca
        )
        async with delivering(tmp_path, collector, client_context(stranger)) as delivery:
            await until(lambda: delivery.statistics.failures > 0)
        assert sink.messages == []
        async with delivering(tmp_path, collector, client_context(ours.files)):
            await sink.has(2)
        append(made, "3")
        async with delivering(tmp_path, collector, client_context(ours.files)):
            await sink.has(3)
    assert [text[0] for text in texts(sink)] == ["1", "2", "3"]


async def test_a_collector_with_a_foreign_certificate_gets_nothing(tmp_path: Path) -> None:
    ours, foreign = Certificates(tmp_path / "ours"), Certificates(tmp_path / "foreign")
    append(trail(tmp_path), "1")
    async with Sink(server_context(foreign.files)).listening() as sink:
        collector = SyslogRepository(Protocol.TLS, "127.0.0.1", sink.port)
        async with delivering(tmp_path, collector, client_context(ours.files)) as delivery:
            await until(lambda: delivery.statistics.failures >= 2)
    assert sink.messages == []


async def test_by_udp(tmp_path: Path) -> None:
    made = trail(tmp_path)
    append(made, *(f"{number}" for number in range(120)), "long" + "y" * 70_000)
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        await sock.bind(("127.0.0.1", 0))
        collector = SyslogRepository(Protocol.UDP, "127.0.0.1", sock.getsockname()[1])
        got: list[bytes] = []
        async with delivering(tmp_path, collector):
            with trio.fail_after(DEADLINE):
                while len(got) < 121:
                    got.append(await sock.recv(1 << 16))
        assert [text_of(each) for each in got[:120]] == [str(number) for number in range(120)]
        assert len(got[-1]) == 65_507
        # And not once more.
        append(made, "next")
        async with delivering(tmp_path, collector):
            with trio.fail_after(DEADLINE):
                assert text_of(await sock.recv(1 << 16)) == "next"


async def test_by_udp_to_nobody_waits(tmp_path: Path) -> None:
    made = trail(tmp_path)
    append(made, "1", "2")
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    async with delivering(tmp_path, SyslogRepository(Protocol.UDP, "127.0.0.1", port)) as delivery:
        await until(lambda: delivery.statistics.failures >= 2)
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            await sock.bind(("127.0.0.1", port))
            with trio.fail_after(DEADLINE):
                got = [text_of(await sock.recv(1 << 16)) for _ in range(2)]
    assert got == ["1", "2"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("tls://audit.example.org", "tls://audit.example.org:6514"),
        ("tcp://10.0.0.1:1601/", "tcp://10.0.0.1:1601"),
        ("udp://[fe80::1]", "udp://[fe80::1]:514"),
    ],
)
def test_collectors_as_text(text: str, shown: str) -> None:
    collector = SyslogRepository.parse(text)
    assert str(collector) == shown
    assert SyslogRepository.parse(shown) == collector
    assert re.fullmatch(r"[A-Za-z0-9._-]+", collector.file_name)


@pytest.mark.parametrize(
    "text", ["", "audit", "http://x:1", "tls://", "tls://a:0", "tls://a:70000", "tls://a b:1"]
)
def test_what_is_no_collector(text: str) -> None:
    with pytest.raises(ValueError):
        SyslogRepository.parse(text)
