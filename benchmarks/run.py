"""The archive beside its peers on this machine: `tox -e bench`, or

    PYTHONPATH=engine:services:storage python benchmarks/run.py [--quick]

Each server is started, loaded by the same generator and stopped; they take turns, and the
order changes with each round.  Prints medians with their range, ratios to ours, CPU time of
the server per operation and the peak of its memory.  Judges nothing: machines are noisy.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from peers import table
from peers.programs import NotStarted, free_port, started
from peers.rows import QUICK, Bench, Row, Running, Scale, cannot, measure, rows_of
from peers.servers import KINDS, Kind, Place
from peers.table import Cell
from peers.wire import Address, Certificates, Failed
from syncs import lines as lines_of_syncs

from isocenter.services.security.certificates.authority import CertificateAuthority

#: What `--table` measures, in some ten minutes.
_TABLE_ROWS = (
    "echo,associate,small-1,small-8,ct-1,ct-8,storescu,huge,find,get,move,store-get,store-move"
)
#: A little less than else: all of it together is to take ten minutes.
_TABLE_SECONDS = 1.5
_TABLE_SERVERS = "isocenter,isocenter-relaxed,storescp,storescp-fork,dcmqrscp,orthanc"
#: Of these the syncs are counted.
_TABLE_SYNCS = ("isocenter", "storescp", "orthanc")


def main() -> int:
    options = _options()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with tempfile.TemporaryDirectory(prefix="isocenter-bench-", dir=options.dir) as name:
        folder = Path(name)
        print(*table.machine(folder), sep="\n", flush=True)
        try:
            _run(options, folder)
            if options.table:
                counted = [kind for kind in options.servers if kind.name in _TABLE_SYNCS]
                print("", *lines_of_syncs(counted, options.scale, folder), sep="\n")
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return 130
    return 0


def _run(options: argparse.Namespace, folder: Path) -> None:
    scale, rows, kinds = options.scale, options.rows, options.servers
    cells: dict[tuple[str, str], Cell] = {}
    with socket.create_server(("127.0.0.1", 0)) as destination:
        bench = Bench(scale, folder, destination)
        certificates = _certificates(folder)
        try:
            for is_query, tls in itertools.product((False, True), (None, certificates)):
                chosen = [row for row in rows if row.is_query is is_query and row.tls is bool(tls)]
                if chosen:
                    Group(bench, chosen, kinds, tls, cells).run(options.rounds)
        finally:
            _report(options, rows, kinds, cells)


def _certificates(folder: Path) -> Certificates:
    authority = CertificateAuthority.create(folder / "ca")
    for name in ("ISOCENTER", "BENCH"):
        authority.issue(name, hosts=["127.0.0.1", "localhost"], folder=folder)
    return Certificates(
        server=folder / "ISOCENTER.crt",
        server_key=folder / "ISOCENTER.key",
        client=folder / "BENCH.crt",
        client_key=folder / "BENCH.key",
        ca=authority.certificate_path,
    )


class Group:
    """Rows that are measured on the same servers.

    Those that store get new servers in each round, so that all begin empty; those that ask
    keep them, as filling takes longer than asking.
    """

    def __init__(
        self,
        bench: Bench,
        rows: Sequence[Row],
        kinds: Sequence[Kind],
        tls: Certificates | None,
        cells: dict[tuple[str, str], Cell],
    ) -> None:
        self._bench = bench
        self._rows = rows
        self._kinds = kinds
        self._tls = tls
        self._cells = cells
        self._is_query = rows[0].is_query

    def run(self, rounds: int) -> None:
        if self._is_query:
            with self._servers() as servers:
                for number in range(rounds):
                    self._round(number, servers)
            return
        for number in range(rounds):
            with self._servers() as servers:
                self._round(number, servers)

    def _round(self, number: int, servers: dict[str, Running]) -> None:
        turn = number % len(self._kinds)
        for row in self._rows:
            for kind in [*self._kinds[turn:], *self._kinds[:turn]]:
                cell = self._cells.setdefault((row.name, kind.name), Cell())
                if reason := cannot(row, kind):
                    cell.failures.append(reason)
                elif kind.name in servers:
                    _progress(f"round {number + 1}: {row.name}, {kind.title}")
                    try:
                        cell.samples.append(measure(row, servers[kind.name]))
                    except Failed as error:
                        cell.failures.append(str(error))
        _progress("")

    @contextmanager
    def _servers(self) -> Iterator[dict[str, Running]]:
        """Those that start; why the others do not is noted in their cells."""
        with ExitStack() as stack:
            servers: dict[str, Running] = {}
            for kind in self._kinds:
                if all(cannot(row, kind) for row in self._rows):
                    continue
                try:
                    servers[kind.name] = stack.enter_context(self._server(kind))
                except NotStarted as error:
                    for row in self._rows:
                        cell = self._cells.setdefault((row.name, kind.name), Cell())
                        cell.failures.append(f"did not start: {error}")
            yield servers

    @contextmanager
    def _server(self, kind: Kind) -> Iterator[Running]:
        folder = Path(tempfile.mkdtemp(prefix=f"{kind.name}-", dir=self._bench.folder))
        port, destination = free_port(), self._bench.destination.getsockname()[1]
        try:
            place = Place(folder, port, destination, self._tls, self._is_query)
            with started(kind.command(place), port=port, folder=folder) as program:
                yield Running(kind, program, Address(port, self._tls), self._bench)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _report(
    options: argparse.Namespace,
    rows: Sequence[Row],
    kinds: Sequence[Kind],
    cells: dict[tuple[str, str], Cell],
) -> None:
    """Whatever is known, also when the run was stopped."""
    _progress("")
    for row in rows:
        if any((row.name, kind.name) in cells for kind in kinds):
            print(*table.row_lines(row, kinds, cells), sep="\n")
    print("", *table.durability(kinds), sep="\n")
    if options.markdown:
        print("", *table.summary(rows, kinds, cells), sep="\n")
    if options.json is not None:
        options.json.write_text(json.dumps(table.as_json(rows, kinds, cells), indent=1))


def _progress(text: str) -> None:
    """Where somebody watches."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="rows: "
        + ", ".join(row.name for row in rows_of(QUICK))
        + "; servers: "
        + ", ".join(kind.name for kind in KINDS),
    )
    parser.add_argument("--servers", help="names, separated by commas (default: all but workers)")
    parser.add_argument("--rows", help="names, separated by commas (default: all but huge)")
    parser.add_argument("--rounds", type=int, help="how often each is measured (default: 3)")
    parser.add_argument("--seconds", type=float, help="per cell, at most (default: 2; table: 1.5)")
    parser.add_argument(
        "--quick", action="store_true", help="whether everything works: one short round"
    )
    parser.add_argument(
        "--table",
        action="store_true",
        help=f"the rows {_TABLE_ROWS} on {_TABLE_SERVERS}, as Markdown too, and syncs per object",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    parser.add_argument("--markdown", action="store_true", help="print one table of medians too")
    parser.add_argument("--dir", type=Path, help="on the disk to measure (default: the temporary)")
    options = parser.parse_args()
    if options.table:
        options.rows, options.servers = (
            options.rows or _TABLE_ROWS,
            options.servers or _TABLE_SERVERS,
        )
        options.markdown = True
        options.seconds = options.seconds or _TABLE_SECONDS
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.scale = QUICK if options.quick else Scale(seconds=options.seconds or Scale().seconds)
    try:
        options.rows = _chosen(options.rows, rows_of(options.scale))
        options.servers = _chosen(options.servers, KINDS)
    except KeyError as error:
        parser.error(f"there is no {error.args[0]}")
    return options


def _chosen(text: str | None, known: Sequence) -> list:  # type: ignore[type-arg]
    if text is None:
        return [each for each in known if each.is_default]
    by_name = {each.name: each for each in known}
    return [by_name[name] for name in text.split(",")]


if __name__ == "__main__":
    start = time.monotonic()
    code = main()
    print(f"\n{time.monotonic() - start:.0f} s", flush=True)
    sys.exit(code)
