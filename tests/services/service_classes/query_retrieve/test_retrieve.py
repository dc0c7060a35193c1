"""C-MOVE and C-GET when something cannot be sent: the others go on, and the failed are listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from isocenter.engine.buffers import Buffer
from isocenter.engine.deadlines import Deadlines
from isocenter.engine.dimse.message_codec import CMoveRequest, CStoreRequest, response_to
from isocenter.engine.errors import AssociationAbortedError, AssociationError
from isocenter.engine.negotiation import Offer
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.index.query import Level
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.association import destination_slots
from isocenter.services.association.destination_slots import Places
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.association.server import Server, ServerLimits
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.errors import StorageError
from isocenter.services.service_classes.client import (
    ClientAssociation,
    RetrieveProgress,
    RetrieveResult,
    open_association,
)
from isocenter.services.service_classes.query_retrieve import move_scp
from isocenter.services.service_classes.query_retrieve.get_scp import GetScp
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.query_retrieve.move_scp import MoveScp
from isocenter.services.service_classes.storage.scu import PATIENCE
from isocenter.storage.objects.memory import MemoryStore
from services.archive_support import CT, STUDY, data_set, opened, store, uid
from support.outcomes import outcome
from support.serving import Scripted, port_of, serving

MOVE, GET = sop_classes.STUDY_ROOT_MOVE, sop_classes.STUDY_ROOT_GET
IDENTIFIER = partial(build_identifier, [("StudyInstanceUID", STUDY)], Level.STUDY)
SUCCESS, CANCELLED, WITH_FAILURES, NOTHING_DONE = 0x0000, 0xFE00, 0xB000, 0xA702
#: More than one part: the first leaves before the last is read.
LARGE = bytes(3 << 20)

Reader = Callable[[ObjectReader], ObjectReader]


@pytest.fixture
def clock() -> trio.testing.MockClock:
    """Time passes when nothing happens on the loopback either."""
    return trio.testing.MockClock(autojump_threshold=0.1)


@dataclass
class Destination:
    """Stores, but for what it does at some objects; takes *syntaxes*.

    Attributes:
        at: an object, and what is done in place of an answer.
        most: associations that it takes; None: any number.
    """

    syntaxes: tuple[str, ...] = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
    at: dict[str, Callable[[Operation], Any]] = field(default_factory=dict)
    window: int = 1
    received: list[str] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    name: str = "destination"

    def offer(self, abstract_syntax: str) -> Offer | None:
        return Offer(transfer_syntaxes=self.syntaxes) if abstract_syntax == CT else None

    async def perform(self, operation: Operation) -> None:
        request = operation.request
        assert isinstance(request, CStoreRequest)
        uid = request.affected_sop_instance_uid
        self.asked[uid] += 1
        if uid in self.at:
            await self.at[uid](operation)
            return
        async for _ in operation.fragments():
            pass
        self.received.append(uid)
        await operation.respond(response_to(request, SUCCESS))


async def abort(operation: Operation) -> None:
    await operation.association.abort()


async def say_nothing(operation: Operation) -> None:
    await trio.sleep_forever()


class Damaged:
    """An object whose file cannot be read from some byte on, once it was read *times* before."""

    def __init__(self, inner: ObjectReader, times: int = 1) -> None:
        self._inner = inner
        self._from = 2 << 20
        self._times = times
        self._position = 0
        self.size = inner.size

    async def read(self, offset: int, length: int) -> bytes:
        # What is converted is looked through first, and then read once more.
        self._times -= offset < self._position
        self._position = offset
        if offset >= self._from and self._times <= 0:
            raise StorageError("the disk cannot be read")
        return await self._inner.read(offset, length)

    async def view(self, offset: int, length: int) -> Buffer:
        return await self.read(offset, length)

    async def __aenter__(self) -> ObjectReader:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._inner.__aexit__(*exc)


@asynccontextmanager
async def archive_of(
    count: int, *, large: tuple[int, ...] = (), damaged: dict[int, Reader | None] | None = None
) -> AsyncIterator[Archive]:
    """An archive with one study of *count* objects.

    Args:
        damaged: by number, how the object is read; None: it has left the store.
    """
    async with opened(MemoryStore()) as archive:
        for number in range(1, count + 1):
            await store(archive, number, large_object(number) if number in large else None)
        plain = archive.open

        async def open_stored(stored: StoredInstance) -> ObjectReader:
            for number, make in (damaged or {}).items():
                if stored.sop_instance_uid == uid(number):
                    if make is None:
                        raise KeyError("no such object")
                    return make(await plain(stored))
            return await plain(stored)

        archive.open = open_stored  # type: ignore[method-assign]
        yield archive


def large_object(number: int) -> bytes:
    """Many private elements behind each other: wherever it is damaged, an element is."""
    element = b"\x09\x00\x01\x10OB\0\0\0\x04\0\0" + bytes(1024)
    head, pixels = data_set(number).split(b"\x10\x00\x10\x00PN", 1)
    return head + element * (3 << 10) + b"\x10\x00\x10\x00PN" + pixels


@dataclass
class Requestor:
    association: ClientAssociation
    another: Callable[[], Any]
    destination: Server
    places: Places
    progress: list[RetrieveProgress] = field(default_factory=list)

    async def move(self) -> RetrieveResult:
        return await outcome(
            self.association.move(
                IDENTIFIER, "DEST", sop_class_uid=MOVE, progress=self.progress.append
            )
        )


@asynccontextmanager
async def moving(
    archive: Archive,
    destination: Destination,
    *,
    associations: int = 1,
    deadlines: Deadlines | None = None,
    place_seconds: float = 300.0,
    **options: Any,
) -> AsyncIterator[Requestor]:
    async with serving(destination, operations_window=destination.window, **options) as there:
        peer = Peer("DEST", "127.0.0.1", port_of(there))
        connect = partial(open_association, deadlines=deadlines or Deadlines())
        places = Places(associations)
        move = MoveScp(
            archive,
            destination={"DEST": peer}.get,
            connect=connect,
            places=places,
            place_seconds=place_seconds,
        )
        async with serving(move) as server:
            another = partial(
                open_association,
                Peer("ISOCENTER", "127.0.0.1", port_of(server)),
                [(MOVE, BASIC_SYNTAXES)],
            )
            async with another() as association:
                yield Requestor(association, another, there, places)


def uids(*numbers: int) -> list[str]:
    return [uid(number) for number in numbers]


@pytest.mark.parametrize("window", [1, 16])
@pytest.mark.parametrize("associations", [1, 2])
@pytest.mark.parametrize(
    "bad", [(3,), (1,), (6,), (3, 4), (1, 3, 5), (2, 4, 6), (1, 2, 3, 4, 5)], ids=str
)
async def test_an_object_at_which_the_destination_aborts_fails_alone(
    window: int, associations: int, bad: tuple[int, ...]
) -> None:
    destination = Destination(window=window, at=dict.fromkeys(uids(*bad), abort))
    async with (
        archive_of(6) as archive,
        moving(archive, destination, associations=associations) as requestor,
    ):
        result = await requestor.move()
    good = [number for number in range(1, 7) if number not in bad]
    assert result.status == WITH_FAILURES
    assert (result.completed, result.failed) == (len(good), len(bad))
    assert sorted(result.failed_uids) == uids(*bad)
    assert set(destination.received) == set(uids(*good))
    remaining = [each.remaining for each in requestor.progress]
    assert remaining == sorted(remaining, key=lambda left: -(left or 0))
    assert len(remaining) == 5  # each but the last has a pending response


@pytest.mark.parametrize("window", [1, 16])
async def test_a_destination_that_always_aborts_is_called_a_few_times(window: int) -> None:
    """Not a thousand times for a thousand objects."""
    count = 40
    destination = Destination(window=window, at=dict.fromkeys(uids(*range(1, count + 1)), abort))
    async with archive_of(count) as archive, moving(archive, destination) as requestor:
        result = await requestor.move()
        assert requestor.destination.statistics.associations == PATIENCE
    assert result.status == NOTHING_DONE
    assert (result.completed, result.failed) == (0, count)
    assert sorted(result.failed_uids) == sorted(uids(*range(1, count + 1)))


async def test_patience_begins_anew_with_each_answer() -> None:
    """Every second of many: there are more aborts than there is patience."""
    bad = tuple(range(1, 4 * PATIENCE, 2))
    destination = Destination(at=dict.fromkeys(uids(*bad), abort))
    async with archive_of(4 * PATIENCE) as archive, moving(archive, destination) as requestor:
        result = await requestor.move()
    assert (result.completed, result.failed) == (2 * PATIENCE, 2 * PATIENCE)


async def test_a_destination_that_does_not_answer_is_waited_for_twice(
    clock: trio.testing.MockClock,
) -> None:
    destination = Destination(at=dict.fromkeys(uids(*range(1, 7)), say_nothing))
    deadlines = Deadlines(response=20.0)
    async with (
        archive_of(6) as archive,
        moving(archive, destination, deadlines=deadlines) as requestor,
    ):
        started = trio.current_time()
        result = await requestor.move()
        assert trio.current_time() - started < 2 * 20.0 + 10.0
        assert requestor.destination.statistics.associations == 2
    assert (result.status, result.failed) == (NOTHING_DONE, 6)


async def test_an_object_at_which_the_destination_hangs_fails_alone(
    clock: trio.testing.MockClock,
) -> None:
    destination = Destination(at={uid(2): say_nothing})
    async with (
        archive_of(4) as archive,
        moving(archive, destination, deadlines=Deadlines(response=20.0)) as requestor,
    ):
        result = await requestor.move()
    assert (result.completed, result.failed_uids) == (3, (uid(2),))


async def test_a_destination_that_takes_no_second_association_gets_what_it_got() -> None:
    async def abort_and_leave(operation: Operation) -> None:
        await operation.association.abort()
        leaving.set()

    leaving = trio.Event()
    destination = Destination(at={uid(3): abort_and_leave})
    async with archive_of(6) as archive, trio.open_nursery() as nursery:
        served: list[Server] = []
        gone = trio.CancelScope()

        async def serve_until_it_leaves(*, task_status: Any) -> None:
            with gone:
                async with serving(destination) as there:
                    served.append(there)
                    task_status.started()
                    await leaving.wait()

        await nursery.start(serve_until_it_leaves)
        peer = Peer("DEST", "127.0.0.1", port_of(served[0]))

        @asynccontextmanager
        async def connect(*words: Any, **options: Any) -> AsyncIterator[ClientAssociation]:
            if leaving.is_set():  # its port is closed by now
                await trio.testing.wait_all_tasks_blocked(0.05)
            async with open_association(*words, **options) as association:
                yield association

        move = MoveScp(archive, destination={"DEST": peer}.get, connect=connect)
        async with (
            serving(move) as server,
            open_association(
                Peer("ISOCENTER", "127.0.0.1", port_of(server)), [(MOVE, BASIC_SYNTAXES)]
            ) as association,
        ):
            result = await outcome(association.move(IDENTIFIER, "DEST", sop_class_uid=MOVE))
        nursery.cancel_scope.cancel()
    assert result.status == WITH_FAILURES
    assert (result.completed, result.failed) == (2, 4)
    assert sorted(result.failed_uids) == uids(3, 4, 5, 6)


@pytest.mark.parametrize("window", [1, 16])
async def test_an_object_that_is_damaged_in_its_middle_fails_alone(window: int) -> None:
    """Its bytes have begun to flow when that is seen: the association has to be aborted."""
    destination = Destination(syntaxes=(IMPLICIT_VR_LITTLE_ENDIAN,), window=window)
    async with (
        archive_of(6, large=(3,), damaged={3: Damaged}) as archive,
        moving(archive, destination) as requestor,
    ):
        result = await requestor.move()
        assert requestor.destination.statistics.associations == 2
    assert result.status == WITH_FAILURES
    assert (result.completed, result.failed_uids) == (5, (uid(3),))
    assert set(destination.received) == set(uids(1, 2, 4, 5, 6))


async def test_what_is_known_before_the_first_byte_costs_no_association() -> None:
    destination = Destination()
    async with (
        archive_of(3, damaged={2: None}) as archive,
        moving(archive, destination) as requestor,
    ):
        result = await requestor.move()
        assert requestor.destination.statistics.associations == 1
    assert (result.completed, result.failed_uids) == (2, (uid(2),))


async def test_a_cancel_between_two_associations_is_obeyed() -> None:
    async with archive_of(6) as archive:
        destination = Destination()
        async with moving(archive, destination) as requestor:
            moving_on = trio.CancelScope()

            async def abort_and_cancel(operation: Operation) -> None:
                # The requestor's C-CANCEL is there before the sub-operation has failed.
                moving_on.cancel()
                await trio.testing.wait_all_tasks_blocked(0.05)
                await operation.association.abort()

            destination.at[uid(2)] = abort_and_cancel
            with moving_on:
                await requestor.move()
            assert moving_on.cancelled_caught
            await requestor.association._driver.wait_until_none_outstanding(CMoveRequest)
    assert destination.received == [uid(1)]
    assert destination.asked == Counter(uids(1, 2))


@pytest.mark.parametrize("bad", [(), (3, 4, 30)], ids=str)
async def test_a_destination_that_takes_one_association_at_once(bad: tuple[int, ...]) -> None:
    """Two that come together it may both reject; and one that comes early after another."""
    destination = Destination(at=dict.fromkeys(uids(*bad), abort))
    limits = ServerLimits(associations=1)
    async with (
        archive_of(40) as archive,
        moving(archive, destination, associations=3, server_limits=limits) as requestor,
    ):
        result = await requestor.move()
    assert (result.completed, result.failed) == (40 - len(bad), len(bad))


async def test_a_destination_that_rejects_for_now_is_asked_again_and_then_no_more(
    clock: trio.testing.MockClock,
) -> None:
    async with (
        archive_of(3) as archive,
        moving(archive, Destination(), server_limits=ServerLimits(associations=1)) as requestor,
        open_association(
            Peer("ISOCENTER", "127.0.0.1", port_of(requestor.destination)), [(CT, BASIC_SYNTAXES)]
        ) as busy,
    ):
        started = trio.current_time()
        result = await requestor.move()
        assert (result.status, result.failed) == (NOTHING_DONE, 3)
        assert 1.5 < trio.current_time() - started < 10

        async def leave() -> None:
            await trio.sleep(0.5)
            await busy.release()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave)
            result = await requestor.move()
    assert (result.status, result.completed) == (SUCCESS, 3)


# Places at the destination.


async def test_requests_share_the_places_at_a_destination() -> None:
    at_once = peak = 0

    async def count(operation: Operation) -> None:
        nonlocal at_once, peak
        at_once += 1
        peak = max(peak, at_once)
        async for _ in operation.fragments():
            pass
        await trio.testing.wait_all_tasks_blocked(0.001)
        at_once -= 1
        await operation.respond(response_to(operation.request, SUCCESS))

    destination = Destination(at=dict.fromkeys(uids(*range(1, 41)), count))
    async with (
        archive_of(40) as archive,
        moving(archive, destination, associations=2) as requestor,
    ):
        results: list[RetrieveResult] = []

        async def move() -> None:
            async with requestor.another() as association:
                results.append(
                    await outcome(association.move(IDENTIFIER, "DEST", sop_class_uid=MOVE))
                )

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(move)
    assert [(each.status, each.completed) for each in results] == [(SUCCESS, 40)] * 4
    assert peak == 2


@pytest.fixture
def looking_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at a place that is taken is a jump of the clock, which waits for the loopback."""
    monkeypatch.setattr(destination_slots, "LOOK_SECONDS", 2.5)
    monkeypatch.setattr(move_scp, "LOOK_SECONDS", 2.5)


