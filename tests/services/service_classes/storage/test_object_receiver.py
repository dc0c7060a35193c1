"""Objects that are given to a function, and files that stay or go."""

from __future__ import annotations

import gc
import io
import logging
import os
import tempfile
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pydicom
import pytest
import trio

from isocenter.engine.dimse.message_codec import CStoreRequest, CStoreResponse
from isocenter.engine.dimse.status import Status
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.association.service_registry import Service
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.errors import OperationError
from isocenter.services.service_classes.client import (
    ClientAssociation,
    RetrieveError,
    open_association,
)
from isocenter.services.service_classes.storage import staged_file
from isocenter.services.service_classes.storage.object_folder import ObjectFolder
from isocenter.services.service_classes.storage.object_receiver import (
    ObjectReceiver,
    ReceivedObject,
)
from services.archive_support import CT, SERIES, STUDY, data_set, uid
from support.serving import Scripted, port_of, serving

PRIVATE = "1.2.826.0.1.3680043.9.7"


@asynccontextmanager
async def sending_to(service: Service) -> AsyncIterator[ClientAssociation]:
    async with serving(service) as server:
        peer = Peer("ANY", "127.0.0.1", port_of(server))
        contexts = [(CT, [EXPLICIT_VR_LITTLE_ENDIAN])]
        async with open_association(peer, contexts, calling_ae_title="CT1") as association:
            yield association


async def send(
    association: ClientAssociation, number: int = 1, *, instance: str = "", **options: str
) -> CStoreResponse:
    data = data_set(number, **options)  # type: ignore[arg-type]
    task = association._driver
    received = await task.invoke(
        association.contexts[0].context_id,
        CStoreRequest(
            message_id=task.next_message_id(),
            affected_sop_class_uid=CT,
            affected_sop_instance_uid=instance or uid(number),
            priority=0,
        ),
        data,
    )
    assert isinstance(received.message, CStoreResponse)
    return received.message


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_a_function_gets_each_object_before_the_answer_leaves(tmp_path: Path) -> None:
    seen: list[ReceivedObject] = []
    read: list[pydicom.Dataset] = []
    answered = False

    async def handle(received: ReceivedObject) -> None:
        assert not answered
        seen.append(received)
        read.append(await received.read())
        assert received.path.read_bytes().endswith(data_set())

    async with sending_to(ObjectReceiver(handle, tmp_path)) as association:
        response = await send(association)
        answered = True
        assert response.status == Status.SUCCESS
        assert response.affected_sop_instance_uid == uid(1)
    (received,) = seen
    assert received.sop_class_uid == CT
    assert received.sop_instance_uid == uid(1)
    assert received.study_instance_uid == STUDY
    assert received.series_instance_uid == SERIES
    assert received.transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN
    assert received.peer_ae_title == "CT1"
    assert received.size == len(data_set())
    assert received.operation.association.caller.address.startswith("127.0.0.1")
    assert read[0].file_meta.SourceApplicationEntityTitle == "CT1"
    assert read[0].StudyInstanceUID == STUDY
    assert not files(tmp_path)


async def test_the_answer_waits_for_the_function(tmp_path: Path) -> None:
    goes_on = trio.Event()
    begun = trio.Event()

    async def handle(received: ReceivedObject) -> None:
        begun.set()
        await goes_on.wait()

    async with (
        sending_to(ObjectReceiver(handle, tmp_path)) as association,
        trio.open_nursery() as nursery,
    ):
        responses: list[CStoreResponse] = []

        async def store() -> None:
            responses.append(await send(association))

        nursery.start_soon(store)
        await begun.wait()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert not responses
        goes_on.set()
    assert responses[0].status == 0


async def test_what_is_moved_away_stays(tmp_path: Path) -> None:
    staging, kept = tmp_path / "staging", tmp_path / "kept.dcm"

    async def handle(received: ReceivedObject) -> None:
        received.path.rename(kept)

    async with sending_to(ObjectReceiver(handle, staging)) as association:
        await send(association)
    assert pydicom.dcmread(kept).SOPInstanceUID == uid(1)
    assert not files(staging)


