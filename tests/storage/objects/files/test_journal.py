from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from isocenter.services.errors import StorageError
from isocenter.storage.objects.files import journal as module
from isocenter.storage.objects.files.file_system import OsFileSystem
from isocenter.storage.objects.files.journal import (
    DAMAGED,
    Journal,
    JournalFullError,
    Kind,
    Record,
    Segment,
    read_segment,
)
from isocenter.storage.objects.files.recovery import damaged_segments
from isocenter.storage.objects.files.store import open_file_store
from storage.power_model import ModelFiles
from storage.store_contract import content, index_of, nothing, put

SECTOR = 512
#: Smaller than in life.
SEGMENT_BYTES = 1 << 20


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", SEGMENT_BYTES)


def record(number: int, size: int = 100) -> Record:
    return Record(Kind.CONTENT, f"s/{number}.dcm", content=bytes([number % 251]) * size)


def opened(folder: Path, *, is_durable: bool = True) -> Journal:
    folder.mkdir(exist_ok=True)
    return Journal(str(folder), OsFileSystem(), is_durable=is_durable)


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.journal"))


def records_in(path: Path) -> list[Record]:
    found = read_segment(str(path))
    assert found.damage == ""
    return [Record(r.kind, r.key, r.staged, bytes(r.content)) for r in found.records]


@pytest.mark.parametrize("is_durable", [True, False])
def test_what_was_appended_is_read_back(tmp_path: Path, is_durable: bool) -> None:
    journal = opened(tmp_path / "j", is_durable=is_durable)
    rounds = [
        [record(1), record(2, 0), record(3, 65_000)],
        [Record(Kind.STAGED, "a/b~1.dcm", "abc123"), Record(Kind.KEY, "c")],
        [record(4, 4096 - 200), record(5)],
    ]
    for some in rounds:
        where = journal.append(some)
        assert len(where) == len(some)
    (path,) = segments(tmp_path / "j")
    assert path.stat().st_size == SEGMENT_BYTES
    assert records_in(path) == [each for some in rounds for each in some]


def test_an_empty_round(tmp_path: Path) -> None:
    assert opened(tmp_path / "j").append([]) == []


def test_a_round_larger_than_a_segment(tmp_path: Path) -> None:
    journal = opened(tmp_path / "j")
    records = [record(number, 7_500) for number in range(256)]
    where = journal.append(records)
    assert len(set(where)) == len(segments(tmp_path / "j")) == 2
    found = [each for path in segments(tmp_path / "j") for each in records_in(path)]
    assert sorted(each.key for each in found) == sorted(each.key for each in records)
    assert all(each in records for each in found)


def test_what_is_released_counts_no_more_and_gives_its_room_back(tmp_path: Path) -> None:
    journal = opened(tmp_path / "j")
    for start in range(0, 3000, 10):
        where = journal.append([record(number, 1_500) for number in range(start, start + 10)])
        journal.release(where)
    (path,) = segments(tmp_path / "j")
    assert records_in(path) == []
    journal.close()
    assert os.listdir(tmp_path / "j") == []


def test_segments_take_turns(tmp_path: Path) -> None:
    """While something is always on its way, as many are made as that takes, and no more."""
    journal = opened(tmp_path / "j")
    live: list[list[Segment]] = []
    for number in range(0, 3000, 10):
        live.append(journal.append([record(number + each, 1_500) for each in range(10)]))
        journal.prepare()
        if len(live) > 5:
            journal.release(live.pop(0))
    assert len(segments(tmp_path / "j")) == 2
    kept = {each.key for path in segments(tmp_path / "j") for each in records_in(path)}
    assert kept >= {f"s/{number}.dcm" for number in range(2950, 3000)}
    journal.close()
    # What is live stays for the next start.
    assert segments(tmp_path / "j")