@pytest.mark.usefixtures("looking_seldom")
async def test_a_place_is_waited_for_and_the_requestor_told(clock: trio.testing.MockClock) -> None:
    async with (
        archive_of(3) as archive,
        moving(archive, Destination(), place_seconds=60.0) as requestor,
        trio.open_nursery() as nursery,
    ):
        place = await requestor.places.take("DEST")

        async def give_back() -> None:
            await trio.sleep(35)
            place.give_back()

        nursery.start_soon(give_back)
        result = await requestor.move()
    assert (result.status, result.completed) == (SUCCESS, 3)
    assert [each.remaining for each in requestor.progress] == [3, 3, 3, 2, 1]


@pytest.mark.usefixtures("looking_seldom")
async def test_a_place_that_is_not_free_in_time(clock: trio.testing.MockClock) -> None:
    async with (
        archive_of(3) as archive,
        moving(archive, Destination(), place_seconds=60.0) as requestor,
    ):
        place = await requestor.places.take("DEST")
        result = await requestor.move()
        assert (result.status, result.failed) == (NOTHING_DONE, 3)
        assert sorted(result.failed_uids) == uids(1, 2, 3)
        place.give_back()
        assert (await requestor.move()).status == SUCCESS


async def test_a_cancel_while_a_place_is_waited_for() -> None:
    async with archive_of(3) as archive, moving(archive, Destination()) as requestor:
        place = await requestor.places.take("DEST")
        with trio.move_on_after(0.1) as scope:
            await requestor.move()
        assert scope.cancelled_caught
        with trio.fail_after(60):
            await requestor.association._driver.wait_until_none_outstanding(CMoveRequest)
        place.give_back()
        assert (await requestor.move()).status == SUCCESS


