"""DICOM files to send: pydicom's bundled ones, and how to compare what comes back."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pydicom
import pydicom.data
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

_FOLDER = Path(pydicom.data.__file__).parent

#: DCMTK's storescu offers one compressed syntax at a time, by option.
DCMTK_OPTIONS = {
    "1.2.840.10008.1.2": "-xi",
    "1.2.840.10008.1.2.1": "-xe",
    "1.2.840.10008.1.2.2": "-xb",
    "1.2.840.10008.1.2.1.99": "-xd",
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.81": "-xu",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
    "1.2.840.10008.1.2.5": "-xr",
}


@cache
def storable_files() -> tuple[Path, ...]:
    """The bundled files that are composite instances, one for each SOP Instance UID."""
    found: dict[str, Path] = {}
    for path in sorted(_FOLDER.rglob("*.dcm")):
        try:
            head = pydicom.dcmread(path, stop_before_pixels=True)
            meta = head.file_meta
        except (pydicom.errors.InvalidDicomError, AttributeError, EOFError, OSError):
            continue
        needed = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
        if not all(head.get(name) for name in needed) or "TransferSyntaxUID" not in meta:
            continue
        if not str(head.SOPClassUID).startswith("1.2.840.10008.5.1.4.1.1."):
            continue
        found.setdefault(str(head.SOPInstanceUID), path)
    return tuple(found.values())


def syntax_of(path: Path) -> UID:
    """The transfer syntax of a Part 10 file."""
    return UID(pydicom.filereader.read_file_meta_info(path).TransferSyntaxUID)


def data_set_bytes(path: Path) -> bytes:
    """What stands behind the File Meta Information."""
    with path.open("rb") as file:
        pydicom.filereader.read_preamble(file, force=False)
        pydicom.filereader._read_file_meta_info(file)
        return file.read()


def as_we_send_it(path: Path) -> bytes:
    """The data set of a file as it leaves us in its own transfer syntax.

    One deflated file lacks the NUL that makes its length even (PS3.5 A.5); it gets it.
    """
    kept = data_set_bytes(path)
    if len(kept) & 1:
        assert syntax_of(path) == DeflatedExplicitVRLittleEndian
        kept += b"\0"
    return kept


def by_uid(paths: list[Path]) -> dict[str, Path]:
    """Part 10 files by their SOP Instance UID."""
    return {
        str(pydicom.filereader.read_file_meta_info(path).MediaStorageSOPInstanceUID): path
        for path in paths
    }
