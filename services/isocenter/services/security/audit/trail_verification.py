"""Verification of a trail: the first wrong record, and the others.

What this can show: any byte of any record or of the head that was changed; records that are
missing in the middle, put in, exchanged, or cut off at the end.

What it cannot: without a key, whoever may write the files can make every digest anew from any
record on.  With a key, whoever cannot read it can at most put back an *earlier* state of the whole
folder, head included; that shows only against something kept elsewhere: a `Position` that was
written down (``--checkpoint``), or what a syslog collector has.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.security.audit.hash_chain import (
    GENESIS,
    LONGEST_LINE,
    Position,
    RecordDigest,
    RecordError,
    UnknownKeyError,
    decode_head,
    decode_record,
    read_record,
)
from isocenter.services.security.audit.removal_seal import REMOVED_FILE, Removal, read_removal
from isocenter.services.security.audit.trail import HEAD_FILE, LOCK_FILE, TrailError
from isocenter.services.security.audit.trail_segments import (
    DamagedSegmentError,
    Segment,
    SegmentReader,
    segments_of,
)
from isocenter.services.system.file_lock import directory_lock

#: Faults that are named; one change makes one or two.
NAMED_FAULTS: Final = 100
#: Looks at a trail of which files are removed meanwhile.
_MOST_LOOKS: Final = 5


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong at one place; *place* is a file name and line, *record* its number if known."""

    place: str
    record: int | None
    text: str

    def __str__(self) -> str:
        what = "" if self.record is None else f"record {self.record}: "
        return f"{self.place}: {what}{self.text}"


@dataclass(slots=True)
class TrailVerification:
    """What was found.

    Attributes:
        first, last: numbers of the first and last record that were read.
        end: to be written down elsewhere: a later trail must still have it.
        removed: what was removed on purpose, and sealed.
        unkeyed: records from before there was a key, or all without one.
        faults: the first `NAMED_FAULTS`; *faults_found* counts all.
    """

    first: int = 0
    last: int = 0
    records: int = 0
    files: int = 0
    unkeyed: int = 0
    end: Position = field(default_factory=Position)
    removed: Removal | None = None
    faults: list[Fault] = field(default_factory=list)
    faults_found: int = 0

    @property
    def is_good(self) -> bool:
        return not self.faults_found

    def add(self, place: str, record: int | None, text: str) -> None:
        self.faults_found += 1
        if len(self.faults) < NAMED_FAULTS:
            self.faults.append(Fault(place, record, text))


def verify(
    folder: Path,
    *,
    key: bytes | None = None,
    begins_at: int = 1,
    checkpoint: Position | None = None,
    through: int | None = None,
    progress: Callable[[int], None] = lambda records: None,
) -> TrailVerification:
    """Read the whole trail; a server may write, compress and remove files meanwhile.

    Args:
        key: None: the trail must be without.
        begins_at: records before that one were removed on purpose, with their files.
        checkpoint: a record that must be in it as it was.
        through: read no more than the files up to that record, and whether the next one follows.
        progress: called now and then with how many records were read.

    Raises:
        TrailError: it is kept with a key, and there is none.
        OSError: a file cannot be read.
    """
    for _ in range(_MOST_LOOKS - 1):
        try:
            return _verify(folder, key, begins_at, checkpoint, through, progress)
        except FileNotFoundError:
            continue  # a file was removed just now: what is left begins elsewhere
    return _verify(folder, key, begins_at, checkpoint, through, progress)


def _verify(
    folder: Path,
    key: bytes | None,
    begins_at: int,
    checkpoint: Position | None,
    through: int | None,
    progress: Callable[[int], None],
) -> TrailVerification:
    verdict = TrailVerification()
    segments, sizes, head_line = _snapshot(folder)
    seal = RecordDigest(key)
    try:
        head, head_is_keyed = _head(head_line, seal, bool(segments), verdict)
        state = _State(
            position=Position(begins_at - 1, GENESIS if begins_at == 1 else ""),
            head=0 if head is None else head.sequence,
        )
        removed = _removed(folder, seal, verdict)
        if removed is not None and begins_at == 1:
            state.position = removed.last
        for segment, size in zip(segments, sizes, strict=True):
            if removed is not None and segment.first <= removed.last.sequence:
                continue  # a crash has left it
            is_beyond = through is not None and segment.first > through
            verdict.files += 1
            with SegmentReader(segment) as reader:
                most = 1 if is_beyond else None
                _read_segment(reader, size, most, seal, state, verdict, checkpoint, progress)
            if is_beyond:
                break
    except UnknownKeyError as error:
        raise TrailError(
            f"the audit trail in {folder} is kept with a key; give it with --key-file"
        ) from error
    verdict.last = state.position.sequence if verdict.records else 0
    verdict.end = state.position if verdict.records else Position()
    if head is not None and through is None:
        if state.position.sequence < head.sequence:
            gone = f"the records {state.position.sequence + 1} to {head.sequence} are gone"
            verdict.add(HEAD_FILE, None, f"{gone}: they were cut off at the end")
        elif state.at_head is not None and state.at_head != head.digest:
            verdict.add(HEAD_FILE, head.sequence, "is not the one that the head names")
        if seal.is_keyed and verdict.records and not head_is_keyed:
            verdict.add(HEAD_FILE, None, "the head is without the key")
    if checkpoint is not None and not state.met_checkpoint:
        verdict.add("checkpoint", checkpoint.sequence, "is not in the trail as it was written down")
    return verdict


