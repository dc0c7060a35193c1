"""Bringing an archive back from a backup, to where nothing is.

Nothing is touched before everything that can be known is known: that the backup is whole by its
sums and sizes, that this program can use it, that there is room, that the passphrase opens the
keys.  A file gets its name when its bytes are those of the backup and on stable storage; the
index comes last.  Until then a mark in the folder keeps servers out, and the same restore goes on
where it was cut short.

Where the database is PostgreSQL, or objects are not in the data directory, they go there at once,
as in a relocation: each object is read back and compared, the rows come last, in one step.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Final

import orjson
import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.counted_findings import CountedFindings
from isocenter.services.archive.tiers.tier import Tier
from isocenter.services.backup import private_keys as keys
from isocenter.services.backup.content_files import digest_of
from isocenter.services.backup.creation import DELETION, Progress
from isocenter.services.backup.generation import Generation
from isocenter.services.backup.manifest import BackupError, Entry, KeptKey, Manifest
from isocenter.services.backup.parallel import Blocks, each
from isocenter.services.backup.ports import OBJECTS, TRASH, IndexFile
from isocenter.services.backup.repository import BackupFolder
from isocenter.services.backup.restore_mark import RESTORING, check_not_restoring
from isocenter.services.backup.restore_target import Elsewhere
from isocenter.services.backup.source import AUDIT, INDEX_NAME
from isocenter.services.backup.tier_files import TierFiles, deletion_of, key_of, tier_of_path
from isocenter.services.errors import text_of
from isocenter.services.system.private_files import (
    PRIVATE_DIRECTORY,
    PRIVATE_FILE,
    make_private_directory,
    match_owner,
    sync_directory,
    write_file,
)

_STAGING: Final = "staging"
_PIECE: Final = 1 << 20
#: Files that are looked at between two signs of life.
_LOOKS: Final = 512
#: Left free, so that the archive can start.
_SPARE_BYTES: Final = 64 << 20
#: Where nothing of an archive lies; file systems make such folders by themselves.
_NOTHING: Final = frozenset({"lost+found", "lock"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an archive is restored to.

    Attributes:
        data_dir: its data directory.
        audit: where its audit trail belongs.
        elsewhere: database, and place of the objects, for people; empty: all is in the data
            directory.
        has_objects: objects and trash belong into the data directory.
    """

    data_dir: Path
    audit: Path
    elsewhere: str = ""
    has_objects: bool = True

    def of(self, path: str) -> Path:
        """Where a file of the backup belongs."""
        first, _, rest = path.partition("/")
        return self.audit / rest if first == AUDIT else self.data_dir / path


@dataclass(slots=True)
class RestoreReport:
    """What was done.

    Attributes:
        files, size: that were written.
        skipped: that were there from before the restore was cut short.
        missing: what the backup has lost (with *is_incomplete* only).
        keys: private keys that are to be put back by hand.
    """

    files: int = 0
    size: int = 0
    skipped: int = 0
    missing: CountedFindings = field(default_factory=CountedFindings)
    keys: list[KeptKey] = field(default_factory=list)


