"""The build backend of ``isocenter-engine``: the folder ``engine/``, and nothing it would need.

Version, licence and Python come from the pyproject.toml of the root.  There is no source
distribution of its own: the one of Isocenter has all that this is built from.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_ROOT: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(_ROOT / "packaging" / "build"))

import reproducible  # noqa: E402
import sbom  # noqa: E402

_NAME: Final = "isocenter-engine"
_ABOUT: Final = "The sans-IO core of Isocenter: DICOM's upper layer, DIMSE and data sets."
_README: Final = """\
# isocenter-engine

The protocol of DICOM as functions from values to values (PS3.7, PS3.8), without I/O: the upper
layer's state machine, negotiation, DIMSE messages, and reading and writing of data sets. It needs
Python and nothing else, and works under any event loop.

    from isocenter.engine import Association, Role

These are the files of the package `isocenter`, which has them too: install one of the two.
How to drive it is told on the page *Write a driver* of Isocenter's documentation.
"""
_SUFFIXES: Final = frozenset({".py", ".typed"})


def build_wheel(
    wheel_directory: str,
    config_settings: Mapping[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """PEP 517; the wheel's file name."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    stem = f"{_NAME.replace('-', '_')}-{project['version']}"
    info = f"{stem}.dist-info"
    source = _ROOT / "engine"
    files = {
        path.relative_to(source).as_posix(): path.read_bytes()
        for path in source.rglob("*")
        if path.suffix in _SUFFIXES
    }
    files[f"{info}/METADATA"] = _metadata(project).encode()
    files[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: {__name__}\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    ).encode()
    files[f"{info}/licenses/LICENSE"] = (_ROOT / "LICENSE").read_bytes()
    files[f"{info}/sboms/{_NAME}.cdx.json"] = sbom.document(
        {**project, "name": _NAME, "description": _ABOUT}, ""
    )
    name = f"{stem}-py3-none-any.whl"
    reproducible.write_wheel(Path(wheel_directory, name), files)
    return name


def build_sdist(sdist_directory: str, config_settings: Mapping[str, Any] | None = None) -> str:
    """PEP 517: not offered."""
    raise UnsupportedOperation("build a wheel; the source distribution is that of isocenter")


class UnsupportedOperation(Exception):
    """What this backend does not do (PEP 517)."""


def _metadata(project: Mapping[str, Any]) -> str:
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {_NAME}",
        f"Version: {project['version']}",
        f"Summary: {_ABOUT}",
        f"Author: {project['authors'][0]['name']}",
        f"License-Expression: {project['license']}",
        "License-File: LICENSE",
        f"Requires-Python: {project['requires-python']}",
        "Keywords: DICOM,sans-IO,DIMSE,medical imaging",
        "Classifier: Intended Audience :: Healthcare Industry",
        "Classifier: Programming Language :: Python :: 3 :: Only",
        "Classifier: Topic :: Scientific/Engineering :: Medical Science Apps.",
        "Classifier: Typing :: Typed",
        "Description-Content-Type: text/markdown",
    ]
    return "\n".join(lines) + f"\n\n{_README}"
