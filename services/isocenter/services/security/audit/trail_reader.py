"""Records in their order, from any place on: for showing, following and sending them.

Nothing is checked here; `verifying` does that.  A line that is no record is passed over, and so is
what cannot be decompressed.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import field
from datetime import datetime
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import orjson

from isocenter.engine.fast_init import dataclass
from isocenter.services.notices import Caller, WingNotice
from isocenter.services.security.audit.hash_chain import Record, RecordError, read_record
from isocenter.services.security.audit.trail_segments import (
    DamagedSegmentError,
    Segment,
    SegmentReader,
    segments_of,
)

_BATCH: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailRead(WingNotice):
    """Somebody reads a trail, on the pages."""

    trail: Path
    caller: Caller


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a trail: behind *sequence*, at a byte of the file that *first* names."""

    first: int = 0
    offset: int = 0
    sequence: int = 0


class TrailReader:
    """Reads a trail on, from any place; for one thread at a time.

    A compressed file stays open between two calls: to go to a place in it is to read up to there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: SegmentReader | None = None

    def read_on(
        self, cursor: Cursor, *, upto: int | None = None, most: int = _BATCH
    ) -> tuple[list[Record], Cursor]:
        """The next records behind *cursor*, at most *most*, and the place behind them.

        Args:
            upto: number of the last record that may be read; None: what is there.

        Raises:
            OSError: a file cannot be read.
        """
        records: list[Record] = []
        for segment in segments_of(self._folder):
            if segment.first < cursor.first:
                continue
            offset = cursor.offset if segment.first == cursor.first else 0
            try:
                with self._reader(segment) as reader:
                    reader.seek(offset)
                    while len(records) < most:
                        line = reader.line()
                        if not line.endswith(b"\n"):
                            break
                        offset += len(line)
                        try:
                            record = read_record(line)
                        except RecordError:
                            continue
                        if upto is not None and record.sequence > upto:
                            return records, cursor
                        records.append(record)
                        cursor = Cursor(segment.first, offset, record.sequence)
            except FileNotFoundError:
                continue  # removed just now
            except DamagedSegmentError:
                self.close()
            if len(records) >= most:
                break
        return records, cursor

    @contextmanager
    def _reader(self, segment: Segment) -> Iterator[SegmentReader]:
        """The last file is opened anew each time: somebody may have mended it."""
        if self._open is not None and self._open.segment.first == segment.first:
            yield self._open
            return
        self.close()
        reader = SegmentReader(segment)
        if reader.segment.is_compressed:
            self._open = reader
            yield reader
        else:
            with reader:
                yield reader

    def close(self) -> None:
        """Give back what is open; reading on opens it again."""
        if self._open is not None:
            self._open.close()
            self._open = None


def read_all(folder: Path) -> Iterator[Record]:
    """Every record there is now."""
    cursor = Cursor()
    with closing(TrailReader(folder)) as reader:
        while True:
            records, cursor = reader.read_on(cursor)
            if not records:
                return
            yield from records


def latest(
    folder: Path, selection: Selection, limit: int, *, before: int | None = None
) -> list[Record]:
    """The latest records that are wanted, the last one first; at most *limit*.

    Files are read from the last one back, as far as it takes.

    Args:
        before: number of the first record that is not wanted any more; None: all are.

    Raises:
        OSError: a file cannot be read.
    """
    found: list[Record] = []
    end = None if before is None else before - 1
    with closing(TrailReader(folder)) as reader:
        for segment in reversed(segments_of(folder)):
            if end is not None and segment.first > end:
                continue
            wanted: deque[Record] = deque(maxlen=limit - len(found))
            cursor = Cursor(segment.first)
            first: Record | None = None
            while True:
                records, cursor = reader.read_on(cursor, upto=end)
                if not records:
                    break
                first = first or records[0]
                wanted.extend(filter(selection.admits, records))
            found += reversed(wanted)
            if len(found) >= limit or (first is not None and selection.begins_after(first)):
                break
            end = segment.first - 1
    return found


def head_sequence(line: bytes) -> int:
    """Number of the last record that is on stable storage; 0 where the head cannot be read."""
    try:
        value = orjson.loads(line)["head"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return 0
    return value if isinstance(value, int) else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which records are wanted; what is None or empty admits all.

    Attributes:
        event: a code, or a part of a Code Meaning, of event or type.
        outcome: an Event Outcome Indicator: ``0``, ``4`` …
        user: a User ID, or AE title, of a participant.
        study_uid: of a study whose objects came, were sent or deleted.
        patient_id: whose objects came, were sent or deleted; or that a query asked for.
    """

    since: datetime | None = None
    until: datetime | None = None
    event: str = ""
    ae_title: str = ""
    outcome: str = ""
    user: str = ""
    study_uid: str = ""
    patient_id: str = field(default="", repr=False)

    def admits(self, record: Record) -> bool:
        """Whether a record is wanted; its message is looked into last, which takes longest."""
        message = record.entry.message
        return (
            self._admits(record)
            and (not self.outcome or record.entry.outcome == self.outcome)
            and (not self.user or _names_user(message, self.user))
            and (not self.study_uid or _names_object(message, self.study_uid))
            and (not self.patient_id or _is_about(message, self.patient_id))
        )

    def begins_after(self, record: Record) -> bool:
        """Whether *record*, and so each before it, is too old."""
        try:
            return self.since is not None and datetime.fromisoformat(record.entry.time) < self.since
        except ValueError:
            return False

    def _admits(self, record: Record) -> bool:
        entry = record.entry
        if self.ae_title and self.ae_title not in entry.ae_titles:
            return False
        if self.event:
            wanted = self.event.lower()
            is_code = wanted.isdecimal() and f'csd-code="{wanted}"' in entry.message
            if not is_code and wanted not in f"{entry.event}\n{entry.type}".lower():
                return False
        if self.since is None and self.until is None:
            return True
        try:
            time = datetime.fromisoformat(entry.time)
        except ValueError:
            return False
        return not (
            (self.since is not None and time < self.since)
            or (self.until is not None and time >= self.until)
        )