def test_a_journal_that_is_full_says_so_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_SEGMENTS", 1)
    journal = opened(tmp_path / "j")
    live: list[Segment] = []

    def fill() -> None:
        while True:
            live.extend(journal.append([record(len(live), 65_000)]))

    with pytest.raises(JournalFullError) as caught:
        fill()
    assert caught.value.errno == errno.ENOSPC
    assert len(live) == 15
    journal.release(live)
    journal.append([record(1)])
    (path,) = segments(tmp_path / "j")
    assert records_in(path) == [record(1)]


async def test_a_store_whose_journal_is_full_is_out_of_resources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_SEGMENTS", 1)
    store = await open_file_store(tmp_path)
    staged = []
    outcome: object = None
    while outcome is None:
        staged.append(await store.stage())
        await staged[-1].write([bytes(65_000)])
        (outcome,) = await store.publish([(staged[-1], f"s/{len(staged)}")])
    assert isinstance(outcome, StorageError)
    assert outcome.out_of_resources
    assert "journal is full" in str(outcome)
    await store.settle(staged)
    await put(store, "later", b"x")


def test_no_room_for_a_segment(tmp_path: Path) -> None:
    class Full(OsFileSystem):
        is_full = True

        def write_at(self, descriptor: int, data: object, offset: int) -> None:
            if self.is_full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().write_at(descriptor, data, offset)  # type: ignore[arg-type]

    (tmp_path / "j").mkdir()
    files = Full()
    journal = Journal(str(tmp_path / "j"), files, is_durable=True)
    with pytest.raises(OSError, match="No space"):
        journal.append([record(1)])
    assert os.listdir(tmp_path / "j") == []
    files.is_full = False
    journal.append([record(2)])
    files.is_full = True
    with pytest.raises(OSError, match="No space"):
        journal.append([record(3)])
    files.is_full = False
    journal.append([record(4)])
    (path,) = segments(tmp_path / "j")
    assert records_in(path) == [record(2), record(4)]


# -- What a crash leaves -----------------------------------------------------------------


def half_written(before: bytes, after: bytes, random: Random) -> Iterator[bytes]:
    """What a disk may have of a write: any sectors of it."""
    for _ in range(40):
        mixed = bytearray(before)
        for start in range(0, len(before), SECTOR):
            new = after[start : start + SECTOR]
            if before[start : start + SECTOR] != new and random.random() < 0.5:
                mixed[start : start + SECTOR] = new
        yield bytes(mixed)


