"""Distributions with plug-ins, made and installed without a network."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

from support.processes import run

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "plugin" / "acme_raw_data.py"


def wheel(
    folder: Path, distribution: str, version: str, module: str, source: str, **points: str
) -> Path:
    """A wheel of one module.

    Args:
        points: entry points of the group: name (``-`` as ``_``) → object.
    """
    stem = f"{distribution.replace('-', '_')}-{version}"
    lines = "".join(f"{name.replace('_', '-')} = {value}\n" for name, value in points.items())
    files = {
        f"{module}.py": source,
        f"{stem}.dist-info/METADATA": (
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        ),
        f"{stem}.dist-info/WHEEL": (
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
        f"{stem}.dist-info/entry_points.txt": f"[isocenter.services]\n{lines}",
    }
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        names = "".join(f"{name},,\n" for name in (*files, f"{stem}.dist-info/RECORD"))
        archive.writestr(f"{stem}.dist-info/RECORD", names)
    return path


def unpack(target: Path, built: Path) -> None:
    """What an installation of a wheel comes to, for tests within this process."""
    with zipfile.ZipFile(built) as archive:
        archive.extractall(target)


def install(target: Path, built: Path) -> None:
    """With pip, as users do."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-index")
    done = run(*pip, "--no-deps", "--target", target, built)
    assert done.returncode == 0, done.stdout
