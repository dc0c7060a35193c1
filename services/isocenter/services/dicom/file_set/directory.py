"""Directory of a file-set: records in a tree, as values (PS3.3 F.2, F.3)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Final

from isocenter.engine.dataset.writer import WritableElement
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.file_set.file_ids import FileId
from isocenter.services.dicom.file_set.record_types import PATIENT, SERIES, STUDY

PATIENT_ID: Final = 0x00100020
STUDY_INSTANCE_UID: Final = 0x0020000D
SERIES_INSTANCE_UID: Final = 0x0020000E
#: What tells records of one type apart.
IDENTIFYING: Final = {
    PATIENT: PATIENT_ID,
    STUDY: STUDY_INSTANCE_UID,
    SERIES: SERIES_INSTANCE_UID,
}


class FileSetError(IsocenterError):
    """A file-set or its directory cannot be; the message says why, and the cure."""

    error_code = ErrorCode.FILE_SET


@dataclass(slots=True)
class DirectoryRecord:
    """One directory record, with those below it.

    Attributes:
        keys: tag → (VR, raw value in little endian, or items), groups from 0008 on, and of group
            0004 what is not an attribute of this class.
        file_id: of the file that it references; empty: none.
        sop_class_uid, sop_instance_uid, transfer_syntax_uid: of that file.
        offset: byte of the file at which it was read.
    """

    type: str
    keys: Mapping[int, WritableElement] = field(default_factory=dict)
    file_id: FileId = ()
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    transfer_syntax_uid: str = ""
    children: list[DirectoryRecord] = field(default_factory=list)
    offset: int = 0

    def raw(self, tag: int) -> bytes:
        """The value of a key as it is encoded, without padding; empty where it has none."""
        element = self.keys.get(tag)
        value = element[2] if element is not None else b""
        return bytes(value).strip(b" \0") if isinstance(value, bytes | memoryview) else b""

    def ascii(self, tag: int) -> str:
        """The value of a key without anything but ASCII, such as a UID or a date."""
        return self.raw(tag).decode("ascii", "replace")

    @property
    def identity(self) -> bytes:
        """What tells it apart from others of its type at its place; empty: nothing does."""
        tag = IDENTIFYING.get(self.type)
        if tag is None:
            return self.sop_instance_uid.encode("ascii", "replace")
        # A study record may leave its UID to the reference to a file.
        return self.raw(tag) or self.sop_instance_uid.encode("ascii", "replace")


@dataclass(slots=True)
class Directory:
    """A Basic Directory.

    Attributes:
        sop_instance_uid: of the directory itself.
        descriptor: File ID of a file that describes the file-set for people; empty: none.
        descriptor_character_set: of that file.
    """

    file_set_id: str = ""
    sop_instance_uid: str = ""
    descriptor: FileId = ()
    descriptor_character_set: str = ""
    roots: list[DirectoryRecord] = field(default_factory=list)

    def walk(self) -> Iterator[tuple[tuple[DirectoryRecord, ...], DirectoryRecord]]:
        """Each record, those below it behind it, with those above it."""
        todo: list[tuple[tuple[DirectoryRecord, ...], DirectoryRecord]] = [
            ((), record) for record in reversed(self.roots)
        ]
        while todo:
            above, record = todo.pop()
            yield above, record
            inner = (*above, record)
            todo += [(inner, below) for below in reversed(record.children)]

    def references(self) -> Iterator[tuple[tuple[DirectoryRecord, ...], DirectoryRecord]]:
        """Each record that references a file, with those above it."""
        return ((above, record) for above, record in self.walk() if record.file_id)

    def remove(self, record: DirectoryRecord, above: tuple[DirectoryRecord, ...]) -> None:
        """Take a record out with all below it, and those above it that have nothing left."""
        for parent in reversed(above):
            parent.children.remove(record)
            if parent.children or parent.file_id:
                return
            record = parent
        self.roots.remove(record)


def new_directory(file_set_id: str = "") -> Directory:
    """A directory without records, with a UID of its own."""
    return Directory(file_set_id=file_set_id, sop_instance_uid=f"2.25.{uuid.uuid4().int}")