async def test_a_requestor_that_leaves_while_a_place_is_waited_for() -> None:
    async with archive_of(3) as archive, moving(archive, Destination()) as requestor:
        place = await requestor.places.take("DEST")
        async with trio.open_nursery() as nursery:

            async def leave() -> None:
                with suppress(AssociationError):
                    await requestor.move()

            nursery.start_soon(leave)
            await trio.testing.wait_all_tasks_blocked(0.01)
            await requestor.association.abort()
        await trio.testing.wait_all_tasks_blocked(0.01)
        place.give_back()
        with trio.fail_after(60):
            (await requestor.places.take("DEST")).give_back()
        assert requestor.destination.statistics.associations == 0


# C-GET: the association is the requestor's, and there is no other.


async def get(
    archive: Archive, syntaxes: tuple[str, ...]
) -> tuple[RetrieveResult | AssociationError, list[str], bool]:
    received: list[str] = []

    async def receive(operation: Operation, request: CStoreRequest) -> int:
        async for _ in operation.fragments():
            pass
        received.append(request.affected_sop_instance_uid)
        return SUCCESS

    async with (
        serving(GetScp(archive), Scripted([CT], abort)) as server,
        open_association(
            Peer("ISOCENTER", "127.0.0.1", port_of(server)),
            [(GET, BASIC_SYNTAXES), (CT, syntaxes)],
            scp_roles=[CT],
        ) as association,
    ):
        result: RetrieveResult | AssociationError
        try:
            result = await outcome(association.get(IDENTIFIER, receive, sop_class_uid=GET))
        except AssociationError as error:
            result = error
        return result, received, association.ended.is_set()


