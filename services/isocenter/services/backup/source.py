"""What is backed up: the data directory of an archive, and what its settings name beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from isocenter.engine.fast_init import dataclass
from isocenter.services.backup.manifest import is_safe_path

#: Where files lie that the index knows.
OBJECTS: Final = "objects/"
TRASH: Final = "trash/"
#: What the folder of the audit trail is called in a backup.
AUDIT: Final = "audit"
#: The index and its files have ways of their own; what is staged was never acknowledged.
_APART: Final = frozenset(
    {"objects", "trash", "staging", "removed", "index-copies", "restoring.json"}
)
#: Folders of ours that may lie on another disk; other links lead anywhere.
_FOLDERS: Final = frozenset({"access", "certs", "hl7-rejected"})
_INDEX: Final = re.compile(r"index\.db(?:[-.].*)?")
#: Locks, the server's process ID, probes, and what `private_files.write_file` has under way.
_PASSING: Final = re.compile(r"lock|server\.pid|.*\.lock|\.health-probe\..*|\..+\.[0-9a-f]{8,32}")


class IndexedFile(NamedTuple):
    """A file that a row of the index points to; *path* is relative to the data directory."""

    path: str
    object_key: str
    sop_instance_uid: str
    size: int
    data_set_offset: int
    #: SHA-256 of the data set.
    digest: str
    #: When the row was made, in the trash by which deletion: another object under the same path
    #: has another.
    created_at: str

    @property
    def mark(self) -> str:
        """What two looks at one file have in common."""
        return f"{self.size} {self.digest} {self.created_at}"


class IndexFile(Protocol):
    """An index in one file; all of its methods block."""

    path: Path
    #: The newest schema that this program knows.
    latest_version: int

    def copy_to(self, target: Path, progress: Callable[[int, int], None]) -> None:
        """Put a copy of one moment at *target*; what *progress* raises stops it."""
        ...

    def version(self) -> int:
        """The schema version."""
        ...

    def count(self) -> int:
        """Rows of the index that have a file."""
        ...

    def faults(self) -> Sequence[str]:
        """What is wrong in the file, a line each."""
        ...

    def files(self) -> Iterator[IndexedFile]:
        """The files that rows point to, in the order of their paths."""
        ...

    def deletions(self) -> Sequence[str]:
        """Folders of the trash that rows name, in their order."""
        ...

    def still_names(self, files: Sequence[IndexedFile]) -> bool:
        """Whether all of these files are those of a row now."""
        ...


class Hold(Protocol):
    """Keeps what is removed from the archive for as long as a backup may need it."""

    def taken(self) -> AbstractContextManager[None]:
        """While it lasts, objects that are removed are put aside."""
        ...

    def files_of(self, key: str) -> Sequence[str]:
        """The files that were put aside under an object key."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One archive.

    Attributes:
        data_dir: its data directory.
        audit: where its audit trail lies.
        index: opens an index file.
        hold: of its data directory.
        secrets: files that the settings name as keys; their content stays where it is.
        settings: name and content of what says how the archive is set up.
        outside: setting and path of files beyond the data directory that it needs.
        program: name and version, for whoever reads the backup later.
    """

    data_dir: Path
    audit: Path
    index: Callable[[Path], IndexFile]
    hold: Hold
    secrets: Sequence[Path] = ()
    settings: Sequence[tuple[str, bytes]] = ()
    outside: Sequence[tuple[str, Path]] = ()
    program: str = ""

    def place_of(self, path: str) -> Path:
        """Where a file of the archive lies."""
        first, _, rest = path.partition("/")
        return self.audit / rest if first == AUDIT else self.data_dir / path

    def places_of(self, file: IndexedFile) -> Iterator[Path]:
        """Where a file that the index knows may lie: in its place, on its way to the trash, or put
        aside."""
        yield self.place_of(file.path)
        if file.path.startswith(TRASH):
            yield self.data_dir / OBJECTS / file.object_key
        yield from map(Path, self.hold.files_of(file.object_key))


def other_files(source: Source, left_out: Callable[[str], None]) -> Iterator[str]:
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
        yield from _below(
            entry, name, left_out, without=source.audit, is_link_followed=name in _FOLDERS
        )


def _below(
    entry: os.DirEntry[str],
    path: str,
    left_out: Callable[[str], None],
    *,
    without: Path,
    is_link_followed: bool = False,
) -> Iterator[str]:
    if Path(entry.path) == without:
        return
    if not is_safe_path(path):  # a name that no program of ours makes
        left_out(path.encode("utf-8", "backslashreplace").decode())
    elif entry.is_dir(follow_symlinks=is_link_followed):
        for inner in _sorted(Path(entry.path)):
            yield from _below(inner, f"{path}/{inner.name}", left_out, without=without)
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
