"""Play all attacks, whole, against this archive and its peers: `tox -e attacks`, or

    PYTHONPATH=engine:services:storage python -m tests.attacks [--servers …] [--attacks …]

Servers run on 127.0.0.1, are started for this and stopped by their id; one that an attack has
ended is started again for the next.  Takes about ten minutes a server.
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(_TESTS), str(_TESTS.parent / "benchmarks")]
if importlib.util.find_spec("isocenter") is None:
    sys.path[:0] = [str(_TESTS.parent / room) for room in ("engine", "services", "storage")]

from peers.programs import NotStarted, Program, free_port, started  # noqa: E402
from peers.servers import KINDS, Kind, Place  # noqa: E402
from peers.wire import CALLED  # noqa: E402

from attacks.attacks import ATTACKS as GENERAL_ATTACKS  # noqa: E402
from attacks.attacks import Attack  # noqa: E402
from attacks.own import served_for_attacks  # noqa: E402
from attacks.peer import Target  # noqa: E402
from attacks.watch import Outcome, open_descriptors, under_attack  # noqa: E402
from attacks.web import WEB_ATTACKS  # noqa: E402
from attacks.workflow import WORKFLOW_ATTACKS  # noqa: E402

ATTACKS = (*GENERAL_ATTACKS, *WORKFLOW_ATTACKS, *WEB_ATTACKS)

_MIB = 1 << 20
_SERVERS = ("isocenter", "dcmqrscp", "orthanc", "pynetdicom")
_DESCRIPTORS = 8_192


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__)
    parser.add_argument("--servers", default=",".join(_SERVERS))
    parser.add_argument("--attacks", default=",".join(attack.name for attack in ATTACKS))
    parser.add_argument("--scale", type=float, default=1.0, help="of each attack, up to 1")
    parser.add_argument("--markdown", action="store_true", help="a table for the documentation")
    options = parser.parse_args()
    chosen = [each for each in ATTACKS if each.name in options.attacks.split(",")]
    kinds = [kind for kind in KINDS if kind.name in options.servers.split(",")]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_DESCRIPTORS, hard), hard))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    results: dict[str, dict[str, Outcome | str]] = {attack.name: {} for attack in chosen}
    try:
        for kind in kinds:
            for attack in chosen:
                outcome = _play(kind, attack, options.scale)
                results[attack.name][kind.name] = outcome
                print(f"{kind.title:28} {attack.title:48} {_told(outcome)}", flush=True)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    if options.markdown:
        print("\n| | " + " | ".join(kind.title for kind in kinds) + " |")
        print("| --- |" + " --- |" * len(kinds))
        for attack in chosen:
            cells = (_told(results[attack.name][kind.name]) for kind in kinds)
            print(f"| {attack.title} | " + " | ".join(cells) + " |")
    return 0


def _play(kind: Kind, attack: Attack, scale: float) -> Outcome | str:
    if attack.needs_ours:
        if kind.name != "isocenter":
            return "–"
        with _ours() as (target, program):
            return _watched(attack, target, scale, program)
    with tempfile.TemporaryDirectory(prefix="isocenter-attack-") as name:
        folder = Path(name, "around", "server")
        folder.mkdir(parents=True)
        port = free_port()
        place = Place(folder=folder, port=port, destination=free_port(), is_archive=True)
        try:
            with started(kind.command(place), port=port, folder=folder) as program:
                return _watched(attack, Target(port, CALLED, folder), scale, program)
        except NotStarted as error:
            return str(error)


@contextmanager
def _ours() -> Iterator[tuple[Target, Program]]:
    with tempfile.TemporaryDirectory(prefix="isocenter-attack-") as name:
        folder = Path(name, "server")
        folder.mkdir()
        with served_for_attacks(folder) as (served, target):
            yield target, Program(served.process, served.log)


def _watched(attack: Attack, target: Target, scale: float, program: Program) -> Outcome:
    return under_attack(
        attack,
        target,
        scale,
        memory=program.resident_bytes,
        descriptors=lambda: sum(map(open_descriptors, program.tree())),
    )


def _told(outcome: Outcome | str) -> str:
    if isinstance(outcome, str):
        return outcome
    words = [f"{outcome.median * 1e3:.0f} ms, at worst {outcome.worst * 1e3:,.0f}"]
    if outcome.refused:
        words.append(f"**{outcome.refused} of {outcome.probes} not served**")
    if not outcome.serves:
        words.append("**serves no more**")
    if outcome.grown > 16 * _MIB:
        words.append(f"**+{outcome.grown / _MIB:.0f} MiB**")
    if outcome.descriptors > 0:
        words.append(f"**{outcome.descriptors} descriptors left**")
    if outcome.written:
        words.append("**wrote outside of its folder**")
    return "; ".join(words) + f" ({outcome.fate})"


if __name__ == "__main__":
    sys.exit(main())
