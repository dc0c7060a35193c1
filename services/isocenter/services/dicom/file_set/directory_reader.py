"""Reader of DICOMDIR files (PS3.3 F.2.2): records by offset, or else by order.

What is wrong with the links is said, and what they do not reach is found all the same: records
stand in the order of the tree in nearly every file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import IO, Final

from isocenter.engine.dataset import DataSetError, encoding_of, read_data_set
from isocenter.engine.dataset.reader import Element, Fragments
from isocenter.engine.dataset.vr import Encoding
from isocenter.engine.dataset.walker import END, ITEM, SEQUENCE, Tolerance, walk
from isocenter.engine.dataset.writer import WritableElement
from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import Limits
from isocenter.services.dicom.data_dictionary import DICTIONARY_SEQUENCES, dictionary_vr
from isocenter.services.dicom.data_set_file import DataSetFile, open_data_set
from isocenter.services.dicom.file_set.directory import Directory, DirectoryRecord, FileSetError
from isocenter.services.dicom.file_set.directory_writer import (
    CONSISTENCY_FLAG,
    DESCRIPTOR_CHARACTER_SET,
    DESCRIPTOR_FILE_ID,
    FILE_ID,
    FILE_SET_ID,
    FIRST_RECORD,
    IN_USE_FLAG,
    LAST_RECORD,
    LOWER_RECORD,
    MADE,
    NEXT_RECORD,
    RECORD_TYPE,
    RECORDS,
    SOP_CLASS_IN_FILE,
    SOP_INSTANCE_IN_FILE,
    TRANSFER_SYNTAX_IN_FILE,
)
from isocenter.services.dicom.file_set.file_ids import FileId
from isocenter.services.dicom.file_set.record_types import (
    MRDR,
    PATIENT,
    RECORD_TYPES,
    SERIES,
    STUDY,
)
from isocenter.services.dicom.uid_registry import MEDIA_STORAGE_DIRECTORY

#: Records of one directory: some three of the largest discs.
MAX_RECORDS: Final = 500_000
#: Of one record, an icon included.
_LIMITS: Final = Limits(identifier=4 << 20)
#: Retired: where the record lies that references the file (PS3.3-2004).
_MRDR_OFFSET: Final = 0x00041504
_DEPTH: Final = {PATIENT: 0, STUDY: 1, SERIES: 2}
_INACTIVE: Final = b"\0\0"
#: Findings that are named.
_MOST_FINDINGS: Final = 1_000


@dataclass(slots=True)
class ReadDirectory:
    """A directory, and what is wrong with it.

    Attributes:
        findings: a line each; no attribute values of patients.
        inactive: records that say they are not in use any more.
    """

    directory: Directory
    findings: list[str] = field(default_factory=list)
    inactive: int = 0

    def find(self, text: str) -> None:
        """One more finding."""
        if len(self.findings) < _MOST_FINDINGS:
            self.findings.append(text)


@dataclass(slots=True)
class _Found:
    """A record as it lies in the file."""

    record: DirectoryRecord
    following: int
    lower: int
    is_active: bool
    mrdr: int


def read_directory(file: IO[bytes]) -> ReadDirectory:
    """The directory of an open DICOMDIR file.

    Raises:
        NotDicomError: it is no DICOM.
        FileSetError: it is no DICOMDIR, or of no use.
        DataSetError: it cannot be read.
    """
    with open_data_set(file, tolerance=Tolerance.SALVAGE) as data_set:
        meta = data_set.head.meta
        sop_class = meta.media_storage_sop_class_uid if meta else ""
        top, places = _top(data_set)
        if RECORDS not in top and sop_class != MEDIA_STORAGE_DIRECTORY:
            raise FileSetError("is no DICOMDIR: it has no directory records")
        directory = Directory(
            file_set_id=_text(top.get(FILE_SET_ID)),
            sop_instance_uid=meta.media_storage_sop_instance_uid if meta else "",
            descriptor=_file_id(top.get(DESCRIPTOR_FILE_ID)),
            descriptor_character_set=_text(top.get(DESCRIPTOR_CHARACTER_SET)),
        )
        read = ReadDirectory(directory)
        for what in data_set.forgiven:
            read.find(what)
        if sop_class != MEDIA_STORAGE_DIRECTORY:
            read.find("the File Meta Information does not say that it is a DICOMDIR")
        big = data_set.encoding.big_endian
        if _number(top.get(CONSISTENCY_FLAG), big):
            read.find("it says of itself that it is inconsistent (0004,1212)")
        found = _records(data_set, places, read)
        _link(found, _number(top.get(FIRST_RECORD), big), read)
        last = _number(top.get(LAST_RECORD), big)
        roots = directory.roots
        if roots and last != roots[-1].offset:
            read.find(f"the last record of the root is not at byte {last}, as (0004,1202) says")
        return read


def _top(data_set: DataSetFile) -> tuple[dict[int, bytes], list[tuple[int, int, int]]]:
    """Elements of the directory itself, and where records lie: header, payload, end."""
    data, offset = data_set.data, data_set.head.data_set_offset
    top: dict[int, bytes] = {}
    places: list[tuple[int, int, int]] = []
    depth = 0
    tags: list[int] = []
    walked = walk(
        data, data_set.encoding, sequences={RECORDS}, forgiven=data_set.forgiven,
        tolerance=Tolerance.SALVAGE,
    )  # fmt: skip
    start = 0
    for kind, tag, _, value, end, _ in walked:
        if kind == SEQUENCE:
            tags.append(tag)
            if depth == 0 and tag == RECORDS:
                top[tag] = b""
            depth += 1
        elif kind == ITEM:
            if depth == 1 and tags[0] == RECORDS:
                start = value
                if len(places) >= MAX_RECORDS:
                    raise FileSetError(f"has more than {MAX_RECORDS} records")
            depth += 1
        elif kind == END:
            depth -= 1
            if depth == 1 and tags and tags[0] == RECORDS:
                places.append((start - 8 + offset, start, value))
            elif depth == 0:
                tags.clear()
            elif depth % 2 == 0 and tags:
                tags.pop()
        elif depth == 0:
            top.setdefault(tag, bytes(data[value : min(end, value + 1024)]))
    return top, places


def _records(
    data_set: DataSetFile, places: list[tuple[int, int, int]], read: ReadDirectory
) -> dict[int, _Found]:
    found: dict[int, _Found] = {}
    encoding = data_set.encoding
    if encoding.deflated:
        encoding = encoding_of("1.2.840.10008.1.2.1")
    for header, start, end in places:
        try:
            elements = read_data_set(
                data_set.data[start:end], encoding, _LIMITS, DICTIONARY_SEQUENCES
            )
        except DataSetError as error:
            read.find(f"the record at byte {header} cannot be read: {error.fault}")
            continue
        one = _record(elements, header, encoding)
        if one.record.type:
            found[header] = one
        else:
            read.find(f"the record at byte {header} says no type, and is left out")
    return found


def _record(elements: Mapping[int, Element], offset: int, encoding: Encoding) -> _Found:
    big = encoding.big_endian

    def raw(tag: int) -> bytes:
        element = elements.get(tag)
        return element.value if element and isinstance(element.value, bytes) else b""

    record = DirectoryRecord(
        type=_text(raw(RECORD_TYPE)),
        keys={
            tag: _writable(element)
            for tag, element in elements.items()
            if tag not in MADE and tag & 0xFFFF
        },
        file_id=_file_id(raw(FILE_ID)),
        sop_class_uid=_text(raw(SOP_CLASS_IN_FILE)),
        sop_instance_uid=_text(raw(SOP_INSTANCE_IN_FILE)),
        transfer_syntax_uid=_text(raw(TRANSFER_SYNTAX_IN_FILE)),
        offset=offset,
    )
    return _Found(
        record,
        following=_number(raw(NEXT_RECORD), big),
        lower=_number(raw(LOWER_RECORD), big),
        is_active=raw(IN_USE_FLAG) != _INACTIVE,
        mrdr=_number(raw(_MRDR_OFFSET), big),
    )


def _writable(element: Element) -> WritableElement:
    tag, vr, value = element
    if isinstance(value, bytes | Fragments):
        return tag, vr or dictionary_vr(tag), value
    return tag, "SQ", [[_writable(one) for one in item.values()] for item in value]


def _link(found: Mapping[int, _Found], first: int, read: ReadDirectory) -> None:
    """Put records where their offsets say, and those that none says where their order does."""
    reached: set[int] = set()
    todo: list[tuple[DirectoryRecord | None, int, str]] = [(None, first, "(0004,1200)")]
    while todo:
        parent, offset, who = todo.pop()
        for at in _siblings(found, offset, who, reached, read):
            one = found[at]
            if not one.is_active:
                read.inactive += 1
                continue
            if one.record.type == MRDR:
                continue
            _place(read.directory, parent, one.record)
            if one.lower:
                todo.append((one.record, one.lower, f"the record at byte {at}"))
    for one in found.values():
        if one.mrdr in found and not one.record.file_id:
            other = found[one.mrdr].record
            one.record.file_id = other.file_id
            one.record.sop_class_uid = other.sop_class_uid
            one.record.sop_instance_uid = other.sop_instance_uid
            one.record.transfer_syntax_uid = other.transfer_syntax_uid
    _adopt(found, reached, read)


def _siblings(
    found: Mapping[int, _Found], offset: int, who: str, reached: set[int], read: ReadDirectory
) -> Iterator[int]:
    while offset:
        if offset not in found:
            read.find(f"{who} links to byte {offset}, where no record is")
            return
        if offset in reached:
            read.find(f"{who} links to the record at byte {offset}, as another one does")
            return
        reached.add(offset)
        yield offset
        who = f"the record at byte {offset}"
        offset = found[offset].following


def _place(directory: Directory, parent: DirectoryRecord | None, record: DirectoryRecord) -> None:
    (directory.roots if parent is None else parent.children).append(record)


def _adopt(found: Mapping[int, _Found], reached: set[int], read: ReadDirectory) -> None:
    """Place what no link leads to, behind the records before it."""
    open_: list[tuple[int, DirectoryRecord]] = []
    for at, one in sorted(found.items()):
        record = one.record
        depth = _DEPTH.get(record.type, 3)
        known = RECORD_TYPES.get(record.type)
        while open_ and open_[-1][0] >= depth:
            open_.pop()
        if at not in reached and one.is_active and record.type != MRDR:
            read.find(f"no link leads to the {record.type} record at byte {at}")
            is_root = record.type == PATIENT or (known is not None and known.is_root)
            if is_root or (open_ and open_[-1][0] == depth - 1):
                _place(read.directory, None if is_root else open_[-1][1], record)
            else:
                read.find(f"the record at byte {at} belongs nowhere, and is left out")
        if depth < 3 and one.is_active:
            open_.append((depth, record))


def _number(value: bytes | None, big_endian: bool) -> int:
    return int.from_bytes((value or b"")[:4], "big" if big_endian else "little")


def _text(value: bytes | None) -> str:
    return (value or b"").decode("ascii", "replace").strip(" \0")


def _file_id(value: bytes | None) -> FileId:
    text = _text(value)
    return tuple(part.strip() for part in text.split("\\")) if text else ()
