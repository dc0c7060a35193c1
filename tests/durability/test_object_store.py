"""Objects in a bucket: the server is killed, the store fails; nothing acknowledged is lost.

The store is in this process and outlives the server.  It keeps what it has answered for, as a
store does; of what it has not, some comes late.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from random import Random
from time import time

import pytest
import trio

from durability.test_kill import CLIENTS, MOST_STEPS, Ledger, Load, started, storescu
from durability.workload import SUCCESS, Item, Sender, findable
from isocenter.engine.dimse.status import Status
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.object_location import ObjectLocation
from isocenter.services.archive.sweeping.sweeper import Sweeper
from isocenter.services.archive.verification import verify
from isocenter.services.composition import open_archive_parts
from isocenter.services.settings.sections.objects import ObjectsSettings
from isocenter.services.settings.sections.storage import StorageSettings
from isocenter.services.settings.settings import Settings
from support.buckets import new_location
from support.faulty_buckets import Fault, faulty_bucket
from support.raw import raw_peer

pytestmark = [pytest.mark.slow, pytest.mark.interop("storescu")]

KILLS = max(int(os.environ.get("ISOCENTER_TEST_KILLS", "5")) // 2, 2)
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "secret"}
RUN_BY = ["env", *(f"{name}={value}" for name, value in CREDENTIALS.items())]


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


async def check(folder: Path, location: ObjectLocation, ledger: Ledger) -> None:
    """With no server: all that was acknowledged is there, and after a sweep nothing else."""
    settings = Settings(
        storage=StorageSettings(data_dir=folder / "data"), objects=ObjectsSettings(url=location)
    )
    async with open_archive_parts(settings) as parts:
        archive = parts.archive
        later = time() + 7200
        keys = parts.stores.staged_keys
        await Sweeper(archive, keys, now=lambda: later).sweep()
        assert await keys.count() == 0
        report = await verify(archive)
        assert report.is_good, report
        assert not report.orphans.count, report.orphans
        uids = list(ledger.acknowledged)
        known = await archive.index.get(uids)
        assert len(known) == len(uids), f"{len(uids) - len(known)} acknowledged objects are lost"
        for uid, item in ledger.acknowledged.items():
            assert await _data_set(archive, uid) == item.data_set(), "an object was changed"


async def _data_set(archive: Archive, uid: str) -> bytes:
    stored = (await archive.index.get([uid]))[uid]
    async with await archive.open(stored) as reader:
        return await reader.read(stored.data_set_offset, reader.size)


async def test_kill_9_of_the_server(tmp_path: Path) -> None:
    ledger = Ledger()
    random = Random(KILLS)
    location = new_location("pacs")
    studies = range(0)
    for kill in range(KILLS):
        with started(tmp_path, "--objects", location, run_by=RUN_BY) as archive:
            found = await findable(archive.port, range(studies.stop))
            assert ledger.acknowledged.keys() <= found
            first = studies.stop
            studies = range(first, first + CLIENTS + 1)

            def end() -> None:
                archive.process.send_signal(signal.SIGKILL)

            load = Load(archive.port, ledger, random.randint(1, MOST_STEPS), end)
            with storescu(archive.port, tmp_path / f"{kill}", studies[-1], ledger):
                await load.run(studies[:-1])
            assert archive.process.wait() == -signal.SIGKILL
    assert ledger.acknowledged
    print(f"{len(ledger.acknowledged)} objects were acknowledged over {KILLS} kills")
    await check(tmp_path, location, ledger)


async def test_a_store_that_fails_now_and_then(tmp_path: Path) -> None:
    """A refusal says that it may be sent again, and is no lie in either direction."""
    ledger = Ledger()
    random = Random(1)
    faults: list[Fault] = ["drop", "lose", (503, "SlowDown"), (500, "InternalError")]

    def decide(method: str, path: str) -> Fault:
        if "/probe/" in path or random.random() > 0.3:
            return None
        return random.choice(faults)

    statuses: list[int] = []

    async def client(port: int, study: int) -> None:
        async with raw_peer(port) as peer:
            sender = Sender(peer)
            await sender.associate()
            for number in range(1, 21):
                item = Item(study, number, 9_000_000 if number == 7 else 5_000 * number)
                status = await sender.store(item)
                statuses.append(status)
                assert status in (SUCCESS, Status.OUT_OF_RESOURCES)
                if status == SUCCESS:
                    ledger.acknowledged[item.uid] = item

    with faulty_bucket(new_location()) as bucket:
        with started(tmp_path, "--objects", bucket.location, run_by=RUN_BY) as archive:
            bucket.decide = decide
            async with trio.open_nursery() as nursery:
                for study in range(CLIENTS):
                    nursery.start_soon(client, archive.port, study)
            bucket.decide = lambda method, path: None
            assert await findable(archive.port, range(CLIENTS)) == ledger.acknowledged.keys()
        assert SUCCESS in statuses
        await check(tmp_path, bucket.location, ledger)
