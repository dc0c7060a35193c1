"""Mixed traffic of one department, without end: everybody does one thing after the other."""

from __future__ import annotations

import random
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from attacks.attacks import ATTACKS
from attacks.peer import (
    ECHO_CONTEXT,
    FIND_CONTEXT,
    RELEASE_RQ,
    STORE_CONTEXT,
    Closed,
    Peer,
    Target,
    command,
    data_set,
    echo,
    find,
    pdu,
    store,
)
from attacks.workflow import WORKFLOW_ATTACKS
from support.processes import ENVIRONMENT

ROOT = "1.2.826.0.1.3680043.10.999.77"
#: Attacks that are over at once; the others have tests of their own.
_FAULTS = frozenset(
    (
        *("aborts", "lengths", "zero", "dimse", "ids", "nesting", "elements", "paths", "log"),
        *("hl7-malformed", "hl7-log", "stars", "keys", "deep-keys", "items", "sets", "references"),
    )
)
_ATTACKS = [each for each in (*ATTACKS, *WORKFLOW_ATTACKS) if each.name in _FAULTS]
_FAULT_SCALE = 0.01
_SIZES = (12_000, 12_000, 12_000, 530_000, 2_500_000)
_OBJECTS_OF_STUDY = 20


@dataclass
class Ledger:
    """What everybody did: seconds by operation, objects that were acknowledged, what failed."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    stored: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def done(self, what: str, seconds: float) -> None:
        with self._lock:
            self.seconds.setdefault(what, []).append(seconds)

    def failed(self, what: str) -> None:
        with self._lock:
            self.failures.append(what)

    def acknowledged(self, uid: str, size: int) -> None:
        with self._lock:
            self.stored[uid] = size

    def some_study(self, draw: random.Random) -> str:
        with self._lock:
            uids = list(self.stored)
        return draw.choice(uids).rpartition(".")[0] if uids else f"{ROOT}.0.0"

    def take(self) -> dict[str, list[float]]:
        """The seconds since the last time."""
        with self._lock:
            seconds, self.seconds = self.seconds, {}
        return seconds


@dataclass
class Client:
    """One who asks until *stop* is set."""

    target: Target
    ledger: Ledger
    stop: threading.Event
    number: int
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self.draw = random.Random(self.number)
        self.count = 0

    def connect(self) -> Peer:
        encrypted = self.tls is not None and self.draw.random() < 0.4
        port = self.target.tls_port if encrypted else self.target.port
        assert port is not None
        peer = Peer(port)
        try:
            if encrypted and self.tls is not None:
                peer.sock = self.tls.wrap_socket(peer.sock, server_hostname="localhost")
            peer.associate(self.target.called, "SOAK")
        except BaseException:
            peer.sock.close()
            raise
        return peer

    def run(self, steps: dict[str, Callable[[], None]], pause: float) -> None:
        while not self.stop.is_set():
            what = self.draw.choice(list(steps))
            began = time.perf_counter()
            try:
                steps[what]()
            except (Closed, OSError, AssertionError, subprocess.SubprocessError) as error:
                if not self.stop.is_set():
                    self.ledger.failed(f"{what}: {type(error).__name__} {error}")
            else:
                self.ledger.done(what, time.perf_counter() - began)
            self.stop.wait(pause)

    # What may be asked.

    def echo(self) -> None:
        with self.connect() as peer:
            peer.send(command(ECHO_CONTEXT, echo()))
            assert peer.status() == 0
            self._release(peer)

    def store(self) -> None:
        """A few objects of one study over one association."""
        study = f"{ROOT}.{self.number}.{self.count // _OBJECTS_OF_STUDY}"
        with self.connect() as peer:
            for _ in range(self.draw.randint(1, 5)):
                self.count += 1
                uid, size = f"{study}.{self.count}", self.draw.choice(_SIZES)
                content = object_of(uid, study, self.draw.randbytes(size))
                peer.send(command(STORE_CONTEXT, store(uid), has_data_set=True))
                peer.send(*data_set(STORE_CONTEXT, content))
                status = peer.status()
                assert status == 0, f"{status:04X}H"
                self.ledger.acknowledged(uid, size)
            self._release(peer)

    def find(self) -> None:
        study = self.ledger.some_study(self.draw)
        identifier = (
            _element(0x00080052, b"CS", b"STUDY")
            + _element(0x00100020, b"LO", b"SOAK")
            + _element(0x0020000D, b"UI", study.encode())
        )
        with self.connect() as peer:
            peer.send(command(FIND_CONTEXT, find(), has_data_set=True))
            peer.send(*data_set(FIND_CONTEXT, identifier))
            status = peer.status()
            while status == 0xFF00:
                status = peer.status()
            assert status == 0, f"{status:04X}H"
            self._release(peer)

    def retrieve(self, folder: Path) -> None:
        """By DCMTK's own client."""
        done = subprocess.run(
            [
                *("getscu", "-S", "-aec", self.target.called, "-od", str(folder)),
                *("-k", "QueryRetrieveLevel=STUDY"),
                *("-k", f"StudyInstanceUID={self.ledger.some_study(self.draw)}"),
                *("127.0.0.1", str(self.target.port)),
            ],
            env=ENVIRONMENT,
            capture_output=True,
            timeout=60,
            check=False,
        )
        for path in folder.iterdir():
            path.unlink()
        assert done.returncode == 0, done.stderr[-200:]

    def fault(self) -> None:
        """What it is answered with is no matter here."""
        attack = self.draw.choice(_ATTACKS)
        with suppress(Closed):
            attack.play(self.target, _FAULT_SCALE)

    @staticmethod
    def _release(peer: Peer) -> None:
        peer.send(pdu(RELEASE_RQ, bytes(4)))
        peer.receive()


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def object_of(uid: str, study: str, pixels: bytes) -> bytes:
    return (
        _element(0x00080016, b"UI", b"1.2.840.10008.5.1.4.1.1.2")
        + _element(0x00080018, b"UI", uid.encode())
        + _element(0x00080060, b"CS", b"CT")
        + _element(0x00100010, b"PN", b"Soak^Test")
        + _element(0x00100020, b"LO", b"SOAK")
        + _element(0x0020000D, b"UI", study.encode())
        + _element(0x0020000E, b"UI", f"{study}.1".encode())
        + struct.pack("<HH2sxxI", 0x7FE0, 0x0010, b"OW", len(pixels))
        + pixels
    )
