"""One and two nodes on one PostgreSQL and one folder, beside Orthanc with its PostgreSQL plugin.

    PYTHONPATH=engine:services:storage python benchmarks/nodes.py [--quick]

Debian: postgresql, orthanc, orthanc-postgresql.  Each line stores objects of 12 KB over a number
of associations to each node; the sides take turns, each with an empty database and folder.  Below
the rates stand what an object costs in CPU, of the nodes and of PostgreSQL apart, and what two
nodes reach of one.  The first objects of a new process cost several times as much: some are stored
before anything is measured.  A machine whose cores are all busy shows no more with two:
`--commit-delay` lets each commit take longer, as on a slower disk, without work for the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / room) for room in ("engine", "services", "storage", "tests")]

from peers import work  # noqa: E402
from peers.load import run_workers  # noqa: E402
from peers.objects import SMALL_SIDE  # noqa: E402
from peers.programs import NotStarted, Program, free_port, started  # noqa: E402
from peers.rows import Numbers  # noqa: E402
from peers.servers import ISOCENTER  # noqa: E402
from peers.wire import CALLED, MAX_PDU_LENGTH, Address, Failed  # noqa: E402

from support.postgresql import Server, running_server  # noqa: E402

_PLUGINS: Final = ("/usr/share/orthanc/plugins", "/usr/lib/orthanc", "/usr/local/share/orthanc")
#: Objects of each association that are stored before it is measured, and how long that may take.
_FIRST_OBJECTS: Final = 100
_FIRST_SECONDS: Final = 60.0
#: More than are stored in any time.
_MOST_OBJECTS: Final = 100_000
_INDEX_PLUGIN: Final = "libOrthancPostgreSQLIndex.so"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node is to live, and what it shares with the others."""

    name: str
    folder: Path
    shared: Path
    url: str
    port: int


def _isocenter(place: Place) -> Sequence[object]:
    return [
        *ISOCENTER, "serve", "--data-dir", place.folder / "data", "--ae-title", CALLED,
        "--node", place.name, "--database", place.url, "--objects", f"file://{place.shared}",
        "--port", place.port, "--no-tls", "--log-level", "warning",
    ]  # fmt: skip


def _orthanc(place: Place) -> Sequence[object]:
    found = [path for one in _PLUGINS if (path := Path(one) / _INDEX_PLUGIN).exists()]
    if not found:
        raise NotStarted(f"{_INDEX_PLUGIN}: not installed (Debian: orthanc-postgresql)")
    settings = {
        "StorageDirectory": str(place.shared),
        "Plugins": [str(found[0])],
        "PostgreSQL": {
            "EnableIndex": True,
            "EnableStorage": False,
            "ConnectionUri": place.url,
            # Several of them write to one database.
            "Lock": False,
        },
        "HttpServerEnabled": False,
        "DicomAet": CALLED,
        "DicomPort": place.port,
        "MaximumPduLength": MAX_PDU_LENGTH,
        "DicomAlwaysAllowStore": True,
    }
    config = place.folder / "orthanc.json"
    config.write_text(json.dumps(settings))
    return ["Orthanc", config]


