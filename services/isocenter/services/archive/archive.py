"""The archive: objects received as bytes, kept as they came, and found.

A success that `Ingest.commit` returns is a promise: the object is on stable storage and
the index knows it.  How objects get in is in `isocenter.services.archive.ingest`.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import date
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Final, Self

import trio

from isocenter.engine.dataset import write_file_meta
from isocenter.engine.dimse.status import Status
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.services.archive.capacity import Room
from isocenter.services.archive.committer import Committer
from isocenter.services.archive.deidentification.archive_view import DeidentifiedArchive
from isocenter.services.archive.deidentification.service import (
    Deidentification,
    NotDeidentifiedError,
    UnknownProjectError,
)
from isocenter.services.archive.ingest import Ingest, Intake
from isocenter.services.archive.leaving_changes import NotChangedError, changed
from isocenter.services.archive.leaving_signatures import LeavingSignatures
from isocenter.services.archive.locks.keeper import StudyLocks
from isocenter.services.archive.locks.reading import check_reading
from isocenter.services.archive.memory_budget import MemoryBudget
from isocenter.services.archive.object_keys import (
    NamingScheme,
    distinct_key,
    plain_key,
    sop_instance_uid_of,
)
from isocenter.services.archive.object_scan import StoreError, check_command
from isocenter.services.archive.ports import (
    DuplicatePolicy,
    Index,
    KeptObjects,
    ObjectStore,
    OtherPatientPolicy,
    RemoteStore,
    StoredInstance,
)
from isocenter.services.archive.reading import ReadableArchive
from isocenter.services.archive.rules.conditions import Sender
from isocenter.services.archive.rules.counting import RuleCounter
from isocenter.services.archive.rules.evaluation import NO_RULES, Rules
from isocenter.services.archive.sent_form import AS_IT_IS, SentForm
from isocenter.services.archive.storage_alert import StorageAlert
from isocenter.services.archive.tiers.ports import MatchAvailabilities
from isocenter.services.archive.validation.mark import RefusedObject, ValidationPolicy
from isocenter.services.archive.watched_reader import WatchedReader
from isocenter.services.concurrency import Latch, alone
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.uids import UidRule
from isocenter.services.errors import StorageError

#: Bytes of all objects on their way in that the process holds in memory.
MEMORY_BUDGET: Final = 256 << 20
#: How long an object waits for a share of it before A700H.
MEMORY_WAIT_SECONDS: Final = 30.0
#: An object of usual size, to try whether one could be kept.
PROBE_BYTES: Final = 1 << 20
#: How long the traces of an object that was not finished may take to remove; what then
#: is left, the next start removes.
CLEANUP_GRACE_SECONDS: Final = 5.0
#: How long who retrieves waits for corrected forms, and how often it looks: another process may
#: make them.
_PATIENCE_SECONDS: Final = 3.0
_LOOK_AGAIN_SECONDS: Final = 0.05
#: Originals that are asked for together.
_ORIGINALS_AT_ONCE: Final = 500


class Archive:
    """An object store and an index that agree.  An async context manager.

    Leaving it waits for what is being committed; the store and the index are closed by
    whoever made them.

    Args:
        uids: which UIDs of studies, series and instances are taken.
        undeclared: the character set of text for which an object declares none.
        memory_budget: bytes in flight, over all associations.
        unique_keys: each object gets a key that no other has or had; for stores in which nothing is
            to be overwritten, and nothing to be looked for first.
        room: what may still come in; None: as much as the store takes.
        refuse_stray_meta: refuse, rather than leave out, the File Meta Information that a
            sender has left at the head of a data set.
        rules: what happens to what comes in.
        sop_classes: that are taken, by UID; empty: all.
        validation: what happens to objects that are not valid, where no rule says anything.
        modifying_system: Modifying System (0400,0563) of what rules change.
        kept: what is in the store beside what the index names.
        locks: who reads a study, and who changes it; None: no other process does.
        on_round, on_other_patient: as of `Committer`.
        on_validated, on_refused: as of `Intake`.
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
        unique_keys: bool = False,
        room: Room | None = None,
        refuse_stray_meta: bool = False,
        sop_classes: frozenset[str] = frozenset(),
        validation: ValidationPolicy = ValidationPolicy.OFF,
        rules: Rules = NO_RULES,
        modifying_system: str = "Isocenter",
        kept: KeptObjects | None = None,
        locks: StudyLocks | None = None,
        on_round: Callable[[int, float], None] = lambda objects, seconds: None,
        on_other_patient: Callable[[bool], None] = lambda is_kept: None,
        on_validated: Callable[[bool, bool], None] = lambda is_valid, is_refused: None,
        on_refused: Callable[[RefusedObject], Awaitable[None]] | None = None,
        today: Callable[[], date] = date.today,
        token: Callable[[], str] = lambda: secrets.token_hex(4),
    ) -> None:
        self.store = store
        self.index = index
        self.limits = limits
        self._token = token
        self._kept = kept
        self.locks = StudyLocks() if locks is None else locks
        self.budget = MemoryBudget(memory_budget)
        self.room = Room() if room is None else room
        self.alert = StorageAlert()
        #: Says under which key an object can be read, which may take a while; None: under its own.
        self.recall: Callable[[str], Awaitable[str]] | None = None
        #: Is told of each object that was read: what it is, for how long, whether that failed.
        self.on_read: Callable[[StoredInstance, float, bool], None] | None = None
        #: Raises what `open` would raise for one of them, as far as that is known now.
        self.check_on_line: Callable[[Sequence[StoredInstance]], Awaitable[None]] | None = None
        #: Says of matches how soon they can be read; None: all at once.
        self.availabilities: MatchAvailabilities | None = None
        #: De-identifies what leaves for some; None: nobody gets anything else than what is kept.
        self.deidentification: Deidentification | None = None
        #: Signs what leaves for some; None: nobody gets anything signed by us.
        self.signatures: LeavingSignatures | None = None
        #: As callers of each project see it, by their names.
        self._views: dict[str, DeidentifiedArchive] = {}
        #: Set when something was stored that is to be sent on.
        self.routed: Final = Latch()
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
        self.intake = Intake(
            store=store,
            committer=self.committer,
            budget=self.budget,
            room=self.room,
            alert=self.alert,
            routed=self.routed,
            rules=rules,
            matched=RuleCounter(),
            naming=naming,
            uids=uids,
            undeclared=undeclared,
            memory_wait_seconds=memory_wait_seconds,
            cleanup_grace_seconds=cleanup_grace_seconds,
            limits=limits,
            refuse_stray_meta=refuse_stray_meta,
            modifying_system=modifying_system,
            today=today,
            key_token=token if unique_keys else None,
            sop_classes=sop_classes,
            validation=validation,
            on_validated=on_validated,
            on_refused=on_refused,
        )
        self._nursery_manager: AbstractAsyncContextManager[trio.Nursery] | None = None

    async def __aenter__(self) -> Self:
        self._nursery_manager = trio.open_nursery()
        nursery = await self._nursery_manager.__aenter__()
        nursery.start_soon(self.committer.run)
        nursery.start_soon(self.locks.run)
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
        self.locks.close()
        for view in self._views.values():
            view.close()
        try:
            return await manager.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as group:
            # The nursery is ours and so is its wrapping: the caller's own exception is
            # the one that leaves.
            if error is not None and alone(group) is error:
                return False
            raise

    @property
    def rules(self) -> Rules:
        """What happens to what comes in."""
        return self.intake.rules

    def exchange_rules(self, rules: Rules) -> None:
        """Have other rules for what comes in from now on."""
        self.intake.rules = rules

    async def recover(self, others: Mapping[str, StoredInstance] | None = None) -> int:
        """After a restart, before anything is received: give back what was acknowledged, and undo
        what was not.  Returns how many objects were undone.

        The index must be whole: an empty one is to be rebuilt (`salvage`, then
        `reindexing.reindex`).

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
        """What the index has under each key, or what is kept there beside what it names."""
        uids = [sop_instance_uid_of(key) for key in keys]
        known = await self.index.get([uid for uid in uids if uid is not None])
        kept = await self.kept(keys)
        found = [None if uid is None else known.get(uid) for uid in uids]
        return [
            stored if stored is not None and stored.object_key == key else kept.get(key)
            for key, stored in zip(keys, found, strict=True)
        ]

    async def kept(self, keys: Sequence[str]) -> Mapping[str, StoredInstance]:
        """By their keys, what is in the store though the index does not name it."""
        return {} if self._kept is None else await self._kept.kept(keys)

    async def is_awaited(self, sop_instance_uid: str) -> bool:
        """Whether the index says of an object what another form of it will say."""
        return self._kept is not None and await self._kept.awaited(sop_instance_uid)

    async def until_corrected(self) -> None:
        """Wait, for a little while, until what came just now has the form of which the index
        speaks: for whoever looks for objects to send.

        Raises:
            StorageError: the index cannot be asked.
        """
        if self._kept is None:
            return
        with trio.move_on_after(_PATIENCE_SECONDS):
            while await self._kept.awaited():  # noqa: ASYNC110 - perhaps by another process
                await trio.sleep(_LOOK_AGAIN_SECONDS)

    async def originals(self) -> AsyncGenerator[StoredInstance, None]:
        """What objects were when they came, of those that the index names in another form."""
        after = ""
        while self._kept is not None:
            some = await self._kept.originals(after=after, limit=_ORIGINALS_AT_ONCE)
            if not some:
                return
            for stored in some:
                yield stored
            after = some[-1].sop_instance_uid

    async def are_indexed(self, keys: Sequence[str]) -> list[bool]:
        """Whether the index has an object under each key, or it is kept there."""
        return [stored is not None for stored in await self.indexed(keys)]

    @property
    def is_store_away(self) -> bool:
        """The objects are somewhere else, and cannot be read now: whoever can wait, waits."""
        return isinstance(self.store, RemoteStore) and self.store.is_away

    # -- In ---------------------------------------------------------------------------

    async def receive(
        self,
        *,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax_uid: str,
        source_ae_title: str,
        called_ae_title: str = "",
        withheld_for: str = "",
        taken_as: str = "",
    ) -> Ingest:
        """Begin an object, with what the command or the File Meta Information says of it.

        Args:
            withheld_for: why it is quarantined; empty: it is not, unless a rule has it so.
            taken_as: the general SOP class of which its own is a special case, and by which is
                judged whether it is taken; empty: its own.

        Raises:
            StoreError: 0117H for UIDs that are none, 0122H for a SOP class that is not taken, A700H
                or 0110H when the store fails.
        """
        check_command(sop_class_uid, sop_instance_uid, transfer_syntax_uid, self.intake.uids)
        if not self.intake.takes(taken_as or sop_class_uid):
            raise StoreError(
                Status.SOP_CLASS_NOT_SUPPORTED, "this archive does not take its SOP class"
            )
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
            raise self.intake.store_error(error) from error
        return Ingest(
            self.intake,
            staged,
            header=header,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            sender=Sender(calling_ae_title=source_ae_title, called_ae_title=called_ae_title),
            withheld_for=withheld_for,
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

    # -- Out --------------------------------------------------------------------------

    @property
    def project(self) -> str:
        """Of de-identification, as whose callers see it: of none."""
        return ""

    def seen_by(self, project: str) -> ReadableArchive:
        """As callers of a project of de-identification see it; empty: as it is.

        Raises:
            UnknownProjectError: there is none of that name.
        """
        if not project:
            return self
        view = self._views.get(project)
        if view is None:
            if self.deidentification is None:
                raise UnknownProjectError("nothing is de-identified here")
            found = self.deidentification.project(project)
            view = self._views[project] = DeidentifiedArchive(self, self.deidentification, found)
        return view

    async def leaving(
        self, item: DicomObject, destination: str, form: SentForm = AS_IT_IS, *, signs: bool = True
    ) -> DicomObject:
        """*item*, an object of the archive, as the AE *destination* is given it.

        Args:
            form: what a rule has made of it; its project, whatever else the destination is given.
            signs: not where a part of it is sent, which is `signed` for itself.

        Raises:
            NotDeidentifiedError, NotChangedError: there is no such project, or form: then it does
                not leave.
        """
        if form.fault:
            raise NotChangedError(form.fault)
        project = form.project
        if project:
            known = None if self.deidentification is None else self.deidentification.projects
            if self.deidentification is None or not known or project not in known:
                raise NotDeidentifiedError(f"there is no project {project!r} any more")
            item = await self.deidentification.deidentified(item, known[project])
        elif self.deidentification is not None:
            item = await self.deidentification.leaving(item, destination)
        if form.edits:
            item = changed(
                item,
                form.edits,
                system=self.intake.modifying_system,
                limits=self.limits,
                undeclared=self.intake.undeclared,
            )
        return self.signed(item, destination) if signs else item

    def leaving_syntax(self, stored: StoredInstance, destination: str, project: str = "") -> str:
        """The transfer syntax of *stored* as it is `leaving`."""
        syntax, made = stored.transfer_syntax_uid, self.deidentification
        return syntax if made is None else made.syntax_leaving(syntax, destination, project)

    def signed(self, item: DicomObject, destination: str) -> DicomObject:
        """*item*, with a signature of ours where *destination* is given objects with one."""
        return item if self.signatures is None else self.signatures.signed(item, destination)

    async def open(self, stored: StoredInstance) -> ObjectReader:
        """A reader of the Part 10 file; the data set starts at ``stored.data_set_offset``.

        Raises:
            KeyError: the archive has it no more.
            StorageError: it cannot be opened, or may have been changed (`check_reading`).
        """
        check_reading()
        if self.on_read is None:
            return await self._open(stored)
        began = monotonic()
        return WatchedReader(await self._open(stored), began, partial(self.on_read, stored))

    def opened(self, stored: StoredInstance, reader: ObjectReader) -> ObjectReader:
        """Reader of an object that was opened ahead (`ObjectStore.open_ahead`)."""
        if self.on_read is None:
            return reader
        return WatchedReader(reader, monotonic(), partial(self.on_read, stored))

    async def _open(self, stored: StoredInstance) -> ObjectReader:
        if self.recall is None:
            return await self.store.open(stored.object_key)
        try:
            return await self.store.open(await self.recall(stored.object_key))
        except KeyError:
            # It may have been moved just now.
            now = (await self.index.get([stored.sop_instance_uid])).get(stored.sop_instance_uid)
            if now is None or now.digest != stored.digest or now.object_key == stored.object_key:
                raise
        return await self.store.open(await self.recall(now.object_key))

    async def open_in_place(self, stored: StoredInstance) -> ObjectReader:
        """As `open`, wherever it is: nothing is brought back for that."""
        check_reading()
        return await self.store.open(stored.object_key)

    async def compressed_since(self, stored: StoredInstance) -> StoredInstance | None:
        """What the archive has in the place of an object that was compressed after it was looked
        up; None: it was not.

        Raises:
            StorageError: the index cannot be asked.
        """
        known = await self.index.get([stored.sop_instance_uid])
        now = known.get(stored.sop_instance_uid)
        if now is None or now.object_key == stored.object_key or not now.received_digest:
            return None
        is_same = now.received_digest in (stored.digest, stored.received_digest)
        return now if is_same else None

    async def remove(self, sop_instance_uids: Sequence[str]) -> int:
        """Forget instances, then remove their objects; how many there were."""
        known = await self.index.get(sop_instance_uids)
        await self.index.remove(list(known))
        await self.remove_unnamed([stored.object_key for stored in known.values()])
        return len(known)

    async def remove_unnamed(self, keys: Sequence[str]) -> None:
        """Remove from the store what the index named once and names no more.

        That it does not survives a power failure first, whatever durability was chosen: else the
        index that comes back would name what is gone.  What it names in their place has to be
        durable already (`ObjectStore.sync`).
        """
        if keys:
            await self.index.sync()
            await self.store.remove(keys)


def _ae_title(text: str) -> str:
    """Source Application Entity Title (0002,0016) is optional: what is no AE title is left out."""
    text = text.strip(" ")
    is_one = len(text) <= 16 and text.isascii() and text.isprintable() and "\\" not in text
    return text if is_one else ""
