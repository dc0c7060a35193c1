"""Deleting objects, restoring them, and removing them for good.

Who asks for it has to say why.  What goes is decided by a plan that was shown before: objects
that came in the meantime stay.  Nothing is promised to be kept and deleted in the same breath:
what stands against it (a hold, a storage commitment, a destination that has yet to get the
object) is looked at in the transaction that takes the objects out of the index.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import field, replace
from enum import Enum
from itertools import groupby
from time import time
from typing import Final

import orjson
import trio

from isocenter.engine.dataset import FILE_HEAD_LENGTH, DataSetError, read_file_meta
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.counted_findings import Findings
from isocenter.services.archive.deletion.ports import (
    DeletionRecord,
    Obstacles,
    TrashBook,
    TrashChoice,
    TrashContent,
    TrashedInstance,
    TrashFiles,
    TrashState,
)
from isocenter.services.archive.deletion.records import DeletedStudy, DeletionCause
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Criterion, Query, ValueList
from isocenter.services.archive.object_keys import distinct_key
from isocenter.services.archive.object_scan import StoreError
from isocenter.services.archive.ports import InstanceRecord, StoredInstance
from isocenter.services.archive.verification import scan_object
from isocenter.services.errors import StorageError

log = logging.getLogger("isocenter.storage")

SECONDS_A_DAY: Final = 86_400.0
#: Objects that are restored or purged in one transaction.
_AT_ONCE: Final = 1_000
#: Objects whose files follow, and which are told of, together: those of a large study.
_FINISHED_AT_ONCE: Final = 20_000
#: Cleaning up after a deletion that came to nothing.
_CLEANUP_SECONDS: Final = 5.0
#: Studies in one question to the index.
_STUDIES_AT_ONCE: Final = 500

_STUDY_INSTANCE_UID: Final = 0x0020000D
#: Patient ID and its issuer, name, birth date.
_PATIENT: Final = (0x00100020, 0x00100021, 0x00100010, 0x00100030)


class NotPermittedError(IsocenterError):
    """Whoever asked may not delete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requester:
    """Who has something deleted, restored or removed for good.

    Attributes:
        name: for the audit trail.
        may_delete: whether a policy, where one is asked, gives ``study:delete``; whoever may
            write the data directory needs no other.
    """

    name: str
    may_delete: bool = True

    def check(self) -> None:
        """Raises:
        NotPermittedError: ``study:delete`` is lacking.
        """
        if not self.may_delete:
            raise NotPermittedError(f"{self.name} lacks study:delete")


class What(Enum):
    """What became of objects."""

    DELETED = "deleted"
    RESTORED = "restored"
    PURGED = "purged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """What is to be said of some objects of one study in the audit trail."""

    what: What
    study: DeletedStudy
    cause: DeletionCause
    actor: str
    reason: str
    deletion_id: str


#: Has it recorded; what it raises keeps the objects in their state, to be told of again.
Recorder = Callable[[Sequence[Happened]], Awaitable[None]]


async def _record_nothing(happened: Sequence[Happened]) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a deletion would take, study by study."""

    studies: tuple[tuple[StoredInstance, ...], ...]
    patients: int
    obstacles: Obstacles

    @property
    def instances(self) -> int:
        return sum(map(len, self.studies))

    @property
    def series(self) -> int:
        return len(
            {
                (each.study_instance_uid, each.series_instance_uid)
                for study in self.studies
                for each in study
            }
        )

    @property
    def size(self) -> int:
        """Bytes of Part 10 files."""
        return sum(each.size for study in self.studies for each in study)


@dataclass(slots=True)
class Deleted:
    """What became of a plan.

    Attributes:
        deletion_id: for `TrashChoice`; empty: nothing was deleted.
        changed: instances that were not what the plan says any more; they stay.
    """

    deletion_id: str = ""
    instances: int = 0
    changed: int = 0


