"""pydicom's reader of DICOMDIR files, as a second opinion."""

from __future__ import annotations

from pathlib import Path

from pydicom.fileset import FileSet


def file_set_in(directory: Path) -> FileSet:
    """The file-set of a DICOMDIR; to be looked at only."""
    found = FileSet(directory)
    # Where it would stage what is added; left to the garbage collector it complains.
    found._stage["t"].cleanup()
    return found
