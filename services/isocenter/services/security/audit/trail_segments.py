"""The files of a trail in their order: as they were written, or compressed.

Only the last file is written to.  Those before it do not change any more, and may be compressed
(gzip): the lines are the same, and so is every place in them, counted in bytes of the lines.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.services.security.audit.hash_chain import LONGEST_LINE

_SEGMENT: Final = re.compile(r"audit-([0-9]{12})\.jsonl(\.gz)?")
COMPRESSED: Final = ".gz"


class DamagedSegmentError(IsocenterError):
    """A compressed file that cannot be read to its end; the message says why."""

    error_code = ErrorCode.AUDIT


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """One file of the trail; *first* is the number of its first record."""

    first: int
    path: Path

    @classmethod
    def starting_at(cls, first: int, folder: Path) -> Segment:
        return cls(first, folder / f"audit-{first:012}.jsonl")

    @property
    def is_compressed(self) -> bool:
        return self.path.suffix == COMPRESSED

    @property
    def compressed(self) -> Segment:
        """The same, compressed; it need not be there."""
        if self.is_compressed:
            return self
        return Segment(self.first, self.path.with_name(self.path.name + COMPRESSED))


def segments_of(folder: Path) -> list[Segment]:
    """The files of a trail, in order; none when there is no such folder.

    A crash while one is compressed can leave it twice: then it is the one that was written.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    found: dict[int, str] = {}
    for name in sorted(names, key=len, reverse=True):
        if match := _SEGMENT.fullmatch(name):
            found[int(match[1])] = name
    return [Segment(first, folder / found[first]) for first in sorted(found)]


class SegmentReader:
    """Reads the lines of a file of the trail; a context manager.

    Raises:
        FileNotFoundError: it is not there, neither as it was written nor compressed.
    """

    def __init__(self, segment: Segment) -> None:
        self._file: BinaryIO | gzip.GzipFile
        try:
            self._file = _open(segment)
        except FileNotFoundError:
            # Compressed since somebody saw it.
            segment = segment.compressed
            self._file = _open(segment)
        self.segment = segment

    def seek(self, offset: int) -> None:
        """Go to a byte of the lines.

        Raises:
            DamagedSegmentError: there is no way to there.
        """
        with self._told():
            self._file.seek(offset)

    def line(self, longest: int = LONGEST_LINE + 1) -> bytes:
        """The next line, or as much of it as *longest* says; empty at the end.

        Raises:
            DamagedSegmentError: it cannot be read any further.
        """
        with self._told():
            return self._file.readline(longest)

    def lines(self, size: int | None = None) -> Iterator[bytes]:
        """The lines from here on, within *size* bytes; what is too long comes in pieces."""
        while line := self.line(LONGEST_LINE + 1 if size is None else min(size, LONGEST_LINE + 1)):
            if size is not None:
                size -= len(line)
            yield line

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DamagedSegmentError(
                f"{self.segment.path.name} is damaged and cannot be decompressed: {error}"
            ) from error


def _open(segment: Segment) -> BinaryIO | gzip.GzipFile:
    if segment.is_compressed:
        return gzip.open(segment.path, "rb")
    return segment.path.open("rb")
