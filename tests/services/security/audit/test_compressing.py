"""Files of the trail compressed: the same chain, whoever reads it, and whatever ends the work."""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from isocenter.services.cli import main
from isocenter.services.security.audit import trail_compression as compressing
from isocenter.services.security.audit import trail_verification as verifying
from isocenter.services.security.audit.hash_chain import Position
from isocenter.services.security.audit.trail_compression import CompressionError, compress_closed
from isocenter.services.security.audit.trail_reader import Cursor, TrailReader
from isocenter.services.security.audit.trail_removal import plan_removal, remove
from isocenter.services.security.audit.trail_segments import Segment, segments_of
from isocenter.services.security.audit.trail_verification import verify
from services.security.audit.trails import KEY, entry, filled, notes, numbers, records, trail
from support.processes import ENVIRONMENT, ISOCENTER, program, wait_for_line

COUNT = 12


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def content_of(folder: Path) -> bytes:
    """All lines, as they were written."""
    return b"".join(
        gzip.decompress(segment.path.read_bytes())
        if segment.is_compressed
        else segment.path.read_bytes()
        for segment in segments_of(folder)
    )


@pytest.mark.parametrize("key", [None, KEY])
def test_a_compressed_trail_proves_the_same(tmp_path: Path, key: bytes | None) -> None:
    files = filled(tmp_path, COUNT, key=key, rotate_bytes=1_000)
    before, seen, content = verify(tmp_path, key=key), records(tmp_path), content_of(tmp_path)
    done = compress_closed(tmp_path)
    assert done.files == len(files) - 1
    assert done.after < done.before
    assert [segment.is_compressed for segment in segments_of(tmp_path)] == [True] * (
        len(files) - 1
    ) + [False]
    assert (verify(tmp_path, key=key), records(tmp_path)) == (before, seen)
    assert content_of(tmp_path) == content
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    assert compress_closed(tmp_path).files == 0, "once is enough"
    # It goes on.
    trail(tmp_path, key=key, rotate_bytes=1_000).append([entry("after")])
    verdict = verify(tmp_path, key=key, checkpoint=before.end)
    assert verdict.is_good
    assert verdict.last == COUNT + 1


def test_other_programs_can_read_it(tmp_path: Path) -> None:
    first = filled(tmp_path, COUNT, rotate_bytes=1_000)[0]
    content = first.read_bytes()
    compress_closed(tmp_path)
    packed = segments_of(tmp_path)[0].path
    unpacked = subprocess.run(["gunzip", "-c", packed], check=True, stdout=subprocess.PIPE)
    assert unpacked.stdout == content
    # Back to what earlier releases know.
    subprocess.run(["gunzip", packed], check=True)
    assert first.read_bytes() == content
    assert verify(tmp_path).is_good


def test_reading_on_from_any_place_goes_on_while_files_are_compressed(tmp_path: Path) -> None:
    filled(tmp_path, COUNT, rotate_bytes=1_000)
    for halfway in range(1, COUNT):
        folder = tmp_path / f"copy{halfway}"
        shutil.copytree(tmp_path, folder, ignore=shutil.ignore_patterns("copy*"))
        with closing(TrailReader(folder)) as reader:
            seen: list[int] = []
            cursor = Cursor()
            while True:
                if len(seen) == halfway:
                    compress_closed(folder)
                found, cursor = reader.read_on(cursor, most=1)
                if not found:
                    break
                seen += [record.sequence for record in found]
        assert seen == list(range(1, COUNT + 1))


def test_a_place_from_before_a_restart_is_found_in_a_compressed_file(tmp_path: Path) -> None:
    filled(tmp_path, COUNT, rotate_bytes=2_000)
    with closing(TrailReader(tmp_path)) as reader:
        _, cursor = reader.read_on(Cursor(), most=2)
    compress_closed(tmp_path)
    with closing(TrailReader(tmp_path)) as reader:
        found, _ = reader.read_on(cursor)
    assert [record.sequence for record in found] == list(range(3, COUNT + 1))


# -- Crashes -----------------------------------------------------------------------------

