"""`kill -9` at any moment, again and again, while clients store: nothing acknowledged is lost.

One archive lives through all kills.  Our own clients and DCMTK's `storescu` store; a step of
one of them, chosen by chance, is the last that the server sees.  Then it is started again on
the same data and asked.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
import trio

from durability.workload import (
    LARGE,
    START_LIMIT,
    SUCCESS,
    ConnectionLost,
    Item,
    Sender,
    findable,
    staged,
    studies_found,
)
from isocenter.engine.pdu import Abort
from support.corpus import by_uid, data_set_bytes
from support.postgresql import Server
from support.processes import (
    ENVIRONMENT,
    ServedArchive,
    isocenter_command,
    served_archive,
    workers_of,
)
from support.raw import raw_peer

pytestmark = [pytest.mark.slow, pytest.mark.interop("storescu")]

KILLS = int(os.environ.get("ISOCENTER_TEST_KILLS", "5"))
IS_USUAL_RUN = "ISOCENTER_TEST_KILLS" not in os.environ
WORKER_KILLS = max(KILLS // 2, 2)
CLIENTS = 5
#: Objects of one client between two kills, far more than it gets through.
EACH = 200
#: The last step is one of so many: requests half sent, sent, and answered.
MOST_STEPS = 640 if KILLS >= 1000 else 240
#: Files that DCMTK's storescu sends between two kills.
STORESCU_FILES = 40
#: Seconds within which a server that is told to stop has stopped, whatever its peers do.
STOP_LIMIT = 60.0
GRACE = 2.0
#: A whole look at all files takes longer from kill to kill, so it is not taken after each.
VERIFY_EVERY = 25


@dataclass
class Ledger:
    """What the clients know.

    Attributes:
        acknowledged: by SOP Instance UID.
        begun: what was sent, at least in part; an answer may have been lost with the server.
    """

    acknowledged: dict[str, Item] = field(default_factory=dict)
    begun: dict[str, Item] = field(default_factory=dict)


class Load:
    """Clients that store until the connection breaks; *last* is done at the chosen step."""

    def __init__(self, port: int, ledger: Ledger, steps: int, last: Callable[[], None]) -> None:
        self._port = port
        self._ledger = ledger
        self._steps = steps
        self._last = last

    def _step(self) -> None:
        self._steps -= 1
        if not self._steps:
            self._last()

    async def run(self, studies: range) -> None:
        async with trio.open_nursery() as nursery:
            for study in studies:
                nursery.start_soon(self._client, study)

    async def _client(self, study: int) -> None:
        try:
            async with raw_peer(self._port) as peer:
                sender = Sender(peer)
                await sender.associate()
                for number in range(1, EACH + 1):
                    await self._store(sender, Item(study, number, _size(number)))
        except ConnectionLost:
            pass

    async def _store(self, sender: Sender, item: Item) -> None:
        request = sender.request(item)
        half = len(request) // 2
        self._ledger.begun[item.uid] = item
        await sender.send(request[:half])
        self._step()
        await sender.send(request[half:])
        self._step()
        assert (await sender.answer()).status == SUCCESS
        self._ledger.acknowledged[item.uid] = item
        self._step()


def _size(number: int) -> int:
    """Both sides of what is held in memory before it is written."""
    return LARGE if number % 16 == 0 else 500 + 700 * (number % 20)


@contextmanager
def storescu(port: int, folder: Path, study: int, ledger: Ledger) -> Iterator[None]:
    """DCMTK's client beside ours; what it was told goes into the ledger afterwards."""
    folder.mkdir()
    items = {}
    for number in range(1, STORESCU_FILES + 1):
        item = Item(study, number, _size(number))
        path = folder / f"{number}.dcm"
        path.write_bytes(item.part10("STORESCU"))
        items[str(path)] = item
    process = subprocess.Popen(
        ["storescu", "-v", "-xe", "-aec", "ISOCENTER", "127.0.0.1", str(port), *items],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=ENVIRONMENT,
        text=True,
    )
    try:
        yield
    finally:
        output, _ = process.communicate(timeout=START_LIMIT)
        sent = None
        for line in output.splitlines():
            if name := re.match(r"I: Sending file: (.*)", line):
                sent = items[name[1]]
                ledger.begun[sent.uid] = sent
            elif line.startswith("I: Received Store Response (Success)"):
                assert sent is not None
                ledger.acknowledged[sent.uid] = sent
        for path in items:
            Path(path).unlink()


async def check(
    archive: ServedArchive, ledger: Ledger, studies: range, *, on_the_way: int = 1
) -> None:
    """What these studies look like after a restart: as the ledger says, and no trace more.

    Args:
        on_the_way: objects of each client that may be there without an acknowledgement.
    """
    found = await findable(archive.port, studies)
    acknowledged = {uid for uid, item in ledger.acknowledged.items() if item.study in studies}
    assert acknowledged <= found, f"{len(acknowledged - found)} acknowledged objects are lost"
    # Of each client one answer may have been on its way: what it is of is whole, or not there.
    assert len(found - acknowledged) <= on_the_way * len(studies)
    folders = [archive.data_dir / "objects" / Item(study, 1).study_uid for study in studies]
    kept = by_uid([path for folder in folders for path in folder.rglob("*.dcm")])
    assert kept.keys() == found
    for uid, path in kept.items():
        assert data_set_bytes(path) == ledger.begun[uid].data_set(), "an object was changed"
    assert not staged(archive.data_dir)


def kills_with(database: tuple[object, ...], kills: int) -> int:
    """In the usual run few with a database: what they try is the same."""
    return 2 if database and IS_USUAL_RUN else kills


