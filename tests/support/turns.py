"""Workers of one test run in turn, for a test that measures what others would disturb."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def turn(folder: Path, *, alone: bool) -> Iterator[None]:
    """While one test runs: beside those of other workers, or *alone*, after them and before more.

    Who waits to be alone holds the gate meanwhile, so that the others cannot keep it waiting by
    starting one test after another.
    """
    with (folder / "gate.lock").open("w") as gate, (folder / "running.lock").open("w") as running:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(running, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield
