"""Hold on removed objects while a backup is made.

A backup copies the index as of one moment, and then the files that its rows point to.  A row goes
before its file does; so whoever removes a file of such a row finds the backup at work, and puts
the file aside instead.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from isocenter.services.system.file_lock import is_locked, lock, open_lock_file
from isocenter.services.system.private_files import match_owner
from isocenter.storage.objects.files.file_system import FOLDER_MODE

#: Held, shared, by whoever makes a backup.
_LOCK: Final = "backup.lock"
_FOLDER: Final = "removed"
#: Stand for a slash of the key, and before what tells two files of one key apart; in no key.
_SLASH: Final = ","
_TOKEN: Final = "+"  # noqa: S105 -- not that kind of token


class RemovalHold:
    """What is put aside below *root*, the data directory.  Every method blocks."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = os.fspath(root)
        self._folder = os.path.join(self._root, _FOLDER)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """While it lasts, what is removed is put aside; what nobody needs any more then goes.

        Raises:
            OSError: the lock cannot be taken.
        """
        path = os.path.join(self._root, _LOCK)
        descriptor = open_lock_file(path)
        try:
            match_owner(Path(self._root), descriptor)  # the server has to open it, too
            lock(descriptor, shared=True)  # nobody holds it otherwise for longer than a look
            yield
        finally:
            os.close(descriptor)
            self.clear()

    def is_taken(self) -> bool:
        """Whether a backup is being made."""
        return is_locked(os.path.join(self._root, _LOCK))

    def put_aside(self, key: str, path: str) -> None:
        """Take the object's name away, and keep its bytes.

        Raises:
            FileNotFoundError: it is not there.
            OSError: it cannot be.
        """
        name = f"{key.replace('/', _SLASH)}{_TOKEN}{secrets.token_hex(4)}"
        target = os.path.join(self._folder, name)
        try:
            os.rename(path, target)
        except FileNotFoundError:
            with suppress(FileExistsError):
                os.mkdir(self._folder, FOLDER_MODE)
            os.rename(path, target)

    def files_of(self, key: str) -> Sequence[str]:
        """What was put aside under that key."""
        start = key.replace("/", _SLASH) + _TOKEN
        try:
            names = [name for name in os.listdir(self._folder) if name.startswith(start)]
        except FileNotFoundError:
            return []
        return [os.path.join(self._folder, name) for name in names]

    def clear(self) -> None:
        """Remove what was put aside, unless a backup is being made; also after one was killed."""
        if not os.path.isdir(self._folder) or self.is_taken():
            return
        with suppress(OSError):
            for name in os.listdir(self._folder):
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(self._folder, name))
            os.rmdir(self._folder)