@pytest.mark.parametrize(
    "damage", [partial(Damaged, times=0), partial(Damaged, times=1), None], ids=["0", "1", "gone"]
)
async def test_get_examines_what_is_to_be_converted(damage: Reader | None) -> None:
    async with archive_of(6, large=(3, 5), damaged={3: damage}) as archive:
        result, received, has_ended = await get(archive, (IMPLICIT_VR_LITTLE_ENDIAN,))
    assert not has_ended
    assert isinstance(result, RetrieveResult)
    assert (result.status, result.completed) == (WITH_FAILURES, 5)
    assert result.failed_uids == (uid(3),)
    assert received == uids(1, 2, 4, 5, 6)


async def test_get_aborts_where_an_object_ends_in_its_middle() -> None:
    """Half of it has left: nothing else can say that the rest will not come."""
    opened_times = 0

    def fails_later(reader: ObjectReader) -> ObjectReader:
        """It was examined, and then the disk failed."""
        nonlocal opened_times
        opened_times += 1
        return reader if opened_times == 1 else Damaged(reader)

    async with archive_of(2, large=(1,), damaged={1: fails_later}) as archive:
        aborted, received, _ = await get(archive, (IMPLICIT_VR_LITTLE_ENDIAN,))
    assert isinstance(aborted, AssociationAbortedError)
    assert received == []
    assert opened_times == 2
