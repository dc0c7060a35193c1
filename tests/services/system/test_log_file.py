"""A log file: whole lines of several processes, rotated by us and by others."""

from __future__ import annotations

import logging
import multiprocessing
from collections import Counter
from pathlib import Path

import pytest

from isocenter.services.system.log_file import LogFile
from support.processes import isocenter_command, served_archive

LINES = 1_500
PROCESSES = 4


def log_to(path: Path, *, rotate_bytes: int = 0, keep: int = 3) -> LogFile:
    handler = LogFile(path, rotate_bytes=rotate_bytes, keep=keep)
    handler.setFormatter(logging.Formatter("%(message)s"))
    return handler


def say(handler: LogFile, text: str) -> None:
    handler.emit(logging.LogRecord("isocenter", logging.INFO, "", 0, text, None, None))


def write_many(path: Path, name: int) -> None:
    handler = log_to(path, rotate_bytes=20_000, keep=1_000)
    for number in range(LINES):
        say(handler, f"{name}-{number}-{'x' * (number % 90)}-end")
    handler.close()


def test_lines_of_several_processes_are_whole_and_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "isocenter.log"
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=write_many, args=(path, name)) for name in range(PROCESSES)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    files = sorted(tmp_path.glob("isocenter.log*"))
    found = Counter(line for file in files for line in file.read_text("utf-8").splitlines())
    assert found == Counter(
        f"{name}-{number}-{'x' * (number % 90)}-end"
        for name in range(PROCESSES)
        for number in range(LINES)
    )
    assert len(files) > 10
    # Nothing is rotated twice: each but the last is as large as it has to be.
    assert all(file.stat().st_size >= 20_000 for file in files if file != path)


def test_only_so_many_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    handler = log_to(path, rotate_bytes=100, keep=2)
    for number in range(10):
        say(handler, f"{number}" * 100)
    handler.close()
    assert sorted(file.name for file in tmp_path.glob("a.log*")) == ["a.log", "a.log.1", "a.log.2"]
    assert path.read_text() == "9" * 100 + "\n"
    assert (tmp_path / "a.log.2").read_text() == "7" * 100 + "\n"
    assert path.stat().st_mode & 0o077 == 0


def test_a_file_that_another_program_renames_is_let_go(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    handler = log_to(path)
    say(handler, "one")
    path.rename(tmp_path / "a.log-20261121")
    say(handler, "two")
    path.unlink()
    say(handler, "three")
    handler.close()
    assert path.read_text() == "three\n"
    assert (tmp_path / "a.log-20261121").read_text() == "one\n"


def test_what_cannot_be_written_is_said_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    handler = log_to(folder / "a.log")
    (folder / "a.log").unlink()
    folder.rmdir()
    say(handler, "one")
    handler.close()
    assert "No such file" in (said := capsys.readouterr().err)
    assert "one" in said


@pytest.mark.slow
def test_a_server_with_workers_writes_one(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[log]\nfile = 'isocenter.log'\n[server]\nworkers = 2\n")
    with served_archive(tmp_path, "--config", config) as archive:
        done = isocenter_command("echoscu", "-aec", "NOBODY", "127.0.0.1", archive.port)
        assert done.returncode != 0
        assert "NOBODY" not in archive.log.read_text("utf-8")
    lines = (tmp_path / "isocenter.log").read_text("utf-8").splitlines()
    assert sum("NOBODY" in line for line in lines) == 1


def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    data = tmp_path / "data"
    config.write_text(f"[log]\nfile = 'none/a.log'\n[storage]\ndata_dir = '{data}'\n")
    done = isocenter_command("serve", "--config", config)
    assert done.returncode == 2
    assert f"log.file {tmp_path / 'none/a.log'}: No such file" in done.stdout
    assert not data.exists()
