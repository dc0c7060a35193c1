"""Fuzzes every target for a while, keeps what breaks one, and says what the corpora reach.

    python fuzz/run.py [--seconds N] [--seed N] [--plain] [--grow] [TARGET …]
    python fuzz/run.py --replay FILE TARGET
    python fuzz/run.py --coverage

With atheris installed, inputs are guided by coverage; without it, or with ``--plain``, they
come from `mutator`.  An input that breaks its target is made smaller, kept in
``fuzz/findings`` and replayed by the tests from then on.  How to work with it is told in
``docs/how-to/fuzz.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
import traceback
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import corpora
import mutator
from minimise import failure_of, minimise
from reach import print_reach

#: Enough for a smoke test of all targets in a minute.
_SECONDS: Final = 3.0
#: The longest input that atheris makes: longer ones are slower and show nothing new.
_LONGEST: Final = 4096
#: After this long without an end, an input is given up (`bounds` is far below).
_HANGS_AFTER: Final = 20
_RUNS: Final = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
#: Hexadecimal digits of a name; seeds have names that people gave them.
_NAME_LENGTH: Final = 16


def fuzz(name: str, seconds: float, seed: int, *, guided: bool, grow: bool) -> bool:
    """Run one target and keep what breaks it; returns whether nothing did."""
    with tempfile.TemporaryDirectory() as folder:
        if guided:
            count, found = _fuzz_guided(name, seconds, seed, Path(folder), grow)
        else:
            count, found = _fuzz_plain(name, seconds, seed)
    run = corpora.run_of(name)
    reasons = {data: failure_of(run, data) for data in found}
    real = [data for data, reason in reasons.items() if reason is not None]
    runs = f"{count:,} inputs" if count else "inputs not counted"
    faults = f"{len(real) or 'no'} fault{'s' * (len(real) > 1)}"
    print(f"{name}: {runs} in {seconds:g} s, {faults}", flush=True)
    for data in found:
        if data in real:
            _keep(name, data)
        else:
            print(f"{name}: {data.hex()} failed in the run, and not alone")
    return not found


def _fuzz_plain(name: str, seconds: float, seed: int) -> tuple[int, list[bytes]]:
    inputs = [path.read_bytes() for path in corpora.inputs(name)]
    try:
        count = mutator.fuzz(corpora.run_of(name), inputs, corpora.read_words(name), seconds, seed)
    except mutator.Found as found:
        return 0, [found.data]
    return count, []


def _fuzz_guided(
    name: str, seconds: float, seed: int, folder: Path, grow: bool
) -> tuple[int, list[bytes]]:
    new, artifacts = folder / "new", folder / "artifacts"
    for each in (new, artifacts):
        each.mkdir()
    done = _libfuzzer(
        name,
        folder,
        f"-max_total_time={max(1, round(seconds))}",
        f"-seed={seed}",
        f"-timeout={_HANGS_AFTER}",
        f"-max_len={_LONGEST}",
        f"-dict={corpora.dictionary_of(name)}",
        f"-artifact_prefix={artifacts}/",
        "-print_final_stats=1",
        str(new),
        str(corpora.CORPUS / name),
    )
    found = [path.read_bytes() for path in corpora.files(artifacts)]
    if done.returncode and not found:
        raise SystemExit(f"{name}: atheris ended with {done.returncode}\n{done.stderr[-4000:]}")
    if grow:
        _grow(name, folder, new)
    runs = _RUNS.search(done.stderr)
    return int(runs[1]) if runs else 0, found


def _grow(name: str, folder: Path, new: Path) -> None:
    """Keep of *new*, and of what was kept before, what reaches code that the seeds do not."""
    corpus = corpora.CORPUS / name
    grown = [path for path in corpora.files(corpus) if corpora.is_grown(path)]
    for path in grown:
        path.rename(new / path.name)
    before = set(corpora.files(corpus))
    # Which edges are reached counts, not how often: a corpus is read by people too.
    _libfuzzer(name, folder, "-merge=1", "-use_counters=0", str(corpus), str(new))
    for path in set(corpora.files(corpus)) - before:
        data = path.read_bytes()
        path.unlink()
        (corpus / _name_of(data)).write_bytes(data)


def _libfuzzer(name: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    program = folder / "again"
    guided = Path(__file__).with_name("guided.py")
    program.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" "{guided}" "{name}" "$0" "$@"\n', "utf-8"
    )
    program.chmod(0o700)
    return subprocess.run(
        [program, *options],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def _name_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_NAME_LENGTH]


def _keep(name: str, data: bytes) -> None:
    run = corpora.run_of(name)
    small = minimise(run, data)
    reason = failure_of(run, small)
    assert reason is not None
    path = corpora.FINDINGS / name / _name_of(small)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(small)
    print("".join(traceback.format_exception(reason)))
    print(f"{name}: {small.hex()}\nkept; again with: python fuzz/run.py --replay {path} {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="do not use atheris")
    parser.add_argument("--grow", action="store_true", help="keep inputs that reach more")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="one input, one target")
    parser.add_argument("--coverage", action="store_true", help="what the corpora reach")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(corpora.TARGETS))
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - set(corpora.TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    names = arguments.targets or corpora.TARGETS
    guided = not arguments.plain and find_spec("atheris") is not None
    if arguments.replay:
        if len(arguments.targets) != 1:
            parser.error("--replay takes one target")
        reason = failure_of(corpora.run_of(names[0]), arguments.replay.read_bytes())
        if reason is not None:
            raise reason
        print("no fault")
        return
    if arguments.coverage:
        print_reach(names)
        return
    if arguments.grow and not guided:
        parser.error("--grow needs atheris")
    if not guided and not arguments.plain:
        print(
            "atheris is not installed: inputs are mutated by chance, not guided by coverage "
            "(pip install atheris, where there is a wheel for this Python)"
        )
    faultless = [
        fuzz(name, arguments.seconds, arguments.seed, guided=guided, grow=arguments.grow)
        for name in names
    ]
    raise SystemExit(not all(faultless))


if __name__ == "__main__":
    main()
