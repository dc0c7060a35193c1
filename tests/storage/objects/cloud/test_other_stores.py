"""The contract on stores of other people: Azure Blob Storage, and an S3 without conditional PUT.

They come from npm and are run where ISOCENTER_TEST_STORES names the folder into which they were
installed: `tox -e stores`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import AsyncIterator, Iterator
from email.utils import formatdate
from pathlib import Path

import httpx
import pytest

from isocenter.services.archive.object_location import ObjectLocation, StoreKind
from isocenter.services.archive.ports import ObjectStore
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.database.staged_keys import DatabaseStagedKeys
from isocenter.storage.objects.cloud.store import CloudStore
from isocenter.storage.objects.cloud.trash import CloudTrash
from storage.store_contract import StoreContract, all_keys, content, put
from support.buckets import connect
from support.processes import program, wait_for_line

STORES = os.environ.get("ISOCENTER_TEST_STORES", "")
pytestmark = pytest.mark.skipif(not STORES, reason="ISOCENTER_TEST_STORES names no folder")

#: Of the emulator, known to everybody.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an account."""
    log = tmp_path_factory.mktemp("azurite") / "log"
    command = Path(STORES) / "node_modules/.bin/azurite-blob"
    options = ["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence"]
    options += ["--silent", "--skipApiVersionCheck"]
    with program("node", command, *options, log=log, by_force=True) as process:
        found = wait_for_line(process, r"listens on (http://127\.0\.0\.1:\d+)", log)
        yield f"{found[1]}/{ACCOUNT}"


@pytest.fixture(scope="module")
def s3rver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("s3rver")
    command = Path(STORES) / "node_modules/.bin/s3rver"
    options = ["-d", folder / "data", "-a", "127.0.0.1", "-p", "0", "--no-vhost-buckets"]
    options += ["--allow-mismatched-signatures", "--configure-bucket", "pacs"]
    log = folder / "log"
    (folder / "data").mkdir()
    with program("node", command, *options, log=log, by_force=True) as process:
        found = wait_for_line(process, r"127\.0\.0\.1:(\d+)", log)
        yield f"http://127.0.0.1:{found[1]}"


def make_container(url: str, name: str) -> None:
    """As "Authorize with Shared Key" of Azure Storage says."""
    now, version = formatdate(usegmt=True), "2021-08-06"
    path = f"/{ACCOUNT}/{ACCOUNT}/{name}"
    text = f"PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{now}\nx-ms-version:{version}\n{path}"
    text += "\nrestype:container"
    signature = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    headers = {
        "x-ms-date": now,
        "x-ms-version": version,
        "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}",
    }
    httpx.put(f"{url}/{name}?restype=container", headers=headers).raise_for_status()


class TestAzure(StoreContract):
    numbers = iter(range(1_000))

    @pytest.fixture
    def location(self, azurite: str) -> ObjectLocation:
        name = f"container-{next(self.numbers)}"
        make_container(azurite, name)
        return ObjectLocation(
            kind=StoreKind.AZURE,
            bucket=name,
            prefix="pacs",
            parameters={"account": ACCOUNT, "endpoint": azurite},
        )

    @pytest.fixture
    async def store(
        self, location: ObjectLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[ObjectStore]:
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
        bucket = connect(location)
        await bucket.try_out()
        async with open_sqlite_database(":memory:") as database:
            yield CloudStore(bucket, DatabaseStagedKeys(database), str(tmp_path), verify="read")

    async def test_deleted_objects_are_moved_and_come_back(
        self, store: CloudStore, tmp_path: Path
    ) -> None:
        trash = CloudTrash(store, tmp_path)
        await put(store, "a/1.dcm", b"one")
        await trash.begin("d", b"{}")
        assert await trash.take("d", ["a/1.dcm", "a/2.dcm"]) == ["a/2.dcm"]
        assert await all_keys(store) == set()
        async with trash.contents() as contents:
            assert [each.keys async for each in contents] == [("a/1.dcm",)]
        await trash.give_back("d", "a/1.dcm", "a/1.dcm")
        assert await content(store, "a/1.dcm") == b"one"
        await trash.remove("d", ["a/1.dcm", "a/1.dcm"])
        await trash.end("d")
        async with trash.contents() as contents:
            assert [each async for each in contents] == []

    async def test_a_wrong_key_is_told(
        self, location: ObjectLocation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(b"wrong").decode())
        with pytest.raises(Exception, match=r"denies access .*correct the credentials"):
            await connect(location).try_out()

    async def test_a_missing_container_is_told(
        self, azurite: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
        location = ObjectLocation(
            kind=StoreKind.AZURE,
            bucket="nobody-made-it",
            parameters={"account": ACCOUNT, "endpoint": azurite},
        )
        with pytest.raises(Exception, match="does not exist"):
            await connect(location).try_out()


async def test_keys_that_nobody_else_has_need_no_conditional_put(
    s3rver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This store overwrites whatever is there; of those who want one key, one gets the note."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "S3RVER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "S3RVER")
    location = ObjectLocation(
        kind=StoreKind.S3,
        bucket="pacs",
        parameters={"endpoint": s3rver, "region": "us-east-1"},
    )
    bucket = connect(location)
    await bucket.try_out()
    await bucket.put("ignores", [b"first"], size=5)
    await bucket.put("ignores", [b"second"], size=6)  # else it would be no test
    async with open_sqlite_database(":memory:") as database:
        store = CloudStore(bucket, DatabaseStagedKeys(database), str(tmp_path))
        jobs = []
        for number in range(8):
            staged = await store.stage()
            await staged.write([b"%d" % number])
            jobs.append((staged, "1.2/3~0a0a0a0a.dcm"))
        outcomes = list(await store.publish(jobs))
        assert outcomes.count(None) == 1
        winner = outcomes.index(None)
        assert await content(store, "1.2/3~0a0a0a0a.dcm") == b"%d" % winner
