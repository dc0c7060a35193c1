"""C-FIND with timezone query adjustment, as it was negotiated (PS3.4 C.5.1.1)."""

from __future__ import annotations

import pytest

from isocenter.engine.dimse.status import Status
from isocenter.engine.extended_negotiation import FindFlags
from isocenter.engine.items import ExtendedNegotiation
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.index.attributes import Level
from isocenter.services.association.peer import Peer
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.errors import OperationError
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.query_retrieve.find_scp import FindScp
from isocenter.services.service_classes.query_retrieve.identifier import parse_query
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.query_retrieve.information_models import (
    FIND_ROOTS,
    QueryOptions,
)
from isocenter.services.service_classes.query_retrieve.matching_keys import IdentifierError
from isocenter.storage.objects.memory import MemoryStore
from services.archive_support import data_set, opened, store
from support.serving import port_of, serving

FIND = sop_classes.STUDY_ROOT_FIND
FLAGS = FindFlags(combined_date_time=True, timezone_adjustment=True)


async def asked(keys: dict[str, str], flags: FindFlags = FLAGS) -> list[tuple[str, str, str]]:
    """Study Date, Study Time and offset of the answers of an archive in UTC with a study of
    2024-02-29, 10:15."""
    async with opened(MemoryStore()) as archive:
        await store(
            archive, 1, data_set(1, study="1.2.1", study_date="20240229", study_time="101500")
        )
        find = FindScp(archive.index, ae_title="US", options=QueryOptions(time_zone="UTC"))
        async with (
            serving(find) as server,
            open_association(
                Peer("US", "127.0.0.1", port_of(server)),
                [(FIND, (EXPLICIT_VR_LITTLE_ENDIAN,))],
                extended=[ExtendedNegotiation(FIND, flags.encode())],
            ) as association,
        ):
            identifier = build_identifier(keys.items(), Level.STUDY, EXPLICIT_VR_LITTLE_ENDIAN)
            return [
                (
                    str(match.get("StudyDate", "-")),
                    str(match.get("StudyTime", "-")),
                    str(match.get("TimezoneOffsetFromUTC", "-")),
                )
                async for match in association.find(identifier)
            ]


@pytest.mark.parametrize(
    ("date", "time", "offset", "found"),
    [
        ("20240301", "", "+1400", [("20240301", "001500", "+1400")]),
        ("20240229", "", "+1400", []),
        ("20240228", "22", "-1100", []),
        ("20240228", "2200-2330", "-1100", [("20240228", "231500", "-1100")]),
        ("20240301-", "", "+1400", [("20240301", "001500", "+1400")]),
        ("20240301-20240301", "0010-0020", "+1400", [("20240301", "001500", "+1400")]),
        ("", "001500", "+1400", [("20240301", "001500", "+1400")]),
        ("", "", "+0000", [("20240229", "101500", "+0000")]),
    ],
)
async def test_a_query_is_by_the_clock_that_it_names(
    date: str, time: str, offset: str, found: list[tuple[str, str, str]]
) -> None:
    keys = {"StudyDate": date, "StudyTime": time, "TimezoneOffsetFromUTC": offset}
    assert await asked(keys) == found


async def test_a_time_alone_is_moved_by_its_date() -> None:
    found = await asked({"StudyTime": "", "TimezoneOffsetFromUTC": "-0430"})
    assert found == [("-", "054500", "-0430")]


async def test_nothing_is_moved_that_was_not_negotiated() -> None:
    keys = {"StudyDate": "20240229", "StudyTime": "", "TimezoneOffsetFromUTC": "+1400"}
    assert await asked(keys, FindFlags(relational=True)) == [("20240229", "101500", "-")]
    assert await asked({"StudyDate": "20240229", "StudyTime": ""}) == [("20240229", "101500", "-")]


async def test_an_offset_that_is_none_is_refused() -> None:
    with pytest.raises(OperationError) as caught:
        await asked({"StudyDate": "", "TimezoneOffsetFromUTC": "CET"})
    assert caught.value.status == Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS


def test_birth_is_by_no_clock() -> None:
    keys = {"PatientBirthDate": "19700101", "TimezoneOffsetFromUTC": "+1400"}
    identifier = build_identifier(keys.items(), Level.STUDY, EXPLICIT_VR_LITTLE_ENDIAN)
    parsed = parse_query(
        identifier, EXPLICIT_VR_LITTLE_ENDIAN, root=FIND_ROOTS[FIND], time_zone="UTC"
    )
    assert parsed.query.combined == ()
    assert [criterion.tag for criterion in parsed.query.criteria] == [0x00100030]
    with pytest.raises(IdentifierError):
        parse_query(
            build_identifier(
                [("TimezoneOffsetFromUTC", "+9999")], Level.STUDY, EXPLICIT_VR_LITTLE_ENDIAN
            ),
            EXPLICIT_VR_LITTLE_ENDIAN,
            root=FIND_ROOTS[FIND],
            time_zone="UTC",
        )
