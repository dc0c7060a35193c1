"""Journal of a file store: what was published last, until its files are safe.

A published object is safe as soon as its record is.  One write and one sync make all records
of a round durable; the object's file and its name follow without a sync, and are synced many
at a time, later.  After a crash `isocenter.storage.objects.files.recovery` makes from the
records what is missing of files and names.

Each process writes segments of its own, one after the other::

    journal/<8 bytes in hexadecimal>.journal
        head      which segment this is, and its generation
        round     records of one write, one after the other; begins with a block
        round     …
        zeros     room for more: what has its blocks already is synced without waiting for the
                  journal of the file system

When all objects of a segment are safe, it gets a new generation and is written from its
beginning again; records of earlier generations then count no more.  A round begins with a
block of its own, so that no write touches a block in which something durable lies.
"""

from __future__ import annotations

import errno
import os
import secrets
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from enum import IntEnum
from typing import Final

from isocenter.engine.buffers import Buffer
from isocenter.engine.fast_init import dataclass
from isocenter.storage.objects.files.file_system import FileSystem

#: Names of segments end so; those of such as are being made, and of damaged ones, do not.
SUFFIX: Final = ".journal"
NEW: Final = ".new"
DAMAGED: Final = ".damaged"

#: A block of the file system, or a part of one that a disk writes at once.
_BLOCK: Final = 4096
#: Of one segment.  Reading and replaying it takes a fraction of a second.
SEGMENT_BYTES: Final = 4 << 20
#: Of one process.  It makes more only while files cannot be synced as fast as objects come.
MOST_SEGMENTS: Final = 48
#: Bytes of records in one write.
_ROUND_BYTES: Final = 1 << 20

_VERSION: Final = 1
#: Magic number, version, name of the segment, generation.
_HEAD: Final = struct.Struct("<8sI8s8s")
_MAGIC: Final = b"IsoJrnl\n"
_CRC: Final = struct.Struct("<I")
#: Checksum of all that follows; generation, number within it, number of the first record of the
#: round, what kind of record, lengths of key, staged name and content.
_RECORD: Final = struct.Struct("<I8sIIBHHI")


class Kind(IntEnum):
    """What a record is about."""

    #: It holds the object's bytes.
    CONTENT = 1
    #: The object's bytes lie in a staged file, synced.
    STAGED = 2
    #: The object's bytes are nobody's promise (`relaxed`): that something was begun.
    KEY = 3


@dataclass(frozen=True, slots=True)
class Record:
    """One object that was published.

    Attributes:
        staged: the name of its staged file; empty for others.
        content: its bytes; empty for others.
    """

    kind: Kind
    key: str
    staged: str = ""
    content: Buffer = b""

    @property
    def size(self) -> int:
        """Bytes of the record."""
        return _RECORD.size + len(self.key) + len(self.staged) + len(self.content)


class JournalFullError(OSError):
    """Files are not synced as fast as objects come, or cannot be any more."""


