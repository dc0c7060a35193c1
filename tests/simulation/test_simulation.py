"""Some seeds of the simulation; `python -m tests.simulation 0 5000` runs more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.scenario import simulate

FIRST, BLOCKS, SEEDS_PER_BLOCK = 0, 6, 25
#: A seed in which the order of the names of files makes a difference: journals cannot be made, nor
#: removed.
NAMES = 37
#: Kinds of line that the seeds of the first block must show: else they would prove little.
EXPECTED = (
    ": 0000H",
    "the process ends",
    "is cut",
    "stalls for",
    " fails",
    "stray C-CANCEL-RQ",
    "association aborted",
    ", 0 failed: 0000H",
)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_seed_keeps_what_was_promised(block: int) -> None:
    first = FIRST + block * SEEDS_PER_BLOCK
    for seed in range(first, first + SEEDS_PER_BLOCK):
        result = simulate(seed)
        assert not result.violations, "\n".join(
            [
                *result.violations,
                *result.last_lines,
                f"show it with: python -m tests.simulation {seed}",
            ]
        )


def test_the_seeds_are_worth_running() -> None:
    lines: list[str] = []
    for seed in range(FIRST, FIRST + SEEDS_PER_BLOCK):
        simulate(seed, lines.append)
    missing = [text for text in EXPECTED if not any(text in line for line in lines)]
    assert not missing


def test_a_seed_has_one_trace() -> None:
    seeds = (*range(FIRST, FIRST + 8), NAMES)
    here = [simulate(seed).digest for seed in seeds]
    assert here == [simulate(seed).digest for seed in seeds]
    assert len(set(here)) == len(here)


@pytest.mark.parametrize("seed", [FIRST, NAMES])
def test_a_seed_has_the_same_trace_in_another_process(seed: int) -> None:
    program = Path(__file__).with_name("__main__.py")
    there = subprocess.run(
        [sys.executable, program, str(seed)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert simulate(seed).digest[:16] in there.stdout
