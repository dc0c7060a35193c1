"""`kill -9` of a server that compresses: each object stays, in one form or the other."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import orjson
import pydicom
import pytest

from support.images import dataset_of, describe, file_of, pixels
from support.processes import isocenter_command, served_archive, wait_until

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("ISOCENTER_TEST_KILLS", "5"))
OBJECTS = 4 * KILLS
STUDY = "1.2.826.0.1.3680043.10.1451.9"
CONFIGURATION = """
[compression]
bytes_per_second = 0
[[rules]]
name = "all"
compress = "jpeg-ls"
compress_when = "arrival"
"""


def counts(data_dir: Path) -> dict[str, int]:
    """Records by state, as the index has them while a server works on it."""
    uri = f"file:{data_dir / 'index.db'}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=30)) as connection:
        return dict(
            connection.execute("SELECT state, count(*) FROM compression GROUP BY state").fetchall()
        )


def test_kill_9_while_objects_are_compressed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    config = tmp_path / "isocenter.toml"
    config.write_text(CONFIGURATION)
    wanted = {}
    for number in range(OBJECTS):
        # Small ones go into the journal, larger ones into files of their own.
        image = describe(48 + 64 * (number % 3), 256, bits=12)
        array = pixels(image, number)
        dataset = dataset_of(image, [array, array])
        dataset.StudyInstanceUID = STUDY
        wanted[str(dataset.SOPInstanceUID)] = dataset.PixelData
        (tmp_path / "in" / f"{number}.dcm").write_bytes(file_of(dataset))
    chance = random.Random(KILLS)
    for kill in range(KILLS):
        with served_archive(tmp_path, "--config", config) as archive:
            if not kill:
                called = f"ISOCENTER@127.0.0.1:{archive.port}"
                assert isocenter_command("storescu", called, tmp_path / "in").returncode == 0
            done = counts(archive.data_dir).get("done", 0)
            least = min(done + chance.randint(1, 3), OBJECTS)
            wait_until(
                lambda path=archive.data_dir, least=least: counts(path).get("done", 0) >= least,  # type: ignore[misc]
                archive.process,
            )
            archive.process.send_signal(signal.SIGKILL)
            assert archive.process.wait() == -signal.SIGKILL
    with served_archive(tmp_path, "--config", config) as archive:
        wait_until(
            lambda: counts(archive.data_dir) == {"done": OBJECTS}, archive.process, seconds=120
        )
        verified = isocenter_command("db", "verify", "--data-dir", archive.data_dir)
        assert verified.returncode == 0, verified.stdout
        assert f"{OBJECTS} instances, {OBJECTS} objects" in verified.stdout
        assert "0 not in the index" in verified.stdout
        got = tmp_path / "got"
        got.mkdir()
        fetched = isocenter_command(
            "getscu", "-S", f"ISOCENTER@127.0.0.1:{archive.port}", "-xi",
            "-L", "STUDY", "-k", f"StudyInstanceUID={STUDY}", "-od", got,
        )  # fmt: skip
        listed = isocenter_command("compress", "list", "--json", "--data-dir", archive.data_dir)
        assert all(row["size"] < row["size_before"] for row in orjson.loads(listed.stdout))
    assert fetched.returncode == 0, fetched.stdout
    found = {}
    for path in got.rglob("*"):
        if path.is_file():
            read = pydicom.dcmread(path)
            found[str(read.SOPInstanceUID)] = read.PixelData
    assert found == wanted
