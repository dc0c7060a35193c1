"""`kill -9` of the server while eight clients store: what was acknowledged is there afterwards."""

from __future__ import annotations

import signal
from pathlib import Path

import pydicom
import pytest
import trio

from isocenter.engine.errors import AssociationError
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.index.query import Level
from isocenter.services.association.peer import Peer
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.storage.contexts import contexts_for
from support.corpus import by_uid, data_set_bytes
from support.processes import ServedArchive, isocenter_command, served_archive
from support.studies import CT_IMAGE_STORAGE, ROOT, instance

pytestmark = pytest.mark.slow

CLIENTS = 8
#: More than any client gets through before the end.
EACH = 400
CONTEXTS = contexts_for([(CT_IMAGE_STORAGE, EXPLICIT_VR_LITTLE_ENDIAN)])


@pytest.mark.parametrize("enough", [10, 100, 300])
async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, enough: int) -> None:
    acknowledged: dict[str, pydicom.Dataset] = {}
    with served_archive(tmp_path) as archive:
        peer = Peer("ISOCENTER", "127.0.0.1", archive.port)

        async def send(client: int) -> None:
            try:
                async with open_association(peer, CONTEXTS) as association:
                    for number in range(1, EACH + 1):
                        # Sizes on both sides of what is held in memory before it is written.
                        rows = 512 if number % 16 == 0 else 16
                        item = instance(study=client, number=number, rows=rows)
                        response = await association.store(item)
                        assert response.status == 0
                        acknowledged[str(item.SOPInstanceUID)] = item
                        if len(acknowledged) == enough:
                            archive.process.send_signal(signal.SIGKILL)
            except AssociationError:
                pass  # the server is gone

        async with trio.open_nursery() as nursery:
            for client in range(1, CLIENTS + 1):
                nursery.start_soon(send, client)
        assert archive.process.wait() == -signal.SIGKILL
    assert len(acknowledged) >= enough

    with served_archive(tmp_path) as restarted:
        kept = by_uid(restarted.objects())
        assert acknowledged.keys() <= kept.keys()
        for uid, item in acknowledged.items():
            sent = await _bytes_of(item)
            assert data_set_bytes(kept[uid]) == sent
        assert await _found(restarted) == kept.keys()
        assert not _staged(restarted)
    done = isocenter_command("db", "verify", "--data-dir", restarted.data_dir)
    assert done.returncode == 0, done.stdout


async def _bytes_of(item: pydicom.Dataset) -> bytes:
    return b"".join([bytes(part) async for part, _ in DicomObject.from_dataset(item).parts()])


async def _found(archive: ServedArchive) -> set[str]:
    """The SOP Instance UIDs of all instances, as C-FIND gives them."""
    found = set()
    peer = Peer("ISOCENTER", "127.0.0.1", archive.port)
    contexts = [(sop_classes.STUDY_ROOT_FIND, BASIC_SYNTAXES)]
    async with open_association(peer, contexts) as association:
        for client in range(1, CLIENTS + 1):
            keys = [
                ("StudyInstanceUID", f"{ROOT}.{client}"),
                ("SeriesInstanceUID", f"{ROOT}.{client}.1"),
                ("SOPInstanceUID", ""),
            ]
            identifier = build_identifier(keys, Level.IMAGE, EXPLICIT_VR_LITTLE_ENDIAN)
            async for match in association.find(identifier):
                found.add(str(match.SOPInstanceUID))
    return found


def _staged(archive: ServedArchive) -> list[Path]:
    """What is below the data folder beside objects, index, certificates and lock."""
    return [path for path in (archive.data_dir / "staging").rglob("*") if path.is_file()]
