"""Group commit: whatever is waiting becomes durable in one round.

One task takes the objects that all associations have ready, publishes them together,
adds them to the index in one transaction, and then wakes who waits.  While it is
busy the next batch gathers, so the cost of an object falls as the load rises; with one
sender alone nobody waits for company that does not come.

The order keeps the promise of `0000H`: files durable, index durable, answer.  An object
that fails, fails alone, unless the index itself fails: then the batch is taken back.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field, replace
from typing import Final, assert_never

import trio

from isocenter.engine.dimse.status import Status
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.object_keys import distinct_key
from isocenter.services.archive.object_scan import StoreError
from isocenter.services.archive.ports import (
    AddOutcome,
    AddResult,
    AddsAfter,
    AnnouncingStore,
    BlockingStore,
    DuplicatePolicy,
    Index,
    InstanceRecord,
    ObjectStore,
    OtherPatient,
    OtherPatientPolicy,
    StagedObject,
    StoredInstance,
)
from isocenter.services.archive.settlement import Settlement
from isocenter.services.archive.storage_alert import StorageAlert
from isocenter.services.archive.store_answers import StoreAnswers, StoreResult, superfluous_key
from isocenter.services.concurrency import Gathered
from isocenter.services.errors import StorageError

_log = logging.getLogger("isocenter.storage")

#: Objects in one round.  Far more than there are associations that could each have one
#: waiting; it bounds what one transaction and one failure can take with it.
MAX_BATCH: Final = 256

#: What became of an object that was to be published; None: it was.
Published = StorageError | FileExistsError | None


@dataclass(slots=True, eq=False)
class PendingCommit:
    """One object that waits to be committed."""

    staged: StagedObject
    record: InstanceRecord
    done: trio.Event = field(default_factory=trio.Event)
    #: The committer has it: whoever waited may go, the object stays.
    taken: bool = False
    withdrawn: bool = False
    answer: StoreResult | StoreError | None = None

    def resolve(self, answer: StoreResult | StoreError) -> None:
        if self.answer is None:
            self.answer = answer


class Committer:
    """Publishes and indexes; `run` is its task, one per store and index in a process.

    Args:
        on_round: told of each round: how many objects, how many seconds.
        on_other_patient: told of each object that names another patient than its study came
            with: was it kept?
    """

    def __init__(
        self,
        store: ObjectStore,
        index: Index,
        *,
        duplicates: DuplicatePolicy,
        other_patient: OtherPatientPolicy = OtherPatientPolicy.WARN,
        token: Callable[[], str],
        alert: StorageAlert | None = None,
        on_round: Callable[[int, float], None] = lambda objects, seconds: None,
        on_other_patient: Callable[[bool], None] = lambda is_kept: None,
    ) -> None:
        self._store = store
        self._index = index
        #: Where both can, a round takes one hop to a thread.  Asked once: it takes long.
        self._blocking_store = store if isinstance(store, BlockingStore) else None
        self._adds_after = index if isinstance(index, AddsAfter) else None
        self._announcing = store if isinstance(store, AnnouncingStore) else None
        self._answers = StoreAnswers(duplicates, other_patient)
        self._policies: Final = {
            "replace": duplicates is DuplicatePolicy.REPLACE,
            "one_patient": other_patient is OtherPatientPolicy.REJECT,
            "unless_same": True,
        }
        #: Studies whose refusal stands in the log, the last ones.
        self._refused_studies: deque[str] = deque(maxlen=MAX_BATCH)
        self._token = token
        self._alert = alert or StorageAlert()
        self._send, self._receive = trio.open_memory_channel[PendingCommit](MAX_BATCH)
        #: Of those that are answered.
        self.settlement = Settlement(store)
        self._on_round = on_round
        self._on_other_patient = on_other_patient
        self._asked = Gathered[str, StoredInstance | None]()

    async def _get(self, uids: Sequence[str]) -> Sequence[StoredInstance | None]:
        known = await self._index.get(list(dict.fromkeys(uids)))
        return [known.get(uid) for uid in uids]

    @property
    def waiting(self) -> int:
        """Objects that wait for their round."""
        statistics = self._receive.statistics()
        return statistics.current_buffer_used + statistics.tasks_waiting_send

    @property
    def unsettled(self) -> int:
        """Objects that are answered, and that the store still needs more for than their files."""
        return self.settlement.unsettled

    async def commit(self, staged: StagedObject, record: InstanceRecord) -> StoreResult:
        """Wait until the object is durable and findable, or refused.

        Takes over *staged*.  Cancelled: the object is gone, or, when its round has begun, may
        be stored all the same.

        Raises:
            StoreError: it is not stored.
        """
        pending = PendingCommit(staged, record)
        try:
            try:
                self._send.send_nowait(pending)  # a turn of the scheduler less
            except trio.WouldBlock:
                await self._send.send(pending)
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            await staged.discard()
            raise StoreError(Status.PROCESSING_FAILURE, "the archive is closing") from None
        except trio.Cancelled:
            await staged.discard()
            raise
        try:
            await pending.done.wait()
        except trio.Cancelled:
            pending.withdrawn = not pending.taken
            raise
        match pending.answer:
            case StoreResult():
                return pending.answer
            case StoreError():
                raise pending.answer
            case None:
                raise StoreError(Status.PROCESSING_FAILURE, "the archive is closing")
            case _:
                assert_never(pending.answer)

    async def answer_of_known(
        self, record: InstanceRecord, staged: StagedObject
    ) -> StoreResult | None:
        """What is answered when the archive has this very object, whole; None: it has it not.

        For stores in which it takes long to find out by writing.  One that notes its keys beside
        the index does so meanwhile.

        Raises:
            StoreError: it is refused.
        """
        if self._announcing is None:
            previous = await self._asked.ask(record.sop_instance_uid, self._get)
        else:
            previous = await self._announcing.announce(staged, record)
        if previous is None or record.digest not in (previous.digest, previous.received_digest):
            return None
        if await self._store.missing([previous.object_key]):
            return None
        answer = self._answers.of_duplicate(record, previous)
        if isinstance(answer, StoreError):
            raise answer
        return answer

    def close(self) -> None:
        """Take no more; `run` ends when what was taken is committed."""
        self._send.close()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.settlement.run)
            if self._blocking_store is not None:
                nursery.start_soon(self._blocking_store.prepare_always)
            await self._run()
            nursery.cancel_scope.cancel()

    async def _run(self) -> None:
        later: list[PendingCommit] = []
        now = trio.lowlevel.current_clock().current_time
        try:
            with trio.CancelScope() as rounds:
                while batch := later or await self._next():
                    while len(batch) < MAX_BATCH:
                        try:
                            batch.append(self._receive.receive_nowait())
                        except (trio.WouldBlock, trio.EndOfChannel):
                            break
                    batch, later, withdrawn = _split_batch(batch)
                    rounds.shield = True  # a round is not cut short; one scope for all costs less
                    began = now()
                    await self._round(batch)
                    self._on_round(len(batch), now() - began)
                    for pending in withdrawn:
                        await pending.staged.discard()
                    rounds.shield = False
        finally:
            with trio.CancelScope(shield=True):
                await self._end(later)

    async def _end(self, waiting: list[PendingCommit]) -> None:
        """Nobody waits for a task that is gone."""
        while True:
            try:
                waiting.append(self._receive.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                break
        self._receive.close()
        for pending in waiting:
            await pending.staged.discard()
            pending.done.set()
        await self.settlement.settle()

    async def _next(self) -> list[PendingCommit]:
        """The first object of the next batch; none when there will be no more."""
        try:
            return [await self._receive.receive()]
        except trio.EndOfChannel:
            return []

    async def _round(self, batch: list[PendingCommit]) -> None:
        try:
            await self._commit(batch)
        except Exception:
            # Whatever it is, it must not end the one task that everybody waits for.
            _log.exception("a commit of %d objects failed", len(batch))
            for pending in batch:
                if pending.answer is None:
                    pending.answer = StoreError(Status.PROCESSING_FAILURE, "internal error")
                    await pending.staged.discard()
        for pending in batch:
            pending.done.set()
        await self.settlement.until_few()

    async def _commit(self, batch: Sequence[PendingCommit]) -> None:
        published: list[PendingCommit] = []
        index, publish = self._adds_after, None
        if self._blocking_store is not None and index is not None:
            publish = self._blocking_store.publishing(
                [(p.staged, p.record.object_key) for p in batch]
            )
            if publish is not None:
                taken = await self._publish_and_add(index, batch, publish)
        if publish is None:
            published, taken = await self._publish(batch)
        if taken:
            again = await self._resolve_taken(taken)
            if again:
                more, taken = await self._publish(again)
                published += more
                for pending in taken:
                    await self._refuse(pending, StorageError("the object key is taken"))
        if published:
            await self._add(published)

    async def _publish_and_add(
        self,
        index: AddsAfter,
        batch: Sequence[PendingCommit],
        publish: Callable[[], Sequence[Published]],
    ) -> list[PendingCommit]:
        """All in one hop to a thread; gives those whose key is taken."""
        outcomes: list[Published] = []

        def published_records() -> list[InstanceRecord]:
            outcomes.extend(publish())
            return [
                pending.record
                for pending, outcome in zip(batch, outcomes, strict=True)
                if outcome is None
            ]

        answers: Sequence[AddResult] | Exception
        try:
            answers = await index.add_after(published_records, **self._policies)
        except StorageError as error:
            if not outcomes:  # it did not come to that
                for pending in batch:
                    await self._refuse(pending, error)
                return []
            answers = error
        except Exception as error:
            if not outcomes:
                raise
            answers = error
        published, taken = self._sort_outcomes(batch, outcomes)
        await self._apply_answers(published, answers)
        return taken

    async def _add(self, published: Sequence[PendingCommit]) -> None:
        answers: Sequence[AddResult] | Exception
        try:
            answers = await self._index.add(
                [pending.record for pending in published], **self._policies
            )
        except Exception as error:
            answers = error
        await self._apply_answers(published, answers)

    async def _apply_answers(
        self, published: Sequence[PendingCommit], answers: Sequence[AddResult] | Exception
    ) -> None:
        """What follows from what the index said of objects, or that it failed."""
        if not published:
            return
        if isinstance(answers, Exception):
            await self._roll_back(published, answers)
            return
        try:
            answers = [
                await self._replace_missing_object(pending.record, added)
                for pending, added in zip(published, answers, strict=True)
            ]
        except Exception as error:
            await self._roll_back(published, error)
            return
        self._alert.report_success()
        superfluous = []
        for pending, added in zip(published, answers, strict=True):
            if added.other_patient is not None:
                self._log_other_patient(pending.record, added.outcome, added.other_patient)
            pending.resolve(self._answers.of_added(pending.record, added))
            key = superfluous_key(pending.record, added)
            if key is not None:
                superfluous.append(key)
        if superfluous:
            for pending in published:
                if pending.answer is not None:
                    pending.done.set()
            # Before the settling: until then a crash in between leaves nothing of them.
            await self._remove_superfluous(superfluous, published, answers)
        self.settlement.add(pending.staged for pending in published)

    async def _publish(
        self, batch: Sequence[PendingCommit]
    ) -> tuple[list[PendingCommit], list[PendingCommit]]:
        """Those that were published, and those whose key is taken."""
        outcomes = await self._store.publish([(p.staged, p.record.object_key) for p in batch])
        return self._sort_outcomes(batch, outcomes)

    def _sort_outcomes(
        self, batch: Sequence[PendingCommit], outcomes: Sequence[Published]
    ) -> tuple[list[PendingCommit], list[PendingCommit]]:
        published, taken = [], []
        for pending, outcome in zip(batch, outcomes, strict=True):
            match outcome:
                case None:
                    published.append(pending)
                case FileExistsError():
                    taken.append(pending)
                case StorageError():
                    self._alert.report_failure(outcome)
                    pending.resolve(StoreError.of_storage(outcome))
                case _:
                    assert_never(outcome)
        return published, taken

    async def _resolve_taken(self, taken: Sequence[PendingCommit]) -> list[PendingCommit]:
        """Answer what the archive has already; the rest is to be published under another key."""
        try:
            known = await self._index.get([p.record.sop_instance_uid for p in taken])
        except StorageError as error:
            for pending in taken:
                await self._refuse(pending, error)
            return []
        again = []
        for pending in taken:
            record = pending.record
            previous = known.get(record.sop_instance_uid)
            # Unknown to the index: a file that a crash or a hand left there.  It is not ours
            # to judge here; it stays as it is and `verify` reports it.
            try:
                is_other = (
                    previous is None
                    or (
                        self._answers.duplicates is DuplicatePolicy.REPLACE
                        and previous.digest != record.digest
                    )
                    # Something is there under the key; whole it need not be.
                    or not await self._holds(previous)
                )
            except StorageError as error:
                await self._refuse(pending, error)
                continue
            if previous is None or is_other:
                key = distinct_key(record.object_key, self._token())
                pending.record = replace(record, object_key=key)
                again.append(pending)
            else:
                pending.resolve(self._answers.of_duplicate(record, previous))
                await pending.staged.discard()
        return again

    async def _replace_missing_object(self, record: InstanceRecord, added: AddResult) -> AddResult:
        """A duplicate of an object whose file has vanished, or was cut short, takes its place:
        what is acknowledged has to be there."""
        previous = added.previous
        if added.outcome is not AddOutcome.DUPLICATE or previous is None:
            return added
        # Published under the very key of the old one: then nothing was there.
        if previous.object_key != record.object_key and await self._holds(previous):
            return added
        _log.error(
            "the file of instance %s was gone or cut short; what was sent now takes its place",
            record.sop_instance_uid,
        )
        return (await self._index.add([record], replace=True))[0]

    async def _holds(self, stored: StoredInstance) -> bool:
        try:
            async with await self._store.open(stored.object_key) as reader:
                return reader.size == stored.size
        except KeyError:
            return False

    def _log_other_patient(
        self, record: InstanceRecord, outcome: AddOutcome, other: OtherPatient
    ) -> None:
        """By UID: whose objects they are is for nobody who reads logs."""
        study = record.study_instance_uid
        is_kept = outcome is not AddOutcome.OTHER_PATIENT
        self._on_other_patient(is_kept)
        if not other.is_first or study in self._refused_studies:
            return
        if not is_kept:
            self._refused_studies.append(study)
        _log.log(
            logging.INFO
            if self._answers.other_patient is OtherPatientPolicy.ACCEPT
            else logging.WARNING,
            "the objects of study %s differ in their patient: instance %s names another one than "
            "instance %s; %s",
            study,
            record.sop_instance_uid,
            other.sop_instance_uid,
            "kept, and found under both" if is_kept else "refused",
        )

    async def _roll_back(self, published: Sequence[PendingCommit], error: Exception) -> None:
        """The index failed.  Objects go, unless it cannot even say that it has them not."""
        if isinstance(error, StorageError):
            self._alert.report_failure(error)
            refusal = StoreError.of_storage(error)
        else:
            _log.error("the index took up none of %d objects", len(published), exc_info=error)
            refusal = StoreError(Status.PROCESSING_FAILURE, "internal error")
        for pending in published:
            pending.resolve(refusal)
        try:
            known = await self._index.get([p.record.sop_instance_uid for p in published])
        except StorageError:
            # They are never settled, and the next start asks again.
            return
        gone = []
        for pending in published:
            row = known.get(pending.record.sop_instance_uid)
            if row is None or row.object_key != pending.record.object_key:
                gone.append(pending.record.object_key)
        await self._remove(gone)
        self.settlement.add([pending.staged for pending in published])

    async def _refuse(self, pending: PendingCommit, error: StorageError) -> None:
        self._alert.report_failure(error)
        pending.resolve(StoreError.of_storage(error))
        await pending.staged.discard()

    async def _remove_superfluous(
        self,
        keys: Sequence[str],
        published: Sequence[PendingCommit],
        answers: Sequence[AddResult],
    ) -> None:
        """What came in vain, and what was replaced: before that goes, its successor is durable,
        whatever was promised of objects that come."""
        successors = [
            pending.record.object_key
            for pending, added in zip(published, answers, strict=True)
            if added.outcome is AddOutcome.REPLACED
        ]
        if successors:
            try:
                await self._store.sync(successors)
                await self._index.sync()
            except StorageError as error:
                _log.warning("%d superfluous objects are left to `db verify`: %s", len(keys), error)
                return
        await self._remove(keys)

    async def _remove(self, keys: Sequence[str]) -> None:
        try:
            await self._store.remove(keys)
        except StorageError as error:
            _log.warning("%d superfluous objects are left to `db verify`: %s", len(keys), error)


def _split_batch(
    batch: Iterable[PendingCommit],
) -> tuple[list[PendingCommit], list[PendingCommit], list[PendingCommit]]:
    """Take the batch apart: no SOP instance twice, those for the next round, those withdrawn."""
    now: dict[str, PendingCommit] = {}
    later = []
    withdrawn = []
    for pending in batch:
        if pending.withdrawn:
            withdrawn.append(pending)
        elif pending.record.sop_instance_uid in now:
            later.append(pending)
        else:
            pending.taken = True
            now[pending.record.sop_instance_uid] = pending
    return list(now.values()), later, withdrawn
