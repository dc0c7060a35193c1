"""What `isocenter serve` says at the end of what it has done, on a terminal and nowhere else."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from isocenter.services.cli import main
from support.processes import ENVIRONMENT, ISOCENTER, STOP_SECONDS, wait_until, workers_of


def obeys(pid: int) -> bool:
    """Whether it stops in order when it is told to: a worker that has not begun to serve does not,
    and the first one alone makes the server ready."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    assert caught is not None
    return bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


def said_at_the_end(
    options: Sequence[object], *, on_terminal: bool, echoes: int, workers: int = 0
) -> str:
    """Standard error of a server that was asked so often, and stopped."""
    master, slave = os.openpty() if on_terminal else os.pipe()
    with os.fdopen(master, "rb", 0) as read:
        try:
            process = subprocess.Popen(
                [*map(str, (*ISOCENTER, "serve", "--port", 0, "--no-tls", *options))],
                stdout=subprocess.PIPE,
                stderr=slave,
                stdin=subprocess.DEVNULL,
                env=ENVIRONMENT,
            )
        finally:
            os.close(slave)
        with process:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, b"")
            ready = next(line for line in lines if line.startswith(b"ready"))
            found = re.search(rb":(\d+)", ready)
            assert found is not None
            wait_until(lambda: sum(map(obeys, workers_of(process))) == workers, process)
            for _ in range(echoes):
                assert (
                    main(["echoscu", "-q", "127.0.0.1", found[1].decode(), "-aec", "ISOCENTER"])
                    == 0
                )
            process.terminate()
            assert process.wait(STOP_SECONDS) == 0
            said = b""
            try:
                while part := read.read(4096):
                    said += part
            except OSError:  # a terminal whose other side is closed
                pass
    return said.decode()


@pytest.mark.parametrize("on_terminal", [True, False])
def test_totals_are_for_whoever_watches(on_terminal: bool) -> None:
    options = ("--data-dir", ":memory:", "--log-level", "error")
    said = said_at_the_end(options, on_terminal=on_terminal, echoes=2)
    assert ("2 associations, 0 rejected" in said) is on_terminal
    assert ("C-ECHO: 2, 0 failed" in said) is on_terminal


@pytest.mark.slow
def test_each_worker_has_its_own(tmp_path: Path) -> None:
    options = ("--data-dir", tmp_path, "--workers", 2)
    said = said_at_the_end(options, on_terminal=True, echoes=3, workers=2)
    counts = re.findall(r"worker \d+: (\d+) associations", said)
    assert (len(counts), sum(map(int, counts))) == (2, 3)