@pytest.fixture(params=["file", "postgresql"])
def database(request: pytest.FixtureRequest) -> tuple[object, ...]:
    """Options for the index: a file, or a database that goes on when the server is killed."""
    if request.param == "file":
        return ()
    server: Server = request.getfixturevalue("postgresql_server")
    return ("--database", server.url(server.new_database()))


def verify(archive: ServedArchive, *options: object) -> None:
    done = isocenter_command("db", "verify", "--data-dir", archive.data_dir, *options)
    assert done.returncode == 0, done.stdout
    assert ", 0 not in the index" in done.stdout, done.stdout


@contextmanager
def started(
    folder: Path, *options: object, run_by: Sequence[object] = ()
) -> Iterator[ServedArchive]:
    began = time.monotonic()
    with served_archive(folder, *options, run_by=run_by) as archive:
        assert time.monotonic() - began < START_LIMIT
        yield archive


def workers_after(archive: ServedArchive, victim: int) -> list[int]:
    """The two workers, when another one has taken the victim's place."""
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        workers = workers_of(archive.process)
        if len(workers) == 2 and victim not in workers:
            return workers
        # Waiting for another process's children: there is nothing to be woken by.
        with suppress(subprocess.TimeoutExpired):
            archive.process.wait(0.02)
    raise AssertionError("no other worker takes the place of the one that was killed")


async def test_kill_9_of_the_server(tmp_path: Path, database: tuple[object, ...]) -> None:
    kills = kills_with(database, KILLS)
    ledger = Ledger()
    random = Random(kills)
    studies = range(0)
    for kill in range(kills + 1):
        with started(tmp_path, *database) as archive:
            await check(archive, ledger, studies)
            if kill == kills or kill % VERIFY_EVERY == VERIFY_EVERY - 1:
                verify(archive, *database)
            if kill == kills:
                break
            first = studies.stop
            studies = range(first, first + CLIENTS + 1)

            def end(archive: ServedArchive = archive) -> None:
                archive.process.send_signal(signal.SIGKILL)

            load = Load(archive.port, ledger, random.randint(1, MOST_STEPS), end)
            with storescu(archive.port, tmp_path / f"{kill}", studies[-1], ledger):
                await load.run(studies[:-1])
            assert archive.process.wait() == -signal.SIGKILL
    with started(tmp_path, *database) as archive:
        assert len(await studies_found(archive.port)) <= kills * (CLIENTS + 1)
        print(f"{len(ledger.acknowledged)} objects were acknowledged over {kills} kills")
        await check(archive, ledger, range(studies.stop))


async def test_kill_9_of_a_worker(tmp_path: Path, database: tuple[object, ...]) -> None:
    """The others serve on, another takes its place; in the end the whole server is killed."""
    kills = kills_with(database, WORKER_KILLS)
    ledger = Ledger()
    random = Random(kills)
    studies = range(0)
    for _ in range(kills):
        with started(tmp_path, "--workers", 2, *database) as archive:
            await check(archive, ledger, studies)
            first = studies.stop
            studies = range(first, first + 2 * CLIENTS)
            before = set(workers_of(archive.process))
            assert len(before) == 2
            victim = random.choice(sorted(before))

            def end_worker(victim: int = victim) -> None:
                os.kill(victim, signal.SIGKILL)

            def end_server(archive: ServedArchive = archive) -> None:
                archive.process.send_signal(signal.SIGKILL)

            steps = random.randint(1, MOST_STEPS)
            load = Load(archive.port, ledger, steps, end_worker)
            with trio.fail_after(60):
                await load.run(studies[:CLIENTS])
                # Those of the other worker have come to their end; new ones are served as before.
                after = workers_after(archive, victim)
                watched = [os.pidfd_open(worker) for worker in after]
                steps = random.randint(1, MOST_STEPS)
                await Load(archive.port, ledger, steps, end_server).run(studies[CLIENTS:])
                # Nobody could stop workers that outlive their parent.
                for descriptor in watched:
                    await trio.lowlevel.wait_readable(descriptor)
                    os.close(descriptor)
            assert archive.process.wait() == -signal.SIGKILL
    with started(tmp_path, *database) as archive:
        await check(archive, ledger, range(studies.stop))
        verify(archive, *database)


@pytest.mark.parametrize("workers", [1, 2])
async def test_sigterm_under_load(tmp_path: Path, workers: int) -> None:
    """It stops in time, tells who is idle, and leaves nothing to undo."""
    ledger = Ledger()
    studies = range(CLIENTS)
    config = tmp_path / "isocenter.toml"
    config.write_text(f"[deadlines]\nshutdown = {GRACE}\n")  # the default is longer
    with started(tmp_path, "--config", config, "--workers", workers) as archive:

        def stop() -> None:
            archive.process.send_signal(signal.SIGTERM)

        async with raw_peer(archive.port) as idle:
            await Sender(idle).associate()
            with trio.fail_after(STOP_LIMIT):
                await Load(archive.port, ledger, MOST_STEPS, stop).run(studies)
                assert isinstance(await idle.pdu(), Abort)
                assert await trio.to_thread.run_sync(archive.process.wait) == 0
        assert ledger.acknowledged
        assert not staged(archive.data_dir)
    with started(tmp_path) as archive:
        await check(archive, ledger, studies)
        verify(archive)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_data_directory_has_one_server(tmp_path: Path, workers: int) -> None:
    """Another one would undo at its start what the first is about to acknowledge."""
    with started(tmp_path, "--workers", workers) as archive:
        for others in (1, 2):
            options = ("--data-dir", archive.data_dir, "--workers", others)
            with (
                pytest.raises(AssertionError, match="in use by another server"),
                served_archive(tmp_path / "other", *options),
            ):
                pass
        done = isocenter_command("db", "reindex", "--data-dir", archive.data_dir)
        assert done.returncode != 0
        assert "in use by another server" in done.stdout
