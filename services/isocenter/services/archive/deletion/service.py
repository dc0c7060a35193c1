"""Deleting objects, restoring them, and removing them for good.

Who asks for it has to say why.  What goes is decided by a plan that was shown before: objects
that came in the meantime stay.  Nothing is promised to be kept and deleted in the same breath:
what stands against it (a hold, a storage commitment, a destination that has yet to get the
object) is looked at in the transaction that takes the objects out of the index.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from time import time
from typing import Final

import trio

from isocenter.engine.dataset import FILE_HEAD_LENGTH, DataSetError, read_file_meta
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.counted_findings import CountedFindings
from isocenter.services.archive.deletion import inspection
from isocenter.services.archive.deletion.finishing import finish, on_their_way
from isocenter.services.archive.deletion.inspection import SECONDS_A_DAY
from isocenter.services.archive.deletion.ports import (
    NEVER,
    DeletionRecord,
    DeletionRefusedError,
    Obstacles,
    TrashBook,
    TrashChoice,
    TrashedInstance,
    TrashFiles,
)
from isocenter.services.archive.deletion.records import DeletionCause
from isocenter.services.archive.deletion.values import (
    Adopted,
    Deleted,
    Plan,
    Recorder,
    Requester,
    Restored,
    record_nothing,
)
from isocenter.services.archive.index.query import Query
from isocenter.services.archive.locks.keeper import HeldLock
from isocenter.services.archive.locks.lock import StudyLockedError
from isocenter.services.archive.object_keys import distinct_key, plain_key
from isocenter.services.archive.object_scan import StoreError
from isocenter.services.archive.ports import InstanceRecord, StoredInstance
from isocenter.services.archive.selection import select
from isocenter.services.archive.stored_scan import scan_object
from isocenter.services.archive.tiers.ports import TieredObjects
from isocenter.services.archive.tiers.tier import Tier, tier_of
from isocenter.services.errors import StorageError

log = logging.getLogger("isocenter.storage")

#: Objects that are restored or purged in one transaction.
_AT_ONCE: Final = 1_000
#: Cleaning up after a deletion that came to nothing.
_CLEANUP_SECONDS: Final = 5.0


class Trash:
    """Deletes, restores and purges objects of an archive.

    Args:
        keep_days: for so long what is deleted can be restored; 0: it is removed at once.
        record: has what happened recorded in the audit trail.
        on_purge: removes what else is kept of objects that are gone for good.
        now: seconds since 1970.
    """

    def __init__(
        self,
        archive: Archive,
        book: TrashBook,
        files: TrashFiles,
        *,
        keep_days: float,
        record: Recorder = record_nothing,
        on_purge: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
        now: Callable[[], float] = time,
        token: Callable[[], str] = lambda: secrets.token_hex(4),
    ) -> None:
        self.book = book
        self.files = files
        self._archive = archive
        self._keep_days = keep_days
        self._record = record
        self._on_purge = on_purge
        self._now = now
        self._token = token

    # -- Deleting ---------------------------------------------------------------------

    async def plan(self, query: Query) -> Plan:
        """What deleting the instances below all matches of *query* would take."""
        selection = await select(self._archive.index, query)
        obstacles = Obstacles()
        for instances in selection.studies:
            found = await self.book.obstacles(instances)
            obstacles = Obstacles(
                held=obstacles.held + found.held,
                asked=obstacles.asked + found.asked,
                promised=obstacles.promised + found.promised,
                queued=obstacles.queued + found.queued,
            )
        return Plan(studies=selection.studies, patients=selection.patients, obstacles=obstacles)

    async def delete(
        self,
        plan: Plan,
        requester: Requester,
        reason: str,
        *,
        cause: DeletionCause = DeletionCause.REQUESTED,
        overrule: bool = False,
        passes_refused: bool = False,
        keep_days: float | None = None,
        progress: Callable[[int], None] = lambda instances: None,
    ) -> Deleted:
        """Delete what *plan* says: each study in a transaction, all of it or nothing.

        Args:
            reason: why; it is kept, and stands in the audit trail.
            cause: one that withholds keeps them until somebody brings them back.
            overrule: delete also what was promised to be kept, or has yet to be sent on.
            passes_refused: go on with the next study where something is against one.
            keep_days: in the place of that of the trash.
            progress: called after each study with the instances so far.

        Raises:
            NotPermittedError: *requester* may not.
            DeletionRefusedError: something is against it; studies before that one are deleted.
        """
        requester.check()
        if not reason.strip():
            raise ValueError("a deletion has a reason")
        now = self._now()
        if keep_days is None:
            keep_days = math.inf if cause.withholds else self._keep_days
        deletion = DeletionRecord(
            deletion_id=self._token(),
            cause=cause,
            at=now,
            purge_at=min(now + keep_days * SECONDS_A_DAY, NEVER),
            actor=requester.name,
            reason=reason,
        )
        done = Deleted()
        try:
            for study in plan.studies:
                try:
                    await self._delete_study(deletion, study, requester, overrule, done)
                except DeletionRefusedError as error:
                    if not passes_refused:
                        raise
                    done.refused.add(study[0].study_instance_uid)
                    log.info("study %s stays: %s", study[0].study_instance_uid, error)
                progress(done.instances)
        finally:
            if not done.deletion_id and plan.studies:
                with trio.move_on_after(_CLEANUP_SECONDS, shield=True):
                    async with self.files.locked():
                        await self.files.end(deletion.deletion_id)
        if done.deletion_id:
            log.info("%d instances were deleted (%s)", done.instances, done.deletion_id)
            if not keep_days:
                chosen = TrashChoice(deletion_ids=(done.deletion_id,), causes=(cause,))
                await self.purge(chosen, requester)
        return done

    async def _delete_study(
        self,
        deletion: DeletionRecord,
        study: Sequence[StoredInstance],
        requester: Requester,
        overrule: bool,
        done: Deleted,
    ) -> None:
        async with self._alone(study, requester, deletion.cause) as lock, self.files.locked():
            # Others may have had the files for long.
            await lock.confirm()
            away = await self._away()
            if any(tier_of(each.object_key) in away for each in study):
                raise DeletionRefusedError(Obstacles(away=len(study)))
            await self.files.begin(deletion.deletion_id, inspection.manifest_of(deletion))
            taken = await self.book.take(deletion, study, overrule=overrule)
            done.instances += taken
            done.changed += len(study) - taken
            if taken:
                done.deletion_id = deletion.deletion_id
                await self._finish()

    async def _away(self) -> frozenset[Tier]:
        """Tiers in which nothing can be found, nor removed."""
        store = self._archive.store
        away = set[Tier]()
        if isinstance(store, TieredObjects):
            for tier in store.tiers:
                try:
                    await store.check_place(tier)
                except StorageError as error:
                    log.warning("what is in a tier is not deleted now: %s", error)
                    away.add(tier)
        return frozenset(away)

    @asynccontextmanager
    async def _alone(
        self, study: Sequence[StoredInstance], requester: Requester, cause: DeletionCause
    ) -> AsyncIterator[HeldLock]:
        """Nobody reads or changes the study meanwhile."""
        locks = self._archive.locks
        try:
            async with locks.exclusive(
                study[0].study_instance_uid, requester.name, f"deletion, {cause.value}"
            ) as lock:
                yield lock
        except StudyLockedError as error:
            raise DeletionRefusedError(Obstacles(locked=len(study)), error.holder) from error

    async def discard(self, deletion_id: str, requester: Requester, reason: str) -> int:
        """Delete what was withheld, into the trash; how many instances; 0: there is no such.

        Raises:
            NotPermittedError: *requester* may not.
            DeletionRefusedError: something is against it, and nothing was changed.
        """
        requester.check()
        if not reason.strip():
            raise ValueError("a deletion has a reason")
        now = self._now()
        deletion = DeletionRecord(
            deletion_id=deletion_id,
            cause=DeletionCause.REQUESTED,
            at=now,
            purge_at=now + self._keep_days * SECONDS_A_DAY,
            actor=requester.name,
            reason=reason,
        )
        async with self.files.locked():
            await self._finish()
            done = await self.book.discard(deletion)
            await self._finish()
        return done

    # -- Restoring --------------------------------------------------------------------

    async def restore(
        self,
        choice: TrashChoice,
        requester: Requester,
        *,
        progress: Callable[[int], None] = lambda instances: None,
    ) -> Restored:
        """Put deleted objects back, each the file that it was, and have the index find them.

        Raises:
            NotPermittedError: *requester* may not.
        """
        requester.check()
        done = Restored()
        after = 0
        while True:
            async with self.files.locked():
                chosen = await self.book.chosen(choice, after=after, limit=_AT_ONCE)
                if not chosen:
                    return done
                after = chosen[-1].number
                await self._restore(chosen, requester.name, done)
                await self._finish()
            progress(done.instances)

    async def _restore(self, chosen: Sequence[TrashedInstance], actor: str, done: Restored) -> None:
        known = await self._archive.index.get([each.stored.sop_instance_uid for each in chosen])
        records: dict[int, InstanceRecord] = {}
        sources: dict[int, TrashedInstance] = {}
        uids: set[str] = set()
        for each in chosen:
            uid = each.stored.sop_instance_uid
            if uid in known or uid in uids:
                done.there.add(uid, _same_or_other(known.get(uid), each.stored))
                continue
            record = await self._examine(each, done)
            if record is not None:
                uids.add(uid)
                records[each.number] = record
                sources[each.number] = each
        if not records:
            return
        targets = {number: record.object_key for number, record in records.items()}
        await self.book.begin_return(targets, actor)
        for number, target in targets.items():
            each = sources[number]
            try:
                await self.files.give_back(each.deletion_id, each.stored.object_key, target)
            except FileExistsError:  # another object came just now; `_finish` undoes it
                done.there.add(each.stored.sop_instance_uid, "another object came just now")
                del records[number]
            except KeyError:  # somebody has purged it meanwhile
                done.damaged.add(each.stored.sop_instance_uid, "its file is gone")
                del records[number]
        returned = frozenset(await self.book.give_back(records)) if records else frozenset[int]()
        done.instances += len(returned)
        for number in records.keys() - returned:
            done.there.add(records[number].sop_instance_uid, "another object came just now")

    async def _examine(self, each: TrashedInstance, done: Restored) -> InstanceRecord | None:
        """What the index is to know of it, when its file is what was stored."""
        stored = each.stored
        try:
            async with await self.files.open(each.deletion_id, stored.object_key) as reader:
                meta = read_file_meta(await reader.read(0, FILE_HEAD_LENGTH))
                scanned = await scan_object(self._archive, reader, meta)
                size = reader.size
        except KeyError:
            done.damaged.add(stored.sop_instance_uid, "its file is gone")
            return None
        except (StoreError, DataSetError, StorageError) as error:
            done.damaged.add(stored.sop_instance_uid, str(error))
            return None
        if (size, scanned.digest) != (stored.size, stored.digest):
            done.damaged.add(stored.sop_instance_uid, "its file is not what was stored")
            return None
        key = stored.object_key
        # Where each key is used once, whoever still is about to remove what was under it before
        # finds nothing.
        is_used_once = self._archive.intake.key_token is not None
        if is_used_once or await self.files.is_taken(key):
            key = distinct_key(plain_key(key), self._token())
        return scanned.record(
            transfer_syntax_uid=meta.transfer_syntax_uid,
            data_set_offset=meta.data_set_offset,
            object_key=key,
        )

    # -- Purging ----------------------------------------------------------------------

    async def purge(
        self,
        choice: TrashChoice,
        requester: Requester,
        *,
        progress: Callable[[int], None] = lambda instances: None,
    ) -> int:
        """Remove deleted objects for good; how many.  Those of studies that are held stay, and
        those that nobody can reach.

        Raises:
            NotPermittedError: *requester* may not.
        """
        requester.check()
        choice = replace(choice, unless_held=True)
        done = after = 0
        away = await self._away()
        while True:
            async with self.files.locked():
                chosen = await self.book.chosen(choice, after=after, limit=_AT_ONCE)
                if not chosen:
                    break
                after = chosen[-1].number
                chosen = [each for each in chosen if tier_of(each.stored.object_key) not in away]
                await self.book.purge([each.number for each in chosen], requester.name)
                await self._finish()
            done += len(chosen)
            progress(done)
        if done:
            await self._on_purge()
        return done

    # -- After a crash, and beside commands that are killed ---------------------------

    @asynccontextmanager
    async def recovering(self) -> AsyncIterator[Mapping[str, StoredInstance]]:
        """While it lasts nobody deletes or restores; by their keys, objects whose files somebody
        left in the archive half way to the trash, or back.

        For whoever recovers the archive: these stay where they are, for `finish`.
        """
        async with self.files.locked():
            yield await on_their_way(self.book)

    async def finish(self) -> int:
        """Bring to its end what somebody left half done; how many objects it was.

        Costs no lock and no write when there is nothing.
        """
        if not await self.book.unfinished(1):
            return 0
        async with self.files.locked():
            return await self._finish()

    @asynccontextmanager
    async def resting(self) -> AsyncIterator[None]:
        """While it lasts nobody deletes or restores; what was begun is finished first.

        For whoever makes the index again: what is deleted meanwhile would come back.
        """
        async with self.files.locked():
            await self._finish()
            yield

    async def verify(self) -> CountedFindings:
        """SOP Instance UIDs of deleted objects that could not be restored, with the reason.

        Sizes are compared; `restore` looks at the checksums.
        """
        return await inspection.verify(self.book, self.files)

    async def adopt(self) -> Adopted:
        """Take up what lies in the folder of the trash and is not in the book: after the index
        was made again, or an older one was put back."""
        await self.finish()
        done = Adopted()
        async with self.files.locked(), self.files.contents() as contents:
            async for content in contents:
                deletion = inspection.deletion_of(content, self._now(), self._keep_days)
                await inspection.adopt(
                    self._archive, self.book, self.files, content, deletion, done
                )
        return done

    async def _finish(self) -> int:
        return await finish(self.book, self.files, self._record, self._archive.index.sync)


def _same_or_other(known: StoredInstance | None, deleted: StoredInstance) -> str:
    if known is None:
        return "it was deleted more than once; restore one of them"
    if known.digest == deleted.digest:
        return "the archive has it again, byte for byte"
    return "the archive has another object with this SOP Instance UID"
