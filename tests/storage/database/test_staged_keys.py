"""The contract of `StagedKeys`, on every database."""

from __future__ import annotations

from typing import Any

import pytest

from isocenter.services.archive.deletion.ports import DeletionRecord
from isocenter.services.archive.deletion.records import DeletionCause
from isocenter.services.archive.ports import AddOutcome, InstanceRecord
from isocenter.services.archive.sweeping.ports import Announced
from isocenter.services.archive.tiers.ports import TierMove
from isocenter.services.errors import StorageError
from isocenter.storage.database.staged_keys import DatabaseStagedKeys
from isocenter.storage.stores import StoresOptions, join_stores
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")


async def test_a_key_is_noted_once() -> None:
    async with open_database() as database:
        keys = DatabaseStagedKeys(database)
        assert await keys.begin(["a", "b"]) == [True, True]
        assert await keys.begin(["b", "c"]) == [False, True]
        await keys.end(["b", "nobody noted it"])
        assert await keys.begin(["b"]) == [True]
        assert await keys.count() == 3


async def test_what_is_overdue_is_claimed_the_oldest_first() -> None:
    now = 100.0
    async with open_database() as database:
        keys = DatabaseStagedKeys(database, now=lambda: now)
        await keys.begin(["late"])
        now = 50.0
        await keys.begin(["early"])
        now = 70.0
        await keys.begin(["middle"])
        assert await keys.claim_overdue(50.0, 10) == []
        assert await keys.claim_overdue(100.0, 1) == ["early"]
        # An earlier claim whose sweeper died counts no more.
        assert sorted(await keys.claim_overdue(100.0, 10)) == ["early", "middle"]
        await keys.end(["early", "middle"])
        assert await keys.claim_overdue(100.0, 10) == []
        assert await keys.count() == 1


KEY, OTHER = "1.2/1.2.3~00000001.dcm", "1.2/1.2.3~00000002.dcm"
BACK = "1.2/1.2.3~00000004.dcm"
NOTING = StoresOptions(notes_keys=True)


def record(key: str, **changes: Any) -> InstanceRecord:
    return InstanceRecord(
        **{
            "sop_instance_uid": "1.2.3",
            "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
            "study_instance_uid": "1.2",
            "series_instance_uid": "1.2.1",
            "transfer_syntax_uid": "1.2.840.10008.1.2.1",
            "object_key": key,
            "size": 10,
            "data_set_offset": 1,
            "digest": key[-12:-4] * 8,
            **changes,
        }
    )


async def test_what_becomes_findable_needs_its_note_and_takes_it_away() -> None:
    async with open_database() as database:
        stores = join_stores(database, NOTING)
        index, keys = stores.index, stores.staged_keys
        with pytest.raises(StorageError, match="swept away meanwhile"):
            await index.add([record(KEY)])
        assert (await index.statistics()).instances == 0
        await keys.begin([KEY, OTHER])
        await index.add([record(KEY)])
        assert await keys.begin([OTHER]) == [False]
        assert await keys.count() == 1


async def test_a_key_is_noted_unless_the_index_has_the_very_object() -> None:
    async with open_database() as database:
        stores = join_stores(database, NOTING)
        index, keys = stores.index, stores.staged_keys
        first = record(KEY)
        assert await keys.announce([(KEY, "1.2.3", first.digest)]) == [Announced(None, True)]
        # Somebody has noted it.
        assert await keys.announce([(KEY, "1.2.3", first.digest)]) == [Announced(None, False)]
        await index.add([first])
        stored = (await index.get(["1.2.3"]))["1.2.3"]
        assert await keys.announce(
            [(OTHER, "1.2.3", first.digest), (BACK, "1.2.3", "f" * 64), (KEY, "1.2.4", "0" * 64)]
        ) == [Announced(stored, False), Announced(stored, True), Announced(None, True)]
        assert sorted(await keys.claim_overdue(1e12, 9)) == [BACK]
        assert await keys.count() == 1


