"""Load for a while, figures now and then, and at the end whether anything grew or was lost."""

from __future__ import annotations

import json
import os
import re
import ssl
import statistics
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attacks.peer import Target
from attacks.watch import open_descriptors
from services.workflow.events.hooks import webhook
from soak.department import CONFIGURATION_FILE, IMAGES, Department, Destination, Done, configuration
from soak.load import Client, Ledger
from support.ports import free_port
from support.processes import (
    ServedArchive,
    isocenter_command,
    served_archive,
    wait_for_line,
)

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
#: Memory of the last quarter may be above that of the third by so much, and no more.
_MOST_GROWTH = 1.05
_MOST_GROWN_BYTES = 8 << 20
#: Within this after the last request, nothing waits any more.
_DRAINED_SECONDS = 120.0
#: Of what was stored in hours every file is read.
_VERIFY_SECONDS = 3_600.0
#: What descriptors may differ by: connections that are open at the moment.
_MOST_DESCRIPTORS = 30


_HL7_LINE = r"^  HL7 orders .*:(\d+)$"
_METRICS_LINE = r"(http://\S+/metrics)"
_TO_SEND = re.compile(
    r"^isocenter_forward_queue\{.*state=\"(?:due|sent|committing|deleting)\".*\} (\S+)$",
    re.MULTILINE,
)
_TO_TELL = re.compile(r"^isocenter_events_waiting\{.*\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Sample:
    """The server's processes together, at one moment."""

    at: float
    resident: int
    descriptors: int
    threads: int
    cpu: float


@dataclass
class Report:
    """What happened.

    Attributes:
        examinations: from the order to the commitment.
        drained: seconds until nothing waited any more.
    """

    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    operations: int = 0
    stored: int = 0
    examinations: int = 0
    drained: float = 0.0


def soak(
    folder: Path, seconds: float, *, workers: int, tell: Callable[[str], None], every: float
) -> Report:
    """Run it; what is wrong stands in `Report.problems`."""
    report, ledger, stop = Report(), Ledger(), threading.Event()
    done, destination = Done(), Destination(folder, free_port(), stop)
    with webhook() as hook, destination.running():
        done.listen(hook)
        options = ("--config", configuration(folder, hook, destination.port))
        with served_archive(folder, *options, "--workers", str(workers), tls=True) as archive:
            with _clients(archive, folder, ledger, stop, done, destination):
                _watch(archive, seconds, report, ledger, tell, every)
            report.stored, report.examinations = len(ledger.stored), len(done.studies)
            judge_queues(archive, done, report)
            _settle(archive, report)
    report.problems += ledger.failures[:20]
    judge_growth(report)
    _judge_objects(archive, ledger, report)
    return report


def target_of(archive: ServedArchive, folder: Path) -> Target:
    """Where everybody sends to."""
    orders = int(wait_for_line(archive.process, _HL7_LINE, archive.log)[1])
    return Target(archive.port, archive.ae_title, folder, archive.tls_port, hl7_port=orders)


@contextmanager
def _clients(
    archive: ServedArchive,
    folder: Path,
    ledger: Ledger,
    stop: threading.Event,
    done: Done,
    destination: Destination,
) -> Iterator[None]:
    target = target_of(archive, folder)
    certificate, key, ca = archive.certificate("SOAK", folder)
    context = ssl.create_default_context(cafile=str(ca))
    context.load_cert_chain(certificate, key)
    threads, data_dir = [], archive.data_dir

    def begin(client: Client, steps: dict[str, Callable[[], None]], pause: float) -> None:
        threads.append(threading.Thread(target=client.run, args=(steps, pause)))

    for number in range(4):
        client = Client(target, ledger, stop, number, context)
        steps = {"C-ECHO": client.echo, "C-STORE": client.store, "C-FIND": client.find}
        begin(client, steps, 0.02)
    received = folder / "received"
    received.mkdir()
    client = Client(target, ledger, stop, 4, context)
    begin(client, {"C-GET": lambda c=client: c.retrieve(received)}, 0.2)  # type: ignore[misc]
    client = Client(target, ledger, stop, 5, context)
    begin(client, {"fault": client.fault, "reload": lambda: _reload(data_dir)}, 0.2)
    for number in (6, 7):
        room = Department(target, ledger, stop, number, context, done=done)
        begin(room, {"examination": room.examination, "morning": room.everything}, 0.1)
    begin(Client(target, ledger, stop, 8), {"destination away": destination.go_away}, 20.0)
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _reload(data_dir: Path) -> None:
    """Certificates are made anew and exchanged, under everybody's hands."""
    for words in (("certs", "renew", "soak", "--ca-dir", data_dir / "certs"), ("reload",)):
        more = ("--data-dir", data_dir) if words[0] == "reload" else ()
        done = isocenter_command(*words, *more)
        assert done.returncode == 0, done.stdout


def _watch(
    archive: ServedArchive,
    seconds: float,
    report: Report,
    ledger: Ledger,
    tell: Callable[[str], None],
    every: float,
) -> None:
    began = time.monotonic()
    tell(
        f"{'time':>8} {'MiB':>6} {'files':>6} {'thr':>4} {'CPU %':>6} "
        f"{'to send':>8} {'to tell':>8}  p50/p95/p99 in ms"
    )
    page = wait_for_line(archive.process, _METRICS_LINE, archive.log)[1]
    last = look(archive.process.pid, 0.0)
    while (now := time.monotonic() - began) < seconds:
        with suppress(subprocess.TimeoutExpired):
            archive.process.wait(min(every, max(seconds - now, 0.01)))
            report.problems.append(f"the server ended with {archive.process.poll()}")
            return
        sample = look(archive.process.pid, time.monotonic() - began)
        report.samples.append(sample)
        taken = ledger.take()
        report.operations += sum(map(len, taken.values()))
        busy = 100 * (sample.cpu - last.cpu) / max(sample.at - last.at, 0.001)
        tell(
            f"{sample.at:8.0f} {sample.resident >> 20:6} {sample.descriptors:6} "
            f"{sample.threads:4} {busy:6.0f} {_waiting(page, _TO_SEND):8} "
            f"{_waiting(page, _TO_TELL):8}  "
            + "  ".join(f"{what} {len(s)}: {_percentiles(s)}" for what, s in sorted(taken.items()))
        )
        last = sample


def _waiting(page: str, numbers: re.Pattern[str]) -> int:
    """The sum of these numbers of the metrics; they are some seconds old."""
    try:
        with urllib.request.urlopen(page, timeout=10) as answer:
            return sum(int(float(number)) for number in numbers.findall(answer.read().decode()))
    except OSError:
        return -1  # it has ended, which is judged elsewhere


def _percentiles(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    return "/".join(
        f"{1e3 * ordered[min(int(share * len(ordered)), len(ordered) - 1)]:.0f}"
        for share in (0.5, 0.95, 0.99)
    )


def look(pid: int, at: float) -> Sample:
    """What the process and its children hold."""
    resident = descriptors = threads = 0
    cpu = 0.0
    for one in [pid, *_children(pid)]:
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        descriptors += open_descriptors(one)
        cpu += (int(fields[11]) + int(fields[12])) / _TICKS
        threads += int(fields[17])
        resident += int(fields[21]) * _PAGE
    return Sample(at, resident, descriptors, threads, cpu)


def _children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def judge_queues(archive: ServedArchive, done: Done, report: Report) -> None:
    """Everybody has gone: what waits is sent, told, committed and complete in a while."""
    began = time.monotonic()
    while archive.process.poll() is None:
        left = next((each for each in _left(archive, done) if each[1]), None)
        report.drained = time.monotonic() - began
        if left is None:
            break
        if report.drained > _DRAINED_SECONDS:
            report.problems.append(f"after {report.drained:.0f} s still {left[0]}: {left[1]}")
            break
    sent = _json_of(archive, "queue", "summary", "--json")
    count = sum(row["counts"]["done"] for row in sent)
    least = IMAGES * len(done.studies)
    if count < least:
        report.problems.append(f"{count} objects were sent on, of at least {least}")
    if failed := sum(row["counts"]["failed"] for row in sent):
        report.problems.append(f"{failed} objects were given up")


def _left(archive: ServedArchive, done: Done) -> Iterator[tuple[str, int]]:
    """What still waits for what, asked for one after the other: each takes a process."""
    sent = _json_of(archive, "queue", "summary", "--json")
    states = ("due", "sent", "committing", "deleting")
    yield "to be sent", sum(row["counts"][state] for row in sent for state in states)
    words = ("commitments", "list", "--state", "pending", "--format", "json")
    yield "to be committed", len(_json_of(archive, *words))
    words = ("events", "studies", "--state", "receiving", "--json")
    yield "being received", len(_json_of(archive, *words))
    consumers = _json_of(archive, "events", "consumers", "--json")
    yield "to be told", sum(consumer["waiting"] for consumer in consumers)
    yield "studies of which nobody heard", len(done.studies - done.told)


def _json_of(archive: ServedArchive, *words: str) -> list[Any]:
    """What a command prints: a list, or an object a line."""
    where = ("--config", archive.data_dir.parent / CONFIGURATION_FILE)
    command = isocenter_command(*words, *where, "--data-dir", archive.data_dir)
    assert command.returncode == 0, command.stdout
    if command.stdout.startswith("["):
        found: list[Any] = json.loads(command.stdout)
        return found
    return [json.loads(line) for line in command.stdout.splitlines()]


def _settle(archive: ServedArchive, report: Report) -> None:
    """Everybody has gone: so have their descriptors."""
    if not report.samples or archive.process.poll() is not None:
        return
    deadline = time.monotonic() + _DRAINED_SECONDS
    while (left := look(archive.process.pid, 0.0).descriptors) > _idle(report):
        if time.monotonic() > deadline:
            report.problems.append(f"{left} descriptors are open when nobody is there")
            return
        # Its descriptors tell nobody: they are looked at again until it ends.
        with suppress(subprocess.TimeoutExpired):
            archive.process.wait(0.2)
            return  # which is judged elsewhere


def _idle(report: Report) -> int:
    """As many as at the least loaded moment, and the readers of an index."""
    return min(sample.descriptors for sample in report.samples) + 10


def judge_growth(report: Report) -> None:
    count = len(report.samples)
    if count < 8:
        return
    third, last = (
        report.samples[count // 2 : 3 * count // 4], report.samples[3 * count // 4 :]
    )  # fmt: skip
    before, after = (statistics.median(s.resident for s in part) for part in (third, last))
    if after > before * _MOST_GROWTH + _MOST_GROWN_BYTES:
        report.problems.append(f"memory grows: {before / 2**20:.0f}, then {after / 2**20:.0f} MiB")
    before, after = (statistics.median(s.descriptors for s in part) for part in (third, last))
    if after > before + _MOST_DESCRIPTORS:
        report.problems.append(f"descriptors grow: {before:.0f}, then {after:.0f}")


def _judge_objects(archive: ServedArchive, ledger: Ledger, report: Report) -> None:
    done = isocenter_command(
        "db", "verify", "--data-dir", archive.data_dir, seconds=_VERIFY_SECONDS
    )
    if done.returncode != 0:
        report.problems.append(f"db verify: {done.stdout[-500:]}")
    done = isocenter_command("db", "stats", "--data-dir", archive.data_dir)
    found = re.search(r"^instances +([0-9,]+)", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout
    kept = int(found[1].replace(",", ""))
    # Attacks may have stored one or two of their own.
    if kept < len(ledger.stored):
        report.problems.append(f"{len(ledger.stored)} objects acknowledged, {kept} kept")
