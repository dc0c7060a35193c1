"""Every status that the conformance statement prints, provoked.

That no other one is sent is watched by every test of services (`answered` of the conftest).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
import trio
from pydicom.dataset import Dataset

from isocenter.engine.dataset import EXPLICIT_LITTLE, write_data_set
from isocenter.engine.dimse.message_codec import (
    CEchoRequest,
    CFindRequest,
    CGetRequest,
    CMoveRequest,
    CStoreRequest,
    NActionRequest,
    NCreateRequest,
    NEventReportRequest,
    NGetRequest,
    NSetRequest,
    Request,
    response_to,
)
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from isocenter.services import composition
from isocenter.services.archive.index.query import Level
from isocenter.services.archive.rejection.ports import NoteRow, NoteState
from isocenter.services.archive.rejection.reasons import RejectionReason
from isocenter.services.archive.rules.evaluation import Rules
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.association.service_registry import COMMON_STATUSES, ServiceRegistry
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.film.film import Film
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.errors import StorageError
from isocenter.services.service_classes.client import ClientAssociation, open_association
from isocenter.services.service_classes.commitment.transaction import (
    REQUEST,
    STORAGE_COMMITMENT,
    WELL_KNOWN_INSTANCE,
)
from isocenter.services.service_classes.mpps.performed_step import MPPS, MPPS_RETRIEVE
from isocenter.services.service_classes.print import attributes as print_tags
from isocenter.services.service_classes.print.attributes import PRINTER_INSTANCE
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.ups.workitem import (
    FILTERED_SUBSCRIPTION,
    GLOBAL_SUBSCRIPTION,
    UPS_PULL,
    UPS_PUSH,
    UPS_QUERY,
    UPS_WATCH,
)
from isocenter.services.service_classes.worklist.entry import MODALITY_WORKLIST_FIND
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.rules import parse_rule
from services.archive_support import CT, STUDY, data_set, store, uid
from services.conftest import Answered
from services.service_classes.mpps.samples import begun, ended
from services.service_classes.print.samples import (
    BOX,
    SESSION,
    PrinterCaller,
    composed,
    gray_item,
)
from services.service_classes.ups.samples import LOCK, performed, progress, scheduled
from services.service_classes.ups.samples import UID as WORKITEM
from services.service_classes.worklist.samples import entry
from support.serving import Scripted, port_of, serving

BY_INSTANCE = sop_classes.COMPOSITE_INSTANCE_GET
MOVE_BY_INSTANCE = sop_classes.COMPOSITE_INSTANCE_MOVE
FIND, GET, MOVE = (
    sop_classes.STUDY_ROOT_FIND,
    sop_classes.STUDY_ROOT_GET,
    sop_classes.STUDY_ROOT_MOVE,
)
#: Enough that a C-CANCEL-RQ comes before the last.
MANY = 300
STEP = "1.2.826.0.1.3680043.10.999.77"
LIMITS = type(DEFAULT_LIMITS)(identifier=4_096)
TOO_LONG = write_data_set(
    [(0x00080052, "CS", b"STUDY"), (0x00091001, "UT", bytes(5_000))], EXPLICIT_LITTLE
)


def identifier(*keys: tuple[str, str], level: Level | None = Level.STUDY) -> bytes:
    return build_identifier(keys, level, EXPLICIT_VR_LITTLE_ENDIAN)


class Caller:
    """A client of the server, and what is behind it."""

    def __init__(
        self, association: ClientAssociation, parts: Any, registry: ServiceRegistry
    ) -> None:
        self.association = association
        self.archive, self.stores = parts.archive, parts.stores
        self.registry = registry
        #: Called before a C-STORE sub-operation is answered; its status.
        self.on_store: Callable[[Operation], Awaitable[int]]

    async def ask(
        self,
        request: Request,
        data: bytes | None = None,
        *,
        context: str = "",
        cancelled: bool = False,
    ) -> int:
        """The last status; with a C-CANCEL-RQ after the first response."""
        task = self.association._driver
        named = (
            context
            or getattr(request, "affected_sop_class_uid", "")
            or getattr(request, "requested_sop_class_uid", "")
        )
        (found,) = [c for c in self.association.contexts if c.abstract_syntax == named]
        invocation = await task.begin(found.context_id, request, data)
        try:
            while True:
                status = (await invocation.next()).message.status
                if status not in (0xFF00, 0xFF01):
                    return status
                if cancelled:
                    cancelled = False
                    await invocation.cancel()
        finally:
            task.finish(invocation)

    def message_id(self) -> int:
        return self.association.next_message_id()

    async def store(self, number: int = 1, data: bytes | None = None, **more: Any) -> int:
        fields = {"affected_sop_class_uid": CT, "affected_sop_instance_uid": uid(number)} | more
        request = CStoreRequest(message_id=self.message_id(), priority=0, **fields)
        return await self.ask(request, data_set(number) if data is None else data)

    async def query(self, model: str, keys: bytes | None, **more: Any) -> int:
        cancelled = more.pop("cancelled", False)
        kind = {
            GET: CGetRequest, MOVE: CMoveRequest, BY_INSTANCE: CGetRequest,
            MOVE_BY_INSTANCE: CMoveRequest,
        }.get(model, CFindRequest)  # fmt: skip
        request = kind(
            message_id=self.message_id(), affected_sop_class_uid=model, priority=0, **more
        )
        return await self.ask(request, keys, cancelled=cancelled)

    async def normalized(self, kind: Any, data: bytes | None, **fields: Any) -> int:
        return await self.ask(kind(message_id=self.message_id(), **fields), data)


@asynccontextmanager
async def calling(*scp_of: str, **overrides: Any) -> AsyncIterator[Caller]:
    """An archive of everything, with a destination DEST; we are SCP of some classes."""
    caller: Caller

    async def perform(operation: Operation) -> None:
        async for _ in operation.fragments():
            pass
        await operation.respond(response_to(operation.request, await caller.on_store(operation)))

    contexts = [
        (each, (EXPLICIT_VR_LITTLE_ENDIAN,))
        for each in (
            VERIFICATION, CT, FIND, GET, MOVE, BY_INSTANCE, MOVE_BY_INSTANCE,
            MODALITY_WORKLIST_FIND, MPPS, MPPS_RETRIEVE,
            STORAGE_COMMITMENT, UPS_PUSH, UPS_PULL, UPS_WATCH, UPS_QUERY, print_tags.GRAYSCALE_META,
            print_tags.PRESENTATION_LUT,
        )
    ]  # fmt: skip
    async with serving(Scripted([CT], perform)) as destination:
        settings = load_settings(
            environ={},
            overrides={
                "storage.data_dir": ":memory:",
                "tls.enabled": False,
                "peers": [f"DEST@127.0.0.1:{port_of(destination)}"],
            }
            | {name.replace("__", "."): value for name, value in overrides.items()},
        )
        async with composition.open_archive_parts(settings) as parts:
            registry = composition.build_services(settings, parts.archive, parts.stores, None)
            async with (
                serving(*registry.services, limits=LIMITS) as server,
                open_association(
                    Peer("ISOCENTER", "127.0.0.1", port_of(server)),
                    contexts,
                    scp_roles=scp_of,
                    provider=perform,
                ) as association,
            ):
                caller = Caller(association, parts, registry)

                async def success(operation: Operation) -> int:
                    return 0

                caller.on_store = success
                yield caller


def complete(caller: Caller, answered: Answered, name: str) -> None:
    """All that the service declares was answered, but what it shares with all others."""
    (service,) = [each for each in caller.registry.services if each.name == name]
    left = {f"{status:04X}" for status in set(service.statuses) - answered[name]}
    assert left == set(), f"not provoked: {sorted(left)}"


async def test_storage(answered: Answered, monkeypatch: pytest.MonkeyPatch) -> None:
    async with calling() as caller:
        assert await caller.store(1) == 0x0000
        assert await caller.store(1, data_set(1, pixels=b"\4\3\2\1")) == 0xB007
        assert await caller.store(2, data_set(3)) == 0xA900
        assert await caller.store(2, b"\xff" * 40) == 0xC000
        assert await caller.store(2, affected_sop_instance_uid="../1") == 0x0117
        note = NoteRow(
            sop_instance_uid=uid(9), study_instance_uid=STUDY, state=NoteState.DUE, reason=None,
            actor="", text="", at=0.0,
        )  # fmt: skip
        await caller.stores.rejections.announce(note, b"")
        await caller.stores.rejections.reject(uid(9), RejectionReason.PATIENT_SAFETY, [uid(6)])
        assert await caller.store(6) == 0x0124
        rule = {"name": "r", "coerce": [{"set": "PatientID", "value": "NEW"}]}
        caller.archive.exchange_rules(Rules([parse_rule(rule)]))
        assert await caller.store(4) == 0xB000

        async def full(*_: Any) -> Any:
            raise StorageError("no room", out_of_resources=True)

        monkeypatch.setattr(caller.archive.store, "stage", full)
        assert await caller.store(5) == 0xA700
    async with calling(storage__duplicates="reject") as caller:
        assert await caller.store(1) == 0x0000
        assert await caller.store(1) == 0x0111
        complete(caller, answered, "storage")


async def test_query(answered: Answered) -> None:
    async with calling(query__max_results=MANY - 1) as caller:
        for number in range(1, MANY + 1):
            await store(caller.archive, number, data_set(number, study=f"{STUDY}.{number}"))
        all_studies = identifier(("StudyInstanceUID", ""))
        assert await caller.query(FIND, identifier(("StudyInstanceUID", f"{STUDY}.1"))) == 0
        assert await caller.query(FIND, identifier(("SeriesNumber", "1")), cancelled=True) == 0xFE00
        assert await caller.query(FIND, all_studies) == 0xA700
        assert await caller.query(FIND, TOO_LONG) == 0xA700
        assert await caller.query(FIND, identifier(level=None)) == 0xA900
        assert await caller.query(FIND, None) == 0xA900
        assert await caller.query(FIND, b"\xff" * 40) == 0xC000
        complete(caller, answered, "query")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (GET, "get"),
        (MOVE, "move"),
        (BY_INSTANCE, "get by instance"),
        (MOVE_BY_INSTANCE, "move by instance"),
    ],
)
async def test_retrieve(model: str, name: str, answered: Answered) -> None:
    more = {"move_destination": "DEST"} if model in (MOVE, MOVE_BY_INSTANCE) else {}
    wanted = identifier(("StudyInstanceUID", STUDY))
    is_by_instance = model in (BY_INSTANCE, MOVE_BY_INSTANCE)
    if is_by_instance:
        uids = "\\".join(map(uid, range(1, 6)))
        wanted = identifier(("SOPInstanceUID", uids), level=Level.IMAGE)
    async with calling(CT, query__max_suboperations=4) as caller:
        for number in (1, 2, 3):
            await store(caller.archive, number)

        async def retrieve(keys: bytes | None = wanted, **other: Any) -> int:
            return await caller.query(model, keys, **(more | other))

        assert await retrieve() == 0x0000
        caller.archive.locks.wait_seconds = 0.0
        async with caller.archive.locks.exclusive(STUDY, "somebody who corrects it"):
            assert await retrieve() == 0xA702
        assert await retrieve() == 0x0000
        statuses = [0xA900, 0, 0]

        async def answer_next(operation: Operation) -> int:
            return statuses.pop()

        caller.on_store = answer_next
        assert await retrieve() == 0xB000

        async def refuse(operation: Operation) -> int:
            return 0xA700

        caller.on_store = refuse
        assert await retrieve() == 0xA702
        cancelling = trio.Event()

        async def wait(operation: Operation) -> int:
            # The second is answered when the C-CANCEL-RQ has come.
            if cancelling.is_set():
                await trio.testing.wait_all_tasks_blocked(0.01)
            cancelling.set()
            return 0

        caller.on_store = wait
        assert await retrieve(cancelled=True) == 0xFE00
        assert await retrieve(TOO_LONG) == 0xA702
        assert await retrieve(identifier(level=None)) == 0xA900
        assert await retrieve(b"\xff" * 40) == 0xC000
        for number in (4, 5):
            await store(caller.archive, number)
        assert await retrieve() == 0xA701
        if is_by_instance:
            await frames(caller, retrieve)
        if more:
            assert await retrieve(move_destination="NOWHERE") == 0xA801
        complete(caller, answered, name)


async def frames(caller: Caller, retrieve: Callable[[bytes], Awaitable[int]]) -> None:
    """What is answered who asks for frames."""

    def asked(number: int, *keys: tuple[str, str]) -> bytes:
        level = ("QueryRetrieveLevel", "FRAME")
        return identifier(level, ("SOPInstanceUID", uid(number)), *keys, level=None)

    image = multi_frame(6, frames=3)
    await store(caller.archive, 6, image)
    assert await retrieve(asked(6, ("SimpleFrameList", "4"))) == 0xAA00
    assert await retrieve(asked(1, ("SimpleFrameList", "1"))) == 0xAA01
    await store(caller.archive, 8, multi_frame(8, frames=3, said=9))
    assert await retrieve(asked(8, ("SimpleFrameList", "1"))) == 0xAA02
    assert await retrieve(asked(6, ("TimeRange", "0\\1"))) == 0xAA03
    assert await retrieve(asked(6, ("SimpleFrameList", "2\\1"))) == 0xAA04


def multi_frame(number: int, *, frames: int, said: int = 0) -> bytes:
    """Frames of 2 × 2 pixels of a byte."""
    return write_data_set(
        [
            (0x00080016, "UI", CT.encode()),
            (0x00080018, "UI", uid(number).encode()),
            (0x0020000D, "UI", b"1.2.7"),
            (0x0020000E, "UI", b"1.2.7.1"),
            (0x00280002, "US", b"\1\0"),
            (0x00280004, "CS", b"MONOCHROME2"),
            (0x00280008, "IS", str(said or frames).encode()),
            (0x00280010, "US", b"\2\0"),
            (0x00280011, "US", b"\2\0"),
            (0x00280100, "US", b"\10\0"),
            (0x00280101, "US", b"\10\0"),
            (0x00280102, "US", b"\7\0"),
            (0x00280103, "US", b"\0\0"),
            (0x7FE00010, "OB", bytes(range(4 * frames))),
        ],
        EXPLICIT_LITTLE,
    )


async def test_worklist(answered: Answered) -> None:
    model = MODALITY_WORKLIST_FIND
    async with calling(worklist__max_results=MANY - 1) as caller:
        await caller.stores.worklist.put(
            [entry(number) for number in range(1, MANY + 1)], source="test"
        )
        every = identifier(("PatientID", ""), level=None)
        assert await caller.query(model, identifier(("PatientID", "NOBODY"), level=None)) == 0
        assert await caller.query(model, every, cancelled=True) == 0xFE00
        unused = identifier(("PatientID", ""), ("(0008,0201)", "+0100"), level=None)
        assert await caller.query(model, unused, cancelled=True) == 0xFE00
        assert await caller.query(model, every) == 0xA700
        assert await caller.query(model, identifier(("PatientID", "\\"), level=None)) == 0xA900
        assert await caller.query(model, b"\xff" * 40) == 0xC000
        complete(caller, answered, "worklist")


async def test_performed_procedure_steps(answered: Answered) -> None:
    async with calling() as caller:

        def encoded(data: Any) -> bytes:
            return AttributeList.from_dataset(data).encode(EXPLICIT_VR_LITTLE_ENDIAN)

        async def create(data: Any, uid: str = STEP) -> int:
            return await caller.normalized(
                NCreateRequest, data if data is None or isinstance(data, bytes) else encoded(data),
                affected_sop_class_uid=MPPS, affected_sop_instance_uid=uid,
            )  # fmt: skip

        async def change(data: Any, uid: str = STEP) -> int:
            return await caller.normalized(
                NSetRequest, encoded(data), requested_sop_class_uid=MPPS,
                requested_sop_instance_uid=uid,
            )  # fmt: skip

        assert await create(None) == 0x0120
        assert await create(b"\x08\x00\x60\x00CS\xff\xff") == 0x0110
        assert await create(begun(), "../1") == 0x0117
        assert await create(TOO_LONG) == 0x0213
        empty = begun()
        empty.PerformedProcedureStepID = ""
        assert await create(empty) == 0x0121
        wrong = begun()
        wrong.PerformedProcedureStepStatus = "COMPLETED"
        assert await create(wrong) == 0x0106
        assert await create(begun()) == 0x0000
        assert await create(begun()) == 0x0111
        assert await change(ended(), "1.2.3") == 0x0112
        name = begun()
        for element in list(name):
            if element.keyword != "PatientName":
                del name[element.tag]
        name.PatientName = "Other"
        assert await change(name) == 0x0105
        complete(caller, answered, "performed procedure steps")

        async def get(uid: str = STEP, tags: Sequence[int] = ()) -> int:
            return await caller.normalized(
                NGetRequest, None, requested_sop_class_uid=MPPS_RETRIEVE,
                requested_sop_instance_uid=uid, attribute_identifier_list=tuple(tags),
            )  # fmt: skip

        assert await get() == 0x0000
        assert await get(tags=[0x00080060, 0x00091001]) == 0x0001
        assert await get("1.2.3") == 0x0112
        assert await get("../1") == 0x0117
        complete(caller, answered, "attributes")


async def test_unified_procedure_steps(answered: Answered) -> None:
    def encoded(data: Any) -> bytes | None:
        if data is None or isinstance(data, bytes):
            return data
        return AttributeList.from_dataset(data).encode(EXPLICIT_VR_LITTLE_ENDIAN)

    def said(**values: Any) -> Dataset:
        made = Dataset()
        for keyword, value in values.items():
            setattr(made, keyword, value)
        return made

    async with calling(ups__max_results=MANY - 1, ups__deletion_locks=False) as caller:

        async def create(data: Any, uid: str = WORKITEM) -> int:
            return await caller.normalized(
                NCreateRequest, encoded(data), affected_sop_class_uid=UPS_PUSH,
                affected_sop_instance_uid=uid,
            )  # fmt: skip

        async def change(data: Any, uid: str = WORKITEM, lock: str = "") -> int:
            if lock:
                data.TransactionUID = lock
            request = NSetRequest(
                message_id=caller.message_id(), requested_sop_class_uid=UPS_PUSH,
                requested_sop_instance_uid=uid,
            )  # fmt: skip
            return await caller.ask(request, encoded(data), context=UPS_PULL)

        async def get(uid: str = WORKITEM, tags: Sequence[int] = ()) -> int:
            request = NGetRequest(
                message_id=caller.message_id(), requested_sop_class_uid=UPS_PUSH,
                requested_sop_instance_uid=uid, attribute_identifier_list=tuple(tags),
            )  # fmt: skip
            return await caller.ask(request, context=UPS_WATCH)

        async def act(
            kind: int, uid: str = WORKITEM, context: str = UPS_PULL, **values: Any
        ) -> int:
            request = NActionRequest(
                message_id=caller.message_id(), requested_sop_class_uid=UPS_PUSH,
                requested_sop_instance_uid=uid, action_type_id=kind,
            )  # fmt: skip
            return await caller.ask(request, encoded(said(**values)), context=context)

        async def state(wanted: str, lock: str = LOCK, uid: str = WORKITEM) -> int:
            return await act(1, uid, ProcedureStepState=wanted, TransactionUID=lock)

        async def subscribe(
            uid: str = WORKITEM, ae: str = "DEST", kind: int = 3, **more: Any
        ) -> int:
            return await act(kind, uid, UPS_WATCH, ReceivingAE=ae, **more)

        async def cancel(uid: str = WORKITEM) -> int:
            return await act(2, uid, UPS_WATCH)

        assert await create(None) == 0x0120
        assert await create(scheduled(), "") == 0x0120
        assert await create(b"\x08\x00\x60\x00CS\xff\xff") == 0x0110
        assert await create(scheduled(), "../1") == 0x0117
        assert await create(scheduled(), GLOBAL_SUBSCRIPTION) == 0x0117
        assert await create(TOO_LONG) == 0x0213
        assert await create(scheduled(ProcedureStepLabel="")) == 0x0121
        assert await create(scheduled(InputReadinessState="MAYBE")) == 0x0106
        assert await create(scheduled(ProcedureStepState="IN PROGRESS")) == 0xC309
        assert await create(scheduled(WorklistLabel=""), f"{WORKITEM}.1") == 0xB300
        assert await create(scheduled()) == 0x0000
        assert await create(scheduled()) == 0x0111
        assert await get() == 0x0000
        assert await get(tags=[0x00081195]) == 0x0001
        assert await get("1.2.3") == 0xC307
        assert await change(progress("5"), "1.2.3") == 0xC307
        assert await change(said(PatientID="OTHER")) == 0x0105
        assert await change(progress("5"), lock=LOCK) == 0xC310
        assert await state("COMPLETED") == 0xC310
        assert await state("SCHEDULED") == 0xC303
        assert await state("DONE") == 0x0115
        assert await state("IN PROGRESS", uid="1.2.3") == 0xC307
        assert await act(1) == 0x0120
        assert await act(3) == 0x0123
        assert await act(1, context=UPS_PUSH) == 0x0123
        assert await state("IN PROGRESS", "") == 0xC301
        assert await state("IN PROGRESS") == 0x0000
        assert await state("IN PROGRESS") == 0xC302
        assert await change(progress("5")) == 0xC301
        assert await cancel() == 0xC312
        assert await subscribe(ae="NOWHERE") == 0xC308
        assert await subscribe(ae="NOWHERE", kind=4) == 0xC308
        assert await subscribe(ae="") == 0x0120
        assert await subscribe("1.2.3") == 0xC307
        assert await subscribe("1.2.3", kind=4) == 0xC307
        assert await subscribe(DeletionLock="MAYBE") == 0x0115
        assert await subscribe(DeletionLock="TRUE") == 0xB301
        assert await subscribe(kind=5) == 0xC314
        assert await subscribe(FILTERED_SUBSCRIPTION) == 0xC314
        assert await subscribe(FILTERED_SUBSCRIPTION, PatientID=["", ""]) == 0x0115
        assert await subscribe(GLOBAL_SUBSCRIPTION) == 0x0000
        assert await cancel(GLOBAL_SUBSCRIPTION) == 0xC314
        assert await cancel() == 0x0000
        assert await state("COMPLETED") == 0xC304
        assert await change(performed(), lock=LOCK) == 0x0000
        assert await state("COMPLETED") == 0x0000
        assert await state("COMPLETED") == 0xB306
        assert await change(progress("5"), lock=LOCK) == 0xC300
        assert await cancel() == 0xC311
        assert await cancel(f"{WORKITEM}.1") == 0x0000
        assert await cancel(f"{WORKITEM}.1") == 0xB304
        for number in range(MANY):
            await create(scheduled(), f"{WORKITEM}.2.{number}")
        every = identifier(("PatientID", ""), level=None)
        assert await caller.query(UPS_QUERY, identifier(("PatientID", "X"), level=None)) == 0
        assert await caller.query(UPS_PULL, every, cancelled=True) == 0xFE00
        unused = identifier(("PatientID", ""), ("(0008,0201)", "+0100"), level=None)
        assert await caller.query(UPS_WATCH, unused, cancelled=True) == 0xFE00
        assert await caller.query(UPS_QUERY, every) == 0xA700
        assert await caller.query(UPS_QUERY, identifier(("PatientID", "\\"), level=None)) == 0xA900
        assert await caller.query(UPS_QUERY, b"\xff" * 40) == 0xC000
        complete(caller, answered, "unified procedure steps")


async def test_print_management(answered: Answered, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = {"print__enabled": True, "print__outputs": [], "print__max_jobs": 1}
    async with calling(**outside, print__max_films=2) as caller:
        (scp,) = [one for one in caller.registry.services if one.name == "print management"]
        printer = PrinterCaller(caller.association, scp, caller.stores)
        monkeypatch.setattr(scp._desk, "_compose", composed)
        assert await printer.session(MemoryAllocation=1) == 0xB600
        assert await printer.session() == 0x0111
        assert await printer.print(print_tags.FILM_SESSION, SESSION) == 0xC600
        assert await printer.session("1..2") == 0x0117
        assert await printer.print() == 0x0112
        assert await printer.box(session="") == 0x0120
        assert await printer.box(ImageDisplayFormat="") == 0x0121
        assert await printer.box(ImageDisplayFormat="SLIDE") == 0x0106
        assert await printer.box(MaxDensity=999) == 0xB605
        assert await printer.box("1.2.3", MagnificationType="NONE") == 0
        boxes = printer.boxes
        assert await printer.box("1.2.4") == 0x0213
        printer.boxes = boxes
        assert await printer.set(print_tags.FILM_BOX, BOX, FilmSizeID="A3") == 0x0105
        large = {"item": gray_item(np.zeros((8, 1250), np.uint8))}
        assert await printer.image(1, **large) == 0xB604
        crop = "RequestedDecimateCropBehavior"
        assert await printer.image(1, **large, **{crop: "CROP"}) == 0xB609
        assert await printer.image(1, **large, **{crop: "DECIMATE"}) == 0xB60A
        assert await printer.image(1, **large, **{crop: "FAIL"}) == 0xC603
        with monkeypatch.context() as patch:
            patch.setattr(scp._memory, "limit", scp._memory.taken)
            assert await printer.image() == 0xC605
        assert await printer.get(print_tags.PRINTER, PRINTER_INSTANCE, [0x00100010]) == 0x0107
        assert await printer.print(action=9) == 0x0123

        async def fail(film: Film) -> bytes:
            raise ImageError("no")

        monkeypatch.setattr(scp._desk, "_compose", fail)
        assert await printer.print() == 0x0110
        monkeypatch.setattr(scp._desk, "_compose", composed)
        assert await printer.print() == 0xB603
        assert await printer.print() == 0xC602
        assert await printer.print(print_tags.FILM_SESSION, SESSION) == 0xC601
        (job,) = await caller.stores.print_jobs.jobs(limit=9)
        assert await caller.stores.print_jobs.cancel(job.job_uid)
        assert await printer.delete(print_tags.FILM_BOX, "1.2.3") == 0
        assert await printer.print(print_tags.FILM_SESSION, SESSION) == 0xB602
        complete(caller, answered, "print management")


async def test_storage_commitment(answered: Answered) -> None:
    item = [(0x00081150, "UI", CT.encode()), (0x00081155, "UI", uid(1).encode())]

    def asked(transaction: bytes | None, items: list[Any]) -> bytes:
        elements: list[Any] = [(0x00081199, "SQ", items)]
        if transaction is not None:
            elements.insert(0, (0x00081195, "UI", transaction))
        return write_data_set(elements, EXPLICIT_LITTLE)

    rules = '[{name = "r", forward = "DEST", commit = true}]'
    async with calling() as caller:

        async def act(data: bytes | None, **more: Any) -> int:
            fields = {
                "requested_sop_class_uid": STORAGE_COMMITMENT,
                "requested_sop_instance_uid": WELL_KNOWN_INSTANCE,
                "action_type_id": REQUEST,
            }
            return await caller.normalized(NActionRequest, data, **(fields | more))

        good = asked(b"1.2.3", [item])
        assert await act(good) == 0x0000
        assert await act(good, action_type_id=2) == 0x0123
        assert await act(good, requested_sop_instance_uid="1.2") == 0x0112
        assert await act(None) == 0x0120
        assert await act(asked(b"1.2.3", [])) == 0x0121
        assert await act(asked(b"1..2", [item])) == 0x0115
        assert await act(TOO_LONG) == 0x0213
        assert await act(b"\x08\x00\x95\x11UI\xff\xff") == 0x0110
        complete(caller, answered, "storage commitment")
    rules = '[{name = "r", forward = "DEST", commit = true}]'
    async with calling(STORAGE_COMMITMENT, rules=rules) as caller:

        async def report(data: bytes | None, **more: Any) -> int:
            fields = {
                "affected_sop_class_uid": STORAGE_COMMITMENT,
                "affected_sop_instance_uid": WELL_KNOWN_INSTANCE,
                "event_type_id": 1,
            }
            return await caller.normalized(NEventReportRequest, data, **(fields | more))

        assert await report(good, event_type_id=3) == 0x0113
        assert await report(good, affected_sop_instance_uid="1.2") == 0x0112
        assert await report(good) == 0x0115
        assert await report(None) == 0x0120
        assert await report(TOO_LONG) == 0x0213
        complete(caller, answered, "storage commitment")


async def test_any_operation(answered: Answered) -> None:
    """But for 0124H and 0212H, which need a policy and a command that no encoder makes."""
    async with calling() as caller:
        echo = CEchoRequest(message_id=caller.message_id(), affected_sop_class_uid=VERIFICATION)
        assert await caller.ask(echo) == 0x0000
        complete(caller, answered, "verification")
        get = NGetRequest(
            message_id=caller.message_id(),
            requested_sop_class_uid=VERIFICATION,
            requested_sop_instance_uid="1.2.3",
            attribute_identifier_list=(),
        )
        assert await caller.ask(get) == 0x0211
        other = CEchoRequest(message_id=caller.message_id(), affected_sop_class_uid=CT)
        assert await caller.ask(other, context=VERIFICATION) == 0x0122

        async def fail(*_: Any, **__: Any) -> Any:
            raise RuntimeError("a fault of ours")

        caller.archive.receive = fail
        assert await caller.store(1) == 0x0110
    assert {status for seen in answered.values() for status in seen} >= {0x0110, 0x0122, 0x0211}
    assert set(COMMON_STATUSES) == {0x0110, 0x0117, 0x0122, 0x0124, 0x0210, 0x0211, 0x0212}
