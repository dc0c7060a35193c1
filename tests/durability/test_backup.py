"""Backups while clients store and replace, and `kill -9` of the server and of the backup: what was
acknowledged before a backup began comes back from it, byte for byte.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random

import pytest
import trio

from durability.workload import LARGE, SUCCESS, ConnectionLost, Item, Sender
from support.corpus import by_uid, data_set_bytes
from support.postgresql import Server
from support.processes import (
    ENVIRONMENT,
    ISOCENTER,
    ServedArchive,
    isocenter_command,
    served_archive,
)
from support.raw import raw_peer

pytestmark = [pytest.mark.slow]

ROUNDS = int(os.environ.get("ISOCENTER_TEST_BACKUPS", "3"))
CLIENTS = 4
#: Objects that are acknowledged before a backup begins, at most.
MOST_BEFORE = 60
#: What one client stores in a round, at most: a disk that is busy with nothing else delays all.
MOST_EACH = 120

#: What is killed while the backup is under way.
VICTIMS = ("nobody", "backup", "server")
#: When: a file of the generation that is being made, and its size.
MOMENTS = (
    ("", 0),
    ("index.db", 4096),
    ("objects.*jsonl", 0),
    ("objects.*jsonl", 5_000),
    ("files.jsonl", 0),
    ("manifest.json", 0),
)


@dataclass
class Ledger:
    """By SOP Instance UID: the last version that was acknowledged, and the last that was begun."""

    acknowledged: dict[str, Item] = field(default_factory=dict)
    begun: dict[str, Item] = field(default_factory=dict)


@dataclass
class Load:
    """Clients that store new objects and replace old ones until they are stopped."""

    port: int
    ledger: Ledger
    random: Random
    is_stopped: bool = False
    came: trio.Event = field(default_factory=trio.Event)

    async def run(self, studies: range) -> None:
        async with trio.open_nursery() as nursery:
            for study in studies:
                nursery.start_soon(self._client, study)

    async def _client(self, study: int) -> None:
        try:
            async with raw_peer(self.port) as peer:
                sender = Sender(peer)
                await sender.associate()
                known: list[Item] = []
                for _ in range(MOST_EACH):
                    if self.is_stopped:
                        return
                    if known and self.random.random() < 0.4:
                        place = self.random.randrange(len(known))
                        item = replace(known[place], version=known[place].version + 1)
                        known[place] = item
                    else:
                        number = len(known) + 1
                        size = LARGE if number % 16 == 0 else 500 + 700 * (number % 20)
                        item = Item(study, number, size)
                        known.append(item)
                    self.ledger.begun[item.uid] = item
                    assert await sender.store(item) == SUCCESS
                    self.ledger.acknowledged[item.uid] = item
                    self.came.set()
        except ConnectionLost:
            pass

    async def until(self, number: int) -> None:
        """So many more are acknowledged."""
        wanted = len(self.ledger.acknowledged) + number
        while len(self.ledger.acknowledged) < wanted:
            self.came = trio.Event()
            await self.came.wait()


class Backup:
    """One backup as a process of its own, and what was acknowledged when it began."""

    def __init__(
        self, archive: ServedArchive, folder: Path, ledger: Ledger, where: Sequence[str] = ()
    ) -> None:
        self._words = [*ISOCENTER, "backup", str(folder), "--data-dir", str(archive.data_dir)]
        self._words += where
        self._folder = folder
        self._ledger = ledger
        self.promised: dict[str, Item] = {}
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self.promised = dict(self._ledger.acknowledged)
        self.process = subprocess.Popen(
            self._words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=ENVIRONMENT,
            text=True,
        )

    async def until(self, pattern: str, size: int) -> None:
        """A file of the unfinished generation has got so large, or the backup has ended."""
        process = self.process
        assert process is not None

        def look() -> bool:
            for path in self._folder.glob(f"generations/*.partial/{pattern}"):
                with suppress(FileNotFoundError):
                    if path.stat().st_size >= size:
                        return True
            # There is nothing to be woken by.
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.005)
            return process.returncode is not None

        while not await trio.to_thread.run_sync(look):
            pass

    def wait(self) -> tuple[int, str]:
        assert self.process is not None
        output, _ = self.process.communicate(timeout=120)
        return self.process.returncode, output


def check_restored(data_dir: Path, promised: Mapping[str, Item], ledger: Ledger) -> None:
    kept = by_uid(sorted((data_dir / "objects").rglob("*.dcm")))
    trashed = by_uid(sorted((data_dir / "trash").glob("*/*.dcm")))
    # What was deleted meanwhile is in one of both, as of the moment of the backup.
    assert not kept.keys() & trashed.keys()
    kept |= trashed
    assert promised.keys() <= kept.keys(), f"{len(promised.keys() - kept.keys())} are lost"
    for uid, path in kept.items():
        last = ledger.begun[uid]
        first = promised[uid].version if uid in promised else 1
        versions = [replace(last, version=version) for version in range(first, last.version + 1)]
        assert data_set_bytes(path) in [version.data_set() for version in versions], uid


async def delete(archive: ServedArchive, uids: Sequence[str], where: Sequence[str]) -> None:
    """As an operator does, beside server and backup."""
    words = [word for uid in uids for word in ("--instance", uid)]
    if words:
        call = partial(
            isocenter_command, "delete", *words, "--reason", "a test", "--yes", "--data-dir",
            archive.data_dir, *where,
        )  # fmt: skip
        done = await trio.to_thread.run_sync(call)
        assert done.returncode == 0, done.stdout


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def where(request: pytest.FixtureRequest) -> Sequence[str]:
    """Where the index is kept."""
    if request.param == "SQLite":
        return ()
    server: Server = request.getfixturevalue("postgresql_server")
    return ("--database", server.url(server.new_database()))


async def test_what_was_acknowledged_before_a_backup_began_is_in_it(
    tmp_path: Path, where: Sequence[str]
) -> None:
    ledger = Ledger()
    random = Random(ROUNDS)
    backups = tmp_path / "backups"
    config = tmp_path / "isocenter.toml"
    config.write_text('[storage]\nduplicates = "replace"\n')
    for number in range(ROUNDS):
        victim = VICTIMS[number % len(VICTIMS)]
        studies = range(number * CLIENTS, (number + 1) * CLIENTS)
        with served_archive(tmp_path, "--config", config, *where) as archive:
            backup = Backup(archive, backups, ledger, where)
            load = Load(archive.port, ledger, random)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(load.run, studies)
                await load.until(random.randint(1, MOST_BEFORE))
                backup.start()
                await backup.until(*random.choice(MOMENTS))
                if number:
                    victims = random.sample(sorted(backup.promised), 3)
                    ours = [uid for uid in victims if ledger.begun[uid].study < studies.start]
                    nursery.start_soon(delete, archive, ours, where)
                if victim == "server":
                    archive.process.kill()
                elif victim == "backup" and backup.process is not None:
                    backup.process.kill()
                code, output = await trio.to_thread.run_sync(backup.wait)
                if code == -signal.SIGKILL:
                    before = isocenter_command("backup", "--list", backups).stdout
                    # None, when it was on the point of ending, with all done.
                    assert before.count("not finished") <= 1
                    # The next one takes over what there is, and is of its own moment.
                    backup.start()
                    code, output = await trio.to_thread.run_sync(backup.wait)
                load.is_stopped = True
            assert code == 0, output
            assert " 0 faults" in isocenter_command("backup", "--verify", backups).stdout
            restored = tmp_path / f"restored{number}"
            done = isocenter_command("restore", backups, "--data-dir", restored)
            assert done.returncode == 0, done.stdout
            assert ", 0 not in the index" in done.stdout, done.stdout
            assert "records, 0 faults" in done.stdout, done.stdout
            check_restored(restored, backup.promised, ledger)
            if victim == "server":
                assert archive.process.wait() == -signal.SIGKILL
    # A server on what was restored serves it, and goes on.
    with served_archive(tmp_path / "again", "--data-dir", restored) as archive:
        async with raw_peer(archive.port) as peer:
            sender = Sender(peer)
            await sender.associate()
            assert await sender.store(Item(10_000, 1)) == SUCCESS


def killed_restore(words: Sequence[str], restored: Path, wanted: int) -> int:
    """A restore that is killed as soon as so many objects are there; its exit code."""
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
    )
    while process.poll() is None and len(list(restored.glob("objects/*/*/*"))) < wanted:
        os.sched_yield()
    process.kill()
    return process.wait()


async def test_a_restore_that_is_killed_goes_on(tmp_path: Path) -> None:
    ledger = Ledger()
    backups = tmp_path / "backups"
    config = tmp_path / "isocenter.toml"
    config.write_text('[storage]\nduplicates = "replace"\n')
    with served_archive(tmp_path, "--config", config) as archive:
        load = Load(archive.port, ledger, Random(1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.run, range(CLIENTS))
            await load.until(200)
            load.is_stopped = True
        backup = Backup(archive, backups, ledger)
        backup.start()
        code, output = backup.wait()
        assert code == 0, output
    restored = tmp_path / "restored"
    words = [*ISOCENTER, "restore", str(backups), "--data-dir", str(restored)]
    kills = 0
    for wanted in (1, 20, 60):
        code = await trio.to_thread.run_sync(killed_restore, words, restored, wanted)
        kills += code == -signal.SIGKILL and (restored / "restoring.json").exists()
        if kills:
            with (
                pytest.raises(AssertionError, match="is not finished"),
                served_archive(tmp_path / "early", "--data-dir", restored),
            ):
                pass
    assert kills
    done = isocenter_command("restore", backups, "--data-dir", restored)
    assert done.returncode == 0, done.stdout
    check_restored(restored, backup.promised, ledger)
    assert not list((restored / "staging").iterdir())
