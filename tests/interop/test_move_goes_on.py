"""C-MOVE to pynetdicom and DCMTK that end the association in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove

from support.ports import free_port
from support.processes import (
    ServedArchive,
    isocenter_command,
    program,
    served_archive,
    wait_for_port,
)
from support.studies import CT_IMAGE_STORAGE, ROOT, write_studies

pytestmark = [
    pytest.mark.interop("storescp"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]
COUNT = 6
SUCCESS, WITH_FAILURES, NOTHING_DONE = 0x0000, 0xB000, 0xA702


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def archive(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedArchive]:
    folder = tmp_path_factory.mktemp("move")
    write_studies(folder / "files", studies=1, series=1, instances=COUNT)
    with served_archive(folder / "archive", "--peer", f"DEST@127.0.0.1:{port}") as archive:
        called = f"ISOCENTER@127.0.0.1:{archive.port}"
        assert isocenter_command("storescu", called, folder / "files").returncode == 0
        yield archive


def move(archive: ServedArchive) -> tuple[Dataset, list[str]]:
    """Final status with its counters, and the Failed SOP Instance UID List."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", f"{ROOT}.1"
    ae = AE("PYNETDICOM")
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
    association = ae.associate("127.0.0.1", archive.port, ae_title="ISOCENTER")
    assert association.is_established
    *_, (final, listed) = association.send_c_move(
        identifier, "DEST", StudyRootQueryRetrieveInformationModelMove
    )
    association.release()
    failed = [] if listed is None else listed.FailedSOPInstanceUIDList
    return final, [failed] if isinstance(failed, str) else list(failed)


def instance_uid(number: int) -> str:
    return f"{ROOT}.1.1.{number}"


@pytest.mark.parametrize("bad", [(3,), (1, 2), (2, 4, 6)], ids=str)
def test_pynetdicom_aborts_at_some_objects(
    archive: ServedArchive, port: int, bad: tuple[int, ...]
) -> None:
    received = []

    def on_store(event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        if uid in map(instance_uid, bad):
            event.assoc.abort()
        else:
            received.append(uid)
        return SUCCESS

    ae = AE("DEST")
    ae.add_supported_context(CT_IMAGE_STORAGE)
    ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    try:
        final, failed = move(archive)
    finally:
        ae.shutdown()  # with the association that is kept for its next use
    assert final.Status == WITH_FAILURES
    assert final.NumberOfCompletedSuboperations == COUNT - len(bad)
    assert final.NumberOfFailedSuboperations == len(bad)
    assert sorted(failed) == [instance_uid(number) for number in bad]
    good = [number for number in range(1, COUNT + 1) if number not in bad]
    assert sorted(received) == [instance_uid(number) for number in good]


def test_dcmtk_aborts_at_every_object(archive: ServedArchive, port: int, tmp_path: Path) -> None:
    """storescp --abort-after: the association of each object is aborted."""
    log = tmp_path / "log"
    with program("storescp", "--abort-after", port, cwd=tmp_path, log=log) as receiver:
        wait_for_port(receiver, port, log)
        final, failed = move(archive)
    assert final.Status == NOTHING_DONE
    assert final.NumberOfFailedSuboperations == COUNT
    assert sorted(failed) == [instance_uid(number) for number in range(1, COUNT + 1)]


def test_dcmtk_is_killed_in_the_middle(archive: ServedArchive, port: int, tmp_path: Path) -> None:
    """It kills itself when it has two objects: nobody listens when it is called again."""
    script = tmp_path / "after.sh"
    script.write_text(
        f'#!/bin/sh\n[ "$(ls {tmp_path}/kept | wc -l)" -lt 2 ] || kill -9 "$(cat {tmp_path}/pid)"\n'
    )
    script.chmod(0o700)
    (tmp_path / "kept").mkdir()
    log = tmp_path / "log"
    command = ("storescp", "-od", tmp_path / "kept", "-xcr", script, "--exec-sync", port)
    with program(*command, log=log) as receiver:
        (tmp_path / "pid").write_text(str(receiver.pid))
        wait_for_port(receiver, port, log)
        final, failed = move(archive)
        assert receiver.wait(120) != 0
    assert final.Status == WITH_FAILURES
    completed, lost = final.NumberOfCompletedSuboperations, final.NumberOfFailedSuboperations
    # The answer to the second may have left, or not.
    assert (completed, lost) in {(1, COUNT - 1), (2, COUNT - 2)}
    assert len(failed) == lost
    assert instance_uid(1) not in failed
