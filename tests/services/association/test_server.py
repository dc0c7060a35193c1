"""The server against peers that are slow, silent, many, or leave in the middle of something."""

from __future__ import annotations

import os
import resource
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from isocenter.engine import pdu
from isocenter.engine.deadlines import DEFAULT_DEADLINES
from isocenter.engine.dimse.message_codec import (
    CCancelRequest,
    CEchoRequest,
    CEchoResponse,
    CFindRequest,
    CFindResponse,
    CStoreRequest,
    CStoreResponse,
    encode_message,
)
from isocenter.engine.items import AsynchronousOperationsWindow
from isocenter.engine.pdu import Abort, AssociateAccept, AssociateReject, ReleaseResponse
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from isocenter.services.archive.index.query import Level
from isocenter.services.association.access import AeTitleRules
from isocenter.services.association.operation import Operation
from isocenter.services.association.server import ListenAddress, ServerLimits
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.net.tls.contexts import TlsFiles, client_context, server_context
from isocenter.services.notices import AssociationRejected, Notice, Notices
from isocenter.services.security.certificates.authority import CertificateAuthority
from isocenter.services.service_classes.query_retrieve.find_scp import FindScp
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from support.processes import served_archive
from support.raw import (
    RawPeer,
    associate_request,
    message_bytes,
    p_data,
    pdv,
    raw_peer,
)
from support.serving import Scripted, port_of, serving

CT = "1.2.840.10008.5.1.4.1.1.2"
FIND = sop_classes.STUDY_ROOT_FIND
ECHO = CEchoRequest(message_id=1, affected_sop_class_uid=VERIFICATION)
STORE = CStoreRequest(message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2")
FULL = AssociateReject(2, 3, 2)
BY_USER = Abort(0, 0)
#: Bytes are on their way through the kernel for less than this, in seconds of real time.
IN_FLIGHT = 0.1


@pytest.fixture
def clock() -> trio.testing.MockClock:
    """Time passes when nothing else happens."""
    return trio.testing.MockClock(autojump_threshold=IN_FLIGHT)


@asynccontextmanager
async def patient_peer(port: int, **options: Any) -> AsyncIterator[RawPeer]:
    """A peer without a deadline of its own: under the test's clock it would always run out."""
    async with raw_peer(port, patience=float("inf"), **options) as peer:
        yield peer


async def settle() -> None:
    """Until everybody waits."""
    await trio.testing.wait_all_tasks_blocked(IN_FLIGHT)


async def echo(peer: RawPeer, context_id: int = 1) -> None:
    response, _ = await peer.exchange(context_id, ECHO)
    assert isinstance(response, CEchoResponse)
    assert response.status == 0


async def answer_store(operation: Operation) -> None:
    assert isinstance(operation.request, CStoreRequest)
    async for _ in operation.fragments():
        pass
    await operation.respond(
        CStoreResponse(message_id_being_responded_to=operation.request.message_id, status=0)
    )


# Deadlines.


async def test_a_silent_peer_is_closed_without_a_pdu(clock: trio.testing.MockClock) -> None:
    async with serving() as server, patient_peer(port_of(server)) as peer:
        started = trio.current_time()
        assert await peer.is_closed()
        assert trio.current_time() - started == pytest.approx(
            DEFAULT_DEADLINES.association_request, abs=0.1
        )


async def test_bytes_that_trickle_in_do_not_restart_artim(clock: trio.testing.MockClock) -> None:
    request = pdu.encode_associate_request(associate_request())
    async with serving() as server, patient_peer(port_of(server)) as peer:
        started = trio.current_time()

        async def trickle() -> None:
            for byte in request:
                await peer.send(bytes((byte,)))
                await trio.sleep(0.5)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle)
            assert await peer.is_closed()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - started == pytest.approx(
            DEFAULT_DEADLINES.association_request, abs=0.6
        )


async def test_an_idle_association_is_aborted(clock: trio.testing.MockClock) -> None:
    async with serving() as server, patient_peer(port_of(server)) as peer:
        await peer.associate()
        await trio.sleep(DEFAULT_DEADLINES.idle - 1)
        await echo(peer)
        started = trio.current_time()
        assert await peer.pdu() == BY_USER
        assert trio.current_time() - started == pytest.approx(DEFAULT_DEADLINES.idle, abs=0.1)
        # We do not close either: ARTIM.
        assert await peer.is_closed()
        await settle()
        assert server.statistics.aborted == 1