def _names_user(message: str, user: str) -> bool:
    """Whether somebody of that name took part."""
    root = _parsed(message)
    return root is not None and any(
        user in (each.get("UserID"), each.get("AlternativeUserID", "").removeprefix("AETITLES="))
        for each in root.iter("ActiveParticipant")
    )


def _names_object(message: str, uid: str) -> bool:
    """Whether it happened to what has that ID."""
    if uid not in message:
        return False
    root = _parsed(message)
    return root is not None and any(
        each.get("ParticipantObjectID") == uid
        for each in root.iter("ParticipantObjectIdentification")
    )


def _is_about(message: str, patient_id: str) -> bool:
    """Whether a message names the patient, or is of a query for this Patient ID."""
    wanted = patient_id.strip()
    root = _parsed(message)
    if root is None:
        return False
    for each in root.iter("ParticipantObjectIdentification"):
        if each.get("ParticipantObjectTypeCodeRole") == _PATIENT_ROLE:
            if each.get("ParticipantObjectID", "").strip() == wanted:
                return True
        elif (query := each.findtext("ParticipantObjectQuery")) is not None:
            syntax = next(
                (
                    _decoded(detail).decode("ascii", "replace")
                    for detail in each.iter("ParticipantObjectDetail")
                    if detail.get("type") == "TransferSyntax"
                ),
                "",
            )
            if wanted in _asked_patients(query, syntax):
                return True
    return False


def _asked_patients(query: str, transfer_syntax_uid: str) -> frozenset[str]:
    """Patient IDs that an identifier asks for; none of one that cannot be read, or is cut."""
    # Reads slowly and is needed seldom.
    from isocenter.engine.dataset import DataSetError
    from isocenter.services.dicom.pydicom_datasets import read_identifier

    try:
        identifier = read_identifier(base64.b64decode(query), transfer_syntax_uid)
        values = str(identifier.get("PatientID") or "")
    except (DataSetError, ValueError, KeyError):
        return frozenset()
    return frozenset(value.strip() for value in values.split("\\") if value.strip())


@dataclass(frozen=True, slots=True)
class Summary:
    """What a line about a record says, without patients.

    Attributes:
        participants: user ID, and where it was, of each.
        objects: studies with their number of instances, SOP classes that were asked, alerts.
    """

    participants: tuple[str, ...]
    objects: tuple[str, ...]
    description: str


_PATIENT_ROLE: Final = "1"


def summarize(record: Record) -> Summary:
    """What the message of *record* says, in short; nothing of a message that is not XML."""
    root = _parsed(record.entry.message)
    if root is None:
        return Summary((), (), "not a message of ours")
    participants = [_participant(each) for each in root.iter("ActiveParticipant")]
    objects = [
        _object(each)
        for each in root.iter("ParticipantObjectIdentification")
        if each.get("ParticipantObjectTypeCodeRole") != _PATIENT_ROLE
    ]
    return Summary(
        tuple(dict.fromkeys(participants)),
        tuple(objects),
        root.findtext("EventIdentification/EventOutcomeDescription", ""),
    )


def _parsed(message: str) -> ET.Element | None:
    """A message as XML; None: it is none of ours.

    Ours have no document type, so that nothing in them expands.
    """
    if "<!" in message:
        return None
    try:
        return ET.fromstring(message)  # noqa: S314 - no document type, see above
    except ET.ParseError:
        return None


def _decoded(detail: ET.Element) -> bytes:
    return base64.b64decode(detail.get("value", ""))


def _participant(element: ET.Element) -> str:
    name = element.get("AlternativeUserID", "").removeprefix("AETITLES=")
    name = name or element.get("UserID", "")
    where = element.get("NetworkAccessPointID", "")
    return name if not where or name.endswith(where) else f"{name}@{where}"


def _object(element: ET.Element) -> str:
    text = element.get("ParticipantObjectID", "")
    counts = [int(each.get("NumberOfInstances", "0")) for each in element.iter("SOPClass")]
    if counts:
        count = sum(counts)
        text += f" ({count} {'instance' if count == 1 else 'instances'})"
    for detail in element.iter("ParticipantObjectDetail"):
        if detail.get("type") in {"Alert Description", "NumberOfMatches", "Reason"}:
            value = _decoded(detail).decode("utf-8", "replace")
            text += (
                f" ({value} matches)" if detail.get("type") == "NumberOfMatches" else f": {value}"
            )
    return text
