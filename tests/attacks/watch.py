"""What an attack costs: others' C-ECHOs while it lasts, and what it leaves behind."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from attacks.attacks import CANARY, Attack
from attacks.peer import Closed, Peer, Target, probe

#: Between two C-ECHOs of somebody else.
_PROBE_EVERY_SECONDS = 0.05
_LEAST_PROBES = 5
_FOLLOWED_SECONDS = 30.0
#: Within this, descriptors are back, also on a busy machine.
SETTLE_SECONDS = 60.0


@dataclass
class Outcome:
    """What a server did under one attack.

    Attributes:
        fate: in the attack's words.
        median, worst: seconds of an association with a C-ECHO by somebody else meanwhile.
        refused: how many of those were not served.
        grown: bytes of memory more than before, after it.
        descriptors: more than before, after it.
        serves: whether it answers afterwards.
        written: paths outside of its folder that it made.
        connections: to it, of everybody.
    """

    fate: str
    median: float = 0.0
    worst: float = 0.0
    refused: int = 0
    probes: int = 0
    grown: int = 0
    descriptors: int = 0
    serves: bool = True
    written: tuple[str, ...] = ()
    connections: int = 0


@dataclass
class Prober:
    """Somebody else, who only wants to be served."""

    target: Target
    seconds: list[float] = field(default_factory=list)
    refused: int = 0
    _probed: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def running(self) -> Iterator[None]:
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                try:
                    taken = [probe(self.target)]
                except Closed:
                    taken = []
                with self._probed:
                    self.seconds += taken
                    self.refused += not taken
                    self._probed.notify()
                stop.wait(_PROBE_EVERY_SECONDS)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            # An attack that is over at once is followed for a moment.
            with self._probed:
                self._probed.wait_for(
                    lambda: len(self.seconds) + self.refused >= _LEAST_PROBES, _FOLLOWED_SECONDS
                )
            stop.set()
            thread.join()


def under_attack(
    attack: Attack,
    target: Target,
    scale: float,
    *,
    memory: Callable[[], int],
    descriptors: Callable[[], int],
) -> Outcome:
    """Play it, and look at the server before, meanwhile and after.

    Args:
        memory, descriptors: what the server's processes hold now.
    """
    with suppress(Closed):
        probe(target)
    before, opened, connections = memory(), descriptors(), Peer.count
    prober = Prober(target)
    with prober.running():
        try:
            fate = attack.play(target, scale)
        except Closed as closed:
            fate = str(closed)
    outcome = Outcome(
        fate,
        median=statistics.median(prober.seconds) if prober.seconds else 0.0,
        worst=max(prober.seconds, default=0.0),
        refused=prober.refused,
        probes=len(prober.seconds) + prober.refused,
    )
    deadline = time.monotonic() + SETTLE_SECONDS
    # Looked at once each time: connections may still wait in the backlog, and come and go.
    while (left := descriptors() - opened) > 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    outcome.descriptors = left
    try:
        probe(target)
    except Closed:
        outcome.serves = False
    outcome.grown = memory() - before
    outcome.connections = Peer.count - connections
    outcome.written = canaries(target.folder)
    for path in outcome.written:  # or the next server would be blamed
        if Path(path).is_file():
            Path(path).unlink()
    return outcome


def canaries(folder: Path) -> tuple[str, ...]:
    """What UIDs that are paths have made, anywhere around the server's folder."""
    found = [str(path) for path in (*folder.parent.iterdir(), *folder.iterdir(), *_temporary())]
    return tuple(path for path in found if CANARY in path)


def _temporary() -> Iterator[Path]:
    for name in os.listdir("/tmp"):
        if CANARY in name:
            yield Path("/tmp", name)


def open_descriptors(pid: int) -> int:
    """Descriptors of a process, less what the store opens when it is time rather than for a peer:
    segments of the journal, and the empty files made ahead of the objects that they will hold."""
    count = 0
    with suppress(OSError):
        for name in os.listdir(folder := f"/proc/{pid}/fd"):
            with suppress(OSError):  # closed meanwhile
                opened = os.path.join(folder, name)
                path = os.readlink(opened)
                ahead = "/staging/" in path and not os.stat(opened).st_size
                count += not (ahead or path.endswith(".journal"))
    return count
