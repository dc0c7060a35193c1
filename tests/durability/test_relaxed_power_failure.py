"""Relaxed durability: the power fails while objects take another's place, and none is lost.

What comes may be lost with the power then; what was on the disk may not, whatever is done with it:
moved between tiers, deleted and restored, replaced.
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
from isocenter.services.settings.loading import load_settings
from support.processes import program

pytestmark = [pytest.mark.slow, pytest.mark.interop("strace")]

#: Crash points that are tried in each model; 0: every one.
POINTS = int(os.environ.get("ISOCENTER_TEST_CRASH_POINTS", "6"))
DATA, COLD = Path("srv") / "isocenter", Path("srv") / "cold"
ITEMS = [Item(1, number, 3_000 * number) for number in range(1, 4)]
NEWER = [Item(1, number, 3_000 * number, 2) for number in range(1, 4)]
SETTLED = b"settled"
_SECONDS = 300

#: Has what was imported on the disk, and then does what exchanges bytes for others.
DRIVER = """
import os, socket, sys
from isocenter.services.cli import main

config, data, files, newer, study = sys.argv[1:]
told, heard = socket.socketpair()

def run(*words):
    assert main([*words, "--config", config, "--data-dir", data, "-q"]) == 0, words

os.makedirs(os.path.join(os.path.dirname(data), "cold"))
run("import", files)
for folder, _, names in os.walk(os.path.dirname(data)):
    for path in (folder, *(os.path.join(folder, name) for name in names)):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
told.send(b"settled")
run("tiers", "move", study, "--to", "cold")
run("tiers", "move", study, "--to", "hot")
run("delete", "--study", study, "--reason", "test", "--yes")
run("trash", "restore", "--study", study)
run("import", newer)
"""


@dataclass
class Recorded:
    """What the program did; `kinds`: for each call, what kind of moment it is."""

    root: Path
    config: Path
    calls: list[Begin | End]
    kinds: list[str]
    settled: int


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("relaxed")
    root, journal = folder / "disk", folder / "journal"
    root.mkdir()
    for name, items in (("files", ITEMS), ("newer", NEWER)):
        (folder / name).mkdir()
        for item in items:
            (folder / name / f"{item.uid}.dcm").write_bytes(item.part10("SENDER"))
    config = folder / "isocenter.toml"
    config.write_text(
        '[storage]\ndurability = "relaxed"\nduplicates = "replace"\n'
        f'[tiers]\ncold = "file://{root / COLD}"\ncold_availability = "online"\n'
    )
    script, log = folder / "driver.py", folder / "log"
    script.write_text(DRIVER)
    words = [
        *strace(journal), sys.executable, script, config, root / DATA, folder / "files",
        folder / "newer", ITEMS[0].study_uid,
    ]  # fmt: skip
    with program(*words, log=log) as process:
        assert process.wait(_SECONDS) == 0, log.read_text()
    calls = list(read_journal(journal))
    disk = Disk(root)
    kinds, settled = [], 0
    for place, call in enumerate(calls):
        kinds.append(disk.follow(call))
        if SETTLED in disk.sent:
            settled = place
    assert settled
    return Recorded(root, config, calls, kinds, settled)


def places(recorded: Recorded) -> list[int]:
    """Where the power fails: by chance, and after what takes a name away."""
    later = [at for at, kind in enumerate(recorded.kinds) if kind and at > recorded.settled]
    gone = [
        at
        for at, call in enumerate(recorded.calls)
        if at > recorded.settled
        and isinstance(call, End)
        and call.name in ("unlink", "unlinkat")
        and call.result == 0
        and b".dcm" in b"".join(call.strings)
    ]
    assert len(gone) >= 3 * len(ITEMS)
    if not POINTS:
        return later
    random = Random(POINTS)
    return sorted({*random.sample(later, POINTS), *random.sample(gone, POINTS), later[-1]})


@pytest.mark.parametrize("model", Model)
def test_nothing_that_was_on_the_disk_is_lost(
    recorded: Recorded, model: Model, tmp_path: Path
) -> None:
    disk = Disk(recorded.root)
    points = set(places(recorded))
    for place, call in enumerate(recorded.calls):
        disk.follow(call)
        if place not in points:
            continue
        image = tmp_path / f"{place}"
        disk.after_power_failure(image, model, seed=place)
        try:
            trio.run(_check, recorded, image)
        except BaseException as error:
            error.add_note(f"after call {place} ({recorded.kinds[place]})")
            raise


async def _check(recorded: Recorded, image: Path) -> None:
    settings = load_settings(
        recorded.config,
        environ={},
        overrides={"storage.data_dir": str(image / DATA), "tiers.cold": f"file://{image / COLD}"},
    )
    mark = image / DATA / "tier-cold.url"
    mark.write_text(mark.read_text().replace(str(recorded.root), str(image)))
    async with composition.open_archive_parts(settings) as parts:
        assert parts.mover is not None
        await parts.mover.recover()
        trash = composition.trash_of(settings, parts, "test")
        assert trash is not None
        await trash.restore(TrashChoice(), Requester(name="test"))
        contents = {}
        async with parts.archive.index.instances() as blocks:
            async for block in blocks:
                for stored in block:
                    async with await parts.archive.open(stored) as reader:
                        content = await reader.read(stored.data_set_offset, reader.size)
                    contents[stored.sop_instance_uid] = content
    assert contents.keys() == {item.uid for item in ITEMS}
    for old, new in zip(ITEMS, NEWER, strict=True):
        assert contents[old.uid] in (old.data_set(), new.data_set()), "an object was changed"
