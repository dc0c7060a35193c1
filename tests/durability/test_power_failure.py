"""The power fails at any moment: what was acknowledged is there when it comes back.

A real server runs under `strace` while clients store, and stops.  From the journal of its
system calls disks are made as a power failure would have left them, at syncs and between
them, and the archive is started on each.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
import trio

from durability.disk import Disk, Model
from durability.journal import Begin, End, read_journal, strace
from durability.workload import (
    LARGE,
    START_LIMIT,
    SUCCESS,
    Item,
    Sender,
    findable,
    response_in,
    staged,
    store_one,
)
from isocenter.engine.pdu import PduType
from isocenter.services import composition
from isocenter.services.archive.index.query import Level, Query
from isocenter.services.archive.verification import verify
from isocenter.services.settings.loading import load_settings
from support.processes import served_archive
from support.raw import raw_peer

pytestmark = [pytest.mark.slow, pytest.mark.interop("strace")]

CLIENTS = 4
#: Objects of each client, and of these some more than once.
EACH = 12
AGAIN = (3, 7)
#: Crash points that are tried in each model; 0: every one.
POINTS = int(os.environ.get("ISOCENTER_TEST_CRASH_POINTS", "8"))
#: Images of MIXED for each crash point, all different.
CHANCES = 1 if POINTS else 4
CALLING = "RAW"
#: Where the data directory lies below the disk's root; none of it exists before.
DATA = Path("srv") / "isocenter"


@dataclass
class Recorded:
    """What a server did from its first call to its last.

    Attributes:
        kinds: for each call, what kind of moment it is.
    """

    root: Path
    calls: Sequence[Begin | End]
    kinds: Sequence[str]
    items: dict[str, list[Item]]

    def points(self, count: int) -> list[int]:
        """Calls after which the power fails: syncs, answers, anything between."""
        places = [place for place, kind in enumerate(self.kinds) if kind]
        if not count:
            return places
        chosen = set(Random(count).sample(places, count // 2))
        telling = [place for place in places if self.kinds[place] in {"after sync", "send"}]
        chosen |= set(Random(-count).sample(telling, count - count // 2))
        return sorted(chosen)


@dataclass
class Ledger:
    """What the peers know at one moment: for each SOP instance the versions acknowledged."""

    versions: Counter[str] = field(default_factory=Counter)

    def note(self, sent: bytes) -> None:
        """Read the answers in what went through a socket."""
        while len(sent) >= 6:
            length = 6 + int.from_bytes(sent[2:6], "big")
            if sent[0] == PduType.P_DATA_TF:
                response = response_in(sent[12:length])
                if response is not None:
                    assert response.status == SUCCESS
                    self.versions[response.affected_sop_instance_uid] += 1
            sent = sent[length:]


def record(folder: Path, policy: str) -> Recorded:
    """Let clients store on a server under strace; it stops by SIGTERM at the end."""
    root, journal = folder / "disk", folder / "journal"
    root.mkdir(parents=True)
    items: dict[str, list[Item]] = {}
    config = folder / "isocenter.toml"
    config.write_text(f'[storage]\nduplicates = "{policy}"\n')
    options = ("--config", config, "--data-dir", root / DATA)
    with served_archive(folder, *options, run_by=strace(journal)) as archive:

        async def client(study: int) -> None:
            async with raw_peer(archive.port) as peer:
                sender = Sender(peer)
                await sender.associate()
                for number in range(1, EACH + 1):
                    size = LARGE if number % 5 == 0 else 300 * number
                    for version in range(1, 3 if number in AGAIN else 2):
                        # Under REPLACE another object, under IGNORE the same once more.
                        which = version if policy == "replace" else 1
                        item = Item(study, number, size, which)
                        items.setdefault(item.uid, []).append(item)
                        assert await sender.store(item) == SUCCESS
                await peer.release()

        async def load() -> None:
            async with trio.open_nursery() as nursery:
                for study in range(1, CLIENTS + 1):
                    nursery.start_soon(client, study)

        trio.run(load)
        strace_id = archive.process.pid
        children = Path(f"/proc/{strace_id}/task/{strace_id}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        assert archive.process.wait() == 0
    calls = list(read_journal(journal))
    disk = Disk(root)
    return Recorded(root, calls, [disk.follow(call) for call in calls], items)


@pytest.fixture(scope="module", params=["ignore", "replace"])
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return record(tmp_path_factory.mktemp(request.param), request.param)


def test_the_journal_tells_everything(recorded: Recorded, tmp_path: Path) -> None:
    """Without a power failure the disk of the model is the disk that the server left."""
    disk = Disk(recorded.root)
    ledger = Ledger()
    for call in recorded.calls:
        disk.follow(call)
        for sent in disk.sent:
            ledger.note(sent)
    assert ledger.versions == {uid: len(items) for uid, items in recorded.items.items()}
    for model in Model:
        # The clean end of a server leaves nothing to chance but litter.
        disk.after_power_failure(tmp_path / model.name, model)
    assert _files(tmp_path / Model.ORDERED_LATE.name / DATA) == _files(recorded.root / DATA)


@pytest.mark.parametrize("model", Model)
def test_acknowledged_objects_survive(recorded: Recorded, model: Model, tmp_path: Path) -> None:
    disk = Disk(recorded.root)
    ledger = Ledger()
    points = set(recorded.points(POINTS))
    for place, call in enumerate(recorded.calls):
        disk.follow(call)
        for sent in disk.sent:
            ledger.note(sent)
        if place not in points:
            continue
        for chance in range(CHANCES if model is Model.MIXED else 1):
            image = tmp_path / f"{place}-{chance}"
            disk.after_power_failure(image, model, seed=place * CHANCES + chance)
            try:
                trio.run(_check, image / DATA, recorded.items, ledger)
            except BaseException as error:
                error.add_note(f"power failed after call {place}: {recorded.kinds[place]}")
                raise
            _remove(image)


async def _check(data_dir: Path, items: dict[str, list[Item]], ledger: Ledger) -> None:
    """The archive starts on the image, has what was acknowledged, and shows nothing else."""
    settings = load_settings(environ={}, overrides={"storage.data_dir": str(data_dir)})
    began = time.monotonic()
    async with composition.open_archive(settings) as archive:
        assert time.monotonic() - began < START_LIMIT
        kept: dict[str, bytes] = {}
        async with archive.index.instances() as blocks:
            async for block in blocks:
                for stored in block:
                    async with await archive.open(stored) as reader:
                        kept[stored.sop_instance_uid] = await reader.read(0, reader.size)
        found = set()
        async with archive.index.find(Query(level=Level.IMAGE)) as answers:
            async for matches in answers:
                found |= {match[0x00080018] for match in matches}
        report = await verify(archive)
    assert found == kept.keys()
    assert ledger.versions.keys() <= kept.keys(), "an acknowledged object is lost"
    unacknowledged = 0
    for uid, content in kept.items():
        said = ledger.versions[uid]
        # The last that was acknowledged, or the one whose answer was about to leave.
        allowed = items[uid][max(said - 1, 0) : said + 1]
        assert content in [item.part10(CALLING) for item in allowed], "an object was changed"
        unacknowledged += said == 0
    assert unacknowledged <= CLIENTS, "more is visible than was on its way"
    assert report.is_good
    assert not report.orphans.count, report.orphans.named
    assert report.objects == len(kept)
    assert not staged(data_dir)


def test_a_server_starts_on_what_is_left(recorded: Recorded, tmp_path: Path) -> None:
    """The same over the network, once for each model: found, whole, and new ones go in."""
    disk = Disk(recorded.root)
    ledger = Ledger()
    answers = [place for place, kind in enumerate(recorded.kinds) if kind == "send"]
    last = answers[len(answers) * 2 // 3]
    for call in recorded.calls[: last + 1]:
        disk.follow(call)
        for sent in disk.sent:
            ledger.note(sent)
    for model in Model:
        folder = tmp_path / model.name
        folder.mkdir()
        disk.after_power_failure(folder / "disk", model, seed=last)
        with served_archive(folder, "--data-dir", folder / "disk" / DATA) as archive:
            found = trio.run(findable, archive.port, range(1, CLIENTS + 1))
            assert ledger.versions.keys() <= found
            assert len(found - ledger.versions.keys()) <= CLIENTS
            assert trio.run(store_one, archive.port, Item(CLIENTS + 1, 1)) == SUCCESS


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        # The process ID is taken out at the end, and that is not synced.
        if path.is_file() and not path.name.endswith("-shm") and path.name != "server.pid"
    }


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
