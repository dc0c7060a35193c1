"""The build backend: setuptools, and what it leaves open.

- The wheel carries its bill of materials, in CycloneDX (PEP 770: ``.dist-info/sboms/``).
- The wheel is the same, byte for byte, whenever and wherever it is built from the same source:
  order, times (``SOURCE_DATE_EPOCH``), modes and compression are fixed here.

Needs nothing but setuptools and the standard library.
"""

from __future__ import annotations

import os
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import reproducible
import sbom
from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 - the hooks that stay as they are

_ROOT: Final = Path(__file__).parents[2]
_LOCK: Final = _ROOT / "packaging" / "requirements.lock"
#: A file of settings that setuptools reads beside pyproject.toml.
_EXTRA_CONFIG: Final = "DIST_EXTRA_CONFIG"


def build_wheel(
    wheel_directory: str,
    config_settings: Mapping[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """PEP 517; the wheel's file name."""
    with _elsewhere():
        # Made without the metadata of an earlier hook, which lie in another folder.
        name: str = build_meta.build_wheel(wheel_directory, config_settings, None)
    finish(Path(wheel_directory, name))
    return name


@contextmanager
def _elsewhere() -> Iterator[None]:
    """Build in an empty folder: modules of an earlier build must not get into the wheel."""
    before = os.environ.get(_EXTRA_CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "build.cfg")
        config.write_text(f"[build]\nbuild_base = {folder}\n[egg_info]\negg_base = {folder}\n")
        os.environ[_EXTRA_CONFIG] = str(config)
        try:
            yield
        finally:
            del os.environ[_EXTRA_CONFIG]
            if before is not None:
                os.environ[_EXTRA_CONFIG] = before


def finish(wheel: Path) -> None:
    """Add the bill of materials, and write the archive again in one fixed way."""
    with zipfile.ZipFile(wheel) as archive:
        files = {
            info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()
        }
    (record,) = (name for name in files if name.endswith(".dist-info/RECORD"))
    folder = record.rpartition("/")[0]
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    del files[record]
    files[f"{folder}/sboms/{project['name']}.cdx.json"] = sbom.document(
        project, _LOCK.read_text("utf-8")
    )
    reproducible.write_wheel(wheel, files)
