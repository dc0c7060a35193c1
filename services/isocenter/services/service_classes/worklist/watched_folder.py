"""Watched folder: its files are worklist entries, as with ``wlmscpfs`` of DCMTK.

The folder is looked at again and again, which works on every file system, also on those of
other machines.  A file is read when two looks have found it the same, so that none is taken
half-written; its entries leave the list with it, unless they were started.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.errors import StorageError, text_of
from isocenter.services.service_classes.worklist.entry import (
    Entry,
    EntryKey,
    EntryState,
    InvalidEntryError,
)
from isocenter.services.service_classes.worklist.entry_files import read_entries
from isocenter.services.service_classes.worklist.ports import FOLDER_SOURCE, Worklist

log = logging.getLogger("isocenter.worklist")

PATTERNS: Final = ("*.json", "*.jsonl", "*.dcm", "*.wl", "*.dump", "*.txt")
#: A file of ``wlmscpfs`` that holds nothing.
_LOCK_FILE: Final = "lockfile"
MOST_FILES: Final = 10_000

#: What tells one content of a file from another without reading it: times of the last change
#: of content and of rights, size, i-node.
_Signature = tuple[int, int, int, int]


@dataclass(slots=True)
class _File:
    """A file as it was seen last.

    Attributes:
        read: what it was when it was read; None: it has to be read.
        keys: of the entries that it brought.
        complaint: what was said of which content.
        waits: it has a step of another file; without that one it is not wrong.
    """

    seen: _Signature
    read: _Signature | None = None
    keys: frozenset[EntryKey] = frozenset()
    complaint: tuple[_Signature, str] | None = None
    waits: bool = False


async def watch(worklist: Worklist, folder: Path, seconds: float) -> None:
    """Keep *worklist* as the files of *folder* have it, until cancelled.

    Args:
        seconds: from one look to the next.
    """
    watched = WatchedFolder(worklist, folder)
    while True:
        await watched.scan()
        await trio.sleep(seconds)


class WatchedFolder:
    """A folder, and what of it is on the list.

    Files are those of `PATTERNS` in the folder and in the folders in it, hidden ones left
    out.  A file with a fault gets a line in the log, once; what it brought before stays.
    While the folder cannot be read, all stays.
    """

    def __init__(self, worklist: Worklist, folder: Path) -> None:
        self._worklist = worklist
        self._folder = folder
        self._files: dict[str, _File] = {}
        #: Which file brought a step.
        self._owners: dict[EntryKey, str] = {}
        self._knows_the_past = False
        #: What was said of the folder last.
        self._trouble = ""

    async def scan(self) -> None:
        """Look once, and do what follows."""
        try:
            found = await trio.to_thread.run_sync(_signatures, self._folder)
            if not self._knows_the_past:
                await self._forget_those_gone(found)
                self._knows_the_past = True
            for name in sorted(self._files.keys() - found.keys()):
                await self._worklist.put((), source=FOLDER_SOURCE + name, whole=True)
                self._let_go(name, frozenset())
                del self._files[name]
                log.info("%s has gone from the worklist folder, and its entries", name)
            for name, signature in sorted(found.items()):
                await self._see(name, signature)
            self._trouble = ""
        except (_TooMany, OSError, StorageError) as error:
            # A disk that is full, a share that is away: the next look tries again.
            what = str(error)
            if what != self._trouble:
                self._trouble = what
                log.error("worklist folder %s: %s; the list stays as it is", self._folder, what)

    async def _forget_those_gone(self, found: dict[str, _Signature]) -> None:
        """Remove what files brought that went while nobody looked."""
        for source in sorted(await self._worklist.sources()):
            name = source.removeprefix(FOLDER_SOURCE)
            if source != name and name not in found:
                await self._worklist.put((), source=source, whole=True)

    async def _see(self, name: str, signature: _Signature) -> None:
        file = self._files.get(name)
        if file is None or file.seen != signature:
            if file is None:
                self._files[name] = _File(signature)
            else:
                file.seen = signature
            return  # somebody may be writing it still
        if file.read == signature:
            return
        file.read = signature
        try:
            entries = await trio.to_thread.run_sync(read_entries, self._folder / name, name)
            self._check_owners(name, file, entries)
        except InvalidEntryError as fault:
            self._complain(file, str(fault))
            return
        except OSError as error:
            self._complain(file, f"{name}: {text_of(error)}")
            return
        try:
            done = await self._worklist.put(
                [entry for entry, _ in entries],
                source=FOLDER_SOURCE + name,
                whole=True,
                states={e.key: state for e, state in entries if state is not EntryState.SCHEDULED},
            )
        except StorageError:
            file.read = None
            raise
        file.complaint = None
        self._let_go(name, frozenset(entry.key for entry, _ in entries))
        log.log(
            logging.INFO if done.added or done.changed or done.removed else logging.DEBUG,
            "%s in the worklist folder: %d added, %d changed, %d as they were, %d removed",
            name, done.added, done.changed, done.unchanged, done.removed,
        )  # fmt: skip

    def _check_owners(
        self, name: str, file: _File, entries: Sequence[tuple[Entry, EntryState]]
    ) -> None:
        file.waits = False
        for number, (entry, _) in enumerate(entries, 1):
            owner = self._owners.get(entry.key, name)
            if owner != name:
                file.waits = True
                raise InvalidEntryError(
                    f"{name}, entry {number}: (0040,0009) Scheduled Procedure Step ID and "
                    f"(0008,0050) Accession Number are those of an entry in {owner}"
                )

    def _let_go(self, name: str, keys: frozenset[EntryKey]) -> None:
        """From now on the file has *keys*; files that waited for others may be read again."""
        file = self._files[name]
        gone = file.keys - keys
        for key in gone:
            del self._owners[key]
        self._owners.update(dict.fromkeys(keys, name))
        file.keys = keys
        for other in self._files.values() if gone else ():
            if other.waits:
                other.read = None

    def _complain(self, file: _File, fault: str) -> None:
        if file.complaint != (file.seen, fault):
            file.complaint = (file.seen, fault)
            log.error("worklist folder: %s; nothing of this file was taken", fault)


class _TooMany(IsocenterError):
    """More files than `MOST_FILES`."""


def _signatures(folder: Path) -> dict[str, _Signature]:
    """The files to read, by name relative to *folder*, with ``/``."""
    found: dict[str, _Signature] = {}
    for name, status in _files(folder):
        if len(found) >= MOST_FILES:
            raise _TooMany(f"more than {MOST_FILES} files")
        found[name] = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
    return found


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    for entry in _entries(folder):
        if entry.is_dir():
            for inner in _entries(Path(entry.path)):
                yield from _file(inner, f"{entry.name}/{inner.name}")
        else:
            yield from _file(entry, entry.name)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]


def _file(entry: os.DirEntry[str], name: str) -> Iterator[tuple[str, os.stat_result]]:
    lower = entry.name.lower()
    if lower == _LOCK_FILE or not any(fnmatch(lower, pattern) for pattern in PATTERNS):
        return
    try:
        status = os.stat(entry.path)
    except FileNotFoundError:
        return  # gone since
    if stat.S_ISREG(status.st_mode):  # to open a FIFO is to wait for its other end
        yield name, status
