"""C-FIND and C-GET that follow links of patients, where that is set."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.corrections.links import followed
from isocenter.services.archive.corrections.values import PatientKey
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.association.peer import Peer
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.query_retrieve.find_scp import FindScp
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.query_retrieve.information_models import QueryOptions
from isocenter.services.service_classes.query_retrieve.suboperations import RetrieveBacklog
from isocenter.storage.objects.memory import MemoryStore
from services.archive_support import data_set, opened, store, uid
from support.serving import port_of, serving


class Linked:
    """P1 and P2 are one person."""

    async def linked(self, patient_id: str, issuer: str | None) -> Sequence[PatientKey]:
        others = {"P1": "P2", "P2": "P1"}
        return [PatientKey(others[patient_id])] if patient_id in others else []


@pytest.mark.parametrize(
    ("patient", "follows", "found"),
    [
        ("P1", False, ["P1"]),
        ("P1", True, ["P1", "P2"]),
        ("P2", True, ["P2", "P1"]),
        ("P3", True, ["P3"]),
    ],
)
async def test_who_asks_for_one_finds_all_that_are_linked(
    patient: str, follows: bool, found: list[str]
) -> None:
    options = QueryOptions(links=Linked() if follows else None)
    async with opened(MemoryStore()) as archive:
        for number in (1, 2, 3):
            data = data_set(number, study=f"1.2.{number}", patient_id=f"P{number}")
            await store(archive, number, data)
        keys = [("PatientID", patient), ("StudyInstanceUID", "")]
        identifier = build_identifier(keys, Level.STUDY, EXPLICIT_VR_LITTLE_ENDIAN)
        find = FindScp(archive.index, ae_title="US", options=options)
        async with serving(find) as server:
            peer = Peer("US", "127.0.0.1", port_of(server))
            context = (sop_classes.STUDY_ROOT_FIND, (EXPLICIT_VR_LITTLE_ENDIAN,))
            async with open_association(peer, [context], calling_ae_title="CT1") as association:
                got = [str(match.PatientID) async for match in association.find(identifier)]
        assert got == found


async def test_what_is_linked_is_retrieved_once() -> None:
    async with opened(MemoryStore()) as archive:
        # One study of both.
        await store(archive, 1)
        await store(archive, 2, data_set(2, patient_id="P2"))
        query = Query(level=Level.PATIENT, criteria=(Criterion(0x00100020, SingleValue("P1")),))
        backlog = RetrieveBacklog()
        queries = await followed(query, Linked())
        async with backlog.instances_of(archive, queries) as instances:
            assert [each.sop_instance_uid for each in instances] == [uid(1), uid(2)]
            assert backlog.count == 2
        assert backlog.count == 0
