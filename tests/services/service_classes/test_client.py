"""Associations that we open: leaving in the middle, refusals, deadlines, what is said of them."""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pydicom
import pytest
import trio
import trio.testing

from isocenter.engine.dataset import encoding_of, write_data_set
from isocenter.engine.deadlines import DEFAULT_DEADLINES
from isocenter.engine.dimse.message_codec import (
    CEchoRequest,
    CEchoResponse,
    CFindRequest,
    CFindResponse,
    CGetRequest,
    CMoveRequest,
    CStoreRequest,
    CStoreResponse,
    response_to,
)
from isocenter.engine.errors import (
    AssociationAbortedError,
    AssociationError,
    AssociationRejectedError,
    DeadlineExceeded,
    LocalProtocolError,
)
from isocenter.engine.pdu import AssociateReject
from isocenter.engine.uid import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
)
from isocenter.services.archive.index.query import Level
from isocenter.services.association.access import AeTitleRules
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.association.server import ListenAddress, Server, ServerLimits
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.errors import (
    ConnectError,
    NoPresentationContextError,
    OperationError,
)
from isocenter.services.service_classes.client import (
    ClientAssociation,
    RetrieveError,
    RetrieveResult,
    open_association,
)
from isocenter.services.service_classes.mpps.performed_step import MPPS
from isocenter.services.service_classes.normalized.operations import n_create
from isocenter.services.service_classes.query_retrieve.find_scu import FindResults
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.storage.contexts import plan_associations
from support.serving import Scripted, port_of, serving
from support.studies import CT_IMAGE_STORAGE, instance

FIND, GET, MOVE = (
    sop_classes.STUDY_ROOT_FIND,
    sop_classes.STUDY_ROOT_GET,
    sop_classes.STUDY_ROOT_MOVE,
)
IDENTIFIER = build_identifier([("StudyInstanceUID", "")], Level.STUDY, EXPLICIT_VR_LITTLE_ENDIAN)
IN_FLIGHT = 0.1


@pytest.fixture
def clock() -> trio.testing.MockClock:
    """Time passes when nothing else happens."""
    return trio.testing.MockClock(autojump_threshold=IN_FLIGHT)


def peer_of(server: Server) -> Peer:
    return Peer("ISOCENTER", "127.0.0.1", port_of(server))


@asynccontextmanager
async def associated(server: Server, *sop_classes_: str, **options: Any) -> AsyncIterator[Any]:
    contexts = [(uid, BASIC_SYNTAXES) for uid in (*sop_classes_, VERIFICATION)]
    async with open_association(peer_of(server), contexts, **options) as association:
        yield association


class Endless:
    """Answers with pending responses until it is cancelled."""

    def __init__(self) -> None:
        self.cancelled = trio.Event()

    async def perform(self, operation: Operation) -> None:
        await operation.data_set()
        request = operation.request
        assert isinstance(request, CFindRequest | CGetRequest | CMoveRequest)
        is_find = isinstance(request, CFindRequest)
        while not operation.is_cancelled:
            await operation.respond(response_to(request, 0xFF00), IDENTIFIER if is_find else None)
        self.cancelled.set()
        await operation.respond(response_to(request, 0xFE00))


# Leaving in the middle.


async def test_leaving_the_loop_cancels_at_the_peer() -> None:
    endless = Endless()
    async with (
        serving(Scripted([FIND], endless.perform)) as server,
        associated(server, FIND) as association,
    ):
        seen = 0
        async for match in association.find(IDENTIFIER):
            assert match.QueryRetrieveLevel == "STUDY"
            seen += 1
            if seen == 3:
                break
        await endless.cancelled.wait()
        assert await association.echo() == 0


async def test_leaving_the_context_waits_for_the_end_of_the_query() -> None:
    endless = Endless()
    async with (
        serving(Scripted([FIND], endless.perform)) as server,
        associated(server, FIND) as association,
    ):
        async with association.find(IDENTIFIER) as matches:
            async for _ in matches:
                break
        assert matches.status == 0xFE00
        assert endless.cancelled.is_set()
        assert association._driver.is_idle


