"""Deleting, restoring and purging beside a server under load, with `kill -9` of both.

One archive lives through all kills.  Clients store into some studies, while commands delete,
restore and purge others; server and command are killed at a moment chosen by chance.  Then the
server is started again, and each object has to be where it belongs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from random import Random

import pytest
import trio

from durability.test_kill import EACH, Ledger, Load, verify
from durability.workload import SUCCESS, Item, Sender, findable
from support.corpus import data_set_bytes
from support.processes import (
    ENVIRONMENT,
    ISOCENTER,
    ServedArchive,
    isocenter_command,
    served_archive,
)
from support.raw import raw_peer

pytestmark = pytest.mark.slow

KILLS = max(int(os.environ.get("ISOCENTER_TEST_KILLS", "5")) // 2, 2)
#: Objects of each study that is deleted and restored.
OBJECTS = 12
#: Steps of the clients until the server is killed, and seconds until a command is.
MOST_STEPS = 300
MOST_SECONDS = 1.2
#: Studies that are stored while others are deleted; their numbers begin here.
LOAD = 1_000


def items(study: int) -> list[Item]:
    return [Item(study, number, 2_000) for number in range(1, OBJECTS + 1)]


async def store_study(port: int, study: int) -> None:
    async with raw_peer(port) as peer:
        sender = Sender(peer)
        await sender.associate()
        for item in items(study):
            assert await sender.store(item) == SUCCESS


def in_trash(archive: ServedArchive) -> list[Path]:
    return sorted((archive.data_dir / "trash").rglob("*.dcm"))


async def places(archive: ServedArchive, study: int) -> tuple[set[str], set[str]]:
    """UIDs of the study that are found, and those that are in the trash; all of them whole."""
    whole = {item.uid: item.data_set() for item in items(study)}
    found = await findable(archive.port, [study])
    kept: dict[str, Path] = {}
    for path in in_trash(archive):
        uid = path.name.removesuffix(".dcm").rpartition(",")[2].partition("~")[0]
        if uid in whole:
            assert uid not in kept, "twice in the trash"
            kept[uid] = path
    for path in (archive.data_dir / "objects" / Item(study, 1).study_uid).rglob("*.dcm"):
        uid = path.name.removesuffix(".dcm").partition("~")[0]
        assert uid in found, "a file that nobody finds"
        assert data_set_bytes(path) == whole[uid]
    for uid, path in kept.items():
        assert data_set_bytes(path) == whole[uid]
    return found, kept.keys() & whole.keys()


def command(archive: ServedArchive, *words: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*ISOCENTER, *map(str, words), "--data-dir", str(archive.data_dir), "-q"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        env=ENVIRONMENT,
    )


@pytest.mark.parametrize("work", ["delete", "restore", "purge"])
async def test_kill_9_while_deleting(tmp_path: Path, work: str) -> None:
    random = Random(f"{work} {KILLS}")
    ledger = Ledger()
    load_study = LOAD
    for kill in range(KILLS):
        study = kill + 1
        all_uids = {item.uid for item in items(study)}
        with served_archive(tmp_path) as archive:
            await store_study(archive.port, study)
            choice = ("--study", Item(study, 1).study_uid)
            if work != "delete":
                done = isocenter_command(
                    "delete", *choice, "--reason", "test", "--yes", "--data-dir", archive.data_dir
                )
                assert done.returncode == 0, done.stdout
                assert await findable(archive.port, [study]) == set()

            def end(archive: ServedArchive = archive) -> None:
                archive.process.send_signal(signal.SIGKILL)

            words = {
                "delete": ("delete", *choice, "--reason", "test", "--yes"),
                "restore": ("trash", "restore", *choice),
                "purge": ("trash", "purge", *choice, "--yes"),
            }[work]
            running = command(archive, *words)
            try:
                studies = range(load_study, load_study + 3)
                load_study = studies.stop
                load = Load(archive.port, ledger, random.randint(1, MOST_STEPS), end)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(load.run, studies)
                    await trio.to_thread.run_sync(archive.process.wait)
                # The command goes on without a server, and is then killed, too.
                try:
                    await trio.to_thread.run_sync(running.wait, random.random() * MOST_SECONDS)
                except subprocess.TimeoutExpired:
                    running.kill()
            finally:
                running.kill()
                running.wait()
        with served_archive(tmp_path) as archive:
            found, trashed = await places(archive, study)
            assert not found & trashed
            if work == "purge":
                assert not found
                assert trashed in (set(), all_uids), "purged in part"
            else:
                assert found | trashed == all_uids, "lost"
                assert found in (set(), all_uids), "in part"
            verify(archive)
            # What was acknowledged meanwhile is there, all of it.
            acknowledged = {u for u, item in ledger.acknowledged.items() if item.study in studies}
            assert acknowledged <= await findable(archive.port, studies)
            # And it can be brought to its end.
            if trashed:
                done = isocenter_command(
                    "trash", "restore", *choice, "--data-dir", archive.data_dir
                )
                assert done.returncode == 0, done.stdout
                assert await findable(archive.port, [study]) == all_uids
    with served_archive(tmp_path) as archive:
        verify(archive)
        done = isocenter_command("trash", "list", "--json", "--data-dir", archive.data_dir)
        assert json.loads(done.stdout) == []
        assert not in_trash(archive)
        done = isocenter_command("audit", "verify", "--data-dir", archive.data_dir)
        assert done.returncode == 0, done.stdout


async def test_storing_into_a_study_that_is_deleted_again_and_again(tmp_path: Path) -> None:
    """Each object that was acknowledged is found or in the trash: nothing falls between."""
    study = 1
    ledger: dict[str, Item] = {}
    with served_archive(tmp_path, "--workers", 2) as archive:

        async def store_all() -> None:
            async with raw_peer(archive.port) as peer:
                sender = Sender(peer)
                await sender.associate()
                for number in range(1, EACH + 1):
                    item = Item(study, number, 2_000)
                    assert await sender.store(item) == SUCCESS
                    ledger[item.uid] = item
            scope.cancel()

        async def delete_all() -> None:
            words = ("delete", "--study", Item(study, 1).study_uid, "--reason", "x", "--yes")
            while True:
                with command(archive, *words) as running:
                    await trio.to_thread.run_sync(running.wait)

        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store_all)
                nursery.start_soon(delete_all)
        found = await findable(archive.port, [study])
        trashed = {
            path.name.removesuffix(".dcm").rpartition(",")[2].partition("~")[0]
            for path in in_trash(archive)
        }
        assert found | trashed == ledger.keys()
        assert not found & trashed
        assert trashed, "nothing was deleted: the test shows nothing"
        verify(archive)
        done = isocenter_command(
            "trash", "restore", "--study", Item(study, 1).study_uid, "--data-dir", archive.data_dir
        )
        assert done.returncode == 0, done.stdout
        assert await findable(archive.port, [study]) == ledger.keys()
        verify(archive)
