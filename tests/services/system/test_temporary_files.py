"""Temporary files of a server: where they lie, and what is left of them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from isocenter.services.system.file_lock import open_lock_file, try_lock
from isocenter.services.system.temporary_files import temporary_files_in


@pytest.fixture(autouse=True)
def nobody_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)


def test_they_lie_in_the_data_directory_also_of_processes_that_are_started(tmp_path: Path) -> None:
    before = tempfile.gettempdir()
    with temporary_files_in(tmp_path) as own:
        assert own is not None
        assert own.parent == tmp_path / "temporary"
        assert own.stat().st_mode & 0o777 == 0o700
        with tempfile.NamedTemporaryFile() as file:
            assert Path(file.name).parent == own
        code = "import tempfile; print(tempfile.gettempdir())"
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert told.stdout.decode().strip() == str(own)
        (own / "kept-open").write_bytes(b"x")
    assert not own.exists()
    assert tempfile.gettempdir() == before
    assert "TMPDIR" not in os.environ


def test_what_a_process_left_that_is_gone_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "temporary" / "0123456789abcdef"
    (left / "films").mkdir(parents=True)
    (left / "films" / "one.dcm").write_bytes(b"patient")
    with temporary_files_in(tmp_path) as own:
        assert not left.exists()
        assert own is not None
        assert own.exists()


def test_what_another_process_uses_stays(tmp_path: Path) -> None:
    used = tmp_path / "temporary" / "0123456789abcdef"
    used.mkdir(parents=True)
    descriptor = open_lock_file(used / ".lock")
    try:
        assert try_lock(descriptor)
        with temporary_files_in(tmp_path):
            assert used.exists()
    finally:
        os.close(descriptor)


def test_whoever_chooses_a_place_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with temporary_files_in(tmp_path / "data") as own:
        assert own is None
    assert not (tmp_path / "data").exists()
