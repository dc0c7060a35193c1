"""Composition of a relocation: two archives, named by two sets of settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Final

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index_figures import IndexStatistics
from isocenter.services.archive.tiers.tier import InstanceAvailability, Tier
from isocenter.services.backup.manifest import BackupError
from isocenter.services.backup.relocation.file_copies import RECORD
from isocenter.services.backup.relocation.mark import (
    RelocationMark,
    read_mark,
    remove_mark,
    write_mark,
)
from isocenter.services.backup.relocation.object_copies import Stores
from isocenter.services.backup.relocation.ports import CopyRecord
from isocenter.services.backup.relocation.relocation import (
    Progress,
    RelocationReport,
    Side,
    check_target,
    relocate,
)
from isocenter.services.backup.restore_mark import check_not_restoring
from isocenter.services.backup.source import Folders
from isocenter.services.cluster.ports import Members
from isocenter.services.composition.archive import ArchiveParts, open_archive_parts
from isocenter.services.composition.audit import audit_folder
from isocenter.services.composition.database import has_index, inspect_database
from isocenter.services.composition.objects import try_bucket
from isocenter.services.errors import StorageError
from isocenter.services.settings.settings import Settings
from isocenter.storage.stores import SqliteCopyRecord

__all__ = ["Relocation", "RelocationPlan", "open_relocation", "plan_relocation"]

#: Beside the record, of SQLite.
_RECORD_FILES: Final = (RECORD, f"{RECORD}-wal", f"{RECORD}-shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """From where, to where.

    Attributes:
        origin_name, target_name: what the command was told.
    """

    origin: Settings
    target: Settings
    origin_name: str
    target_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RelocationPlan:
    """What would be done.

    Attributes:
        left: tables that are not copied, and why.
        is_begun: a relocation of this archive to there has begun.
    """

    objects: int
    statistics: IndexStatistics
    rows: int
    tables: int
    left: Mapping[str, str] = field(default_factory=dict)
    is_begun: bool = False


class _Stopped:
    """An archive none of whose nodes is to be at work, as whoever shares one locks nobody out.

    Args:
        which: of the two it is, for messages.
    """

    def __init__(self, which: str, members: Members) -> None:
        self._which = which
        self._members = members
        self._starts: frozenset[tuple[str, float]] | None = None

    async def check(self) -> None:
        """Raises:
        StorageError: nodes are at work on it, or have been since it was asked first.
        """
        found = await self._members.list()
        starts = frozenset((each.name, each.started_at) for each in found)
        if self._starts is None:
            self._starts = starts
        alive = {each.name for each in found if each.is_alive}
        alive |= {name for name, _ in starts - self._starts}
        if alive:
            names = sorted(alive)
            raise StorageError(
                f"the archive {self._which} has nodes that live: {', '.join(names[:5])}"
                f"{', …' if len(names) > 5 else ''}; stop all of them first (isocenter nodes "
                "list), and repeat this"
            )


class Relocation:
    """Two archives that are open; the context of `open_relocation`.

    Args:
        stopped: those that nobody is to serve meanwhile.
    """

    def __init__(
        self,
        source: Side,
        target: Side,
        record: CopyRecord,
        data_dir: Path,
        stopped: Sequence[_Stopped],
    ) -> None:
        self._source = source
        self._target = target
        self._record = record
        self._data_dir = data_dir
        self._stopped = stopped

    async def run(self, *, is_final: bool, progress: Progress) -> RelocationReport:
        """One pass; after the final one servers may start on the target.

        Raises:
            BackupError, StorageError, OSError: as of `relocate`.
        """
        report = await relocate(
            self._source, self._target, self._record, is_final=is_final, progress=progress
        )
        for archive in self._stopped:
            await archive.check()
        if is_final:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._finish)
        return report

    def _finish(self) -> None:
        # Without the mark, the record is a file that nobody reads.
        remove_mark(self._data_dir)
        self._record.close()
        for name in _RECORD_FILES:
            (self._data_dir / name).unlink(missing_ok=True)


@asynccontextmanager
async def open_relocation(ends: Ends, *, is_final: bool) -> AsyncIterator[Relocation]:
    """Open both archives, the target for nobody else.

    Args:
        is_final: open the source for nobody else as well, and bring to its end what a crash left.

    Raises:
        BackupError: they are not what a relocation can be made of.
        StorageError: one cannot be opened, or a server uses it.
    """
    mark = _check(ends)
    data_dir = Path(ends.target.storage.data_dir)
    async with AsyncExitStack() as stack:
        try:
            there = await stack.enter_async_context(
                open_archive_parts(ends.origin, lock=is_final, recover=is_final)
            )
        except StorageError as error:
            raise StorageError(f"the archive to be copied: {error}") from error
        try:
            here = await stack.enter_async_context(
                open_archive_parts(ends.target, rebuild=True, is_filled=True)
            )
        except StorageError as error:
            raise StorageError(f"the archive to copy to: {error}") from error
        stopped = [_Stopped("to copy to", here.stores.members)]
        if is_final:
            stopped.insert(0, _Stopped("to be copied", there.stores.members))
        for archive in stopped:
            await archive.check()
        record = SqliteCopyRecord(data_dir / RECORD)
        stack.callback(record.close)
        target = _side(ends.target, here)
        await check_target(target, record, is_begun=mark is not None)
        if mark is None:
            await trio.to_thread.run_sync(
                write_mark,
                data_dir,
                RelocationMark(
                    origin=ends.origin_name,
                    target=ends.target_name,
                    archive=_identity(ends.origin),
                ),
            )
        yield Relocation(_side(ends.origin, there), target, record, data_dir, stopped)


async def plan_relocation(ends: Ends) -> RelocationPlan:
    """What a relocation would copy; nothing is written, but for a probe in the bucket.

    Raises:
        BackupError, StorageError: it could not be done.
    """
    mark = _check(ends)
    if ends.target.database.url:
        found = await trio.to_thread.run_sync(inspect_database, ends.target)
        if found.fault:
            raise StorageError(f"the archive to copy to: {found.fault}")
        if found.instances and mark is None:
            raise BackupError("the database of the target is not empty; name an empty one")
    elif mark is None and has_index(ends.target):
        raise BackupError(
            f"{ends.target.storage.data_dir} has an archive already; name another data directory"
        )
    await try_bucket(ends.target)
    async with open_archive_parts(ends.origin, lock=False, recover=False) as parts:
        tables = parts.stores.tables
        async with tables.moment() as moment:
            counts = await moment.counts()
        return RelocationPlan(
            objects=await tables.count_objects(),
            statistics=await parts.stores.index.statistics(),
            rows=sum(counts.values()),
            tables=len(counts),
            left=tables.left,
            is_begun=mark is not None,
        )


def _side(settings: Settings, parts: ArchiveParts) -> Side:
    assert parts.trash_files is not None
    return Side(
        stores=Stores(
            objects=parts.archive.store,
            trash=parts.trash_files,
            notes=None if parts.sweeper is None else parts.stores.staged_keys,
        ),
        print_jobs=parts.stores.print_jobs,
        films=parts.stores.films,
        tables=parts.stores.tables,
        folders=Folders(
            data_dir=Path(settings.storage.data_dir).absolute(),
            audit=audit_folder(settings).absolute(),
        ),
    )


def _check(ends: Ends) -> RelocationMark | None:
    """The mark of a relocation that has begun.

    Raises:
        BackupError: it cannot be one relocation from here to there.
    """
    origin, target = ends.origin, ends.target
    if origin.storage.is_in_memory or target.storage.is_in_memory:
        raise BackupError("an archive in memory ends with its server, and cannot be copied")
    _check_tiers(origin, target)
    if not has_index(origin):
        raise BackupError(f"{origin.storage.data_dir}: no archive is there to be copied")
    parts: list[tuple[str, Callable[[Settings], object]]] = [
        ("data directory (storage.data_dir)", _data_dir),
        ("database (database.url)", lambda settings: settings.database.url),
        (
            "place for objects (objects.url)",
            lambda settings: None if settings.objects.url is None else str(settings.objects.url),
        ),
        ("folder of the audit trail (audit.folder)", audit_folder),
    ]
    parts += [
        (f"place of a tier (tiers.{tier.value})", partial(_tier_place, tier))
        for tier in origin.tiers.places
    ]
    for what, of in parts:
        if (value := of(origin)) and value == of(target):
            raise BackupError(
                f"both archives have the same {what}: {value}; each needs its own, so that the one "
                "is whole until the other is"
            )
    there, here = _data_dir(origin), _data_dir(target)
    if there in here.parents or here in there.parents:
        raise BackupError(f"{there} and {here} lie within each other; name another data directory")
    check_not_restoring(here)
    mark = read_mark(here)
    if mark is not None and mark.archive != _identity(origin):
        raise BackupError(
            f"a relocation of another archive into {here} is not finished ({mark.archive}); "
            f"finish it (isocenter migrate --from {mark.origin} --to {mark.target} --final), or "
            "name another data directory"
        )
    return mark


def _check_tiers(origin: Settings, target: Settings) -> None:
    """Raises:
    BackupError: objects in a tier could not be read, or would have no place.
    """
    for tier in origin.tiers.places:
        if tier not in target.tiers.places:
            raise BackupError(
                f"the archive to be copied has objects in the tier {tier.value}, and the one to "
                f"copy to has no such tier; give it one (tiers.{tier.value}), or move all objects "
                f"into the hot tier first (isocenter tiers move --all --from {tier.value} --to hot)"
            )
        if origin.tiers.availability[tier] is InstanceAvailability.OFFLINE:
            raise BackupError(
                f"objects in the tier {tier.value} of the archive to be copied cannot be read, as "
                f"they are off line (tiers.{tier.value}_availability); have them brought there, "
                "and say so"
            )


def _tier_place(tier: Tier, settings: Settings) -> str:
    place = settings.tiers.places.get(tier)
    return "" if place is None else place.identity


def _data_dir(settings: Settings) -> Path:
    return Path(settings.storage.data_dir).absolute()


def _identity(settings: Settings) -> str:
    url = settings.objects.url
    return " ".join(
        part
        for part in (
            str(_data_dir(settings)),
            settings.database.url,
            "" if url is None else url.identity,
        )
        if part
    )
