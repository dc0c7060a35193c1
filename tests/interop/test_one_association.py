"""A destination with a bound of associations: several workers, C-MOVEs and rules keep to it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove

from support.ports import free_port
from support.processes import ServedArchive, isocenter_command, served_archive
from support.studies import CT_IMAGE_STORAGE, ROOT, write_studies

pytestmark = [
    pytest.mark.interop(),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]
INSTANCES = 40
REQUESTORS = 4


class Destination:
    """How many it was sent at once: with one operation outstanding, so many associations."""

    def __init__(self) -> None:
        self.received: list[str] = []
        self.peak = 0
        self.all_here = threading.Event()
        self._at_once = 0
        self._lock = threading.Lock()

    def store(self, event: Any) -> int:
        with self._lock:
            self._at_once += 1
            self.peak = max(self.peak, self._at_once)
        threading.Event().wait(0.002)  # another one may come meanwhile
        with self._lock:
            self._at_once -= 1
            self.received.append(str(event.request.AffectedSOPInstanceUID))
            if len(self.received) == INSTANCES * (REQUESTORS + 1):
                self.all_here.set()
        return 0


def move(archive: ServedArchive, statuses: list[int]) -> None:
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", f"{ROOT}.1"
    ae = AE("PYNETDICOM")
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
    association = ae.associate("127.0.0.1", archive.port, ae_title="ISOCENTER")
    *_, (final, _) = association.send_c_move(
        identifier, "DEST", StudyRootQueryRetrieveInformationModelMove
    )
    association.release()
    statuses.append(int(final.Status))


@pytest.mark.parametrize("bound", [1, 2])
def test_workers_share_the_associations_with_a_destination(tmp_path: Path, bound: int) -> None:
    port = free_port()
    config = tmp_path / "isocenter.toml"
    config.write_text(
        f'peers = [{{ ae_title = "DEST", host = "127.0.0.1", port = {port} }}]\n'
        f"[query]\nmove_associations = {bound}\n"
        "[forwarding]\nassociations = 4\nbatch = 10\n"
        '[[rules]]\nname = "all"\nforward = ["DEST"]\n'
    )
    destination = Destination()
    ae = AE("DEST")
    ae.add_supported_context(CT_IMAGE_STORAGE)
    write_studies(tmp_path / "files", studies=1, series=1, instances=INSTANCES)
    server = ae.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, destination.store)]
    )
    try:
        with served_archive(tmp_path / "a", "--config", config, "--workers", "2") as archive:
            called = f"ISOCENTER@127.0.0.1:{archive.port}"
            assert isocenter_command("storescu", called, tmp_path / "files").returncode == 0
            statuses: list[int] = []
            threads = [
                threading.Thread(target=move, args=(archive, statuses)) for _ in range(REQUESTORS)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert destination.all_here.wait(60)
    finally:
        server.shutdown()
    assert statuses == [0] * REQUESTORS
    assert destination.peak == bound
