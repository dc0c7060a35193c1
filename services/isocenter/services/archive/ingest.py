"""Objects on their way into an archive: checked, scanned, charged for, committed.

Nothing is decoded or encoded anew; the data set is kept byte for byte behind File Meta
Information of ours (PS3.10 7.1), but for File Meta Information of the sender's that was left
at its head, and for what rules change.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Final, Self

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import (
    DataSetError,
    StrayMetaFilter,
    encoding_of,
)
from isocenter.engine.dimse.status import Status
from isocenter.engine.limits import Limits
from isocenter.services.archive.capacity import Room
from isocenter.services.archive.committer import Committer
from isocenter.services.archive.memory_budget import MemoryBudget
from isocenter.services.archive.object_keys import (
    NamingScheme,
    distinct_key,
)
from isocenter.services.archive.object_scan import (
    ObjectScan,
    ScannedObject,
    StoreError,
    breaks_the_rules,
)
from isocenter.services.archive.ports import (
    InstanceRecord,
    ObjectStore,
    StagedObject,
)
from isocenter.services.archive.rejection.reasons import KEY_OBJECT_SELECTION
from isocenter.services.archive.rules.conditions import Sender
from isocenter.services.archive.rules.counting import RuleCounter
from isocenter.services.archive.rules.evaluation import NO_DECISION, Rules
from isocenter.services.archive.storage_alert import StorageAlert
from isocenter.services.archive.store_answers import StoreOutcome, StoreResult
from isocenter.services.archive.validation.mark import (
    RefusedObject,
    ValidationMark,
    ValidationPolicy,
)
from isocenter.services.concurrency import Latch
from isocenter.services.dicom.attribute_path import TagOrPath
from isocenter.services.dicom.uids import UidRule
from isocenter.services.errors import StorageError

if TYPE_CHECKING:
    from isocenter.services.archive.rules.arrival_coercion import Coercion
    from isocenter.services.archive.validation.arrival import ArrivalValidation

log = logging.getLogger("isocenter.archive")

#: Of a deflated object, what is looked at before others have their turn: when so many bytes
#: were inflated, which is seen after so many that were not.
_TURN_BYTES: Final = 128 << 10
_DEFLATED_PIECE: Final = 128
#: Bytes of a large object after which the disk is looked at again.
ROOM_BYTES: Final = 8 << 20
#: The archive had one of that UID, and keeps it.
_CAME_AGAIN: Final = (StoreOutcome.ALREADY_STORED, StoreOutcome.KEPT_OTHER)
#: Rules are applied to these only.
_IS_NEW: Final = (StoreOutcome.STORED, StoreOutcome.REPLACED, StoreOutcome.QUARANTINED)


@dataclass(slots=True, kw_only=True)
class Intake:
    """What the objects on their way into one archive share: its parts, and how it takes them.

    Attributes:
        routed: set when something was stored that is to be sent on.
        rules: what happens to what comes in from now on.
        matched: counts what they match.
        on_again: awaited when an object came that the archive does not take, since it has one of
            that UID: with the UID and the AE title of the sender, who is answered afterwards.
        on_note: awaited when a Key Object Selection was stored, before its sender is answered.
        key_token: makes each key unlike any other there is or was; None: a plain key is made so
            when it is taken.
        sop_classes: that are taken; empty: all.
        validation: what happens to what is not valid, where no rule says anything.
        on_validated: told of each object that was validated whether it is valid, and refused.
        on_refused: keeps a record of what was refused; None: nobody does.
        naming, uids, undeclared, refuse_stray_meta, modifying_system, today: see `Archive`.
    """

    store: ObjectStore
    committer: Committer
    budget: MemoryBudget
    room: Room
    alert: StorageAlert
    routed: Latch
    rules: Rules
    matched: RuleCounter
    naming: NamingScheme
    uids: UidRule
    undeclared: tuple[str, ...]
    memory_wait_seconds: float
    cleanup_grace_seconds: float
    limits: Limits
    refuse_stray_meta: bool
    modifying_system: str
    today: Callable[[], date]
    on_again: Callable[[str, str], Awaitable[object]] | None = None
    on_note: Callable[[], Awaitable[None]] | None = None
    key_token: Callable[[], str] | None = None
    sop_classes: frozenset[str] = frozenset()
    validation: ValidationPolicy = ValidationPolicy.OFF
    on_validated: Callable[[bool, bool], None] = lambda is_valid, is_refused: None
    on_refused: Callable[[RefusedObject], Awaitable[None]] | None = None

    def takes(self, sop_class_uid: str) -> bool:
        """Whether objects of a SOP class are taken at all."""
        return not self.sop_classes or sop_class_uid in self.sop_classes

    def scan(
        self, transfer_syntax_uid: str, places: frozenset[TagOrPath] = frozenset()
    ) -> ObjectScan:
        """What looks at an object for this archive; *places*: for rules."""
        return ObjectScan(transfer_syntax_uid, self.limits, places, self.undeclared)

    def key(self, scanned: ScannedObject, area: str) -> str:
        """Where an object is to be kept."""
        key = scanned.key(self.naming, self.today(), area)
        return key if self.key_token is None else distinct_key(key, self.key_token())

    def store_error(self, error: StorageError) -> StoreError:
        """What the peer is told when the store fails; the log is told as well."""
        self.alert.report_failure(error)
        return StoreError.of_storage(error)


class Ingest:
    """One object on its way in.  An async context manager: left without `commit`, no trace
    of the object stays."""

    __slots__ = (
        "_charged",
        "_coercion",
        "_header",
        "_held",
        "_intake",
        "_is_deflated",
        "_is_whole",
        "_memory_per_object",
        "_offset",
        "_open",
        "_policy",
        "_room_at",
        "_rules",
        "_scan",
        "_sender",
        "_spilled",
        "_staged",
        "_stray_meta",
        "_validation",
        "_withheld_for",
        "record",
        "sop_class_uid",
        "sop_instance_uid",
        "transfer_syntax_uid",
    )

    def __init__(
        self,
        intake: Intake,
        staged: StagedObject,
        *,
        header: bytes,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax_uid: str,
        sender: Sender,
        withheld_for: str = "",
    ) -> None:
        self._withheld_for = withheld_for
        self._intake = intake
        self._staged = staged
        self._sender = sender
        self._rules = intake.rules
        self._coercion: Coercion | None = None
        if self._rules.may_coerce(sender, sop_class_uid):
            # Coercion takes long to import, and few need it.
            from isocenter.services.archive.rules.arrival_coercion import Coercion

            self._coercion = Coercion(
                self._rules,
                sender,
                transfer_syntax_uid,
                system=intake.modifying_system,
                limits=intake.limits,
                undeclared=intake.undeclared,
            )
        self._validation: ArrivalValidation | None = None
        if self._rules.may_validate(sender, sop_class_uid, intake.validation):
            # The same holds for validation.
            from isocenter.services.archive.validation.arrival import ArrivalValidation

            self._validation = ArrivalValidation(
                transfer_syntax_uid, intake.limits, intake.on_validated
            )
        self._header = header
        self._offset = len(header)
        self._scan = intake.scan(transfer_syntax_uid, self._rules.places)
        encoding = encoding_of(transfer_syntax_uid)
        self._is_deflated = encoding.deflated
        self._stray_meta = StrayMetaFilter(encoding, intake.limits)
        limit = intake.budget.limit
        self._memory_per_object = min(intake.store.memory_per_object or limit, limit)
        self._charged = 0
        #: What is charged for that which waits for rules to decide.
        self._held = 0
        self._spilled = 0
        #: Bytes of the data set for which there was room on the disk.
        self._room_at = 0
        self._open = True
        #: What was held to the end has been looked at.
        self._is_whole = False
        self._policy = ValidationPolicy.OFF
        #: What the index is told of it, from `commit` on.
        self.record: InstanceRecord | None = None
        self.sop_class_uid = sop_class_uid
        self.sop_instance_uid = sop_instance_uid
        self.transfer_syntax_uid = transfer_syntax_uid

    @property
    def size(self) -> int:
        """Bytes of the data set so far."""
        return self._scan.size

    @property
    def study_instance_uid(self) -> str:
        """What the data set says, as far as it has come; empty: nothing."""
        return self._scan.study_instance_uid

    @property
    def patient_id(self) -> str:
        """The same of Patient ID."""
        return self._scan.patient_id

    async def write(self, buffers: Sequence[Buffer]) -> None:
        """Append pieces of the data set, as they come; they may be reused after return.

        Raises:
            StoreError: C000H when this can be no data set; A700H when it passes a limit, A700H
                or 0110H when it cannot be kept.  The object is lost; the caller discards it.
        """
        if not self._open:
            raise ValueError("the object was committed or discarded")
        if self._may_change:
            passed: list[Buffer] = []
            for data in self._pieces(buffers):
                passed += self._changed(data)
                if self._is_deflated:
                    await trio.lowlevel.checkpoint()
            buffers = passed
        await self._scan_all(buffers)
        if self._coercion is not None or self._validation is not None:
            await self._charge_held(
                (0 if self._coercion is None else self._coercion.held)
                + (0 if self._validation is None else self._validation.held)
            )
        await self._append(buffers)

    @property
    def _may_change(self) -> bool:
        return self._coercion is not None or not self._stray_meta.passes_all

    def _pieces(self, buffers: Sequence[Buffer]) -> Iterable[Buffer]:
        """What is looked at in one go: a piece of what is deflated may inflate to a thousand
        times its size."""
        if not self._is_deflated:
            return buffers
        return (
            view[start : start + _DEFLATED_PIECE]
            for view in (memoryview(buffer) for buffer in buffers)
            for start in range(0, len(view), _DEFLATED_PIECE)
        )

    def _changed(self, data: Buffer) -> Sequence[Buffer]:
        """What is to be kept of the next piece."""
        buffers: Sequence[Buffer] = [data]
        if not self._stray_meta.passes_all:
            buffers = self._without_stray_meta(buffers)
        return buffers if self._coercion is None else self._coercion.feed(buffers)

    async def _scan_all(self, buffers: Sequence[Buffer]) -> None:
        """Learn what there is to learn of what is kept; others have their turn meanwhile."""
        scan = self._scan
        if self._validation is not None:
            for data in buffers:
                self._validation.feed(data)
        turn = scan.position
        for data in self._pieces(buffers):
            scan.feed(data)
            if self._is_deflated and scan.position - turn >= _TURN_BYTES:
                await trio.lowlevel.checkpoint()
                turn = scan.position

    def _without_stray_meta(
        self, buffers: Sequence[Buffer], *, at_end: bool = False
    ) -> Sequence[Buffer]:
        try:
            out = [piece for data in buffers for piece in self._stray_meta.feed(data)]
            if at_end:
                out += self._stray_meta.finish()
        except DataSetError as error:
            raise StoreError.of_data_set(error) from error
        if self._stray_meta.dropped and self._intake.refuse_stray_meta:
            raise StoreError(
                Status.CANNOT_UNDERSTAND, "group 0002 does not belong into a data set (PS3.5 7.1)"
            )
        return out

    async def _charge_held(self, held: int) -> None:
        # What is held cannot go to disk; half of the budget, so that one object alone gets on.
        held = min(held, self._intake.budget.limit // 2)
        if held > self._held:
            await self._acquire_memory(held - self._held)
        elif held < self._held:
            self._intake.budget.release(self._held - held)
        self._held = held

    async def _append(self, buffers: Sequence[Buffer]) -> None:
        scan = self._scan
        if scan.size - self._room_at >= ROOM_BYTES:
            self._room_at = scan.size
            try:
                self._intake.room.check_disk()
            except StorageError as error:
                raise self._intake.store_error(error) from error
        held = min(self._offset + scan.size - self._spilled, self._memory_per_object)
        if held > self._charged:
            if self._intake.budget.acquire_nowait(held - self._charged):
                self._charged = held
            else:
                await self._wait_for_memory(sum(map(len, buffers)))
        try:
            if self._header:
                header, self._header = self._header, b""
                await self._staged.write((header, *buffers))
            else:
                await self._staged.write(buffers)
        except StorageError as error:
            raise self._intake.store_error(error) from error

    async def _wait_for_memory(self, count: int) -> None:
        """Hold as little as can be while waiting: if all did the contrary, nobody would go on."""
        try:
            if await self._staged.spill():
                self._release_memory()
                self._spilled = self._offset + self._scan.size - count - len(self._header)
        except StorageError as error:
            raise self._intake.store_error(error) from error
        wanted = min(count + len(self._header), self._memory_per_object - self._charged)
        await self._acquire_memory(wanted)
        self._charged += wanted

    async def _acquire_memory(self, count: int) -> None:
        with trio.move_on_after(self._intake.memory_wait_seconds):
            await self._intake.budget.acquire(count)
            return
        raise StoreError(Status.OUT_OF_RESOURCES, "too many objects are on their way in")

    async def finish(self) -> None:
        """All of it was written: look at what was held to the end, so that what the data set says
        is known before `commit`, which does it otherwise.

        Raises:
            StoreError: as `write`.
        """
        if not self._open:
            raise ValueError("the object was committed or discarded")
        if self._is_whole:
            return
        try:
            await self._take_rest()
        except BaseException:
            await self.discard()
            raise

    async def _take_rest(self) -> None:
        last = self._without_stray_meta((), at_end=True)
        if self._coercion is not None:
            last = [*self._coercion.feed(last), *self._coercion.finish()]
        await self._scan_all(last)
        if last:
            await self._append(last)
        self._is_whole = True

    async def commit(self) -> StoreResult:
        """Make the object durable and findable, together with whatever else is waiting.

        Cancelled: it is gone, or, when its round had begun, stored but not acknowledged.

        Raises:
            StoreError: it is refused or could not be kept, and nothing of it is left.
        """
        if not self._open:
            raise ValueError("the object was committed or discarded")
        try:
            if not self._is_whole:
                await self._take_rest()
            coercion = self._coercion
            scanned = self._scan.finish()
            scanned.check_identity(self.sop_class_uid, self.sop_instance_uid, self._intake.uids)
            decision = NO_DECISION
            if self._rules:
                places = scanned.places
                if coercion is not None:
                    places = coercion.original_values(places)
                decision = self._rules.evaluate(self._sender, places)
            validation = await self._validated(decision.validation)
            self.record = record = scanned.record(
                transfer_syntax_uid=self.transfer_syntax_uid,
                data_set_offset=self._offset,
                object_key=self._intake.key(scanned, decision.area),
                source_ae_title=self._sender.calling_ae_title,
                routes=decision.routes,
                compression=decision.kept_form,
                analyses=decision.analyses,
                expires_by=decision.expires_by,
                expires_under=decision.expires_under,
                quarantine=self._withheld_for or decision.quarantine,
                validation=validation,
            )
            if breaks_the_rules(record):
                log.info("%s: kept with a UID that breaks PS3.5 9.1", record.sop_instance_uid)
            try:
                if self._intake.key_token is not None:
                    known = await self._answer_of_known(record)
                    if known is not None:
                        await self.discard()
                        return self._with_changes(known, scanned)
                if not self._room_at:  # it is not on the disk yet, or little of it is
                    await self._intake.room.check(record.size)
                await self._staged.finish(record.object_key)
            except StorageError as error:
                raise self._intake.store_error(error) from error
        except BaseException:
            await self.discard()
            raise
        # From here on the committer owns what is staged, whatever happens to us.
        self._open = False
        try:
            result = await self._intake.committer.commit(self._staged, record)
        except StoreError as error:
            if error.status == Status.DUPLICATE_SOP_INSTANCE:
                await self._came_again(record)
            raise
        finally:
            self._release_memory()
        if result.outcome in _CAME_AGAIN:
            await self._came_again(record)
        elif result.outcome in (StoreOutcome.STORED, StoreOutcome.QUARANTINED):
            self._intake.room.took(record.size)
        if decision.rules and result.outcome in _IS_NEW:
            self._intake.matched.note(
                decision.rules, record.study_instance_uid, self._sender.calling_ae_title
            )
        if record.routes:
            self._intake.routed.set()
        on_note = self._intake.on_note
        if on_note is not None and record.sop_class_uid == KEY_OBJECT_SELECTION:
            await on_note()
        return self._with_changes(result, scanned)

    async def _answer_of_known(self, record: InstanceRecord) -> StoreResult | None:
        """See `Committer.answer_of_known`."""
        try:
            known = await self._intake.committer.answer_of_known(record, self._staged)
        except StoreError as error:
            if error.status == Status.DUPLICATE_SOP_INSTANCE:
                await self._came_again(record)
            raise
        if known is not None:
            await self._came_again(record)
        return known

    async def _came_again(self, record: InstanceRecord) -> None:
        on_again = self._intake.on_again
        if on_again is None:
            return
        try:
            await on_again(record.sop_instance_uid, self._sender.calling_ae_title)
        except StorageError as error:
            raise self._intake.store_error(error) from error

    async def _validated(self, by_rule: ValidationPolicy | None) -> ValidationMark | None:
        """What validation found; None: it was not to look, or could not.

        Raises:
            StoreError: it is refused.
        """
        self._policy = by_rule or self._intake.validation
        if self._validation is None or self._policy is ValidationPolicy.OFF:
            return None
        try:
            return await self._validation.judge(self._policy, self._sender.calling_ae_title)
        except StoreError:
            await self._note_refusal(self._validation)
            raise

    async def _note_refusal(self, validation: ArrivalValidation) -> None:
        on_refused, refused = self._intake.on_refused, validation.refused
        if on_refused is None or refused is None:
            return
        mark, why = refused
        try:
            await on_refused(
                RefusedObject(
                    sop_instance_uid=self.sop_instance_uid,
                    sop_class_uid=self.sop_class_uid,
                    sender=mark.sender,
                    device=mark.device,
                    why=why,
                )
            )
        except StorageError as error:
            log.warning("%s: that it was refused is not recorded: %s", self.sop_instance_uid, error)

    def _with_changes(self, result: StoreResult, scanned: ScannedObject) -> StoreResult:
        """*result* with what was changed or forgiven."""
        coercion = self._coercion
        changes = []
        if coercion is not None and coercion.has_changed:
            changes.append("attributes were changed by rule")
        if self._stray_meta.dropped:
            changes.append("group 0002 was left out")
        forgiven = scanned.forgiven
        mark = None if self.record is None else self.record.validation
        fault = ""
        if mark is not None and not mark.is_valid:
            from isocenter.services.archive.validation.arrival import named_rules

            fault = f"not valid: {named_rules(mark)}"
            forgiven = (*forgiven, fault)
            if self._policy is not ValidationPolicy.WARN:
                fault = ""
        if not changes and not forgiven:
            return result
        return replace(result, changes=tuple(changes), forgiven=forgiven, not_valid=fault)

    async def discard(self) -> None:
        """Leave no trace; allowed at any time, more than once, also when cancelled."""
        if not self._open:
            return
        self._open = False
        self._release_memory()
        with trio.move_on_after(self._intake.cleanup_grace_seconds, shield=True):
            await self._staged.discard()

    def _release_memory(self) -> None:
        charged = self._charged + self._held
        self._charged = self._held = 0
        if charged:
            self._intake.budget.release(charged)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.discard()
