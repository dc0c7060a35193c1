"""Mover of objects between tiers.

An object moves in this order, and each step waits for the one before:

1. a row says where it is going to be;
2. it is copied there, durably, and read back: its data set has the digest of when it was stored;
3. one transaction has the index name the new place, and the row the old one;
4. that is durable, too; then it is removed from the old place, and then the row.

So it is in one place at least at any moment, and whoever comes after a crash knows from the row
what is superfluous.  The third step waits until nobody reads the study.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.locks.lock import LockKind, StudyLockedError
from isocenter.services.archive.object_copying import copy_object, is_whole
from isocenter.services.archive.object_keys import distinct_key, plain_key
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.tiers.ports import TierBook, TieredObjects, TierMove
from isocenter.services.archive.tiers.tier import (
    InstanceAvailability,
    Tier,
    key_in,
    key_within,
    tier_of,
)
from isocenter.services.errors import StorageError
from isocenter.services.notices import WingNotice
from isocenter.services.system.process_names import process_name

log = logging.getLogger("isocenter.storage")

#: Objects of a study that are exchanged together.
_AT_ONCE: Final = 100
#: After so many bytes those before are exchanged: a copy that nothing names for an hour is swept
#: away (`isocenter.services.archive.sweeping.sweeper`).
_SIZE_AT_ONCE: Final = 1 << 30
#: Objects that are copied at once.
_COPIERS: Final = 4
#: What a process that died has begun may be undone so much later.
LEASE_SECONDS: Final = 900.0
_RENEW_SECONDS: Final = 120.0
_GOODBYE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyMoved(WingNotice):
    """Objects of a study have another tier, or should have.

    Attributes:
        instances, size: what has moved.
        failed: objects that stay where they are.
        person: who has moved them; empty: a rule, or a request to read them.
    """

    study_instance_uid: str
    tier: str
    instances: int
    size: int
    failed: int = 0
    person: str = ""


@dataclass(slots=True)
class MoveReport:
    """What came of moving studies.

    Attributes:
        busy: studies that somebody reads or changes; they are to be tried again.
        failed: objects that stay where they are.
    """

    instances: int = 0
    size: int = 0
    busy: int = 0
    failed: int = 0


class _DamagedError(Exception):
    """An object that is not what was stored, or is gone."""


class TierMover:
    """Moves studies; several may be at work, in any process.

    Args:
        objects: the store of *archive*.
        on_moved: is told.
    """

    def __init__(
        self,
        archive: Archive,
        book: TierBook,
        objects: TieredObjects,
        *,
        on_moved: Callable[[StudyMoved], None] = lambda moved: None,
        token: Callable[[], str] = lambda: secrets.token_hex(4),
    ) -> None:
        self._archive = archive
        self._book = book
        self._objects = objects
        self._on_moved = on_moved
        self._token = token
        self._process = process_name()

    async def recover(self) -> int:
        """Undo, or bring to its end, what processes that died have begun; of how many objects.

        Raises:
            StorageError: a store is away; what is left is done later.
        """
        left = await self._book.unfinished(f"{self._process}/left", LEASE_SECONDS)
        for start in range(0, len(left), _AT_ONCE):
            some = left[start : start + _AT_ONCE]
            keys = [each.gone_key for each in some]
            # Whoever stored without tiers in between may have used a key again.
            indexed = await self._archive.are_indexed(keys)
            await self._archive.remove_unnamed(
                [key for key, is_in in zip(keys, indexed, strict=True) if not is_in]
            )
            await self._book.end([each.sop_instance_uid for each in some])
        return len(left)

    async def move(
        self,
        study_instance_uid: str,
        tier: Tier,
        report: MoveReport,
        *,
        person: str = "",
        waits: bool = True,
        by_rule: bool = False,
    ) -> None:
        """Move all of a study.

        Args:
            report: is added to.
            waits: until nobody reads it; to bring it to a faster place nobody has to be waited for.
            by_rule: leave alone what is in a slower place than that.

        Raises:
            StorageError: a store is away; what was moved is counted.
        """
        moved, size, failed = 0, 0, report.failed
        try:
            while instances := await self._book.instances(
                study_instance_uid, tier, limit=_AT_ONCE, is_faster=by_rule
            ):
                busy, faulty = report.busy, report.failed
                done = await self._move_some(_first(instances), tier, report, waits=waits)
                if not done and report.failed == faulty:
                    # Somebody else has them, or the index has others in their place by now.
                    report.busy = busy + 1
                    break
                moved += len(done)
                size += sum(each.size for each in done)
        finally:
            report.instances += moved
            report.size += size
            failed = report.failed - failed
            if moved or failed:
                self._on_moved(
                    StudyMoved(
                        study_instance_uid=study_instance_uid,
                        tier=tier.value,
                        instances=moved,
                        size=size,
                        failed=failed,
                        person=person,
                    )
                )

    async def recall(self, stored: StoredInstance) -> bool:
        """Bring one object back into the hot tier; False: it cannot be moved now."""
        return bool(await self._move_some([stored], Tier.HOT, MoveReport(), waits=False))

    async def _move_some(
        self,
        instances: Sequence[StoredInstance],
        tier: Tier,
        report: MoveReport,
        *,
        waits: bool,
    ) -> Sequence[StoredInstance]:
        await self._objects.check_place(tier)
        moves = [
            TierMove(
                stored=stored,
                target_key=key_in(
                    tier, distinct_key(plain_key(key_within(stored.object_key)), self._token())
                ),
            )
            for stored in instances
        ]
        granted = await self._book.begin(moves, self._process, LEASE_SECONDS)
        moves = [move for move, is_ours in zip(moves, granted, strict=True) if is_ours]
        if not moves:
            report.busy += 1
            return ()
        done: list[TierMove] = []
        try:
            async with self._renewing():
                copied = await self._copy_all(moves, report)
                done += await self._exchange(copied, report, waits=waits)
        finally:
            with trio.move_on_after(_GOODBYE_SECONDS, shield=True):
                await self._clean(moves)
        return [move.stored for move in done]

    async def _copy_all(self, moves: Sequence[TierMove], report: MoveReport) -> list[TierMove]:
        copied: list[TierMove] = []
        failures: list[Exception] = []
        waiting = iter(moves)

        async def work(scope: trio.CancelScope) -> None:
            for move in waiting:
                try:
                    fault = await self._copied_or_fault(move)
                    if not fault:
                        copied.append(move)
                        continue
                    report.failed += 1
                    await self._fail(move, fault)
                except Exception as error:
                    failures.append(error)
                    scope.cancel()

        async with trio.open_nursery() as nursery:
            for _ in range(min(_COPIERS, len(moves))):
                nursery.start_soon(work, nursery.cancel_scope)
        if failures:
            raise failures[0]
        return copied

    async def _copied_or_fault(self, move: TierMove) -> str:
        """What is wrong with the object; empty: it was copied."""
        try:
            await self._copy(move)
        except _DamagedError as error:
            return str(error)
        return ""

    async def _copy(self, move: TierMove) -> None:
        stored = move.stored
        source = self._objects.tiers[tier_of(stored.object_key)]
        target = self._objects.tiers[tier_of(move.target_key)]
        key = key_within(move.target_key)
        try:
            reader = await source.open(key_within(stored.object_key))
        except KeyError:
            found = self._objects.availability_of(stored.object_key)
            if found is InstanceAvailability.OFFLINE:
                tier = tier_of(stored.object_key)
                raise StorageError(
                    f"the tier {tier.value} is off line; connect it, and try again"
                ) from None
            raise _DamagedError("its object is gone") from None
        async with reader:
            copy = await copy_object(reader, target, key, data_set_offset=stored.data_set_offset)
        try:
            if (copy.size, copy.data_digest) != (stored.size, stored.digest):
                raise _DamagedError("its data set is not the one that was stored")
            (outcome,) = await target.publish([(copy.staged, key)])
            if outcome is not None:
                raise StorageError(f"cannot write into the tier: {outcome}")
        except BaseException:
            with trio.CancelScope(shield=True):
                await copy.staged.discard()
            raise
        await target.settle([copy.staged])
        # Whatever was promised of objects that come: of this one the original goes.
        await target.sync([key])
        if not await is_whole(target, key, copy):
            raise _DamagedError("the tier does not give it back as it was written")

    async def _fail(self, move: TierMove, fault: str) -> None:
        log.error("instance %s stays in its tier: %s", move.stored.sop_instance_uid, fault)
        await self._archive.store.remove([move.target_key])
        await self._book.failed(move, fault)

    async def _exchange(
        self, moves: Sequence[TierMove], report: MoveReport, *, waits: bool
    ) -> list[TierMove]:
        if not moves:
            return []
        if not waits:
            return await self._exchange_now(moves)
        try:
            async with self._archive.locks.exclusive(
                moves[0].stored.study_instance_uid,
                "the storage tiers",
                "its objects move to another tier",
                kind=LockKind.MIGRATION,
            ) as lock:
                # Those who read it have perhaps been waited for long.
                await lock.confirm()
                return await self._exchange_now(moves)
        except StudyLockedError:
            report.busy += 1
            return []

    async def _exchange_now(self, moves: Sequence[TierMove]) -> list[TierMove]:
        outcomes = await self._book.exchange(moves, self._process)
        return [move for move, is_done in zip(moves, outcomes, strict=True) if is_done]

    async def _clean(self, moves: Sequence[TierMove]) -> None:
        """Remove what is superfluous: of what moved the old, of the others the new.

        The database says what moved: the answer of a transaction may have been lost.
        """
        uids = [move.stored.sop_instance_uid for move in moves]
        try:
            gone = await self._book.superfluous(self._process, uids)
            await self._archive.remove_unnamed([each.gone_key for each in gone])
            await self._book.end([each.sop_instance_uid for each in gone])
        except StorageError as error:
            log.warning("what is superfluous in a tier is removed later: %s", error)

    @asynccontextmanager
    async def _renewing(self) -> AsyncIterator[None]:
        async def renew(scope: trio.CancelScope) -> None:
            while True:
                await trio.sleep(_RENEW_SECONDS)
                asked_at = trio.current_time()
                try:
                    await self._book.renew(self._process, LEASE_SECONDS)
                except StorageError as error:
                    log.warning("the lease of objects that move was not renewed: %s", error)
                else:
                    scope.deadline = asked_at + LEASE_SECONDS

        failure: Exception | None = StorageError(
            "the lease of objects that move was lost: the database did not answer"
        )
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.deadline = trio.current_time() + LEASE_SECONDS
            nursery.start_soon(renew, nursery.cancel_scope)
            try:
                yield
                failure = None
            except Exception as error:
                # The nursery would wrap it.
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure


def _first(instances: Sequence[StoredInstance]) -> Sequence[StoredInstance]:
    """One, and those after it that are moved with it."""
    size = 0
    for place, stored in enumerate(instances):
        size += stored.size
        if place and size > _SIZE_AT_ONCE:
            return instances[:place]
    return instances
