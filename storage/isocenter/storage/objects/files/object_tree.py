"""Tree of folders that objects lie in: made, pruned, and synced once each."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from typing import Final

from isocenter.storage.objects.files.file_system import FileSystem, storage_error
from isocenter.storage.objects.keys import is_key_part

#: Keys in one block of `FileStore.keys` and of a question to the index.
KEYS_PER_BLOCK: Final = 500
#: Folders whose own name is remembered as durable; forgotten all at once beyond that.
KNOWN_FOLDERS: Final = 8192
#: So many files are synced one after the other; more, with the whole file system in one go.
SYNCED_ALONE: Final = 8


class ObjectTree:
    """The folders below *root*; an object's key is its path there.  Every method blocks."""

    def __init__(self, root: str, files: FileSystem) -> None:
        self.root = root
        self._files = files
        #: Those whose own name was synced by us and not removed since.
        self._known_folders: set[str] = set()
        #: How often one was taken out of them.
        self._forgotten = 0

    def path_of(self, key: str) -> str:
        """Where an object lies."""
        return os.path.join(self.root, *key.split("/"))

    def make(self, folder: str) -> None:
        """Make a folder, and those above it."""
        missing = []
        while folder != self.root and not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for folder in reversed(missing):
            # Another process may have removed one that was known to be durable.
            self._forget(folder)
            try:
                self._files.make_folder(folder)
            except FileExistsError:
                if not os.path.isdir(folder):
                    raise NotADirectoryError(
                        errno.ENOTDIR, "a file is where the object's folder belongs"
                    ) from None
            except FileNotFoundError:
                return  # pruned under us: the caller tries again

    def sync(self, keys: Iterable[str], *, files: Sequence[str] = ()) -> None:
        """In a worker thread: make the names of objects durable, or that they are gone, each
        folder once; and the content of those that *files* names by their keys.

        Raises:
            OSError: some may not be.
        """
        forgotten = self._forgotten
        ancestries = [self.folders_to_sync(key) for key in keys]
        is_alone = len(ancestries) + len(files) <= SYNCED_ALONE
        if is_alone or not self._files.sync_file_system(self.root):
            for key in files:
                with suppress(FileNotFoundError, NotADirectoryError):
                    self._files.sync_file(self.path_of(key))
            self.sync_folders({folder for ancestry in ancestries for folder in ancestry})
        if len(self._known_folders) > KNOWN_FOLDERS:
            self._known_folders.clear()
        # One that went meanwhile and was made again has a new name, which was not synced.
        if forgotten == self._forgotten:
            self._known_folders.update(*(ancestry[:-1] for ancestry in ancestries))

    def _forget(self, folder: str) -> None:
        self._known_folders.discard(folder)
        self._forgotten += 1

    def sync_folders(self, folders: set[str]) -> None:
        """Make durable what names these folders hold, and that those that are gone are."""
        while folders:
            # The innermost first; of several always the same one, so that a run can be repeated.
            folder = max(folders, key=lambda each: (len(each), each))
            folders.remove(folder)
            try:
                self._files.sync_folder(folder)
            except (FileNotFoundError, NotADirectoryError):  # removed: then that has to last
                if folder != self.root:
                    folders.add(os.path.dirname(folder))

    def folders_to_sync(self, key: str) -> list[str]:
        """The object's folder, then each ancestor whose entry for the one before may be new.

        Asked after the link: a folder with an object in it is not pruned, and pruning forgets
        it here first, so what is known now stays true.
        """
        folder = os.path.join(self.root, *key.split("/")[:-1])
        folders = [folder]
        while folder != self.root and folder not in self._known_folders:
            folder = os.path.dirname(folder)
            folders.append(folder)
        return folders

    def remove(self, key: str) -> None:
        """Remove an object, with the folders that are empty then."""
        parts = key.split("/")
        with suppress(FileNotFoundError, NotADirectoryError):
            self._files.unlink(os.path.join(self.root, *parts))
        # Empty folders go too, from the innermost outwards.
        for depth in range(len(parts) - 1, 0, -1):
            folder = os.path.join(self.root, *parts[:depth])
            self._forget(folder)
            try:
                self._files.remove_folder(folder)
            except OSError:
                return

    def walk(self) -> Generator[list[str], None, None]:
        """The keys of all objects, in blocks; other files are passed over."""
        block: list[str] = []
        folders = [("", self.root)]
        try:
            while folders:
                prefix, folder = folders.pop()
                with suppress(FileNotFoundError), os.scandir(folder) as entries:
                    for entry in entries:
                        if not is_key_part(entry.name):
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            folders.append((f"{prefix}{entry.name}/", entry.path))
                        elif entry.is_file(follow_symlinks=False):
                            block.append(prefix + entry.name)
                            if len(block) == KEYS_PER_BLOCK:
                                yield block
                                block = []
        except OSError as error:
            raise storage_error("list the objects", error) from error
        if block:
            yield block