async def test_without_a_folder_files_lie_among_the_temporary_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    paths: list[Path] = []

    async def handle(received: ReceivedObject) -> None:
        paths.append(received.path)

    receiver: ObjectReceiver | None = ObjectReceiver(handle)
    async with sending_to(receiver) as association:  # type: ignore[arg-type]
        await send(association)
    assert paths[0].is_relative_to(tmp_path)
    assert paths[0].parent.stat().st_mode & 0o077 == 0
    receiver = None
    del association
    gc.collect()
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (None, 0x0000),
        (0x0000, 0x0000),
        (Status.DATA_SET_MISMATCH, 0xB007),
        (0xA700, 0xA700),
        (OperationError(0x0122, "not here"), 0x0122),
        (OperationError(0xB000), 0xB000),
    ],
)
@pytest.mark.parametrize("keeps", [True, False])
async def test_what_the_function_says_is_the_status(
    tmp_path: Path, outcome: int | OperationError | None, status: int, keeps: bool
) -> None:
    async def handle(received: ReceivedObject) -> int | None:
        if isinstance(outcome, OperationError):
            raise outcome
        return outcome

    declared = {status: "as told"}
    receiver: ObjectReceiver = (
        ObjectFolder(tmp_path, handle=handle, statuses=declared)
        if keeps
        else ObjectReceiver(handle, tmp_path, statuses=declared)
    )
    async with sending_to(receiver) as association:
        response = await send(association)
    assert response.status == status
    if isinstance(outcome, OperationError):
        assert response.error_comment == outcome.comment
    stays = keeps and status in (0, 0xB007) and not isinstance(outcome, OperationError)
    assert files(tmp_path) == ([f"{STUDY}/{SERIES}/{uid(1)}.dcm"] if stays else [])


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (ZeroDivisionError("oops"), "ZeroDivisionError: oops"),
        (FileNotFoundError(2, "No such file"), "FileNotFoundError"),
        (True, "returned True, not a status"),
        ("0000", "returned '0000', not a status"),
        (0xFF00, "returned FF00H, not final"),
        (-1, "not final"),
        (0x10000, "not final"),
    ],
)
async def test_a_fault_of_the_function_is_ours_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, outcome: object, told: str
) -> None:
    async def handle(received: ReceivedObject) -> int | None:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome  # type: ignore[return-value]

    folder = ObjectFolder(tmp_path, handle=handle)
    async with sending_to(folder) as association:
        response = await send(association)
        assert response.status == Status.PROCESSING_FAILURE
        assert "oops" not in response.error_comment
        # And the next one gets its turn.
        assert (await send(association, 2)).status == Status.PROCESSING_FAILURE
    assert told in caplog.text
    assert "Traceback" in caplog.text
    assert not files(tmp_path)
    assert folder.counts.failed == 2


def test_a_function_that_is_not_async_is_refused_at_once(tmp_path: Path) -> None:
    def handle(received: ReceivedObject) -> None: ...

    with pytest.raises(TypeError, match="handle is not async; write async def"):
        ObjectReceiver(handle, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="is no function"):
        ObjectFolder(tmp_path, handle="handle")  # type: ignore[arg-type]


async def test_whatever_can_be_awaited_will_do(tmp_path: Path) -> None:
    class Counting:
        calls = 0

        async def __call__(self, received: ReceivedObject) -> None:
            self.calls += 1

        async def method(self, received: ReceivedObject) -> None:
            self.calls += 1

    counting = Counting()
    for handle in (counting, counting.method):
        async with sending_to(ObjectReceiver(handle, tmp_path)) as association:
            await send(association)
    assert counting.calls == 2


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"instance": "../../evil"}, Status.INVALID_SOP_INSTANCE),
        ({"instance": "/etc/passwd"}, Status.INVALID_SOP_INSTANCE),
        ({"instance": "1.2.3.4.99"}, Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS),
    ],
)
async def test_the_function_sees_nothing_that_could_harm(
    tmp_path: Path, options: dict[str, str], status: int
) -> None:
    async def handle(received: ReceivedObject) -> None:
        raise AssertionError("nobody should see this")

    folder = tmp_path / "a" / "b"
    async with sending_to(ObjectReceiver(handle, folder)) as association:
        assert (await send(association, **options)).status == status  # type: ignore[arg-type]
    assert not files(tmp_path)


async def test_identifiers_that_could_be_no_name_are_empty(tmp_path: Path) -> None:
    seen: list[ReceivedObject] = []

    async def handle(received: ReceivedObject) -> None:
        seen.append(received)

    async with sending_to(ObjectFolder(tmp_path, handle=handle)) as association:
        await send(association, study="../../evil", series="")
    assert (seen[0].study_instance_uid, seen[0].series_instance_uid) == ("", "")
    assert files(tmp_path) == [f"unknown/unknown/{uid(1)}.dcm"]


