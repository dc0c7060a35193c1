"""What a peer hears when we leave an association by cancellation, Ctrl-C or an exception."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing

from isocenter.engine.deadlines import DEFAULT_DEADLINES
from isocenter.engine.dimse.message_codec import (
    CCancelRequest,
    CFindRequest,
    CGetRequest,
    CMoveRequest,
    CStoreRequest,
    Message,
    Request,
    decode_message,
    response_to,
)
from isocenter.engine.errors import DeadlineExceeded
from isocenter.engine.pdu import Abort, AssociateRequest
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from isocenter.services.archive.index.query import Level
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.association.server import Server, serve
from isocenter.services.association.service_registry import ServiceRegistry
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.net.listeners import ListenAddress
from isocenter.services.service_classes.client import ClientAssociation, open_association
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.verification import VerificationScp
from support.raw import Data, RawAcceptor, RawPeer, message_bytes, raw_acceptor, raw_peer
from support.serving import Scripted, port_of, serving
from support.studies import CT_IMAGE_STORAGE, instance

FIND, GET, MOVE = (
    sop_classes.STUDY_ROOT_FIND,
    sop_classes.STUDY_ROOT_GET,
    sop_classes.STUDY_ROOT_MOVE,
)
IDENTIFIER = build_identifier([("StudyInstanceUID", "")], Level.STUDY, EXPLICIT_VR_LITTLE_ENDIAN)
PENDING, CANCELLED = 0xFF00, 0xFE00
ABORTED = Abort(0, 0)
IN_FLIGHT = 0.1


@pytest.fixture
def clock() -> trio.testing.MockClock:
    """Time passes when nothing else happens."""
    return trio.testing.MockClock(autojump_threshold=IN_FLIGHT)


def associated(port: int, **options: Any) -> Any:
    contexts = [(uid, BASIC_SYNTAXES) for uid in (FIND, GET, MOVE, CT_IMAGE_STORAGE, VERIFICATION)]
    return open_association(Peer("RAW", "127.0.0.1", port), contexts, **options)


async def keep_nothing(operation: Operation, request: CStoreRequest) -> int:
    raise AssertionError("nothing was to come")


async def find(association: ClientAssociation) -> None:
    async for _ in association.find(IDENTIFIER):
        pass


async def get(association: ClientAssociation) -> None:
    await association.get(IDENTIFIER, keep_nothing)


async def move(association: ClientAssociation) -> None:
    await association.move(IDENTIFIER, "DEST")


async def store(association: ClientAssociation) -> None:
    await association.store(instance(rows=2_048))


async def echo(association: ClientAssociation) -> None:
    await association.echo()


Ask = Callable[[ClientAssociation], Awaitable[None]]
QUERIES = pytest.mark.parametrize("ask", [find, get, move])


async def first_request(peer: RawPeer) -> Request:
    request, _ = await peer.message()
    assert isinstance(request, CFindRequest | CGetRequest | CMoveRequest)
    return request


async def answer(peer: RawPeer, request: Request, status: int, count: int = 1) -> None:
    identifier = IDENTIFIER if isinstance(request, CFindRequest) and status == PENDING else None
    context_id = {CFindRequest: 1, CGetRequest: 3, CMoveRequest: 5}[type(request)]
    await peer.send(message_bytes(context_id, response_to(request, status), identifier) * count)


async def heard(peer: RawPeer) -> list[Message | Abort]:
    """What still comes, until the other side closes or aborts."""
    came: list[Message | Abort] = []
    while True:
        first = await peer.pdu()
        if first is None:
            return came
        if isinstance(first, Abort):
            await peer.stream.aclose()
            return [*came, first]
        assert isinstance(first, Data), first
        came.append(_message_of(first))


def _message_of(data: Data) -> Message:
    ((_, control, command),) = data.pdvs
    assert control == 3, "a whole command was to come"
    return decode_message(command)[0]


async def leave_while(
    ask: Ask, meanwhile: Callable[[RawAcceptor, trio.CancelScope], Awaitable[Any]], **options: Any
) -> tuple[Any, float]:
    """Ask, and be cancelled when *meanwhile* says so.

    Returns:
        What *meanwhile* returned, and the seconds from being cancelled to being out.
    """
    result: Any = None
    cancelled = 0.0
    async with raw_acceptor() as (port, acceptor), trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def other_side() -> None:
            nonlocal result, cancelled
            result = await meanwhile(acceptor, scope)

        nursery.start_soon(other_side)
        with scope:
            async with associated(port, **options) as association:
                try:
                    await ask(association)
                finally:
                    cancelled = trio.current_time()
        assert scope.cancelled_caught
        return_after = trio.current_time() - cancelled
    return result, return_after


# Cancelled.


@QUERIES
async def test_a_cancelled_body_cancels_its_query_and_aborts(ask: Ask) -> None:
    async def other_side(acceptor: RawAcceptor, scope: trio.CancelScope) -> list[Message | Abort]:
        peer = await acceptor.associated()
        request = await first_request(peer)
        await answer(peer, request, PENDING, 3)
        scope.cancel()
        cancel, _ = await peer.message()
        assert cancel == CCancelRequest(message_id_being_responded_to=request.message_id)
        await answer(peer, request, CANCELLED)
        return await heard(peer)

    came, _ = await leave_while(ask, other_side)
    assert came == [ABORTED]


@QUERIES
async def test_a_peer_that_goes_on_regardless_is_left_in_time(
    ask: Ask, clock: trio.testing.MockClock
) -> None:
    async def other_side(acceptor: RawAcceptor, scope: trio.CancelScope) -> list[Message | Abort]:
        peer = await acceptor.associated()
        request = await first_request(peer)
        scope.cancel()
        came = await heard(peer)
        await peer.stream.aclose()
        assert came[0] == CCancelRequest(message_id_being_responded_to=request.message_id)
        return came[1:]

    came, seconds = await leave_while(ask, other_side)
    assert came == [ABORTED]
    assert seconds <= 2 * DEFAULT_DEADLINES.abort


async def test_a_peer_that_closes_nothing_is_left_in_time(clock: trio.testing.MockClock) -> None:
    async def other_side(acceptor: RawAcceptor, scope: trio.CancelScope) -> None:
        await first_request(await acceptor.associated())
        scope.cancel()

    _, seconds = await leave_while(find, other_side)
    assert seconds <= 2 * DEFAULT_DEADLINES.abort


async def test_a_store_that_is_cancelled_in_its_middle_is_aborted() -> None:
    async def other_side(acceptor: RawAcceptor, scope: trio.CancelScope) -> None:
        peer = await acceptor.associated()
        received = await peer.pdu()
        assert isinstance(received, Data)
        scope.cancel()
        while isinstance(received, Data):
            try:
                received = await peer.pdu()
            except AssertionError:
                return  # it was cut within a PDU, and nothing can be framed behind that
        assert received == ABORTED

    await leave_while(store, other_side)


async def test_an_echo_that_is_cancelled_is_aborted() -> None:
    """There is no C-CANCEL-RQ for it (PS3.7 9.3.5)."""

    async def other_side(acceptor: RawAcceptor, scope: trio.CancelScope) -> list[Message | Abort]:
        peer = await acceptor.associated()
        await peer.message()
        scope.cancel()
        return await heard(peer)

    came, _ = await leave_while(echo, other_side)
    assert came == [ABORTED]


async def test_an_idle_association_that_is_cancelled_is_aborted() -> None:
    async def other_side(acceptor: RawAcceptor, scope: trio.CancelScope) -> list[Message | Abort]:
        peer = await acceptor.associated()
        scope.cancel()
        return await heard(peer)

    async def wait(_: ClientAssociation) -> None:
        await trio.sleep_forever()

    came, _ = await leave_while(wait, other_side)
    assert came == [ABORTED]


async def test_a_request_for_an_association_that_is_cancelled_is_aborted() -> None:
    async with raw_acceptor() as (port, acceptor), trio.open_nursery() as nursery:
        came: list[Any] = []

        async def other_side() -> None:
            peer = await acceptor.connected()
            assert isinstance(await peer.pdu(), AssociateRequest)
            scope.cancel()
            came.extend(await heard(peer))

        nursery.start_soon(other_side)
        with trio.CancelScope() as scope:
            async with associated(port):
                pytest.fail("nobody accepts")
    assert came == [ABORTED]


async def test_a_timeout_around_a_release_aborts(clock: trio.testing.MockClock) -> None:
    async def other_side(acceptor: RawAcceptor) -> list[Any]:
        peer = await acceptor.associated()
        return [await peer.pdu(), await peer.pdu()]

    came: list[Any] = []
    async with raw_acceptor() as (port, acceptor), trio.open_nursery() as nursery:

        async def note() -> None:
            came.extend(await other_side(acceptor))

        nursery.start_soon(note)
        with trio.move_on_after(1) as scope:
            async with associated(port):
                pass
        assert scope.cancelled_caught
    assert came[1] == ABORTED


# Interrupted, and failed.


@trio.lowlevel.enable_ki_protection
def press_ctrl_c() -> None:
    """As a user does: `KeyboardInterrupt` is the main task's."""
    signal.raise_signal(signal.SIGINT)


