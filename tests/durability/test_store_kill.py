"""The object store itself is killed under load, and comes back with what it had.

s3rver keeps objects as files; it is run where ISOCENTER_TEST_STORES names the folder into which npm
has installed it (`tox -e stores`).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import trio

from durability.test_kill import Ledger, started
from durability.test_object_store import check
from durability.workload import SUCCESS, Item, Sender, store_one
from isocenter.engine.dimse.status import Status
from isocenter.services.archive.object_location import ObjectLocation, StoreKind
from support.ports import free_port
from support.processes import ENVIRONMENT, wait_for_port
from support.raw import raw_peer

STORES = os.environ.get("ISOCENTER_TEST_STORES", "")
KILLS = max(int(os.environ.get("ISOCENTER_TEST_KILLS", "5")) // 2, 3)
CLIENTS = 4
EACH = 25

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not STORES, reason="ISOCENTER_TEST_STORES names no folder"),
]


RUN_BY = ["env", "AWS_ACCESS_KEY_ID=S3RVER", "AWS_SECRET_ACCESS_KEY=S3RVER"]


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "S3RVER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "S3RVER")


class S3rver:
    """The store, at an address that it keeps."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder.with_suffix(".log")
        self.port = free_port()
        folder.mkdir()
        self.start()

    def start(self) -> None:
        command = Path(STORES) / "node_modules/.bin/s3rver"
        words = ["node", command, "-d", self._folder, "-a", "127.0.0.1", "-p", self.port]
        words += ["--no-vhost-buckets", "--allow-mismatched-signatures"]
        words += ["--configure-bucket", "pacs"]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(word) for word in words], stdout=output, stderr=output, env=ENVIRONMENT
            )
        wait_for_port(self._process, self.port, self._log)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[S3rver]:
    store = S3rver(tmp_path / "store")
    yield store
    store.kill()


async def test_kill_9_of_the_store(store: S3rver, tmp_path: Path) -> None:
    ledger = Ledger()
    random = Random(KILLS)
    location = ObjectLocation(
        kind=StoreKind.S3,
        bucket="pacs",
        parameters={"endpoint": f"http://127.0.0.1:{store.port}", "region": "us-east-1"},
    )
    refused = 0

    async def client(port: int, study: int, reached: trio.Event, at: int) -> None:
        nonlocal refused
        async with raw_peer(port) as peer:
            sender = Sender(peer)
            await sender.associate()
            for number in range(1, EACH + 1):
                item = Item(study, number, 4_000 * number)
                status = await sender.store(item)
                assert status in (SUCCESS, Status.OUT_OF_RESOURCES)
                if status == SUCCESS:
                    ledger.acknowledged[item.uid] = item
                else:
                    refused += 1
                if number == at:
                    reached.set()

    with started(tmp_path / "archive", "--objects", location, run_by=RUN_BY) as archive:
        for kill in range(KILLS):
            reached = trio.Event()
            async with trio.open_nursery() as nursery:
                for number in range(CLIENTS):
                    at = random.randint(1, EACH - 10)
                    nursery.start_soon(client, archive.port, kill * CLIENTS + number, reached, at)
                await reached.wait()
                store.kill()
            store.start()
            item = Item(1_000 + kill, 1)
            with trio.fail_after(60):
                while await store_one(archive.port, item) != SUCCESS:
                    pass  # until it is tried again
            ledger.acknowledged[item.uid] = item
    assert refused
    print(f"{len(ledger.acknowledged)} acknowledged, {refused} refused, {KILLS} kills of the store")
    await check(tmp_path / "archive", location, ledger)
