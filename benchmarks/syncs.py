"""Syncs for each object that a server stores, counted by strace: fsync, fdatasync, syncfs …

    PYTHONPATH=engine:services:storage python benchmarks/syncs.py [--servers NAMES]

What follows the answers within two seconds is counted too, so it is the whole price of an object.
Tracing slows a server down, and fewer objects share a sync then: the figures are the upper bound.
"""

from __future__ import annotations

import argparse
import re
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from peers.programs import NotStarted, free_port, started
from peers.rows import Bench, Row, Running, Scale, rows_of
from peers.servers import KINDS, Kind, Place
from peers.wire import Address, Failed

ROWS: Final = ("small-1", "small-8", "ct-1", "ct-8")
_CALLS: Final = "fsync,fdatasync,syncfs,sync,sync_file_range,msync"
_CALL: Final = re.compile(r"\d+ +(\w+)\(")
#: Files and names of what was answered are synced within a second.
_LATER_SECONDS: Final = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--servers", default="isocenter,storescp,orthanc", help="names, separated by commas"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="per figure, at most")
    parser.add_argument("--dir", type=Path, help="on the disk to measure (default: the temporary)")
    options = parser.parse_args()
    kinds = {kind.name: kind for kind in KINDS}
    try:
        chosen = [kinds[name] for name in options.servers.split(",")]
    except KeyError as error:
        parser.error(f"there is no {error.args[0]}")
    for line in lines(chosen, Scale(seconds=options.seconds), options.dir):
        print(line, flush=True)


def lines(kinds: Sequence[Kind], scale: Scale, folder: Path | None) -> Iterator[str]:
    """The table, a line for each server."""
    if shutil.which("strace") is None:
        yield "syncs per object: strace is not installed"
        return
    rows = [row for row in rows_of(scale) if row.name in ROWS]
    yield f"{'syncs per object':<28}" + "".join(f"{row.name:>10}" for row in rows)
    for kind in kinds:
        yield _line(kind, rows, scale, folder)


def _line(kind: Kind, rows: list[Row], scale: Scale, folder: Path | None) -> str:
    with tempfile.TemporaryDirectory(prefix="isocenter-syncs-", dir=folder) as name:
        try:
            figures = _measured(kind, rows, scale, Path(name))
        except (NotStarted, Failed) as error:
            return f"{kind.title:<28}{error}"
    return f"{kind.title:<28}" + "".join(f"{figure:10.2f}" for figure in figures)


def _measured(kind: Kind, rows: list[Row], scale: Scale, folder: Path) -> list[float]:
    trace, data = folder / "trace", folder / "data"
    data.mkdir()
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as destination:
        bench = Bench(scale, folder, destination)
        command = _traced(kind, trace)
        place = Place(data, port, destination.getsockname()[1])
        with started(command(place), port=port, folder=data) as program:
            running = Running(replace(kind, command=command), program, Address(port), bench)
            return [_syncs(row, running, trace) for row in rows]


def _traced(kind: Kind, trace: Path) -> Callable[[Place], list[object]]:
    # -D: the server is our child, and strace its shadow.
    words = ["strace", "-D", "-f", "-qq", "--seccomp-bpf", "-e", "signal=none"]
    words += ["-e", f"trace={_CALLS}", "-o", str(trace)]
    return lambda place: [*words, *kind.command(place)]


def _syncs(row: Row, running: Running, trace: Path) -> float:
    before = _count(trace)
    done, _ = row.measure(running)
    time.sleep(_LATER_SECONDS)
    return (_count(trace) - before).total() / sum(each.operations for each in done)


def _count(trace: Path) -> Counter[str]:
    calls = map(_CALL.match, trace.read_text().splitlines())
    return Counter(call[1] for call in calls if call is not None)


if __name__ == "__main__":
    main()