async def test_when_the_association_ends_the_function_is_cancelled(tmp_path: Path) -> None:
    begun, cancelled = trio.Event(), trio.Event()

    async def handle(received: ReceivedObject) -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with serving(ObjectFolder(tmp_path, handle=handle)) as server:
        peer = Peer("ANY", "127.0.0.1", port_of(server))

        async def store() -> None:
            async with open_association(peer, [(CT, [EXPLICIT_VR_LITTLE_ENDIAN])]) as association:
                await send(association)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(store)
            await begun.wait()
            nursery.cancel_scope.cancel()
        with trio.fail_after(60):
            await cancelled.wait()
    assert not files(tmp_path)


async def test_memory_does_not_grow_with_the_object(tmp_path: Path) -> None:
    size = 64 << 20
    path = tmp_path / "large.dcm"
    small = pydicom.dcmread(io.BytesIO(b"\0" * 128 + b"DICM" + data_set()), force=True)
    small.PixelData = b""
    small.file_meta.TransferSyntaxUID = EXPLICIT_VR_LITTLE_ENDIAN
    small.file_meta.MediaStorageSOPClassUID = CT
    small.file_meta.MediaStorageSOPInstanceUID = uid(1)
    small.save_as(path)
    with path.open("r+b") as file:
        file.seek(-4, io.SEEK_END)
        file.write(size.to_bytes(4, "little"))
        file.truncate(file.tell() + size)
    sizes: list[int] = []

    async def handle(received: ReceivedObject) -> None:
        sizes.append(received.size)

    async with sending_to(ObjectReceiver(handle, tmp_path / "staging")) as association:
        item = await DicomObject.from_file(path)
        tracemalloc.start()
        try:
            await association.store(item)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert sizes[0] > size
    # Both ends of the association are in here.
    assert peak < 16 << 20


def test_what_is_offered(tmp_path: Path) -> None:
    async def handle(received: ReceivedObject) -> None: ...

    receiver = ObjectReceiver(handle, tmp_path)
    assert receiver.offer(CT) is receiver.offer(PRIVATE) is not None
    assert receiver.offer(sop_classes.STUDY_ROOT_FIND) is None
    narrow = ObjectReceiver(
        handle, tmp_path, sop_classes=[PRIVATE], transfer_syntaxes=[EXPLICIT_VR_LITTLE_ENDIAN]
    )
    assert narrow.offer(CT) is None
    offer = narrow.offer(PRIVATE)
    assert offer is not None
    assert offer.transfer_syntaxes == (EXPLICIT_VR_LITTLE_ENDIAN,)


async def test_what_is_no_store_is_no_operation_of_it(tmp_path: Path) -> None:
    from isocenter.engine.dimse.message_codec import NGetRequest

    async with sending_to(ObjectFolder(tmp_path)) as association:
        request = NGetRequest(
            message_id=1, requested_sop_class_uid=CT, requested_sop_instance_uid="1.2"
        )
        received = await association.invoke(association.contexts[0].context_id, request)
    assert received.message.status == Status.UNRECOGNIZED_OPERATION


# -- ObjectFolder ------------------------------------------------------------------------


async def test_a_folder_keeps_objects_byte_for_byte(tmp_path: Path) -> None:
    counted: list[int] = []
    folder = ObjectFolder(
        tmp_path / "new" / "folder",
        "{class}/{instance}.dcm",
        on_progress=lambda counts: counted.append(counts.written),
    )
    async with sending_to(folder) as association:
        for number in (1, 2):
            assert (await send(association, number)).status == 0
    found = files(tmp_path)
    assert found == [f"new/folder/{CT}/{uid(number)}.dcm" for number in (1, 2)]
    assert (tmp_path / found[0]).read_bytes().endswith(data_set(1))
    assert pydicom.dcmread(tmp_path / found[0]).SOPInstanceUID == uid(1)
    assert counted == [1, 2]


@pytest.mark.parametrize("overwrite", [True, False])
async def test_what_is_there_stays_unless_told_otherwise(tmp_path: Path, overwrite: bool) -> None:
    folder = ObjectFolder(tmp_path, "{instance}.dcm", overwrite=overwrite)
    async with sending_to(folder) as association:
        assert (await send(association)).status == 0
        assert (await send(association, patient_id="P2")).status == 0
    whose = pydicom.dcmread(tmp_path / f"{uid(1)}.dcm").PatientID
    assert whose == ("P2" if overwrite else "P1")
    assert (folder.counts.written, folder.counts.kept) == ((2, 0) if overwrite else (1, 1))


