"""Every input that ever broke a fuzz target, and the corpora of all targets, once more.

A finding is written by ``fuzz/run.py`` when it meets it; see ``docs/how-to/fuzz.md``.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

FUZZ = Path(__file__).resolve().parents[2] / "fuzz"
sys.path.append(str(FUZZ))
corpora = import_module("corpora")
minimise = import_module("minimise")

FINDINGS = [path for name in corpora.TARGETS for path in corpora.files(corpora.FINDINGS / name)]


def check(name: str, path: Path) -> None:
    reason = minimise.failure_of(corpora.run_of(name), path.read_bytes())
    if reason is not None:
        raise AssertionError(f"python fuzz/run.py --replay {path} {name}") from reason


@pytest.mark.parametrize(
    "path", FINDINGS, ids=[str(path.relative_to(corpora.FINDINGS)) for path in FINDINGS]
)
def test_what_once_broke_a_target_does_so_no_more(path: Path) -> None:
    check(path.parent.name, path)


@pytest.mark.parametrize("name", corpora.TARGETS)
def test_no_input_of_the_corpus_breaks_its_target(name: str) -> None:
    paths = corpora.files(corpora.CORPUS / name)
    assert paths
    for path in paths:
        check(name, path)


def test_every_finding_belongs_to_a_target() -> None:
    assert {path.name for path in corpora.files(corpora.FINDINGS)} <= set(corpora.TARGETS)
    assert {path.name for path in corpora.files(corpora.CORPUS)} == set(corpora.TARGETS)
