"""Temporary files of a server beside what they are made of.

What is de-identified, signed or converted lies in temporary files meanwhile, as it came.  The
folder that a system has for such files may be on a disk that nobody encrypts, and is shared.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from isocenter.services.system.file_lock import lock, open_lock_file, try_lock
from isocenter.services.system.private_files import PRIVATE_DIRECTORY, make_private_directory

#: In a data directory.
FOLDER: Final = "temporary"
#: Each process has a folder in there, and the lock of a file in it as long as it lives.
_LOCK: Final = ".lock"
#: Whoever sets one of them has chosen a place.
_CHOSEN: Final = ("TMPDIR", "TEMP", "TMP")


@contextmanager
def temporary_files_in(data_dir: Path) -> Iterator[Path | None]:
    """All temporary files of this process, and of those that it starts, lie in *data_dir*; None:
    its environment has chosen another place.

    What processes that are gone have left there is removed.

    Raises:
        OSError: the folder cannot be made.
    """
    if any(os.environ.get(name) for name in _CHOSEN):
        yield None
        return
    parent = data_dir / FOLDER
    make_private_directory(parent)
    # The lock of the whole: nobody removes a folder between its making and its lock.
    gate = open_lock_file(parent / _LOCK)
    own = parent / secrets.token_hex(8)
    held = None
    try:
        lock(gate)
        _remove_leftovers(parent)
        own.mkdir(PRIVATE_DIRECTORY)
        held = open_lock_file(own / _LOCK)
        try_lock(held)
    except BaseException:
        if held is not None:
            os.close(held)
        raise
    finally:
        os.close(gate)
    before, maker = tempfile.tempdir, os.getpid()
    tempfile.tempdir = os.environ["TMPDIR"] = str(own)
    try:
        yield own
    finally:
        tempfile.tempdir = before
        os.environ.pop("TMPDIR", None)
        os.close(held)
        if os.getpid() == maker:  # and no worker of it
            shutil.rmtree(own, ignore_errors=True)


def _remove_leftovers(parent: Path) -> None:
    for folder in parent.iterdir():
        if not folder.is_dir() or folder.is_symlink():
            continue
        try:
            descriptor = open_lock_file(folder / _LOCK)
        except OSError:
            continue
        try:
            if try_lock(descriptor):
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # of a file system without locks: nobody can tell whether it is in use
        finally:
            os.close(descriptor)