@QUERIES
def test_ctrl_c_cancels_and_aborts_and_is_no_group(ask: Ask) -> None:
    came: list[Any] = []

    async def main() -> None:
        async with raw_acceptor() as (port, acceptor), trio.open_nursery() as nursery:

            async def other_side() -> None:
                peer = await acceptor.associated()
                request = await first_request(peer)
                await answer(peer, request, PENDING)
                with trio.CancelScope(shield=True):
                    press_ctrl_c()
                    came.append((await peer.message())[0])
                    await answer(peer, request, PENDING, 100)  # more than may wait
                    await answer(peer, request, CANCELLED)
                    came.extend(await heard(peer))

            nursery.start_soon(other_side)
            try:
                async with associated(port) as association:
                    await ask(association)
            except KeyboardInterrupt as error:
                came.append(type(error))
                raise

    with pytest.raises(BaseExceptionGroup) as raised:  # of the nursery above
        trio.run(main)
    assert raised.group_contains(KeyboardInterrupt)
    assert [type(each) for each in came if not isinstance(each, type)] == [CCancelRequest, Abort]
    assert KeyboardInterrupt in came


def test_ctrl_c_ends_a_server_and_is_no_group() -> None:
    class Pressing:
        def started(self, server: Server) -> None:
            press_ctrl_c()

    async def main() -> None:
        binds = [ListenAddress(host="127.0.0.1", port=0)]
        await serve(ServiceRegistry([VerificationScp()]), binds, task_status=Pressing())  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)


