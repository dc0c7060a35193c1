"""Locks of files: between descriptors, between processes, and where the system has none."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from isocenter.services.system import file_lock
from isocenter.services.system.file_lock import (
    directory_lock,
    is_locked,
    open_lock_file,
    try_lock,
    try_process_lock,
    wait_for_lock,
)
from isocenter.services.system.private_files import PRIVATE_FILE


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = open_lock_file(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_the_file_of_a_lock_is_private_and_no_link(tmp_path: Path) -> None:
    with opened(tmp_path / "lock"):
        assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == PRIVATE_FILE
    (tmp_path / "link").symlink_to(tmp_path / "lock")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        open_lock_file(tmp_path / "link")


def test_one_has_a_lock_until_its_descriptor_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)  # nor is it made by the look
    assert not path.exists()
    with opened(path) as first, opened(path) as second:
        assert try_lock(first)
        assert is_locked(path)
        assert not try_lock(second)
        assert not try_lock(second, shared=True)
    assert not is_locked(path)
    with opened(path) as third:
        assert try_lock(third)


def test_those_who_share_a_lock_keep_others_out(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with opened(path) as first, opened(path) as second, opened(path) as alone:
        assert try_lock(first, shared=True)
        assert try_lock(second, shared=True)
        assert is_locked(path)
        assert not try_lock(alone)


@pytest.mark.parametrize("refused", [errno.EWOULDBLOCK, errno.EACCES])
def test_either_error_of_posix_says_that_another_has_it(
    refused: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(refused, os.strerror(refused))

    monkeypatch.setattr(file_lock.fcntl, "flock", flock)
    monkeypatch.setattr(file_lock.fcntl, "lockf", flock)
    with opened(tmp_path / "lock") as descriptor:
        assert not try_lock(descriptor)
        assert not try_process_lock(descriptor)


def test_a_file_system_without_locks_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(file_lock.fcntl, "flock", flock)
    with (
        opened(tmp_path / "lock") as descriptor,
        pytest.raises(OSError, match=os.strerror(errno.ENOLCK)),
    ):
        try_lock(descriptor)


_HOLDER = """
import os, sys
from isocenter.services.system.file_lock import open_lock_file, try_process_lock

descriptor = open_lock_file(sys.argv[1])
assert try_process_lock(descriptor)
if os.fork() == 0:
    os.close(0)
    sys.stdin.close()
    os.read(int(sys.argv[2]), 1)  # lives until the test has looked
    os._exit(0)
print("held", flush=True)
sys.stdin.read()
os._exit(0)
"""


def test_a_lock_of_one_process_is_not_of_its_children(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    until, over = os.pipe()
    with closing(os.fdopen(over, "wb")):
        command = [sys.executable, "-c", _HOLDER, os.fspath(path), str(until)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[until]
        ) as parent:
            os.close(until)
            assert parent.stdin is not None
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"held\n"
            with opened(path) as descriptor:
                assert not try_process_lock(descriptor)
                parent.stdin.close()
                assert parent.wait() == 0
                assert try_process_lock(descriptor)  # the child still has the file open


async def test_who_waits_gets_the_lock_at_the_next_look(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = tmp_path / "lock"
    with opened(path) as second:
        async with trio.open_nursery() as nursery:
            with opened(path) as first:
                assert try_lock(first)
                begun = trio.current_time()
                nursery.start_soon(lambda: wait_for_lock(second, look_seconds=5))
                await wait_all_tasks_blocked()
                await trio.sleep(12)
        assert trio.current_time() - begun == 15
        assert is_locked(path)


def test_the_lock_of_a_directory_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), directory_lock(tmp_path):
        raise ZeroDivisionError
    with directory_lock(tmp_path):
        assert is_locked(tmp_path / ".lock")
        assert stat.S_IMODE((tmp_path / ".lock").stat().st_mode) == PRIVATE_FILE


async def test_where_there_are_no_locks_everybody_gets_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_lock, "HAS_FILE_LOCKS", False)
    path = tmp_path / "lock"
    with opened(path) as first, opened(path) as second, directory_lock(tmp_path):
        file_lock.lock(first)
        assert try_lock(second)
        assert try_process_lock(second)
        await wait_for_lock(second, look_seconds=5)
        assert not is_locked(path)