SIDES: Final[dict[str, Callable[[Place], Sequence[object]]]] = {
    "isocenter": _isocenter,
    "orthanc": _orthanc,
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One line in one round: objects a second, and CPU milliseconds an object."""

    rate: float
    cpu: float
    database_cpu: float


@contextmanager
def _nodes(
    side: str, number: int, server: Server, folder: Path
) -> Iterator[list[tuple[Program, Address]]]:
    """So many nodes of one archive that is empty."""
    database = f"bench_{time.monotonic_ns()}"
    server.execute("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", database)
    shared = folder / "shared"
    shared.mkdir()
    try:
        with ExitStack() as stack:
            found = []
            for name in ("one", "two")[:number]:
                own = folder / name
                own.mkdir()
                place = Place(name, own, shared, server.url(database), free_port())
                program = stack.enter_context(
                    started(SIDES[side](place), port=place.port, folder=own)
                )
                found.append((program, Address(place.port)))
            yield found
    finally:
        server.drop_database(database)


def _measure(
    nodes: Sequence[tuple[Program, Address]],
    database: Program,
    numbers: Numbers,
    seconds: float,
    associations: int,
    limit: int = _MOST_OBJECTS,
) -> Sample:
    jobs = [
        work.Job(
            address=address, seconds=seconds, limit=limit, workers=associations,
            first=numbers.take(limit + associations),
        )
        for _, address in nodes
    ]  # fmt: skip
    work.template(SMALL_SIDE)

    def store(index: int) -> work.Done:
        return work.store(jobs[index % len(jobs)], index // len(jobs), side=SMALL_SIDE)

    os.sync()  # nobody pays for what was written before
    before = [program.cpu_seconds() for program, _ in nodes], database.cpu_seconds()
    done, _ = run_workers(store, associations * len(nodes), nodes[0][0])
    after = [program.cpu_seconds() for program, _ in nodes], database.cpu_seconds()
    count = sum(each.operations for each in done)
    if not count:
        raise Failed("nothing was done in time")
    spent = max(each.ended for each in done) - min(each.began for each in done)
    return Sample(
        rate=count / spent,
        cpu=(sum(after[0]) - sum(before[0])) / count * 1e3,
        database_cpu=(after[1] - before[1]) / count * 1e3,
    )


def _postmaster(server: Server) -> Program:
    """PostgreSQL as a program whose CPU time is looked at."""
    pid = int((server.folder / "data" / "postmaster.pid").read_text().split()[0])
    return Program(cast("Any", SimpleNamespace(pid=pid)), server.folder / "server.log")


def main() -> int:
    options = _options()
    samples: dict[tuple[str, int], list[Sample]] = defaultdict(list)
    faults: dict[str, str] = {}
    numbers = Numbers()
    with running_server(
        "fsync=on", f"commit_delay={options.commit_delay}", "commit_siblings=0",
        "shared_buffers=128MB", "max_connections=200",
    ) as server:  # fmt: skip
        database = _postmaster(server)
        for number in range(options.rounds):
            lines = [(side, nodes) for side in options.sides for nodes in (1, 2)]
            for side, nodes in lines if number % 2 == 0 else reversed(lines):
                if side in faults:
                    continue
                with tempfile.TemporaryDirectory(prefix="nodes-", dir=options.dir) as name:
                    try:
                        with _nodes(side, nodes, server, Path(name)) as running:
                            _measure(
                                running, database, numbers, _FIRST_SECONDS, options.associations,
                                limit=_FIRST_OBJECTS * options.associations,
                            )  # fmt: skip
                            found = _measure(
                                running, database, numbers, options.seconds, options.associations
                            )
                    except (NotStarted, Failed) as error:
                        faults[side] = str(error)
                        continue
                samples[side, nodes].append(found)
                print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    _report(options, samples, faults)
    return 1 if "isocenter" in faults else 0


def _report(
    options: argparse.Namespace,
    samples: dict[tuple[str, int], list[Sample]],
    faults: dict[str, str],
) -> None:
    print(
        f"12 KB store, {options.associations} associations to each node, "
        f"commit_delay {options.commit_delay / 1e3:g} ms, medians of {options.rounds}"
    )
    for side in options.sides:
        rates = {}
        for nodes in (1, 2):
            found = samples[side, nodes]
            if not found:
                continue
            rates[nodes] = statistics.median(one.rate for one in found)
            print(
                f"{side:10} {nodes} node{'s' * (nodes > 1):1} {rates[nodes]:7.0f}/s   CPU an "
                f"object {statistics.median(one.cpu for one in found):5.2f} ms, of PostgreSQL "
                f"{statistics.median(one.database_cpu for one in found):5.2f} ms"
            )
        if len(rates) == 2:
            print(f"{side:10} two nodes reach {rates[2] / rates[1]:.2f} of one")
        if side in faults:
            print(f"{side:10} {faults[side]}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="only to see that it works")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each line in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--associations", type=int, default=8, help="to each node")
    parser.add_argument(
        "--commit-delay", type=int, default=0, metavar="US", help="microseconds more a commit"
    )
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--dir", type=Path, help="on the disk to measure (default: the temporary)")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.rounds = 0.5, 1
    return options


if __name__ == "__main__":
    sys.exit(main())
