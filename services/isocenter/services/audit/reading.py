"""Records in their order, from any place on: for showing, following and sending them.

Nothing is checked here; `verifying` does that.  A line that is no record is passed over.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import orjson

from isocenter.services.audit.chain import LONGEST_LINE, Record, RecordError, read_record
from isocenter.services.audit.trail import segments_of

_BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a trail: behind *sequence*, at a byte of the file that *first* names."""

    first: int = 0
    offset: int = 0
    sequence: int = 0


def read_on(
    folder: Path, cursor: Cursor, *, upto: int | None = None, most: int = _BATCH
) -> tuple[list[Record], Cursor]:
    """The next records behind *cursor*, at most *most*, and the place behind them.

    Args:
        upto: number of the last record that may be read; None: what is there.

    Raises:
        OSError: a file cannot be read.
    """
    records: list[Record] = []
    for segment in segments_of(folder):
        if segment.first < cursor.first:
            continue
        offset = cursor.offset if segment.first == cursor.first else 0
        with segment.path.open("rb") as file:
            file.seek(offset)
            while len(records) < most:
                line = file.readline(LONGEST_LINE + 1)
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
        if len(records) >= most:
            break
    return records, cursor


def read_all(folder: Path) -> Iterator[Record]:
    """Every record there is now."""
    cursor = Cursor()
    while True:
        records, cursor = read_on(folder, cursor)
        if not records:
            return
        yield from records


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
    """

    since: datetime | None = None
    until: datetime | None = None
    event: str = ""
    ae_title: str = ""

    def admits(self, record: Record) -> bool:
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
    """What the message of *record* says, in short; nothing of a message that is not XML.

    Our own messages have no document type, so that nothing in them expands.
    """
    if "<!" in record.entry.message:
        return Summary((), (), "not a message of ours")
    try:
        root = ET.fromstring(record.entry.message)  # noqa: S314 - no document type, see above
    except ET.ParseError:
        return Summary((), (), "not XML")
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


def _participant(element: ET.Element) -> str:
    name = element.get("AlternativeUserID", "").removeprefix("AETITLES=")
    name = name or element.get("UserID", "")
    where = element.get("NetworkAccessPointID", "")
    return name if not where or name.endswith(where) else f"{name}@{where}"


def _object(element: ET.Element) -> str:
    text = element.get("ParticipantObjectID", "")
    counts = [int(each.get("NumberOfInstances", "0")) for each in element.iter("SOPClass")]
    if counts:
        text += f" ({sum(counts)} instances)"
    for detail in element.iter("ParticipantObjectDetail"):
        if detail.get("type") in {"Alert Description", "NumberOfMatches"}:
            value = base64.b64decode(detail.get("value", "")).decode("utf-8", "replace")
            text += (
                f" ({value} matches)" if detail.get("type") == "NumberOfMatches" else f": {value}"
            )
    return text