async def test_a_peer_that_stops_in_the_middle_of_a_data_set_is_aborted(
    clock: trio.testing.MockClock,
) -> None:
    ended = trio.Event()

    async def perform(operation: Operation) -> None:
        try:
            await answer_store(operation)
        finally:
            ended.set()

    async with serving(Scripted([CT], perform)) as server, patient_peer(port_of(server)) as peer:
        await peer.associate(CT)
        command = encode_message(STORE, has_data_set=True)
        await peer.send(message_bytes(1, command) + p_data(pdv(1, 0, bytes(100))))
        started = trio.current_time()
        assert await peer.pdu() == BY_USER
        assert trio.current_time() - started == pytest.approx(DEFAULT_DEADLINES.idle, abs=0.1)
        await ended.wait()


async def test_a_peer_that_takes_no_bytes_is_dropped(clock: trio.testing.MockClock) -> None:
    ended: list[float] = []

    async def perform(operation: Operation) -> None:
        await operation.data_set()
        try:
            while True:
                await operation.respond(
                    CFindResponse(message_id_being_responded_to=1, status=0xFF00), bytes(60_000)
                )
        finally:
            ended.append(trio.current_time())

    async with serving(Scripted([FIND], perform)) as server, patient_peer(port_of(server)) as peer:
        await peer.associate(FIND)
        request = CFindRequest(message_id=1, affected_sop_class_uid=FIND, priority=0)
        started = trio.current_time()
        await peer.send(message_bytes(1, request, b""))
        await trio.sleep(DEFAULT_DEADLINES.write_blocked + 1)
        await settle()
        assert len(ended) == 1
        assert ended[0] - started == pytest.approx(DEFAULT_DEADLINES.write_blocked, abs=0.5)
        assert server.associations == 0


async def test_a_rejected_peer_that_does_not_close_is_closed(
    clock: trio.testing.MockClock,
) -> None:
    access = AeTitleRules(ae_titles=frozenset({"ISOCENTER"}))
    async with serving(access=access) as server, patient_peer(port_of(server)) as peer:
        assert isinstance(await peer.ask(associate_request(called="X")), AssociateReject)
        started = trio.current_time()
        assert await peer.is_closed()
        assert trio.current_time() - started == pytest.approx(
            DEFAULT_DEADLINES.association_request, abs=0.1
        )


# TLS.


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[TlsFiles, TlsFiles]:
    """Of the server, and of AE title RAW."""
    folder = tmp_path_factory.mktemp("certificates")
    ca = CertificateAuthority.create(folder / "ca")
    for name in ("HERE", "RAW"):
        ca.issue(name, hosts=["localhost", "127.0.0.1"], folder=folder)
    server, raw = (
        TlsFiles(
            certificate=folder / f"{name}.crt",
            key=folder / f"{name}.key",
            ca=ca.certificate_path,
        )
        for name in ("HERE", "RAW")
    )
    return server, raw


def tls_binds(certificates: tuple[TlsFiles, TlsFiles]) -> list[ListenAddress]:
    context = server_context(certificates[0])
    return [
        ListenAddress(host="127.0.0.1", port=0),
        ListenAddress(host="127.0.0.1", port=0, tls=lambda: context),
    ]


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01\x02\x00"], ids=["silent", "half a hello"])
async def test_a_silent_tls_client_delays_nobody(
    clock: trio.testing.MockClock, certificates: tuple[TlsFiles, TlsFiles], first: bytes
) -> None:
    context = client_context(certificates[1])
    async with serving(addresses=tls_binds(certificates)) as server:
        port = port_of(server, tls=True)
        async with patient_peer(port) as silent:
            await silent.send(first)
            started = trio.current_time()
            async with patient_peer(port, tls=context) as peer:
                await peer.associate()
                await echo(peer)
                await peer.release()
            assert trio.current_time() == started
            assert await silent.is_closed()
            assert trio.current_time() - started == pytest.approx(
                DEFAULT_DEADLINES.association_request, abs=0.1
            )


