"""Mutation testing of the parts of the engine on which all else rests, by mutmut.

Run:  python tests/mutation/run.py [module …]        (or tox -e mutation)

Each mutant is the engine with one small change: another operator, a constant, a case left out.
A mutant that no test notices is a hole in the tests, or a change that means nothing; those of
the second kind are listed in `equivalent.toml` with the reason, by the lines that change.
Anything else that survives fails the run.

Works on a copy, in which the engine is the only source root: mutmut names modules by their path.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
PACKAGE: Final = "isocenter.engine"

#: What is mutated, and what is expected to notice.
MODULES: Final = ("upper_layer", "negotiation", "framing", "pdu", "association")
TESTS: Final = (
    "test_what_faults_say",
    "test_table_9_10",
    "test_upper_layer",
    "test_negotiation",
    "test_agreement",
    "test_framing",
    "test_pdu",
    "test_association",
    "test_allows",
    "test_operations",
    "test_fragments",
    "test_state_diagram",
    "test_two_ends",
    "test_chunking",
)
_SETTINGS: Final = """
[tool.pytest.ini_options]
pythonpath = ["src", "tests"]
addopts = ["--import-mode=importlib", "-p", "no:cacheprovider"]
consider_namespace_packages = true
trio_mode = true
filterwarnings = ["error"]

[tool.mutmut]
source_paths = ["src"]
also_copy = ["docs"]
only_mutate = {modules}
pytest_add_cli_args = ["-q", "-x"]
pytest_add_cli_args_test_selection = {tests}
use_git_change_detection = false
timeout_multiplier = 2.0
timeout_constant = 10.0
"""
#: mutmut's exit codes of a mutant that a test, or a hang, gave away.
_KILLED: Final = {1, 3, 24, -24, 36, 152, 255}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change that no test noticed: what mutmut calls it, and the lines that differ."""

    name: str
    function: str
    taken: str
    put: str


def prepare(folder: Path, modules: list[str]) -> None:
    """The copy that mutmut works on."""
    bare = shutil.ignore_patterns("__pycache__", ".*")
    package = Path(*PACKAGE.split("."))
    shutil.copytree(ROOT / "engine" / package, folder / "src" / package, ignore=bare)
    for name in ("engine", "support", "vectors"):
        shutil.copytree(ROOT / "tests" / name, folder / "tests" / name, ignore=bare)
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=bare)
    shutil.copy(ROOT / "tests" / "conftest.py", folder / "tests")
    (folder / "pyproject.toml").write_text(
        _SETTINGS.format(
            modules=json.dumps([f"src/{package}/{name}.py" for name in modules]),
            tests=json.dumps([f"tests/engine/{name}.py" for name in TESTS]),
        )
    )


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def results(folder: Path) -> dict[str, int | None]:
    """mutmut's exit code for each mutant by name."""
    codes: dict[str, int | None] = {}
    for meta in sorted((folder / "mutants").rglob("*.py.meta")):
        codes |= json.loads(meta.read_text())["exit_code_by_key"]
    return codes


def survives(folder: Path, name: str) -> bool:
    """Once more in a process of its own: what runs on import is mutated only there."""
    tests = [f"tests/engine/{test}.py" for test in TESTS]
    done = run(folder / "mutants", "pytest", "-q", "-x", *tests, MUTANT_UNDER_TEST=name)
    return done.returncode == 0


def mutant(folder: Path, name: str) -> Mutant:
    diff = run(folder, "mutmut", "show", name).stdout.splitlines()
    taken, put = (
        " ".join(line[1:].strip() for line in diff if line[:1] == sign and line[:3] != sign * 3)
        for sign in "-+"
    )
    function = name.removeprefix(f"{PACKAGE}.").rpartition("__mutmut_")[0]
    module, _, mangled = function.partition(".x")
    # mutmut writes x_name for a function and xǁClassǁname for a method.
    return Mutant(name, f"{module}.{mangled[1:].replace('ǁ', '.')}", taken, put)


def reason(found: Mutant, listed: list[dict[str, str]]) -> str | None:
    """Why *found* means nothing, if it is known."""
    for each in listed:
        if (each["function"], each["taken"], each["put"]) == (
            found.function,
            found.taken,
            found.put,
        ):
            return each["reason"]
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", default=list(MODULES), metavar="module")
    parser.add_argument("--processes", type=int, default=1, help="at once (default: 1)")
    arguments = parser.parse_args()
    modules = arguments.modules
    listed = tomllib.loads((HERE / "equivalent.toml").read_text()).get("mutant", [])
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        folder = Path(name)
        prepare(folder, modules)
        done = run(folder, "mutmut", "run", "--max-children", str(arguments.processes))
        codes = results(folder)
        if not codes or done.returncode or None in codes.values():
            print(done.stdout[-4_000:], done.stderr[-4_000:], sep="\n")
            return 2
        found = [mutant(folder, name) for name, code in codes.items() if code not in _KILLED]
        known = [each for each in found if reason(each, listed) is not None]
        holes = [each for each in found if each not in known and survives(folder, each.name)]
    for module in modules:
        prefix = f"{PACKAGE}.{module}."
        total = sum(name.startswith(prefix) for name in codes)
        same, new = (sum(each.name.startswith(prefix) for each in kind) for kind in (known, holes))
        print(
            f"{module:12} {total:4} mutants: {total - same - new} noticed, "
            f"{same} equivalent, {new} not noticed"
        )
    for each in holes:
        print(f"\n{each.function}\n- {each.taken}\n+ {each.put}")
    return 1 if holes else 0


if __name__ == "__main__":
    sys.exit(main())
