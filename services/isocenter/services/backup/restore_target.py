"""Target of a restore: what goes elsewhere than into files of the data directory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.sweeping.ports import StagedKeys
from isocenter.services.backup.manifest import BackupError, Entry
from isocenter.services.backup.ports import TRASH
from isocenter.services.backup.relocation.ports import ArchiveTables, CopyRecord, NamedObject
from isocenter.services.backup.relocation.table_copies import Advance, check_tables, copy_tables
from isocenter.services.backup.tier_files import TierFiles, deletion_of, key_of
from isocenter.services.service_classes.print.ports import FILMS, FilmFiles

#: In the data directory, until the restore is finished: what was copied elsewhere.
RECORD: Final = "restoring.db"
#: In the record: nothing was there before.
_BEGUN: Final = "begun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """The database of an archive, and where its objects and films are.

    Attributes:
        tables: take the rows.
        open_index: the tables of an index file, which may be of an earlier schema.
        films: take what is to be printed.
        record: of what was copied.
        objects: take objects and trash; None: they are in the data directory.
        notes: of keys that are written; None: the place of the objects needs none.
    """

    tables: ArchiveTables
    open_index: Callable[[Path], AbstractAsyncContextManager[ArchiveTables]]
    films: FilmFiles
    record: CopyRecord
    objects: TierFiles | None = None
    notes: StagedKeys | None = None

    async def check(self) -> None:
        """Whether nothing is there, but for what the same restore has put there before.

        Raises:
            BackupError: something is.
        """
        await check_tables(self.tables, self.record)
        if self.record.value(_BEGUN):
            return
        if self.objects is not None and await self.objects.has_any():
            raise BackupError(
                "the place of the objects (objects.url) is not empty; nothing was changed there. "
                "Name an empty folder, or a prefix of the bucket where nothing is"
            )
        self.record.keep(_BEGUN, "yes")

    async def unknown(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Those of which no copy is known."""
        named = {_named(entry): entry for entry in entries if key_of(entry.path)}
        unknown = await trio.to_thread.run_sync(self.record.unknown, list(named))
        known = named.keys() - set(unknown)
        return [entry for entry in entries if _named(entry) not in known]

    async def note(self, entries: Sequence[Entry]) -> None:
        """They have been copied and compared."""
        named = [_named(entry) for entry in entries if key_of(entry.path)]
        if self.notes is not None:
            await self.notes.end([one.object_key for one in named])
        await trio.to_thread.run_sync(self.record.note, named, {})

    def takes_film(self, path: str) -> bool:
        """Whether a path of the backup is that of a film."""
        return _film(path) is not None

    async def put_film(self, path: str, png: bytes) -> None:
        """Raises:
        StorageError: it cannot be written.
        """
        film = _film(path)
        assert film is not None
        await self.films.put(*film, png)

    async def put_rows(self, index: Path, progress: Advance) -> None:
        """Have the database hold the rows of a copy of the index, which is changed.

        Raises:
            BackupError, StorageError: it does not; it holds what it held.
        """
        # A server may have been started on an archive that seemed to be empty.
        await check_tables(self.tables, self.record)
        async with self.open_index(index) as tables:
            await copy_tables(tables, self.tables, self.record, progress)


def _named(entry: Entry) -> NamedObject:
    return NamedObject(
        deletion_id=deletion_of(entry.path) if entry.path.startswith(TRASH) else "",
        object_key=key_of(entry.path),
        sop_instance_uid="",
        size=entry.size,
        data_set_offset=0,
        digest=entry.sha256,
    )


def _film(path: str) -> tuple[str, int] | None:
    """Print job and number."""
    match path.split("/"):
        case [first, job_uid, name] if first == FILMS and name.endswith(".png"):
            number = name.removesuffix(".png")
            return (job_uid, int(number)) if number.isascii() and number.isdecimal() else None
    return None
