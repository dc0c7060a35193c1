"""Making a backup, beside a server that goes on.

The index is copied first, as of one moment; then every file that its rows point to, unless the
backup has it already.  What was acknowledged before the backup began is in that index.  Objects
that are removed or replaced meanwhile are put aside until the backup has had them.  Where one has
gone all the same, the index is copied again: what a second look finds new is little.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import field
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Final

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.counted_findings import CountedFindings
from isocenter.services.archive.tiers.tier import Tier, tier_of
from isocenter.services.backup import private_keys as keys
from isocenter.services.backup.content_files import created_file, write_piece, write_synced
from isocenter.services.backup.generation import Generation
from isocenter.services.backup.manifest import (
    BackupError,
    Entry,
    KeptKey,
    Known,
    Manifest,
    line_of,
    manifest_text,
    open_list,
    read_list,
)
from isocenter.services.backup.parallel import Blocks, each
from isocenter.services.backup.ports import TRASH, IndexedFile, IndexFile
from isocenter.services.backup.repository import PARTIAL, BackupFolder, Content
from isocenter.services.backup.source import AUDIT, Source, is_key, other_files
from isocenter.services.errors import StorageError, text_of
from isocenter.services.security.audit.trail import HEAD_FILE
from isocenter.services.security.audit.trail_segments import segments_of
from isocenter.services.service_classes.print.ports import FILMS
from isocenter.services.system.file_lock import directory_lock
from isocenter.services.system.private_files import PRIVATE_DIRECTORY

#: In each folder of the trash.
DELETION: Final = "deletion.json"
#: Looks at the index after which an archive that changes all the time is given up.
_MOST_ROUNDS: Final = 10
#: Looks at the audit trail, where others remove files of it.
_MOST_LOOKS: Final = 5
#: A tier of which more objects in a row cannot be read is not there; some may be damaged.
_MOST_UNREADABLE: Final = 20
#: Folders whose files belong together, and the locks that keep them so.
_LOCKED: Final = ("access", "certs")

#: What is done, how much of it, and of how much (None: nobody knows).
Progress = Callable[[str, int, int | None], None]


@dataclass(slots=True)
class _Made:
    """What was found and copied so far."""

    copied: int = 0
    copied_size: int = 0
    objects_size: int = 0
    files: int = 0
    files_size: int = 0
    instances: int = 0
    trashed: int = 0
    faults: CountedFindings = field(default_factory=CountedFindings)
    left_out: CountedFindings = field(default_factory=CountedFindings)
    keys: list[KeptKey] = field(default_factory=list)


async def make_backup(
    source: Source,
    folder: BackupFolder,
    *,
    passphrase: bytes | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    progress: Progress = lambda what, done, total: None,
) -> tuple[Generation, Manifest]:
    """Add a generation to *folder*, whose lock the caller holds.

    Cancelled: nothing but an unfinished generation is left, which the next call takes over.

    Args:
        passphrase: take private keys along, encrypted with it; None: name them only.

    Raises:
        BackupError, StorageError, OSError: it cannot be made, and the last one is still there.
    """
    return await _Backup(source, folder, passphrase, now, progress).make()


class _Backup:
    def __init__(
        self,
        source: Source,
        folder: BackupFolder,
        passphrase: bytes | None,
        now: Callable[[], datetime],
        progress: Progress,
    ) -> None:
        self._source = source
        self._folder = folder
        self._passphrase = passphrase
        self._now = now
        self._progress = progress
        self._made = _Made()
        #: Objects of a tier one after the other that could not be read.
        self._unreadable: Counter[Tier] = Counter()
        self._unreadable_films = 0
        self._live = source.index_in_use
        folder.check = trio.from_thread.check_cancelled

    async def make(self) -> tuple[Generation, Manifest]:
        began = self._now()
        _check_places(self._source, self._folder.root)
        version = await self._live.version()
        previous = self._folder.generations()[-1:] + self._folder.unfinished()
        generation = self._folder.begin(f"{began:%Y%m%dT%H%M%SZ}")
        try:
            with self._source.hold.taken():
                moment = await self._copy_index_and_objects(generation, previous)
            await self._copy_others(generation, previous)
            await trio.to_thread.run_sync(partial(self._write_settings, generation))
            index = self._source.index(generation.index)
            self._progress("checking the index", 0, None)
            for fault in await trio.to_thread.run_sync(index.faults):
                self._made.faults.add("index", fault)
            manifest = self._manifest(generation, began, moment, version)
            write_synced(generation.folder / "manifest.json", manifest_text(manifest))
        except OSError as error:
            raise BackupError(f"{error.filename or self._folder.root}: {text_of(error)}") from error
        # From here on it is complete, or it is not: there is nothing in between to stop at.
        with trio.CancelScope(shield=True):
            finished = await trio.to_thread.run_sync(self._folder.finish, generation)
            await trio.to_thread.run_sync(self._folder.clear_unfinished)
        return finished, manifest

    # Index and objects.

    async def _copy_index_and_objects(
        self, generation: Generation, previous: Sequence[Generation]
    ) -> datetime:
        """Until both agree; the moment that they are of."""
        lists = [path for one in previous for path in _lists(one, "objects")]
        for number in range(1, _MOST_ROUNDS + 1):
            moment = self._now()
            await self._live.copy_to(generation.index, partial(self._progress, "copying the index"))
            index = self._source.index(generation.index)
            total = await trio.to_thread.run_sync(index.count)
            path = generation.folder / f"objects.{number}.jsonl"
            self._made.instances, self._made.trashed, self._made.objects_size = 0, 0, 0
            self._made.faults = CountedFindings()
            is_whole = await self._copy_objects(index, lists, path, total)
            if is_whole:
                path.rename(generation.objects)
                for other in _lists(generation, "objects"):
                    if other != generation.objects:
                        other.unlink()
                return moment
            lists.append(path)
        raise BackupError(
            "the archive replaces and removes objects faster than they are copied; have a backup "
            "made when less is going on"
        )

    async def _copy_objects(
        self, index: IndexFile, lists: Sequence[Path], path: Path, total: int
    ) -> bool:
        """Whether everything in the index was there, or is missing from the archive itself."""
        is_whole = True
        known = _known(lists)
        rows = index.files()

        def look() -> Iterator[tuple[IndexedFile, Entry | None]]:
            for row in rows:
                entry = known.of(row.path, row.mark)
                yield row, entry if entry and self._folder.has(entry) else None

        with open_list(path) as file:
            async for block in Blocks(look()):
                new = [row for row, entry in block if entry is None]
                copies = dict(zip(new, await each(self._copy_object, new), strict=True))
                lost = [row for row, entry in copies.items() if isinstance(entry, str)]
                if lost and not await self._are_lost(lost, copies):
                    is_whole = False  # the rest is of use to the next round
                for row, entry in block:
                    copy = entry or copies[row]
                    if row.path.startswith(TRASH):
                        self._made.trashed += 1
                    else:
                        self._made.instances += 1
                    if isinstance(copy, Entry):
                        self._made.objects_size += copy.size
                        file.write(line_of(copy))
                file.flush()
                done = self._made.instances + self._made.trashed
                self._progress("copying objects", done, total)
        return is_whole

    def _copy_object(self, row: IndexedFile) -> Entry | str:
        if self._source.is_elsewhere or tier_of(row.object_key) is not Tier.HOT:
            return self._copy_from_tier(row)
        fault = "its object is gone"
        for place in self._source.places_of(row):
            try:
                content = self._folder.put(place, offset=row.data_set_offset)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                fault = f"cannot be read: {text_of(error)}"
                continue
            entry = self._judged(row, content)
            if isinstance(entry, Entry):
                return entry
            fault = entry
        return fault

    def _copy_from_tier(self, row: IndexedFile) -> Entry | str:
        if self._source.tiers is None:
            return f"it is in the tier {tier_of(row.object_key).value}, and the settings name none"
        tier, fetched = tier_of(row.object_key), self._folder.scratch()
        try:
            is_there = trio.from_thread.run(self._source.tiers.fetch, row, fetched)
            self._unreadable[tier] = 0
            if not is_there:
                return "its object is gone"
            return self._judged(row, self._folder.put(fetched, offset=row.data_set_offset))
        except StorageError as error:
            self._unreadable[tier] += 1
            if self._unreadable[tier] > _MOST_UNREADABLE:
                raise
            return f"cannot be read: {error}"
        finally:
            fetched.unlink(missing_ok=True)

    def _judged(self, row: IndexedFile, content: Content) -> Entry | str:
        """The content that was copied, or what is wrong with it."""
        if content.size != row.size:
            return f"{content.size} bytes instead of {row.size}"
        if content.data_sha256 != row.digest:
            return "the data set is not the one that was stored"
        if content.is_new:
            self._made.copied += 1
            self._made.copied_size += content.size
        return Entry(row.path, content.size, content.sha256, row.mark)

    async def _are_lost(
        self, rows: Sequence[IndexedFile], found: dict[IndexedFile, Entry | str]
    ) -> bool:
        """Whether the archive itself has lost them; else they were removed or replaced just now."""
        if not await self._live.still_names(rows):
            return False
        for row in rows:
            self._made.faults.add(row.sop_instance_uid, str(found[row]))
        return True

    # Everything else.

    async def _copy_others(self, generation: Generation, previous: Sequence[Generation]) -> None:
        lists = [path for one in previous for path in _lists(one, "files")]
        fetched = await self._fetch_others(generation)
        with open_list(generation.files) as file:
            async for block in Blocks(self._others(generation, lists, fetched)):
                for entry in block:
                    self._made.files += 1
                    self._made.files_size += entry.size
                    file.write(line_of(entry))
                file.flush()
                self._progress("copying other files", self._made.files, None)

    async def _fetch_others(self, generation: Generation) -> list[Entry]:
        """What the trash says of itself, and films, where they are not in the data directory."""
        found: dict[str, Entry] = {}
        if self._source.is_elsewhere and self._source.tiers is not None:
            index = self._source.index(generation.index)
            wanted = set(await trio.to_thread.run_sync(index.deletions))
            try:
                async with self._source.tiers.manifests() as manifests:
                    async for deletion_id, manifest in manifests:
                        if TRASH + deletion_id in wanted:
                            path = f"{TRASH}{deletion_id}/{DELETION}"
                            found[path] = await trio.to_thread.run_sync(self._keep, path, manifest)
            except StorageError as error:
                for path in sorted(f"{folder}/{DELETION}" for folder in wanted):
                    if path not in found:
                        self._made.faults.add(path, f"cannot be read: {error}")
        if self._source.films is not None:
            async with aclosing(self._source.films()) as films:
                async for name, png in films:
                    path = f"{FILMS}/{name}"
                    if png is None:
                        self._made.faults.add(path, "it is gone")
                    elif isinstance(png, StorageError):
                        self._count_unreadable(path, png)
                    else:
                        self._unreadable_films = 0
                        found[path] = await trio.to_thread.run_sync(self._keep, path, png)
        return sorted(found.values(), key=attrgetter("path"))

    def _count_unreadable(self, path: str, error: StorageError | OSError) -> None:
        """A film that is not in the backup; where none can be read, the failure."""
        self._unreadable_films += 1
        if self._unreadable_films > _MOST_UNREADABLE:
            raise error
        what = text_of(error) if isinstance(error, OSError) else str(error)
        self._made.faults.add(path, f"cannot be read: {what}")

    def _keep(self, path: str, content: bytes) -> Entry:
        """Content that comes from no file."""
        fetched = self._folder.scratch()
        try:
            with created_file(fetched) as file:
                write_piece(file, content, fetched)
            put = self._folder.put(fetched)
        finally:
            fetched.unlink(missing_ok=True)
        self._made.copied += put.is_new
        self._made.copied_size += put.size if put.is_new else 0
        return Entry(path, put.size, put.sha256, f"{put.size} {put.sha256}")

    def _others(
        self, generation: Generation, lists: Sequence[Path], fetched: Sequence[Entry]
    ) -> Iterator[Entry]:
        def left_out(path: str) -> None:
            self._made.left_out.add(path, "")

        paths = other_files(self._source, left_out)
        together: list[Entry] = []
        with ExitStack() as stack:
            for name in _LOCKED:
                if (self._source.data_dir / name).is_dir():
                    stack.enter_context(directory_lock(self._source.data_dir / name))
            for path in other_files(self._source, lambda path: None):
                if path.partition("/")[0] in _LOCKED:
                    together += self._copy_file(generation, path, None)
        together += self._copy_trail(lists)
        known = _known(lists)
        # What the trash says of itself, but of no later deletion: the index does not know it.
        manifests: list[str] = []
        if not self._source.is_elsewhere:
            deletions = self._source.index(generation.index).deletions()
            manifests = [f"{folder}/{DELETION}" for folder in deletions]
        rest = heapq.merge(
            (path for path in paths if path.partition("/")[0] not in _LOCKED), manifests
        )
        others = {entry.path for entry in fetched}
        single = (
            entry
            for path in rest
            if path not in others
            for entry in self._copy_file(generation, path, known)
        )
        together.sort(key=attrgetter("path"))
        yield from heapq.merge(together, single, fetched, key=attrgetter("path"))

    def _copy_file(self, generation: Generation, path: str, known: Known | None) -> Iterable[Entry]:
        """None when it has vanished, or is a key."""
        place = self._source.place_of(path)
        try:
            if place in self._source.secrets:
                self._keep_key(generation, path, b"")
                return ()
            size = place.stat().st_size
            if size <= keys.MOST_KEY_BYTES:
                content = place.read_bytes()
                if is_key(path) or place in self._source.keys:
                    self._keep_key(generation, path, content, keys.encrypted_secret)
                    return ()
                if keys.is_open_key(content):
                    self._keep_key(generation, path, content)
                    return ()
            entry = self._put(path, known=known)
        except FileNotFoundError:
            return ()
        except OSError as error:
            if not path.startswith(f"{FILMS}/"):
                raise
            self._count_unreadable(path, error)
            return ()
        if path.startswith(f"{FILMS}/"):
            self._unreadable_films = 0
        return (entry,)

    def _put(self, path: str, *, known: Known | None, most: int | None = None) -> Entry:
        place = self._source.place_of(path)
        while True:
            look = place.stat()
            size = look.st_size if most is None else most
            mark = f"{size} {look.st_mtime_ns}"
            is_known = known is not None and look.st_size == size
            before = known.of(path, mark) if known is not None and is_known else None
            if before is not None and self._folder.has(before):
                return before
            content = self._folder.put(place, most=most)
            after = place.stat()
            # Most files are replaced as a whole; one that was written to meanwhile is read again.
            if most is not None or (after.st_size, after.st_mtime_ns) == (
                look.st_size,
                look.st_mtime_ns,
            ):
                self._made.copied += content.is_new
                self._made.copied_size += content.size if content.is_new else 0
                return Entry(path, content.size, content.sha256, mark)
            trio.from_thread.check_cancelled()

    def _copy_trail(self, lists: Sequence[Path]) -> list[Entry]:
        """The audit trail as of one moment: its head, and its files up to there."""
        folder = self._source.audit
        if not folder.is_dir():
            return []
        for _ in range(_MOST_LOOKS):
            try:
                return self._copy_trail_once(folder, _known(lists))
            except FileNotFoundError:
                continue  # a file of it was just sealed or removed
        raise BackupError(f"the files of the audit trail in {folder} change all the time")

    def _copy_trail_once(self, folder: Path, known: Known) -> list[Entry]:
        with directory_lock(folder):
            sizes = {
                segment.path.name: segment.path.stat().st_size for segment in segments_of(folder)
            }
            entries = []
            if (folder / HEAD_FILE).exists():
                entries.append(self._put(f"{AUDIT}/{HEAD_FILE}", known=None))
        # Where the collectors are, and whatever else lasts.
        others = {
            path.name
            for path in folder.iterdir()
            if path.is_file() and not path.name.startswith(".") and path.name != HEAD_FILE
        }
        others -= {segment.path.name for segment in segments_of(folder)}
        entries += [
            self._put(f"{AUDIT}/{name}", known=known, most=sizes.get(name))
            for name in sorted(sizes.keys() | others)
        ]
        return entries

    def _keep_key(
        self,
        generation: Generation,
        path: str,
        content: bytes,
        encrypt: Callable[[bytes, bytes], bytes] | None = None,
    ) -> None:
        kept = "reference"
        if self._passphrase is not None and content:
            target = generation.keys / path
            target.parent.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
            write_synced(
                target,
                keys.encrypted(path, content, self._passphrase)
                if encrypt is None
                else encrypt(content, self._passphrase),
            )
            kept = "encrypted"
        self._made.keys.append(keys.note_of(path, content, kept=kept))

    def _write_settings(self, generation: Generation) -> None:
        generation.settings.mkdir(mode=PRIVATE_DIRECTORY)
        for name, content in self._source.settings:
            write_synced(generation.settings / name, content)

    def _manifest(
        self, generation: Generation, began: datetime, moment: datetime, version: int
    ) -> Manifest:
        made = self._made
        return Manifest(
            program=self._source.program,
            began=_text(began),
            point_in_time=_text(moment),
            finished=_text(self._now()),
            data_dir=str(self._source.data_dir),
            schema_version=version,
            instances=made.instances,
            trashed=made.trashed,
            objects_size=made.objects_size,
            files=made.files,
            files_size=made.files_size,
            index_size=generation.index.stat().st_size,
            copied=made.copied,
            copied_size=made.copied_size,
            faults=tuple((name, reason) for name, reason in made.faults.named),
            faults_found=made.faults.count,
            left_out=tuple(name for name, _ in made.left_out.named),
            outside=tuple((setting, str(path)) for setting, path in self._source.outside),
            keys=tuple(made.keys),
        )


def _known(lists: Sequence[Path]) -> Known:
    return Known([read_list(one, is_unfinished=True) for one in lists])


def _lists(generation: Generation, kind: str) -> list[Path]:
    """Of a generation that is complete one, of an unfinished one perhaps several."""
    if not generation.name.endswith(PARTIAL):
        return [generation.folder / f"{kind}.jsonl"]
    return sorted(generation.folder.glob(f"{kind}*.jsonl"))


def _check_places(source: Source, root: Path) -> None:
    try:
        data_dir, target = source.data_dir.resolve(strict=True), root.resolve(strict=True)
    except OSError as error:
        raise BackupError(f"{error.filename}: {text_of(error)}") from error
    for what, place in (
        (f"the data directory {source.data_dir}", data_dir),
        (f"the folder of the audit trail {source.audit}", source.audit.resolve()),
    ):
        if target == place or place in target.parents or target in place.parents:
            raise BackupError(
                f"{root} and {what} lie within each other; back up to another disk, or another "
                "folder at least"
            )


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
