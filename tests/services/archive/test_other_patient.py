"""Objects that name another patient than their study came with."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.archive.object_scan import StoreError
from isocenter.services.archive.ports import DuplicatePolicy, Index, OtherPatientPolicy
from isocenter.storage.database.index.index import DatabaseIndex
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.objects.memory import MemoryStore
from services.archive_support import STUDY, data_set, keys_of, opened, store, uid

ACCEPT, WARN, REJECT = OtherPatientPolicy

OTHER = data_set(2, patient_id="P2")


async def studies_of(archive: Archive, patient_id: str) -> list[str]:
    query = Query(level=Level.STUDY, criteria=(Criterion(0x00100020, SingleValue(patient_id)),))
    found = []
    async with archive.index.find(query) as blocks:
        async for block in blocks:
            for match in block:
                assert match[0x00100020] == patient_id
                found.append(match[0x0020000D])
    return found


@pytest.mark.parametrize(("policy", "status"), [(ACCEPT, 0), (WARN, 0xB000)])
async def test_kept_and_found_under_both(
    policy: OtherPatientPolicy, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    told: list[bool] = []
    async with opened(MemoryStore(), other_patient=policy, on_other_patient=told.append) as archive:
        assert (await store(archive)).status == 0
        result = await store(archive, 2, OTHER)
        assert result.status == status
        assert ("another patient" in result.comment) is (status != 0)
        assert await studies_of(archive, "P1") == await studies_of(archive, "P2") == [STUDY]
        # Each is counted; the log has one line for a patient of a study.
        await store(archive, 3, data_set(3, patient_id="P2"))
        assert told == [True, True]
        # The patient that it came with is no news.
        assert (await store(archive, 4)).status == 0
    (line,) = [r.getMessage() for r in caplog.records if "differ" in r.getMessage()]
    assert {STUDY, uid(1), uid(2)} <= set(line.replace(":", " ").replace(";", " ").split())


async def test_refused(caplog: pytest.LogCaptureFixture) -> None:
    told: list[bool] = []
    async with opened(MemoryStore(), other_patient=REJECT, on_other_patient=told.append) as archive:
        first = await store(archive)
        for number in (2, 3):
            with pytest.raises(StoreError, match="another patient") as refusal:
                await store(archive, number, data_set(number, patient_id="P2"))
            assert refusal.value.status == 0xA900
            assert refusal.value.offending_elements == (0x00100020,)
        assert told == [False, False]
        # Another name of the same patient, and a study of the other one, are all right.
        assert (await store(archive, 4, data_set(4, patient_name="Bauer^Anna"))).status == 0
        other = data_set(5, study="1.2.9", series="1.2.9.1", patient_id="P2")
        assert (await store(archive, 5, other)).status == 0
        assert await studies_of(archive, "P2") == ["1.2.9"]
        assert len(await keys_of(archive)) == 3
        assert first.instance.object_key in await keys_of(archive)
        assert archive.budget.taken == 0
    assert len([r for r in caplog.records if "differ" in r.getMessage()]) == 1


async def test_a_refused_replacement_leaves_what_is_there() -> None:
    async with opened(
        MemoryStore(), other_patient=REJECT, duplicates=DuplicatePolicy.REPLACE
    ) as archive:
        first = await store(archive)
        await store(archive, 2)
        with pytest.raises(StoreError):
            await store(archive, 1, data_set(1, patient_id="P2"))
        stored = (await archive.index.get([uid(1)]))[uid(1)]
        assert (stored.object_key, stored.digest) == (
            first.instance.object_key,
            first.instance.digest,
        )
        assert len(await keys_of(archive)) == 2


@pytest.mark.parametrize(
    "open_index", [lambda: None, lambda: open_sqlite_database(":memory:")], ids=["memory", "sqlite"]
)
async def test_a_study_sent_again_under_another_id_moves(
    open_index: Callable[[], AbstractAsyncContextManager[Index] | None],
) -> None:
    async def move(index: Index) -> None:
        async with opened(MemoryStore(), index, duplicates=DuplicatePolicy.REPLACE) as archive:
            for number in (1, 2, 3):
                await store(archive, number)
            statuses = []
            for number in (1, 2, 3):
                again = data_set(number, patient_id="P2", patient_name="Bauer^Anna")
                statuses.append((await store(archive, number, again)).status)
            # With the last one, nobody names the old patient any more.
            assert statuses == [0xB000, 0xB000, 0]
            assert await studies_of(archive, "P1") == []
            assert await studies_of(archive, "P2") == [STUDY]
            assert (await archive.index.statistics()).patients == 1

    opened_index = open_index()
    if opened_index is None:
        await move(MemoryIndex())
    else:
        async with opened_index as database:
            await move(DatabaseIndex(database))
