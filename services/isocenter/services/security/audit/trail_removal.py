"""Removal of the oldest segments of a trail, sealed.

Only whole files go, and never the last one; what is to go must be unbroken, and every collector
must have it.  The seal (`removal`) is durable before a file goes: after a crash `verify` passes
over what the seal covers, and the next removal takes it along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.services.security.audit.hash_chain import (
    Record,
    RecordDigest,
    RecordError,
    read_record,
)
from isocenter.services.security.audit.removal_seal import (
    REMOVED_FILE,
    Removal,
    encode_removal,
    read_removal,
)
from isocenter.services.security.audit.repository import SyslogRepository
from isocenter.services.security.audit.syslog_delivery import delivered_to
from isocenter.services.security.audit.trail_segments import (
    DamagedSegmentError,
    Segment,
    SegmentReader,
    segments_of,
)
from isocenter.services.security.audit.trail_verification import verify
from isocenter.services.system.file_lock import directory_lock
from isocenter.services.system.private_files import PRIVATE_FILE, sync_directory, write_file


class RemovalRefusedError(IsocenterError):
    """What is old enough may not go; the message says why."""

    error_code = ErrorCode.AUDIT


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """The files that go, and the seal for them."""

    segments: tuple[Segment, ...]
    removal: Removal

    @property
    def files(self) -> str:
        count = len(self.segments)
        return "1 file" if count == 1 else f"{count} files"


def plan_removal(
    folder: Path,
    before: datetime,
    *,
    key: bytes | None,
    collectors: Sequence[SyslogRepository] = (),
) -> RemovalPlan | None:
    """The files all of whose records are older than *before*; None: there are none.

    Raises:
        RemovalRefusedError: they may not go.
        OSError: a file cannot be read.
    """
    try:
        plan = _old_files(folder, before, RecordDigest(key))
    except (RecordError, DamagedSegmentError) as error:
        raise RemovalRefusedError(f"the trail is broken, and stays: {error}") from error
    if plan is None:
        return None
    last = plan.removal.last.sequence
    verdict = verify(folder, key=key, through=last)
    if not verdict.is_good:
        raise RemovalRefusedError(f"the trail is broken, and stays: {verdict.faults[0]}")
    for collector in collectors:
        if delivered_to(collector, folder).sequence < last:
            raise RemovalRefusedError(f"the collector {collector} has not got all of them")
    return plan


def _old_files(folder: Path, before: datetime, seal: RecordDigest) -> RemovalPlan | None:
    known = read_removal(folder, seal)
    removal = None if known is None else known[0]
    chosen: list[Segment] = []
    for segment in segments_of(folder)[:-1]:
        if removal is not None and segment.first <= removal.last.sequence:
            chosen.append(segment)  # a crash has left it
            continue
        first, last, count = _ends_of(segment)
        if datetime.fromisoformat(last.entry.time) >= before:
            break
        chosen.append(segment)
        removal = Removal(
            last.position,
            count + (removal.records if removal else 0),
            removal.since if removal else first.entry.time,
            last.entry.time,
        )
    return RemovalPlan(tuple(chosen), removal) if chosen and removal is not None else None


def _ends_of(segment: Segment) -> tuple[Record, Record, int]:
    first = last = b""
    count = 0
    with SegmentReader(segment) as reader:
        for last in reader.lines():
            first = first or last
            count += 1
    return read_record(first), read_record(last), count


def remove(folder: Path, plan: RemovalPlan, *, key: bytes | None) -> None:
    """Seal the removal, then remove the files; whoever has removed more meanwhile keeps the seal.

    Raises:
        RecordError: the seal of an earlier removal was changed; nothing was removed.
        OSError: the seal could not be written, and nothing was removed; or a file could not be.
    """
    seal = RecordDigest(key)
    line = encode_removal(plan.removal, seal)
    with directory_lock(folder):
        known = read_removal(folder, seal)
        if known is None or known[0].last.sequence < plan.removal.last.sequence:
            write_file(folder / REMOVED_FILE, line, PRIVATE_FILE, replace=True)
        for segment in plan.segments:
            for each in {segment, segment.compressed}:
                each.path.unlink(missing_ok=True)
        sync_directory(folder)
