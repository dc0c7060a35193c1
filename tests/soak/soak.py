"""Load for a while, figures now and then, and at the end whether anything grew or was lost."""

from __future__ import annotations

import os
import re
import ssl
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from attacks.peer import Target
from soak.load import Client, Ledger
from support.processes import ServedArchive, isocenter_command, served_archive

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
#: Memory of the last quarter may be above that of the third by so much, and no more.
_MOST_GROWTH = 1.05
_MOST_GROWN_BYTES = 8 << 20
#: What descriptors may differ by: connections that are open at the moment.
_MOST_DESCRIPTORS = 30


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
    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    operations: int = 0
    stored: int = 0


def soak(
    folder: Path, seconds: float, *, workers: int, tell: Callable[[str], None], every: float
) -> Report:
    """Run it; what is wrong stands in `Report.problems`."""
    report, ledger, stop = Report(), Ledger(), threading.Event()
    with served_archive(folder, "--workers", str(workers), tls=True) as archive:
        try:
            with _clients(archive, folder, ledger, stop):
                _watch(archive, seconds, report, ledger, tell, every)
        finally:
            stop.set()
        report.stored = len(ledger.stored)
        _settle(archive, report)
    report.problems += ledger.failures[:20]
    _judge_growth(report)
    _judge_objects(archive, ledger, report)
    return report


@contextmanager
def _clients(
    archive: ServedArchive, folder: Path, ledger: Ledger, stop: threading.Event
) -> Iterator[None]:
    target = Target(archive.port, archive.ae_title, folder, archive.tls_port)
    certificate, key, ca = archive.certificate("SOAK", folder)
    context = ssl.create_default_context(cafile=str(ca))
    context.load_cert_chain(certificate, key)
    threads, data_dir = [], archive.data_dir
    for number in range(6):
        client = Client(target, ledger, stop, number, context)
        received = folder / f"received-{number}"
        received.mkdir()
        steps: dict[str, Callable[[], None]] = {
            "C-ECHO": client.echo,
            "C-STORE": client.store,
            "C-FIND": client.find,
        }
        if number == 4:
            steps = {"C-GET": lambda c=client, r=received: c.retrieve(r)}  # type: ignore[misc]
        if number == 5:
            steps = {"fault": client.fault, "reload": lambda: _reload(data_dir)}
        pause = 0.02 if number < 4 else 0.2
        threads.append(threading.Thread(target=client.run, args=(steps, pause)))
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
    tell(f"{'time':>8} {'MiB':>6} {'files':>6} {'thr':>4} {'CPU %':>6}  p50/p95/p99 in ms")
    last = look(archive.process.pid, 0.0)
    while (now := time.monotonic() - began) < seconds:
        time.sleep(min(every, max(seconds - now, 0.01)))
        sample = look(archive.process.pid, time.monotonic() - began)
        report.samples.append(sample)
        taken = ledger.take()
        report.operations += sum(map(len, taken.values()))
        busy = 100 * (sample.cpu - last.cpu) / max(sample.at - last.at, 0.001)
        tell(
            f"{sample.at:8.0f} {sample.resident >> 20:6} {sample.descriptors:6} "
            f"{sample.threads:4} {busy:6.0f}  "
            + "  ".join(f"{what} {len(s)}: {_percentiles(s)}" for what, s in sorted(taken.items()))
        )
        last = sample
        if archive.process.poll() is not None:
            report.problems.append(f"the server ended with {archive.process.poll()}")
            return


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
            descriptors += len(os.listdir(f"/proc/{one}/fd"))
        except OSError:
            continue
        cpu += (int(fields[11]) + int(fields[12])) / _TICKS
        threads += int(fields[17])
        resident += int(fields[21]) * _PAGE
    return Sample(at, resident, descriptors, threads, cpu)


def _children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _settle(archive: ServedArchive, report: Report) -> None:
    """Everybody has gone: so have their descriptors."""
    if not report.samples or archive.process.poll() is not None:
        return
    deadline = time.monotonic() + 15
    while (left := look(archive.process.pid, 0.0).descriptors) > _idle(report):
        if time.monotonic() > deadline:
            report.problems.append(f"{left} descriptors are open when nobody is there")
            return
        time.sleep(0.2)


def _idle(report: Report) -> int:
    """As many as at the least loaded moment, and the readers of an index."""
    return min(sample.descriptors for sample in report.samples) + 10


def _judge_growth(report: Report) -> None:
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
    done = isocenter_command("db", "verify", "--data-dir", archive.data_dir)
    if done.returncode != 0:
        report.problems.append(f"db verify: {done.stdout[-500:]}")
    done = isocenter_command("db", "stats", "--data-dir", archive.data_dir)
    found = re.search(r"^instances +([0-9,]+)", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout
    kept = int(found[1].replace(",", ""))
    # Attacks may have stored one or two of their own.
    if kept < len(ledger.stored):
        report.problems.append(f"{len(ledger.stored)} objects acknowledged, {kept} kept")
