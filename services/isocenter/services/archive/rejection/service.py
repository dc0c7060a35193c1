"""Rejection by notes: applied, made here, and taken back.

What a note rejects leaves the index as what is deleted does, and is kept: taking the note back
brings it back, verified.  What a crash interrupts, the next look brings to its end.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from time import time
from typing import Final

import trio

from isocenter.engine.dataset import DataSetError
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.deletion.ports import DeletionRefusedError, Obstacles, TrashChoice
from isocenter.services.archive.deletion.records import DeletionCause
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.deletion.values import Plan, Requester, Restored
from isocenter.services.archive.object_scan import StoreError
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.rejection.note import RejectionNote, read_note, write_note
from isocenter.services.archive.rejection.ports import NoteRow, NoteState, RejectionBook
from isocenter.services.archive.rejection.reasons import (
    KEY_OBJECT_SELECTION,
    RejectionReason,
    RejectionRules,
)
from isocenter.services.archive.selection import Selection
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.uids import new_uid

log = logging.getLogger("isocenter.archive")

#: Notes in one look; more are left to the next.
_AT_ONCE: Final = 100
#: Of a note: 100,000 references.
_MOST_BYTES: Final = 32 << 20
_LIMITS: Final = replace(
    DEFAULT_LIMITS, identifier=_MOST_BYTES, identifier_elements=_MOST_BYTES // 8
)
#: Instances in one question.
_SOME: Final = 500
#: For so long the sender of a note waits until what it rejects is hidden.
APPLY_SECONDS: Final = 20.0
LOOK_SECONDS: Final = 30.0
_BY_ITSELF: Final = "isocenter"


class NoSuchNoteError(IsocenterError):
    """The archive has no such note."""

    error_code = ErrorCode.DELETION


class Rejections:
    """Obeys rejection notes, makes them, and takes them back.

    Args:
        trash: keeps what is rejected.
        keep_days: for so long what has passed its retention is kept.
        ae_title: the sender of notes that are made here.
        can_store: whether this process may add objects; otherwise the server does that.
        now: seconds since 1970.
    """

    def __init__(
        self,
        archive: Archive,
        trash: Trash,
        book: RejectionBook,
        rules: RejectionRules,
        *,
        keep_days: float,
        ae_title: str,
        can_store: bool = True,
        now: Callable[[], float] = time,
    ) -> None:
        self.book = book
        self._archive = archive
        self._trash = trash
        self._rules = rules
        self._keep_days = keep_days
        self._ae_title = ae_title
        self._can_store = can_store
        self._now = now

    async def run(self) -> None:
        """Obey notes that nobody has looked at, now and then, until cancelled."""
        while True:
            try:
                await self.apply()
            except IsocenterError as error:
                log.error("rejection notes cannot be looked at: %s", error)
            await trio.sleep(LOOK_SECONDS)

    async def on_note(self) -> None:
        """Obey what was stored just now, for as long as a sender can wait.

        Whatever is against it, the note is stored, and the next look obeys it.
        """
        try:
            with trio.move_on_after(APPLY_SECONDS):
                await self.apply()
        except IsocenterError as error:
            log.error("a rejection note is obeyed later: %s", error)

    async def apply(self) -> int:
        """Bring to its end what is due; how many notes rejected something."""
        done = 0
        for row in await self.book.unfinished(_AT_ONCE):
            if row.state is NoteState.REVOKING:
                await self._revoke(row, Requester(name=row.actor or _BY_ITSELF), row.text)
                continue
            try:
                done += await self._apply(row)
            except DeletionRefusedError as error:
                log.info("rejection note %s waits: %s", row.sop_instance_uid, error)
        return done

    async def reject(
        self, selection: Selection, reason: RejectionReason, requester: Requester, text: str
    ) -> list[str]:
        """Make a note for each study of *selection*, store and obey it; their SOP Instance UIDs.

        Raises:
            NotPermittedError: *requester* may not.
            StorageError: the archive cannot.
        """
        requester.check()
        made: list[str] = []
        for instances in selection.studies:
            uid = new_uid()
            records = await self._archive.index.records([instances[0].sop_instance_uid])
            like = records.get(instances[0].sop_instance_uid)
            if like is None:
                continue  # it has gone since it was chosen
            at = self._now()
            data = write_note(
                reason,
                instances,
                like,
                text,
                sop_instance_uid=uid,
                series_instance_uid=new_uid(),
                now=datetime.fromtimestamp(at, UTC).astimezone(),
            )
            await self.book.announce(
                NoteRow(
                    sop_instance_uid=uid,
                    study_instance_uid=like.study_instance_uid,
                    state=NoteState.DUE,
                    reason=reason,
                    actor=requester.name,
                    text=text,
                    at=at,
                ),
                data,
            )
            made.append(uid)
        await self.apply()
        return made

    async def revoke(self, sop_instance_uid: str, requester: Requester, reason: str) -> Restored:
        """Take a note back: what it alone rejects is found again, and the note is deleted.

        Raises:
            NotPermittedError: *requester* may not.
            NoSuchNoteError: there is none, or it rejects nothing.
            DeletionRefusedError: the note itself cannot be deleted now.
        """
        requester.check()
        row = await self.book.one(sop_instance_uid)
        if row is None or row.state is not NoteState.APPLIED:
            raise NoSuchNoteError("the archive has no such rejection note")
        return await self._revoke(row, requester, reason)

    async def delete(self, sop_instance_uid: str, requester: Requester, reason: str) -> int:
        """Delete what a note has hidden, into the trash; how many instances.

        The note stays, and what it rejects is not taken again.

        Raises:
            NotPermittedError: *requester* may not.
            NoSuchNoteError: there is none, or it hides nothing.
            DeletionRefusedError: a study is held, or was promised; some may be deleted.
        """
        requester.check()
        deletions: set[str] = set()
        uids = await self.book.rejected_by(sop_instance_uid, alone=False)
        for start in range(0, len(uids), _SOME):
            choice = TrashChoice(
                sop_instance_uids=tuple(uids[start : start + _SOME]),
                causes=(DeletionCause.REJECTED,),
            )
            rows = await self._trash.book.chosen(choice, limit=2 * _SOME)
            deletions.update(row.deletion_id for row in rows)
        if not deletions:
            raise NoSuchNoteError("the archive has no such rejection note, or it hides nothing")
        done = 0
        for deletion_id in sorted(deletions):
            done += await self._trash.discard(deletion_id, requester, reason)
        return done

    async def _revoke(self, row: NoteRow, requester: Requester, reason: str) -> Restored:
        uid = row.sop_instance_uid
        await self.book.settle(uid, NoteState.REVOKING)
        done = Restored()
        uids = await self.book.rejected_by(uid, alone=True)
        for start in range(0, len(uids), _SOME):
            some = tuple(uids[start : start + _SOME])
            choice = TrashChoice(sop_instance_uids=some, causes=(DeletionCause.REJECTED,))
            restored = await self._trash.restore(choice, requester)
            done.instances += restored.instances
            for mine, theirs in ((done.there, restored.there), (done.damaged, restored.damaged)):
                mine.join(theirs)
        plan = await self._plan([uid], "")
        if plan.instances:
            await self._trash.delete(plan, requester, reason or "taken back", overrule=True)
        await self.book.forget(uid)
        return done

    async def _apply(self, row: NoteRow) -> int:
        uid = row.sop_instance_uid
        is_stored = await self._is_stored(uid)
        data = await self.book.announced(uid)
        if not (is_stored or data):  # it was deleted before anybody looked
            await self.book.forget(uid)
            return 0
        if not self._rules.enabled or not (
            row.reason is not None or self._rules.counts_from(row.actor)
        ):
            await self.book.settle(uid, NoteState.FAILED, "notes of this sender are not obeyed")
            return 0
        try:
            note = read_note(
                await trio.to_thread.run_sync(
                    AttributeList.read, *(await self._data_set(uid, data)), _LIMITS
                )
            )
        except (DataSetError, KeyError, ValueError) as error:
            log.warning("Key Object Selection %s cannot be read: %s", uid, error)
            await self.book.settle(uid, NoteState.FAILED, f"it cannot be read: {error}")
            return 0
        if note is None:
            await self.book.forget(uid)
            return 0
        await self.book.reject(
            uid, note.reason, [each.sop_instance_uid for each in note.references]
        )
        if note.reason not in self._rules.shown:
            await self._hide(row, note)
        if not (is_stored or self._can_store):
            return 1  # whoever can store it has that to do
        if data and not is_stored:
            try:
                await self._store(uid, data)
            except StoreError as error:
                log.error("rejection note %s cannot be stored now: %s", uid, error)
                return 1
        await self.book.settle(uid, NoteState.APPLIED)
        log.info(
            "rejection note %s (%s) rejects %d instances",
            uid,
            note.reason.code,
            len(note.references),
        )
        return 1

    async def _hide(self, row: NoteRow, note: RejectionNote) -> None:
        by_study: dict[str, list[str]] = defaultdict(list)
        for each in note.references:
            by_study[each.study_instance_uid].append(each.sop_instance_uid)
        text = f"{note.reason.meaning} ({note.reason.code}, DCM)"
        keep_days = self._keep_days if note.reason is RejectionReason.RETENTION else None
        for study, uids in by_study.items():
            plan = await self._plan([each for each in uids if each != row.sop_instance_uid], study)
            if plan.instances:
                await self._trash.delete(
                    plan,
                    Requester(name=row.actor or _BY_ITSELF),
                    f"{text}: {row.text}" if row.text else text,
                    cause=DeletionCause.REJECTED,
                    keep_days=keep_days,
                )

    async def _plan(self, uids: Sequence[str], study: str) -> Plan:
        """What the archive has of them; *study*: only of that, if it is named."""
        found: list[StoredInstance] = []
        for start in range(0, len(uids), _SOME):
            known = await self._archive.index.get(uids[start : start + _SOME])
            found += [each for each in known.values() if study in ("", each.study_instance_uid)]
        return Plan(studies=(tuple(found),) if found else (), patients=0, obstacles=Obstacles())

    async def _is_stored(self, uid: str) -> bool:
        return uid in await self._archive.index.get([uid])

    async def _data_set(self, uid: str, announced: bytes | None) -> tuple[bytes, str]:
        """The data set of a note, and its transfer syntax."""
        if announced is not None:
            return announced, EXPLICIT_VR_LITTLE_ENDIAN
        stored = (await self._archive.index.get([uid]))[uid]
        if stored.size > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES} bytes")
        async with await self._archive.open(stored) as reader:
            data = await reader.read(stored.data_set_offset, reader.size)
        return data, stored.transfer_syntax_uid

    async def _store(self, uid: str, data: bytes) -> None:
        ingest = await self._archive.receive(
            sop_class_uid=KEY_OBJECT_SELECTION,
            sop_instance_uid=uid,
            transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN,
            source_ae_title=self._ae_title,
            called_ae_title=self._ae_title,
        )
        async with ingest:
            await ingest.write([data])
            await ingest.commit()
