"""C-FIND with fuzzy semantic matching of names, as it was negotiated (PS3.4 C.5.1.1)."""

from __future__ import annotations

import pytest

from isocenter.engine.extended_negotiation import FindFlags
from isocenter.engine.items import ExtendedNegotiation
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.index.attributes import Level
from isocenter.services.association.peer import Peer
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.query_retrieve.find_scp import FindScp
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.query_retrieve.information_models import QueryOptions
from isocenter.storage.objects.memory import MemoryStore
from services.archive_support import data_set, opened, store
from support.serving import port_of, serving

FIND = sop_classes.STUDY_ROOT_FIND


@pytest.mark.parametrize(
    ("asked", "offered", "found"),
    [
        (True, True, ["1.2.1", "1.2.2"]),
        (True, False, []),
        (False, True, []),
    ],
)
async def test_names_match_fuzzily_where_both_agree(
    asked: bool, offered: bool, found: list[str]
) -> None:
    async with opened(MemoryStore()) as archive:
        for number, name in enumerate(("Bäcker^Anna", "BECKER^ANNE", "Bauer^Anna"), 1):
            data = data_set(
                number, study=f"1.2.{number}", patient_id=f"P{number}", patient_name=name
            )
            await store(archive, number, data)
        find = FindScp(archive.index, ae_title="US", options=QueryOptions(fuzzy_names=offered))
        wanted = FindFlags(relational=True, fuzzy_person_names=asked)
        async with (
            serving(find) as server,
            open_association(
                Peer("US", "127.0.0.1", port_of(server)),
                [(FIND, (EXPLICIT_VR_LITTLE_ENDIAN,))],
                extended=[ExtendedNegotiation(FIND, wanted.encode())],
            ) as association,
        ):
            agreed = FindFlags.decode(association.negotiated.extended_negotiations[FIND])
            assert agreed.fuzzy_person_names is (asked and offered)
            keys = [("PatientName", "anna baecker"), ("StudyInstanceUID", "")]
            identifier = build_identifier(keys, Level.STUDY, EXPLICIT_VR_LITTLE_ENDIAN)
            got = [str(match.StudyInstanceUID) async for match in association.find(identifier)]
        assert sorted(got) == found
