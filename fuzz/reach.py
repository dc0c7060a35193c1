"""What the corpora reach: lines and branches of each module when every input is replayed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import corpora

_CORE: Final = "isocenter.engine"
#: What is never reached on purpose, as in ``pyproject.toml``.
_EXCLUDED: Final = (r"assert_never\(", "if TYPE_CHECKING:", r"^\s*\.\.\.$")

_Counts = Mapping[str, int]


def print_reach(names: Iterable[str]) -> None:
    """Print a line for each module of the core, the core, and what else the targets run."""
    modules = measure(names)
    core = {name: counts for name, counts in modules.items() if name.startswith(_CORE)}
    print(f"{'module':52}  lines     branches")
    for name, counts in sorted(core.items()):
        print(_line(name, counts))
    print(_line("the core", _sum(core.values())))
    print()
    for name, counts in sorted(modules.items()):
        if name not in core:
            print(_line(name, counts))


def measure(names: Iterable[str]) -> dict[str, _Counts]:
    """Counts of lines and branches by module, for all that was imported."""
    from coverage import Coverage

    coverage = Coverage(
        data_file=None, config_file=False, branch=True, source_pkgs=["isocenter"], messages=False
    )
    for pattern in _EXCLUDED:
        coverage.exclude(pattern)
    coverage.start()
    try:
        for name in names:
            run = corpora.run_of(name)
            for path in corpora.inputs(name):
                run(path.read_bytes())
    finally:
        coverage.stop()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        coverage.json_report(outfile=str(report))
        files = json.loads(report.read_text("utf-8"))["files"]
    return {
        _module(path): each["summary"] for path, each in files.items() if each["executed_lines"]
    }


def _module(path: str) -> str:
    parts = Path(path).with_suffix("").parts
    first = len(parts) - 1 - parts[::-1].index("isocenter")
    return ".".join(parts[first:]).removesuffix(".__init__")


def _sum(all_counts: Iterable[_Counts]) -> _Counts:
    total: dict[str, int] = {}
    for counts in all_counts:
        for key, value in counts.items():
            if isinstance(value, int):
                total[key] = total.get(key, 0) + value
    return total


def _line(name: str, counts: _Counts) -> str:
    lines = _percent(counts["covered_lines"], counts["num_statements"])
    branches = _percent(counts["covered_branches"], counts["num_branches"])
    return f"{name:52}  {lines}   {branches}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:5.1f} %" if whole else "      –"
