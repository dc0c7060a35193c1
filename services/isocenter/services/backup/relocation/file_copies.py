"""Copies of the other files of an archive: access, certificates, audit trail."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import trio

from isocenter.services.archive.tiers.tier import Tier
from isocenter.services.backup.content_files import digest_of
from isocenter.services.backup.manifest import BackupError
from isocenter.services.backup.relocation.mark import RELOCATING
from isocenter.services.backup.relocation.ports import CopyRecord
from isocenter.services.backup.source import Folders, other_files, trail_files
from isocenter.services.service_classes.print.ports import FILMS
from isocenter.services.system.file_lock import directory_lock
from isocenter.services.system.private_files import (
    make_private_directory,
    match_owner,
    sync_directory,
)

#: Where an archive keeps what, which is another place for each.
_OF_THE_PLACE: Final = frozenset(
    {
        "database.url", "objects.url", RELOCATING,
        *(f"tier-{tier.value}.url" for tier in Tier),
    }
)  # fmt: skip
#: In the data directory of the target, until the relocation is finished.
RECORD: Final = "relocation.db"
#: Folders whose files belong together, and the locks that keep them so.
_LOCKED: Final = ("access", "certs")
#: What the names of these files begin with in the record.
_FILE: Final = "file "


def check_files(source: Folders, target: Folders, record: CopyRecord) -> None:
    """Whether all files of *source* have room at *target*; blocks.

    Raises:
        BackupError: there are other ones.
    """
    others = []
    for path in _paths(source):
        place = target.place_of(path)
        if place.exists() and not record.value(_FILE + path):
            origin = source.place_of(path)
            if place.stat().st_size != origin.stat().st_size or digest_of(place) != digest_of(
                origin
            ):
                others.append(str(place))
    if others:
        raise BackupError(
            f"the target has files of its own: {', '.join(others[:5])}"
            f"{', …' if len(others) > 5 else ''}; move them away, or name another data directory"
        )


def copy_files(source: Folders, target: Folders, record: CopyRecord) -> int:
    """Have *target* hold the files of *source*; how many there are.  Blocks.

    Raises:
        OSError: a file cannot be read or written.
    """
    number = 0
    with ExitStack() as stack:
        for folder in (*(source.data_dir / name for name in _LOCKED), source.audit):
            if folder.is_dir():
                stack.enter_context(directory_lock(folder))
        for path in _paths(source):
            trio.from_thread.check_cancelled()
            record.keep(_FILE + path, "copied")
            _copy(source.place_of(path), target.place_of(path), target.data_dir)
            number += 1
    return number


def _paths(source: Folders) -> Iterator[str]:
    for path in other_files(source, lambda path: None):
        # Films have a way of their own: they may be in a bucket on either side.
        if path not in _OF_THE_PLACE and not path.startswith((RECORD, f"{FILMS}/")):
            yield path
    yield from trail_files(source)


def _copy(origin: Path, place: Path, data_dir: Path) -> None:
    look = origin.stat()
    if place.exists():
        there = place.stat()
        if (there.st_size, there.st_mtime_ns) == (look.st_size, look.st_mtime_ns):
            return
    make_private_directory(place.parent)
    new = place.with_name(f".{place.name}.relocating")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, look.st_mode & 0o777)
    try:
        with os.fdopen(descriptor, "wb") as file, origin.open("rb") as content:
            shutil.copyfileobj(content, file)
            match_owner(data_dir, file.fileno())
            file.flush()
            os.fsync(file.fileno())
        os.utime(new, ns=(look.st_atime_ns, look.st_mtime_ns))
        new.replace(place)
    finally:
        new.unlink(missing_ok=True)
    sync_directory(place.parent)
