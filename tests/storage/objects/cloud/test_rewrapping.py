from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from isocenter.services.errors import StorageError
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.database.staged_keys import DatabaseStagedKeys
from isocenter.storage.objects.cloud.encryption import MasterKeys
from isocenter.storage.objects.cloud.films import BucketFilms
from isocenter.storage.objects.cloud.rewrapping import Rewrapper
from isocenter.storage.objects.cloud.store import CloudStore
from storage.store_contract import content, put
from support.buckets import connect, new_location
from support.faulty_buckets import faulty_bucket

OLD = MasterKeys({"k1": bytes(32)})
BOTH = MasterKeys({"k2": bytes(range(32)), "k1": bytes(32)})
KEY = "1.2/1.2.3~0a1b2c3d.dcm"


async def all_of(keys: Sequence[str]) -> list[bool]:
    return [True] * len(keys)


async def no_job(job_uid: str) -> bool:
    return False


async def none_of(keys: Sequence[str]) -> list[bool]:
    return [False] * len(keys)


async def test_what_is_removed_meanwhile_keeps_a_note(tmp_path: Path) -> None:
    bucket = connect(new_location())
    async with open_sqlite_database(":memory:") as database:
        notes = DatabaseStagedKeys(database)
        await put(CloudStore(bucket, notes, str(tmp_path), master_keys=OLD), KEY, b"secret")
        await notes.end([KEY])  # the index has it
        done = await Rewrapper(bucket, BOTH, notes, none_of, str(tmp_path), no_job).run()
        assert done.done == 1
        assert await notes.count() == 1  # the sweeper looks after it


async def test_what_is_on_its_way_is_left_alone(tmp_path: Path) -> None:
    bucket = connect(new_location())
    async with open_sqlite_database(":memory:") as database:
        notes = DatabaseStagedKeys(database)
        await put(CloudStore(bucket, notes, str(tmp_path), master_keys=OLD), KEY, b"secret")
        done = await Rewrapper(bucket, BOTH, notes, all_of, str(tmp_path), no_job).run()
        assert (done.done, done.already, done.plain, done.faults) == (0, 0, 0, [])


async def test_what_cannot_be_changed_is_named_and_stays(tmp_path: Path) -> None:
    bucket = connect(new_location())
    async with open_sqlite_database(":memory:") as database:
        notes = DatabaseStagedKeys(database)
        store = CloudStore(bucket, notes, str(tmp_path), master_keys=OLD)
        await put(store, KEY, b"secret")
        await put(CloudStore(bucket, notes, str(tmp_path)), "1.2/1.2.4~0a1b2c3d.dcm", b"plain")
        other = MasterKeys({"k3": bytes(range(32))})
        done = await Rewrapper(bucket, other, notes, all_of, str(tmp_path), no_job).run()
        assert (done.done, done.plain) == (0, 1)
        ((path, fault),) = done.faults
        assert path == f"objects/{KEY}"
        assert "key 'k1'" in fault
        assert await content(store, KEY) == b"secret"


async def test_a_store_that_goes_away_ends_it(tmp_path: Path) -> None:
    with faulty_bucket(new_location()) as faulty:
        async with open_sqlite_database(":memory:") as database:
            notes = DatabaseStagedKeys(database)
            bucket = connect(faulty.location, timeout=5.0)
            store = CloudStore(bucket, notes, str(tmp_path), master_keys=OLD)
            for number in range(4):
                key = f"1.2/1.2.{number}~0a1b2c3d.dcm"
                await put(store, key, b"secret")
                await notes.end([key])
            faulty.fail((503, "SlowDown"), "PUT")
            with pytest.raises(StorageError, match=r"503|does not answer"):
                await Rewrapper(bucket, BOTH, notes, all_of, str(tmp_path), no_job).run()
            faulty.decide = lambda method, path: None
            again = CloudStore(connect(faulty.location), notes, str(tmp_path), master_keys=OLD)
            assert await content(again, "1.2/1.2.3~0a1b2c3d.dcm") == b"secret"


async def test_films_get_the_new_key_as_long_as_their_job_is_there(tmp_path: Path) -> None:
    bucket = connect(new_location())
    films = BucketFilms(bucket, OLD)
    for job in ("1.2.3", "1.2.4"):
        await films.put(job, 1, b"a film")

    async def has_job(job_uid: str) -> bool:
        return job_uid == "1.2.3"

    async with open_sqlite_database(":memory:") as database:
        notes = DatabaseStagedKeys(database)
        done = await Rewrapper(bucket, BOTH, notes, all_of, str(tmp_path), has_job).run()
    assert (done.done, done.faults) == (1, [])
    new = BucketFilms(bucket, MasterKeys({"k2": bytes(range(32))}))
    assert await new.get("1.2.3", 1) == b"a film"
    # Its job was forgotten while it was written anew: nobody else would remove it.
    assert await new.get("1.2.4", 1) is None
