"""The archive: objects received as bytes, kept as they came, and found.

A success that `Ingest.commit` returns is a promise: the object is on stable storage and
the index knows it.  Nothing is decoded or encoded anew; the data set is kept byte for byte
behind File Meta Information of ours (PS3.10 7.1), but for File Meta Information of the
sender's that was left at its head.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import date
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import (
    DataSetError,
    StrayMetaFilter,
    encoding_of,
    write_file_meta,
)
from isocenter.engine.dimse.status import Status
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.services.archive.capacity import Room
from isocenter.services.archive.committer import Committer, StoreOutcome, StoreResult
from isocenter.services.archive.memory_budget import MemoryBudget
from isocenter.services.archive.object_keys import (
    NamingScheme,
    distinct_key,
    plain_key,
    sop_instance_uid_of,
)
from isocenter.services.archive.object_scan import (
    ObjectScan,
    StoreError,
    breaks_the_rules,
    check_command,
)
from isocenter.services.archive.ports import (
    DuplicatePolicy,
    Index,
    InstanceRecord,
    ObjectStore,
    OtherPatientPolicy,
    StagedObject,
    StoredInstance,
)
from isocenter.services.archive.rules.conditions import Sender
from isocenter.services.archive.rules.evaluation import NO_DECISION, NO_RULES, Rules
from isocenter.services.archive.storage_alert import StorageAlert
from isocenter.services.concurrency import Latch
from isocenter.services.dicom.attribute_path import TagOrPath
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.uids import UidRule
from isocenter.services.errors import StorageError

if TYPE_CHECKING:
    from isocenter.services.archive.rules.arrival_coercion import Coercion

__all__ = ["Archive", "Ingest", "StoreError", "StoreOutcome", "StoreResult"]

log = logging.getLogger("isocenter.archive")

#: Of a deflated object, what is looked at before others have their turn: when so many bytes
#: were inflated, which is seen after so many that were not.
_TURN_BYTES: Final = 128 << 10
_DEFLATED_PIECE: Final = 128
#: Bytes of all objects on their way in that the process holds in memory.
MEMORY_BUDGET: Final = 256 << 20
#: How long an object waits for a share of it before A700H.
MEMORY_WAIT_SECONDS: Final = 30.0
#: An object of usual size, to try whether one could be kept.
PROBE_BYTES: Final = 1 << 20
#: Bytes of a large object after which the disk is looked at again.
ROOM_BYTES: Final = 8 << 20
#: How long the traces of an object that was not finished may take to remove; what then
#: is left, the next start removes.
CLEANUP_GRACE_SECONDS: Final = 5.0


class Archive:
    """An object store and an index that agree.  An async context manager.

    Leaving it waits for what is being committed; the store and the index are closed by
    whoever made them.

    Args:
        uids: which UIDs of studies, series and instances are taken.
        undeclared: the character set of text for which an object declares none.
        memory_budget: bytes in flight, over all associations.
        room: what may still come in; None: as much as the store takes.
        refuse_stray_meta: refuse, rather than leave out, the File Meta Information that a
            sender has left at the head of a data set.
        rules: what happens to what comes in.
        modifying_system: Modifying System (0400,0563) of what rules change.
        on_round, on_other_patient: as of `Committer`.
        today: gives the folder of objects without Study Date, with the scheme `date`.
        token: eight new hexadecimal digits with each call.
    """

    def __init__(
        self,
        store: ObjectStore,
        index: Index,
        *,
        naming: NamingScheme = NamingScheme.UID,
        duplicates: DuplicatePolicy = DuplicatePolicy.IGNORE,
        uids: UidRule = UidRule.SAFE,
        undeclared: tuple[str, ...] = (),
        other_patient: OtherPatientPolicy = OtherPatientPolicy.WARN,
        memory_budget: int = MEMORY_BUDGET,
        memory_wait_seconds: float = MEMORY_WAIT_SECONDS,
        cleanup_grace_seconds: float = CLEANUP_GRACE_SECONDS,
        limits: Limits = DEFAULT_LIMITS,
        room: Room | None = None,
        refuse_stray_meta: bool = False,
        rules: Rules = NO_RULES,
        modifying_system: str = "Isocenter",
        on_round: Callable[[int, float], None] = lambda objects, seconds: None,
        on_other_patient: Callable[[bool], None] = lambda is_kept: None,
        today: Callable[[], date] = date.today,
        token: Callable[[], str] = lambda: secrets.token_hex(4),
    ) -> None:
        self.store = store
        self.index = index
        self.naming = naming
        self.uids = uids
        self.undeclared = undeclared
        self.limits = limits
        self.refuse_stray_meta = refuse_stray_meta
        self.today = today
        self._token = token
        self.budget = MemoryBudget(memory_budget)
        self.memory_wait_seconds = memory_wait_seconds
        self.cleanup_grace_seconds = cleanup_grace_seconds
        self.room = Room() if room is None else room
        self.alert = StorageAlert()
        self.modifying_system = modifying_system
        #: Set when something was stored that is to be sent on.
        self.routed: Final = Latch()
        self._rules = rules
        self.committer = Committer(
            store,
            index,
            duplicates=duplicates,
            other_patient=other_patient,
            token=token,
            alert=self.alert,
            on_round=on_round,
            on_other_patient=on_other_patient,
        )
        self._nursery_manager: AbstractAsyncContextManager[trio.Nursery] | None = None

    async def __aenter__(self) -> Self:
        self._nursery_manager = trio.open_nursery()
        nursery = await self._nursery_manager.__aenter__()
        nursery.start_soon(self.committer.run)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        manager, self._nursery_manager = self._nursery_manager, None
        assert manager is not None
        self.committer.close()
        try:
            return await manager.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as group:
            # The nursery is ours and so is its wrapping: the caller's own exception is
            # the one that leaves.
            if error is not None and group.exceptions == (error,):
                return False
            raise

    @property
    def rules(self) -> Rules:
        """What happens to what comes in."""
        return self._rules

    def exchange_rules(self, rules: Rules) -> None:
        """Have other rules for what comes in from now on."""
        self._rules = rules

    async def recover(self, others: Mapping[str, StoredInstance] | None = None) -> int:
        """After a restart, before anything is received: give back what was acknowledged, and undo
        what was not.  Returns how many objects were undone.

        The index must be whole: an empty one is to be rebuilt (`salvage`, then
        `maintenance.reindex`).

        Args:
            others: by their keys, objects that are to stay where they are, though the index has
                them not: on their way to the trash, or back.
        """

        async def look_up(keys: Sequence[str]) -> list[StoredInstance | None]:
            found = await self.indexed(keys)
            if others:
                found = [
                    others.get(key) if stored is None else stored
                    for key, stored in zip(keys, found, strict=True)
                ]
            return found

        return await self.store.recover(look_up)

    async def salvage(self) -> None:
        """In the place of `recover` before the index is made again."""
        await self.store.salvage(lambda key: distinct_key(plain_key(key), self._token()))

    async def indexed(self, keys: Sequence[str]) -> list[StoredInstance | None]:
        """What the index has under each key."""
        uids = [sop_instance_uid_of(key) for key in keys]
        known = await self.index.get([uid for uid in uids if uid is not None])
        found = [None if uid is None else known.get(uid) for uid in uids]
        return [
            stored if stored is not None and stored.object_key == key else None
            for key, stored in zip(keys, found, strict=True)
        ]

    async def are_indexed(self, keys: Sequence[str]) -> list[bool]:
        """Whether the index has an object under each key."""
        return [stored is not None for stored in await self.indexed(keys)]

    def scan(
        self, transfer_syntax_uid: str, places: frozenset[TagOrPath] = frozenset()
    ) -> ObjectScan:
        """What looks at an object for this archive; *places*: for rules."""
        return ObjectScan(transfer_syntax_uid, self.limits, places, self.undeclared)

    # -- In ---------------------------------------------------------------------------

    async def receive(
        self,
        *,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax_uid: str,
        source_ae_title: str,
        called_ae_title: str = "",
    ) -> Ingest:
        """Begin an object, with what the command or the File Meta Information says of it.

        Raises:
            StoreError: 0117H for UIDs that are none, A700H or 0110H when the store fails.
        """
        check_command(sop_class_uid, sop_instance_uid, transfer_syntax_uid, self.uids)
        header = write_file_meta(
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            source_ae_title=_ae_title(source_ae_title),
        )
        try:
            await self.room.check()
            staged = await self.store.stage()
        except StorageError as error:
            raise self.store_error(error) from error
        return Ingest(
            self,
            staged,
            header=header,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            sender=Sender(calling_ae_title=source_ae_title, called_ae_title=called_ae_title),
        )

    async def probe(self) -> None:
        """Try whether an object could be kept now: nothing of it stays.

        Raises:
            StorageError: it could not.
        """
        await self.room.check(PROBE_BYTES)
        staged = await self.store.stage()
        try:
            await staged.write([bytes(PROBE_BYTES)])
            await staged.spill()
            await staged.finish()
        finally:
            await staged.discard()
        await self.index.probe()

    def store_error(self, error: StorageError) -> StoreError:
        """What the peer is told when the store fails; the log is told as well."""
        self.alert.report_failure(error)
        return StoreError.of_storage(error)

    # -- Out --------------------------------------------------------------------------

    async def open(self, stored: StoredInstance) -> ObjectReader:
        """A reader of the Part 10 file; the data set starts at ``stored.data_set_offset``.

        Raises:
            KeyError: the archive has it no more.
            StorageError: it cannot be opened.
        """
        return await self.store.open(stored.object_key)

    async def remove(self, sop_instance_uids: Sequence[str]) -> int:
        """Forget instances, then remove their objects; how many there were."""
        known = await self.index.get(sop_instance_uids)
        await self.index.remove(list(known))
        await self.store.remove([stored.object_key for stored in known.values()])
        return len(known)


class Ingest:
    """One object on its way in.  An async context manager: left without `commit`, no trace
    of the object stays."""

    __slots__ = (
        "_archive",
        "_charged",
        "_coercion",
        "_header",
        "_held",
        "_is_deflated",
        "_memory_per_object",
        "_offset",
        "_open",
        "_room_at",
        "_rules",
        "_scan",
        "_sender",
        "_spilled",
        "_staged",
        "_stray_meta",
        "record",
        "sop_class_uid",
        "sop_instance_uid",
        "transfer_syntax_uid",
    )

    def __init__(
        self,
        archive: Archive,
        staged: StagedObject,
        *,
        header: bytes,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax_uid: str,
        sender: Sender,
    ) -> None:
        self._archive = archive
        self._staged = staged
        self._sender = sender
        self._rules = archive.rules
        self._coercion: Coercion | None = None
        if self._rules.may_coerce(sender, sop_class_uid):
            # Coercion takes long to import, and few need it.
            from isocenter.services.archive.rules.arrival_coercion import Coercion

            self._coercion = Coercion(
                self._rules,
                sender,
                transfer_syntax_uid,
                system=archive.modifying_system,
                limits=archive.limits,
                undeclared=archive.undeclared,
            )
        self._header = header
        self._offset = len(header)
        self._scan = archive.scan(transfer_syntax_uid, self._rules.places)
        encoding = encoding_of(transfer_syntax_uid)
        self._is_deflated = encoding.deflated
        self._stray_meta = StrayMetaFilter(encoding, archive.limits)
        limit = archive.budget.limit
        self._memory_per_object = min(archive.store.memory_per_object or limit, limit)
        self._charged = 0
        #: What is charged for that which waits for rules to decide.
        self._held = 0
        self._spilled = 0
        #: Bytes of the data set for which there was room on the disk.
        self._room_at = 0
        self._open = True
        #: What the index is told of it, from `commit` on.
        self.record: InstanceRecord | None = None
        self.sop_class_uid = sop_class_uid
        self.sop_instance_uid = sop_instance_uid
        self.transfer_syntax_uid = transfer_syntax_uid

    @property
    def size(self) -> int:
        """Bytes of the data set so far."""
        return self._scan.size

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
        if self._coercion is not None:
            await self._charge_held(self._coercion.held)
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
        if self._stray_meta.dropped and self._archive.refuse_stray_meta:
            raise StoreError(
                Status.CANNOT_UNDERSTAND, "group 0002 does not belong into a data set (PS3.5 7.1)"
            )
        return out

    async def _charge_held(self, held: int) -> None:
        # What is held cannot go to disk; half of the budget, so that one object alone gets on.
        held = min(held, self._archive.budget.limit // 2)
        if held > self._held:
            await self._acquire_memory(held - self._held)
        elif held < self._held:
            self._archive.budget.release(self._held - held)
        self._held = held

    async def _append(self, buffers: Sequence[Buffer]) -> None:
        scan = self._scan
        if scan.size - self._room_at >= ROOM_BYTES:
            self._room_at = scan.size
            try:
                self._archive.room.check_disk()
            except StorageError as error:
                raise self._archive.store_error(error) from error
        held = min(self._offset + scan.size - self._spilled, self._memory_per_object)
        if held > self._charged:
            if self._archive.budget.acquire_nowait(held - self._charged):
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
            raise self._archive.store_error(error) from error

    async def _wait_for_memory(self, count: int) -> None:
        """Hold as little as can be while waiting: if all did the contrary, nobody would go on."""
        try:
            if await self._staged.spill():
                self._release_memory()
                self._spilled = self._offset + self._scan.size - count - len(self._header)
        except StorageError as error:
            raise self._archive.store_error(error) from error
        wanted = min(count + len(self._header), self._memory_per_object - self._charged)
        await self._acquire_memory(wanted)
        self._charged += wanted

    async def _acquire_memory(self, count: int) -> None:
        with trio.move_on_after(self._archive.memory_wait_seconds):
            await self._archive.budget.acquire(count)
            return
        raise StoreError(Status.OUT_OF_RESOURCES, "too many objects are on their way in")

    async def commit(self) -> StoreResult:
        """Make the object durable and findable, together with whatever else is waiting.

        Cancelled: it is gone, or, when its round had begun, stored but not acknowledged.

        Raises:
            StoreError: it is refused or could not be kept, and nothing of it is left.
        """
        if not self._open:
            raise ValueError("the object was committed or discarded")
        try:
            coercion = self._coercion
            last = self._without_stray_meta((), at_end=True)
            if coercion is not None:
                last = [*coercion.feed(last), *coercion.finish()]
            await self._scan_all(last)
            if last:
                await self._append(last)
            scanned = self._scan.finish()
            scanned.check_identity(self.sop_class_uid, self.sop_instance_uid, self._archive.uids)
            decision = NO_DECISION
            if self._rules:
                places = scanned.places
                if coercion is not None:
                    places = coercion.original_values(places)
                decision = self._rules.evaluate(self._sender, places)
            self.record = record = scanned.record(
                transfer_syntax_uid=self.transfer_syntax_uid,
                data_set_offset=self._offset,
                object_key=scanned.key(self._archive.naming, self._archive.today(), decision.area),
                source_ae_title=self._sender.calling_ae_title,
                routes=decision.routes,
            )
            if breaks_the_rules(record):
                log.info("%s: kept with a UID that breaks PS3.5 9.1", record.sop_instance_uid)
            try:
                if not self._room_at:  # it is not on the disk yet, or little of it is
                    await self._archive.room.check(record.size)
                await self._staged.finish()
            except StorageError as error:
                raise self._archive.store_error(error) from error
        except BaseException:
            await self.discard()
            raise
        # From here on the committer owns what is staged, whatever happens to us.
        self._open = False
        try:
            result = await self._archive.committer.commit(self._staged, record)
        finally:
            self._release_memory()
        if result.outcome is StoreOutcome.STORED:
            self._archive.room.took(record.size)
        if record.routes:
            self._archive.routed.set()
        changes = []
        if coercion is not None and coercion.has_changed:
            changes.append("attributes were changed by rule")
        if self._stray_meta.dropped:
            changes.append("group 0002 was left out")
        if not changes and not scanned.forgiven:
            return result
        return replace(result, changes=tuple(changes), forgiven=scanned.forgiven)

    async def discard(self) -> None:
        """Leave no trace; allowed at any time, more than once, also when cancelled."""
        if not self._open:
            return
        self._open = False
        self._release_memory()
        with trio.move_on_after(self._archive.cleanup_grace_seconds, shield=True):
            await self._staged.discard()

    def _release_memory(self) -> None:
        charged = self._charged + self._held
        self._charged = self._held = 0
        if charged:
            self._archive.budget.release(charged)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.discard()


def _ae_title(text: str) -> str:
    """Source Application Entity Title (0002,0016) is optional: what is no AE title is left out."""
    text = text.strip(" ")
    is_one = len(text) <= 16 and text.isascii() and text.isprintable() and "\\" not in text
    return text if is_one else ""
