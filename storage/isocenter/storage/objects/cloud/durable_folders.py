"""Folders whose names are durable, known as long as they are the same."""

from __future__ import annotations

import os
import weakref
from collections import OrderedDict
from contextlib import suppress
from threading import Lock
from typing import Final

#: Folders that are held open; as many series as are being received at once, and more.
MOST_FOLDERS: Final = 128


class _Folder:
    """A folder that is held open, so that no later one is given its number."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        # When nobody has it any more: another thread may look at it while it is forgotten here.
        weakref.finalize(self, os.close, self.descriptor)
        self._identity = _identity(os.fstat(self.descriptor))

    def sync_at(self, path: str) -> bool:
        """Sync it if it is the folder at *path*; else nothing is done.

        By a descriptor of this call alone: the system tells each descriptor once that something is
        lost, so of threads that shared one only the first would hear what all have to know.
        """
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                is_it = _identity(os.fstat(descriptor)) == self._identity
                if is_it:
                    os.fsync(descriptor)
                return is_it
            finally:
                os.close(descriptor)
        return False


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


class DurableFolders:
    """Syncs names in folders below *root*, which other machines make and remove as well.

    A folder's own name is synced with what is in it, and so on up to *root*, unless that was
    done for this very folder before: since then it has not gone, and nor has one above it, as
    none of them was empty.  Its path alone does not tell that: somebody may have removed it,
    and made another one that no sync has seen.  A file system of the network may give such a one
    the same number; but there a folder is made when the server says so, and has kept it.

    May be called in any thread.
    """

    def __init__(self, root: str, most: int = MOST_FOLDERS) -> None:
        self._root = root
        self._most = most
        self._known: OrderedDict[str, _Folder] = OrderedDict()
        self._lock = Lock()

    def sync(self, path: str) -> None:
        """Make durable what there is, and is no more, in the folder at *path*, relative to *root*.

        It may have gone: then it is its name in the one above.

        Raises:
            OSError: that may not be so.
        """
        synced: list[tuple[str, _Folder]] = []
        while True:
            whole = os.path.join(self._root, path)
            with self._lock:
                known = self._known.get(path)
            if known is not None and self._sync(path, whole, known):
                synced.append((path, known))
                break
            with suppress(FileNotFoundError):
                folder = _Folder(whole)
                os.fsync(folder.descriptor)
                synced.append((path, folder))
            if not path:
                break
            path = os.path.dirname(path)
        with self._lock:
            for each, folder in synced:
                self._known[each] = folder
                self._known.move_to_end(each)
            while len(self._known) > self._most:
                self._known.popitem(last=False)

    def _sync(self, path: str, whole: str, folder: _Folder) -> bool:
        try:
            return folder.sync_at(whole)
        except OSError:
            # What the kernel has dropped, it does not say twice.
            with self._lock:
                self._known.pop(path, None)
            raise
