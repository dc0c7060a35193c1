"""Source of a backup: data directory, and files that its settings name."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.backup.index_in_use import IndexFileInUse
from isocenter.services.backup.manifest import is_safe_path
from isocenter.services.backup.ports import (
    OBJECTS,
    TRASH,
    Hold,
    IndexedFile,
    IndexFile,
    IndexInUse,
)
from isocenter.services.backup.tier_files import TierFiles
from isocenter.services.errors import StorageError

#: What the folder of the audit trail is called in a backup.
AUDIT: Final = "audit"
#: What the index is called, in an archive and in a backup.
INDEX_NAME: Final = "index.db"
#: The index and its files have ways of their own; what is staged was never acknowledged, and
#: of what the journal has the file is there as soon as the index knows it.  No two data directories
#: have the number that tells one from all others (`isocenter.services.composition.cluster`); where
#: the database, objects and tiers are is said by the settings, and noted anew.
_APART: Final = frozenset(
    {
        "objects", "trash", "staging", "temporary", "journal", "removed", "index-copies",
        "restoring.json", "restoring.db", "restoring.db-wal", "restoring.db-shm", "node.id",
        "database.url", "objects.url", "tier-warm.url", "tier-cold.url",
    }
)  # fmt: skip
#: Folders whose files are keys, each of them, though none looks like one.
_KEYS: Final = frozenset({"deidentification"})
#: Folders of ours that may lie on another disk; other links lead anywhere.
_FOLDERS: Final = frozenset({"access", "certs", "hl7-rejected"})
_INDEX: Final = re.compile(r"index\.db(?:[-.].*)?")
#: Locks, the server's process ID, probes, and what `private_files.write_file` has under way.
_PASSING: Final = re.compile(r"lock|server\.pid|.*\.lock|\.health-probe\..*|\..+\.[0-9a-f]{8,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where the files of an archive lie.

    Attributes:
        data_dir: its data directory.
        audit: where its audit trail lies.
        apart: folders that have objects, which are taken in another way; they may lie in the data
            directory.
    """

    data_dir: Path
    audit: Path
    apart: Sequence[Path] = ()

    def place_of(self, path: str) -> Path:
        """Where a file of the archive lies."""
        first, _, rest = path.partition("/")
        return self.audit / rest if first == AUDIT else self.data_dir / path


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(Folders):
    """One archive.

    Attributes:
        index: opens an index file.
        hold: of its data directory.
        secrets: files that the settings name as keys; their content stays where it is.
        keys: further files that are keys, though none looks like one.
        settings: name and content of what says how the archive is set up.
        outside: setting and path of files beyond the data directory that it needs.
        program: name and version, for whoever reads the backup later.
        tiers: what has the objects that are not in the data directory; None: all are there.
        is_elsewhere: no object is in the data directory, and nothing of the trash.
        films: name below `FILMS` and content of the films of print jobs, or why one cannot be
            read (None: it is gone); None: they are in the data directory.
        database: where the index is kept; None: in a file of the data directory.
    """

    index: Callable[[Path], IndexFile]
    hold: Hold
    secrets: Sequence[Path] = ()
    keys: Sequence[Path] = ()
    settings: Sequence[tuple[str, bytes]] = ()
    outside: Sequence[tuple[str, Path]] = ()
    program: str = ""
    tiers: TierFiles | None = None
    is_elsewhere: bool = False
    films: Callable[[], AsyncGenerator[tuple[str, bytes | StorageError | None], None]] | None = None
    database: IndexInUse | None = None

    @property
    def index_in_use(self) -> IndexInUse:
        """Its index, which others go on using."""
        return self.database or IndexFileInUse(self.index(self.data_dir / INDEX_NAME))

    def places_of(self, file: IndexedFile) -> Iterator[Path]:
        """Where a file that the index knows may lie: in its place, on its way to the trash, or put
        aside."""
        yield self.place_of(file.path)
        if file.path.startswith(TRASH):
            yield self.data_dir / OBJECTS / file.object_key
        yield from map(Path, self.hold.files_of(file.object_key))


def is_key(path: str) -> bool:
    """Whether a file of an archive is a key by the folder that it is in."""
    return path.partition("/")[0] in _KEYS


def other_files(source: Folders, left_out: Callable[[str], None]) -> Iterator[str]:
    """Everything else that lasts, in the order of the paths; the audit trail is not in it.

    Args:
        left_out: told of what is no file and no folder (links, sockets).

    Raises:
        OSError: a folder cannot be read.
    """
    for entry in _sorted(source.data_dir):
        name = entry.name
        if name in _APART or _INDEX.fullmatch(name):
            continue
        if name == AUDIT and Path(entry.path) != source.audit:
            # A trail that lies elsewhere now has this name in a backup.
            left_out(name)
            continue
        without = (source.audit, *source.apart)
        yield from _below(entry, name, left_out, without, is_link_followed=name in _FOLDERS)


def trail_files(source: Folders) -> Iterator[str]:
    """The files of the audit trail, in the order of their names.

    Raises:
        OSError: its folder cannot be read.
    """
    for entry in _sorted(source.audit):
        if entry.is_file() and not _PASSING.fullmatch(entry.name):
            yield f"{AUDIT}/{entry.name}"


def _below(
    entry: os.DirEntry[str],
    path: str,
    left_out: Callable[[str], None],
    without: Sequence[Path],
    *,
    is_link_followed: bool = False,
) -> Iterator[str]:
    if Path(entry.path) in without:
        return
    if not is_safe_path(path):  # a name that no program of ours makes
        left_out(path.encode("utf-8", "backslashreplace").decode())
    elif entry.is_dir(follow_symlinks=is_link_followed):
        for inner in _sorted(Path(entry.path)):
            yield from _below(inner, f"{path}/{inner.name}", left_out, without)
    elif _PASSING.fullmatch(entry.name):
        return
    elif entry.is_file(follow_symlinks=is_link_followed):
        yield path
    else:
        left_out(path)


def _sorted(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            # A folder's files have a slash behind its name: the order of whole paths.
            return sorted(
                entries,
                key=lambda one: f"{one.name}/" if one.is_dir() else one.name,
            )
    except FileNotFoundError:
        return []