class Restoring:
    """One restore, in steps: `check`, which changes nothing, `begin` and `run`.

    Args:
        index: opens an index file.
        passphrase: opens the keys in the backup; None: they stay there.
        is_incomplete: go on without what the backup has lost.
        may_replace: what is there does not matter; the caller moves it aside before `run`.
        tiers: that the archive is to have.
    """

    def __init__(
        self,
        folder: BackupFolder,
        generation: Generation,
        place: Place,
        *,
        index: Callable[[Path], IndexFile],
        passphrase: bytes | None = None,
        is_incomplete: bool = False,
        may_replace: bool = False,
        tiers: Collection[Tier] = (),
        progress: Progress = lambda what, done, total: None,
    ) -> None:
        self._folder = folder
        self._generation = generation
        self._place = place
        self._index = index
        self._passphrase = passphrase
        self._is_incomplete = is_incomplete
        self._may_replace = may_replace
        self._progress = progress
        self._tiers_named = tiers
        self._tiers: TierFiles | None = None
        self._elsewhere: Elsewhere | None = None
        self._manifests: dict[str, Entry] = {}
        self._report = RestoreReport()
        self._keys: list[tuple[str, bytes]] = []

    async def check(self) -> Manifest:
        """Everything that can be known before.

        Raises:
            BackupError: it cannot be restored, or not there; nothing was touched.
        """
        return await trio.to_thread.run_sync(self._check)

    def _check(self) -> Manifest:
        generation = self._generation
        faults = generation.check_own_files()
        if faults:
            raise BackupError(
                f"the backup {generation.name} is damaged: {faults[0]} (isocenter backup --verify "
                "names everything); choose another one with --generation NAME"
            )
        manifest = generation.manifest()
        latest = self._index(generation.index).latest_version
        if manifest.schema_version > latest:
            raise BackupError(
                f"the backup is of a newer Isocenter ({manifest.program}, schema version "
                f"{manifest.schema_version}; this program knows {latest}); use that version"
            )
        self._check_empty()
        self._check_contents(manifest)
        self._open_keys(manifest)
        return manifest

    @property
    def is_continued(self) -> bool:
        """Whether it was begun before, and cut short."""
        try:
            members = orjson.loads((self._place.data_dir / RESTORING).read_bytes())
            found = members["generation"], members.get("elsewhere", "")
            return bool(found == (self._generation.name, self._place.elsewhere))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False

    def _check_empty(self) -> None:
        root = self._folder.root.resolve()
        for place in dict.fromkeys((self._place.data_dir, self._place.audit)):
            real = place.resolve()
            if real == root or root in real.parents or real in root.parents:
                raise BackupError(f"{place} and the backup {root} lie within each other")
        if self._may_replace or self.is_continued:
            return
        try:
            check_not_restoring(self._place.data_dir)
        except BackupError as error:
            raise BackupError(
                f"{error}; or have what is there moved aside first with --replace"
            ) from error
        for place in dict.fromkeys((self._place.data_dir, self._place.audit)):
            try:
                names = set(os.listdir(place)) - _NOTHING
            except FileNotFoundError:
                continue
            except OSError as error:
                raise BackupError(f"{place}: {text_of(error)}") from error
            if names:
                raise BackupError(
                    f"{place} is not empty ({min(names)!r}); restore into a new folder, or have "
                    "what is there moved aside first with --replace"
                )

    def _check_contents(self, manifest: Manifest) -> None:
        missing, first = 0, ""
        # On its way into a database it is there two times more.
        copies = 3 if self._place.elsewhere else 1
        needed = Counter({self._place.data_dir: copies * manifest.index_size})
        for number, entry in enumerate(self._generation.entries()):
            is_trail = entry.path.startswith(f"{AUDIT}/")
            tier = tier_of_path(entry.path)
            if tier is not Tier.HOT:
                if tier not in self._tiers_named:
                    raise BackupError(
                        f"the backup has objects of the tier {tier.value}, and the settings name "
                        f"none (tiers.{tier.value}); name a place for them"
                    )
            elif self._place.has_objects or not key_of(entry.path):
                needed[self._place.audit if is_trail else self._place.data_dir] += entry.size
            if not self._folder.has(entry):
                missing += 1
                first = first or entry.path
            if number % _LOOKS == 0:
                trio.from_thread.check_cancelled()
                total = manifest.instances + manifest.trashed + manifest.files
                trio.from_thread.run_sync(self._progress, "checking", number, total)
        if missing and not self._is_incomplete:
            raise BackupError(
                f"{missing} files are missing in the backup, or are of wrong size (the first: "
                f"{first}); choose another one with --generation NAME, or take what there is with "
                "--incomplete"
            )
        if self.is_continued:
            return  # some of it is there
        _check_room(needed)

    def _open_keys(self, manifest: Manifest) -> None:
        for key in manifest.keys:
            if key.kept != "encrypted" or self._passphrase is None:
                self._report.keys.append(key)
                continue
            path = self._generation.keys / key.path
            self._keys.append(
                (key.path, keys.decrypted(key.path, path.read_bytes(), self._passphrase))
            )

    async def begin(self) -> None:
        """From here on no server starts; the caller holds the lock of the data directory.

        Raises:
            BackupError: another restore has begun there.
            OSError: the data directory cannot be written.
        """
        await trio.to_thread.run_sync(self._begin)

    async def run(
        self, tiers: TierFiles | None = None, elsewhere: Elsewhere | None = None
    ) -> RestoreReport:
        """Write everything; `begin` has been called, and the caller holds the lock.

        Args:
            tiers: take what is in tiers.
            elsewhere: takes what goes elsewhere; None: all else is in the data directory.

        Raises:
            BackupError, StorageError, OSError: it could not be finished; the same restore goes on
                later.
        """
        self._tiers, self._elsewhere = tiers, elsewhere
        if elsewhere is not None:
            await elsewhere.check()
            self._tiers = elsewhere.objects or tiers
        if self._tiers is not None:
            await trio.to_thread.run_sync(self._read_deletions)
        manifest = self._generation.manifest()
        total = manifest.instances + manifest.trashed + manifest.files
        done = 0
        for is_of_trash in (True, False) if self._is_in_store(TRASH) else (None,):
            async for block in Blocks(self._entries(is_of_trash)):
                await self._restore_block(block)
                done += len(block)
                self._progress("restoring", done, total)
        await self._finish()
        return self._report

    def _entries(self, is_of_trash: bool | None) -> Iterator[Entry]:
        """Of a store, the trash comes first: it may have an object under a key that another one
        has now."""
        for entry in self._generation.entries():
            if is_of_trash is None or entry.path.startswith(TRASH) == is_of_trash:
                yield entry

    def _is_in_store(self, path: str) -> bool:
        """Whether a file of the backup is not one of the data directory."""
        if self._elsewhere is not None and self._elsewhere.objects is not None:
            return path.startswith((OBJECTS, TRASH))
        return tier_of_path(path) is not Tier.HOT

    async def _restore_block(self, block: Sequence[Entry]) -> None:
        elsewhere = self._elsewhere
        if elsewhere is None or elsewhere.objects is None:
            await each(self._restore, block)
            await trio.to_thread.run_sync(self._sync_folders, block)
            return
        unknown = await elsewhere.unknown(block)
        self._report.skipped += len(block) - len(unknown)
        are_there = await each(self._restore, unknown)
        await trio.to_thread.run_sync(self._sync_folders, unknown)
        await elsewhere.note(
            [one for one, is_there in zip(unknown, are_there, strict=True) if is_there]
        )

    def _begin(self) -> None:
        data_dir = self._place.data_dir
        if not self.is_continued:  # nor has another restore begun since `check`
            check_not_restoring(data_dir)
        folders = [data_dir, self._place.audit, data_dir / _STAGING]
        if self._place.has_objects:
            folders.append(data_dir / "objects")
        for folder in folders:
            make_private_directory(folder)
            if folder != data_dir:
                match_owner(data_dir, folder)
        if (data_dir / "lock").exists():
            match_owner(data_dir, data_dir / "lock")
        mark = {
            "backup": str(self._folder.root),
            "generation": self._generation.name,
            "elsewhere": self._place.elsewhere,
        }
        write_file(data_dir / RESTORING, orjson.dumps(mark), PRIVATE_FILE, replace=True)
        for name in os.listdir(data_dir / _STAGING):  # of a restore that was cut short
            with suppress(OSError):
                (data_dir / _STAGING / name).unlink()

    def _read_deletions(self) -> None:
        self._manifests = {
            deletion_of(entry.path): entry
            for entry in self._generation.entries()
            if _is_deletion(entry.path)
        }

    def _restore(self, entry: Entry) -> bool:
        """Whether it is there now."""
        is_in_store = self._is_in_store(entry.path)
        target = self._place.of(entry.path)
        with suppress(FileNotFoundError):
            # Files of the archive change; those that were restored have not.
            if (
                not is_in_store
                and entry.path.startswith((OBJECTS, TRASH))
                and target.stat().st_size == entry.size
            ):
                self._report.skipped += 1
                return True
        source = self._folder.path_of(entry.sha256)
        if self._is_incomplete and not self._folder.has(entry):
            self._report.missing.add(entry.path, "is not in the backup")
            return False
        if is_in_store and _is_deletion(entry.path):
            is_whole = self._begin_deletion(entry)
        elif is_in_store:
            is_whole = self._put_in_tier(entry, source)
        elif self._elsewhere is not None and self._elsewhere.takes_film(entry.path):
            is_whole = self._put_film(entry)
        else:
            is_whole = self._copy(source, target, entry.sha256)
        if not is_whole:
            if not self._is_incomplete:
                raise BackupError(
                    f"{entry.path} is damaged in the backup; choose another one with --generation "
                    "NAME, or go on without it with --incomplete"
                )
            self._report.missing.add(entry.path, "is damaged in the backup")
            return False
        self._report.files += 1
        self._report.size += entry.size
        return True

    def _put_in_tier(self, entry: Entry, source: Path) -> bool:
        assert self._tiers is not None
        manifest = b"{}"
        if entry.path.startswith(TRASH):
            deletion = self._manifests.get(deletion_of(entry.path))
            manifest = (deletion and self._content(deletion)) or manifest
        return trio.from_thread.run(self._tiers.put, entry, source, manifest)

    def _begin_deletion(self, entry: Entry) -> bool:
        assert self._tiers is not None
        if (manifest := self._content(entry)) is None:
            return False
        trio.from_thread.run(self._tiers.begin, deletion_of(entry.path), manifest)
        return True

    def _put_film(self, entry: Entry) -> bool:
        assert self._elsewhere is not None
        if (png := self._content(entry)) is None:
            return False
        trio.from_thread.run(self._elsewhere.put_film, entry.path, png)
        return True

    def _content(self, entry: Entry) -> bytes | None:
        """Of a small file; None: it is damaged in the backup."""
        try:
            content = self._folder.path_of(entry.sha256).read_bytes()
        except FileNotFoundError:
            return None
        return content if hashlib.sha256(content).hexdigest() == entry.sha256 else None

    def _copy(self, source: Path, target: Path, sha256: str) -> bool:
        """Whether the content is what it should be; only then it has its name."""
        # Renamed within one file system: the audit trail may lie on another one.
        is_here = self._place.data_dir in target.parents
        folder = self._place.data_dir / _STAGING if is_here else self._place.audit
        staged = folder / f".restoring-{secrets.token_hex(8)}"
        digest = hashlib.sha256()
        try:
            with source.open("rb", buffering=0) as file, staged.open("xb", buffering=0) as new:
                os.chmod(staged, PRIVATE_FILE)
                match_owner(self._place.data_dir, new.fileno())
                while piece := file.read(_PIECE):
                    trio.from_thread.check_cancelled()
                    digest.update(piece)
                    view = memoryview(piece)
                    while view:
                        view = view[new.write(view) :]
                os.fsync(new.fileno())
            if digest.hexdigest() != sha256:
                return False
            self._make_folder(target.parent)
            staged.replace(target)
        except OSError as error:
            what = "no room" if error.errno == errno.ENOSPC else text_of(error)
            raise BackupError(
                f"{self._place.data_dir}: {what}; the same command goes on where it stopped"
            ) from error
        finally:
            with suppress(FileNotFoundError):
                staged.unlink()
        return True

    def _make_folder(self, folder: Path) -> None:
        """And those above; an operator may be root, and the server somebody else."""
        if not folder.is_dir():
            self._make_folder(folder.parent)
            with suppress(FileExistsError):
                folder.mkdir(mode=PRIVATE_DIRECTORY)
                match_owner(self._place.data_dir, folder)

    def _sync_folders(self, entries: Sequence[Entry]) -> None:
        folders: set[Path] = set()
        for entry in entries:
            folder = self._place.of(entry.path).parent
            while folder not in folders and folder.is_dir():
                folders.add(folder)
                if folder in (self._place.data_dir, self._place.audit):
                    break
                folder = folder.parent
        for folder in sorted(folders):
            sync_directory(folder)

    async def _finish(self) -> None:
        await trio.to_thread.run_sync(self._put_keys)
        if self._elsewhere is None:
            await trio.to_thread.run_sync(self._put_index, self._place.data_dir / INDEX_NAME)
        else:
            copy = self._place.data_dir / _STAGING / INDEX_NAME
            await trio.to_thread.run_sync(self._put_index, copy)
            show = partial(self._progress, "restoring the index")
            await self._elsewhere.put_rows(copy, show)
        # From here on it is finished, or it is not: there is nothing in between to stop at.
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._end)

    def _put_keys(self) -> None:
        for path, content in self._keys:
            target = self._place.of(path)
            self._make_folder(target.parent)
            write_file(target, content, PRIVATE_FILE, replace=True)

    def _put_index(self, target: Path) -> None:
        index = self._generation.index
        for suffix in ("-wal", "-shm"):
            target.with_name(target.name + suffix).unlink(missing_ok=True)
        if not self._copy(index, target, digest_of(index)):
            raise BackupError(f"{index} changes while it is read")

    def _end(self) -> None:
        data_dir = self._place.data_dir
        for suffix in ("", "-wal", "-shm"):
            (data_dir / _STAGING / f"{INDEX_NAME}{suffix}").unlink(missing_ok=True)
        sync_directory(data_dir)
        (data_dir / RESTORING).unlink()
        sync_directory(data_dir)


