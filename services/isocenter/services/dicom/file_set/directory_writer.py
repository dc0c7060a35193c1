"""Encoding of a directory, with the offsets that link its records (PS3.3 F.2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from struct import Struct
from typing import Final

from isocenter.engine.dataset import EXPLICIT_LITTLE, write_data_set, write_file_meta
from isocenter.engine.dataset.writer import WritableElement
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.file_set.directory import Directory, DirectoryRecord, FileSetError
from isocenter.services.dicom.file_set.file_ids import file_id_text
from isocenter.services.dicom.uid_registry import MEDIA_STORAGE_DIRECTORY

FILE_SET_ID: Final = 0x00041130
DESCRIPTOR_FILE_ID: Final = 0x00041141
DESCRIPTOR_CHARACTER_SET: Final = 0x00041142
FIRST_RECORD: Final = 0x00041200
LAST_RECORD: Final = 0x00041202
CONSISTENCY_FLAG: Final = 0x00041212
RECORDS: Final = 0x00041220
NEXT_RECORD: Final = 0x00041400
IN_USE_FLAG: Final = 0x00041410
LOWER_RECORD: Final = 0x00041420
RECORD_TYPE: Final = 0x00041430
FILE_ID: Final = 0x00041500
SOP_CLASS_IN_FILE: Final = 0x00041510
SOP_INSTANCE_IN_FILE: Final = 0x00041511
TRANSFER_SYNTAX_IN_FILE: Final = 0x00041512
#: Elements that are made here.
MADE: Final = frozenset(
    (
        NEXT_RECORD, IN_USE_FLAG, LOWER_RECORD, RECORD_TYPE, FILE_ID, SOP_CLASS_IN_FILE,
        SOP_INSTANCE_IN_FILE, TRANSFER_SYNTAX_IN_FILE,
    )
)  # fmt: skip

_ITEM: Final = Struct("<HHI")
_SEQUENCE: Final = Struct("<HH2sHI")
_IN_USE: Final = b"\xff\xff"
_UL: Final = Struct("<I")
_MOST: Final = 0xFFFFFFFE


def encode_directory(directory: Directory) -> bytes:
    """The DICOMDIR file.

    Raises:
        FileSetError: it would be too long for its offsets.
    """
    meta = write_file_meta(
        MEDIA_STORAGE_DIRECTORY, directory.sop_instance_uid, EXPLICIT_VR_LITTLE_ENDIAN
    )
    records = [record for _, record in directory.walk()]
    # An offset is as long, whatever it is: the first round tells where each record comes to lie.
    places: dict[int, int] = {}
    first = _header(directory, 0, 0)
    at = len(meta) + len(first) + _SEQUENCE.size
    for record in records:
        places[id(record)] = at
        at += _ITEM.size + len(_payload(record, 0, 0))
    if at > _MOST:
        raise FileSetError("the directory is longer than 4 GiB; make several file-sets")
    following = _following(directory)
    pieces = []
    for record in records:
        lower = places[id(record.children[0])] if record.children else 0
        behind = following.get(id(record))
        payload = _payload(record, 0 if behind is None else places[id(behind)], lower)
        pieces += [_ITEM.pack(0xFFFE, 0xE000, len(payload)), payload]
    value = b"".join(pieces)
    roots = directory.roots
    header = _header(
        directory, places[id(roots[0])] if roots else 0, places[id(roots[-1])] if roots else 0
    )
    sequence = _SEQUENCE.pack(RECORDS >> 16, RECORDS & 0xFFFF, b"SQ", 0, len(value))
    return meta + header + sequence + value


def _header(directory: Directory, first: int, last: int) -> bytes:
    elements: list[WritableElement] = [(FILE_SET_ID, "CS", directory.file_set_id.encode("ascii"))]
    if directory.descriptor:
        name = file_id_text(directory.descriptor).encode("ascii")
        elements.append((DESCRIPTOR_FILE_ID, "CS", name))
        if directory.descriptor_character_set:
            term = directory.descriptor_character_set.encode("ascii")
            elements.append((DESCRIPTOR_CHARACTER_SET, "CS", term))
    elements += [
        (FIRST_RECORD, "UL", _UL.pack(first)),
        (LAST_RECORD, "UL", _UL.pack(last)),
        (CONSISTENCY_FLAG, "US", b"\0\0"),
    ]
    return write_data_set(elements, EXPLICIT_LITTLE)


def _following(directory: Directory) -> dict[int, DirectoryRecord]:
    """By the identity of a record, the next one at its place."""
    found: dict[int, DirectoryRecord] = {}

    def note(siblings: Sequence[DirectoryRecord]) -> None:
        for one, other in pairwise(siblings):
            found[id(one)] = other

    note(directory.roots)
    for _, record in directory.walk():
        note(record.children)
    return found


def _payload(record: DirectoryRecord, following: int, lower: int) -> bytes:
    elements: dict[int, WritableElement] = {
        NEXT_RECORD: (NEXT_RECORD, "UL", _UL.pack(following)),
        IN_USE_FLAG: (IN_USE_FLAG, "US", _IN_USE),
        LOWER_RECORD: (LOWER_RECORD, "UL", _UL.pack(lower)),
        RECORD_TYPE: (RECORD_TYPE, "CS", record.type.encode("ascii")),
    }
    if record.file_id:
        for tag, vr, text in (
            (FILE_ID, "CS", file_id_text(record.file_id)),
            (SOP_CLASS_IN_FILE, "UI", record.sop_class_uid),
            (SOP_INSTANCE_IN_FILE, "UI", record.sop_instance_uid),
            (TRANSFER_SYNTAX_IN_FILE, "UI", record.transfer_syntax_uid),
        ):
            elements[tag] = (tag, vr, text.encode("ascii", "replace"))
    for tag, element in record.keys.items():
        elements.setdefault(tag, element)
    return write_data_set([elements[tag] for tag in sorted(elements)], EXPLICIT_LITTLE)
