"""A wheel as an archive that is the same, byte for byte, whenever and wherever it is written."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

#: The first time that a ZIP archive can tell: 1980-01-01.
_ZIP_EPOCH: Final = 315_532_800
_REGULAR_FILE: Final = 0o100644
_UNIX: Final = 3
#: zlib's levels differ between versions less than its default does.
_COMPRESSION: Final = 9


def write_wheel(wheel: Path, files: Mapping[str, bytes]) -> None:
    """Write *files* and their RECORD; one of them is the ``METADATA`` of the distribution."""
    (metadata,) = (name for name in files if name.endswith(".dist-info/METADATA"))
    record = f"{metadata.rpartition('/')[0]}/RECORD"
    whole = {**files, record: _record(files, record)}
    staged = wheel.with_suffix(".staged")
    with zipfile.ZipFile(staged, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION) as archive:
        # RECORD last, as the format recommends.
        for name in [*sorted(files), record]:
            info = zipfile.ZipInfo(name, _time())
            info.create_system = _UNIX
            info.external_attr = _REGULAR_FILE << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, whole[name], compresslevel=_COMPRESSION)
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