KILLED = """
import os, sys
from pathlib import Path
from isocenter.services.security.audit.trail_compression import compress_closed
folder, stop_at = Path(sys.argv[1]), int(sys.argv[2])
CALLS = {
    "open", "close", "read", "readinto", "write", "flush", "compress", "fsync", "replace",
    "rename", "unlink", "stat", "listdir", "scandir", "flock", "chown",
}
for number in range(stop_at, stop_at + int(sys.argv[3])):
    child = os.fork()
    if not child:
        calls = 0
        def count(frame, event, what):
            global calls
            if event == "c_call" and what.__name__ in CALLS:
                calls += 1
                if calls == number:
                    os.kill(os.getpid(), 9)
        sys.setprofile(count)
        compress_closed(folder / str(number))
        sys.setprofile(None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(number, os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_point_it_loses_nothing(tmp_path: Path) -> None:
    """Before each call of the system and of zlib."""
    made = tmp_path / "made"
    filled(made, 3, rotate_bytes=1)
    content, before = content_of(made), verify(made)
    files = len(segments_of(made))
    at_once, ended, seen = 40, False, set()
    for start in range(1, 10_000, at_once):
        for number in range(start, start + at_once):
            shutil.copytree(made, tmp_path / str(number))
        ran = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path), str(start), str(at_once)],
            check=True,
            stdout=subprocess.PIPE,
            env=ENVIRONMENT,
            text=True,
        )
        for line in ran.stdout.splitlines():
            name, code = line.split()
            folder = tmp_path / name
            ended = code == "0"
            assert ended or code == "-9"
            seen.add(tuple(entry for entry in names(folder) if not entry.startswith(".")))
            assert content_of(folder) == content
            assert verify(folder) == before
            # Whoever comes next writes on, and ends the work.
            trail(folder, rotate_bytes=1).append([entry("after")])
            compress_closed(folder)
            assert verify(folder, checkpoint=before.end).is_good
            assert not notes(folder)
            assert content_of(folder).startswith(content)
            assert not [path for path in folder.iterdir() if path.name.startswith(".audit")]
            assert sum(one.is_compressed for one in segments_of(folder)) == files
            shutil.rmtree(folder)
        if ended:
            break
    assert ended
    assert start > 1, "there are more points than that"
    # Of each file: not begun, both there, and done.
    assert len(seen) == 2 * (files - 1) + 1


def test_a_name_is_durable_before_the_other_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power failure would undo must not have been built on."""
    filled(tmp_path, 2, rotate_bytes=1)
    order: list[str] = []

    def noted(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def noting(*arguments: object, **options: object) -> object:
            order.append(name)
            return call(*arguments, **options)

        return noting

    monkeypatch.setattr(compressing.os, "fsync", noted("sync file", os.fsync))
    monkeypatch.setattr(
        compressing, "sync_directory", noted("sync names", compressing.sync_directory)
    )
    monkeypatch.setattr(Path, "replace", noted("rename", Path.replace))
    monkeypatch.setattr(Path, "unlink", noted("remove", Path.unlink))
    compress_closed(tmp_path)
    # Syncing names is a sync of the folder's own file.
    assert order[:7] == [
        "sync file", "rename", "sync names", "sync file", "remove", "sync names", "sync file",
    ]  # fmt: skip


def test_what_is_not_what_was_read_takes_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, COUNT, rotate_bytes=1_000)
    before = names(tmp_path)

    class Lossy(gzip.GzipFile):
        def write(self, data: bytes) -> int:  # type: ignore[override]
            return super().write(data[:-1] + b"?")

    monkeypatch.setattr(compressing.gzip, "GzipFile", Lossy)
    with pytest.raises(CompressionError, match="something else"):
        compress_closed(tmp_path)
    assert names(tmp_path) == before
    assert verify(tmp_path).is_good


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path, COUNT, rotate_bytes=1_000)
    before = names(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compressing.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        compress_closed(tmp_path)
    assert names(tmp_path) == before


def test_the_end_may_be_compressed_when_what_followed_is_gone(tmp_path: Path) -> None:
    """A crash after a file was made and before anything was in it; it had a predecessor that was
    compressed in the meantime."""
    filled(tmp_path, 6, rotate_bytes=600)
    last = segments_of(tmp_path)[-1]
    kept = verify(tmp_path)
    Segment.starting_at(7, tmp_path).path.write_bytes(b"")
    compress_closed(tmp_path)
    assert segments_of(tmp_path)[-2] == last.compressed
    trail(tmp_path).append([entry("on")])
    assert numbers(tmp_path) == list(range(1, 8))
    assert verify(tmp_path, checkpoint=kept.end).is_good
    assert not notes(tmp_path)


# -- Beside others -----------------------------------------------------------------------


def test_beside_writers_and_readers_nothing_is_missed(tmp_path: Path) -> None:
    made = trail(tmp_path, rotate_bytes=2_000)
    made.append([entry("first")])
    total, ended = 400, threading.Event()
    faults: list[object] = []

    def write() -> None:
        for number in range(1, total):
            made.append([entry(f"{number}")])
        ended.set()

    def follow() -> None:
        seen, cursor = 0, Cursor()
        with closing(TrailReader(tmp_path)) as reader:
            while seen < total:
                found, cursor = reader.read_on(cursor, most=7)
                for record in found:
                    if record.sequence != seen + 1:
                        faults.append((seen, record.sequence))
                    seen = record.sequence

    def check() -> None:
        while not ended.is_set():
            verdict = verify(tmp_path)
            faults.extend(verdict.faults)

    threads = [threading.Thread(target=work) for work in (write, follow, check)]
    for thread in threads:
        thread.start()
    while not ended.is_set():
        compress_closed(tmp_path)
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    compress_closed(tmp_path)
    assert not faults
    assert len([one for one in segments_of(tmp_path) if one.is_compressed]) > 20
    verdict = verify(tmp_path)
    assert verdict.is_good
    assert verdict.records == total


# -- By the commands ---------------------------------------------------------------------


def test_commands_say_the_same_of_a_compressed_trail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(tmp_path, COUNT, rotate_bytes=1_000)
    commands = (
        ("verify", "--json"), ("show",), ("show", "--show-phi", "--event", "query"),
        ("tail", "-n", "7"), ("export",), ("export", "--format", "xml"),
    )  # fmt: skip

    def said() -> list[str]:
        found = []
        for command in commands:
            assert main(["audit", *command, "--trail", str(tmp_path)]) == 0
            found.append(capsys.readouterr().out)
        return found

    before = said()
    assert compress_closed(tmp_path).files
    assert said() == before


def test_whoever_follows_it_misses_nothing(tmp_path: Path) -> None:
    folder, log = tmp_path / "audit", tmp_path / "log"
    made = trail(folder, rotate_bytes=1_000)
    made.append([entry("1")])
    with program(*ISOCENTER, "audit", "tail", "-f", "--trail", folder, log=log) as following:
        for number in range(2, 15):
            made.append([entry(f"{number}")])
            compress_closed(folder)
            wait_for_line(following, rf"^ *{number} 2026-", log)
    assert [int(line.split()[0]) for line in log.read_text().splitlines()] == list(range(1, 15))


# -- Damage ------------------------------------------------------------------------------


def test_any_change_in_a_compressed_file_is_found_or_changes_nothing(tmp_path: Path) -> None:
    filled(tmp_path, COUNT, rotate_bytes=2_500)
    compress_closed(tmp_path)
    first = segments_of(tmp_path)[0].path
    good, seen = first.read_bytes(), records(tmp_path)
    harmless = 0
    for place in range(len(good)):
        for changed in (
            good[:place] + bytes([good[place] ^ 0x20]) + good[place + 1 :],
            good[:place] + good[place + 1 :],
            good[:place],
        ):
            if changed == good:
                continue
            first.write_bytes(changed)
            if verify(tmp_path).is_good:
                harmless += 1
                assert records(tmp_path) == seen
    # When it was made, and by which system: nothing of it is evidence.
    assert harmless <= 10
    first.write_bytes(good)
    assert verify(tmp_path).is_good


def test_what_can_be_read_of_a_damaged_file_is_read_and_then_the_next(tmp_path: Path) -> None:
    filled(tmp_path, COUNT, rotate_bytes=2_500)
    compress_closed(tmp_path)
    first, second = segments_of(tmp_path)[:2]
    content = first.path.read_bytes()
    first.path.write_bytes(content[: len(content) // 2])
    verdict = verify(tmp_path)
    assert "damaged" in verdict.faults[0].text
    assert verdict.faults[0].place.startswith(first.path.name)
    found = numbers(tmp_path)
    assert found[-1] == COUNT
    assert second.first in found
    # Nobody is kept from writing on.
    trail(tmp_path).append([entry("after")])
    assert numbers(tmp_path)[-1] == COUNT + 1


def test_a_damaged_end_is_told_and_written_behind(tmp_path: Path) -> None:
    filled(tmp_path, 6, rotate_bytes=600)
    Segment.starting_at(7, tmp_path).path.write_bytes(b"")
    compress_closed(tmp_path)
    last = segments_of(tmp_path)[-2].path
    last.write_bytes(last.read_bytes()[:30])
    trail(tmp_path).append([entry("after")])
    assert "damaged" in notes(tmp_path)[0]
    assert numbers(tmp_path)[-2:] == [7, 8]
    assert not verify(tmp_path).is_good


def test_a_checkpoint_may_lie_in_a_compressed_file(tmp_path: Path) -> None:
    filled(tmp_path, COUNT, rotate_bytes=1_000)
    early = records(tmp_path)[1].position
    compress_closed(tmp_path)
    assert verify(tmp_path, checkpoint=early).is_good
    assert not verify(tmp_path, checkpoint=Position(early.sequence, "0" * 64)).is_good


def test_what_is_removed_while_it_is_compressed_does_not_come_back(tmp_path: Path) -> None:
    filled(tmp_path, 3, rotate_bytes=1)
    plan = plan_removal(tmp_path, datetime(2026, 11, 22, tzinfo=UTC), key=None)
    assert plan is not None
    removed: list[bool] = []

    def check() -> None:
        if not removed:
            removed.append(True)
            remove(tmp_path, plan, key=None)

    assert compress_closed(tmp_path, check).files == 0
    assert [segment.first for segment in segments_of(tmp_path)] == [3]
    assert not list(tmp_path.glob("*.gz"))
    assert verify(tmp_path).is_good


def test_files_that_are_removed_meanwhile_are_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, 6, rotate_bytes=1)
    first = segments_of(tmp_path)[0]
    plan = plan_removal(tmp_path, datetime(2026, 11, 22, tzinfo=UTC), key=None)
    assert plan is not None
    real = verifying.SegmentReader

    def removed_first(segment: Segment) -> verifying.SegmentReader:
        if segment == first:
            remove(tmp_path, plan, key=None)
        return real(segment)

    monkeypatch.setattr(verifying, "SegmentReader", removed_first)
    verdict = verify(tmp_path)
    assert verdict.is_good
    assert (verdict.first, verdict.removed) == (6, plan.removal)
