"""The model of a disk: what a sync saves, when several are under way at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from durability.disk import Disk, Model
from durability.journal import Begin, End

ROOT = Path("/disk")


def quoted(text: str) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in text.encode()) + '"'


class Journal:
    """Calls of several threads, as strace tells them."""

    def __init__(self) -> None:
        self.disk = Disk(ROOT)

    def begin(self, thread: int, name: str, arguments: str) -> None:
        self.disk.follow(Begin(thread, name, arguments))

    def end(self, thread: int, name: str, arguments: str, result: int = 0) -> None:
        self.disk.follow(End(thread, name, arguments, result))

    def whole(self, thread: int, name: str, arguments: str, result: int = 0) -> None:
        self.begin(thread, name, arguments)
        self.end(thread, name, arguments, result)

    def write(self, text: str, offset: int) -> None:
        self.whole(1, "pwrite64", f"3, {quoted(text)}, {len(text)}, {offset}", len(text))


@pytest.fixture
def journal() -> Journal:
    """With a file ``a`` that is open as 3, and durable while it is empty."""
    made = Journal()
    made.whole(1, "openat", f"AT_FDCWD, {quoted('/disk/a')}, O_RDWR|O_CREAT, 0600", 3)
    made.whole(1, "openat", f"AT_FDCWD, {quoted('/disk')}, O_RDONLY", 4)
    made.whole(1, "fsync", "4")
    return made


def left(journal: Journal, folder: Path, model: Model) -> str:
    journal.disk.after_power_failure(folder / model.name, model)
    return (folder / model.name / "a").read_text()


@pytest.mark.parametrize("model", [Model.ORDERED, Model.ORDERED_LATE, Model.STRICT])
@pytest.mark.parametrize("slow", ["fsync", "syncfs"])
def test_a_slow_sync_takes_back_nothing_of_a_later_one(
    journal: Journal, slow: str, model: Model, tmp_path: Path
) -> None:
    journal.write("one", 0)
    journal.begin(1, slow, "3")
    journal.write("two", 3)
    journal.whole(2, "fdatasync", "3")
    journal.end(1, slow, "3")
    assert left(journal, tmp_path, model) == "onetwo"


def test_a_sync_saves_what_was_there_when_it_began(journal: Journal, tmp_path: Path) -> None:
    journal.write("one", 0)
    journal.begin(1, "fdatasync", "3")
    journal.write("two", 3)
    journal.end(1, "fdatasync", "3")
    assert left(journal, tmp_path, Model.STRICT) == "one"
