"""Ports of a relocation: tables, rows, and the record of what was copied."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol


class NamedObject(NamedTuple):
    """An object that rows of the database name.

    Attributes:
        deletion_id: of the deletion in whose folder of the trash it is; empty: it is in no trash.
        digest: SHA-256 of its data set, which begins at *data_set_offset*.
    """

    deletion_id: str
    object_key: str
    sop_instance_uid: str
    size: int
    data_set_offset: int
    digest: str


class TableReader(Protocol):
    """Rows as of one moment.  Failures are `StorageError`."""

    async def counts(self) -> Mapping[str, int]:
        """How many rows each table has."""
        ...

    def rows(self, table: str) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Any]]]:
        """All rows in the order of their keys, in blocks; values in the order of the columns."""
        ...

    async def last_numbers(self) -> Mapping[str, int]:
        """Of each table that numbers its rows, the highest number that one had."""
        ...


class TableWriter(Protocol):
    """Takes the rows that are to be in the tables.  Failures are `StorageError`."""

    async def put(self, table: str, rows: Sequence[Any]) -> None:
        """Add rows; of tables that refer to others, those others come first."""
        ...


class ArchiveTables(Protocol):
    """All that a database keeps of one archive, table by table.  Failures are `StorageError`."""

    @property
    def names(self) -> Sequence[str]:
        """The tables that belong to the archive; those that others refer to come first."""
        ...

    @property
    def left(self) -> Mapping[str, str]:
        """The other tables, and why they stay where they are."""
        ...

    def objects(self) -> AbstractAsyncContextManager[AsyncIterator[Sequence[NamedObject]]]:
        """All objects that rows name now, in blocks: those in the trash first."""
        ...

    async def count_objects(self) -> int:
        """About how many they are."""
        ...

    async def still_named(self, objects: Sequence[NamedObject]) -> Sequence[bool]:
        """Of each whether a row names it now."""
        ...

    def moment(self) -> AbstractAsyncContextManager[TableReader]:
        """The rows as they are when the context is entered, for as long as it lasts."""
        ...

    def replacing(
        self, last_numbers: Mapping[str, int]
    ) -> AbstractAsyncContextManager[TableWriter]:
        """What is put takes the place of all rows, in one step, when the context is left without an
        exception; with one, everything stays as it was.

        Args:
            last_numbers: no row that comes later gets these numbers, or lower ones.
        """
        ...

    async def first_rows(self) -> Mapping[str, int]:
        """How many rows each table has when an archive begins."""
        ...


class CopyRecord(Protocol):
    """What was copied, durably; outlives the process.  Its methods block.

    Failures are `StorageError`.
    """

    def begin(self) -> None:
        """Another pass begins: what is not seen in it has left."""
        ...

    def unknown(self, objects: Sequence[NamedObject]) -> Sequence[NamedObject]:
        """Those of which no copy is known; the others have been seen."""
        ...

    def note(self, objects: Sequence[NamedObject], faults: Mapping[NamedObject, str]) -> None:
        """They have been copied, and verified.

        Args:
            faults: what is wrong with the original of some, which the copy has as well.
        """
        ...

    def faulty(self) -> Sequence[tuple[str, str]]:
        """SOP Instance UID and fault of the copies that have one."""
        ...

    def knows(self, deletion_id: str, key: str, digest: str) -> bool:
        """Whether a copy with this digest is known under this key."""
        ...

    def forget(self, objects: Sequence[tuple[str, str]]) -> None:
        """There is no copy any more: by deletion and key."""
        ...

    def unseen(self, limit: int) -> Sequence[tuple[str, str]]:
        """Deletion and key of copies of which the pass has not seen the original."""
        ...

    def value(self, name: str) -> str:
        """What was kept under a name; empty: nothing."""
        ...

    def keep(self, name: str, value: str) -> None:
        """Keep a value."""
        ...

    def close(self) -> None: ...
