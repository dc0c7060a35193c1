"""Building of a directory, object by object."""

from __future__ import annotations

from dataclasses import field
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import is_safe_uid
from isocenter.services.dicom.file_set.directory import (
    Directory,
    DirectoryRecord,
    FileSetError,
)
from isocenter.services.dicom.file_set.file_ids import FileId, fault_of, file_id_text, numbered
from isocenter.services.dicom.file_set.record_building import (
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    RecordScan,
    build_records,
)
from isocenter.services.dicom.file_set.record_types import PATIENT, RECORD_TYPES, STUDY

_PATIENT_NAME: Final = 0x00100010
#: Where files go that get their names here.
_TOP: Final = ("DICOM",)


@dataclass(slots=True)
class Additions:
    """What came of adding objects.

    Attributes:
        invented: keyword → objects for which a value was made up.
        other_names: objects that name their patient otherwise than the directory does.
        other_patients: objects of a study that the directory has with another patient.
    """

    added: int = 0
    invented: dict[str, int] = field(default_factory=dict)
    other_names: int = 0
    other_patients: int = 0


class DirectoryBuilder:
    """Adds objects to a directory.

    Args:
        is_strict: see `build_records`.
    """

    def __init__(self, directory: Directory, *, is_strict: bool = False) -> None:
        self.directory = directory
        self.additions = Additions()
        self._is_strict = is_strict
        #: (place, type, identity) → record; the place is that of the record above.
        self._known: dict[tuple[int, str, bytes], DirectoryRecord] = {}
        #: Study Instance UID → its record, and the patient's.
        self._studies: dict[bytes, tuple[DirectoryRecord, DirectoryRecord]] = {}
        self._instances: set[str] = set()
        self._file_ids: set[FileId] = set()
        #: File IDs, and folders of them; nothing new gets their names.
        self._taken: set[FileId] = set()
        #: By the identity of a record, the folder of new files below it, and its last number.
        self._folders: dict[int, FileId] = {}
        self._numbers: dict[FileId, int] = {}
        for above, record in directory.walk():
            self._note(above[-1] if above else None, record)
            if record.file_id:
                self._take(record.file_id)
                self._instances.add(record.sop_instance_uid)

    def _take(self, file_id: FileId) -> None:
        self._file_ids.add(file_id)
        self._taken.update(file_id[:depth] for depth in range(1, len(file_id) + 1))

    def _note(self, above: DirectoryRecord | None, record: DirectoryRecord) -> None:
        self._known.setdefault((id(above), record.type, record.identity), record)
        if record.type == STUDY and above is not None:
            self._studies.setdefault(record.identity, (above, record))

    def add(self, scan: RecordScan, file_id: FileId = ()) -> DirectoryRecord:
        """Add the object of a file; the record that references it.

        Args:
            file_id: of the file; empty: it gets a new one, by its place in the directory.

        Raises:
            FileSetError: it cannot be, or is there already.
        """
        fault = fault_of(file_id) if file_id else ""
        if fault:
            raise FileSetError(f"its File ID {file_id_text(file_id)} {fault} (PS3.10 8.5)")
        if file_id in self._file_ids:
            raise FileSetError(f"the directory has a file {file_id_text(file_id)} already")
        sop_instance = scan.uid(SOP_INSTANCE_UID)
        sop_class = scan.uid(SOP_CLASS_UID)
        if not is_safe_uid(sop_class) or not sop_instance.isascii() or not sop_instance:
            raise FileSetError(
                "has no SOP Class UID, or no SOP Instance UID, without which no directory can "
                "name it"
            )
        if sop_instance in self._instances:
            raise FileSetError("the directory has this SOP instance already")
        built = build_records(scan, is_strict=self._is_strict)
        above: DirectoryRecord | None = None
        for name, keys in built.levels[:-1]:
            record = DirectoryRecord(name, keys)
            above = self._above(above, record)
        name, keys = built.levels[-1]
        own = DirectoryRecord(
            name,
            keys,
            file_id=file_id or self._new_file_id(above, name),
            sop_class_uid=sop_class,
            sop_instance_uid=sop_instance,
            transfer_syntax_uid=scan.transfer_syntax_uid,
        )
        (self.directory.roots if above is None else above.children).append(own)
        self._take(own.file_id)
        self._instances.add(sop_instance)
        self.additions.added += 1
        for keyword in built.invented:
            self.additions.invented[keyword] = self.additions.invented.get(keyword, 0) + 1
        return own

    def _new_file_id(self, above: DirectoryRecord | None, type_: str) -> FileId:
        folder = _TOP if above is None else self._folders.get(id(above), _TOP)
        return self._numbered(folder, type_)

    def _numbered(self, folder: FileId, type_: str) -> FileId:
        letters = RECORD_TYPES[type_].letters
        while True:
            number = self._numbers[folder] = self._numbers.get(folder, 0) + 1
            try:
                file_id = (*folder, numbered(letters, number))
            except ValueError as error:
                raise FileSetError(str(error)) from error
            if file_id not in self._taken:
                return file_id

    def _above(self, above: DirectoryRecord | None, record: DirectoryRecord) -> DirectoryRecord:
        """The record that is there for the same patient, study or series, or a new one."""
        if record.type == STUDY and record.identity in self._studies:
            # A study has one record (F.5.2), whatever its objects say of their patients.
            patient, study = self._studies[record.identity]
            if patient is not above:
                self.additions.other_patients += 1
                self._drop_if_new(above)
            self._folder(patient, study)
            return study
        key = (id(above), record.type, record.identity)
        known = self._known.get(key)
        if known is not None:
            if record.type == PATIENT and known.raw(_PATIENT_NAME) != record.raw(_PATIENT_NAME):
                self.additions.other_names += 1
            self._folder(above, known)
            return known
        (self.directory.roots if above is None else above.children).append(record)
        self._note(above, record)
        self._folder(above, record)
        return record

    def _folder(self, above: DirectoryRecord | None, record: DirectoryRecord) -> None:
        """Give the files below a record a folder, where it has none yet."""
        if id(record) not in self._folders:
            folder = self._new_file_id(above, record.type)
            self._folders[id(record)] = folder
            self._taken.add(folder)

    def _drop_if_new(self, patient: DirectoryRecord | None) -> None:
        """A patient's record that was made a moment ago, and has nothing below it."""
        if patient is not None and not patient.children:
            self.directory.roots.remove(patient)
            del self._known[id(None), patient.type, patient.identity]
