"""isocenter task: what is said, and what bad input changes: nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from isocenter.services.cli import main
from services.cli_support import write_object
from services.security.audit.trails import messages, of_event

Output = pytest.CaptureFixture[str]


def test_tasks_are_added_changed_asked_for_and_removed(tmp_path: Path, capsys: Output) -> None:
    data_dir = tmp_path / "data"
    write_object(tmp_path, 1)
    assert main(["import", str(tmp_path), "-q", "--data-dir", str(data_dir)]) == 0

    def run(*words: str) -> int:
        """The exit code, also where the arguments alone are wrong."""
        try:
            return main([*words, "--data-dir", str(data_dir)])
        except SystemExit as error:
            return int(error.code or 0)

    capsys.readouterr()
    add = ["task", "add", "old", "cleanup", "daily 02:00", "--zone", "Europe/Berlin"]
    assert run(*add) == 2
    assert "would delete all" in capsys.readouterr().err
    assert run(*add, "-p", "study_days") == 2
    assert run(*add, "-p", "study_days=9", "--zone", "Mars") == 2
    assert "Europe/Berlin, and come with" in capsys.readouterr().err
    assert run(*add, "-p", "study_days=9") == 0
    assert run(*add, "-p", "study_days=9") == 2
    assert "already" in capsys.readouterr().err
    assert run("task", "change", "old", "--schedule", "every 6h", "--retries", "2") == 0
    assert run("task", "change", "new", "--retries", "2") == 1
    capsys.readouterr()
    assert run("task", "list", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["schedule"], row["zone"], row["retries"]) == ("every 6h", "Europe/Berlin", 2)
    assert row["parameters"] == {"study_days": "9"}
    assert run("task", "list") == 0
    assert "every 6h" in capsys.readouterr().out
    assert run("task", "run", "old", "--dry-run") == 0
    assert run("task", "run", "old") == 1
    assert run("task", "cancel", "old") == 1
    assert run("task", "pause", "old") == 0
    assert run("task", "show", "old") == 0
    assert "state: paused" in capsys.readouterr().out
    assert run("task", "resume", "old", "other") == 1
    assert run("task", "runs", "--json") == 0
    assert run("task", "remove", "old") == 0
    assert run("task", "show", "old") == 1
    # Added, changed, paused, resumed, removed; to ask for a dry run changes nothing.
    assert len(of_event(messages(data_dir / "audit"), "110113", "110131")) == 5
