"""Runs every fuzz target for a while; a crash is printed as hexadecimal and ends the run.

    python fuzz/run.py [--seconds N] [--seed N] [TARGET …]

Deterministic for a seed, save for how far it gets in its time.  With ``--atheris`` the one
TARGET runs under atheris, guided by coverage, until it is stopped.
"""

from __future__ import annotations

import argparse
import importlib
import random
import sys
import time
import traceback
import tracemalloc
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).parent))

TARGETS = ("association", "decoders")
#: A longer input is a fault of its own: the engine must not take this long.
MOST_SECONDS_PER_INPUT = 1.0
MOST_BYTES = 1 << 16
#: Every so many inputs one is run under tracemalloc, which is too slow for all.
MEASURE_EVERY = 50
#: Values at which lengths and kinds change their meaning.
EDGES = (0, 1, 2, 3, 4, 5, 6, 7, 0x10, 0x20, 0x30, 0x40, 0x50, 0x7F, 0x80, 0xFE, 0xFF)


def mutate(chance: random.Random, data: bytes, others: tuple[bytes, ...]) -> bytes:
    """*data* with a few changes that a broken or hostile peer might make."""
    result = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        position = chance.randrange(len(result)) if result else 0
        match chance.randrange(7):
            case 0 if result:
                result[position] = chance.choice(EDGES)
            case 1 if result:
                result[position] = chance.randrange(256)
            case 2:
                del result[position : position + chance.randint(1, 16)]
            case 3:
                result[position:position] = chance.randbytes(chance.randint(1, 16))
            case 4:
                result[position:position] = result[
                    position : position + chance.randint(1, 200)
                ] * chance.randint(1, 8)
            case 5:
                other = chance.choice(others)
                result += other[chance.randrange(len(other)) :]
            case _:
                width = chance.choice((2, 4))
                number = chance.choice((0, 1, 0xFFFF, 0x1_0000, 0x7FFF_FFFF, 0xFFFF_FFFF))
                result[position : position + width] = (number % (1 << 8 * width)).to_bytes(width)
    return bytes(result[:MOST_BYTES])


def run_measured(target: ModuleType, data: bytes) -> None:
    tracemalloc.start()
    try:
        target.run(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    most = target.MOST_HELD + 4 * len(data)
    if peak > most:
        raise AssertionError(f"{len(data)} bytes made us hold {peak} bytes; allowed are {most}")


def fuzz(name: str, seconds: float, seed: int) -> int:
    """Returns how many inputs were run; raises what the target raises."""
    target = importlib.import_module(name)
    chance = random.Random(seed)
    corpus = target.seeds()
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        # The corpus itself first, then what becomes of it.
        data = (
            corpus[count] if count < len(corpus) else mutate(chance, chance.choice(corpus), corpus)
        )
        started = time.monotonic()
        try:
            if count % MEASURE_EVERY:
                target.run(data)
                if time.monotonic() - started > MOST_SECONDS_PER_INPUT:
                    raise AssertionError(f"{len(data)} bytes took too long")
            else:
                run_measured(target, data)
        except Exception:
            traceback.print_exc()
            print(f"{name}, seed {seed}, input {count}: {data.hex()}", file=sys.stderr)
            raise SystemExit(1) from None
        count += 1
    return count


def under_atheris(name: str) -> None:
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

    with atheris.instrument_imports():
        target = importlib.import_module(name)
    atheris.Setup([sys.argv[0]], target.run)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--atheris", action="store_true", help="guided by coverage, one target")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    names = arguments.targets or TARGETS
    if arguments.atheris:
        if len(arguments.targets) != 1:
            parser.error("--atheris takes one target")
        under_atheris(names[0])
        return
    for name in names:
        count = fuzz(name, arguments.seconds, arguments.seed)
        print(f"{name}: {count:,} inputs in {arguments.seconds:g} s, no fault")


if __name__ == "__main__":
    main()
