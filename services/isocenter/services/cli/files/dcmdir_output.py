"""Output of ``dcmdir list`` and ``dcmdir verify``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

from isocenter.engine.dataset import NotDicomError
from isocenter.engine.dataset.vr import SWAP_WIDTH
from isocenter.services.cli import EXIT_OK
from isocenter.services.cli.files.file_tool import EXIT_INVALID, FileToolError, opened
from isocenter.services.cli.support.match_output import printable
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.dicom.data_dictionary import keyword_for_tag
from isocenter.services.dicom.element_texts import numbers_of
from isocenter.services.dicom.element_values import character_set_of, decode_text
from isocenter.services.dicom.file_set.directory import DirectoryRecord
from isocenter.services.dicom.file_set.directory_reader import ReadDirectory, read_directory
from isocenter.services.dicom.file_set.file_ids import file_id_text
from isocenter.services.dicom.file_set.profiles import PROFILES
from isocenter.services.dicom.file_set.record_types import PATIENT, SERIES, STUDY
from isocenter.services.dicom.file_set.verification import (
    Checks,
    check_directory,
    check_files,
    unreferenced_files,
)
from isocenter.services.dicom.uid_registry import name_of

_CHARACTER_SET: Final = 0x00080005
#: What is said of a record in the tree.
_SHORT: Final = {
    PATIENT: (0x00100020, 0x00100010),
    STUDY: (0x00080020, 0x00081030, 0x0020000D),
    SERIES: (0x00080060, 0x00200011, 0x0008103E, 0x0020000E),
}
_INSTANCE_NUMBER: Final = 0x00200013
_FINDINGS_SHOWN: Final = 1_000


def open_directory(path: str) -> ReadDirectory:
    """The directory in a file.

    Raises:
        FileToolError, FileSetError, DataSetError, OSError: there is none.
    """
    with opened(path) as file:
        try:
            return read_directory(file)
        except NotDicomError:
            raise FileToolError(f"{path}: no DICOMDIR: not DICOM") from None


def show(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """``dcmdir list``; the exit code."""
    read = open_directory(arguments.directory)
    match arguments.form:
        case "json":
            json.dump([_model(root) for root in read.directory.roots], sys.stdout, indent=1)
            print()
        case "flat":
            for _, record in read.directory.references():
                print(_line(record, is_long=arguments.long))
        case _:
            _print_tree(read, is_long=arguments.long)
    for finding in read.findings:
        terminal.note(f"{arguments.directory}: {finding}")
    return EXIT_OK


def _print_tree(read: ReadDirectory, *, is_long: bool) -> None:
    directory = read.directory
    print(f"File-set ID: {directory.file_set_id or '(none)'}")
    for above, record in directory.walk():
        indent = "  " * len(above)
        if record.file_id:
            print(f"{indent}{_line(record, is_long=is_long)}")
            continue
        texts = [value for tag in _SHORT.get(record.type, ()) if (value := text(record, tag))]
        print(f"{indent}{record.type} {' | '.join(texts)}".rstrip())
        if is_long:
            _print_keys(record, indent)
    print(f"{sum(1 for _ in directory.references())} files")


def _line(record: DirectoryRecord, *, is_long: bool) -> str:
    number = text(record, _INSTANCE_NUMBER)
    line = f"{file_id_text(record.file_id)}  {record.type}{f' {number}' if number else ''}"
    if is_long:
        line += (
            f"  {record.sop_instance_uid}  {name_of(record.sop_class_uid)}  "
            f"{name_of(record.transfer_syntax_uid)}"
        )
    return printable(line)


def _print_keys(record: DirectoryRecord, indent: str) -> None:
    for tag in record.keys:
        if tag not in _SHORT.get(record.type, ()) and (value := text(record, tag)):
            name = keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
            print(f"{indent}    {name}: {value}")


def text(record: DirectoryRecord, tag: int) -> str:
    """The value of a key as text, on one line; empty for sequences and bytes."""
    element = record.keys.get(tag)
    if element is None:
        return ""
    _, vr, value = element
    if not isinstance(value, bytes):
        return ""
    if vr in SWAP_WIDTH or vr == "AT":
        return "\\".join(numbers_of(value, vr or "UN", big_endian=False)[:16])
    if vr in ("OB", "UN"):
        return ""
    return printable(decode_text(value, vr or "UN", character_set_of(record.raw(_CHARACTER_SET))))


def _model(record: DirectoryRecord) -> dict[str, Any]:
    made: dict[str, Any] = {"type": record.type}
    made |= {
        keyword: value
        for tag in record.keys
        if (keyword := keyword_for_tag(tag)) and (value := text(record, tag))
    }
    if record.file_id:
        made["ReferencedFileID"] = list(record.file_id)
        made["ReferencedSOPClassUIDInFile"] = record.sop_class_uid
        made["ReferencedSOPInstanceUIDInFile"] = record.sop_instance_uid
        made["ReferencedTransferSyntaxUIDInFile"] = record.transfer_syntax_uid
    if record.children:
        made["records"] = [_model(child) for child in record.children]
    return made


def verify_directory(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """``dcmdir verify``; the exit code."""
    read = open_directory(arguments.directory)
    directory = read.directory
    root = Path(arguments.directory).absolute().parent
    is_all = not arguments.check_files and not arguments.check_consistency
    checks = Checks(
        files=is_all or arguments.check_files,
        consistency=is_all or arguments.check_consistency,
        profile=PROFILES[arguments.profile] if arguments.profile else None,
    )
    count = 0

    def find(finding: str) -> None:
        nonlocal count
        count += 1
        if count <= _FINDINGS_SHOWN:
            terminal.note(f"{arguments.directory}: {finding}")

    for finding in read.findings:
        find(finding)
    check_directory(directory, find)
    total = sum(1 for _ in directory.references())
    with terminal.progress("verifying", wanted=not arguments.no_progress) as advance:
        check_files(directory, root, checks, find, lambda done: advance(done, total))
    if checks.files:
        for name in unreferenced_files(directory, root):
            terminal.detail(f"{name} is not in the directory")
    if count > _FINDINGS_SHOWN:
        terminal.note(f"{count - _FINDINGS_SHOWN} more")
    print(f"{total} files: {f'{count} findings' if count else 'all is well'}")
    return EXIT_INVALID if count else EXIT_OK
