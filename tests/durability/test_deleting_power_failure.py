"""The power fails while something is deleted, restored or purged: each object is where it was said.

A program runs the commands under `strace` on an empty disk.  From the journal of its system
calls, those of SQLite and of the audit trail among them, disks are made as a power failure would
have left them, and the archive is opened on each.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
import trio

from durability.disk import Disk, Model
from durability.journal import Begin, End, read_journal, strace
from durability.workload import Item
from isocenter.services import composition
from isocenter.services.archive.deletion.ports import TrashChoice
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.archive.verification import verify
from isocenter.services.settings.loading import load_settings
from support.processes import program

pytestmark = [pytest.mark.slow, pytest.mark.interop("strace")]

#: Crash points that are tried in each model; 0: every one.
POINTS = int(os.environ.get("ISOCENTER_TEST_CRASH_POINTS", "8"))
DATA = Path("srv") / "isocenter"
ITEMS = [Item(1, number, 3_000 * number) for number in range(1, 6)]
OTHER = Item(2, 1, 2_000)
WHOLE = {item.uid for item in ITEMS}
WORDS = (b"stored", b"deleted", b"restored", b"deleted again", b"purged")
_SECONDS = 300

#: Says over a socket what is done: what is sent has its place in the journal.
DRIVER = """
import socket, sys
from isocenter.services.cli import main

data, files, study = sys.argv[1:]
told, heard = socket.socketpair()

def run(word, *words):
    assert main([*words, "--data-dir", data, "-q"]) == 0, words
    told.send(word)

delete = ("delete", "--study", study, "--reason", "test", "--yes")
run(b"stored", "import", files)
run(b"deleted", *delete)
run(b"restored", "trash", "restore", "--study", study)
run(b"deleted again", *delete)
run(b"purged", "trash", "purge", "--all", "--yes")
"""


@dataclass
class Recorded:
    """What the program did.

    Attributes:
        kinds: for each call, what kind of moment it is.
        said: call → the word that it sent.
    """

    root: Path
    calls: list[Begin | End]
    kinds: list[str]
    said: dict[int, str]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("deleting")
    root, files, journal = folder / "disk", folder / "files", folder / "journal"
    root.mkdir()
    files.mkdir()
    for item in (*ITEMS, OTHER):
        (files / f"{item.uid}.dcm").write_bytes(item.part10("SENDER"))
    script = folder / "driver.py"
    script.write_text(DRIVER)
    log = folder / "log"
    words = [*strace(journal), sys.executable, script, root / DATA, files, ITEMS[0].study_uid]
    with program(*words, log=log) as process:
        assert process.wait(_SECONDS) == 0, log.read_text()
    calls = list(read_journal(journal))
    disk = Disk(root)
    kinds, said = [], {}
    for place, call in enumerate(calls):
        kinds.append(disk.follow(call))
        # Threads wake each other over sockets, too.
        for sent in disk.sent:
            if sent in WORDS:
                said[place] = sent.decode()
    assert [word.encode() for word in said.values()] == list(WORDS)
    return Recorded(root, calls, kinds, said)


def places(recorded: Recorded) -> list[int]:
    """Where the power fails: at what was said, and by chance at what came after it was stored."""
    said = sorted(recorded.said)
    later = [place for place, kind in enumerate(recorded.kinds) if kind and place > said[0]]
    return sorted({*said, *(Random(POINTS).sample(later, POINTS) if POINTS else later)})


@pytest.mark.parametrize("model", Model)
def test_each_object_is_where_it_belongs(recorded: Recorded, model: Model, tmp_path: Path) -> None:
    disk = Disk(recorded.root)
    said: list[str] = []
    points = set(places(recorded))
    for place, call in enumerate(recorded.calls):
        disk.follow(call)
        said += [recorded.said[place]] if place in recorded.said else []
        if place not in points:
            continue
        image = tmp_path / f"{place}"
        disk.after_power_failure(image, model, seed=place)
        try:
            trio.run(_check, image / DATA, said, place in recorded.said)
        except BaseException as error:
            error.add_note(f"after call {place} ({recorded.kinds[place]}), said: {said}")
            raise


async def _check(data_dir: Path, said: list[str], is_just_said: bool) -> None:
    settings = load_settings(environ={}, overrides={"storage.data_dir": str(data_dir)})
    async with composition.open_archive_parts(settings) as parts:
        archive = parts.archive
        trash = composition.trash_of(settings, parts, "test")
        assert trash is not None

        async def found() -> dict[str, bytes]:
            contents = {}
            async with archive.index.instances() as blocks:
                async for block in blocks:
                    for stored in block:
                        async with await archive.open(stored) as reader:
                            content = await reader.read(stored.data_set_offset, reader.size)
                        contents[stored.sop_instance_uid] = content
            return contents

        here = await found()
        assert here.keys() >= {OTHER.uid}, "what nobody deleted is gone"
        kept = here.keys() & WHOLE
        rows = await trash.book.chosen(TrashChoice(), limit=100)
        trashed = {row.stored.sop_instance_uid for row in rows}
        assert not kept & trashed
        assert kept in (set(), WHOLE)
        assert trashed in (set(), WHOLE)
        if "deleted again" not in said:
            assert kept | trashed == WHOLE, "lost"
        if is_just_said:
            assert (kept == WHOLE) == (said[-1] in ("stored", "restored"))
            assert (trashed == WHOLE) == said[-1].startswith("deleted")
        report = await verify(archive)
        assert report.is_good
        assert not report.orphans.count, report.orphans.named
        assert not (await trash.verify()).count
        if trashed:
            restored = await trash.restore(TrashChoice(), Requester(name="test"))
            assert restored.instances == len(WHOLE)
            here = await found()
        for item in ITEMS:
            if item.uid in here:
                assert here[item.uid] == item.data_set(), "an object was changed"