@dataclass(slots=True)
class Restored:
    """What became of objects that were to be restored.

    Attributes:
        there: SOP Instance UIDs that the archive has again; what is in the trash stays there.
        damaged: those whose file is gone, or is not what was stored.
    """

    instances: int = 0
    there: Findings = field(default_factory=Findings)
    damaged: Findings = field(default_factory=Findings)


@dataclass(slots=True)
class Adopted:
    """What was found in the folder of the trash.

    Attributes:
        instances: that the book did not know.
        damaged: files that are no objects.
    """

    instances: int = 0
    damaged: Findings = field(default_factory=Findings)


class Trash:
    """Deletes, restores and purges objects of an archive.

    Args:
        keep_days: for so long what is deleted can be restored; 0: it is removed at once.
        record: has what happened recorded in the audit trail.
        now: seconds since 1970.
    """

    def __init__(
        self,
        archive: Archive,
        book: TrashBook,
        files: TrashFiles,
        *,
        keep_days: float,
        record: Recorder = _record_nothing,
        now: Callable[[], float] = time,
        token: Callable[[], str] = lambda: secrets.token_hex(4),
    ) -> None:
        self.book = book
        self.files = files
        self._archive = archive
        self._keep_days = keep_days
        self._record = record
        self._now = now
        self._token = token

    # -- Deleting ---------------------------------------------------------------------

    async def plan(self, query: Query) -> Plan:
        """What deleting the instances below all matches of *query* would take."""
        studies: dict[str, list[StoredInstance]] = defaultdict(list)
        async with self._archive.instances(query) as blocks:
            async for block in blocks:
                for stored in block:
                    studies[stored.study_instance_uid].append(stored)
        obstacles = Obstacles()
        for instances in studies.values():
            found = await self.book.obstacles(instances)
            obstacles = Obstacles(
                held=obstacles.held + found.held,
                asked=obstacles.asked + found.asked,
                promised=obstacles.promised + found.promised,
                queued=obstacles.queued + found.queued,
            )
        return Plan(
            studies=tuple(map(tuple, studies.values())),
            patients=len(await self._patients(list(studies))),
            obstacles=obstacles,
        )

    async def _patients(self, studies: Sequence[str]) -> set[tuple[str, ...]]:
        """Whose studies they are: ID, issuer, name and birth date."""
        found: set[tuple[str, ...]] = set()
        for start in range(0, len(studies), _STUDIES_AT_ONCE):
            some = tuple(studies[start : start + _STUDIES_AT_ONCE])
            query = Query(
                level=Level.STUDY,
                criteria=(Criterion(_STUDY_INSTANCE_UID, ValueList(some)),),
                return_tags=_PATIENT,
            )
            async with self._archive.find(query) as blocks:
                async for block in blocks:
                    found |= {tuple(match.get(tag, "") for tag in _PATIENT) for match in block}
        return found

    async def delete(
        self,
        plan: Plan,
        requester: Requester,
        reason: str,
        *,
        cause: DeletionCause = DeletionCause.REQUESTED,
        overrule: bool = False,
        progress: Callable[[int], None] = lambda instances: None,
    ) -> Deleted:
        """Delete what *plan* says: each study in a transaction, all of it or nothing.

        Args:
            reason: why; it is kept, and stands in the audit trail.
            overrule: delete also what was promised to be kept, or has yet to be sent on.
            progress: called after each study with the instances so far.

        Raises:
            NotPermittedError: *requester* may not.
            DeletionRefusedError: something is against it; studies before that one are deleted.
        """
        requester.check()
        if not reason.strip():
            raise ValueError("a deletion has a reason")
        now = self._now()
        deletion = DeletionRecord(
            deletion_id=self._token(),
            cause=cause,
            at=now,
            purge_at=now + self._keep_days * SECONDS_A_DAY,
            actor=requester.name,
            reason=reason,
        )
        done = Deleted()
        try:
            for study in plan.studies:
                async with self.files.locked():
                    await self.files.begin(deletion.deletion_id, manifest_of(deletion))
                    taken = await self.book.take(deletion, study, overrule=overrule)
                    done.instances += taken
                    done.changed += len(study) - taken
                    if taken:
                        done.deletion_id = deletion.deletion_id
                        await self._finish()
                progress(done.instances)
        finally:
            if not done.deletion_id and plan.studies:
                with trio.move_on_after(_CLEANUP_SECONDS, shield=True):
                    async with self.files.locked():
                        await self.files.end(deletion.deletion_id)
        if done.deletion_id:
            log.info("%d instances were deleted (%s)", done.instances, done.deletion_id)
            if not self._keep_days:
                await self.purge(TrashChoice(deletion_ids=(done.deletion_id,)), requester)
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
        known = await self._archive.get([each.stored.sop_instance_uid for each in chosen])
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
        if await self.files.is_taken(key):
            key = distinct_key(_plain(key), self._token())
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
        """Remove deleted objects for good; how many.

        Raises:
            NotPermittedError: *requester* may not.
        """
        requester.check()
        done = 0
        while True:
            async with self.files.locked():
                chosen = await self.book.chosen(choice, limit=_AT_ONCE)
                if not chosen:
                    return done
                await self.book.purge([each.number for each in chosen], requester.name)
                await self._finish()
            done += len(chosen)
            progress(done)

    # -- After a crash, and beside commands that are killed ---------------------------

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

    async def _finish(self) -> int:
        done = 0
        while rows := await self.book.unfinished(_FINISHED_AT_ONCE):
            for (deletion_id, state, _), group in groupby(
                sorted(rows, key=_group_of), key=_group_of
            ):
                await self._finish_group(deletion_id, TrashState(state), list(group))
            done += len(rows)
        return done

    async def _finish_group(
        self, deletion_id: str, state: TrashState, rows: Sequence[TrashedInstance]
    ) -> None:
        numbers = [row.number for row in rows]
        keys = [row.stored.object_key for row in rows]
        match state:
            case TrashState.LEAVING:
                for key in await self.files.take(deletion_id, keys):
                    log.error("a deleted object had no file: %s", key)
                await self._record(_happened(What.DELETED, rows))
                await self.book.settle(numbers)
            case TrashState.RETURNING:
                for row in rows:
                    await self.files.take_again(deletion_id, row.stored.object_key, row.target_key)
                await self.book.settle(numbers)
            case TrashState.RETURNED | TrashState.PURGING:
                await self.files.remove(deletion_id, keys)
                what = What.RESTORED if state is TrashState.RETURNED else What.PURGED
                await self._record(_happened(what, rows))
                for ended in await self.book.forget(numbers):
                    await self.files.end(ended)
            case _:
                raise AssertionError(f"{state} is no work")

    async def verify(self) -> Findings:
        """SOP Instance UIDs of deleted objects that could not be restored, with the reason.

        Sizes are compared; `restore` looks at the checksums.
        """
        found = Findings()
        after = 0
        while rows := await self.book.chosen(TrashChoice(), after=after, limit=_AT_ONCE):
            after = rows[-1].number
            for row in rows:
                stored = row.stored
                try:
                    async with await self.files.open(row.deletion_id, stored.object_key) as reader:
                        size = reader.size
                except (KeyError, StorageError) as error:
                    if await self._is_kept(row):
                        reason = "its file is gone" if isinstance(error, KeyError) else str(error)
                        found.add(stored.sop_instance_uid, reason)
                    continue
                if size != stored.size:
                    reason = f"{size} bytes instead of {stored.size}"
                    found.add(stored.sop_instance_uid, reason)
        return found

    async def _is_kept(self, row: TrashedInstance) -> bool:
        """Whether it was not restored or purged just now."""
        now = await self.book.chosen(TrashChoice(), after=row.number - 1, limit=1)
        return bool(now) and now[0].number == row.number

    # -- After the index was lost -----------------------------------------------------

    async def adopt(self) -> Adopted:
        """Take up what lies in the folder of the trash and is not in the book: after the index
        was made again, or an older one was put back."""
        await self.finish()
        done = Adopted()
        async with self.files.locked(), self.files.contents() as contents:
            async for content in contents:
                await self._adopt(content, done)
        return done

    async def _adopt(self, content: TrashContent, done: Adopted) -> None:
        deletion = _deletion_of(content, self._now(), self._keep_days)
        if not content.keys:
            rows = await self.book.chosen(TrashChoice(deletion_ids=(content.deletion_id,)), limit=1)
            if not rows:  # a command ended before it had deleted anything
                await self.files.end(content.deletion_id)
            return
        found: list[InstanceRecord] = []
        for key in content.keys:
            try:
                async with await self.files.open(content.deletion_id, key) as reader:
                    meta = read_file_meta(await reader.read(0, FILE_HEAD_LENGTH))
                    scanned = await scan_object(self._archive, reader, meta)
            except (KeyError, StoreError, DataSetError, StorageError) as error:
                done.damaged.add(key, str(error))
                continue
            found.append(
                scanned.record(
                    transfer_syntax_uid=meta.transfer_syntax_uid,
                    data_set_offset=meta.data_set_offset,
                    object_key=key,
                )
            )
        done.instances += await self.book.adopt(deletion, found)


