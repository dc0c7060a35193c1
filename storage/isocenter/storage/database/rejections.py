"""Rejection notes in the database: adapter of the port `RejectionBook`."""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from time import time
from typing import Any, Final

from isocenter.services.archive.ports import AddOutcome, AddResult, InstanceRecord
from isocenter.services.archive.rejection.ports import NoteRow, NoteState
from isocenter.services.archive.rejection.reasons import (
    KEY_OBJECT_SELECTION,
    RejectionReason,
    RejectionRules,
    SentAgain,
)
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import TEXTS, json_list
from isocenter.storage.database.rows import rows_as
from isocenter.storage.database.text import replace_surrogates

_FAULT_LENGTH: Final = 500
_INSERT: Final = """
    INSERT INTO rejection_note (sop_instance_uid, study_instance_uid, state, reason, actor, text,
        at, data_set) VALUES (?, ?, 'due', ?, ?, ?, ?, ?)
    ON CONFLICT (sop_instance_uid) DO UPDATE SET data_set = NULL
"""
_SELECT: Final = """
    SELECT sop_instance_uid, study_instance_uid, state, reason, actor, text, at, fault,
        (SELECT count(*) FROM rejected_instance r
         WHERE r.note_uid = rejection_note.sop_instance_uid) AS instances
    FROM rejection_note
"""
_REJECTED_BY: Final = "SELECT sop_instance_uid FROM rejected_instance WHERE note_uid = ?"
_ALONE: Final = """
    AND NOT EXISTS (SELECT 1 FROM rejected_instance other
        WHERE other.sop_instance_uid = rejected_instance.sop_instance_uid
        AND other.note_uid <> rejected_instance.note_uid)
"""
_REJECTED: Final = f"""
    SELECT sop_instance_uid, reason FROM rejected_instance WHERE sop_instance_uid IN {TEXTS}
"""
_IN_INDEX: Final = f"SELECT sop_instance_uid FROM instance WHERE sop_instance_uid IN {TEXTS}"
_LOOK_AGAIN: Final = """
    INSERT INTO rejection_note (sop_instance_uid, study_instance_uid, state, reason, actor, text,
        at)
    SELECT sop_instance_uid, study_instance_uid, 'due', '', '', '', ?
    FROM instance JOIN series USING (series_pk) JOIN study USING (study_pk)
    WHERE sop_class_uid = ? ON CONFLICT (sop_instance_uid) DO NOTHING
"""


