"""Trail on disk: segments of records, and the head beside them.

Below one folder, all of it for its owner only::

    audit-000000000001.jsonl.gz  records; the name says the number of the first one
    audit-000000000952.jsonl     … and so on, when a file has become large
    head.json                    the last record that is on stable storage
    .lock                        one process writes at a time

There is one chain, however many processes write: a batch takes the lock, looks where the chain
ends, appends, syncs, and moves the head.  A batch that cannot be written leaves nothing.

What a crash has left of a record is cut off by whoever writes next, and recorded.  When the end is
not the one that the head names, the chain goes on from the head in a new file: what is missing
stays visible, and what is there stays as it is.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.services.errors import text_of
from isocenter.services.security.audit.hash_chain import (
    LONGEST_LINE,
    Entry,
    Position,
    Record,
    RecordDigest,
    RecordError,
    UnknownKeyError,
    decode_head,
    decode_record,
    encode_head,
    encode_record,
)
from isocenter.services.security.audit.trail_segments import (
    DamagedSegmentError,
    Segment,
    SegmentReader,
    segments_of,
)
from isocenter.services.system.file_lock import directory_lock
from isocenter.services.system.private_files import (
    PRIVATE_DIRECTORY,
    PRIVATE_FILE,
    make_private_directory,
    match_owner,
    sync_directory,
)

log = logging.getLogger("isocenter.audit")

HEAD_FILE: Final = "head.json"
#: Of `private_files.locked`.
LOCK_FILE: Final = ".lock"
_BLOCK: Final = 64 << 10
#: Shorter keys can be guessed.
SHORTEST_KEY: Final = 16
LONGEST_KEY: Final = 4_096


class TrailError(IsocenterError):
    """The trail cannot be written as the settings stand; the message says what to do."""

    error_code = ErrorCode.AUDIT


def read_key(path: Path) -> bytes:
    """The key of a key file: all its bytes, without a line end.

    Raises:
        TrailError: it cannot be read, is open to others, too short or too long.
    """
    try:
        mode = path.stat().st_mode
        with path.open("rb") as file:
            key = file.read(LONGEST_KEY + 1).rstrip(b"\r\n")
    except OSError as error:
        raise TrailError(f"the key file {path} cannot be read: {text_of(error)}") from error
    if os.name == "posix" and mode & 0o077:
        raise TrailError(f"the key file {path} is open to others; chmod 600 {path}")
    if not SHORTEST_KEY <= len(key) <= LONGEST_KEY:
        raise TrailError(
            f"the key file {path} must hold {SHORTEST_KEY} to {LONGEST_KEY} bytes; make one with "
            f"openssl rand -hex 32 > {path}"
        )
    return key


@dataclass(slots=True)
class _End:
    """Where the next record goes."""

    segment: Segment
    size: int
    position: Position


class Trail:
    """Appends to the trail in *folder*.  Blocking; for one thread at a time, and beside any
    number of other processes.

    Args:
        rotate_bytes: a file that has become so large gets a successor.
        note: makes the entry that tells of something wrong with the trail itself.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rotate_bytes: int,
        note: Callable[[str], Entry],
        key: bytes | None = None,
    ) -> None:
        self.folder = folder
        self._seal = RecordDigest(key)
        self._rotate_bytes = rotate_bytes
        self._note = note
        self._end: _End | None = None

    def prepare(self) -> None:
        """Make the folder, and find the end.

        Raises:
            TrailError: the key is missing, or another one than that of the trail.
            OSError: the folder cannot be made or read.
        """
        self.append(())

    def append(self, entries: Sequence[Entry]) -> None:
        """Make entries durable, all of them or none.

        Raises:
            TrailError, OSError: none.
        """
        self._make_folder()
        with directory_lock(self.folder):
            end, notes = self._find_end()
            self._write(end, [*(self._note(text) for text in notes), *entries])

    def _make_folder(self) -> None:
        if not self.folder.is_dir():
            make_private_directory(self.folder)
            match_owner(self.folder.parent, self.folder)
            sync_directory(self.folder.parent)
        elif os.name == "posix" and self.folder.stat().st_mode & 0o077:
            self.folder.chmod(PRIVATE_DIRECTORY)

    def _write(self, end: _End, entries: Sequence[Entry]) -> None:
        self._end = end
        if not entries:
            return
        lines: list[bytes] = []
        position = end.position
        for entry in entries:
            line, position = encode_record(entry, position, self._seal)
            lines.append(line)
        if end.position == Position():
            # A crash before the first record's own: from here on a head that is missing was taken.
            self._move_head(end.position)
        segment, size = end.segment, end.size
        if size >= self._rotate_bytes:
            segment, size = Segment.starting_at(end.position.sequence + 1, self.folder), 0
        self._end = None  # until it is known again
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(segment.path, flags, PRIVATE_FILE)
        data = b"".join(lines)
        try:
            if size == 0:
                match_owner(self.folder, descriptor)
            try:
                _write_all(descriptor, data)
                os.fsync(descriptor)
            except OSError:
                with suppress(OSError):  # else whoever writes next finds it and says so
                    os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        if size == 0:
            sync_directory(self.folder)
        self._end = _End(segment, size + len(data), position)
        self._move_head(position)

    def _move_head(self, position: Position) -> None:
        staged = self.folder / f".head.{secrets.token_hex(4)}"
        try:
            descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
            try:
                match_owner(self.folder, descriptor)
                _write_all(descriptor, encode_head(position, self._seal))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            staged.replace(self.folder / HEAD_FILE)
        except OSError as error:
            # The records are durable: writing them once more would be wrong.
            with suppress(OSError):
                staged.unlink()
            log.error("the head of the audit trail stays behind: %s", error)

    # Finding the end.

    def _find_end(self) -> tuple[_End, list[str]]:
        """Where to go on, and what is to be said about what was found there."""
        known = self._end
        segments = segments_of(self.folder)
        last = segments[-1] if segments else None
        if known is not None and last is not None and known.segment == last:
            with suppress(FileNotFoundError):
                if last.path.stat().st_size == known.size:
                    return known, []
        notes: list[str] = []
        head = self._head(notes)
        size = 0
        while (
            segments
            and not segments[-1].is_compressed
            and not (size := self._mend(segments[-1].path, notes))
        ):
            segments.pop().path.unlink()  # made, and nothing finished in it
        if not segments:
            if head.sequence:
                notes.append(f"the records up to {head.sequence} are gone")
            return _End(Segment.starting_at(head.sequence + 1, self.folder), 0, head), notes
        last = segments[-1]
        record = self._last_record(last, size, notes)
        if record is not None and record.sequence >= head.sequence:
            if last.is_compressed:  # the one that followed it is gone, with nothing in it
                last, size = Segment.starting_at(record.sequence + 1, self.folder), 0
            return _End(last, size, record.position), notes
        if record is not None:
            notes.append(f"the records {record.sequence + 1} to {head.sequence} are gone")
        after = head
        if head.sequence < last.first:
            after = Position(last.first - 1 + max(_lines(last), 1))
        return _End(Segment.starting_at(after.sequence + 1, self.folder), 0, after), notes

    def _head(self, notes: list[str]) -> Position:
        """The end by the head; the very beginning when there is none."""
        path = self.folder / HEAD_FILE
        try:
            line = path.read_bytes()
        except FileNotFoundError:
            if segments_of(self.folder):
                notes.append(f"{HEAD_FILE} is gone")
            return Position()
        try:
            return decode_head(line, self._seal)[0]
        except UnknownKeyError as error:
            raise TrailError(
                f"the audit trail in {self.folder} is kept with a key; set audit.hmac_key_file, or "
                "move the folder away to begin another trail without"
            ) from error
        except RecordError as error:
            if self._seal.is_keyed and b'"hmac_sha256"' in line:
                raise TrailError(
                    f"{path} was made with another key, or changed; put the key back that was "
                    "used before (audit.hmac_key_file), or move the folder away to begin another "
                    "trail"
                ) from error
            notes.append(f"{HEAD_FILE} was changed: {error}")
            return Position()

    def _mend(self, path: Path, notes: list[str]) -> int:
        """Cut off a record that was not finished; the size then."""
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            whole = _end_of_last_line(file, size)
            if whole < size:
                file.truncate(whole)
                os.fsync(file.fileno())
                notes.append(
                    f"{path.name} ended with {size - whole} bytes of a record that was not "
                    "finished; they were cut off"
                )
        return whole

    def _last_record(self, segment: Segment, size: int, notes: list[str]) -> Record | None:
        try:
            if segment.is_compressed:
                line = _last_line(segment)
            else:
                with segment.path.open("rb") as file:
                    start = _end_of_last_line(file, size - 1)
                    file.seek(start)
                    line = file.read(min(size - start, LONGEST_LINE + 1))
            return decode_record(line, self._seal)
        except (RecordError, DamagedSegmentError) as error:
            notes.append(f"the last record of {segment.path.name} is damaged: {error}")
            return None


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _end_of_last_line(file: BinaryIO, size: int) -> int:
    """Where the last line end before *size* ends; 0: there is none."""
    while size > 0:
        start = max(size - _BLOCK, 0)
        file.seek(start)
        found = file.read(size - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        size = start
    return 0


def _last_line(segment: Segment) -> bytes:
    last = b""
    with SegmentReader(segment) as reader:
        for line in reader.lines():
            last = line
    return last


def _lines(segment: Segment) -> int:
    count = 0
    with SegmentReader(segment) as reader, suppress(DamagedSegmentError):
        for line in reader.lines():
            count += line.endswith(b"\n")
    return count
