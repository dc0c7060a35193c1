"""What clients do: store, ask, retrieve, cancel and leave, with little regard for manners."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from isocenter.engine.dimse.message_codec import CCancelRequest, CStoreRequest, encode_message
from isocenter.engine.dimse.status import Status
from isocenter.engine.errors import AssociationError, LocalProtocolError
from isocenter.engine.pdv import encode_fragments
from isocenter.engine.uid import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
)
from isocenter.services.archive.index.attributes import Level
from isocenter.services.association.operation import Operation
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.objects import DicomObject, MemoryReader
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.errors import ConnectError, OperationError
from isocenter.services.service_classes.client import ClientAssociation, open_association
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from services.archive_support import CT
from simulation.ledger import Ledger, Thing, make_thing
from simulation.node import Node
from simulation.wire import OWNER, End
from simulation.world import World
from support.outcomes import outcome

SYNTAXES: Final = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
#: How often a client finds nobody listening before it gives up, and what it waits in between.
_ATTEMPTS: Final = 10
_PAUSE_SECONDS: Final = 15.0
#: Sent at most in one presentation data value by clients that inject a C-CANCEL-RQ.
_SMALL: Final = 16 << 10
#: The head of an element and no more: read in explicit VR its length is missing, in implicit
#: VR its value.
_TORN_ELEMENT: Final = bytes.fromhex("e17f10004f420000")
_CONTEXTS: Final = (
    *((CT, (syntax,)) for syntax in SYNTAXES),
    (VERIFICATION, BASIC_SYNTAXES),
    (sop_classes.STUDY_ROOT_FIND, BASIC_SYNTAXES),
    (sop_classes.STUDY_ROOT_GET, BASIC_SYNTAXES),
    (sop_classes.STUDY_ROOT_MOVE, BASIC_SYNTAXES),
)


def _by_study(study: str) -> Callable[[str], bytes]:
    return lambda syntax: build_identifier([("StudyInstanceUID", study)], Level.STUDY, syntax)


def _images_of(study: str) -> Callable[[str], bytes]:
    keys = [
        ("StudyInstanceUID", study),
        ("SeriesInstanceUID", f"{study}.1"),
        ("SOPInstanceUID", ""),
    ]
    return lambda syntax: build_identifier(keys, Level.IMAGE, syntax)


class Client:
    """One application entity that uses an archive.

    Args:
        destination: where it has objects moved to, and what that must hold.
        things: how many different objects there are, for all clients.
        is_fair: whether nothing may fail.
    """

    def __init__(
        self,
        world: World,
        name: str,
        archive: Node,
        ledger: Ledger,
        destination: str,
        *,
        things: int,
        studies: int,
        most_bytes: int,
        window: int,
        max_pdu_length: int,
        is_fair: bool,
    ) -> None:
        self._world = world
        self._name = name
        self._archive = archive
        self._ledger = ledger
        self._destination = destination
        self._things = things
        self._studies = studies
        self._most_bytes = most_bytes
        self._window = window
        self._max_pdu_length = max_pdu_length
        self._is_fair = is_fair
        self._sent: list[Thing] = []

    async def run(self, associations: int) -> None:
        """One association after the other."""
        OWNER.set(self._name)
        random = self._world.random
        for _ in range(associations):
            await trio.sleep(random.choice((0, 0.01, 1, 20)) * random.random())
            with trio.CancelScope() as scope:
                if random.random() < 0.1:
                    scope.deadline = trio.current_time() + random.choice((0.01, 0.5, 5, 60))
                ending = await self._trying(self._associate)
            if scope.cancelled_caught:
                ending = "cancelled"
            self._world.note(f"{self._name}: association {ending}")

    async def _trying(self, work: Callable[[], Awaitable[str]]) -> str:
        """What became of it; faults of the network and refusals are no surprise."""
        try:
            return await work()
        except (AssociationError, ConnectError, OperationError) as error:
            ended = f"ended: {type(error).__name__}: {error}"
            self._world.check(not self._is_fair, f"{self._name}: in fair weather {ended}")
            return ended

    async def _associate(self) -> str:
        """Try again for a while when nobody listens: the archive may just be starting."""
        for _ in range(_ATTEMPTS):
            try:
                return await self._association()
            except ConnectError:
                await trio.sleep(_PAUSE_SECONDS)
        return await self._association()

    async def _association(self) -> str:
        random = self._world.random
        # Whoever takes the SCP role to be sent objects by C-GET does not store any (D.3.3.4).
        gets = random.random() < 0.3
        async with open_association(
            self._archive.peer,
            _CONTEXTS,
            calling_ae_title=self._name.upper(),
            scp_roles=[CT] if gets else [],
            operations_window=self._window,
            max_pdu_length=self._max_pdu_length,
        ) as association:
            self._world.note(f"{self._name}: associated")
            getting = trio.Lock()
            for _ in range(random.randint(1, 6)):
                together = 1 if self._window == 1 else random.randint(1, 6)
                async with trio.open_nursery() as nursery:
                    for _ in range(together):
                        nursery.start_soon(self._act, association, getting if gets else None)
            match random.random():
                case chance if chance < 0.10:
                    await association.abort()
                    return "aborted"
                case chance if chance < 0.15:
                    await association._driver.transport.aclose()
                    return "left without a word"
        return "released"

    async def _act(self, association: ClientAssociation, getting: trio.Lock | None) -> None:
        random = self._world.random
        act, name = random.choices(
            (
                (self._store, "store") if getting is None else (self._get, "get"),
                (self._echo, "echo"),
                (self._find, "find"),
                (self._move, "move"),
                (self._stray_cancel, "stray C-CANCEL-RQ"),
                (self._die, "death"),
            ),
            weights=(10, 2, 3, 2, 1, 0 if self._is_fair else 0.5),
        )[0]

        self._world.note(f"{self._name}: {name} …")

        async def work() -> str:
            if name == "get":
                assert getting is not None
                async with getting:  # a client has one place for what C-GET brings
                    return await act(association)
            return await act(association)

        try:
            result = await self._trying(work)
        except LocalProtocolError as error:
            result = f"not allowed: {error}"
            self._world.violation(f"{self._name}: {name}: {result}")
        self._world.note(f"{self._name}: {name}: {result}")

    # -- What it does -----------------------------------------------------------------

    async def _echo(self, association: ClientAssociation) -> str:
        try:
            return f"{await association.echo():04X}H"
        except OperationError as error:
            return f"{error.status:04X}H"

    async def _store(self, association: ClientAssociation) -> str:
        thing = self._next_thing()
        attempt = self._ledger.begin(thing)
        response = await outcome(association.store(self._object_of(thing)))
        self._ledger.answered(attempt, response.status)
        return f"{thing.uid}, {len(thing.data)} bytes: {response.status:04X}H"

    def _next_thing(self) -> Thing:
        random = self._world.random
        if self._sent and random.random() < 0.25:
            return random.choice(self._sent)  # the same again
        thing = make_thing(
            self._world,
            random.randrange(self._things),
            self._studies,
            random.choice(SYNTAXES),
            self._most_bytes,
        )
        if random.random() < 0.05:
            data = thing.data + _TORN_ELEMENT
            return Thing(thing.uid, thing.study, thing.transfer_syntax, data, broken=True)
        self._sent.append(thing)
        return thing

    def _object_of(self, thing: Thing) -> DicomObject:
        async def opened() -> MemoryReader:
            return _SlowReader(self._world, thing.data)

        # In one to nine parts: a data set leaves in several P-DATA-TF.
        return DicomObject(
            sop_class_uid=CT,
            sop_instance_uid=thing.uid,
            transfer_syntax_uid=thing.transfer_syntax,
            open=opened,
            name=thing.uid,
            part_length=max(2, len(thing.data) // self._world.random.randint(1, 8) & ~1),
        )

    def _some_study(self) -> str:
        return f"1.2.3.{self._world.random.randint(1, self._studies)}"

    async def _find(self, association: ClientAssociation) -> str:
        random = self._world.random
        study = self._some_study()
        acknowledged = self._ledger.acknowledged(study)
        enough = random.randint(0, 3) if random.random() < 0.3 else None
        found = []
        async with association.find(_images_of(study)) as matches:
            try:
                async for match in matches:
                    found.append(str(match.SOPInstanceUID))
                    if enough is not None and len(found) > enough:
                        break
            except OperationError as error:
                if error.status != Status.CANCEL:  # a stray one may hit it
                    raise
        if matches.status == 0x0000:
            self._ledger.found(study, found, acknowledged, f"{self._name}: find")
        if enough is not None and random.random() < 0.5:
            await self._inject_cancel(association, matches._request.message_id)  # too late
        return f"{len(found)} of {study}: {matches.status:04X}H"

    async def _get(self, association: ClientAssociation) -> str:
        study = self._some_study()
        acknowledged = self._ledger.acknowledged(study)
        received = set()

        async def receive(operation: Operation, request: CStoreRequest) -> int:
            data = await operation.data_set(max_bytes=1 << 30)
            uid = request.affected_sop_instance_uid
            self._ledger.received(uid, operation.context.transfer_syntax, data)
            received.add(uid)
            if self._world.random.random() < 0.05:
                await trio.sleep(self._world.random.choice((0.1, 2, 30)))
            return 0x0000

        with trio.CancelScope() as scope:
            # Cancelled in the middle of a message it ends the association for all.
            if not self._is_fair and self._world.random.random() < 0.25:
                scope.deadline = trio.current_time() + 2 * self._world.random.random() ** 3
            result = await outcome(association.get(_by_study(study), receive))
            self._world.check(
                result.completed == len(received) or result.failed > 0,
                f"{self._name}: {result.completed} were sent, {len(received)} received",
            )
            if result.status == 0x0000:
                self._ledger.found(study, received, acknowledged, f"{self._name}: get")
            return f"{len(received)} of {study}: {result.status:04X}H"
        return f"cancelled after {len(received)} of {study}"

    async def _move(self, association: ClientAssociation) -> str:
        study = self._some_study()
        acknowledged = self._ledger.acknowledged(study)
        with trio.CancelScope() as scope:
            # Cancelled in the middle of a message it ends the association for all.
            if not self._is_fair and self._world.random.random() < 0.25:
                scope.deadline = trio.current_time() + 2 * self._world.random.random() ** 3
            result = await outcome(association.move(_by_study(study), self._destination))
            if result.status == 0x0000:
                self._world.check(
                    len(acknowledged) <= result.completed <= len(self._ledger.sent(study)),
                    f"{self._name}: {result.completed} moved, {len(acknowledged)} acknowledged",
                )
            return f"{result.completed} of {study}, {result.failed} failed: {result.status:04X}H"
        return "cancelled"

    async def _die(self, association: ClientAssociation) -> str:
        """The machine loses its power: no word, no reset, nothing is read or sent any more."""
        transport = association._driver.transport
        assert isinstance(transport, End)
        transport.die()
        return "at once"

    async def audit(self) -> None:
        """Ask for everything, when nothing goes wrong any more, and retrieve it."""
        OWNER.set(self._name)
        async with open_association(
            self._archive.peer,
            _CONTEXTS,
            calling_ae_title=self._name.upper(),
            scp_roles=[CT],
        ) as association:
            for study in self._ledger.studies():
                acknowledged = self._ledger.acknowledged(study)
                found = [
                    str(match.SOPInstanceUID) async for match in association.find(_images_of(study))
                ]
                self._ledger.found(study, found, acknowledged, f"{study} in the end")
                received: list[str] = []

                async def receive(
                    operation: Operation, request: CStoreRequest, received: list[str] = received
                ) -> int:
                    data = await operation.data_set(max_bytes=1 << 30)
                    uid = request.affected_sop_instance_uid
                    self._ledger.received(uid, operation.context.transfer_syntax, data)
                    received.append(uid)
                    return 0x0000

                result = await outcome(association.get(_by_study(study), receive))
                self._world.check(result.failed == 0, f"{study}: {result.failed} cannot be sent")
                self._world.check(
                    sorted(received) == sorted(found), f"{study}: received is not what was found"
                )

    # -- C-CANCEL-RQ that the engine would not let us send -----------------------------

    async def _stray_cancel(self, association: ClientAssociation) -> str:
        """For anything: what is under way, once and again, what was, and what never will be."""
        random = self._world.random
        under_way = list(association._driver._engine.operations.invoked)
        message_id = random.choice([*under_way, random.randint(0, 0xFFFF)])
        for _ in range(random.randint(1, 3)):
            await self._inject_cancel(association, message_id)
        return f"{message_id}"

    async def _inject_cancel(self, association: ClientAssociation, message_id: int) -> None:
        task = association._driver
        async with task._message_lock:
            if not task.is_established:
                return
            command = encode_message(
                CCancelRequest(message_id_being_responded_to=message_id), has_data_set=False
            )
            context_id = self._world.random.choice(list(task.negotiated.contexts))
            await task._write(
                encode_fragments(
                    context_id, command, is_command=True, is_last=True, max_length=_SMALL
                )
            )


class _SlowReader(MemoryReader):
    def __init__(self, world: World, data: bytes) -> None:
        super().__init__(data)
        self._world = world

    async def read(self, offset: int, length: int) -> bytes:
        if self._world.happens(0.1):
            await trio.sleep(self._world.random.choice((0.01, 1, 20)))
        return await super().read(offset, length)
