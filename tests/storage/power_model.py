"""A disk whose every write may be the last: what is left after a crash at any step.

`ModelFiles` does each operation of the file store on a real folder and beside it keeps
account of what is on stable storage.  Content survives when its file was synced.  Names
survive by the strictest reading of POSIX, when their folder was synced after they were
made, and a removed one comes back when the folder was not synced since; or, as most
journals have it, in the order in which they were made, all of them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from isocenter.engine.buffers import Buffer
from isocenter.storage.objects.files.file_system import OsFileSystem


class Crash(BaseException):
    """The process is gone; nothing of it runs after this."""


class ModelFiles(OsFileSystem):
    """Real operations, counted; `fail` may raise before any of them.

    Attributes:
        steps: names of the operations so far.
        fail: called with the number and the name of the operation that comes.
    """

    def __init__(self, root: Path, *, has_syncfs: bool = True) -> None:
        self._root = root
        self.has_syncfs = has_syncfs
        self._lock = threading.RLock()
        self.steps: list[str] = []
        self.fail: Callable[[int, str], None] = lambda number, name: None
        self.crashed = False
        # Folder → its durable names; a name leads to the inode.
        self._durable_names: dict[str, dict[str, int]] = {}
        self._durable_content: dict[int, bytes] = {}
        self._restored: dict[int, Path] = {}
        #: Of a process that crashed nobody closes them.
        self._open: set[int] = set()
        #: No inode gets a second meaning, also if its file is closed and removed.
        self._pins: list[int] = []

    def end(self) -> None:
        """Close what is open of its files: nobody looks at this disk any more."""
        for descriptor in (*self._open, *self._pins):
            os.close(descriptor)
        self._open.clear()
        self._pins.clear()

    def __del__(self) -> None:
        self.end()

    def _step(self, name: str) -> None:
        with self._lock:
            if self.crashed:
                raise Crash
            number = len(self.steps)
            self.steps.append(name)
            try:
                self.fail(number, name)
            except Crash:
                self.crashed = True
                raise

    def create(self, path: str) -> int:
        self._step("create")
        descriptor = super().create(path)
        self._durable_content[os.fstat(descriptor).st_ino] = b""
        self._open.add(descriptor)
        return descriptor

    def close(self, descriptor: int) -> None:
        if not self.crashed:
            self._pins.append(os.dup(descriptor))
            self._open.discard(descriptor)
            super().close(descriptor)

    def write(self, descriptor: int, data: Buffer) -> None:
        self._step("write")
        super().write(descriptor, data)

    def write_at(self, descriptor: int, data: Buffer, offset: int) -> None:
        self._step("write_at")
        super().write_at(descriptor, data, offset)

    def truncate(self, descriptor: int, length: int) -> None:
        self._step("truncate")
        super().truncate(descriptor, length)

    def sync(self, descriptor: int) -> None:
        self._step("sync")
        self._keep_content(f"/proc/self/fd/{descriptor}")

    def _keep_content(self, path: str) -> None:
        with open(path, "rb") as file:
            self._durable_content[os.fstat(file.fileno()).st_ino] = file.read()

    def _keep_names(self, folder: str) -> None:
        self._durable_names[folder] = {entry.name: entry.inode() for entry in os.scandir(folder)}

    def sync_data(self, descriptor: int) -> None:
        self._step("sync_data")
        self._keep_content(f"/proc/self/fd/{descriptor}")

    def sync_file(self, path: str) -> None:
        os.stat(path)  # one that is not there is no step
        self._step("sync_file")
        self._keep_content(path)

    def sync_file_system(self, path: str) -> bool:
        if not self.has_syncfs:
            return False
        self._step("sync_file_system")
        with self._lock:
            for folder, _, names in os.walk(self._root):
                self._keep_names(folder)
                for name in names:
                    if os.path.isfile(os.path.join(folder, name)):
                        self._keep_content(os.path.join(folder, name))
        return True

    def link(self, source: str, target: str) -> None:
        self._step("link")
        super().link(source, target)

    def rename(self, source: str, target: str) -> None:
        self._step("rename")
        super().rename(source, target)

    def unlink(self, path: str) -> None:
        self._step("unlink")
        super().unlink(path)

    def make_folder(self, path: str) -> None:
        self._step("make_folder")
        super().make_folder(path)
        with self._lock:
            self._durable_names[path] = {}

    def remove_folder(self, path: str) -> None:
        self._step("remove_folder")
        super().remove_folder(path)

    def sync_folder(self, path: str) -> None:
        self._step("sync_folder")
        with self._lock:
            self._keep_names(path)

    def after_power_failure(self, target: Path, *, names_survive: bool = False) -> Path:
        """Build in *target* what a disk of this kind holds now."""
        for folder in ("objects", "staging", "journal", "trash"):
            if folder == "trash" and not os.path.isdir(os.path.join(self._root, folder)):
                continue
            self._restore(os.path.join(self._root, folder), target / folder, names_survive)
        return target

    def _restore(self, source: str, target: Path, names_survive: bool) -> None:
        target.mkdir(parents=True)
        names = self._durable_names.get(source, {})
        if names_survive:
            names = {entry.name: entry.inode() for entry in os.scandir(source)}
        for name, inode in names.items():
            path = os.path.join(source, name)
            if path in self._durable_names:
                self._restore(path, target / name, names_survive)
            elif inode in self._restored:
                # Two names of one file are so afterwards as well.
                os.link(self._restored[inode], target / name)
            else:
                (target / name).write_bytes(self._durable_content.get(inode, b""))
                self._restored[inode] = target / name


def failing(step: int, error: Callable[[], BaseException]) -> Callable[[int, str], Any]:
    """Fail once, before operation number *step*."""

    def fail(number: int, name: str) -> None:
        if number == step:
            raise error()

    return fail