class DatabaseRejections:
    """See `isocenter.services.archive.rejection.ports.RejectionBook`.

    Args:
        now: seconds since 1970.
    """

    def __init__(
        self, database: Database, rules: RejectionRules, *, now: Callable[[], float] = time
    ) -> None:
        self._database = database
        self._rules = rules
        self._now = now

    # -- In the transactions of others ------------------------------------------------

    def noted(
        self, connection: Connection, added: Sequence[tuple[InstanceRecord, AddResult]]
    ) -> None:
        """Key Object Selections were added (`isocenter.storage.database.index.records.AddHook`)."""
        for record, _ in added:
            if record.sop_class_uid == KEY_OBJECT_SELECTION:
                connection.execute(
                    _INSERT,
                    (
                        record.sop_instance_uid,
                        record.study_instance_uid,
                        "",
                        replace_surrogates(record.source_ae_title),
                        "",
                        self._now(),
                        None,
                    ),
                )

    def not_wanted(
        self, connection: Connection, records: Sequence[InstanceRecord]
    ) -> Mapping[str, AddResult]:
        """By SOP Instance UID, what becomes of objects that were rejected and are sent again.

        Those that are accepted again are rejected no more.
        """
        if not self._rules.enabled:
            return {}
        uids = json_list(record.sop_instance_uid for record in records)
        reasons: dict[str, set[RejectionReason]] = defaultdict(set)
        for uid, reason in connection.execute(_REJECTED, (uids,)):
            reasons[uid].add(RejectionReason(reason))
        if not reasons:
            return {}
        # What is shown although it was rejected is there.
        for (uid,) in connection.execute(_IN_INDEX, (json_list(reasons),)).fetchall():
            del reasons[uid]
        found: dict[str, AddResult] = {}
        for uid, some in reasons.items():
            again = {self._rules.sent_again(reason): reason for reason in some}
            if SentAgain.REFUSED in again:
                code = again[SentAgain.REFUSED].code
                found[uid] = AddResult(AddOutcome.REFUSED, rejection=code)
            elif SentAgain.IGNORED in again:
                found[uid] = AddResult(AddOutcome.IGNORED)
            else:
                connection.execute(
                    "DELETE FROM rejected_instance WHERE sop_instance_uid = ?", (uid,)
                )
        return found

    # -- The port ---------------------------------------------------------------------

    async def announce(self, note: NoteRow, data_set: bytes) -> None:
        """See `RejectionBook.announce`."""
        values = (
            note.sop_instance_uid,
            note.study_instance_uid,
            "" if note.reason is None else note.reason.value,
            replace_surrogates(note.actor),
            replace_surrogates(note.text),
            note.at,
            data_set,
        )
        await self._database.write(_execute, _INSERT, values)

    async def announced(self, sop_instance_uid: str) -> bytes | None:
        """See `RejectionBook.announced`."""
        rows = await self._database.read(
            _fetch,
            "SELECT data_set FROM rejection_note WHERE sop_instance_uid = ?",
            (sop_instance_uid,),
        )
        return bytes(rows[0][0]) if rows and rows[0][0] is not None else None

    async def unfinished(self, limit: int) -> Sequence[NoteRow]:
        """See `RejectionBook.unfinished`."""
        return await self._database.read(
            _rows, f"{_SELECT} WHERE state IN ('due', 'revoking') ORDER BY at LIMIT ?", (limit,)
        )

    async def rows(self, *, limit: int) -> Sequence[NoteRow]:
        """See `RejectionBook.rows`."""
        return await self._database.read(
            _rows,
            f"{_SELECT} WHERE reason <> '' OR state = 'failed' ORDER BY at DESC LIMIT ?",
            (limit,),
        )

    async def one(self, sop_instance_uid: str) -> NoteRow | None:
        """See `RejectionBook.one`."""
        rows = await self._database.read(
            _rows, f"{_SELECT} WHERE sop_instance_uid = ?", (sop_instance_uid,)
        )
        return rows[0] if rows else None

    async def reject(
        self, sop_instance_uid: str, reason: RejectionReason, instances: Sequence[str]
    ) -> None:
        """See `RejectionBook.reject`."""
        await self._database.write(_reject, sop_instance_uid, reason, instances)

    async def settle(self, sop_instance_uid: str, state: NoteState, fault: str = "") -> None:
        """See `RejectionBook.settle`."""
        await self._database.write(
            _execute,
            "UPDATE rejection_note SET state = ?, fault = ? WHERE sop_instance_uid = ?",
            (state.value, replace_surrogates(fault[:_FAULT_LENGTH]), sop_instance_uid),
        )

    async def rejected_by(self, sop_instance_uid: str, *, alone: bool) -> Sequence[str]:
        """See `RejectionBook.rejected_by`."""
        statement = f"{_REJECTED_BY}{_ALONE if alone else ''} ORDER BY sop_instance_uid"
        rows = await self._database.read(_fetch, statement, (sop_instance_uid,))
        return [row[0] for row in rows]

    async def forget(self, sop_instance_uid: str) -> None:
        """See `RejectionBook.forget`."""
        await self._database.write(_forget, sop_instance_uid)

    async def look_again(self) -> int:
        """See `RejectionBook.look_again`."""
        return await self._database.write(
            _execute, _LOOK_AGAIN, (self._now(), KEY_OBJECT_SELECTION)
        )


def _rows(connection: Connection, statement: str, values: tuple[object, ...]) -> list[NoteRow]:
    return rows_as(
        NoteRow,
        connection.execute(statement, values),
        state=NoteState,
        reason=lambda text: RejectionReason(text) if text else None,
    )


def _fetch(
    connection: Connection, statement: str, values: tuple[object, ...]
) -> list[tuple[Any, ...]]:
    return connection.execute(statement, values).fetchall()


def _execute(connection: Connection, statement: str, values: tuple[object, ...]) -> int:
    return connection.execute(statement, values).rowcount


def _reject(
    connection: Connection, note: str, reason: RejectionReason, instances: Sequence[str]
) -> None:
    connection.execute(
        "UPDATE rejection_note SET reason = ? WHERE sop_instance_uid = ?", (reason.value, note)
    )
    connection.executemany(
        "INSERT INTO rejected_instance (sop_instance_uid, note_uid, reason) VALUES (?, ?, ?) "
        "ON CONFLICT (sop_instance_uid, note_uid) DO NOTHING",
        [(uid, note, reason.value) for uid in instances if uid.isascii()],
    )


def _forget(connection: Connection, note: str) -> None:
    connection.execute("DELETE FROM rejected_instance WHERE note_uid = ?", (note,))
    connection.execute("DELETE FROM rejection_note WHERE sop_instance_uid = ?", (note,))
