"""The build backend: setuptools, and what it leaves open.

- The wheel carries its bill of materials, in CycloneDX (PEP 770: ``.dist-info/sboms/``).
- The wheel is the same, byte for byte, whenever and wherever it is built from the same source:
  order, times (``SOURCE_DATE_EPOCH``), modes and compression are fixed here.

Needs nothing but setuptools and the standard library.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sbom
from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 - the hooks that stay as they are

_ROOT: Final = Path(__file__).parents[2]
_LOCK: Final = _ROOT / "packaging" / "requirements.lock"
#: A file of settings that setuptools reads beside pyproject.toml.
_EXTRA_CONFIG: Final = "DIST_EXTRA_CONFIG"
#: The first time that a ZIP archive can tell: 1980-01-01.
_ZIP_EPOCH: Final = 315_532_800
_REGULAR_FILE: Final = 0o100644
_UNIX: Final = 3
#: zlib's levels differ between versions less than its default does.
_COMPRESSION: Final = 9


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
    files[record] = _record(files, record)
    staged = wheel.with_suffix(".staged")
    with zipfile.ZipFile(staged, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION) as archive:
        # RECORD last, as the format recommends.
        for name in [*sorted(files.keys() - {record}), record]:
            info = zipfile.ZipInfo(name, _time())
            info.create_system = _UNIX
            info.external_attr = _REGULAR_FILE << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, files[name], compresslevel=_COMPRESSION)
    staged.replace(wheel)


def _time() -> tuple[int, int, int, int, int, int]:
    seconds = max(int(os.environ.get("SOURCE_DATE_EPOCH", _ZIP_EPOCH)), _ZIP_EPOCH)
    return time.gmtime(seconds)[:6]


def _record(files: Mapping[str, bytes], record: str) -> bytes:
    """What every file in the wheel has to be (the RECORD of PEP 427)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for name in sorted(files):
        digest = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).rstrip(b"=")
        writer.writerow((name, f"sha256={digest.decode()}", len(files[name])))
    writer.writerow((record, "", ""))
    return out.getvalue().encode()
