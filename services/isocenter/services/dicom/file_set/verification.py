"""Comparison of a directory with the files of its file-set."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from isocenter.engine.dataset import DataSetError
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.file_set.directory import (
    PATIENT_ID,
    SERIES_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    Directory,
    DirectoryRecord,
)
from isocenter.services.dicom.file_set.file_ids import (
    DICOMDIR,
    fault_of,
    file_id_text,
    found_file,
    is_file_set_id,
)
from isocenter.services.dicom.file_set.file_scan import scan_file
from isocenter.services.dicom.file_set.profiles import Profile
from isocenter.services.dicom.file_set.record_building import (
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    RecordScan,
)
from isocenter.services.dicom.file_set.record_types import (
    PATIENT,
    PRIVATE,
    RECORD_TYPES,
    SERIES,
    STUDY,
    record_type_of,
)
from isocenter.services.dicom.uid_registry import name_of
from isocenter.services.errors import text_of

_ROWS: Final = 0x00280010
_ABOVE: Final = {PATIENT: "", STUDY: PATIENT, SERIES: STUDY}

Find = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What is compared.

    Attributes:
        files: whether each file is there, and what it says it is.
        consistency: whether the keys of records are what the files say.
        profile: whose transfer syntaxes files have to have; None: any.
    """

    files: bool = True
    consistency: bool = True
    profile: Profile | None = None


def check_directory(directory: Directory, find: Find) -> None:
    """Look at a directory by itself: places of records, their keys, names, doubles."""
    if not is_file_set_id(directory.file_set_id):
        find("the File-set ID is not one (PS3.10 8.5): A-Z, 0-9, _ and space, at most 16")
    instances: dict[str, str] = {}
    files: set[tuple[str, ...]] = set()
    seen: set[tuple[str, bytes]] = set()
    for above, record in directory.walk():
        who = _who(record)
        known = RECORD_TYPES.get(record.type)
        if known is None:
            find(f"{who} has the type {record.type!r}, which PS3.3 F.4 does not have")
        else:
            _check_place(above, record, known.is_root, find)
            for tag, kind in known.keys.items():
                if kind == 1 and not _has_value(record, tag):
                    find(f"{who} has no value for ({tag >> 16:04X},{tag & 0xFFFF:04X})")
        if record.type in _ABOVE:
            key = (record.type, record.identity)
            if record.identity and key in seen and record.type != SERIES:
                find(f"{who} is there twice")
            seen.add(key)
        if record.file_id:
            name = file_id_text(record.file_id)
            fault = fault_of(record.file_id)
            if fault:
                find(f"the File ID {name} {fault} (PS3.10 8.5)")
            uid = record.sop_instance_uid
            if uid in instances:
                find(f"{name} and {instances[uid]} are the same SOP instance")
            instances[uid] = name
            if record.file_id in files:
                find(f"{name} is referenced twice")
            files.add(record.file_id)
        elif not record.children:
            find(f"{who} references no file, and nothing is below it")


def _check_place(
    above: tuple[DirectoryRecord, ...], record: DirectoryRecord, is_root: bool, find: Find
) -> None:
    parent = above[-1].type if above else ""
    expected = _ABOVE.get(record.type, "" if is_root else SERIES)
    if record.type != PRIVATE and parent != expected:
        place = f"below {parent}" if parent else "in the root"
        find(f"{_who(record)} is {place}, and belongs {expected or 'in the root'}")


def _has_value(record: DirectoryRecord, tag: int) -> bool:
    element = record.keys.get(tag)
    if element is None:
        # Of a study, the reference to a file may say it (F.5.2).
        return tag == STUDY_INSTANCE_UID and bool(record.sop_instance_uid)
    value = element[2]
    return bool(value.strip(b" ")) if isinstance(value, bytes) else bool(value)


def check_files(
    directory: Directory,
    root: Path,
    checks: Checks,
    find: Find,
    progress: Callable[[int], None] = lambda files: None,
) -> None:
    """Look at each file that is referenced."""
    for done, (above, record) in enumerate(directory.references(), 1):
        name = file_id_text(record.file_id)
        profile = checks.profile
        if profile and record.transfer_syntax_uid not in profile.transfer_syntaxes:
            find(f"{name} is in {name_of(record.transfer_syntax_uid)}: not in {profile.name}")
        if checks.files or checks.consistency:
            path = found_file(root, record.file_id)
            if path is None:
                find(f"{name} is missing")
            else:
                try:
                    scanned = scan_file(path)
                except (DataSetError, OSError) as error:
                    text = text_of(error)
                    find(f"{name} cannot be read: {text}")
                else:
                    if not scanned.has_meta:
                        find(f"{name} has no right File Meta Information (PS3.10 7.1)")
                    _compare(name, above, record, scanned.scan, checks, find)
        progress(done)


def _compare(
    name: str,
    above: Iterable[DirectoryRecord],
    record: DirectoryRecord,
    scan: RecordScan,
    checks: Checks,
    find: Find,
) -> None:
    for what, said, is_ in (
        ("SOP instance", record.sop_instance_uid, scan.uid(SOP_INSTANCE_UID)),
        ("SOP class", record.sop_class_uid, scan.uid(SOP_CLASS_UID)),
        ("transfer syntax", record.transfer_syntax_uid, scan.transfer_syntax_uid),
    ):
        if said and said != is_:
            find(f"{name} is of another {what} than the directory says")
    if not checks.consistency:
        return
    expected = record_type_of(scan.uid(SOP_CLASS_UID), has_rows=bool(scan.raw(_ROWS)))
    if expected.name != record.type and PRIVATE not in (expected.name, record.type):
        find(f"{name} has a record {record.type}, and its SOP class {expected.name}")
    for one in above:
        for type_, tag, what in (
            (PATIENT, PATIENT_ID, "patient"),
            (STUDY, STUDY_INSTANCE_UID, "study"),
            (SERIES, SERIES_INSTANCE_UID, "series"),
        ):
            if one.type == type_ and scan.raw(tag) and one.identity != scan.raw(tag):
                find(f"{name} is of another {what} than the directory says")


def unreferenced_files(directory: Directory, root: Path) -> list[str]:
    """Files below *root* that no record references, the directory itself left out."""
    known = {
        str(path)
        for _, record in directory.references()
        if (path := found_file(root, record.file_id)) is not None
    }
    if directory.descriptor and (path := found_file(root, directory.descriptor)):
        known.add(str(path))
    found = []
    for folder, _, names in os.walk(root):
        for name in sorted(names):
            whole = os.path.join(folder, name)
            is_directory = Path(folder) == root and name.upper().startswith(DICOMDIR)
            if whole not in known and not is_directory:
                found.append(os.path.relpath(whole, root))
    return found


def _who(record: DirectoryRecord) -> str:
    where = f" at byte {record.offset}" if record.offset else ""
    return f"the {record.type} record{where}"