class Segment:
    """One file of a journal.  *live*: records in it whose objects are not safe yet."""

    def __init__(self, path: str, name: bytes, descriptor: int, *, is_durable: bool) -> None:
        self.path = path
        self.live = 0
        #: A sync failed: what is written there may be lost, whatever a later sync says.
        self.is_broken = False
        self._name = name
        self._descriptor = descriptor
        self._is_durable = is_durable
        self._generation = b""
        self._serial = 0
        self._position = _BLOCK

    @property
    def room(self) -> int:
        """Bytes of records that it can still take."""
        return SEGMENT_BYTES - self._position

    @property
    def is_empty(self) -> bool:
        return self._position == _BLOCK

    def begin(self, files: FileSystem) -> None:
        """A new generation: no record counts but those that are written from now on."""
        generation = secrets.token_bytes(8)
        head = _HEAD.pack(_MAGIC, _VERSION, self._name, generation)
        files.write_at(self._descriptor, head + _CRC.pack(zlib.crc32(head)), 0)
        # Before any record of it: what a disk then has of the first round may be anything.
        self.sync(files)
        self._generation = generation
        self._serial = 0
        self._position = _BLOCK

    def write(self, records: Sequence[Record], files: FileSystem) -> None:
        """One round, durable on return.  The one before is durable already: of what is damaged
        a reader can tell by that what a crash has cut short."""
        parts: list[Buffer] = []
        serial = self._serial
        for record in records:
            parts += self._encoded(record, serial, self._serial)
            serial += 1
        data = b"".join(parts)
        files.write_at(self._descriptor, data, self._position)
        self.sync(files)
        # Only now: what could not be written is written over by the next round.
        self._serial = serial
        self._position += -(-len(data) // _BLOCK) * _BLOCK

    def _encoded(self, record: Record, serial: int, first: int) -> Iterable[Buffer]:
        key, staged = record.key.encode("ascii"), record.staged.encode("ascii")
        head = _RECORD.pack(
            0,
            self._generation,
            serial,
            first,
            record.kind,
            len(key),
            len(staged),
            len(record.content),
        )[_CRC.size :]
        checksum = zlib.crc32(record.content, zlib.crc32(staged, zlib.crc32(key, zlib.crc32(head))))
        return _CRC.pack(checksum), head, key, staged, record.content

    def sync(self, files: FileSystem) -> None:
        if not self._is_durable:
            return
        try:
            files.sync_data(self._descriptor)
        except OSError:
            self.is_broken = True
            raise

    def close(self, files: FileSystem) -> None:
        files.close(self._descriptor)


class Journal:
    """Of one process and store.  Its methods block, and may be called by several threads.

    Args:
        folder: an absolute path; it exists.
        is_durable: whether records are synced.
    """

    def __init__(self, folder: str, files: FileSystem, *, is_durable: bool) -> None:
        self.folder = folder
        self._files = files
        self._is_durable = is_durable
        self._lock = threading.Lock()
        self._segments: list[Segment] = []
        self._current: Segment | None = None

    def append(self, records: Sequence[Record]) -> list[Segment]:
        """Make all of *records* durable; for each the segment that it is in, for `release`.

        Raises:
            OSError: none of them is to be relied upon.
        """
        where: list[Segment] = []
        with self._lock:
            try:
                for some in self._portions(records):
                    assert self._current is not None
                    self._current.write(some, self._files)
                    # From now on nobody takes the segment from under them.
                    self._current.live += len(some)
                    where += [self._current] * len(some)
            except BaseException:
                for segment in where:
                    segment.live -= 1
                self._tidy()
                raise
        return where

    def _portions(self, records: Sequence[Record]) -> Iterator[Sequence[Record]]:
        """What goes into the current segment in one write, one after the other."""
        start = 0
        while start < len(records):
            size = records[start].size
            room = min(self._make_room(size), _ROUND_BYTES)
            end = start + 1
            while end < len(records) and (size := size + records[end].size) <= room:
                end += 1
            yield records[start:end]
            start = end

    def _make_room(self, size: int) -> int:
        """See to it that the current segment takes so many bytes; how many it takes."""
        current = self._current
        if current is not None and not current.is_broken and current.room >= size:
            return current.room
        for segment in self._segments:
            if not segment.live and not segment.is_broken:
                segment.begin(self._files)
                self._current = segment
                return segment.room
        if len(self._segments) >= MOST_SEGMENTS:
            raise JournalFullError(
                errno.ENOSPC, "the journal is full, since files cannot be synced"
            )
        self._current = self._new()
        self._segments.append(self._current)
        return self._current.room

    def _new(self) -> Segment:
        files = self._files
        name = secrets.token_bytes(8)
        path = os.path.join(self.folder, name.hex() + SUFFIX)
        # Windows gives no file another name while it is open.
        new = path if os.name == "nt" else path + NEW
        descriptor = files.create(new)
        segment = Segment(path, name, descriptor, is_durable=self._is_durable)
        try:
            if self._is_durable:
                files.write_at(descriptor, bytes(SEGMENT_BYTES), 0)
            else:
                files.truncate(descriptor, SEGMENT_BYTES)
            segment.begin(files)
            # It has its name when it has a head: one without is a damaged one.
            if new != path:
                files.rename(new, path)
            if self._is_durable:
                files.sync_folder(self.folder)
        except BaseException:
            segment.close(files)
            for each in dict.fromkeys((new, path)):
                with suppress(OSError):
                    files.unlink(each)
            raise
        return segment

    def release(self, segments: Iterable[Segment]) -> None:
        """For each record one segment: its object is safe now, or gone for good."""
        with self._lock:
            for segment in segments:
                segment.live -= 1
                assert segment.live >= 0
            self._tidy()

    def prepare(self) -> None:
        """Have a free segment at hand, so that nobody has to wait until one is made.

        Raises:
            OSError: it cannot be made.
        """
        with self._lock:
            is_needed = len(self._segments) < MOST_SEGMENTS and not any(
                not each.live and each is not self._current for each in self._segments
            )
        if is_needed:
            segment = self._new()
            with self._lock:
                self._segments.append(segment)

    def _tidy(self) -> None:
        for segment in list(self._segments):
            if segment.live:
                continue
            if segment.is_broken or (segment is not self._current and self._has_spare(segment)):
                self._remove(segment)
            elif not segment.is_empty:
                # Here, where nobody waits for it; and no record stays longer than it has to.
                with suppress(OSError):
                    segment.begin(self._files)

    def _has_spare(self, but: Segment) -> bool:
        """Whether another one than *but* and the current one is free."""
        return any(
            not each.live and each is not but and each is not self._current
            for each in self._segments
        )

    def _remove(self, segment: Segment) -> None:
        self._segments.remove(segment)
        if segment is self._current:
            self._current = None
        with suppress(OSError):
            segment.close(self._files)
        with suppress(OSError):
            self._files.unlink(segment.path)

    def close(self) -> None:
        """Remove what holds nothing; what is live is left to the next start."""
        with self._lock:
            for segment in list(self._segments):
                if not segment.live:
                    self._remove(segment)
                else:
                    with suppress(OSError):
                        segment.close(self._files)
            self._segments.clear()
            self._current = None


def has_segments(folder: str) -> bool:
    """Whether a process writes a journal there, or a crash has left one."""
    try:
        return any(name.endswith(SUFFIX) for name in os.listdir(folder))
    except OSError:
        return False


# -- Reading -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Content:
    """What was read of a segment.

    Attributes:
        damage: what is wrong with it; empty: nothing.  What a crash has cut short is nothing.
    """

    records: tuple[Record, ...]
    damage: str = ""


def read_segment(path: str) -> Content:
    """The records of the last generation, as far as they are whole.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        data = memoryview(file.read(SEGMENT_BYTES))
    size = _HEAD.size
    if len(data) < size + _CRC.size or _CRC.unpack_from(data, size)[0] != zlib.crc32(data[:size]):
        return Content((), "its head is damaged")
    magic, version, name, generation = _HEAD.unpack_from(data)
    if magic != _MAGIC or version != _VERSION:
        return Content((), "it is of another version")
    if os.path.basename(path) != name.hex() + SUFFIX:
        return Content((), "it is another one than its name says")
    records: list[Record] = []
    position = _BLOCK
    while True:
        found = _record_at(data, position, generation)
        if found is not None and found[1] == len(records):
            record, _, _, position = found
            records.append(record)
        elif position % _BLOCK:
            position += -position % _BLOCK
        else:
            break
    damage = ""
    if len(data) < SEGMENT_BYTES:
        damage = f"it has {len(data)} bytes and not {SEGMENT_BYTES}"
    for later in range(position, len(data), _BLOCK):
        found = _record_at(data, later, generation)
        # Of one round any record may be missing, if the power failed meanwhile.
        if found is not None and found[2] > len(records):
            damage = f"{found[2] - len(records)} records before its record {found[2]} are lost"
            break
    return Content(tuple(records), damage)


def _record_at(
    data: memoryview, position: int, generation: bytes
) -> tuple[Record, int, int, int] | None:
    """The record that begins there, its number, that of the first one of its round, and where it
    ends; None: there is none."""
    start = position + _RECORD.size
    if start > len(data):
        return None
    checksum, its_generation, serial, first, kind, *lengths = _RECORD.unpack_from(data, position)
    if its_generation != generation:
        return None
    key_end = start + lengths[0]
    staged_end = key_end + lengths[1]
    end = staged_end + lengths[2]
    if end > len(data) or zlib.crc32(data[position + _CRC.size : end]) != checksum:
        return None
    try:
        record = Record(
            Kind(kind),
            str(data[start:key_end], "ascii"),
            str(data[key_end:staged_end], "ascii"),
            data[staged_end:end],
        )
    except ValueError:
        return None
    return record, serial, first, end
