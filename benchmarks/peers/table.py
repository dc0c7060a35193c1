"""The table: medians with their range, beside ours, with what they cost the server."""

from __future__ import annotations

import platform
import shutil
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from peers.programs import SEARCH_PATH
from peers.rows import Figure, Row, Sample
from peers.servers import Kind

_MB: Final = 1e6


@dataclass(slots=True)
class Cell:
    """All rounds of one server in one row, and what went wrong in those that have no figure."""

    samples: list[Sample] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


Cells = Mapping[tuple[str, str], Cell]


def machine(folder: Path) -> list[str]:
    """What the figures were measured on and with."""
    versions = (_version("storescp"), _version("Orthanc"), f"pynetdicom {_pynetdicom()}")
    return [
        f"{platform.platform()}, {_processor()}, {_memory()}; data on {_file_system(folder)}",
        f"Python {platform.python_version()}; {'; '.join(versions)}",
    ]


def _processor() -> str:
    lines = _lines("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(models)} × {models[0]}" if models else platform.machine()


def _memory() -> str:
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemTotal"):
            return f"{int(line.split()[1]) / (1 << 20):.0f} GiB"
    return "memory unknown"


def _file_system(folder: Path) -> str:
    """Of the mount that *folder* lies on: the longest that is a part of its path."""
    mounts = [line.split()[:3] for line in _lines("/proc/mounts")]
    fitting = [mount for mount in mounts if folder.resolve().is_relative_to(mount[1])]
    return max(fitting, key=lambda mount: len(mount[1]))[2] if fitting else "an unknown file system"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _version(program: str) -> str:
    path = shutil.which(program, path=SEARCH_PATH)
    if path is None:
        return f"no {program}"
    done = subprocess.run(
        [path, "--version"], capture_output=True, text=True, check=False, timeout=10
    )
    return (done.stdout or done.stderr).splitlines()[0].strip("$ ").replace(path, program)


def _pynetdicom() -> str:
    try:
        return version("pynetdicom")
    except PackageNotFoundError:
        return "is not installed"


def row_lines(row: Row, kinds: Sequence[Kind], cells: Cells) -> Iterator[str]:
    """The lines of one row: for each figure, a line for each server."""
    for index, figure in enumerate(row.figures):
        yield f"\n{figure.title}"
        base = _median(cells.get((row.name, kinds[0].name)), index)
        for kind in kinds:
            cell = cells.get((row.name, kind.name))
            if cell is None:
                continue
            yield f"  {kind.title:<28}" + _cell_text(cell, index, figure, base)


def _cell_text(cell: Cell, index: int, figure: Figure, base: float | None) -> str:
    if not cell.samples:
        return "–  " + ("; ".join(dict.fromkeys(cell.failures)) or "not measured")
    values = [sample.values[index] for sample in cell.samples]
    middle = statistics.median(values)
    text = f"{_number(middle):>8} {figure.unit:<5}"
    text += f"{f'({_number(min(values))}–{_number(max(values))})':<18}"
    if base:
        ratio = base / middle if figure.is_better_when_less else middle / base
        text += f"{ratio:6.2f} × ours"
    else:
        text += " " * 13
    cpu = statistics.median(sample.cpu for sample in cell.samples)
    idle = statistics.median(sample.idle_bytes for sample in cell.samples)
    peak = max(sample.peak_bytes for sample in cell.samples)
    text += (
        f"{cpu:10,.0f} µs CPU per {figure.per:<10}{peak / _MB:7,.0f} MB ({idle / _MB:,.0f} idle)"
    )
    notes = dict.fromkeys(sample.note for sample in cell.samples if sample.note)
    notes |= dict.fromkeys(cell.failures)
    return "  ".join([text, *notes])


def _median(cell: Cell | None, index: int) -> float | None:
    if cell is None or not cell.samples:
        return None
    return statistics.median(sample.values[index] for sample in cell.samples)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}"


def summary(rows: Sequence[Row], kinds: Sequence[Kind], cells: Cells) -> Iterator[str]:
    """All medians in one table (Markdown), the CPU time of the server in parentheses."""
    yield "| | " + " | ".join(kind.title for kind in kinds) + " |"
    yield "| --- |" + " --- |" * len(kinds)
    for row in rows:
        for index, figure in enumerate(row.figures):
            words = [_summary_cell(cells.get((row.name, kind.name)), index) for kind in kinds]
            yield f"| {figure.title}, {figure.unit} | " + " | ".join(words) + " |"


def _summary_cell(cell: Cell | None, index: int) -> str:
    middle = _median(cell, index)
    if cell is None or middle is None:
        return "–"
    cpu = statistics.median(sample.cpu for sample in cell.samples)
    return f"{_number(middle)} ({_number(cpu)})"


def durability(kinds: Sequence[Kind]) -> Iterator[str]:
    yield "What is on the disk when a C-STORE is answered with success:"
    for kind in kinds:
        yield f"  {kind.title:<28}{kind.durability}"


def as_json(rows: Sequence[Row], kinds: Sequence[Kind], cells: Cells) -> list[dict[str, Any]]:
    """Every sample, for whoever wants to calculate."""
    return [
        {
            "row": row.name,
            "server": kind.name,
            "figures": [asdict(figure) for figure in row.figures],
            "durability": kind.durability,
            **asdict(cells[row.name, kind.name]),
        }
        for row in rows
        for kind in kinds
        if (row.name, kind.name) in cells
    ]