@pytest.mark.parametrize("durable", [True, False])
async def test_what_is_durable_is_synced_before_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    steps: list[str] = []
    link, fsync = os.link, os.fsync
    monkeypatch.setattr(os, "link", lambda *paths: (steps.append("name"), link(*paths))[1])
    monkeypatch.setattr(os, "fsync", lambda one: (steps.append("file"), fsync(one))[1])
    monkeypatch.setattr(
        staged_file,
        "sync_directory",
        lambda folder: steps.append(str(folder.relative_to(tmp_path))),
    )
    async with sending_to(ObjectFolder(tmp_path, durable=durable)) as association:
        assert (await send(association)).status == 0
        first, steps[:] = list(steps), []
        assert (await send(association, 2)).status == 0
    series = f"{STUDY}/{SERIES}"
    # The folders of study and series were new, and their names lie in the folder above.
    assert first == (["file", "name", series, STUDY, "."] if durable else ["name"])
    assert steps == (["file", "name", series] if durable else ["name"])


async def test_what_cannot_be_made_durable_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(folder: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(staged_file, "sync_directory", fails)
    folder = ObjectFolder(tmp_path, durable=True)
    async with sending_to(folder) as association:
        assert (await send(association)).status == Status.OUT_OF_RESOURCES
    assert not files(tmp_path)
    assert folder.counts.failures == [(uid(1), "Input/output error")]


async def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    folder = ObjectFolder(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    async with sending_to(folder) as association:
        response = await send(association)
    assert response.status == Status.OUT_OF_RESOURCES
    assert folder.counts.failures == [(uid(1), "No such file or directory")]


async def test_only_the_last_failures_are_kept(tmp_path: Path) -> None:
    folder = ObjectFolder(tmp_path)
    async with sending_to(folder) as association:
        for number in range(12):
            await send(association, number, instance="1.9")
    assert folder.counts.failed == 12
    assert len(folder.counts.failures) == 10


@pytest.mark.parametrize(
    "pattern",
    ["", "/{instance}", "../{instance}", "{instance}/x", "{patient}/{instance}", "a\0{instance}"],
)
def test_a_pattern_that_cannot_be(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(ValueError, match=r"must be relative|needs|is none of|only letters"):
        ObjectFolder(tmp_path, pattern)


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="exists"):
        ObjectFolder(tmp_path / "file")


async def test_the_same_function_serves_a_retrieval(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    handled: list[str] = []

    async def handle(received: ReceivedObject) -> int | None:
        handled.append(received.peer_ae_title)
        return Status.OUT_OF_RESOURCES if received.sop_instance_uid == uid(2) else None

    async with _get_server([1, 2]) as peer:
        contexts = [
            (sop_classes.STUDY_ROOT_GET, [EXPLICIT_VR_LITTLE_ENDIAN]),
            (CT, [EXPLICIT_VR_LITTLE_ENDIAN]),
        ]
        folder = ObjectFolder(tmp_path, handle=handle)
        async with open_association(peer, contexts, scp_roles=[CT]) as association:
            with pytest.raises(RetrieveError, match="1 objects failed"):
                await association.get(b"", folder.receive)
    assert handled == ["ARCHIVE", "ARCHIVE"]
    assert files(tmp_path) == [f"{STUDY}/{SERIES}/{uid(1)}.dcm"]


@asynccontextmanager
async def _get_server(numbers: list[int]) -> AsyncIterator[Peer]:
    """Answers any C-GET with these objects."""
    from isocenter.engine.dimse.message_codec import CGetRequest, CGetResponse

    async def perform(operation: Operation) -> None:
        request, task = operation.request, operation.association
        assert isinstance(request, CGetRequest)
        failed = 0
        (context,) = (one for one in task.negotiated.contexts.values() if one.abstract_syntax == CT)
        for number in numbers:
            received = await task.invoke(
                context.context_id,
                CStoreRequest(
                    message_id=task.next_message_id(),
                    affected_sop_class_uid=CT,
                    affected_sop_instance_uid=uid(number),
                    priority=0,
                ),
                data_set(number),
            )
            failed += received.message.status != 0
        await operation.respond(
            CGetResponse(
                message_id_being_responded_to=request.message_id,
                affected_sop_class_uid=request.affected_sop_class_uid,
                status=0xB000 if failed else 0,
                number_of_completed_suboperations=len(numbers) - failed,
                number_of_failed_suboperations=failed,
                number_of_warning_suboperations=0,
            )
        )

    async def nothing(operation: Operation) -> None:
        raise AssertionError("nobody asks for this")

    async with serving(
        Scripted([sop_classes.STUDY_ROOT_GET], perform), Scripted([CT], nothing)
    ) as server:
        yield Peer("ARCHIVE", "127.0.0.1", port_of(server))