@pytest.mark.parametrize("operation", ["get", "move"])
async def test_a_cancelled_retrieve_cancels_at_the_peer(operation: str) -> None:
    endless = Endless()
    async with (
        serving(Scripted([GET, MOVE], endless.perform)) as server,
        associated(server, GET, MOVE, scp_roles=[CT_IMAGE_STORAGE]) as association,
    ):
        seen = 0

        def progress(_: object) -> None:
            nonlocal seen
            seen += 1
            if seen == 3:
                scope.cancel()

        with trio.CancelScope() as scope:
            if operation == "get":
                await association.get(IDENTIFIER, _refuse, progress=progress)
            else:
                await association.move(IDENTIFIER, "DEST", progress=progress)
        assert scope.cancelled_caught
        assert endless.cancelled.is_set()
        assert await association.echo() == 0


async def _refuse(operation: Operation, request: CStoreRequest) -> int:
    raise AssertionError("nothing was to come")


async def test_a_store_cancelled_in_its_middle_ends_the_association() -> None:
    """Half a data set cannot be taken back."""
    stalled = trio.Event()

    async def perform(operation: Operation) -> None:
        async for _ in operation.fragments():
            stalled.set()
            await trio.sleep_forever()

    item = instance(rows=2_048)
    async with serving(Scripted([CT_IMAGE_STORAGE], perform)) as server:
        with pytest.raises(AssociationError, match=r"aborted here|cut short"):  # noqa: PT012
            async with associated(server, CT_IMAGE_STORAGE) as association:
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(association.store, item)
                        await stalled.wait()
                        await trio.testing.wait_all_tasks_blocked(IN_FLIGHT)
                        scope.cancel()
                await association.echo()


async def test_a_body_that_raises_aborts_the_association() -> None:
    async with serving() as server:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with associated(server) as association:
                assert await association.echo() == 0
                raise ZeroDivisionError
        await trio.testing.wait_all_tasks_blocked(IN_FLIGHT)
        assert server.statistics.aborted == 1


async def test_a_body_that_ends_releases_the_association() -> None:
    async with serving() as server:
        async with associated(server) as association:
            assert await association.echo() == 0
        await trio.testing.wait_all_tasks_blocked(IN_FLIGHT)
        assert (server.statistics.associations, server.statistics.aborted) == (1, 0)


# What goes wrong, and what is said of it.


@pytest.mark.parametrize(
    ("options", "reject", "said"),
    [
        (
            {"access": AeTitleRules(ae_titles=frozenset({"OTHER"}))},
            AssociateReject(1, 1, 7),
            "called AE title not recognized",
        ),
        (
            {"access": AeTitleRules(allow=("OTHER",))},
            AssociateReject(1, 1, 3),
            "calling AE title not recognized",
        ),
        (
            {"server_limits": ServerLimits(associations=0)},
            AssociateReject(2, 3, 2),
            "local limit exceeded",
        ),
    ],
    ids=["called", "calling", "full"],
)
async def test_a_rejection_says_why(
    options: dict[str, Any], reject: AssociateReject, said: str
) -> None:
    async with serving(**options) as server:
        with pytest.raises(AssociationRejectedError) as raised:
            async with associated(server):
                pytest.fail("it was to be rejected")
    error = raised.value
    assert AssociateReject(error.result, error.source, error.reason) == reject
    assert said in str(error)


async def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(ConnectError, match=rf"127.0.0.1:{port}: connection refused; is the"):
            async with open_association(
                Peer("X", "127.0.0.1", port), [(VERIFICATION, BASIC_SYNTAXES)]
            ):
                pytest.fail("nobody was to listen")


