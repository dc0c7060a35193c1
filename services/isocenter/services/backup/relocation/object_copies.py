"""Copies of objects: read from one store, written to another, read back and compared.

An object is noted as copied when the other store has given back what the one had.  So whatever
stops the work, the next pass goes on behind the last one that was noted, and looks again at those
few that were under way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import field
from typing import Final, TypeVar

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.counted_findings import CountedFindings
from isocenter.services.archive.deletion.ports import TrashFiles
from isocenter.services.archive.object_copying import ObjectCopy, copy_object, is_whole
from isocenter.services.archive.ports import ObjectStore
from isocenter.services.archive.sweeping.ports import StagedKeys
from isocenter.services.archive.tiers.ports import TieredObjects
from isocenter.services.archive.tiers.tier import Tier, key_within, tier_of
from isocenter.services.backup.relocation.ports import ArchiveTables, CopyRecord, NamedObject
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.errors import StorageError

T = TypeVar("T")

#: Objects that are read and written at once.
_AT_ONCE: Final = 16
#: Keys that are removed at once.
_REMOVED_AT_ONCE: Final = 500

_DAMAGED: Final = "its data set is not the one that was stored; copied as it is"

Advance = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """Where objects are, and those that were deleted.

    Attributes:
        notes: of keys that are written; None: the store needs none.
    """

    objects: ObjectStore
    trash: TrashFiles
    notes: StagedKeys | None = None

    def tier(self, key: str) -> ObjectStore:
        """What takes objects under a key of its tier."""
        if isinstance(self.objects, TieredObjects):
            return self.objects.tiers[tier_of(key)]
        return self.objects

    def within(self, key: str) -> str:
        """By what that knows an object."""
        return key_within(key) if isinstance(self.objects, TieredObjects) else key


@dataclass(slots=True)
class ObjectReport:
    """What became of the objects.

    Attributes:
        known: were copied by an earlier pass.
        copied, copied_size: by this one.
        removed: copies of what has left since.
        damaged: SOP Instance UIDs of those that are copied and not what was stored.
        missing: of those that rows name, and that are nowhere.
    """

    known: int = 0
    copied: int = 0
    copied_size: int = 0
    removed: int = 0
    damaged: CountedFindings = field(default_factory=CountedFindings)
    missing: CountedFindings = field(default_factory=CountedFindings)


@dataclass(slots=True)
class _Copy:
    """One object under way."""

    named: NamedObject
    made: ObjectCopy
    is_damaged: bool


class ObjectCopier:
    """Copies what rows of *tables* name.

    Args:
        manifests: of the deletions whose objects are in the trash.
    """

    def __init__(
        self,
        source: Stores,
        target: Stores,
        tables: ArchiveTables,
        record: CopyRecord,
        manifests: Mapping[str, bytes],
        progress: Advance = lambda done, total: None,
    ) -> None:
        self._source = source
        self._target = target
        self._tables = tables
        self._record = record
        self._manifests = manifests
        self._progress = progress
        self.report = ObjectReport()

    async def run(self) -> ObjectReport:
        """All that are named now.

        Raises:
            StorageError: a store or the database fails; what was copied is noted.
        """
        total, seen = await self._tables.count_objects(), 0
        await trio.to_thread.run_sync(self._record.begin)
        async with self._tables.objects() as blocks:
            async for block in blocks:
                unknown = await trio.to_thread.run_sync(self._record.unknown, block)
                self.report.known += len(block) - len(unknown)
                seen += len(block) - len(unknown)
                for batch in _batches(unknown):
                    async with self._locked(batch):
                        await self._copy(batch)
                    seen += len(batch)
                    self._progress(seen, max(seen, total))
                self._progress(seen, max(seen, total))
        for uid, fault in await trio.to_thread.run_sync(self._record.faulty):
            self.report.damaged.add(uid, fault)
        return self.report

    async def remove_superfluous(self) -> None:
        """Remove copies of what `run` has not seen."""
        while gone := await trio.to_thread.run_sync(self._record.unseen, _REMOVED_AT_ONCE):
            by_deletion: dict[str, list[str]] = {}
            for deletion_id, key in gone:
                by_deletion.setdefault(deletion_id, []).append(key)
            async with self._target.trash.locked():
                for deletion_id, keys in by_deletion.items():
                    if deletion_id:
                        await self._target.trash.remove(deletion_id, keys)
                        await self._target.trash.end(deletion_id)
                    else:
                        await self._target.objects.remove(keys)
            await trio.to_thread.run_sync(self._record.forget, gone)
            self.report.removed += len(gone)

    @asynccontextmanager
    async def _locked(self, batch: Sequence[NamedObject]) -> AsyncIterator[None]:
        if not any(one.deletion_id for one in batch):
            yield
            return
        async with self._target.trash.locked():
            yield

    async def _copy(self, batch: Sequence[NamedObject]) -> None:
        moved = [one for one in batch if one.deletion_id and await self._move_copy(one)]
        todo = [one for one in batch if one not in moved]
        copies = await self._staged(todo)
        try:
            refused = await self._publish(copies)
            for copy in refused:
                await copy.made.staged.discard()
                await self._make_room(copy)
            again = await self._staged([copy.named for copy in refused])
            copies = [copy for copy in copies if copy not in refused]
            copies += again
            if still := await self._publish(again):
                raise StorageError(
                    f"the object store of the target has something under the key of "
                    f"{still[0].named.sop_instance_uid}, and nothing can be put in its place"
                )
        except BaseException:
            with trio.CancelScope(shield=True):
                for copy in copies:
                    await copy.made.staged.discard()
            raise
        if copies:
            tier = self._target.tier(copies[0].named.object_key)
            await tier.settle([copy.made.staged for copy in copies])
        await _all(self._compare, copies)
        for copy in copies:
            if not await self._bring_to_trash(copy.named):
                raise StorageError(
                    "the trash of the target has not taken "
                    f"{copy.named.sop_instance_uid}; begin again: what was verified stays"
                )
        if self._target.notes is not None:
            await self._target.notes.end([copy.named.object_key for copy in copies])
        faults = {copy.named: _DAMAGED for copy in copies if copy.is_damaged}
        done = [*moved, *(copy.named for copy in copies)]
        await trio.to_thread.run_sync(self._record.note, done, faults)
        self.report.copied += len(done)
        self.report.copied_size += sum(copy.made.size for copy in copies)

    # From the source.

    async def _staged(self, batch: Sequence[NamedObject]) -> list[_Copy]:
        copies: list[_Copy] = []

        async def stage(one: NamedObject) -> None:
            for is_last in (False, True):
                copy = await self._stage(one)
                if copy is not None:
                    copies.append(copy)
                    return
                # It may have left, or have been moved, just now.
                if not (await self._tables.still_named([one]))[0]:
                    return
                if is_last:
                    self.report.missing.add(one.sop_instance_uid, "its object is gone")

        try:
            await _all(stage, batch)
        except BaseException:
            with trio.CancelScope(shield=True):
                for copy in copies:
                    await copy.made.staged.discard()
            raise
        return copies

    async def _stage(self, one: NamedObject) -> _Copy | None:
        """Read it into the target; None: there is nothing."""
        reader, is_elsewhere = await self._open(one)
        if reader is None:
            return None
        async with reader:
            made = await copy_object(
                reader,
                self._target.tier(one.object_key),
                self._target.within(one.object_key),
                data_set_offset=one.data_set_offset,
            )
        is_damaged = made.size != one.size or made.data_digest != one.digest
        if is_damaged and is_elsewhere:
            await made.staged.discard()
            return None
        return _Copy(one, made, is_damaged)

    async def _open(self, one: NamedObject) -> tuple[ObjectReader | None, bool]:
        """What reads it, and whether it is not in its place: on its way into the trash."""
        try:
            if not one.deletion_id:
                return await self._source.objects.open(one.object_key), False
            return await self._source.trash.open(one.deletion_id, one.object_key), False
        except KeyError:
            if not one.deletion_id:
                return None, False
        try:
            return await self._source.objects.open(one.object_key), True
        except KeyError:
            return None, True

    # Into the target.

    async def _publish(self, copies: Sequence[_Copy]) -> list[_Copy]:
        """Those whose key is taken."""
        if not copies:
            return []
        tier = self._target.tier(copies[0].named.object_key)
        outcomes = await tier.publish(
            [(copy.made.staged, self._target.within(copy.named.object_key)) for copy in copies]
        )
        refused = []
        for copy, outcome in zip(copies, outcomes, strict=True):
            if isinstance(outcome, StorageError):
                raise outcome
            if outcome is not None:
                refused.append(copy)
        return refused

    async def _make_room(self, copy: _Copy) -> None:
        """Something is under the key: of a pass that was cut short, or of another object."""
        key = copy.named.object_key
        await self._target.objects.remove([key])
        await trio.to_thread.run_sync(self._record.forget, [("", key)])

    async def _compare(self, copy: _Copy) -> None:
        """Raises:
        StorageError: the target does not give back what it was given.
        """
        if not await is_whole(self._target.objects, copy.named.object_key, copy.made):
            raise StorageError(
                "the object store of the target does not give back "
                f"{copy.named.sop_instance_uid} as it was written; look after that store, and "
                "begin again: what was verified stays"
            )

    # The trash.

    async def _move_copy(self, one: NamedObject) -> bool:
        """Whether the target has it among its objects, and has moved it: it was deleted since."""
        is_known = await trio.to_thread.run_sync(self._record.knows, "", one.object_key, one.digest)
        return is_known and await self._bring_to_trash(one)

    async def _bring_to_trash(self, one: NamedObject) -> bool:
        if not one.deletion_id:
            return True
        await self._target.trash.begin(one.deletion_id, self._manifests.get(one.deletion_id, b"{}"))
        missing = await self._target.trash.take(one.deletion_id, [one.object_key])
        await trio.to_thread.run_sync(self._record.forget, [("", one.object_key)])
        return not missing


def _batches(objects: Sequence[NamedObject]) -> Iterator[Sequence[NamedObject]]:
    """So many at once, of one tier, and no key twice: an instance that was deleted, came again and
    was deleted again is in the trash two times under one key."""
    batches: dict[Tier, dict[str, NamedObject]] = {}
    for one in objects:
        batch = batches.setdefault(tier_of(one.object_key), {})
        if len(batch) == _AT_ONCE or one.object_key in batch:
            yield list(batch.values())
            batch.clear()
        batch[one.object_key] = one
    for batch in batches.values():
        if batch:
            yield list(batch.values())


async def _all(function: Callable[[T], Awaitable[None]], items: Sequence[T]) -> None:
    """Side by side; the first failure ends it, as it came."""
    failures: list[Exception] = []

    async def work(item: T, scope: trio.CancelScope) -> None:
        try:
            await function(item)
        except Exception as failure:
            failures.append(failure)
            scope.cancel()

    async with trio.open_nursery() as nursery:
        for item in items:
            nursery.start_soon(work, item, nursery.cancel_scope)
    if failures:
        raise failures[0]
