"""A department on loopback: the archive with everything around it, and the means to kill it."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from day.proxy import Relay, relay
from support.patients import named_in
from support.peers import Orthanc, orthanc
from support.ports import free_port
from support.processes import ENVIRONMENT, ISOCENTER, STOP_SECONDS, wait_for_line

MODALITY = "CT1"
SECRET = "between RIS and archive"
WAIT_SECONDS = 60.0


class Webhook:
    """What the RIS was told, by event number; *before_answer* is called once, if it is set."""

    def __init__(self) -> None:
        self.events: dict[int, dict[str, Any]] = {}
        self.before_answer: Callable[[], None] | None = None
        self._came = threading.Condition()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                signed = f"{self.headers['Isocenter-Timestamp']}.".encode() + body
                digest = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
                assert self.headers["Isocenter-Signature"] == f"sha256={digest}"
                action, hook.before_answer = hook.before_answer, None
                if action is not None:
                    action()
                    return  # it is dead: nobody waits for the answer
                hook.take(json.loads(body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *words: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def take(self, event: dict[str, Any]) -> None:
        with self._came:
            self.events[event["id"]] = event
            self._came.notify_all()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for _, event in sorted(self.events.items()) if event["kind"] == kind]

    def has(self, kind: str, seconds: float) -> bool:
        """Whether an event of *kind* is here, after at most so long."""
        with self._came:
            return self._came.wait_for(lambda: bool(self.of(kind)), seconds)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Reports:
    """The storage commitment results that the modality got: transaction → committed, failed."""

    def __init__(self) -> None:
        self.results: dict[str, tuple[int, int]] = {}
        self._came = threading.Condition()

    def take(self, event: Any) -> tuple[int, None]:
        said = event.event_information
        counts = tuple(
            len(said.get(name, [])) for name in ("ReferencedSOPSequence", "FailedSOPSequence")
        )
        with self._came:
            self.results[str(said.TransactionUID)] = (counts[0], counts[1])
            self._came.notify_all()
        return 0x0000, None

    def has(self, transaction_uid: str, seconds: float) -> bool:
        with self._came:
            return self._came.wait_for(lambda: transaction_uid in self.results, seconds)


@dataclass
class Department:
    """The archive, and where everybody is reached; all through relays that can kill it."""

    folder: Path
    port: int
    hl7_port: int
    dicom: Relay
    hl7: Relay
    to_modality: Relay
    to_orthanc: Relay
    webhook: Webhook
    reports: Reports
    orthanc: Orthanc
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    kills: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def config(self) -> Path:
        return self.folder / "isocenter.toml"

    def up(self) -> None:
        """The archive serves, started again if it has to be."""
        with self._lock:
            if self.process is not None and self.process.poll() is None:
                return
            self.starts += 1
            log = self.folder / f"serve-{self.starts}.log"
            with log.open("wb") as output:
                self.process = subprocess.Popen(
                    [*ISOCENTER, "serve", "--config", str(self.config)],
                    stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                    env=ENVIRONMENT,
                )  # fmt: skip
            wait_for_line(self.process, r"^ready ", log)

    def kill(self) -> None:
        """`kill -9`; on return it is gone."""
        with self._lock:
            assert self.process is not None
            if self.process.poll() is None:
                os.kill(self.process.pid, signal.SIGKILL)
                self.process.wait()
                self.kills += 1

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(STOP_SECONDS)

    def until(self, what: str, done: Callable[[], bool]) -> None:
        """Have the archive serve and try again until *done* says so."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            self.up()
            if done():
                return
            assert time.monotonic() < deadline, f"{what}: not done after {WAIT_SECONDS:g} s"
            assert self.process is not None
            try:  # other processes are waited for: there is nothing to be woken by
                self.process.wait(0.05)
            except subprocess.TimeoutExpired:
                pass


@contextmanager
def department(folder: Path) -> Iterator[Department]:
    """All of it, the archive not started yet."""
    folder.mkdir(parents=True, exist_ok=True)
    port, hl7_port, modality_port, orthanc_port = (free_port() for _ in range(4))
    webhook, reports = Webhook(), Reports()
    with ExitStack() as stack:
        stack.callback(webhook.close)
        entity = AE(MODALITY)
        entity.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
        listener = entity.start_server(
            ("127.0.0.1", modality_port), block=False,
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, reports.take)],
        )  # fmt: skip
        stack.callback(listener.shutdown)
        peer = stack.enter_context(
            orthanc(folder / "orthanc", modalities={}, dicom_port=orthanc_port)
        )
        made = Department(
            folder=folder,
            port=port,
            hl7_port=hl7_port,
            dicom=stack.enter_context(relay(port)),
            hl7=stack.enter_context(relay(hl7_port)),
            to_modality=stack.enter_context(relay(modality_port)),
            to_orthanc=stack.enter_context(relay(peer.dicom_port)),
            webhook=webhook,
            reports=reports,
            orthanc=peer,
        )
        stack.callback(made.stop)
        made.config.write_text(_configuration(made), encoding="utf-8")
        yield made
    for log in folder.glob("serve-*.log"):
        assert not named_in(log.read_text(errors="replace")), f"{log} names patients"


def _configuration(made: Department) -> str:
    return f"""
[server]
port = {made.port}

[tls]
enabled = false

[storage]
data_dir = "{made.data_dir}"

[hl7]
enabled = true
port = {made.hl7_port}

[[peers]]
ae_title = "{MODALITY}"
host = "127.0.0.1"
port = {made.to_modality.port}

[[peers]]
ae_title = "ORTHANC"
host = "127.0.0.1"
port = {made.to_orthanc.port}

[[rules]]
name = "to Orthanc"
forward = ["ORTHANC"]

[forwarding]
first_retry = 0.1
longest_retry = 1

[events]
complete_by = ["mpps"]
settle_seconds = 0.2

[[events.consumers]]
name = "ris"
kinds = ["study.complete", "mpps.changed", "worklist.changed"]
webhook = "http://127.0.0.1:{made.webhook.port}/events"
secret = "{SECRET}"
longest_retry = 1
"""