@pytest.mark.parametrize(
    "sizes", [(10,), (3000, 5000), (4096 - 60, 9, 9000, 4000, 4100), (64_000,)]
)
def test_a_torn_round_is_nothing(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    journal = opened(tmp_path / "j")
    rounds = [[record(10 * each + n, size) for n, size in enumerate(sizes)] for each in range(3)]
    images = [b""]
    for some in rounds:
        journal.append(some)
        (path,) = segments(tmp_path / "j")
        images.append(path.read_bytes())
    for number in (1, 2):
        acknowledged = [each for some in rounds[:number] for each in some]
        for image in half_written(images[number], images[number + 1], Random(number)):
            path.write_bytes(image)
            found = records_in(path)
            # Of the round that was torn perhaps some, and these whole.
            assert found[: len(acknowledged)] == acknowledged
            extra = found[len(acknowledged) :]
            assert extra == rounds[number][: len(extra)]


def test_a_torn_round_over_one_of_an_earlier_generation_is_nothing(tmp_path: Path) -> None:
    journal = opened(tmp_path / "j")
    live: list[Segment] = []
    for number in range(9):
        live += journal.append([record(number, 5000)])
    (path,) = segments(tmp_path / "j")
    journal.release(live)
    before = path.read_bytes()
    assert records_in(path) == []
    journal.append([record(20, 5000), record(21, 5000)])
    for image in half_written(before, path.read_bytes(), Random(1)):
        path.write_bytes(image)
        found = records_in(path)
        assert found == [record(20, 5000), record(21, 5000)][: len(found)]


# -- What a disk or a hand does ----------------------------------------------------------


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A segment with twenty rounds of three records."""
    journal = opened(tmp_path / "j")
    for number in range(20):
        journal.append([record(3 * number + each, 3000) for each in range(3)])
    (path,) = segments(tmp_path / "j")
    return path


@pytest.mark.parametrize("seed", range(20))
def test_noise_within_is_named(written: Path, seed: int) -> None:
    random = Random(seed)
    data = bytearray(written.read_bytes())
    # 12 KiB are a round; the last one cannot be told from one that a crash has cut short.
    start = random.randrange(0, 4096 + 18 * 12_288)
    count = random.choice((1, 100, 5000))
    for place in range(start, start + count):
        data[place] ^= random.randrange(1, 256)
    written.write_bytes(data)
    found = read_segment(str(written))
    is_padding = not found.damage and len(found.records) == 60
    assert found.damage or is_padding
    for number, each in enumerate(found.records):
        expected = record(number, 3000)
        assert (each.key, bytes(each.content)) == (expected.key, expected.content)
    if not is_padding:
        assert damaged_segments(str(written.parent)) == [f"{written.name}: {found.damage}"]


def test_all_noise_is_named(written: Path) -> None:
    written.write_bytes(os.urandom(SEGMENT_BYTES))
    assert read_segment(str(written)).damage == "its head is damaged"
    assert read_segment(str(written)).records == ()


@pytest.mark.parametrize("length", [0, 10, 4096, 50_000, SEGMENT_BYTES - 1])
def test_a_segment_that_was_cut_is_named_and_what_is_left_is_used(
    written: Path, length: int
) -> None:
    os.truncate(written, length)
    found = read_segment(str(written))
    assert found.damage
    if length > 40_000:
        assert [each.key for each in found.records[:9]] == [f"s/{n}.dcm" for n in range(9)]


def test_segments_that_were_exchanged_are_named(tmp_path: Path) -> None:
    for _ in range(2):
        opened(tmp_path / "j").append([record(1)])
    first, second = segments(tmp_path / "j")
    first.rename(tmp_path / "other")
    second.rename(first)
    (tmp_path / "other").rename(second)
    for path in (first, second):
        assert read_segment(str(path)).records == ()
        assert read_segment(str(path)).damage == "it is another one than its name says"


async def test_a_damaged_journal_is_set_aside_and_never_makes_a_wrong_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Objects that are well stay; what only the damaged record had is missing, and is named."""
    files = ModelFiles(tmp_path / "data")
    before = await open_file_store(tmp_path / "data", files=files)
    contents = {f"s/{number}": os.urandom(3000) for number in range(9)}
    for key, data in contents.items():
        await put(before, key, data)
    root = files.after_power_failure(tmp_path / "after")
    (path,) = segments(root / "journal")
    data = bytearray(path.read_bytes())
    data[4096 + 4 * 4096 + 500] ^= 1
    path.write_bytes(data)
    after = await open_file_store(root)
    (line,) = await after.check()
    assert path.name in line
    assert await after.recover(index_of(contents)) == 0
    assert f"the journal {path.name} is damaged" in caplog.text
    for number, (key, whole) in enumerate(contents.items()):
        if number < 4:
            assert await content(after, key) == whole
        else:
            with pytest.raises(KeyError):
                await after.open(key)
    # It is named until somebody takes it away.
    assert os.listdir(root / "journal") == [path.name + DAMAGED]
    (line,) = await after.check()
    assert path.name in line
    assert await after.recover(nothing) == 0
    assert len(await after.check()) == 1


async def test_a_journal_that_is_written_meanwhile_looks_well(tmp_path: Path) -> None:
    store = await open_file_store(tmp_path)
    for number in range(300):
        staged = [await put(store, f"s/{number}-{each}", bytes(9000)) for each in range(4)]
        if number % 3:
            await store.settle(staged)
        if not number % 20:
            assert await store.check() == []
