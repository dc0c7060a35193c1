"""DICOMweb beside Orthanc's plugin on this machine: `tox -e bench-web`, or

    PYTHONPATH=engine:services:storage python benchmarks/web.py [--quick]

All servers run at once and are filled alike; a client on a raw socket asks one after the other,
and the order changes with each round.  Prints medians with their range, ratios to ours, CPU time
of the server per operation and the peak of its memory.  Judges nothing: machines are noisy.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from peers import table
from peers.programs import NotStarted, free_port, started
from peers.rows import Numbers
from peers.table import Cell
from peers.web_rows import (
    WEB_QUICK,
    WebRow,
    WebRunning,
    WebScale,
    measure_web,
    web_rows,
)
from peers.web_servers import WEB_KINDS, WebKind, WebPlace
from peers.wire import Failed


def main() -> int:
    options = _options()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with tempfile.TemporaryDirectory(prefix="isocenter-bench-", dir=options.dir) as name:
        folder = Path(name)
        print(*table.machine(folder), sep="\n", flush=True)
        cells: dict[tuple[str, str], Cell] = {}
        try:
            _run(options, folder, cells)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return 130
        finally:
            _report(options, cells)
    return 0


def _run(options: argparse.Namespace, folder: Path, cells: dict[tuple[str, str], Cell]) -> None:
    kinds: Sequence[WebKind] = options.servers
    numbers = Numbers()
    with ExitStack() as stack:
        servers: dict[str, WebRunning] = {}
        for kind in kinds:
            _progress(f"filling {kind.title}")
            try:
                server = stack.enter_context(_server(kind, options.scale, folder, numbers))
                server.fill()
                kind.settle(server.place)
            except (NotStarted, Failed) as error:
                for row in options.rows:
                    cells.setdefault((row.name, kind.name), Cell()).failures.append(str(error))
                continue
            servers[kind.name] = server
        for number in range(options.rounds):
            turn = number % len(kinds)
            for row in options.rows:
                for kind in [*kinds[turn:], *kinds[:turn]]:
                    if kind.name in servers:
                        _progress(f"round {number + 1}: {row.name}, {kind.title}")
                        _measure(row, servers[kind.name], cells)
    _progress("")


def _measure(row: WebRow, server: WebRunning, cells: dict[tuple[str, str], Cell]) -> None:
    cell = cells.setdefault((row.name, server.kind.name), Cell())
    try:
        cell.samples.append(measure_web(row, server))
    except Failed as error:
        cell.failures.append(str(error))


@contextmanager
def _server(kind: WebKind, scale: WebScale, above: Path, numbers: Numbers) -> Iterator[WebRunning]:
    folder = Path(tempfile.mkdtemp(prefix=f"{kind.name}-", dir=above))
    try:
        place = WebPlace(folder, free_port(), free_port())
        command = kind.command(place)
        with started(command, port=place.http_port, folder=folder) as program:
            yield WebRunning(kind, place, program, scale, numbers)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _report(options: argparse.Namespace, cells: dict[tuple[str, str], Cell]) -> None:
    """Whatever is known, also when the run was stopped."""
    _progress("")
    for row in options.rows:
        if any((row.name, kind.name) in cells for kind in options.servers):
            print(*table.row_lines(row, options.servers, cells), sep="\n")
    print("\nWhat is on the disk when a store is answered with success:")
    for kind in options.servers:
        print(f"  {kind.title:<28}{kind.durability}")
    if options.markdown:
        print("", *table.summary(options.rows, options.servers, cells), sep="\n")


def _progress(text: str) -> None:
    """Where somebody watches."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    names = ", ".join(row.name for row in web_rows(WEB_QUICK))
    kinds = ", ".join(kind.name for kind in WEB_KINDS)
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=f"rows: {names}; servers: {kinds}"
    )
    parser.add_argument("--servers", help="names, separated by commas (default: all)")
    parser.add_argument("--rows", help="names, separated by commas (default: all)")
    parser.add_argument("--rounds", type=int, help="how often each is measured (default: 3)")
    parser.add_argument("--seconds", type=float, help="per cell (default: 3)")
    parser.add_argument(
        "--quick", action="store_true", help="whether everything works: one short round"
    )
    parser.add_argument("--markdown", action="store_true", help="print one table of medians too")
    parser.add_argument("--dir", type=Path, help="on the disk to measure (default: the temporary)")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.scale = WEB_QUICK if options.quick else WebScale()
    if options.seconds:
        options.scale = WebScale(seconds=options.seconds)
    rows = list(web_rows(options.scale))
    options.rows = _chosen(parser, options.rows, rows)
    options.servers = _chosen(parser, options.servers, WEB_KINDS)
    return options


def _chosen(parser: argparse.ArgumentParser, text: str | None, known: Sequence) -> list:  # type: ignore[type-arg]
    if text is None:
        return list(known)
    by_name = {each.name: each for each in known}
    names = text.split(",")
    if missing := [name for name in names if name not in by_name]:
        parser.error(f"there is no {missing[0]}")
    return [by_name[name] for name in names]


if __name__ == "__main__":
    start = time.monotonic()
    code = main()
    print(f"\n{time.monotonic() - start:.0f} s", flush=True)
    sys.exit(code)