async def test_plain_text_on_the_tls_port_and_the_other_way_round_are_closed_at_once(
    clock: trio.testing.MockClock,
    certificates: tuple[TlsFiles, TlsFiles],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(addresses=tls_binds(certificates)) as server:
        started = trio.current_time()
        async with patient_peer(port_of(server, tls=True)) as peer:
            await peer.send(pdu.encode_associate_request(associate_request()))
            assert await peer.is_closed()
        async with patient_peer(port_of(server), tls=client_context(certificates[1])) as peer:
            with pytest.raises((trio.BrokenResourceError, ssl.SSLError)):
                await peer.send(b"x")
        assert trio.current_time() == started
    texts = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(texts) == 2
    assert "clear-text DICOM on the TLS port" in texts[0]
    assert "TLS on the port for clear text" in texts[1]


async def test_the_certificate_owns_the_ae_title(certificates: tuple[TlsFiles, TlsFiles]) -> None:
    async with (
        serving(addresses=tls_binds(certificates)) as server,
        raw_peer(port_of(server, tls=True), tls=client_context(certificates[1])) as peer,
    ):
        assert await peer.ask(associate_request(calling="OTHER")) == AssociateReject(1, 1, 3)


# Who may associate, and how many.


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (associate_request(called="SOMEBODY"), AssociateReject(1, 1, 7)),
        (associate_request(calling="STRANGER"), AssociateReject(1, 1, 3)),
        (associate_request(), None),
    ],
    ids=["called", "calling", "both right"],
)
async def test_ae_titles(request_: pdu.AssociateRequest, expected: AssociateReject | None) -> None:
    access = AeTitleRules(ae_titles=frozenset({"ISOCENTER"}), allow=("RA?",))
    async with serving(access=access) as server, raw_peer(port_of(server)) as peer:
        answer = await peer.ask(request_)
        assert (answer == expected) if expected else isinstance(answer, AssociateAccept)
        assert server.statistics.rejected == (expected is not None)


def with_titles(called: bytes, calling: bytes) -> bytes:
    """An A-ASSOCIATE-RQ with AE title fields as no program of ours would fill them."""
    request = bytearray(pdu.encode_associate_request(associate_request()))
    request[10:42] = called.ljust(16) + calling.ljust(16)
    return bytes(request)


