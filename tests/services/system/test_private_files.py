"""Files with secrets: private from the first byte, whole, and never somebody else's overwritten."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from isocenter.services.system.private_files import (
    PRIVATE_FILE,
    make_private_directory,
    open_private,
    write_file,
)


def test_a_name_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_file(path, b"first", PRIVATE_FILE, replace=False)
    with pytest.raises(FileExistsError):
        write_file(path, b"second", PRIVATE_FILE, replace=False)
    assert path.read_bytes() == b"first"
    write_file(path, b"third", PRIVATE_FILE, replace=True)
    assert path.read_bytes() == b"third"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    write_file(path, b"first", PRIVATE_FILE, replace=True)

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output"):
            write_file(path, b"second", PRIVATE_FILE, replace=True)
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_private_directory(tmp_path / "a" / "b")
        write_file(tmp_path / "a" / "b" / "key", b"", PRIVATE_FILE, replace=False)
    finally:
        os.umask(before)
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in (tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "key")
    }
    assert modes == {"a": 0o700, "b": 0o700, "key": 0o600}


def test_a_directory_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_private_directory(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
def test_a_file_that_is_written_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    for before in (None, "longer than what comes"):
        if before is not None:
            path.write_text(before)
            path.chmod(0o644)
        with open_private(path) as file:
            file.write(b"new")
        assert path.read_bytes() == b"new"
        assert path.stat().st_mode & 0o777 == 0o600
    with open_private(Path(os.devnull)) as file:  # which stays everybody's
        file.write(b"new")
    assert Path(os.devnull).stat().st_mode & 0o777 == 0o666