def manifest_of(deletion: DeletionRecord) -> bytes:
    """What lies beside the files of a deletion, should the index be lost."""
    return orjson.dumps(
        {
            "deletion": deletion.deletion_id,
            "at": deletion.at,
            "purge_at": deletion.purge_at,
            "cause": deletion.cause.value,
            "actor": deletion.actor,
            "reason": deletion.reason,
        }
    )


def _deletion_of(content: TrashContent, now: float, keep_days: float) -> DeletionRecord:
    """What the manifest says; without a sound one, something that keeps the files for a time."""
    unknown = DeletionRecord(
        deletion_id=content.deletion_id,
        cause=DeletionCause.REQUESTED,
        at=now,
        purge_at=now + keep_days * SECONDS_A_DAY,
        actor="",
        reason="not known: found in the folder of the trash",
    )
    try:
        values = orjson.loads(content.manifest)
        return replace(
            unknown,
            at=float(values["at"]),
            purge_at=float(values["purge_at"]),
            cause=DeletionCause(values["cause"]),
            actor=str(values["actor"]),
            reason=str(values["reason"]),
        )
    except (ValueError, KeyError, TypeError):
        return unknown


def _group_of(row: TrashedInstance) -> tuple[str, str, str]:
    return row.deletion_id, row.state.value, row.actor


def _happened(what: What, rows: Sequence[TrashedInstance]) -> list[Happened]:
    by_study: dict[str, list[TrashedInstance]] = defaultdict(list)
    for row in rows:
        by_study[row.stored.study_instance_uid].append(row)
    return [
        Happened(
            what=what,
            study=DeletedStudy(
                study_instance_uid=study,
                accession_number="",
                sop_classes=Counter(each.stored.sop_class_uid for each in some),
                remaining=some[0].remaining,
                patient_id=some[0].patient_id,
                patient_name=some[0].patient_name,
            ),
            cause=some[0].cause,
            actor=some[0].actor,
            reason=some[0].reason,
            deletion_id=some[0].deletion_id,
        )
        for study, some in by_study.items()
    ]


def _same_or_other(known: StoredInstance | None, deleted: StoredInstance) -> str:
    if known is None:
        return "it was deleted more than once; restore one of them"
    if known.digest == deleted.digest:
        return "the archive has it again, byte for byte"
    return "the archive has another object with this SOP Instance UID"


def _plain(key: str) -> str:
    """*key* without what told it apart before."""
    head, mark, _ = key.rpartition("~")
    return f"{head}.dcm" if mark else key
