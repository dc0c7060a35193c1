"""`kill -9` of commands and servers that correct: a study shows the old name or the new one."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
from contextlib import closing
from functools import partial
from pathlib import Path

import pydicom
import pytest

from support.images import dataset_of, describe, file_of, pixels
from support.processes import (
    ENVIRONMENT,
    ISOCENTER,
    ServedArchive,
    isocenter_command,
    served_archive,
    wait_until,
)

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("ISOCENTER_TEST_KILLS", "4"))
OBJECTS = 40
STUDY = "1.2.826.0.1.3680043.10.1451.11"
OLD = "Old^Name"


def progress(data_dir: Path) -> tuple[int, int]:
    """Corrections, and objects that are to be corrected, while others work on it."""
    uri = f"file:{data_dir / 'index.db'}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=30)) as connection:
        ordered, due = connection.execute(
            "SELECT (SELECT count(*) FROM correction), "
            "(SELECT count(*) FROM corrected_instance WHERE state = 'due')"
        ).fetchone()
        return int(ordered), int(due)


def is_worked_on(data_dir: Path, ordered: int, left: int) -> bool:
    """So many corrections are ordered, and so much at most is left to be done."""
    corrections, due = progress(data_dir)
    return corrections == ordered and due <= left


def begun(*words: object) -> subprocess.Popen[bytes]:
    """A command that goes on while the test does."""
    return subprocess.Popen(
        [*ISOCENTER, *map(str, words), "-q"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        env=ENVIRONMENT,
    )


def fetched(archive: ServedArchive, folder: Path) -> dict[str, pydicom.Dataset]:
    folder.mkdir()
    done = isocenter_command(
        "getscu", "-S", f"ISOCENTER@127.0.0.1:{archive.port}",
        "-L", "STUDY", "-k", f"StudyInstanceUID={STUDY}", "-od", folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    read = [pydicom.dcmread(path) for path in folder.rglob("*") if path.is_file()]
    return {str(each.SOPInstanceUID): each for each in read}


def test_kill_9_while_objects_are_corrected(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    wanted = {}
    for number in range(OBJECTS):
        # Small ones go into the journal, larger ones into files of their own.
        image = describe(48 + 64 * (number % 3), 256, bits=12)
        dataset = dataset_of(image, [pixels(image, number)])
        dataset.StudyInstanceUID = STUDY
        dataset.PatientName = OLD
        wanted[str(dataset.SOPInstanceUID)] = dataset.PixelData
        (tmp_path / "in" / f"{number}.dcm").write_bytes(file_of(dataset))
    chance = random.Random(KILLS)
    name = OLD
    for kill in range(KILLS):
        with served_archive(tmp_path) as archive:
            where = ("--data-dir", archive.data_dir)
            if not kill:
                called = f"ISOCENTER@127.0.0.1:{archive.port}"
                assert isocenter_command("storescu", called, tmp_path / "in").returncode == 0
            words = ("correct", "--study", STUDY, "--set", f"PatientName=New^{kill}")
            command = begun(*words, "--reason", "a test", "--yes", *where)
            left = chance.randrange(OBJECTS)
            wait_until(
                partial(is_worked_on, archive.data_dir, kill + 1, left),
                archive.process,
            )
            # Now the command, now the server, which would go on with it.
            if kill % 2:
                archive.process.send_signal(signal.SIGKILL)
                assert archive.process.wait() == -signal.SIGKILL
            command.send_signal(signal.SIGKILL)
            command.wait()
            if not kill % 2:
                archive.process.send_signal(signal.SIGKILL)
                assert archive.process.wait() == -signal.SIGKILL
        with served_archive(tmp_path) as archive:
            found = fetched(archive, tmp_path / f"{kill} at once")
            assert set(found) == set(wanted)
            shown = {str(each.PatientName) for each in found.values()}
            assert len(shown) == 1
            assert shown <= {name, f"New^{kill}"}
            # The server brings it to its end.
            wait_until(partial(is_worked_on, archive.data_dir, kill + 1, 0), archive.process)
            resumed = isocenter_command("corrections", "resume", "--data-dir", archive.data_dir)
            assert resumed.returncode == 0, resumed.stderr
            name = f"New^{kill}"
            found = fetched(archive, tmp_path / f"{kill}")
            assert {str(each.PatientName) for each in found.values()} == {name}
            assert {uid: each.PixelData for uid, each in found.items()} == wanted
            verified = isocenter_command("db", "verify", "--data-dir", archive.data_dir)
            assert verified.returncode == 0, verified.stdout
            assert f"{OBJECTS} instances, {2 * OBJECTS} objects" in verified.stdout
            assert "0 not in the index" in verified.stdout
    with served_archive(tmp_path) as archive:
        for number in range(1, KILLS + 1):
            undone = isocenter_command(
                "corrections", "undo", number, "--reason", "a test", "--data-dir", archive.data_dir
            )
            assert undone.returncode == 0, undone.stderr
        verified = isocenter_command("db", "verify", "--data-dir", archive.data_dir)
        assert f"{OBJECTS} instances, {OBJECTS} objects" in verified.stdout
        found = fetched(archive, tmp_path / "undone")
        assert {str(each.PatientName) for each in found.values()} == {OLD}
