"""Inspection of an archive on disk, read only.

It may run beside a server, and on an index of any version.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from isocenter.services.archive.index_figures import IndexInspection
from isocenter.services.archive.tiers.tier import Tier, tier_of
from isocenter.storage.database.postgresql import NEEDS_PSYCOPG
from isocenter.storage.database.sqlite.inspection import (
    SampledRow,
    inspect_index,
    inspect_room,
)
from isocenter.storage.database.sqlite.schema import LATEST_VERSION
from isocenter.storage.objects.keys import is_object_key

__all__ = ["inspect_archive", "inspect_postgresql", "inspect_room"]

_PIECE: Final = 1 << 20


def inspect_archive(data_dir: Path, index: Path, *, seconds: float, sample: int) -> IndexInspection:
    """What *index* and some of its files look like.

    Args:
        seconds: for checking the file of the index; what is left then is not checked.
        sample: instances that are compared with their files, chosen at random.
    """
    if not index.exists():
        has_objects = any((data_dir / "objects").glob("*/*"))
        fault = (
            f"{index} is missing, but there are objects; rebuild it with isocenter db reindex"
            if has_objects
            else ""
        )
        return IndexInspection(
            fault=fault, schema_version=LATEST_VERSION, latest_version=LATEST_VERSION
        )
    look, rows = inspect_index(index, seconds=seconds, sample=sample)
    missing, wrong_size, changed = [], [], []
    for row in rows:
        match _compare(data_dir, row):
            case "missing":
                missing.append(row.sop_instance_uid)
            case "size":
                wrong_size.append(row.sop_instance_uid)
            case "changed":
                changed.append(row.sop_instance_uid)
    return replace(
        look, missing=tuple(missing), wrong_size=tuple(wrong_size), changed=tuple(changed)
    )


def inspect_postgresql(url: str) -> IndexInspection:
    """What the database at *url* looks like; nothing in it is changed."""
    try:
        from isocenter.storage.database.postgresql.inspection import inspect
    except ImportError:
        return IndexInspection(fault=NEEDS_PSYCOPG)
    return inspect(url)


def _compare(data_dir: Path, row: SampledRow) -> str:
    """``missing``, ``size``, ``changed``, or empty: it is as it was stored."""
    if not is_object_key(row.object_key):
        return "missing"
    if tier_of(row.object_key) is not Tier.HOT:
        return ""  # it is somewhere else
    path = data_dir.joinpath("objects", *row.object_key.split("/"))
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != row.size:
                return "size"
            file.seek(row.data_set_offset)
            digest = hashlib.sha256()
            while piece := file.read(_PIECE):
                digest.update(piece)
    except OSError:
        return "missing"
    return "" if digest.hexdigest() == row.digest else "changed"
