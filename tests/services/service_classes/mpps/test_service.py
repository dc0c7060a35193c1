"""N-CREATE, N-SET and N-GET over an association, with the index database behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pydicom
import pytest
import trio
from pydicom.dataset import Dataset

from isocenter.engine.dataset import EXPLICIT_LITTLE, write_data_set
from isocenter.engine.dimse.message_codec import (
    CEchoRequest,
    NActionRequest,
    NCreateRequest,
    NDeleteRequest,
    NGetRequest,
    NSetRequest,
)
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.association.peer import Peer
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.notices import Notice, Notices, PerformedStepChanged, ProcedureRecordRead
from isocenter.services.service_classes.client import ClientAssociation, open_association
from isocenter.services.service_classes.mpps.manager import PerformedStepManager
from isocenter.services.service_classes.mpps.performed_step import (
    MPPS,
    MPPS_RETRIEVE,
    PerformedStep,
    StepState,
)
from isocenter.services.service_classes.mpps.scp import PerformedStepScp, retrieve_steps
from isocenter.services.service_classes.mpps.scu import CONTEXTS, create_step, get_step, set_step
from isocenter.services.service_classes.normalized.operations import n_get
from isocenter.storage.database.event_reports import DatabaseReports
from isocenter.storage.database.performed_steps import DatabaseSteps
from isocenter.storage.database.sqlite.database import SqliteDatabase, open_sqlite_database
from services.service_classes.mpps.samples import UID, begun, ended
from support.outcomes import outcome
from support.serving import port_of, serving

STATUS = 0x00400252
SYNTAXES = (
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
)


class Ris:
    """A server that takes steps, and an association with it."""

    def __init__(self, database: SqliteDatabase, association: ClientAssociation) -> None:
        self.database = database
        self.steps = DatabaseSteps(database)
        self.association = association

    async def state(self, uid: str = UID) -> StepState:
        step = await self.steps.get(uid)
        assert step is not None
        return step.state

    async def invoke(self, request: Any, dataset: Dataset | bytes | None = None) -> Any:
        """The response to a request that the client would not send."""
        contexts = {each.abstract_syntax: each for each in self.association.contexts}
        context = contexts[MPPS_RETRIEVE if isinstance(request, NGetRequest) else MPPS]
        if isinstance(dataset, Dataset):
            dataset = AttributeList.from_dataset(dataset).encode(context.transfer_syntax)
        return (await self.association.invoke(context.context_id, request, dataset)).message


@asynccontextmanager
async def ris(
    path: Path | Literal[":memory:"] = ":memory:",
    *,
    syntax: str = EXPLICIT_VR_LITTLE_ENDIAN,
    notices: Notices | None = None,
    limits: Any = DEFAULT_LIMITS,
    **options: Any,
) -> AsyncIterator[Ris]:
    async with open_sqlite_database(path) as database:
        steps = DatabaseSteps(database)
        services = [PerformedStepScp(PerformedStepManager(steps, **options)), retrieve_steps(steps)]
        async with serving(*services, notices=notices, limits=limits) as server:
            peer = Peer("RIS", "127.0.0.1", port_of(server))
            contexts = [(uid, (syntax,)) for uid, _ in CONTEXTS]
            async with open_association(peer, contexts, calling_ae_title="CT1") as association:
                yield Ris(database, association)


def request(kind: Any, **values: Any) -> Any:
    prefix = "affected" if kind is NCreateRequest else "requested"
    named = {f"{prefix}_sop_class_uid": MPPS, f"{prefix}_sop_instance_uid": UID} | values
    return kind(message_id=7, **named)


@pytest.mark.parametrize("syntax", SYNTAXES)
async def test_from_begin_to_end_in_every_encoding(syntax: str) -> None:
    async with ris(syntax=syntax) as peer:
        assert (await outcome(create_step(peer.association, UID, begun()))).status == 0
        assert await peer.state() is StepState.IN_PROGRESS
        assert (await outcome(set_step(peer.association, UID, ended()))).status == 0
        assert await peer.state() is StepState.COMPLETED
        answer = await outcome(get_step(peer.association, UID))
        assert answer.status == 0
        assert answer.attributes is not None
        expected = begun()
        expected.update(ended())
        assert answer.attributes.to_dataset() == expected


async def test_it_is_kept_before_it_is_acknowledged(tmp_path: Path) -> None:
    async with ris(tmp_path / "index.db") as peer:
        await outcome(create_step(peer.association, UID, begun()))
        async with open_sqlite_database(tmp_path / "index.db") as other:
            kept = await DatabaseSteps(other).get(UID)
            assert kept is not None
            assert kept.source_ae_title == "CT1"
            (row,) = await DatabaseSteps(other).rows(state=StepState.IN_PROGRESS)
            assert (row.modality, row.performed_step_id) == ("CT", "PPS1")


async def test_the_scp_makes_a_uid_when_there_is_none() -> None:
    async with ris() as peer:
        answer = await outcome(create_step(peer.association, "", begun()))
        assert answer.status == 0
        assert answer.sop_instance_uid.startswith("2.25.")
        assert await peer.state(answer.sop_instance_uid) is StepState.IN_PROGRESS


async def test_statuses_of_n_create() -> None:
    async with ris() as peer:
        response = await peer.invoke(request(NCreateRequest))
        assert response.status == 0x0120  # no data set
        without = begun()
        del without.Modality
        response = await peer.invoke(request(NCreateRequest), without)
        assert (response.status, response.attribute_identifier_list) == (0x0120, (0x00080060,))
        assert response.affected_sop_instance_uid == UID
        empty = begun()
        empty.PerformedProcedureStepID = ""
        response = await peer.invoke(request(NCreateRequest), empty)
        assert (response.status, response.attribute_identifier_list) == (0x0121, (0x00400253,))
        response = await peer.invoke(request(NCreateRequest), b"\x08\x00\x60\x00CS\xff\xff")
        assert response.status == 0x0110
        for bad in ("../x", "1..2", "x" * 64):
            response = await peer.invoke(
                request(NCreateRequest, affected_sop_instance_uid=bad), begun()
            )
            assert response.status == 0x0117
        other = request(NCreateRequest, affected_sop_class_uid="1.2.840.10008.5.1.4.1.1.2")
        assert (await peer.invoke(other, begun())).status == 0x0122
        assert await peer.steps.rows() == []
        assert (await peer.invoke(request(NCreateRequest), begun())).status == 0
        assert (await peer.invoke(request(NCreateRequest), begun())).status == 0x0111
        assert len(await peer.steps.rows()) == 1


async def test_a_wrong_status_comes_back_with_its_attribute() -> None:
    """F.7.2.1.3: 0106H with an Attribute List."""
    async with ris() as peer:
        wrong = begun()
        wrong.PerformedProcedureStepStatus = "COMPLETED"
        answer = await outcome(create_step(peer.association, UID, wrong))
        assert (answer.status, answer.attribute_identifiers) == (0x0106, (STATUS,))
        assert answer.attributes is not None
        assert answer.attributes.text(STATUS) == "COMPLETED"
        assert await peer.steps.rows() == []


async def test_statuses_of_n_set() -> None:
    async with ris() as peer:
        response = await peer.invoke(request(NSetRequest), ended())
        assert response.status == 0x0112
        await outcome(create_step(peer.association, UID, begun()))
        assert (await peer.invoke(request(NSetRequest))).status == 0x0120
        name = Dataset()
        name.PatientName = "Other"
        response = await peer.invoke(request(NSetRequest), name)
        assert (response.status, response.attribute_identifier_list) == (0x0105, (0x00100010,))
        early = Dataset()
        early.PerformedProcedureStepStatus = "COMPLETED"
        response = await peer.invoke(request(NSetRequest), early)
        assert response.status == 0x0121
        early.PerformedProcedureStepStatus = "SOMETHING"
        assert (await peer.invoke(request(NSetRequest), early)).status == 0x0106
        response = await peer.invoke(request(NSetRequest, requested_sop_instance_uid="a"), early)
        assert response.status == 0x0117
        assert await peer.state() is StepState.IN_PROGRESS
        assert (await peer.invoke(request(NSetRequest), ended(StepState.DISCONTINUED))).status == 0
        response = await peer.invoke(request(NSetRequest), ended())
        assert (response.status, response.error_id) == (0x0110, 0xA710)
        assert response.error_comment == "Performed Procedure Step Object may no longer be updated"
        assert await peer.state() is StepState.DISCONTINUED


async def test_other_operations_are_not_of_this_sop_class() -> None:
    async with ris() as peer:
        for kind, more in (
            (NActionRequest, {"action_type_id": 1}),
            (NDeleteRequest, {}),
        ):
            assert (await peer.invoke(request(kind, **more))).status == 0x0211
        echo = CEchoRequest(message_id=9, affected_sop_class_uid=MPPS)
        assert (await peer.invoke(echo)).status == 0x0211


async def test_what_is_too_large_is_refused_and_does_no_harm() -> None:
    limits = type(DEFAULT_LIMITS)(identifier=4_096)
    async with ris(limits=limits) as peer:
        large = begun()
        large.add_new(0x00191001, "UT", "x" * 5_000)
        assert (await outcome(create_step(peer.association, UID, large))).status == 0x0213
        deep: list[Any] = []
        for _ in range(70):
            deep = [(0x00081120, "SQ", [deep])]
        nested = write_data_set(deep, EXPLICIT_LITTLE)
        assert (await peer.invoke(request(NCreateRequest), nested)).status == 0x0213
        assert (await outcome(create_step(peer.association, UID, begun()))).status == 0


async def test_retrieving_some_attributes() -> None:
    async with ris() as peer:
        await outcome(create_step(peer.association, UID, begun()))
        answer = await outcome(get_step(peer.association, UID, [0x00100010, 0x00080060]))
        assert answer.status == 0
        assert answer.attributes is not None
        # The character set comes along, or the name could not be read.
        assert list(answer.attributes.elements) == [0x00080005, 0x00080060, 0x00100010]
        answer = await outcome(get_step(peer.association, UID, [0x00080060, 0x00400280]))
        assert (answer.status, answer.attribute_identifiers) == (0x0001, (0x00400280,))
        assert (await outcome(get_step(peer.association, "1.2.3"))).status == 0x0112
        assert (await outcome(get_step(peer.association, "1..3"))).status == 0x0117
        other = request(NGetRequest, requested_sop_class_uid="1.2.3")
        assert (await peer.invoke(other)).status == 0x0122
        named_as_created = request(NGetRequest)
        assert (await peer.invoke(named_as_created)).status == 0


async def test_who_has_read_a_step_is_told() -> None:
    heard: list[Notice] = []
    async with ris(notices=Notices(heard.append)) as peer:
        await outcome(create_step(peer.association, UID, begun()))
        assert (await outcome(get_step(peer.association, UID, [0x00080060]))).status == 0
        assert (await outcome(get_step(peer.association, "1.2.3"))).status == 0x0112
    (read,) = [one for one in heard if isinstance(one, ProcedureRecordRead)]
    (created,) = [one for one in heard if isinstance(one, PerformedStepChanged)]
    assert (read.sop_instance_uid, read.kind) == (UID, "Performed Procedure Step")
    assert read.study_instance_uids == created.study_instance_uids != ()
    assert read.patient_id == created.patient_id != ""
    assert read.caller.calling_ae_title == "CT1"


async def test_two_that_set_at_once_do_so_one_after_the_other(tmp_path: Path) -> None:
    """As two worker processes on the same database do."""
    path = tmp_path / "index.db"
    async with ris(path) as one, ris(path) as two:
        await outcome(create_step(one.association, UID, begun()))
        statuses = []

        async def end(peer: Ris, state: StepState) -> None:
            statuses.append((await outcome(set_step(peer.association, UID, ended(state)))).status)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(end, one, StepState.COMPLETED)
            nursery.start_soon(end, two, StepState.DISCONTINUED)
        assert sorted(statuses) == [0, 0x0110]


async def test_what_is_told_of_it() -> None:
    heard: list[Notice] = []
    async with ris(notices=Notices(heard.append)) as peer:
        await outcome(create_step(peer.association, UID, begun()))
        await outcome(create_step(peer.association, UID, begun()))
        await outcome(set_step(peer.association, UID, ended()))
        steps = [notice for notice in heard if isinstance(notice, PerformedStepChanged)]
    assert [(step.state, len(step.series_instance_uids)) for step in steps] == [
        ("IN PROGRESS", 0),
        ("COMPLETED", 1),
    ]
    assert steps[0].caller.calling_ae_title == "CT1"
    assert "Müller" not in repr(heard)


async def test_notifications_are_queued_in_the_same_transaction() -> None:
    woken = []
    async with ris(notify=["PACS"], on_change=lambda: woken.append(True)) as peer:
        await outcome(create_step(peer.association, UID, begun()))
        await outcome(set_step(peer.association, UID, Dataset()))
        await outcome(set_step(peer.association, UID, ended()))
        claimed = await DatabaseReports(peer.database).claim("w", 60, 10)
        assert [each.report.event_type for each in claimed] == [1, 4, 2]
        assert {each.report.destination for each in claimed} == {"PACS"}
        assert {each.report.sop_instance_uid for each in claimed} == {UID}
        assert len(woken) == 3


async def test_what_is_written_beside_a_step_is_written_with_it_or_not_at_all() -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("the list is locked")

    seen: list[tuple[PerformedStep | None, PerformedStep]] = []
    async with open_sqlite_database(":memory:") as database:
        step = PerformedStep(
            sop_instance_uid=UID,
            state=StepState.IN_PROGRESS,
            source_ae_title="CT1",
            created_at=1,
            changed_at=1,
            attributes=AttributeList.from_dataset(begun()),
        )
        with pytest.raises(RuntimeError):
            await DatabaseSteps(database, on_change=[refuse]).create(
                step, notify=["A"], as_ae_title="B"
            )
        assert await DatabaseSteps(database).get(UID) is None
        assert await DatabaseReports(database).claim("w", 60, 10) == ()
        steps = DatabaseSteps(
            database, on_change=[lambda _, before, after: seen.append((before, after))]
        )
        assert await steps.create(step, notify=(), as_ae_title="B")
        assert [before for before, _ in seen] == [None]


async def test_generic_n_get_needs_the_negotiated_class() -> None:
    async with ris() as peer:
        with pytest.raises(Exception, match="did not accept"):
            await outcome(n_get(peer.association, "1.2.840.10008.5.1.1.16", UID))


def test_a_list_reads_what_pydicom_writes() -> None:
    """…and the other way round, in all encodings."""
    expected = begun()
    for syntax in SYNTAXES:
        encoded = AttributeList.from_dataset(expected).encode(syntax)
        assert AttributeList.read(encoded, syntax).to_dataset() == expected
        if syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
            continue
        implicit, little = syntax == IMPLICIT_VR_LITTLE_ENDIAN, syntax != EXPLICIT_VR_BIG_ENDIAN
        buffer = pydicom.filebase.DicomBytesIO()
        buffer.is_implicit_VR, buffer.is_little_endian = implicit, little
        pydicom.filewriter.write_dataset(buffer, expected)
        assert AttributeList.read(buffer.getvalue(), syntax).to_dataset() == expected
