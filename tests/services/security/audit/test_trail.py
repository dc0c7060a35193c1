"""The trail on disk: one chain, however it is written, and whatever was done to it shows."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isocenter.services.security.audit import trail as trail_module
from isocenter.services.security.audit.hash_chain import (
    GENESIS,
    Position,
    RecordDigest,
    encode_record,
)
from isocenter.services.security.audit.trail import HEAD_FILE, Trail, TrailError, read_key
from isocenter.services.security.audit.trail_reader import Cursor, TrailReader
from isocenter.services.security.audit.trail_verification import TrailVerification, verify
from services.security.audit.trails import KEY, entry, filled, notes, numbers, records, trail
from support.processes import ENVIRONMENT


def first_fault(verdict: TrailVerification) -> tuple[str, int | None]:
    return verdict.faults[0].place, verdict.faults[0].record


@pytest.mark.parametrize("key", [None, KEY])
def test_what_was_written_is_unbroken(tmp_path: Path, key: bytes | None) -> None:
    folder = tmp_path / "audit"
    filled(folder, 12, key=key, rotate_bytes=1_000)
    verdict = verify(folder, key=key)
    assert verdict.is_good
    assert (verdict.first, verdict.last, verdict.records) == (1, 12, 12)
    assert verdict.files > 2
    assert verdict.unkeyed == (12 if key is None else 0)
    assert numbers(folder) == list(range(1, 13))
    assert verdict.end == records(folder)[-1].position


def test_it_is_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    folder.mkdir(mode=0o755)
    filled(folder, 3, rotate_bytes=1)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_several_trails_of_one_folder_make_one_chain(tmp_path: Path) -> None:
    some = [trail(tmp_path, rotate_bytes=2_000) for _ in range(3)]
    for number in range(30):
        some[number % 3].append([entry(f"{number}"), entry("more")])
    assert verify(tmp_path).is_good
    assert numbers(tmp_path) == list(range(1, 61))


WRITER = """
import sys
from collections.abc import Callable
from pathlib import Path
sys.path[:0] = sys.argv[3].split(":")
from services.security.audit.trails import entry, trail
made = trail(Path(sys.argv[1]), rotate_bytes=20_000)
print("ready", flush=True)
for number in range(int(sys.argv[2])):
    made.append([entry(f"{number}" + "y" * 300) for _ in range(number % 4 + 1)])