async def test_what_was_claimed_is_not_taken_up() -> None:
    async with open_database() as database:
        stores = join_stores(database, NOTING)
        await stores.staged_keys.begin([KEY])
        assert await stores.staged_keys.claim_overdue(1e12, 9) == [KEY]
        with pytest.raises(StorageError, match="send it again"):
            await stores.index.add([record(KEY)])
        assert (await stores.index.statistics()).instances == 0


async def test_what_is_made_of_an_object_needs_its_note() -> None:
    cold = "~cold/1.2/1.2.3~00000003.dcm"
    async with open_database() as database:
        stores = join_stores(database, NOTING)
        index, keys, tiers = stores.index, stores.staged_keys, stores.tiers
        await keys.begin([KEY])
        await index.add([record(KEY)])
        stored = (await index.get(["1.2.3"]))["1.2.3"]
        # Of a key in another tier there is no note.
        away = TierMove(stored=stored, target_key=cold)
        assert await tiers.begin([away], "me", 60.0) == [True]
        assert await tiers.exchange([away], "me") == [True]
        await tiers.end(["1.2.3"])
        stored = (await index.get(["1.2.3"]))["1.2.3"]
        back = TierMove(stored=stored, target_key=OTHER)
        await tiers.begin([back], "me", 60.0)
        await keys.begin([OTHER])
        # The copying took so long that a sweep has taken the copy away.
        assert OTHER in await keys.claim_overdue(1e12, 9)
        await keys.end([OTHER])
        with pytest.raises(StorageError, match="swept away meanwhile"):
            await tiers.exchange([back], "me")
        assert (await index.get(["1.2.3"]))["1.2.3"].object_key == cold
        await keys.begin([OTHER])
        assert await tiers.exchange([back], "me") == [True]


async def test_what_leaves_the_index_is_noted() -> None:
    async with open_database() as database:
        stores = join_stores(database, NOTING)
        index, keys = stores.index, stores.staged_keys
        await keys.begin([KEY])
        await index.add([record(KEY)])
        await keys.begin([OTHER])
        await index.add([record(OTHER)], replace=True)
        assert await keys.claim_overdue(1e12, 9) == [KEY]
        await keys.end([KEY])
        await index.remove(["1.2.3"])
        assert await keys.claim_overdue(1e12, 9) == [OTHER]


async def test_a_duplicate_keeps_its_note_until_it_is_removed() -> None:
    async with open_database() as database:
        stores = join_stores(database, NOTING)
        await stores.staged_keys.begin([KEY, OTHER])
        await stores.index.add([record(KEY)])
        (result,) = await stores.index.add([record(OTHER)])
        assert result.outcome is AddOutcome.DUPLICATE
        assert await stores.staged_keys.claim_overdue(1e12, 9) == [OTHER]


async def test_files_need_no_notes() -> None:
    async with open_database() as database:
        stores = join_stores(database)
        await stores.index.add([record(KEY)])
        await stores.index.add([record(OTHER)], replace=True)
        assert await stores.staged_keys.count() == 0


async def test_what_somebody_names_is_not_claimed_and_loses_its_note() -> None:
    async with open_database() as database:
        stores = join_stores(database, NOTING)
        index, keys = stores.index, stores.staged_keys
        await keys.begin([KEY])
        await index.add([record(KEY)])
        await keys.begin([KEY, OTHER])  # a note that outlived what it was for
        assert await keys.claim_overdue(1e12, 1) == [OTHER]
        assert await keys.count() == 1

        deletion = DeletionRecord(
            deletion_id="d1",
            cause=DeletionCause.REQUESTED,
            at=1.0,
            purge_at=2.0,
            actor="x",
            reason="x",
        )
        known = await index.get(["1.2.3"])
        await stores.trash.take(deletion, list(known.values()), overrule=False)
        await keys.begin([KEY])
        assert await keys.claim_overdue(1e12, 9) == [OTHER]  # its file leaves still
        (row,) = await stores.trash.unfinished(9)
        await stores.trash.settle([row.number])
        await stores.trash.begin_return({row.number: BACK}, "x")
        await keys.begin([KEY, BACK])
        assert sorted(await keys.claim_overdue(1e12, 9)) == sorted([OTHER, KEY])