def _removed(folder: Path, seal: RecordDigest, verdict: TrailVerification) -> Removal | None:
    try:
        found = read_removal(folder, seal)
    except UnknownKeyError:
        raise
    except RecordError as error:
        verdict.add(REMOVED_FILE, None, str(error))
        return None
    if found is None:
        return None
    verdict.removed, is_keyed = found
    if seal.is_keyed and not is_keyed:
        verdict.add(REMOVED_FILE, None, "the seal of the removal is without the key")
    return verdict.removed


@dataclass(slots=True)
class _State:
    """How far the chain was followed."""

    position: Position
    head: int = 0
    at_head: str | None = None
    is_keyed: bool = False
    met_checkpoint: bool = False


def _snapshot(folder: Path) -> tuple[list[Segment], list[int | None], bytes | None]:
    """What there is at one moment: nobody is in the middle of writing.

    Sizes are those of the lines; None: of a compressed file, to which nothing is added.
    """

    def look() -> tuple[list[Segment], list[int | None], bytes | None]:
        segments = segments_of(folder)
        head = None
        with suppress(FileNotFoundError):
            head = (folder / HEAD_FILE).read_bytes()[: LONGEST_LINE + 1]
        sizes = [
            None if segment.is_compressed else segment.path.stat().st_size for segment in segments
        ]
        return segments, sizes, head

    # A copy has no lock, as a rule, and nobody writes there.
    if not os.access(folder / LOCK_FILE, os.W_OK):
        return look()
    with directory_lock(folder):
        return look()


def _head(
    line: bytes | None, seal: RecordDigest, has_segments: bool, verdict: TrailVerification
) -> tuple[Position | None, bool]:
    if line is None:
        if has_segments:
            verdict.add(HEAD_FILE, None, "is gone: whether the end was cut off cannot be told")
        return None, False
    try:
        return decode_head(line, seal)
    except UnknownKeyError:
        raise
    except RecordError as error:
        verdict.add(HEAD_FILE, None, str(error))
        return None, False


def _read_segment(
    reader: SegmentReader,
    size: int | None,
    most: int | None,
    seal: RecordDigest,
    state: _State,
    verdict: TrailVerification,
    checkpoint: Position | None,
    progress: Callable[[int], None],
) -> None:
    segment, number = reader.segment, 0
    try:
        for number, line in enumerate(reader.lines(size), 1):
            place = f"{segment.path.name}:{number}"
            is_record = _read_line(line, place, segment, number == 1, seal, state, verdict)
            if not is_record:
                if len(line) > LONGEST_LINE:
                    return
                continue
            if checkpoint is not None and state.position == checkpoint:
                state.met_checkpoint = True
            if verdict.records % 1_000 == 0:
                progress(verdict.records)
            if number == most:
                return
    except DamagedSegmentError as error:
        verdict.add(f"{segment.path.name}:{number + 1}", state.position.sequence + 1, str(error))
        return
    if number == 0:
        verdict.add(segment.path.name, None, "is empty")


def _read_line(
    line: bytes,
    place: str,
    segment: Segment,
    is_first: bool,
    seal: RecordDigest,
    state: _State,
    verdict: TrailVerification,
) -> bool:
    """Judge a line; whether it is a record that was not changed."""
    expected = state.position.sequence + 1
    if not line.endswith(b"\n"):
        too_long = len(line) > LONGEST_LINE
        text = "is too long" if too_long else "is not finished: a crash, or it was cut off"
        verdict.add(place, expected, text)
        return False
    try:
        record = decode_record(line, seal)
    except UnknownKeyError:
        raise
    except RecordError as error:
        verdict.add(place, expected, str(error))
        # What it says of itself counts for nothing but that the next one must follow it.
        digest = ""
        with suppress(RecordError):
            digest = read_record(line).digest
        state.position = Position(expected, digest)
        return False
    _judge(record.sequence, record.previous, expected, place, state, verdict)
    if is_first and record.sequence != segment.first:
        verdict.add(place, record.sequence, f"the file is named for record {segment.first}")
    if seal.is_keyed and state.is_keyed and not record.is_keyed:
        verdict.add(place, record.sequence, "is without the key, and those before had it")
    state.is_keyed |= record.is_keyed
    verdict.unkeyed += not record.is_keyed
    verdict.first = verdict.first or record.sequence
    verdict.records += 1
    state.position = record.position
    if record.sequence == state.head:
        state.at_head = record.digest
    return True


def _judge(
    sequence: int,
    previous: str,
    expected: int,
    place: str,
    state: _State,
    verdict: TrailVerification,
) -> None:
    if sequence > expected:
        verdict.add(place, expected, f"is missing; the next that is here is {sequence}")
    elif sequence < expected:
        verdict.add(place, sequence, f"stands where {expected} should")
    # A damaged record before says nothing that could be compared with.
    elif state.position.digest and previous != state.position.digest:
        verdict.add(place, sequence, "does not follow the one before: the chain is broken")