@pytest.mark.parametrize(
    ("called", "calling", "expected", "logged"),
    [
        (b"ISOCENTER\0", b"US1\0", None, "'US1' associated as 'ISOCENTER'"),
        (b"ISOCENTER\0ab\xff", b"US1\0\xff\xfe", None, "'US1' associated as 'ISOCENTER'"),
        (b"ISOCENTER", b"", (1, 1, 3), "calling AE title is empty"),
        (b"ISOCENTER", b"GR\xdcN", (1, 1, 3), "calling AE title 'GRÜN' is none"),
        (b"\0", b"US1", (1, 1, 7), "called AE title is empty"),
        (b"ISO\nCENTER", b"US1", (1, 1, 7), r"called AE title 'ISO\nCENTER' is none"),
    ],
)
@pytest.mark.parametrize("uniform", [False, True])
async def test_ae_titles_of_other_peoples_programs(
    called: bytes,
    calling: bytes,
    expected: tuple[int, int, int] | None,
    logged: str,
    uniform: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Cut at the first NUL; what is none then is told to the peer, and to the log."""
    caplog.set_level("INFO")
    heard: list[Notice] = []
    access = AeTitleRules(uniform_rejection=uniform)
    async with (
        serving(access=access, notices=Notices(heard.append)) as server,
        raw_peer(port_of(server)) as peer,
    ):
        await peer.send(with_titles(called, calling))
        answer = await peer.pdu()
        if expected is None:
            assert isinstance(answer, AssociateAccept)
            assert (answer.called_ae_title, answer.calling_ae_title) == ("ISOCENTER", "US1")
        else:
            assert answer == AssociateReject(*((1, 1, 1) if uniform else expected))
            (told,) = [one for one in heard if isinstance(one, AssociationRejected)]
            assert told.caller.calling_ae_title.isascii()
            assert told.caller.called_ae_title.isprintable()
    assert logged in caplog.text


@pytest.mark.parametrize(
    ("limits", "whose", "setting"),
    [
        (ServerLimits(associations=1), "", ""),
        (ServerLimits(associations_per_address=1), " from 127.0.0.1", "_per_address"),
        (ServerLimits(associations_per_ae_title=1), " as 'RAW'", "_per_ae_title"),
    ],
    ids=["in all", "per address", "per AE title"],
)
async def test_over_a_limit_an_association_is_rejected_transiently(
    limits: ServerLimits, whose: str, setting: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(server_limits=limits) as server:
        port = port_of(server)
        async with raw_peer(port) as first:
            await first.associate()
            async with raw_peer(port) as second:
                assert await second.ask(associate_request()) == FULL
            warned = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
            assert warned[-1].endswith(
                f"rejected: 1 associations{whose} are as many as are allowed; end some, or raise "
                f"server.max_associations{setting}"
            )
            if limits.associations_per_ae_title == 1:
                async with raw_peer(port) as other:
                    await other.associate(calling="ANOTHER")
                    await other.release()
            await first.release()
        await settle()
        # There is room again.
        async with raw_peer(port) as third:
            await third.associate()
            await echo(third)
            await third.release()


async def test_with_too_many_connections_the_one_silent_for_longest_goes() -> None:
    async with serving(server_limits=ServerLimits(connections=3)) as server:
        port = port_of(server)
        async with raw_peer(port) as associated:
            await associated.associate()
            async with raw_peer(port) as oldest, raw_peer(port) as younger:
                await settle()
                async with raw_peer(port) as newest:
                    assert await oldest.is_closed()
                    await newest.associate()
                    await echo(newest)
                    await echo(associated)
                    await younger.associate()
                    await younger.release()
                    await newest.release()
            await associated.release()


async def test_with_too_many_handshakes_the_longest_one_goes(
    certificates: tuple[TlsFiles, TlsFiles],
) -> None:
    binds, limits = tls_binds(certificates), ServerLimits(handshakes=2)
    async with serving(addresses=binds, server_limits=limits) as server:
        port = port_of(server, tls=True)
        async with raw_peer(port) as oldest, raw_peer(port) as younger:
            for peer in (oldest, younger):
                await peer.send(b"\x16\x03\x01\x02\x00")  # a record that does not come
                await settle()
            context = client_context(certificates[1])
            async with raw_peer(port, tls=context) as newest:
                await newest.associate(calling="RAW")
                assert await oldest.is_closed()
                await echo(newest)
                await newest.release()


async def test_connections_that_come_and_go_leave_nothing(tmp_path: Path) -> None:
    async with serving() as server:
        port = port_of(server)
        for _ in range(100):
            async with raw_peer(port):
                pass
        async with raw_peer(port) as peer:
            await peer.associate()
            await echo(peer)
            await peer.release()
        await settle()
        assert not server._admission.connections
        assert not server._admission.per_address
        assert not server._admission.per_ae_title
        assert server.statistics.connections == 101
        assert server.statistics.associations == 1


# Operations.


async def test_a_peer_that_aborts_ends_its_operations() -> None:
    begun, ended = trio.Event(), trio.Event()

    async def perform(operation: Operation) -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with (
        serving(Scripted([CT], perform)) as server,
        raw_peer(port_of(server)) as peer,
    ):
        await peer.associate(CT)
        await peer.send(message_bytes(1, STORE, bytes(100)))
        await begun.wait()
        await peer.send(pdu.encode_abort(BY_USER))
        await ended.wait()
        assert await peer.is_closed()


async def test_a_peer_that_vanishes_ends_its_operations() -> None:
    begun, ended = trio.Event(), trio.Event()

    async def perform(operation: Operation) -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with serving(Scripted([CT], perform)) as server:
        async with raw_peer(port_of(server)) as peer:
            await peer.associate(CT)
            await peer.send(message_bytes(1, STORE, bytes(100)))
            await begun.wait()
        await ended.wait()


class _Matches:
    """In place of an index: a match, then whatever has to happen, then matches for ever."""

    def __init__(self) -> None:
        self.go_on = trio.Event()
        self.given = 0

    @asynccontextmanager
    async def find(self, query: object) -> AsyncIterator[AsyncIterator[Any]]:
        async def blocks() -> AsyncGenerator[Sequence[Mapping[int, str]], None]:
            while True:
                self.given += 1
                yield [{0x0020000D: f"1.2.{self.given}"}]
                await self.go_on.wait()

        async with aclosing(blocks()) as found:
            yield found


async def test_a_cancel_between_two_matches_ends_with_fe00() -> None:
    matches = _Matches()
    service = FindScp(matches, ae_title="ISOCENTER")  # type: ignore[arg-type]
    identifier = build_identifier(
        [("StudyInstanceUID", "")], Level.STUDY, EXPLICIT_VR_LITTLE_ENDIAN
    )
    async with serving(service) as server, raw_peer(port_of(server)) as peer:
        await peer.associate(FIND, VERIFICATION)
        request = CFindRequest(message_id=7, affected_sop_class_uid=FIND, priority=0)
        response, _ = await peer.exchange(1, request, identifier)
        assert isinstance(response, CFindResponse)
        assert response.status == 0xFF00
        # One for another operation says nothing; one for this ends it.
        for message_id in (8, 7):
            await peer.send(
                message_bytes(1, CCancelRequest(message_id_being_responded_to=message_id))
            )
        await settle()
        matches.go_on.set()
        response, _ = await peer.message()
        assert isinstance(response, CFindResponse)
        assert (response.status, response.message_id_being_responded_to) == (0xFE00, 7)
        assert matches.given == 2
        await echo(peer, 3)
        await peer.release()


async def test_a_release_waits_for_what_is_performed() -> None:
    go_on = trio.Event()

    async def perform(operation: Operation) -> None:
        await go_on.wait()
        await answer_store(operation)

    async with serving(Scripted([CT], perform)) as server, raw_peer(port_of(server)) as peer:
        await peer.associate(CT)
        await peer.send(message_bytes(1, STORE, bytes(10)) + pdu.encode_release_request())
        await settle()
        go_on.set()
        response, _ = await peer.message()
        assert isinstance(response, CStoreResponse)
        assert isinstance(await peer.pdu(), ReleaseResponse)


async def test_a_release_within_a_data_set_of_the_peer_ends_what_waits_for_it(
    clock: trio.testing.MockClock,
) -> None:
    """The rest of it cannot come any more: nobody waits for the deadline, and it is confirmed."""
    ended: list[str] = []

    async def perform(operation: Operation) -> None:
        try:
            await operation.data_set()
        finally:
            ended.append("cancelled")

    async with serving(Scripted([CT], perform)) as server, patient_peer(port_of(server)) as peer:
        await peer.associate(CT)
        whole = message_bytes(1, STORE, bytes(10))
        end = pdv(1, 2, bytes(10))
        assert whole.endswith(end)
        half = whole[: -len(end) - 6] + p_data(pdv(1, 0, bytes(4)))
        started = trio.current_time()
        await peer.send(half + pdu.encode_release_request())
        assert isinstance(await peer.pdu(), ReleaseResponse)
        assert trio.current_time() - started < 1
    assert ended == ["cancelled"]


async def test_a_release_does_not_wait_for_ever(clock: trio.testing.MockClock) -> None:
    async def perform(operation: Operation) -> None:
        await trio.sleep_forever()

    async with serving(Scripted([CT], perform)) as server, patient_peer(port_of(server)) as peer:
        await peer.associate(CT)
        await peer.send(message_bytes(1, STORE, bytes(10)) + pdu.encode_release_request())
        started = trio.current_time()
        assert await peer.pdu() == BY_USER
        assert trio.current_time() - started == pytest.approx(DEFAULT_DEADLINES.release, abs=0.1)


@pytest.mark.parametrize("window", [1, 3])
async def test_operations_run_at_once_within_the_window(window: int) -> None:
    at_once, most = 0, 0
    go_on = trio.Event()

    async def perform(operation: Operation) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await go_on.wait()
        await answer_store(operation)
        at_once -= 1

    async with (
        serving(Scripted([CT], perform), operations_window=3) as server,
        raw_peer(port_of(server)) as peer,
    ):
        proposed = AsynchronousOperationsWindow(3, 3) if window == 3 else None
        await peer.associate(CT, window=proposed)
        for message_id in (1, 2, 3, 4):
            # Without a data set: with one, each would wait for the bytes of the one before.
            request = CStoreRequest(
                message_id=message_id, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2"
            )
            await peer.send(message_bytes(1, request))
        await settle()
        assert at_once == window
        go_on.set()
        answered = set()
        for _ in range(4):
            response, _ = await peer.message()
            assert isinstance(response, CStoreResponse)
            answered.add(response.message_id_being_responded_to)
        assert answered == {1, 2, 3, 4}
        assert most == window
        await peer.release()


async def test_a_service_that_fails_answers_0110_and_the_association_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def perform(operation: Operation) -> None:
        raise RuntimeError("a fault of ours")

    async with serving(Scripted([CT], perform)) as server, raw_peer(port_of(server)) as peer:
        await peer.associate(CT, VERIFICATION)
        response, _ = await peer.exchange(1, STORE, bytes(1_000_000))
        assert isinstance(response, CStoreResponse)
        assert response.status == 0x0110
        await echo(peer, 3)
        await peer.release()
    assert sum("an operation failed" in record.getMessage() for record in caplog.records) == 1


async def test_a_fault_of_ours_ends_its_association_and_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken() -> Notice:
        raise ZeroDivisionError

    async def perform(operation: Operation) -> None:
        operation.completion_notice = broken
        await answer_store(operation)

    async with (
        serving(Scripted([CT], perform)) as server,
        raw_peer(port_of(server)) as other,
        raw_peer(port_of(server)) as peer,
    ):
        await other.associate(VERIFICATION)
        await peer.associate(CT)
        response, _ = await peer.exchange(1, STORE, bytes(4))
        assert isinstance(response, CStoreResponse)
        assert response.status == 0
        assert await peer.pdu() == BY_USER
        assert await peer.pdu() is None
        await echo(other)
    assert "the association failed here" in caplog.text
    assert "ZeroDivisionError" in caplog.text


# Stopping.


async def test_a_stop_aborts_who_is_idle_and_waits_for_who_is_not(
    clock: trio.testing.MockClock,
) -> None:
    go_on = trio.Event()

    async def perform(operation: Operation) -> None:
        await go_on.wait()
        await answer_store(operation)

    async with serving(Scripted([CT], perform)) as server:
        port = port_of(server)
        async with (
            patient_peer(port) as silent,
            patient_peer(port) as idle,
            patient_peer(port) as busy,
        ):
            await idle.associate()
            await busy.associate(CT)
            await busy.send(message_bytes(1, STORE, bytes(10)))
            await settle()
            server.stop()
            assert await silent.is_closed()
            assert await idle.pdu() == BY_USER
            with pytest.raises(OSError, match=r"refused|could not connect|all attempts"):
                await trio.open_tcp_stream("127.0.0.1", port)
            go_on.set()
            response, _ = await busy.message()
            assert isinstance(response, CStoreResponse)
            assert response.status == 0
            assert await busy.pdu() == BY_USER
        await server.stopped.wait()


async def test_a_stop_ends_at_the_grace_deadline(clock: trio.testing.MockClock) -> None:
    async def perform(operation: Operation) -> None:
        await trio.sleep_forever()

    async with serving(Scripted([CT], perform), grace_seconds=7) as server:
        async with patient_peer(port_of(server)) as busy:
            await busy.associate(CT)
            await busy.send(message_bytes(1, STORE, bytes(10)))
            await settle()
            started = trio.current_time()
            server.stop()
            assert await busy.pdu() == BY_USER
            assert trio.current_time() - started == pytest.approx(7, abs=0.2)
        await server.stopped.wait()
        assert trio.current_time() - started < 7 + DEFAULT_DEADLINES.abort + 0.2


# Out of descriptors: a real process, as it is about what the kernel gives it.


async def test_out_of_descriptors_the_server_lives_and_recovers(tmp_path: Path) -> None:
    with served_archive(tmp_path) as archive:
        pid = archive.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        async with raw_peer(archive.port) as associated:
            await associated.associate()
            used = len(os.listdir(f"/proc/{pid}/fd"))
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 2, before[1]))
            async with AsyncExitStack() as strangers:
                for _ in range(20):
                    await strangers.enter_async_context(raw_peer(archive.port))
                for _ in range(10):
                    await echo(associated)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            async with raw_peer(archive.port) as later:
                await later.associate()
                await echo(later)
                await later.release()
            await echo(associated)
            await associated.release()
        text = archive.log.read_text()
        assert text.count("cannot accept connections") <= 2
        assert "Traceback" not in text
