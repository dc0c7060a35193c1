"""Ports of a backup: the index as a file, the hold on removals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, NamedTuple, Protocol

#: Where files lie that the index knows.
OBJECTS: Final = "objects/"
TRASH: Final = "trash/"


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


class IndexInUse(Protocol):
    """The index of an archive that others go on using.  Failures are `StorageError`."""

    async def version(self) -> int:
        """The schema version of a copy."""
        ...

    async def copy_to(self, target: Path, progress: Callable[[int, int], None]) -> None:
        """Put a copy of one moment at *target*, on stable storage: an `IndexFile`."""
        ...

    async def still_names(self, files: Sequence[IndexedFile]) -> bool:
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