"""


def writer(folder: Path, count: int) -> subprocess.Popen[bytes]:
    tests = Path(__file__).parents[3]
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(count), str(tests)],
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    )


def test_several_processes_make_one_chain(tmp_path: Path) -> None:
    processes = [writer(tmp_path, 40) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    for process in processes:
        assert process.stdout is not None
        process.stdout.close()
    verdict = verify(tmp_path)
    assert verdict.is_good
    assert verdict.records == 3 * sum(number % 4 + 1 for number in range(40))


def test_a_kill_at_any_moment_leaves_an_unbroken_chain(tmp_path: Path) -> None:
    written = 0
    for round_ in range(8):
        with writer(tmp_path, 10_000) as process:
            assert process.stdout is not None
            process.stdout.readline()
            wanted = written + 3 + 7 * round_
            while last_number(tmp_path) < wanted:
                assert process.poll() is None
            process.send_signal(signal.SIGKILL)
        before = records(tmp_path)
        trail(tmp_path).append([entry("after")])
        verdict = verify(tmp_path)
        assert verdict.is_good, verdict.faults
        written = verdict.last
        # What was durable is there as it was.
        assert records(tmp_path)[: len(before)] == before


def last_number(folder: Path) -> int:
    try:
        return int((folder / HEAD_FILE).read_bytes().split(b":")[1].split(b",")[0])
    except FileNotFoundError:
        return 0


def test_a_crash_in_the_middle_of_a_record_is_mended_and_told(tmp_path: Path) -> None:
    (path,) = filled(tmp_path, 3)
    with path.open("ab") as file:
        file.write(b'{"sequence":4,"previous":"12')
    assert first_fault(verify(tmp_path)) == (f"{path.name}:4", 4)
    trail(tmp_path).prepare()
    assert verify(tmp_path).is_good
    (note,) = notes(tmp_path)
    assert note.startswith(f"note: {path.name} ended with 28 bytes of a record that was not")


def test_another_process_mends_what_one_that_died_left(tmp_path: Path) -> None:
    (path,) = filled(tmp_path, 1)
    lives = trail(tmp_path)
    lives.append([entry("a")])
    with path.open("ab") as file:
        file.write(b"{")
    lives.append([entry("b")])
    assert verify(tmp_path).is_good
    assert numbers(tmp_path) == [1, 2, 3, 4]
    assert len(notes(tmp_path)) == 1


def test_an_empty_file_of_a_crash_is_no_fault(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    (tmp_path / "audit-000000000003.jsonl").write_bytes(b'{"seq')
    trail(tmp_path).append([entry("c")])
    assert verify(tmp_path).is_good
    assert numbers(tmp_path) == [1, 2, 3, 4]


# -- Tampering ---------------------------------------------------------------------------

COUNT = 6


def untouched(folder: Path, key: bytes | None) -> dict[str, bytes]:
    filled(folder, COUNT, key=key, rotate_bytes=1_200)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


@pytest.mark.parametrize("key", [None, KEY])
@given(data=st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_change_of_any_byte_is_found(
    tmp_path: Path, key: bytes | None, data: st.DataObject
) -> None:
    folder = tmp_path / "audit"
    if not folder.exists():
        untouched(folder, key)
        (tmp_path / "names").write_text(
            "\n".join(sorted(path.name for path in folder.iterdir() if path.name != ".lock"))
        )
    path = folder / data.draw(st.sampled_from((tmp_path / "names").read_text().split()))
    before = path.read_bytes()
    place = data.draw(st.integers(0, len(before) - 1))
    kind = data.draw(st.sampled_from(("change", "delete", "insert")))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != before[place]))
    after = (
        before[:place]
        + {
            "change": bytes([byte]) + before[place + 1 :],
            "delete": before[place + 1 :],
            "insert": bytes([byte]) + before[place:],
        }[kind]
    )
    try:
        path.write_bytes(after)
        try:
            verdict = verify(folder, key=key)
        except TrailError:
            # Without a key, a name that was changed may look like one of a keyed trail.
            assert key is None
        else:
            assert not verdict.is_good, (path.name, place, kind, byte)
            if path.name != HEAD_FILE:
                number = before[:place].count(b"\n") + int(path.name[6:18])
                named = verdict.faults[0].record
                assert named is not None
                assert number <= named <= number + 1
    finally:
        path.write_bytes(before)
    assert verify(folder, key=key).is_good


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_a_record_that_was_left_out_is_named(tmp_path: Path) -> None:
    (path,) = filled(tmp_path, COUNT)
    lines = lines_of(path)
    path.write_bytes(b"".join(lines[:2] + lines[3:]))
    assert first_fault(verify(tmp_path)) == (f"{path.name}:3", 3)


def test_records_that_were_exchanged_are_named(tmp_path: Path) -> None:
    (path,) = filled(tmp_path, COUNT)
    lines = lines_of(path)
    path.write_bytes(b"".join([*lines[:2], lines[3], lines[2], *lines[4:]]))
    assert first_fault(verify(tmp_path)) == (f"{path.name}:3", 3)


def test_a_record_of_another_trail_is_named(tmp_path: Path) -> None:
    (path,) = filled(tmp_path / "a", COUNT)
    other = trail(tmp_path / "b")
    for _ in range(COUNT):
        other.append([entry("forged")])
    forged = lines_of(tmp_path / "b" / path.name)
    lines = lines_of(path)
    path.write_bytes(b"".join([*lines[:2], forged[2], *lines[3:]]))
    assert first_fault(verify(tmp_path / "a")) == (f"{path.name}:3", 3)


@pytest.mark.parametrize("keep", [0, 1, 5])
def test_an_end_that_was_cut_off_is_found(tmp_path: Path, keep: int) -> None:
    (path,) = filled(tmp_path, COUNT)
    path.write_bytes(b"".join(lines_of(path)[:keep]))
    assert not verify(tmp_path).is_good


def test_a_file_that_was_removed_is_found(tmp_path: Path) -> None:
    paths = filled(tmp_path, COUNT, rotate_bytes=1)
    for path in paths:
        content = path.read_bytes()
        path.unlink()
        assert not verify(tmp_path).is_good
        path.write_bytes(content)
    assert verify(tmp_path).is_good


def test_a_head_that_is_gone_is_found(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    (tmp_path / HEAD_FILE).unlink()
    assert first_fault(verify(tmp_path)) == (HEAD_FILE, None)


def test_old_files_may_be_removed_when_that_is_said(tmp_path: Path) -> None:
    paths = filled(tmp_path, COUNT, rotate_bytes=1)
    paths[0].unlink()
    paths[1].unlink()
    assert first_fault(verify(tmp_path)) == (f"{paths[2].name}:1", 1)
    assert verify(tmp_path, begins_at=3).is_good
    assert not verify(tmp_path, begins_at=2).is_good


def test_without_a_key_an_earlier_state_shows_by_a_checkpoint_only(tmp_path: Path) -> None:
    (path,) = filled(tmp_path, 3)
    old = {name: (tmp_path / name).read_bytes() for name in (path.name, HEAD_FILE)}
    trail(tmp_path).append([entry("to be forgotten")])
    checkpoint = verify(tmp_path).end
    assert checkpoint.sequence == 4
    assert verify(tmp_path, checkpoint=checkpoint).is_good
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)
    assert verify(tmp_path).is_good
    assert first_fault(verify(tmp_path, checkpoint=checkpoint)) == ("checkpoint", 4)


def test_a_chain_made_anew_without_the_key_is_found(tmp_path: Path) -> None:
    filled(tmp_path / "real", 3, key=KEY)
    filled(tmp_path / "forged", 3, key=b"another key of an attacker")
    filled(tmp_path / "plain", 3)
    assert not verify(tmp_path / "forged", key=KEY).is_good
    assert not verify(tmp_path / "plain", key=KEY).is_good
    with pytest.raises(TrailError, match="--key-file"):
        verify(tmp_path / "real")


def test_another_chain_of_the_same_length_is_not_the_one_of_the_head(tmp_path: Path) -> None:
    (path,) = filled(tmp_path / "real", 3)
    other = trail(tmp_path / "other")
    for _ in range(3):
        other.append([entry("forged")])
    path.write_bytes((tmp_path / "other" / path.name).read_bytes())
    assert first_fault(verify(tmp_path / "real")) == (HEAD_FILE, 3)


def test_a_file_under_another_name_is_found(tmp_path: Path) -> None:
    paths = filled(tmp_path, COUNT, rotate_bytes=1_200)
    renamed = tmp_path / "audit-000000000002.jsonl"
    paths[1].rename(renamed)
    verdict = verify(tmp_path)
    assert first_fault(verdict)[0] == f"{renamed.name}:1"
    assert "is named for record 2" in verdict.faults[0].text


def test_a_key_that_comes_later_holds_what_was_before(tmp_path: Path) -> None:
    (path,) = filled(tmp_path, 3)
    made = trail(tmp_path, key=KEY)
    made.append([entry("keyed")])
    verdict = verify(tmp_path, key=KEY)
    assert verdict.is_good
    assert verdict.unkeyed == 3
    # Everything before it made anew by somebody without the key.
    keyed = lines_of(path)[3]
    forged = lines_of(filled(tmp_path / "forged", 3)[0])
    forged[0] = forged[0].replace(b"CT1", b"CT2")
    path.write_bytes(b"".join([*forged, keyed]))
    assert not verify(tmp_path, key=KEY).is_good


def test_a_plain_record_behind_a_keyed_one_is_found(tmp_path: Path) -> None:
    (path,) = filled(tmp_path, 2, key=KEY)
    line, _ = encode_record(entry("forged"), verify(tmp_path, key=KEY).end, RecordDigest())
    with path.open("ab") as file:
        file.write(line)
    verdict = verify(tmp_path, key=KEY)
    assert first_fault(verdict) == (f"{path.name}:3", 3)
    assert "without the key" in verdict.faults[0].text


# -- Going on after tampering ------------------------------------------------------------


def test_writing_goes_on_after_an_end_that_was_cut_off_and_tells(tmp_path: Path) -> None:
    (path,) = filled(tmp_path, COUNT)
    path.write_bytes(b"".join(lines_of(path)[:4]))
    trail(tmp_path).append([entry("next")])
    assert notes(tmp_path) == ["note: the records 5 to 6 are gone"]
    assert numbers(tmp_path) == [1, 2, 3, 4, 7, 8]
    verdict = verify(tmp_path)
    assert first_fault(verdict) == ("audit-000000000007.jsonl:1", 5)
    assert verdict.faults_found == 1


def test_writing_goes_on_after_all_files_were_removed(tmp_path: Path) -> None:
    (path,) = filled(tmp_path, COUNT)
    path.unlink()
    trail(tmp_path).append([entry("next")])
    assert notes(tmp_path) == ["note: the records up to 6 are gone"]
    assert numbers(tmp_path) == [7, 8]
    assert not verify(tmp_path).is_good


def test_a_damaged_last_record_stays_as_it_is(tmp_path: Path) -> None:
    (path,) = filled(tmp_path, COUNT)
    damaged = path.read_bytes()[:-100] + b"?" + path.read_bytes()[-99:]
    path.write_bytes(damaged)
    trail(tmp_path).append([entry("next")])
    assert path.read_bytes() == damaged
    assert notes(tmp_path)[0].startswith(f"note: the last record of {path.name} is damaged")
    assert first_fault(verify(tmp_path)) == (f"{path.name}:6", 6)
    assert verify(tmp_path).faults_found == 1


@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
def test_writing_goes_on_without_a_head_and_tells(tmp_path: Path, content: bytes | None) -> None:
    filled(tmp_path, 2)
    if content is None:
        (tmp_path / HEAD_FILE).unlink()
    else:
        (tmp_path / HEAD_FILE).write_bytes(content)
    trail(tmp_path).append([entry("next")])
    assert numbers(tmp_path) == [1, 2, 3, 4]
    assert notes(tmp_path)[0].startswith("note: head.json ")
    assert verify(tmp_path).is_good


def test_a_head_that_stayed_behind_is_no_fault(tmp_path: Path) -> None:
    """A crash between a record and the head."""
    filled(tmp_path, 2)
    head = (tmp_path / HEAD_FILE).read_bytes()
    trail(tmp_path).append([entry("durable")])
    (tmp_path / HEAD_FILE).write_bytes(head)
    assert verify(tmp_path).is_good
    trail(tmp_path).append([entry("next")])
    assert notes(tmp_path) == []
    assert numbers(tmp_path) == [1, 2, 3, 4]


# -- Keys and disks ----------------------------------------------------------------------


def test_a_keyed_trail_is_not_continued_without_its_key(tmp_path: Path) -> None:
    filled(tmp_path, 2, key=KEY)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(TrailError, match="hmac_key_file"):
        trail(tmp_path).prepare()
    with pytest.raises(TrailError, match="another key"):
        trail(tmp_path, key=b"not the one that it was made with").prepare()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_key_file_is_private_and_long_enough(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(TrailError, match="cannot be read"):
        read_key(path)
    path.write_bytes(KEY + b"\n")
    path.chmod(0o640)
    with pytest.raises(TrailError, match="chmod 600"):
        read_key(path)
    path.chmod(0o600)
    assert read_key(path) == KEY
    path.write_bytes(b"short")
    with pytest.raises(TrailError, match="openssl rand"):
        read_key(path)


@pytest.mark.parametrize("step", ["write", "fsync"])
def test_a_batch_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    made = trail(tmp_path)
    made.append([entry("1")])

    def half(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        if step == "write":
            patch.setattr(trail_module, "_write_all", half)
        else:
            patch.setattr(trail_module.os, "fsync", broken)
        with pytest.raises(OSError, match=r"No space left|Input/output"):
            made.append([entry("2"), entry("3")])
    assert numbers(tmp_path) == [1]
    assert verify(tmp_path).is_good
    made.append([entry("2"), entry("3")])
    assert numbers(tmp_path) == [1, 2, 3]
    assert notes(tmp_path) == []


def test_a_crash_before_the_first_head_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trail(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(made, "_move_head", _first_head_only(made))
        made.append([entry("durable")])
    assert verify(tmp_path).is_good
    trail(tmp_path).append([entry("next")])
    assert notes(tmp_path) == []
    assert numbers(tmp_path) == [1, 2]


def _first_head_only(made: Trail) -> Callable[[Position], None]:
    move = made._move_head
    return lambda position: move(position) if position == Position() else None


def test_reading_goes_on_where_it_was(tmp_path: Path) -> None:
    filled(tmp_path, 7, rotate_bytes=900)
    seen: list[int] = []
    cursor = Cursor()
    reader = TrailReader(tmp_path)
    while True:
        found, cursor = reader.read_on(cursor, upto=6, most=2)
        if not found:
            break
        seen += [record.sequence for record in found]
    assert seen == [1, 2, 3, 4, 5, 6]
    assert [record.sequence for record in reader.read_on(cursor)[0]] == [7]


def test_the_first_record_follows_nothing(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    assert records(tmp_path)[0].previous == GENESIS == Position().digest


def test_an_append_of_nothing_makes_no_file(tmp_path: Path) -> None:
    Trail(tmp_path / "audit", rotate_bytes=1, note=entry).append([])
    assert not list((tmp_path / "audit").glob("audit-*"))
