"""The parent of workers, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

from support.processes import ENVIRONMENT, RUN_SECONDS

#: SIGTERM comes in the middle of starting a worker.
TOLD_WHILE_FORKING = """
import os, signal, sys
from isocenter.services.system.worker_processes import run_workers

fork, forks = os.fork, []

def fork_and_be_told():
    pid = fork()
    if pid:
        forks.append(pid)
        if len(forks) == 2:  # the first is the preparation
            os.kill(os.getpid(), signal.SIGTERM)
    return pid

def work(ready, beat, parent_end):
    ready()
    os.read(parent_end, 1)

os.fork = fork_and_be_told
code = run_workers(
    2,
    prepare=lambda: None,
    work=work,
    announce=lambda: None,
    say=print,
    on_worker_exit=lambda pid: None,
)
print(len(forks))
sys.exit(code)
"""


def test_a_worker_that_is_just_starting_is_stopped_as_well() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TOLD_WHILE_FORKING],
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        timeout=RUN_SECONDS / 4,
        check=False,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
