"""``isocenter compress``, beside a server that compresses by rule."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from support.images import dataset_of, describe, file_of, pixels
from support.processes import ServedArchive, isocenter_command, served_archive

pytestmark = pytest.mark.slow

IMAGE = describe(64, 64, bits=12)
CONFIGURATION = """
[compression]
bytes_per_second = 0
[[rules]]
name = "images"
when = { modality = "OT" }
compress = "jpeg-ls"
compress_when = "arrival"
"""


def ask(archive: ServedArchive, *words: str, code: int = 0) -> str:
    done = isocenter_command("compress", *words, "--data-dir", archive.data_dir)
    assert done.returncode == code, done.stdout
    return done.stdout


def status(archive: ServedArchive) -> Any:
    return orjson.loads(ask(archive, "status", "--json"))


def until(archive: ServedArchive, done: int) -> Any:
    """Ask again until it is; each question is a process of its own, which takes its time."""
    deadline = time.monotonic() + 60
    while True:
        now = status(archive)
        if now["counts"]["done"] == done and not now["counts"]["due"]:
            return now
        assert time.monotonic() < deadline, f"not compressed: {now}"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedArchive]:
    """Three images came, of which one has digital signatures, and one is of no rule."""
    folder = tmp_path_factory.mktemp("compress")
    (folder / "in").mkdir()
    (folder / "isocenter.toml").write_text(CONFIGURATION)
    for number in range(3):
        dataset = dataset_of(IMAGE, [pixels(IMAGE, number)])
        if number == 1:
            dataset.DigitalSignaturesSequence = [dataset_of(IMAGE, [])]
            del dataset.DigitalSignaturesSequence[0].PixelData
        if number == 2:
            dataset.Modality = "XX"
        (folder / "in" / f"{number}.dcm").write_bytes(file_of(dataset))
    with served_archive(folder, "--config", folder / "isocenter.toml") as archive:
        sent = isocenter_command(
            "storescu", "-q", f"ISOCENTER@127.0.0.1:{archive.port}", folder / "in"
        )
        assert sent.returncode == 0, sent.stdout
        yield archive


def test_status_counts_what_was_won_and_says_what_stays(archive: ServedArchive) -> None:
    now = until(archive, 1)
    assert now["counts"]["kept"] == 1
    assert 0 < now["size"] < now["size_before"]
    (reason,) = now["reasons"]
    assert "digital signatures" in reason["reason"]
    text = ask(archive, "status")
    assert "1 done, 1 kept, 0 failed" in text
    assert "kept: 1 because: it has digital signatures" in text


def test_list_shows_the_records(archive: ServedArchive) -> None:
    until(archive, 1)
    (row,) = orjson.loads(ask(archive, "list", "--state", "done", "--json"))
    assert (row["to"], row["rule"], row["attempts"]) == ("jpeg-ls", "images", 1)
    assert "jpeg-ls" in ask(archive, "list")


def test_retry_wants_a_record(archive: ServedArchive) -> None:
    assert "there is no such record" in ask(archive, "retry", "4711", code=1)


def test_add_has_compressed_what_is_here_already(archive: ServedArchive, tmp_path: Path) -> None:
    until(archive, 1)
    assert "nothing of that" in ask(archive, "add", "--to", "rle", "--study", "1.2.3", code=1)
    assert "3 objects" in ask(archive, "add", "--to", "htj2k", "--all")
    assert until(archive, 2)["counts"]["kept"] == 1
    assert "Traceback" not in ask(archive, "list")