async def test_an_unknown_host() -> None:
    with pytest.raises(ConnectError, match=r"cannot connect to nowhere\.invalid:104"):
        async with open_association(
            Peer("X", "nowhere.invalid", 104), [(VERIFICATION, BASIC_SYNTAXES)]
        ):
            pytest.fail("there is no such host")


async def test_a_peer_that_does_not_answer_a_request(clock: trio.testing.MockClock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        started = trio.current_time()
        with pytest.raises(DeadlineExceeded, match="no answer to A-ASSOCIATE-RQ within 30 s"):
            async with open_association(
                Peer("X", "127.0.0.1", listener.getsockname()[1]), [(VERIFICATION, BASIC_SYNTAXES)]
            ):
                pytest.fail("nobody was to answer")
        assert trio.current_time() - started < (
            DEFAULT_DEADLINES.association_response + DEFAULT_DEADLINES.abort + 0.1
        )


async def test_a_peer_that_does_not_respond(clock: trio.testing.MockClock) -> None:
    async def perform(operation: Operation) -> None:
        await trio.sleep_forever()

    async with serving(Scripted([VERIFICATION], perform)) as server:
        with pytest.raises(DeadlineExceeded, match="no response within 7 s"):
            async with associated(
                server, deadlines=replace(DEFAULT_DEADLINES, response=7)
            ) as association:
                await association.echo()


async def test_without_a_deadline_we_wait(clock: trio.testing.MockClock) -> None:
    """As DCMTK's tools do by default: a peer may take an hour."""

    async def perform(operation: Operation) -> None:
        await trio.sleep(3_600)
        assert isinstance(operation.request, CEchoRequest)
        await operation.respond(
            CEchoResponse(message_id_being_responded_to=operation.request.message_id, status=0)
        )

    async with (
        serving(Scripted([VERIFICATION], perform)) as server,
        associated(server, deadlines=replace(DEFAULT_DEADLINES, response=math.inf)) as association,
    ):
        assert await association.echo() == 0


async def test_a_peer_that_aborts() -> None:
    async def perform(operation: Operation) -> None:
        await operation.association.abort()

    async with serving(Scripted([VERIFICATION], perform)) as server:
        with pytest.raises(AssociationAbortedError, match="source 0, reason 0"):
            async with associated(server) as association:
                await association.echo()


async def test_a_context_that_was_not_accepted() -> None:
    async with serving() as server, associated(server, CT_IMAGE_STORAGE) as association:
        with pytest.raises(NoPresentationContextError, match="CT Image Storage in Explicit VR"):
            await association.store(instance())
        with pytest.raises(NoPresentationContextError, match="FIND"):
            association.find(IDENTIFIER)
        assert await association.echo() == 0


async def test_a_query_that_fails() -> None:
    async def perform(operation: Operation) -> None:
        raise OperationError(0xA700, "no room")

    async with (
        serving(Scripted([FIND], perform)) as server,
        associated(server, FIND) as association,
    ):
        with pytest.raises(OperationError, match=r"A700H.*no room"):  # noqa: PT012
            async for _ in association.find(IDENTIFIER):
                pytest.fail("there was to be no match")
        assert await association.echo() == 0


# One rule: what failed raises.


@pytest.mark.parametrize("status", [0xA700, 0xC000, 0x0110, 0xFE00, 0x4711])
async def test_what_the_peer_did_not_do_is_raised(status: int) -> None:
    async def perform(operation: Operation) -> None:
        await operation.data_set()
        await operation.respond(response_to(operation.request, status, error_comment="no"))

    service = Scripted([FIND, GET, MOVE, CT_IMAGE_STORAGE, MPPS], perform)

    async def failing_echo(operation: Operation) -> None:
        await operation.respond(response_to(operation.request, status, error_comment="no"))

    async with (
        serving(service, Scripted([VERIFICATION], failing_echo)) as server,
        associated(server, FIND, GET, MOVE, CT_IMAGE_STORAGE, MPPS) as association,
    ):
        for operation in (
            association.echo(),
            association.store(instance()),
            _all(association.find(IDENTIFIER)),
            association.get(IDENTIFIER, _refuse),
            association.move(IDENTIFIER, "DEST"),
            n_create(association, MPPS, "1.2.3", AttributeList.from_dataset(pydicom.Dataset())),
        ):
            with pytest.raises(OperationError) as raised:
                await operation
            assert (raised.value.status, raised.value.comment) == (status, "no")


@pytest.mark.parametrize("operation", ["get", "move"])
@pytest.mark.parametrize("status", [0x0000, 0xB000])
async def test_objects_that_failed_are_raised_whatever_the_status_says(
    operation: str, status: int
) -> None:
    failed = 1

    async def perform(operation: Operation) -> None:
        await operation.data_set()
        response = response_to(operation.request, status)
        await operation.respond(
            replace(  # type: ignore[type-var]
                response,
                number_of_completed_suboperations=2,
                number_of_failed_suboperations=failed,
                number_of_warning_suboperations=0,
            )
        )

    async with (
        serving(Scripted([GET, MOVE], perform)) as server,
        associated(server, GET, MOVE) as association,
    ):

        async def ask() -> RetrieveResult:
            if operation == "get":
                return await association.get(IDENTIFIER, _refuse)
            return await association.move(IDENTIFIER, "DEST")

        with pytest.raises(RetrieveError, match="1 objects failed") as raised:
            await ask()
        assert (raised.value.result.completed, raised.value.result.failed) == (2, 1)
        failed = 0
        assert (await ask()).status == status


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
async def test_a_warning_is_no_failure(status: int) -> None:
    async def perform(operation: Operation) -> None:
        await operation.data_set()
        await operation.respond(response_to(operation.request, status))

    async with (
        serving(Scripted([CT_IMAGE_STORAGE], perform)) as server,
        associated(server, CT_IMAGE_STORAGE) as association,
    ):
        assert (await association.store(instance())).status == status


async def _all(matches: FindResults) -> None:
    async for _ in matches:
        pass


async def test_more_than_128_contexts_are_refused_before_anybody_is_called() -> None:
    with pytest.raises(LocalProtocolError, match="129 presentation contexts"):
        async with open_association(
            Peer("X", "nowhere.invalid", 104), [(VERIFICATION, BASIC_SYNTAXES)] * 129
        ):
            pytest.fail("it was to be refused")


@pytest.mark.parametrize("count", [1, 2, 3_000])
@pytest.mark.parametrize("syntax", [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN])
async def test_what_failed_to_move_is_listed_however_much_it_is(count: int, syntax: str) -> None:
    """In explicit VR a list over 65,534 bytes is a UN (PS3.5 6.2.2)."""
    failed = tuple(f"1.2.826.0.1.3680043.10.999.{number}" for number in range(count))
    encoded = write_data_set([(0x00080058, "UI", "\\".join(failed).encode())], encoding_of(syntax))

    async def perform(operation: Operation) -> None:
        await operation.data_set()
        await operation.respond(response_to(operation.request, 0xA702), encoded)

    async with (
        serving(Scripted([MOVE], perform)) as server,
        open_association(peer_of(server), [(MOVE, [syntax])]) as association,
    ):
        with pytest.raises(RetrieveError) as raised:
            await association.move(IDENTIFIER, "DEST", sop_class_uid=MOVE)
    assert raised.value.result.failed_uids == failed


# Many contexts, many operations.


async def test_what_needs_more_than_128_contexts_goes_over_several_associations() -> None:
    stored: list[str] = []

    async def perform(operation: Operation) -> None:
        request = operation.request
        assert isinstance(request, CStoreRequest)
        await operation.data_set()
        stored.append(request.affected_sop_class_uid)
        await operation.respond(
            CStoreResponse(message_id_being_responded_to=request.message_id, status=0)
        )

    kinds = list(sop_classes.STORAGE_SOP_CLASSES)[:150]
    items = []
    for uid in kinds:
        item = instance()
        item.SOPClassUID = uid
        items.append(DicomObject.from_dataset(item))
    plans = plan_associations(items, lambda item: (item.sop_class_uid, item.transfer_syntax_uid))
    assert len(plans) > 1
    assert all(len(contexts) <= 128 for contexts, _ in plans)
    async with serving(Scripted(kinds, perform)) as server:
        for contexts, group in plans:
            async with open_association(peer_of(server), contexts) as association:
                for item in group:
                    assert (await association.store(item)).status == 0
        assert server.statistics.associations == len(plans)
    assert sorted(stored) == sorted(kinds)


@pytest.mark.parametrize(("ours", "theirs", "expected"), [(4, 4, 4), (4, 2, 2), (1, 4, 1)])
async def test_operations_go_on_at_once_within_the_window(
    ours: int, theirs: int, expected: int
) -> None:
    at_once = 0
    go_on = trio.Event()

    async def perform(operation: Operation) -> None:
        nonlocal at_once
        at_once += 1
        await go_on.wait()
        request = operation.request
        assert isinstance(request, CEchoRequest)
        await operation.respond(
            CEchoResponse(message_id_being_responded_to=request.message_id, status=0)
        )

    async with (
        serving(Scripted([VERIFICATION], perform), operations_window=theirs) as server,
        associated(server, operations_window=ours) as association,
    ):
        statuses: list[int] = []

        async def echo(association: ClientAssociation) -> None:
            statuses.append(await association.echo())

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(echo, association)
            await trio.testing.wait_all_tasks_blocked(IN_FLIGHT)
            assert at_once == expected
            go_on.set()
        assert statuses == [0] * 6


async def test_responses_of_operations_at_once_are_not_mixed_up() -> None:
    """Two queries, answered in turns, each with its own matches."""
    waiting = trio.Event()
    begun = 0

    async def perform(operation: Operation) -> None:
        nonlocal begun
        wanted = await operation.data_set()
        begun += 1
        if begun == 2:
            waiting.set()
        await waiting.wait()
        request = operation.request
        assert isinstance(request, CFindRequest)
        for _ in range(20):
            await operation.respond(response_to(request, 0xFF00), wanted)
            await trio.lowlevel.checkpoint()
        await operation.respond(
            CFindResponse(message_id_being_responded_to=request.message_id, status=0)
        )

    async with (
        serving(
            Scripted([FIND], perform),
            operations_window=2,
            addresses=[ListenAddress(host="127.0.0.1", port=0)],
        ) as server,
        associated(server, FIND, operations_window=2) as association,
    ):

        async def query(study: str) -> None:
            keys = [("StudyInstanceUID", study)]
            identifier = build_identifier(keys, Level.STUDY, EXPLICIT_VR_LITTLE_ENDIAN)
            found = [match.StudyInstanceUID async for match in association.find(identifier)]
            assert found == [study] * 20

        async with trio.open_nursery() as nursery:
            nursery.start_soon(query, "1.2")
            nursery.start_soon(query, "1.3")


async def test_a_peer_that_wants_tls_needs_a_context_for_it() -> None:
    peer = Peer("ANY", "127.0.0.1", 1, tls=True)
    with pytest.raises(LocalProtocolError, match=r"ANY@127.0.0.1:1 wants TLS.*client_context"):
        async with open_association(peer, [(VERIFICATION, BASIC_SYNTAXES)]):
            pass


@pytest.mark.parametrize(
    "context", [VERIFICATION, (VERIFICATION,), (VERIFICATION, "1.2.840.10008.1.2")]
)
async def test_contexts_that_are_no_pairs_are_refused_before_connecting(context: Any) -> None:
    with pytest.raises(TypeError, match=r"is no \(abstract syntax, \[transfer syntaxes\]\)"):
        async with open_association(Peer("ANY", "127.0.0.1", 1), [context]):
            pass
