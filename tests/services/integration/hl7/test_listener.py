"""MLLP over real sockets: chunks, limits, deadlines, TLS; and what `isocenter hl7send` sees."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from isocenter.services.errors import ConnectError
from isocenter.services.integration.hl7.listener import ListenerLimits, OrderListener
from isocenter.services.integration.hl7.mllp import MessageTooLong, MllpMessage, frame
from isocenter.services.integration.hl7.order_service import OrderService
from isocenter.services.integration.hl7.sender import SendError, open_sender
from isocenter.services.integration.hl7.step_fields import OrderRules
from isocenter.services.net.listeners import ListenAddress, open_listener
from isocenter.services.net.peer_log import PeerLog
from isocenter.services.net.tls.contexts import TlsFiles, client_context, server_context
from isocenter.services.notices import ConnectionRefused, Notice, Notices, RefusalReason
from isocenter.services.security.certificates.authority import CertificateAuthority
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.database.worklist import DatabaseWorklist
from services.integration.hl7.samples import OMI, ORM, changed

#: Of a wait that a test expects to end.
SOON = 60.0
#: Real seconds in which nothing happens: every byte on its way has arrived.
_CUSHION = 0.1
LIMITS = ListenerLimits(message_bytes=4_096)
Took = Callable[[MllpMessage | MessageTooLong, PeerLog], Awaitable[bytes | None]]


class Listening:
    """A listener on a port of this machine, and what it told."""

    def __init__(self, listener: OrderListener, port: int, notices: list[Notice]) -> None:
        self.listener = listener
        self.port = port
        self.notices = notices

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)


@asynccontextmanager
async def listening(
    take: Took, limits: ListenerLimits = LIMITS, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Listening]:
    notices: list[Notice] = []
    bind = ListenAddress(host="127.0.0.1", port=0, tls=None if tls is None else lambda: tls)
    (sock,) = open_listener(bind)
    listener = OrderListener(take, limits, Notices(notices.append))
    with sock:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.run, [(sock, bind)])
            yield Listening(listener, sock.getsockname()[1], notices)
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def taking_orders(limits: ListenerLimits = LIMITS) -> AsyncIterator[Listening]:
    """With a real worklist behind it."""
    async with open_sqlite_database(":memory:") as database:
        intake = OrderService(DatabaseWorklist(database), OrderRules(character_set="UNICODE UTF-8"))
        async with listening(intake.handle, limits) as where:
            yield where


async def echo(event: MllpMessage | MessageTooLong, peer_log: PeerLog) -> bytes | None:
    return event.data if isinstance(event, MllpMessage) else b"too long"


async def receive(stream: trio.abc.Stream, count: int = 1) -> list[bytes]:
    """So many frames, or fewer when the connection ends."""
    received = b""
    with trio.fail_after(SOON):
        while received.count(b"\x1c\r") < count and (chunk := await stream.receive_some()):
            received += chunk
    return [part.removeprefix(b"\x0b") for part in received.split(b"\x1c\r") if part]


async def ended(stream: trio.abc.Stream) -> bool:
    with trio.fail_after(SOON):
        try:
            return await stream.receive_some() == b""
        except trio.BrokenResourceError:  # RST: it had not read all of ours
            return True


async def test_a_message_byte_by_byte() -> None:
    async with taking_orders() as where, await where.connect() as stream:
        for byte in frame(ORM.encode()):
            await stream.send_all(bytes([byte]))
        (answer,) = await receive(stream)
    assert b"\rMSA|AA|MSG0001\r" in answer


async def test_two_messages_in_one_packet_are_answered_in_order() -> None:
    async with taking_orders() as where, await where.connect() as stream:
        await stream.send_all(frame(ORM.encode()) + frame(OMI.encode()) + frame(b"no message"))
        answers = await receive(stream, 3)
    assert [answer.split(b"\rMSA|")[1][:10] for answer in answers] == [
        b"AA|MSG0001", b"AA|MSG0002", b"AR||MSH: i",
    ]  # fmt: skip


async def test_a_sender_that_is_refused_for_hours_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad = frame(changed(ORM, "MSH", 11, "T").encode())
    async with taking_orders() as where:
        async with await where.connect() as stream:
            for message in (bad * 1_000, frame(ORM.encode()), bad):
                await stream.send_all(message)
                await receive(stream, message.count(b"\x1c"))
        with trio.fail_after(SOON):
            while where.listener.connections:
                await trio.testing.wait_all_tasks_blocked(_CUSHION)
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(lines) < 30
    assert "more lines were left out" in lines[-2]
    assert "refused with AR" in lines[-1], "a good message makes the next refusal news"


async def test_a_sender_may_wait_between_messages_and_send_returns() -> None:
    async with taking_orders() as where, await where.connect() as stream:
        for _ in range(2):
            await stream.send_all(b"\r\n" + frame(ORM.encode()))
            assert b"MSA|AA" in (await receive(stream))[0]


async def test_ten_megabytes_are_rejected_and_the_next_message_is_done() -> None:
    long = changed(ORM, "NTE", 3, "x" * (10 << 20)).encode()
    async with taking_orders() as where, await where.connect() as stream:
        await stream.send_all(frame(long))
        await stream.send_all(frame(ORM.encode()))
        first, second = await receive(stream, 2)
    assert f"MSA|AR|MSG0001|MSH: the message has {len(long)} bytes".encode() in first
    assert b"MSA|AA|MSG0001" in second


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n" * 100, b"\x16\x03\x01" + bytes(1_100)], ids=["http", "tls"]
)
async def test_what_is_no_MLLP_ends_the_connection(data: bytes) -> None:
    async with listening(echo) as where, await where.connect() as stream:
        await stream.send_all(data)
        assert await ended(stream)
        (notice,) = where.notices
        assert isinstance(notice, ConnectionRefused)
        assert notice.refusal is RefusalReason.WRONG_PROTOCOL


@pytest.mark.parametrize(
    ("senders", "is_heard"),
    [(("10.0.0.0/8", "127.0.0.0/8"), True), (("10.0.0.0/8", "::1"), False)],
)
async def test_who_is_no_sender_is_not_heard(senders: tuple[str, ...], is_heard: bool) -> None:
    limits = replace(LIMITS, senders=senders)
    async with listening(echo, limits) as where, await where.connect() as stream:
        with suppress(trio.BrokenResourceError):
            await stream.send_all(frame(b"a"))
        if is_heard:
            assert await receive(stream) == [b"a"]
        else:
            assert await ended(stream)
    refusals = [each.refusal for each in where.notices if isinstance(each, ConnectionRefused)]
    assert refusals == ([] if is_heard else [RefusalReason.ADDRESS])


async def test_stray_bytes_count_from_message_to_message() -> None:
    async with listening(echo) as where, await where.connect() as stream:
        for _ in range(5):
            await stream.send_all(b"\n" * 1_000 + frame(b"a"))
            assert await receive(stream) == [b"a"]


async def test_a_sender_that_goes_away_half_way_disturbs_nobody() -> None:
    async with listening(echo) as where:
        async with await where.connect() as stream:
            await stream.send_all(b"\x0bMSH|half")
        async with await where.connect() as stream:
            await stream.send_all(frame(b"next"))
            assert await receive(stream) == [b"next"]


async def test_a_handler_that_fails_ends_one_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def take(event: MllpMessage | MessageTooLong, peer_log: PeerLog) -> bytes | None:
        if event == MllpMessage(b"bad"):
            raise RuntimeError("a bug")
        return b"good"

    async with listening(take) as where:
        async with await where.connect() as stream:
            await stream.send_all(frame(b"bad"))
            assert await ended(stream)
        async with await where.connect() as stream:
            await stream.send_all(frame(b"x"))
            assert await receive(stream) == [b"good"]
    assert "an HL7 connection failed here" in caplog.text


def refusal_of(notice: Notice) -> RefusalReason:
    assert isinstance(notice, ConnectionRefused)
    return notice.refusal


async def test_the_longest_silent_connection_makes_room() -> None:
    async with (
        listening(echo, replace(LIMITS, connections=2)) as where,
        await where.connect() as first,
        await where.connect() as second,
    ):
        for stream in (first, second, first):
            await stream.send_all(frame(b"a"))
            assert await receive(stream) == [b"a"]
        async with await where.connect() as third:
            await third.send_all(frame(b"b"))
            assert await receive(third) == [b"b"]
            assert await ended(second)
            await first.send_all(frame(b"c"))
            assert await receive(first) == [b"c"]
            assert where.listener.connections == 2
    assert [refusal_of(one) for one in where.notices] == [RefusalReason.TOO_MANY]


async def test_who_is_being_served_is_not_sent_away() -> None:
    release = trio.Event()

    async def take(event: MllpMessage | MessageTooLong, peer_log: PeerLog) -> bytes | None:
        await release.wait()
        return b"done"

    async with (
        listening(take, replace(LIMITS, connections=1)) as where,
        await where.connect() as first,
    ):
        await first.send_all(frame(b"a"))
        while where.listener.connections == 0:
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked(_CUSHION)
        async with await where.connect() as second:
            assert await ended(second)
        release.set()
        assert await receive(first) == [b"done"]
    assert [refusal_of(one) for one in where.notices] == [RefusalReason.TOO_MANY]


async def test_a_stopping_server_finishes_what_it_does() -> None:
    begun, release, told = trio.Event(), trio.Event(), []

    async def take(event: MllpMessage | MessageTooLong, peer_log: PeerLog) -> bytes | None:
        begun.set()
        await release.wait()
        told.append(event)
        return b"done"

    bind = ListenAddress(host="127.0.0.1", port=0)
    (sock,) = open_listener(bind)
    with sock, trio.fail_after(SOON):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(OrderListener(take, LIMITS).run, [(sock, bind)])
            stream = await trio.open_tcp_stream(*sock.getsockname())
            await stream.send_all(frame(b"a"))
            await begun.wait()
            nursery.cancel_scope.cancel()
            release.set()
    assert told == [MllpMessage(b"a")]
    async with stream:
        assert await receive(stream) == [b"done"]


# -- Deadlines, on a clock that jumps ----------------------------------------------------


async def _after(
    seconds: float, sent: bytes, limits: ListenerLimits, clock: trio.testing.MockClock
) -> bool:
    """Whether the connection has ended so long after *sent*."""
    async with listening(echo, limits) as where, await where.connect() as stream:
        await stream.send_all(sent)
        await trio.testing.wait_all_tasks_blocked(_CUSHION)
        clock.jump(seconds)
        await trio.testing.wait_all_tasks_blocked(_CUSHION)
        return where.listener.connections == 0


SLOW = ListenerLimits(idle=1_000.0, message=30.0)


@pytest.mark.parametrize(
    ("sent", "seconds", "is_over"),
    [
        (b"", 999.0, False),
        (b"", 1_001.0, True),
        (frame(b"a"), 999.0, False),
        (frame(b"a"), 1_001.0, True),
        (b"\x0bMSH|no end", 29.0, False),
        (b"\x0bMSH|no end", 31.0, True),
        (frame(b"a") + b"\x0bMSH|no end", 31.0, True),
    ],
)
async def test_deadlines(
    sent: bytes, seconds: float, is_over: bool, mock_clock: trio.testing.MockClock
) -> None:
    assert await _after(seconds, sent, SLOW, mock_clock) is is_over


async def test_a_slow_sender_has_a_deadline_for_the_whole_message(
    mock_clock: trio.testing.MockClock,
) -> None:
    async with listening(echo, SLOW) as where, await where.connect() as stream:
        await stream.send_all(b"\x0b")
        for _ in range(3):
            await trio.testing.wait_all_tasks_blocked(_CUSHION)
            assert where.listener.connections == 1
            mock_clock.jump(11.0)
            await stream.send_all(b"x")
        await trio.testing.wait_all_tasks_blocked(_CUSHION)
        assert where.listener.connections == 0


# -- The sender, and TLS -----------------------------------------------------------------


async def test_our_sender_gets_acknowledgements() -> None:
    async with taking_orders() as where, open_sender("127.0.0.1", where.port) as sender:
        assert b"MSA|AA|MSG0001" in await sender.send(ORM.encode())
        assert b"MSA|AA|MSG0002" in await sender.send(OMI.encode())


async def test_our_sender_tells_of_silence(autojump_clock: trio.testing.MockClock) -> None:
    async def take(event: MllpMessage | MessageTooLong, peer_log: PeerLog) -> bytes | None:
        return None

    autojump_clock.autojump_threshold = _CUSHION
    async with listening(take) as where, open_sender("127.0.0.1", where.port) as sender:
        with pytest.raises(SendError, match="no acknowledgement within"):
            await sender.send(b"a")


async def test_our_sender_tells_of_an_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        async with open_sender("127.0.0.1", server.getsockname()[1]) as sender:
            accepted, _ = await trio.to_thread.run_sync(server.accept)
            accepted.close()
            with pytest.raises(SendError, match="closed the connection"):
                await sender.send(b"a")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    folder: Path = tmp_path_factory.mktemp("tls")
    CertificateAuthority.create(folder / "ca").issue(
        "archive", folder=folder, hosts=["127.0.0.1", "localhost"]
    )
    return TlsFiles(
        certificate=folder / "archive.crt", key=folder / "archive.key", ca=folder / "ca.crt"
    )


async def test_over_TLS_with_a_certificate(files: TlsFiles) -> None:
    async with (
        listening(echo, tls=server_context(files)) as where,
        open_sender("127.0.0.1", where.port, client_context(files)) as sender,
    ):
        assert await sender.send(b"a") == b"a"


async def test_over_TLS_nobody_without_a_certificate(files: TlsFiles) -> None:
    async with listening(echo, tls=server_context(files)) as where:
        anonymous = client_context(TlsFiles(ca=files.ca))
        with pytest.raises((SendError, ConnectError)):  # TLS 1.3 tells the client afterwards
            async with open_sender("127.0.0.1", where.port, anonymous) as sender:
                await sender.send(b"a")
        async with await where.connect() as stream:
            await stream.send_all(frame(ORM.encode()))
            assert await ended(stream)
        await trio.testing.wait_all_tasks_blocked(_CUSHION)
        assert [
            notice.refusal for notice in where.notices if isinstance(notice, ConnectionRefused)
        ] == [RefusalReason.TLS_HANDSHAKE] * 2


async def test_who_is_revoked_is_answered_once_more_and_sent_away(files: TlsFiles) -> None:
    begun, go_on = trio.Event(), trio.Event()

    async def slow(event: MllpMessage | MessageTooLong, peer_log: PeerLog) -> bytes | None:
        begun.set()
        await go_on.wait()
        return await echo(event, peer_log)

    revoked = "its certificate (CN=archive)"
    async with listening(slow, tls=server_context(files)) as where:
        context = client_context(files)
        async with (
            open_sender("127.0.0.1", where.port, context) as busy,
            open_sender("127.0.0.1", where.port, context) as silent,
            trio.open_nursery() as nursery,
        ):
            answers: list[bytes] = []

            async def send() -> None:
                answers.append(await busy.send(b"a"))

            nursery.start_soon(send)
            await begun.wait()
            chains: list[int] = []

            def nobody(chain: Sequence[bytes]) -> str:
                chains.append(len(chain))
                return ""

            where.listener.end_revoked(nobody)
            assert len(chains) == where.listener.connections == 2
            assert all(chains)
            where.listener.end_revoked(lambda chain: revoked)
            where.listener.end_revoked(lambda chain: revoked)
            with trio.fail_after(SOON):
                while where.listener.connections > 1:
                    await trio.lowlevel.checkpoint()
            with pytest.raises(SendError):
                await silent.send(b"b")
            assert not answers
            go_on.set()
            with trio.fail_after(SOON):
                while where.listener.connections:
                    await trio.lowlevel.checkpoint()
        assert answers == [b"a"]
        told = [notice for notice in where.notices if isinstance(notice, ConnectionRefused)]
        assert [one.refusal for one in told] == [RefusalReason.TLS_HANDSHAKE] * 2
        assert {one.detail for one in told} == {
            f"the connection for HL7 is ended: {revoked} was revoked"
        }


async def test_in_the_clear_nobody_is_revoked() -> None:
    async with listening(echo) as where, await where.connect() as stream:
        await stream.send_all(frame(b"a"))
        assert await receive(stream) == [b"a"]
        where.listener.end_revoked(lambda chain: "everybody")
        await stream.send_all(frame(b"b"))
        assert await receive(stream) == [b"b"]


async def test_a_handshake_has_a_deadline(
    files: TlsFiles, mock_clock: trio.testing.MockClock
) -> None:
    async with (
        listening(echo, tls=server_context(files)) as where,
        await where.connect(),
    ):
        await trio.testing.wait_all_tasks_blocked(_CUSHION)
        assert where.listener.connections == 1
        mock_clock.jump(LIMITS.handshake + 1)
        await trio.testing.wait_all_tasks_blocked(_CUSHION)
        assert where.listener.connections == 0


async def test_one_that_only_begins_messages_is_sent_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def take(received: MllpMessage | MessageTooLong, peer_log: PeerLog) -> bytes | None:
        return b"ACK"

    async with listening(take) as served, await served.connect() as stream:
        # Some are let off: a sender may have begun anew.
        await stream.send_all(b"\x0bMSH" * 5 + frame(b"MSH|"))
        with trio.fail_after(SOON):
            assert b"ACK" in await stream.receive_some()
            await stream.send_all(b"\x0b" * 20)
            assert await stream.receive_some() == b""
    assert [
        notice.refusal for notice in served.notices if isinstance(notice, ConnectionRefused)
    ] == [RefusalReason.WRONG_PROTOCOL]
    assert caplog.text.count("a message began") == 5 + 10
