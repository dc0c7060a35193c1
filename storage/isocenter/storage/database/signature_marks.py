"""Marks of digital signatures in the database: adapter of the port `SignatureBook`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import time
from typing import Final

from isocenter.services.archive.ports import AddOutcome, AddResult, InstanceRecord
from isocenter.services.archive.signature_marks.mark import UNKNOWN, SignatureMark
from isocenter.services.archive.signature_marks.ports import SignatureCount
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import TEXTS, json_list
from isocenter.storage.database.rows import rows_as
from isocenter.storage.database.text import replace_surrogates

_FORGET: Final = f"DELETE FROM signature_mark WHERE sop_instance_uid IN {TEXTS}"  # noqa: S608
_ADD: Final = """
    INSERT INTO signature_mark (
        sop_instance_uid, state, signatures, signer, purpose, marked_at, verified_at
    ) VALUES (?, ?, 0, '', '', ?, 0)
    ON CONFLICT (sop_instance_uid) DO UPDATE SET
        state = excluded.state, signatures = 0, signer = '', purpose = '',
        marked_at = excluded.marked_at, verified_at = 0
"""
_WAITING: Final = """
    SELECT sop_instance_uid FROM signature_mark WHERE verified_at = 0
    ORDER BY marked_at, sop_instance_uid LIMIT ?
"""
_NOTE: Final = """
    UPDATE signature_mark SET state = ?, signatures = ?, signer = ?, purpose = ?, verified_at = ?
    WHERE sop_instance_uid = ?
"""
_NOTE_NEW: Final = """
    INSERT INTO signature_mark (
        state, signatures, signer, purpose, verified_at, sop_instance_uid, marked_at
    ) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (sop_instance_uid) DO UPDATE SET
        state = excluded.state, signatures = excluded.signatures, signer = excluded.signer,
        purpose = excluded.purpose, verified_at = excluded.verified_at
"""
_IS_STILL: Final = "SELECT 1 FROM instance WHERE sop_instance_uid = ? AND digest = ?"
_OF_STUDY: Final = """
    SELECT state, signer, purpose, count(*) AS objects,
           min(signature_mark.sop_instance_uid) AS example
    FROM study JOIN series ON series.study_pk = study.study_pk
         JOIN instance ON instance.series_pk = series.series_pk
         JOIN signature_mark ON signature_mark.sop_instance_uid = instance.sop_instance_uid
    WHERE study_instance_uid = ?
    GROUP BY state, signer, purpose ORDER BY objects DESC, state, signer, purpose LIMIT ?
"""
#: That are told of one study.
_MOST_MARKS: Final = 100
_KEPT: Final = frozenset((AddOutcome.ADDED, AddOutcome.REPLACED))


class DatabaseSignatures:
    """See `isocenter.services.archive.signature_marks.ports.SignatureBook`.

    Args:
        now: seconds since 1970.
    """

    def __init__(self, database: Database, *, now: Callable[[], float] = time) -> None:
        self._database = database
        self._now = now

    def added(
        self, connection: Connection, added: Sequence[tuple[InstanceRecord, AddResult]]
    ) -> None:
        """Objects were added (`isocenter.storage.database.index.records.AddHook`): those that are
        signed wait for somebody to verify them."""
        kept = [(record, result) for record, result in added if result.outcome in _KEPT]
        signed = [record.sop_instance_uid for record, _ in kept if record.is_signed]
        replaced = [
            record.sop_instance_uid
            for record, result in kept
            if record.is_signed or result.outcome is AddOutcome.REPLACED
        ]
        if replaced:
            forget_signatures(connection, replaced)
        await_verification(connection, signed, self._now())

    async def waiting(self, limit: int) -> Sequence[str]:
        """See `SignatureBook.waiting`."""
        return await self._database.read(_waiting, limit)

    async def note(self, sop_instance_uid: str, mark: SignatureMark, *, digest: str = "") -> None:
        """See `SignatureBook.note`."""
        now = self._now()
        values = (
            mark.state, mark.signatures, replace_surrogates(mark.signer),
            replace_surrogates(mark.purpose), now, sop_instance_uid,
        )  # fmt: skip
        await self._database.write(_note, values, now if mark.signatures else None, digest)

    async def of_study(self, study_instance_uid: str) -> Sequence[SignatureCount]:
        """See `SignatureBook.of_study`."""
        return await self._database.read(_of_study, study_instance_uid)


def await_verification(
    connection: Connection, sop_instance_uids: Sequence[str], now: float
) -> None:
    """They have signatures that nobody has verified."""
    connection.executemany(_ADD, [(uid, UNKNOWN, now) for uid in sop_instance_uids])


def forget_signatures(connection: Connection, sop_instance_uids: Sequence[str]) -> None:
    """Their marks are no longer theirs."""
    connection.execute(_FORGET, (json_list(sop_instance_uids),))


def forget_signatures_of_gone(
    connection: Connection, sop_instance_uids: Sequence[str], studies: Sequence[str]
) -> None:
    """Objects are gone for good, or back: the former lose their marks (a `ForgetHook`)."""
    gone = [
        uid
        for uid in sop_instance_uids
        if connection.execute(
            "SELECT 1 FROM instance WHERE sop_instance_uid = ? UNION ALL "
            "SELECT 1 FROM trash WHERE sop_instance_uid = ? LIMIT 1",
            (uid, uid),
        ).fetchone()
        is None
    ]
    forget_signatures(connection, gone)


def _waiting(connection: Connection, limit: int) -> list[str]:
    return [str(uid) for (uid,) in connection.execute(_WAITING, (limit,))]


def _note(
    connection: Connection, values: tuple[object, ...], new_at: float | None, digest: str
) -> None:
    if digest and connection.execute(_IS_STILL, (values[-1], digest)).fetchone() is None:
        return  # what has its place is verified for itself
    if new_at is None:
        connection.execute(_NOTE, values)
    else:
        connection.execute(_NOTE_NEW, (*values, new_at))


def _of_study(connection: Connection, study_instance_uid: str) -> Sequence[SignatureCount]:
    return rows_as(SignatureCount, connection.execute(_OF_STUDY, (study_instance_uid, _MOST_MARKS)))
