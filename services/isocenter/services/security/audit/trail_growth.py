"""Growth of a trail: size, rate, and when its disk is full."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from isocenter.services.security.audit.hash_chain import RecordError, read_record
from isocenter.services.security.audit.trail_compression import LEVEL
from isocenter.services.security.audit.trail_segments import (
    DamagedSegmentError,
    Segment,
    SegmentReader,
    segments_of,
)

#: The pace is that of so long.
_LOOKED_BACK: Final = timedelta(days=30)
#: A younger trail says nothing about a year.
_YOUNGEST: Final = timedelta(days=1)
_DAY_SECONDS: Final = 86_400.0
#: So much of the last file is compressed to see what becomes of it.
_SAMPLE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailGrowth:
    """The files of a trail, and what will become of them.

    Attributes:
        size: bytes on the disk.
        since: when the first record was made; None: there is none that can be read.
        bytes_a_day: on the disk, in the last month; None: it is too young to say.
        keep_days: after so long files are removed; 0: never.
        free: bytes that the file system has left.
    """

    files: int
    compressed: int
    size: int
    since: datetime | None
    bytes_a_day: float | None
    keep_days: int
    free: int

    @property
    def largest(self) -> float | None:
        """Bytes that it will have when as much is removed as comes; None: nothing is removed, or
        nobody knows yet."""
        if self.bytes_a_day is None or not self.keep_days:
            return None
        return max(self.bytes_a_day * self.keep_days, self.size)

    @property
    def days_until_full(self) -> float | None:
        """When it alone has filled the disk; None: never, or nobody knows yet."""
        if not self.bytes_a_day:
            return None
        if self.largest is not None and self.largest - self.size < self.free:
            return None
        return self.free / self.bytes_a_day


def growth_of(folder: Path, *, compress: bool, keep_days: int, now: datetime) -> TrailGrowth:
    """Look at the files of a trail; few of them are opened.

    Args:
        compress: the last file will be compressed, too.

    Raises:
        OSError: a file cannot be read.
    """
    segments = segments_of(folder)
    sizes = [_size_of(segment) for segment in segments]
    began = now
    grown = 0.0
    for index in range(len(segments) - 1, -1, -1):
        time = _began(segments[index])
        if time is None or time > now:
            continue
        is_last = index == len(segments) - 1
        if is_last or now - began < _YOUNGEST or time >= now - _LOOKED_BACK:
            began = time
            grown += sizes[index] * (_ratio(segments[index]) if is_last and compress else 1)
            continue
        break
    age = now - began
    return TrailGrowth(
        files=len(segments),
        compressed=sum(segment.is_compressed for segment in segments),
        size=sum(sizes),
        since=_first_time(segments),
        bytes_a_day=grown / age.total_seconds() * _DAY_SECONDS if age >= _YOUNGEST else None,
        keep_days=keep_days,
        free=shutil.disk_usage(folder).free,
    )


def trail_size(folder: Path) -> int:
    """Bytes of the files of a trail on the disk."""
    return sum(map(_size_of, segments_of(folder)))


def _size_of(segment: Segment) -> int:
    for each in (segment, segment.compressed):
        try:
            return each.path.stat().st_size
        except FileNotFoundError:
            continue  # compressed, or removed, just now
    return 0


def _first_time(segments: Sequence[Segment]) -> datetime | None:
    return next((time for segment in segments if (time := _began(segment)) is not None), None)


def _began(segment: Segment) -> datetime | None:
    """When the first record of a file was made; None: it cannot be read."""
    try:
        with SegmentReader(segment) as reader:
            time = datetime.fromisoformat(read_record(reader.line()).entry.time)
    except (FileNotFoundError, DamagedSegmentError, RecordError, ValueError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _ratio(segment: Segment) -> float:
    """What compressing leaves of a file."""
    if segment.is_compressed:
        return 1.0
    with segment.path.open("rb") as file:
        sample = file.read(_SAMPLE_BYTES)
    return len(zlib.compress(sample, LEVEL)) / len(sample) if sample else 1.0
