"""DCMTK's clients as shipped against our server and against DCMTK's, in turn.

    python benchmarks/peers.py [--rounds N] [--objects N] [--echoes N]

Machines are noisy: read the ratios.  Ours syncs every object before it answers
(durability full); the others leave that to the operating system.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import pydicom
import pydicom.data
from pydicom.uid import generate_uid

from support.processes import free_port, program, run, served_archive, wait_for_port

#: Rows and columns of a CT slice.
SIDE = 512


def make_corpus(folder: Path, count: int) -> Path:
    """*count* CT slices of 512 KiB with noise for pixels."""
    item = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm"))
    item.Rows = item.Columns = SIDE
    item.PixelData = secrets.token_bytes(SIDE * SIDE * 2)
    folder.mkdir()
    for number in range(count):
        item.SOPInstanceUID = item.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        item.save_as(folder / f"{number}.dcm")
    return folder


@contextmanager
def isocenter(folder: Path, durability: str) -> Iterator[int]:
    with served_archive(folder, "--durability", durability, "--log-level", "warning") as archive:
        yield archive.port


@contextmanager
def storescp(folder: Path) -> Iterator[int]:
    port, received = free_port(), folder / "received"
    received.mkdir(parents=True)
    log = folder / "log"
    with program("storescp", "-aet", "ISOCENTER", port, cwd=received, log=log) as process:
        wait_for_port(process, port, log)
        yield port


@contextmanager
def dcmqrscp(folder: Path) -> Iterator[int]:
    port = free_port()
    (folder / "db").mkdir(parents=True)
    config = folder / "config"
    config.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 16\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nISOCENTER {folder}/db RW (10000, 4gb) ANY\nAETable END\n"
    )
    log = folder / "log"
    with program("dcmqrscp", "-c", config, cwd=folder, log=log) as process:
        wait_for_port(process, port, log)
        yield port


def timed(*command: object) -> float:
    start = time.perf_counter()
    done = run(*command)
    if done.returncode:
        raise SystemExit(done.stdout)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--objects", type=int, default=100)
    parser.add_argument("--echoes", type=int, default=1000)
    options = parser.parse_args()
    servers: dict[str, Callable[[Path], object]] = {
        "isocenter, full": lambda folder: isocenter(folder, "full"),
        "isocenter, relaxed": lambda folder: isocenter(folder, "relaxed"),
        "storescp": storescp,
        "dcmqrscp": dcmqrscp,
    }
    rates: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="isocenter-bench-") as name, ExitStack() as stack:
        base = Path(name)
        ports = {
            server: stack.enter_context(start(base / str(number)))  # type: ignore[arg-type]
            for number, (server, start) in enumerate(servers.items())
        }
        for number in range(options.rounds):
            for server, port in ports.items():
                to = ("-aec", "ISOCENTER", "127.0.0.1", port)
                corpus = make_corpus(base / f"corpus-{number}-{port}", options.objects)
                seconds = timed("echoscu", *to, "--repeat", options.echoes)
                rates.setdefault(("C-ECHO /s", server), []).append(options.echoes / seconds)
                seconds = timed("storescu", "-R", *to, "+sd", corpus)
                rates.setdefault(("CT store /s", server), []).append(options.objects / seconds)
    for row in dict.fromkeys(what for what, _ in rates):
        ours = statistics.median(rates[row, "isocenter, full"])
        for server in servers:
            found = rates[row, server]
            middle = statistics.median(found)
            print(
                f"{row:<12} {server:<20} {middle:8.0f}  ({min(found):.0f}–{max(found):.0f})"
                f"  ours/theirs {ours / middle:.2f}"
            )


if __name__ == "__main__":
    main()
