"""The folder of a backup: contents that all generations share, and the generations.

::

    isocenter-backup.json                 says what the folder is
    files/ab/ab12…                        a content, under its SHA-256
    generations/20260102T030405Z/         one backup, complete
        manifest.json  objects.jsonl  files.jsonl  index.db  settings/  keys/  SHA256SUMS
    generations/20260103T030405Z.partial/ one that is under way, or was cut short
    incoming/                             contents that have no name yet

Contents are copies, never links to the archive's files: what shares a block with the original
is damaged together with it.  A generation gets its name when everything in it is on stable
storage; what was cut short is no generation, and the next backup takes over what it had copied.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import orjson

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.object_copying import update_digests
from isocenter.services.backup.content_files import (
    PIECE,
    backup_error,
    created_file,
    pieces_of,
    sync_descriptor,
    write_piece,
    write_synced,
)
from isocenter.services.backup.generation import Generation
from isocenter.services.backup.manifest import (
    FORMAT,
    BackupError,
    Entry,
    is_sha256,
)
from isocenter.services.errors import text_of
from isocenter.services.system.file_lock import try_lock
from isocenter.services.system.private_files import PRIVATE_DIRECTORY, sync_directory

MARKER: Final = "isocenter-backup.json"
PARTIAL: Final = ".partial"
_CONTENTS: Final = "files"
_GENERATIONS: Final = "generations"
_INCOMING: Final = "incoming"
_NAME: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z(?:-[0-9]+)?")
_NO_LOCKS: Final = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS})


@dataclass(frozen=True, slots=True)
class Content:
    """What was put into a backup.

    Attributes:
        data_sha256: from the offset on that was asked for.
        is_new: it was not there before.
    """

    size: int
    sha256: str
    data_sha256: str
    is_new: bool


class BackupFolder:
    """A folder of backups.  Its methods block; `put` may be called by several threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._unsynced: set[Path] = set()
        self._guard = threading.Lock()
        #: Called between the pieces of large files; what it raises stops the copy.
        self.check: Callable[[], None] = lambda: None

    @classmethod
    def open(cls, root: Path) -> BackupFolder:
        """A folder that is one.

        Raises:
            BackupError: it is not.
        """
        try:
            text = (root / MARKER).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise BackupError(
                f"{root}: no backup is there ({MARKER} is missing); isocenter backup DIR makes one"
            ) from None
        except OSError as error:
            raise BackupError(f"{root / MARKER}: {text_of(error)}") from error
        try:
            written_in = orjson.loads(text)["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise BackupError(f"{root / MARKER}: damaged") from error
        if type(written_in) is not int or written_in > FORMAT:
            raise BackupError(
                f"{root}: a backup in format {written_in}, and this program knows {FORMAT}; use "
                "the version that made it"
            )
        return cls(root)

    @classmethod
    def create(cls, root: Path) -> BackupFolder:
        """A folder to back up to; made when it is missing or empty.

        Raises:
            BackupError: it holds something else, or cannot be made.
        """
        try:
            if not (root / MARKER).exists():
                root.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
                others = [name for name in os.listdir(root) if name != "lost+found"]
                if others:
                    raise BackupError(
                        f"{root} holds something else ({min(others)!r}); give an empty folder, or "
                        "one that was backed up to before"
                    )
                for name in (_CONTENTS, _GENERATIONS, _INCOMING):
                    (root / name).mkdir(mode=PRIVATE_DIRECTORY)
                write_synced(root / MARKER, orjson.dumps({"format": FORMAT}) + b"\n")
            folder = cls.open(root)
            for name in (_CONTENTS, _GENERATIONS, _INCOMING):
                (root / name).mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        except OSError as error:
            raise backup_error(root, error) from error
        return folder

    @contextmanager
    def locked(self, *, shared: bool = False) -> Iterator[None]:
        """Keep other backups out, or, shared, those that would change something.

        Raises:
            BackupError: another one is at work.
        """
        flags = os.O_RDONLY if shared else os.O_RDWR
        try:
            descriptor = os.open(self.root / MARKER, flags)
        except OSError as error:
            raise backup_error(self.root, error) from error
        try:
            try:
                is_ours = try_lock(descriptor, shared=shared)
            except OSError as error:
                if error.errno not in _NO_LOCKS:  # some network file systems have none
                    raise backup_error(self.root, error) from error
            else:
                if not is_ours:
                    raise BackupError(
                        f"{self.root} is in use by another backup, verification or restore; wait "
                        "until that has ended"
                    )
            yield
        finally:
            os.close(descriptor)

    # Generations.

    def generations(self) -> list[Generation]:
        """Those that are complete, oldest first."""
        return [
            Generation(name, self.root / _GENERATIONS / name)
            for name in self._names()
            if _NAME.fullmatch(name)
        ]

    def generation(self, name: str | None) -> Generation:
        """The one of that name; None: the last.

        Raises:
            BackupError: there is none.
        """
        known = self.generations()
        if not known:
            unfinished = " (one was begun, and is not finished)" if self.unfinished() else ""
            raise BackupError(f"{self.root}: no complete backup is there{unfinished}")
        if name is None:
            return known[-1]
        for one in known:
            if one.name == name:
                return one
        names = ", ".join(one.name for one in known[-5:])
        raise BackupError(f"{self.root}: no backup {name!r}; the last ones are {names}")

    def unfinished(self) -> list[Generation]:
        """Those that were cut short, oldest first."""
        return [
            Generation(name, self.root / _GENERATIONS / name)
            for name in self._names()
            if name.endswith(PARTIAL) and _NAME.fullmatch(name.removesuffix(PARTIAL))
        ]

    def _names(self) -> list[str]:
        try:
            return sorted(os.listdir(self.root / _GENERATIONS))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise backup_error(self.root, error) from error

    def begin(self, name: str) -> Generation:
        """A new generation that is not complete."""
        taken = {one.name.removesuffix(PARTIAL) for one in self.unfinished()}
        taken |= {one.name for one in self.generations()}
        number, wanted = 1, name
        while wanted in taken:
            number += 1
            wanted = f"{name}-{number}"
        folder = self.root / _GENERATIONS / (wanted + PARTIAL)
        folder.mkdir(mode=PRIVATE_DIRECTORY)
        return Generation(wanted + PARTIAL, folder)

    def finish(self, generation: Generation) -> Generation:
        """Make everything durable, and give the generation its name."""
        with self._guard:
            unsynced, self._unsynced = self._unsynced, set()
        for folder in sorted(unsynced):
            sync_directory(folder)
        sync_directory(self.root / _CONTENTS)
        generation.seal()
        for folder in sorted({path.parent for path in generation.folder.rglob("*")}):
            sync_directory(folder)
        name = generation.name.removesuffix(PARTIAL)
        final = generation.folder.with_name(name)
        generation.folder.rename(final)
        sync_directory(final.parent)
        return Generation(name, final)

    def clear_unfinished(self, *, but: Generation | None = None) -> None:
        """Forget what was cut short; its contents stay for as long as somebody has them listed."""
        for one in self.unfinished():
            if one != but:
                shutil.rmtree(one.folder)
        for path in (self.root / _INCOMING).iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def keep(self, number: int) -> tuple[int, int]:
        """Remove all but the last *number* generations, and the contents that nobody lists then.

        Returns how many generations and how many contents went.
        """
        superfluous = self.generations()[:-number]
        for one in superfluous:
            # Without its name first: half a generation is none.
            gone = one.folder.with_name(one.name + PARTIAL)
            one.folder.rename(gone)
            sync_directory(gone.parent)
            shutil.rmtree(gone)
        return len(superfluous), self._sweep()

    def _sweep(self) -> int:
        # On disk: there may be many millions of names.
        with (
            tempfile.TemporaryDirectory(dir=self.root / _INCOMING) as folder,
            closing(sqlite3.connect(Path(folder) / "listed.db", isolation_level=None)) as listed,
        ):
            listed.execute("PRAGMA synchronous = OFF")
            listed.execute("CREATE TABLE listed (sha256 TEXT PRIMARY KEY) WITHOUT ROWID")
            listed.execute("BEGIN")
            for generation in self.generations():
                listed.executemany(
                    "INSERT OR IGNORE INTO listed VALUES (?)",
                    ((entry.sha256,) for entry in generation.entries()),
                )
            removed = 0
            for path in self.contents():
                row = listed.execute("SELECT 1 FROM listed WHERE sha256 = ?", (path.name,))
                if row.fetchone() is None:
                    path.unlink()
                    removed += 1
        return removed

    # Contents.

    def path_of(self, sha256: str) -> Path:
        """Where a content lies."""
        return self.root / _CONTENTS / sha256[:2] / sha256

    def has(self, entry: Entry) -> bool:
        """Whether the content of an entry is there, by its size."""
        try:
            return self.path_of(entry.sha256).stat().st_size == entry.size
        except OSError:
            return False

    def contents(self) -> Iterator[Path]:
        """All contents, whether a generation lists them or not."""
        for folder in sorted((self.root / _CONTENTS).iterdir()):
            if folder.is_dir():
                yield from (path for path in sorted(folder.iterdir()) if is_sha256(path.name))

    def scratch(self) -> Path:
        """Where a file may be for a moment; what a crash leaves of it, the next backup removes."""
        return self.root / _INCOMING / secrets.token_hex(8)

    def put(self, path: Path, *, offset: int = 0, most: int | None = None) -> Content:
        """Copy a file in, durably but for its name, which `finish` sees to.

        Args:
            offset: where the data begin whose digest is wanted as well.
            most: bytes that count; what is behind them does not.

        Raises:
            OSError: *path* cannot be read.
            BackupError: the copy cannot be written.
        """
        whole, data = hashlib.sha256(), hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            pieces = pieces_of(file, most)
            first = next(pieces, b"")
            update_digests(first, 0, offset, whole, data)
            if len(first) < PIECE:  # most files are small: nothing is written that is there
                return self._put_small(first, whole.hexdigest(), data.hexdigest())
            staged = self.scratch()
            try:
                size = len(first)
                with created_file(staged) as target:
                    write_piece(target, first, staged)
                    for piece in pieces:
                        self.check()
                        update_digests(piece, size, offset, whole, data)
                        write_piece(target, piece, staged)
                        size += len(piece)
                    sync_descriptor(target, staged)
                is_new = self._name(staged, whole.hexdigest(), size)
            finally:
                with suppress(FileNotFoundError):
                    staged.unlink()
        return Content(size, whole.hexdigest(), data.hexdigest(), is_new)

    def _put_small(self, content: bytes, sha256: str, data_sha256: str) -> Content:
        is_new = False
        if not self.has(Entry("-", len(content), sha256, "")):
            staged = self.root / _INCOMING / secrets.token_hex(8)
            try:
                with created_file(staged) as target:
                    write_piece(target, content, staged)
                    sync_descriptor(target, staged)
                is_new = self._name(staged, sha256, len(content))
            finally:
                with suppress(FileNotFoundError):
                    staged.unlink()
        return Content(len(content), sha256, data_sha256, is_new)

    def _name(self, staged: Path, sha256: str, size: int) -> bool:
        path = self.path_of(sha256)
        if self.has(Entry("-", size, sha256, "")):
            return False
        try:
            path.parent.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
            staged.replace(path)
        except OSError as error:
            raise backup_error(self.root, error) from error
        with self._guard:
            self._unsynced.add(path.parent)
        return True
