"""Recovery after a crash: files from the journal, and traces of unindexed ones.

Of each record the index is asked.  What it knows was perhaps acknowledged: its file is looked at,
and made again from the record where it is missing or is not what the index says.  What it does
not know was not acknowledged, or has been deleted since: it is removed.  So it matters neither in
which order records are looked at, nor whether they are of one process or of several, nor how
often it is done.

The index may be lost.  Then nothing is removed and nothing is written over.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Protocol, TypeVar

from isocenter.engine.buffers import Buffer
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.errors import text_of
from isocenter.storage.objects.files.file_system import FileSystem, storage_error
from isocenter.storage.objects.files.journal import (
    DAMAGED,
    NEW,
    SUFFIX,
    Content,
    Kind,
    Record,
    read_segment,
)
from isocenter.storage.objects.files.object_tree import ObjectTree
from isocenter.storage.objects.keys import is_object_key

_T = TypeVar("_T")

log = logging.getLogger("isocenter.storage")

#: Tells for object keys what the index has under them.
LookUp = Callable[[Sequence[str]], Awaitable[Sequence[StoredInstance | None]]]

#: Keys in one question to the index.
_KEYS_AT_ONCE: Final = 500
#: Bytes that are read at once.
_PIECE: Final = 1 << 20
#: A segment that is read while it is written may look damaged: it is looked at again.
_LOOKS: Final = 3
_LOOK_AGAIN_SECONDS: Final = 0.05


class RecoverableStore(Protocol):
    """What recovery needs of a file store; the methods are those of `FileStore`."""

    @property
    def files(self) -> FileSystem: ...

    @property
    def is_durable(self) -> bool: ...

    @property
    def journal_folder(self) -> str: ...

    @property
    def staging_folder(self) -> str: ...

    @property
    def tree(self) -> ObjectTree: ...

    def remove_durably(self, keys: Sequence[str]) -> None:
        """Remove objects so that no power failure brings them back."""
        ...

    async def run_in_writer_thread(self, call: Callable[[], _T]) -> _T:
        """Run *call* among the threads that write."""
        ...


async def recover(store: RecoverableStore, look_up: LookUp) -> int:
    """Bring objects to the state that the index says; how many were undone.

    Before anything is published, and with no other process on the same store.

    Raises:
        StorageError: it could not be done; it may be tried again.
    """
    work = _Recovery(store)
    for path in await store.run_in_writer_thread(work.segments):
        content = await store.run_in_writer_thread(partial(work.read, path))
        for records in _blocks(content.records):
            known = await look_up([record.key for record in records])
            await store.run_in_writer_thread(partial(work.replay, records, known))
    await store.run_in_writer_thread(work.finish)
    return work.undone


async def salvage(store: RecoverableStore, other_key: Callable[[str], str]) -> None:
    """The same without an index: keep whatever is whole.

    Args:
        other_key: gives another key for an object under whose own there is something else.

    Raises:
        StorageError: it could not be done; it may be tried again.
    """
    work = _Recovery(store)
    for path in await store.run_in_writer_thread(work.segments):
        content = await store.run_in_writer_thread(partial(work.read, path))
        await store.run_in_writer_thread(partial(work.keep, content.records, other_key))
    await store.run_in_writer_thread(work.finish)


def _blocks(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    for start in range(0, len(records), _KEYS_AT_ONCE):
        yield records[start : start + _KEYS_AT_ONCE]


class _Recovery:
    """All of its methods but the constructor block, and raise `StorageError`."""

    def __init__(self, store: RecoverableStore) -> None:
        self._store = store
        self._files = store.files
        #: Of objects that are to stay, to be synced at the end.
        self._kept: dict[str, None] = {}
        #: Those of which no record made a whole file yet.
        self._lacking: set[str] = set()
        self._undone: set[str] = set()
        #: Staged files that records name.
        self._recorded: set[str] = set()
        #: Staged files that nobody needed.
        self._leftovers = 0
        self._used: list[str] = []
        self._damaged: list[str] = []

    @property
    def undone(self) -> int:
        return len(self._undone) + self._leftovers

    def segments(self) -> list[str]:
        return _segments(self._store.journal_folder)

    def read(self, path: str) -> Content:
        try:
            content = read_segment(path)
        except OSError as error:
            raise storage_error("read the journal", error) from error
        if content.damage:
            log.error(
                "the journal %s is damaged: %s; what is missing of objects now, "
                "isocenter db verify names",
                os.path.basename(path),
                content.damage,
            )
        (self._damaged if content.damage else self._used).append(path)
        self._recorded |= {record.staged for record in content.records}
        return content

    def replay(self, records: Sequence[Record], known: Sequence[StoredInstance | None]) -> None:
        """With what the index says of each."""
        for record, stored in zip(records, known, strict=True):
            if not is_object_key(record.key):
                continue
            try:
                if stored is None:
                    self._undo(record)
                else:
                    self._redo(record, stored)
            except OSError as error:
                raise storage_error("make an object from the journal", error) from error

    def _undo(self, record: Record) -> None:
        path = self._store.tree.path_of(record.key)
        if os.path.lexists(path) or (record.staged and os.path.lexists(self._staged_path(record))):
            self._store.remove_durably([record.key])
            self._undone.add(record.key)

    def _redo(self, record: Record, stored: StoredInstance) -> None:
        path = self._store.tree.path_of(record.key)
        self._kept[record.key] = None
        if self._is_whole(path, record, stored):
            self._lacking.discard(record.key)
            return
        self._lacking.add(record.key)
        match record.kind:
            case Kind.CONTENT:
                if not _is_that(record, stored):
                    return
                source = os.path.join(self._store.staging_folder, secrets.token_hex(8))
                self._write(source, record)
            case Kind.STAGED:
                source = self._staged_path(record)
                if not _holds(source, stored):
                    return
            case Kind.KEY:
                return
        self._store.tree.make(os.path.dirname(path))
        self._files.rename(source, path)
        self._lacking.discard(record.key)

    def _is_whole(self, path: str, record: Record, stored: StoredInstance) -> bool:
        """Whether the file is what the index says, as far as this record is concerned."""
        if _size(path) != stored.size:
            return False
        match record.kind:
            case Kind.CONTENT:
                return _holds(path, stored)
            case Kind.STAGED:
                # It was synced under its staged name; that went when the other one was synced.
                staged = self._staged_path(record)
                return not os.path.lexists(staged) or os.path.samefile(staged, path)
            case Kind.KEY:
                return True

    def keep(self, records: Sequence[Record], other_key: Callable[[str], str]) -> None:
        """Without an index: whatever is whole, and nothing is written over."""
        for record in records:
            try:
                if is_object_key(record.key):
                    self._keep(record, other_key)
            except OSError as error:
                raise storage_error("make an object from the journal", error) from error

    def _keep(self, record: Record, other_key: Callable[[str], str]) -> None:
        key = record.key
        match record.kind:
            case Kind.CONTENT:
                if os.path.lexists(self._store.tree.path_of(key)):
                    if _has(self._store.tree.path_of(key), record.content):
                        self._kept[key] = None
                        return
                    key = other_key(key)
                source = os.path.join(self._store.staging_folder, secrets.token_hex(8))
                self._write(source, record)
            case Kind.STAGED:
                source = self._staged_path(record)
                # What is there was synced before it had this name.
                if os.path.lexists(self._store.tree.path_of(key)) or not os.path.lexists(source):
                    return
            case Kind.KEY:
                return
        path = self._store.tree.path_of(key)
        self._store.tree.make(os.path.dirname(path))
        self._files.rename(source, path)
        self._kept[key] = None

    def _write(self, path: str, record: Record) -> None:
        descriptor = self._files.create(path)
        try:
            self._files.write(descriptor, record.content)
            if self._store.is_durable:
                self._files.sync(descriptor)
        finally:
            self._files.close(descriptor)

    def _staged_path(self, record: Record) -> str:
        return os.path.join(self._store.staging_folder, os.path.basename(record.staged) or "+")

    def finish(self) -> None:
        """Sync what stays; then records and staged files go."""
        if self._lacking:
            log.error(
                "%d objects are not whole, and the journal has them not either; "
                "isocenter db verify names them",
                len(self._lacking),
            )
        try:
            if self._store.is_durable and self._kept:
                self._store.tree.sync(list(self._kept), files=list(self._kept))
            folder = self._store.journal_folder
            for path in self._used:
                self._files.unlink(path)
            for path in self._damaged:
                self._files.rename(path, path + DAMAGED)
            for name in os.listdir(folder):
                if name.endswith(NEW):
                    self._files.unlink(os.path.join(folder, name))
            if self._store.is_durable and (self._used or self._damaged):
                self._files.sync_folder(folder)
            for name in os.listdir(self._store.staging_folder):
                path = os.path.join(self._store.staging_folder, name)
                # Empty ones were made ahead of time.
                self._leftovers += name not in self._recorded and _size(path) > 0
                with suppress(FileNotFoundError):
                    self._files.unlink(path)
        except OSError as error:
            raise storage_error("clear the journal", error) from error


def damaged_segments(folder: str) -> list[str]:
    """What is wrong in the journal, a line each; a server may be writing it.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise storage_error("list the journal", error) from error
    aside = [
        f"{name}: a start found it damaged, and set it aside; remove the file when what else is "
        "named here is mended"
        for name in names
        if name.endswith(SUFFIX + DAMAGED)
    ]
    damages = ((name, _damage(os.path.join(folder, name))) for name in names)
    return aside + [f"{name}: {damage}" for name, damage in damages if damage]


