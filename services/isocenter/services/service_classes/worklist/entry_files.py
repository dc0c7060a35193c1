"""Worklist entries from files: JSON, DICOM, and text dumps as of DCMTK.

What a file is shows in how it begins, not in its name:

- JSON: an object as `isocenter.services.service_classes.worklist.order_fields` has it, a list of
  them, ``{"data": […]}``, or an object on each line; objects of the DICOM JSON model (PS3.18 Annex
  F) likewise;
- DICOM: a Part 10 file, or a data set alone, is one entry (``*.wl`` of DCMTK's ``wlmscpfs``);
- a text dump (`isocenter.services.dicom.text_dump`) is one entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import orjson

from isocenter.engine.dataset import DataSetError, NotDicomError, read_file_head
from isocenter.services.dicom.attribute_list import AttributeList, text_of
from isocenter.services.dicom.text_dump import DumpSyntaxError, is_dump, read_dump
from isocenter.services.service_classes.worklist.entry import (
    Entry,
    EntryKey,
    EntryState,
    InvalidEntryError,
    parse_entry,
)
from isocenter.services.service_classes.worklist.order_fields import entry_of_fields
from isocenter.services.service_classes.worklist.query_keys import SCHEDULED_STEPS, STEP_STATUS

#: One file: the orders of a hospital for weeks.
MOST_BYTES: Final = 16 << 20
MOST_ENTRIES: Final = 10_000

_UTF_8_MARK: Final = b"\xef\xbb\xbf"
#: The names of an object of the DICOM JSON model.
_JSON_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)
_DATA: Final = "data"

_Read = tuple[Entry, EntryState]


def read_entries(path: Path, place_prefix: str) -> list[tuple[Entry, EntryState]]:
    """All entries of a file, each with its state; `EntryState.SCHEDULED` where it has none.

    Args:
        place_prefix: how messages call the file.

    Raises:
        InvalidEntryError: the file is none of these, one entry is wrong, or two have the same
            Scheduled Procedure Step ID and Accession Number; then none of it counts.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    return entries_in(content, place_prefix)


def entries_in(content: bytes, place_prefix: str) -> list[tuple[Entry, EntryState]]:
    """As `read_entries`, of what a file holds."""
    if len(content) > MOST_BYTES:
        raise InvalidEntryError(f"{place_prefix}: longer than {MOST_BYTES} bytes")
    text = content.removeprefix(_UTF_8_MARK)
    found: list[_Read] = []
    places: dict[EntryKey, str] = {}
    for place, read in _read(content, text, place_prefix):
        other = places.setdefault(read[0].key, place)
        if other != place:
            raise InvalidEntryError(
                f"{place}: (0040,0009) Scheduled Procedure Step ID and (0008,0050) Accession "
                f"Number are those of {other}",
                0x00400009,
            )
        found.append(read)
    return found


def _read(content: bytes, text: bytes, place: str) -> Iterator[tuple[str, _Read]]:
    if is_dump(text):
        try:
            attributes = read_dump(text, place)
        except DumpSyntaxError as error:
            raise InvalidEntryError(str(error), error.tag) from error
        yield place, _entry(attributes, place)
    elif text.lstrip()[:1] in (b"{", b"["):
        for of_one, value in _json_objects(text, place):
            yield of_one, _entry_of_json(value, of_one)
    else:
        yield place, _entry(_dicom(content, place), place)


def _entry(attributes: AttributeList, place: str) -> _Read:
    """The entry, in the state that (0040,0020) says; it has more terms than there are states."""
    state = EntryState.SCHEDULED
    for step in attributes.items(SCHEDULED_STEPS)[:1]:
        said = text_of(step, STEP_STATUS)
        state = next((each for each in EntryState if each.value == said), state)
    return parse_entry(attributes, place), state


# -- JSON --------------------------------------------------------------------------------


def _json_objects(text: bytes, place: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Place and object of each entry."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        lines = [line for line in text.splitlines() if line.strip()][: MOST_ENTRIES + 1]
        if len(lines) == 1 or not _is_json_object(lines[0]):
            where = f"line {error.lineno}, column {error.colno}"
            raise InvalidEntryError(f"{place}: no JSON, at {where}") from None
        yield from _json_lines(text, place)
        return
    if isinstance(value, dict) and isinstance(value.get(_DATA), list):
        value = value[_DATA]
    if isinstance(value, dict):
        yield place, value
        return
    if len(value) > MOST_ENTRIES:
        raise InvalidEntryError(f"{place}: more than {MOST_ENTRIES} entries")
    for number, each in enumerate(value, 1):
        of_one = f"{place}, entry {number}"
        if not isinstance(each, dict):
            raise InvalidEntryError(f"{of_one} is no JSON object")
        yield of_one, each


def _is_json_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def _json_lines(text: bytes, place: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    count = 0
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        count += 1
        if count > MOST_ENTRIES:
            raise InvalidEntryError(f"{place}: more than {MOST_ENTRIES} entries")
        of_one = f"{place}, line {number}"
        if not _is_json_object(line):
            raise InvalidEntryError(f"{of_one} is no JSON object")
        yield of_one, orjson.loads(line)


def _entry_of_json(value: Mapping[str, object], place: str) -> _Read:
    if not value or not all(_JSON_TAG.fullmatch(name) for name in value):
        return entry_of_fields(value, place)
    from pydicom import Dataset

    try:
        dataset = Dataset.from_json(dict(value))
        attributes = AttributeList.from_dataset(dataset)
    except Exception as error:
        # pydicom raises whatever its parts do; to the user it is one fault.
        raise InvalidEntryError(
            f"{place}: not the DICOM JSON model of PS3.18 Annex F ({type(error).__name__})"
        ) from error
    return _entry(attributes, place)


# -- DICOM -------------------------------------------------------------------------------


def _dicom(content: bytes, place: str) -> AttributeList:
    try:
        head = read_file_head(content)
        rest = memoryview(content)[head.data_set_offset :]
        return AttributeList.read(rest, head.transfer_syntax_uid)
    except NotDicomError:
        raise InvalidEntryError(
            f"{place}: neither JSON nor DICOM nor a text dump; an entry begins with {{, "
            "a dump with (gggg,eeee)"
        ) from None
    except DataSetError as error:
        raise InvalidEntryError(f"{place}: {error}") from error