def _is_deletion(path: str) -> bool:
    return path.startswith(TRASH) and path.endswith(f"/{DELETION}")


def move_aside(place: Path, suffix: str) -> Path | None:
    """Give what is at *place* another name; None: nothing is there.

    Raises:
        BackupError: it cannot be moved.
    """
    if not place.exists():
        return None
    aside = place.with_name(f"{place.name}.{suffix}")
    try:
        owner = place.stat()
        place.rename(aside)
        # What comes in its place belongs to whom it did.
        place.mkdir(mode=PRIVATE_DIRECTORY)
        if os.name == "posix" and os.geteuid() == 0:
            os.chown(place, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise BackupError(
            f"{place} cannot be moved to {aside} ({text_of(error)}); where it is a file system of "
            "its own, move what is in it yourself"
        ) from error
    return aside


def _check_room(needed: Mapping[Path, int]) -> None:
    """The audit trail may have a disk of its own."""
    together: dict[int, list[Path]] = defaultdict(list)
    for place in needed:
        together[_existing(place).stat().st_dev].append(place)
    for places in together.values():
        size = sum(needed[place] for place in places)
        free = shutil.disk_usage(_existing(places[0])).free
        if size + _SPARE_BYTES > free:
            names = " and ".join(map(str, places))
            raise BackupError(f"no room: {names} would need {size} bytes, and {free} are free")


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
