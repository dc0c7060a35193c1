"""Storage commitment as SCU: one call from the request to the outcome, against peers that err."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import trio

from isocenter.engine.dimse.message_codec import NActionRequest, NEventReportRequest, response_to
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.cli import main
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.errors import NoPresentationContextError, OperationError
from isocenter.services.net.listeners import ListenAddress
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.commitment.scu import (
    CommitmentResults,
    ReportTimeoutError,
    request_commitment,
)
from isocenter.services.service_classes.commitment.transaction import (
    STORAGE_COMMITMENT,
    TRANSACTION_UID,
    WELL_KNOWN_INSTANCE,
    Transaction,
    TransactionState,
    result_of,
)
from services.archive_support import STUDY, uid
from services.cli_support import archive_server, write_object
from services.service_classes.commitment.peers import MODALITY, opener, references
from support.ports import free_port
from support.serving import Scripted, port_of, serving

PATIENCE = 120.0
Output = pytest.CaptureFixture[str]


def report_of(transaction_uid: str, *failures: int) -> bytes:
    """Event Information about as many references."""
    transaction = Transaction(
        transaction_uid=transaction_uid,
        requester=MODALITY,
        called_ae_title="PACS",
        state=TransactionState.PENDING,
        requested_at=0,
        completed_at=None,
        references=tuple(references(*range(1, len(failures) + 1))),
        failures=None,
    )
    return result_of(transaction, failures, retrieve_ae_title="PACS").data_set


async def report(task: Any, context_id: int, data_set: bytes, **values: Any) -> int:
    named: dict[str, Any] = {
        "affected_sop_class_uid": STORAGE_COMMITMENT,
        "affected_sop_instance_uid": WELL_KNOWN_INSTANCE,
        "event_type_id": 1,
    }
    request = NEventReportRequest(message_id=task.next_message_id(), **named | values)
    received = await task.invoke(context_id, request, data_set)
    return int(received.message.status)


Then = Callable[[Operation, str], Awaitable[None]]


def pacs(then: Then | None = None, status: int = 0) -> Scripted:
    """A peer that answers the request with *status* and then does something else."""

    async def perform(operation: Operation) -> None:
        assert isinstance(operation.request, NActionRequest)
        asked = AttributeList.read(await operation.data_set(), EXPLICIT_VR_LITTLE_ENDIAN)
        await operation.respond(response_to(operation.request, status))
        if then is not None:
            transaction_uid = asked.text(TRANSACTION_UID)
            task = operation.association
            task.start_soon(lambda: then(operation, transaction_uid))

    return Scripted([STORAGE_COMMITMENT], perform)


async def ask(service: Scripted, *, wait: float = PATIENCE, stay: float = PATIENCE) -> Any:
    async with serving(service) as server:
        peer = Peer("PACS", "127.0.0.1", port_of(server))
        try:
            return await request_commitment(
                opener(peer), references(1, 2), CommitmentResults(), stay=stay, wait=wait
            )
        except Exception as error:
            return error  # the nursery of the server would wrap it


async def test_what_the_report_does_not_mention_is_not_promised() -> None:
    async def then(operation: Operation, transaction_uid: str) -> None:
        data_set = report_of(transaction_uid, 0)
        await report(operation.association, operation.context.context_id, data_set)

    result = await ask(pacs(then))
    assert result.committed == tuple(references(1))
    assert result.unmentioned == tuple(references(2))
    assert not result.is_complete


async def test_the_answers_to_reports_that_are_wrong() -> None:
    statuses: list[int] = []

    async def then(operation: Operation, transaction_uid: str) -> None:
        task, context_id = operation.association, operation.context.context_id
        good = report_of(transaction_uid, 0, 0)
        for data_set, values in (
            (report_of("1.2.3", 0), {}),
            (good, {"event_type_id": 3}),
            (good, {"affected_sop_instance_uid": "1.2.3"}),
            (b"\x08\x00\x95\x11UI\xff\xff", {}),
            (good, {"affected_sop_class_uid": "1.2.3"}),
            (good, {}),
        ):
            statuses.append(await report(task, context_id, data_set, **values))

    result = await ask(pacs(then))
    assert result.is_complete
    assert statuses[:5] == [0x0115, 0x0113, 0x0112, 0x0110, 0x0122]


async def test_a_request_that_is_not_taken() -> None:
    error = await ask(pacs(status=0x0213))
    assert isinstance(error, OperationError)
    assert error.status == 0x0213


async def test_no_report_in_time() -> None:
    error = await ask(pacs(), wait=0.05)
    assert isinstance(error, ReportTimeoutError)
    assert "listen for it" in str(error)


async def test_an_association_that_ends_before_the_report_is_not_waited_for() -> None:
    async def then(operation: Operation, transaction_uid: str) -> None:
        await operation.association.abort()

    with trio.fail_after(PATIENCE):
        assert isinstance(await ask(pacs(then), wait=1e6, stay=1e6), ReportTimeoutError)


async def test_a_peer_without_storage_commitment() -> None:
    error = await ask(Scripted(["1.2.3"], pacs()._perform))
    assert isinstance(error, NoPresentationContextError)


async def test_a_report_on_an_association_of_the_peers_own() -> None:
    results = CommitmentResults()
    statuses: list[int] = []
    async with results.listening(ListenAddress(host="127.0.0.1", port=0)) as listener:

        async def then(operation: Operation, transaction_uid: str) -> None:
            await operation.association.abort()

        async def deliver(transaction_uid: str) -> None:
            peer = Peer(MODALITY, "127.0.0.1", port_of(listener))
            contexts = [(STORAGE_COMMITMENT, (EXPLICIT_VR_LITTLE_ENDIAN,))]
            roles = [STORAGE_COMMITMENT]
            async with open_association(peer, contexts, scp_roles=roles) as client:
                (context,) = client.contexts
                assert (context.as_scu, context.as_scp) == (False, True)
                data_set = report_of(transaction_uid, 0, 0)
                statuses.append(await report(client, context.context_id, data_set))

        asked = trio.Event()

        async def note(operation: Operation, transaction_uid: str) -> None:
            asked.set()

        async with serving(pacs(note)) as server, trio.open_nursery() as nursery:
            peer = Peer("PACS", "127.0.0.1", port_of(server))

            async def deliver_when_asked() -> None:
                await asked.wait()
                await deliver("1.2.840.88")

            nursery.start_soon(deliver_when_asked)
            result = await request_commitment(
                opener(peer),
                references(1, 2),
                results,
                transaction_uid="1.2.840.88",
                stay=0,
                wait=PATIENCE,
            )
        assert result.is_complete
        assert statuses == [0]


# -- The command ---------------------------------------------------------------------------


def test_commitscu_tells_the_outcome_of_each(tmp_path: Path, capsys: Output) -> None:
    for number in (1, 2):
        write_object(tmp_path, number)
    with archive_server() as server:
        assert main(["storescu", server.peer, str(tmp_path / "1.dcm"), "-q"]) == 0
        assert main(["commitscu", server.peer, str(tmp_path), "--format", "text"]) == 1
        captured = capsys.readouterr()
        assert f"{uid(1)} committed" in captured.out
        assert f"{uid(2)} failed: 0112H no such object instance" in captured.out
        assert "1 of 2 instances are committed" in captured.err
        assert main(["commit_scu", server.peer, "--study", STUDY, "--format", "json"]) == 0
        (result,) = orjson.loads(capsys.readouterr().out)
        assert [each["sop_instance_uid"] for each in result["committed"]] == [uid(1)]
        assert result["failed"] == []
        assert main(["commitscu", server.peer, str(tmp_path / "1.dcm")]) == 0
        assert "CT Image Storage" in capsys.readouterr().out


def test_commitscu_promises_nothing_for_a_damaged_file(tmp_path: Path, capsys: Output) -> None:
    whole = write_object(tmp_path)
    (tmp_path / "notes.txt").write_text("no object, and none is missed")
    with archive_server() as server:
        assert main(["storescu", server.peer, str(whole), "-q"]) == 0
        assert main(["commitscu", server.peer, str(tmp_path)]) == 0
        (tmp_path / "2.dcm").write_bytes(whole.read_bytes()[:200])
        capsys.readouterr()
        assert main(["commitscu", server.peer, str(tmp_path)]) == 1
    fault = capsys.readouterr().err
    assert "1 of 1 instances are committed" in fault
    assert "for 1 damaged files there is no promise" in fault


def test_commitscu_listens_for_the_report(tmp_path: Path, capsys: Output) -> None:
    path, port = write_object(tmp_path), free_port()
    with archive_server(f"CT1@127.0.0.1:{port}") as server:
        assert main(["storescu", server.peer, str(path), "-q"]) == 0
        call = ["commitscu", server.peer, str(path), "-aet", "CT1", "--port", str(port)]
        assert main([*call, "--receive-host", "127.0.0.1", "--no-stay"]) == 0
        assert "1 of 1 instances are committed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give files or folders"),
        (["missing.dcm"], "no such file"),
        (["--study", "1/2"], "is no UID"),
        (["--study", "1.2", "--no-stay"], "--no-stay needs --port"),
        (["--study", "1.2", "--wait", "0"], "whole number"),
    ],
)
def test_commitscu_without_sense(arguments: list[str], said: str, capsys: Output) -> None:
    try:
        code = main(["commitscu", "PACS@127.0.0.1:1", *arguments])
    except SystemExit as error:
        code = error.code  # type: ignore[assignment]
    assert code == 2
    assert said.lower() in capsys.readouterr().err.lower()


def test_commitscu_where_the_port_is_taken(tmp_path: Path, capsys: Output) -> None:
    path = write_object(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        call = ["commitscu", "PACS@127.0.0.1:1", str(path), "--port", port]
        assert main([*call, "--receive-host", "127.0.0.1"]) == 2
    assert port in capsys.readouterr().err


def test_commitscu_where_nobody_is(tmp_path: Path, capsys: Output) -> None:
    path = write_object(tmp_path)
    assert main(["commitscu", f"PACS@127.0.0.1:{free_port()}", str(path)]) == 2
    assert "connection refused" in capsys.readouterr().err


def test_the_archives_own_list(tmp_path: Path, capsys: Output) -> None:
    data_dir = str(tmp_path / "data")
    files = tmp_path / "files"
    files.mkdir()
    for number in (1, 2):
        write_object(files, number)
    with archive_server(data_dir=data_dir) as server:
        assert main(["storescu", server.peer, str(files / "1.dcm"), "-q"]) == 0
        assert main(["commitscu", server.peer, str(files), "-aet", "CT1", "-q"]) == 1
        capsys.readouterr()
        assert main(["commitments", "list", "--data-dir", data_dir, "--format", "json"]) == 0
        (row,) = orjson.loads(capsys.readouterr().out)
        assert (row["requester"], row["state"], row["failed"]) == ("CT1", "partial", 1)
        transaction_uid = row["transaction_uid"]
        assert main(["commitments", "list", "--data-dir", data_dir, "--state", "success"]) == 0
        assert capsys.readouterr().out == ""
        assert main(["commitments", "show", transaction_uid, "--data-dir", data_dir]) == 0
        shown = capsys.readouterr().out
        assert "committed" in shown
        assert "0112H no such object instance" in shown
        call = ["commitments", "show", transaction_uid, "--data-dir", data_dir]
        assert main([*call, "--format", "json"]) == 0
        assert len(orjson.loads(capsys.readouterr().out)["instances"]) == 2
        assert main(["commitments", "retry", transaction_uid, "--data-dir", data_dir]) == 0
        assert main(["commitments", "show", "1.2.3", "--data-dir", data_dir]) == 1
        assert main(["commitments", "show", "x", "--data-dir", data_dir]) == 2
    assert main(["commitments", "list", "--data-dir", str(tmp_path / "nothing")]) == 2
