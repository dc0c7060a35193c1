"""Scan of a file for what its directory records are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from isocenter.engine.dataset import NotDicomError, read_file_head
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.file_recognition import HEAD_BYTES
from isocenter.services.dicom.file_set.record_building import RecordScan

_PIECE: Final = 1 << 20
#: How the data set of a directory begins.
_DIRECTORY_GROUPS: Final = (b"\x04\0", b"\0\x04")


@dataclass(frozen=True, slots=True)
class FileScan:
    """A file that was scanned: where its data set starts, and whether it is a Part 10 file."""

    scan: RecordScan
    data_set_offset: int
    has_meta: bool


def scan_file(path: Path) -> FileScan:
    """What a file holds.

    Raises:
        NotDicomError: it is no DICOM, or a directory itself.
        DataSetError: it cannot be read.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        head = read_file_head(file.read(HEAD_BYTES))
        scan = RecordScan(head.transfer_syntax_uid)
        file.seek(head.data_set_offset)
        if file.read(2) in _DIRECTORY_GROUPS:
            raise NotDicomError("a DICOMDIR names objects and is none", 0)
        file.seek(head.data_set_offset)
        while piece := file.read(_PIECE):
            scan.feed(piece)
        scan.finish()
    return FileScan(scan, head.data_set_offset, head.is_declared)