def _damage(path: str) -> str:
    if not path.endswith(SUFFIX):
        return ""
    damage = ""
    for look in range(_LOOKS):
        if look:
            time.sleep(_LOOK_AGAIN_SECONDS)
        try:
            damage = read_segment(path).damage
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"it cannot be read ({text_of(error)})"
        if not damage:
            return ""
    return damage


def _segments(folder: str) -> list[str]:
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(SUFFIX))
    except OSError as error:
        raise storage_error("list the journal", error) from error
    return [os.path.join(folder, name) for name in names]


def _size(path: str) -> int:
    """-1: there is no file."""
    try:
        return os.lstat(path).st_size
    except (FileNotFoundError, NotADirectoryError):
        return -1


def _holds(path: str, stored: StoredInstance) -> bool:
    """Whether the file is what the index says."""
    if _size(path) != stored.size:
        return False
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        file.seek(stored.data_set_offset)
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest() == stored.digest


def _is_that(record: Record, stored: StoredInstance) -> bool:
    """Whether a record has the bytes that the index says; it may be of an earlier object."""
    content = memoryview(record.content)
    return (
        len(content) == stored.size
        and hashlib.sha256(content[stored.data_set_offset :]).hexdigest() == stored.digest
    )


def _has(path: str, content: Buffer) -> bool:
    """Whether the file holds just that."""
    with open(path, "rb") as file:
        return file.read(len(content) + 1) == content
