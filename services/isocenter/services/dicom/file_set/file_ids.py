"""File IDs: names of files within a file-set (PS3.10 8.2, 8.5)."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Final

#: The directory of a file-set, in its root folder (PS3.10 8.6).
DICOMDIR: Final = "DICOMDIR"
MAX_COMPONENTS: Final = 8
_COMPONENT: Final = re.compile(r"[A-Z0-9_]{1,8}")
_FILE_SET_ID: Final = re.compile(r"[A-Z0-9_ ]{0,16}")
#: Digits behind the two letters of a component.
_DIGITS: Final = 6
_MOST: Final = 10**_DIGITS

FileId = tuple[str, ...]


def fault_of(file_id: FileId) -> str:
    """What of a File ID is not as PS3.10 8.5 has it; empty: nothing."""
    if not file_id:
        return "has no component"
    if len(file_id) > MAX_COMPONENTS:
        return f"has {len(file_id)} components; {MAX_COMPONENTS} are the most"
    for component in file_id:
        if not _COMPONENT.fullmatch(component):
            return f"has the component {component!r}; A-Z, 0-9 and _ make one, at most 8 of them"
    return ""


def is_file_set_id(text: str) -> bool:
    """Whether *text* can be a File-set ID: at most 16 characters of A-Z, 0-9, _ and space."""
    return _FILE_SET_ID.fullmatch(text) is not None


def numbered(letters: str, number: int) -> str:
    """A component of two letters and a number.

    Raises:
        ValueError: it would not fit.
    """
    if number >= _MOST:
        raise ValueError(f"a folder of a file-set holds no more than {_MOST - 1} entries")
    return f"{letters}{number:0{_DIGITS}d}"


def file_id_text(file_id: FileId) -> str:
    """As Referenced File ID (0004,1500) has it."""
    return "\\".join(file_id)


def path_of(file_id: FileId) -> PurePosixPath:
    """Below the root folder of the file-set."""
    return PurePosixPath(*file_id)


def found_file(root: Path, file_id: FileId) -> Path | None:
    """The file that a File ID names, whatever the file system makes of its letters.

    Names are as they are written or, as drivers of CDs show them, in lower case, with a dot or
    with a version (``IM000001.;1``) behind them.  No component leads out of *root*.
    """
    at = root
    for component in file_id:
        if component in ("", ".", "..") or "/" in component or "\0" in component:
            return None
        below = at / component
        if not below.exists():
            other = _other_name(at, component)
            if other is None:
                return None
            below = at / other
        at = below
    return at if file_id and at.is_file() else None


def _other_name(folder: Path, component: str) -> str | None:
    wanted = component.lower()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if _folded(entry.name) == wanted:
                    return entry.name
    except OSError:
        pass
    return None


def _folded(name: str) -> str:
    return name.partition(";")[0].rstrip(".").lower()


def file_id_of(name: str) -> FileId:
    """The File ID of a path below the root folder, as far as it can be one."""
    return tuple(name.replace(os.sep, "/").split("/"))


def mapped_file_id(name: str) -> FileId:
    """The same as drivers of CDs show it: in upper case, without a dot or version behind it."""
    return tuple(_folded(part).upper() for part in file_id_of(name))