async def test_an_exception_in_the_middle_of_a_query_cancels_it_too() -> None:
    came: list[Any] = []
    async with raw_acceptor() as (port, acceptor), trio.open_nursery() as nursery:

        async def other_side() -> None:
            peer = await acceptor.associated()
            request = await first_request(peer)
            await answer(peer, request, PENDING)
            came.append((await peer.message())[0])
            await answer(peer, request, CANCELLED)
            came.extend(await heard(peer))

        nursery.start_soon(other_side)
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with associated(port) as association:
                matches = association.find(IDENTIFIER)
                async for _ in matches:
                    raise ZeroDivisionError
    assert [type(each) for each in came] == [CCancelRequest, Abort]


async def test_a_group_of_the_body_stays_what_it_is() -> None:
    async with serving() as server:
        with pytest.raises(ExceptionGroup) as raised:  # noqa: PT012
            async with associated(port_of(server)) as association, trio.open_nursery() as nursery:
                nursery.start_soon(echo, association)
                raise ZeroDivisionError
        assert [type(each) for each in raised.value.exceptions] == [ZeroDivisionError]


async def test_a_deadline_of_ours_is_no_group(clock: trio.testing.MockClock) -> None:
    async def perform(operation: Operation) -> None:
        await trio.sleep_forever()

    deadlines = replace(DEFAULT_DEADLINES, response=3)
    async with serving(Scripted([VERIFICATION], perform)) as server:
        with pytest.raises(DeadlineExceeded):
            async with associated(port_of(server), deadlines=deadlines) as association:
                await association.echo()


async def test_a_fault_of_ours_in_the_reader_reaches_whoever_opened_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving() as server:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with associated(port_of(server)) as association:

                def broken(*_: object) -> None:
                    raise ZeroDivisionError

                monkeypatch.setattr(association._driver._engine, "receive_data", broken)
                await association.echo()
                await trio.sleep_forever()


# As acceptor.


async def test_a_server_that_is_cancelled_aborts_its_associations() -> None:
    async with AsyncExitStack() as stack:
        async with serving() as server:
            peer = await stack.enter_async_context(raw_peer(port_of(server)))
            await peer.associate()
        assert await peer.pdu() == ABORTED
        assert await peer.is_closed()
