"""Films of print jobs: in a folder, in a bucket, encrypted there, in memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from isocenter.services.archive.object_location import ObjectLocation, StoreKind
from isocenter.services.errors import StorageError
from isocenter.services.service_classes.print.ports import FilmFiles
from isocenter.storage.objects.cloud.bucket import Bucket
from isocenter.storage.objects.cloud.connecting import ConnectOptions, connect_bucket
from isocenter.storage.objects.cloud.encryption import NO_KEYS, MasterKeys
from isocenter.storage.objects.cloud.films import BucketFilms
from isocenter.storage.objects.films import FolderFilms, MemoryFilms

KEYS = MasterKeys({"first": b"k" * 32})
JOB, OTHER = "2.25.1", "2.25.11"


def bucket(folder: Path) -> Bucket:
    location = ObjectLocation(kind=StoreKind.FILES, bucket=str(folder))
    return connect_bucket(location, ConnectOptions())


@pytest.fixture(params=["folder", "memory", "bucket", "encrypted"])
def films(request: pytest.FixtureRequest, tmp_path: Path) -> FilmFiles:
    match request.param:
        case "folder":
            return FolderFilms(tmp_path / "films")
        case "memory":
            return MemoryFilms()
        case kind:
            return BucketFilms(bucket(tmp_path), KEYS if kind == "encrypted" else NO_KEYS)


async def test_films_are_kept_by_their_jobs(films: FilmFiles) -> None:
    assert await films.jobs() == []
    large = os.urandom(3 << 20)
    await films.put(JOB, 1, b"first")
    await films.put(JOB, 2, large)
    await films.put(OTHER, 1, b"other")
    assert [await films.get(JOB, number) for number in (1, 2, 3)] == [b"first", large, None]
    await films.put(JOB, 1, b"again")
    assert await films.get(JOB, 1) == b"again"
    assert sorted(await films.jobs()) == [JOB, OTHER]
    await films.remove(JOB)
    await films.remove(JOB)
    assert [await films.get(JOB, 1), await films.get(OTHER, 1)] == [None, b"other"]
    assert await films.jobs() == [OTHER]


async def test_a_film_in_a_bucket_is_read_by_who_has_the_key(tmp_path: Path) -> None:
    await BucketFilms(bucket(tmp_path), KEYS).put(JOB, 1, b"\x89PNG of a patient")
    (path,) = (tmp_path / "films").rglob("*.png")
    assert b"patient" not in path.read_bytes()
    with pytest.raises(StorageError, match=r"not in objects\.keys_file"):
        await BucketFilms(bucket(tmp_path), NO_KEYS).get(JOB, 1)
    # Bound to its job and number, it is no other film.
    path.rename(path.with_name(f"{JOB}-2.png"))
    with pytest.raises(StorageError, match="changed in the store"):
        await BucketFilms(bucket(tmp_path), KEYS).get(JOB, 2)


async def test_films_are_for_their_owner_only(tmp_path: Path) -> None:
    await FolderFilms(tmp_path / "films").put(JOB, 1, b"png")
    for path in (tmp_path / "films" / JOB, tmp_path / "films" / JOB / "1.png"):
        assert path.stat().st_mode & 0o077 == 0


async def test_no_name_leads_out_of_the_folder(films: FilmFiles) -> None:
    if isinstance(films, MemoryFilms):
        return
    for name in ("..", "a/b", ""):
        with pytest.raises(ValueError, match="named by a UID"):
            await films.put(name, 1, b"png")
