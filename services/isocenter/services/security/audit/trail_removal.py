"""The oldest files of a trail removed on purpose, so that the rest can still be verified.

What was removed is sealed in ``removed.json``: the last record with its digest, which the first
record that is left has to follow, how many there were, and from when to when.  Only whole files go,
and never the last one.  The seal is durable before a file goes: after a crash `verify` passes over
what the seal covers, and the next removal takes it along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import orjson

from isocenter.services.security.audit.hash_chain import (
    Position,
    Record,
    RecordError,
    Seal,
    read_record,
)
from isocenter.services.security.audit.trail import Segment, segments_of
from isocenter.services.system.private_files import PRIVATE_FILE, locked, sync_directory, write_file

REMOVED_FILE: Final = "removed.json"


@dataclass(frozen=True, slots=True)
class Removal:
    """What was removed, all in all.

    Attributes:
        last: the last record of it.
        since, until: when the first and the last of them were made.
    """

    last: Position
    records: int
    since: str
    until: str

    def __str__(self) -> str:
        return f"{self.records} records up to {self.last.sequence}, {self.since} to {self.until}"


def read_removal(folder: Path, seal: Seal) -> tuple[Removal, bool] | None:
    """What the seal says, and whether it is keyed; None: nothing was ever removed.

    Raises:
        RecordError: it was changed, or is none; see `Seal.open`.
    """
    try:
        line = (folder / REMOVED_FILE).read_bytes()
    except FileNotFoundError:
        return None
    members, _, is_keyed = seal.open(line)
    match members:
        case {
            "removed": int(sequence), "digest": str(digest), "records": int(records),
            "since": str(since), "until": str(until),
        }:  # fmt: skip
            return Removal(Position(sequence, digest), records, since, until), is_keyed
        case _:
            raise RecordError("not the seal of a removal")


def plan(folder: Path, before: datetime, seal: Seal) -> tuple[list[Segment], Removal] | None:
    """The files all of whose records are older than *before*, and the seal for them; None: none.

    Raises:
        RecordError: the seal of an earlier removal cannot be trusted.
    """
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
    return (chosen, removal) if chosen and removal is not None else None


def _ends_of(segment: Segment) -> tuple[Record, Record, int]:
    with segment.path.open("rb") as file:
        lines = file.readlines()
    return read_record(lines[0]), read_record(lines[-1]), len(lines)


def remove(folder: Path, chosen: Sequence[Segment], removal: Removal, seal: Seal) -> None:
    """Seal the removal, then remove the files.

    Raises:
        OSError: the seal could not be written, and nothing was removed; or a file could not be.
    """
    members = {
        "removed": removal.last.sequence,
        "digest": removal.last.digest,
        "records": removal.records,
        "since": removal.since,
        "until": removal.until,
    }
    line, _ = seal.close(orjson.dumps(members)[:-1])
    with locked(folder):
        write_file(folder / REMOVED_FILE, line, PRIVATE_FILE, replace=True)
        for segment in chosen:
            segment.path.unlink(missing_ok=True)
        sync_directory(folder)
