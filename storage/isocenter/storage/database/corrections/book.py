"""Records of corrections in the database: adapter of the port `CorrectionBook`."""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from time import time
from typing import Any, Final

from isocenter.services.archive.corrections.ports import (
    CorrectedStudy,
    CorrectionRefusedError,
    CorrectionSummary,
    CorrectionWork,
)
from isocenter.services.archive.corrections.values import Correction, Scope, content_of
from isocenter.services.archive.ports import InstanceRecord, StoredInstance
from isocenter.storage.database.corrections.exchange import (
    DUE,
    STUDIES,
    CorrectHook,
    exchange,
    put_back,
)
from isocenter.storage.database.corrections.standing import (
    CORRECTION_COLUMNS,
    Standing,
    correction_of,
    drop_made,
    forget,
    link,
    put,
    read,
    stored,
    whole_attributes,
    written,
)
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import TEXTS, json_list
from isocenter.storage.database.index.lookup import get_whole_records
from isocenter.storage.database.index.row_values import PATIENT_TAGS, identity_of
from isocenter.storage.database.text import replace_surrogates

_AT_ONCE: Final = 500
_FAULT_LENGTH: Final = 500
_OF_PATIENT: Final = """
    SELECT sop_instance_uid FROM patient
    JOIN patient_statement ON patient_statement.patient_pk = patient.patient_pk
    JOIN study_statement
        ON study_statement.patient_statement_pk = patient_statement.patient_statement_pk
    JOIN series ON series.study_pk = study_statement.study_pk
    JOIN instance ON instance.series_pk = series.series_pk
        AND instance.study_statement_pk = study_statement.study_statement_pk
    WHERE patient.identity = ?
"""
_OF_STUDY: Final = """
    SELECT sop_instance_uid FROM study JOIN series ON series.study_pk = study.study_pk
    JOIN instance ON instance.series_pk = series.series_pk WHERE study_instance_uid = ?
"""
_OF_SERIES: Final = f"{_OF_STUDY} AND series_instance_uid = ?"
_INSERT: Final = """
    INSERT INTO correction (kind, at, actor, reason, content)
    VALUES (?, ?, ?, ?, ?) RETURNING correction_pk
"""
_MADE: Final = """
    UPDATE corrected_instance SET state = 'made', made = :made, made_key = :key
    WHERE sop_instance_uid = :uid AND version = :version AND state = 'due'
"""
_FAILED: Final = """
    UPDATE corrected_instance SET state = 'failed', has_arrived = 0, fault = :fault
    WHERE sop_instance_uid = :uid AND version = :version AND state = 'due'
"""
#: With what has been done; of a correction that was undone it is what is left to be undone.
_ROWS: Final = f"""
    SELECT {CORRECTION_COLUMNS}, undone_at, undone_by, undo_reason,
        coalesce((SELECT count(*) FROM applied_correction a
            JOIN corrected_instance c ON c.sop_instance_uid = a.sop_instance_uid
            WHERE a.correction_pk = correction.correction_pk AND c.state IN ('due', 'made')), 0),
        coalesce((SELECT count(*) FROM applied_correction a
            JOIN corrected_instance c ON c.sop_instance_uid = a.sop_instance_uid
            WHERE a.correction_pk = correction.correction_pk AND c.state = 'failed'), 0),
        coalesce((SELECT max(c.fault) FROM applied_correction a
            JOIN corrected_instance c ON c.sop_instance_uid = a.sop_instance_uid
            WHERE a.correction_pk = correction.correction_pk AND c.state = 'failed'), ''),
        coalesce((SELECT count(*) FROM applied_correction a
            WHERE a.correction_pk = correction.correction_pk), 0)
    FROM correction
"""
#: What has left meanwhile nobody waits for.
_AWAITED: Final = """
    SELECT 1 FROM corrected_instance c
    WHERE has_arrived = 1 AND (:uid = '' OR c.sop_instance_uid = :uid)
      AND EXISTS (SELECT 1 FROM instance i WHERE i.sop_instance_uid = c.sop_instance_uid) LIMIT 1
"""
_TOUCHED: Final = """
    SELECT study_instance_uid, sop_class_uid, count(*) FROM applied_correction a
    JOIN instance ON instance.sop_instance_uid = a.sop_instance_uid
    JOIN series ON series.series_pk = instance.series_pk
    JOIN study ON study.study_pk = series.study_pk
    WHERE a.correction_pk = ? GROUP BY study_instance_uid, sop_class_uid
"""
_GONE: Final = f"""
    SELECT sop_instance_uid FROM corrected_instance c
    WHERE NOT EXISTS (SELECT 1 FROM instance i WHERE i.sop_instance_uid = c.sop_instance_uid)
      AND NOT EXISTS (SELECT 1 FROM trash t WHERE t.sop_instance_uid = c.sop_instance_uid)
    LIMIT {_AT_ONCE}
"""

MadeHook = Callable[[Connection, str], None]


class DatabaseCorrections:
    """See `isocenter.services.archive.corrections.ports.CorrectionBook`.

    Args:
        on_exchange: what else is written when objects are exchanged.
        on_made: called with the key of each form, in the transaction that notes it.
        now: seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        *,
        on_exchange: Sequence[CorrectHook] = (),
        on_made: Sequence[MadeHook] = (),
        now: Callable[[], float] = time,
    ) -> None:
        self._database = database
        self._on_exchange = on_exchange
        self._on_made = on_made
        self._now = now

    async def order(self, correction: Correction) -> tuple[int, int]:
        """See `CorrectionBook.order`."""
        return await self._database.write(_order, correction, self._now())

    async def undo(self, number: int, *, actor: str, reason: str, at: float) -> int:
        """See `CorrectionBook.undo`."""
        return await self._database.write(_undo, number, actor, reason, at, self._now())

    async def studies(self, limit: int) -> Sequence[str]:
        """See `CorrectionBook.studies`."""
        rows = await self._database.read(_fetch, STUDIES, (limit,))
        return [row[0] for row in rows]

    async def due(self, study_instance_uid: str, limit: int) -> Sequence[CorrectionWork]:
        """See `CorrectionBook.due`."""
        return await self._database.read(_due, study_instance_uid, limit)

    async def made(self, forms: Sequence[tuple[CorrectionWork, InstanceRecord]]) -> Sequence[bool]:
        """See `CorrectionBook.made`."""
        return await self._database.write(_all_made, forms, self._on_made)

    async def failed(self, work: CorrectionWork, fault: str) -> None:
        """See `CorrectionBook.failed`."""
        await self._database.write(_failed, work, replace_surrogates(fault[:_FAULT_LENGTH]))

    async def exchange(self, study_instance_uid: str) -> CorrectedStudy | None:
        """See `CorrectionBook.exchange`."""
        return await self._database.write(exchange, study_instance_uid, self._on_exchange)

    async def sweep(self) -> None:
        """See `CorrectionBook.sweep`."""
        while gone := await self._database.read(_fetch, _GONE, ()):
            # Looked at again within the transaction: one of them may have come back.
            if not await self._database.write(_sweep, [row[0] for row in gone]):
                return

    async def leaving(self) -> Sequence[str]:
        """See `CorrectionBook.leaving`."""
        rows = await self._database.read(_fetch, "SELECT object_key FROM leaving_object", ())
        return [row[0] for row in rows]

    async def removed(self, object_keys: Sequence[str]) -> None:
        """See `CorrectionBook.removed`."""
        await self._database.write(
            _execute,
            f"DELETE FROM leaving_object WHERE object_key IN {TEXTS}",
            (json_list(object_keys),),
        )

    async def kept_size(self) -> int:
        """See `CorrectionBook.kept_size`."""
        rows = await self._database.read(
            _fetch,
            "SELECT coalesce(sum(original_size), 0) FROM corrected_instance WHERE is_corrected = 1",
            (),
        )
        return int(rows[0][0])

    async def retry(self, number: int) -> int:
        """See `CorrectionBook.retry`."""
        return await self._database.write(
            _execute,
            "UPDATE corrected_instance SET state = 'due', version = version + 1, since = ?, "
            "fault = '' WHERE state = 'failed' AND sop_instance_uid IN "
            "(SELECT sop_instance_uid FROM applied_correction WHERE correction_pk = ?)",
            (self._now(), number),
        )

    async def kept(self, object_keys: Sequence[str]) -> Mapping[str, StoredInstance]:
        """See `CorrectionBook.kept`."""
        return await self._database.read(_kept, object_keys)

    async def awaited(self, sop_instance_uid: str = "") -> bool:
        """See `CorrectionBook.awaited`."""
        rows = await self._database.read(_fetch, _AWAITED, {"uid": sop_instance_uid})
        return bool(rows)

    async def originals(self, *, after: str, limit: int) -> Sequence[StoredInstance]:
        """See `CorrectionBook.originals`."""
        rows = await self._database.read(
            _fetch,
            "SELECT original FROM corrected_instance WHERE is_corrected = 1 "
            "AND sop_instance_uid > ? ORDER BY sop_instance_uid LIMIT ?",
            (after, limit),
        )
        return [stored(read(row[0])) for row in rows]

    async def touched(self, number: int) -> Mapping[str, Mapping[str, int]]:
        """See `CorrectionBook.touched`."""
        found: dict[str, dict[str, int]] = {}
        for study, sop_class, count in await self._database.read(_fetch, _TOUCHED, (number,)):
            found.setdefault(study, {})[sop_class] = count
        return found

    async def rows(self, *, before: int = 0, limit: int) -> Sequence[CorrectionSummary]:
        """See `CorrectionBook.rows`."""
        rows = await self._database.read(
            _fetch,
            f"{_ROWS} WHERE :before = 0 OR correction_pk < :before "
            "ORDER BY correction_pk DESC LIMIT :limit",
            {"before": before, "limit": limit},
        )
        return list(map(_summary, rows))

    async def get(self, number: int) -> CorrectionSummary | None:
        """See `CorrectionBook.get`."""
        rows = await self._database.read(_fetch, f"{_ROWS} WHERE correction_pk = ?", (number,))
        return _summary(rows[0]) if rows else None


_Values = tuple[object, ...] | dict[str, object]


def _execute(connection: Connection, statement: str, values: _Values) -> int:
    return connection.execute(statement, values).rowcount


def _fetch(connection: Connection, statement: str, values: _Values) -> list[tuple[Any, ...]]:
    return connection.execute(statement, values).fetchall()


def _order(connection: Connection, correction: Correction, now: float) -> tuple[int, int]:
    uids = list(
        dict.fromkeys(uid for scope in correction.scopes for uid in _uids_of(connection, scope))
    )
    if correction.moves:
        _check_holds(connection, correction)
    (number,) = connection.execute(
        _INSERT,
        (
            correction.kind.value,
            correction.at,
            replace_surrogates(correction.actor),
            replace_surrogates(correction.reason),
            content_of(correction).decode(),
        ),
    ).fetchone()
    connection.executemany(
        "INSERT INTO correction_scope (scope_key, correction_pk) VALUES (?, ?)",
        [(key, number) for key in dict.fromkeys(scope.key for scope in correction.scopes)],
    )
    for some in _some(uids):
        for record in get_whole_records(connection, some).values():
            put(connection, record, record.study_instance_uid, now)
        connection.executemany(
            "INSERT INTO applied_correction (sop_instance_uid, correction_pk) VALUES (?, ?)",
            [(uid, number) for uid in some],
        )
    return int(number), len(uids)


def _uids_of(connection: Connection, scope: Scope) -> list[str]:
    """Objects of the index that a scope is about."""
    if scope.patient is not None:
        patient = scope.patient
        said = {
            0x00100020: patient.patient_id,
            0x00100021: patient.issuer,
            0x00100010: patient.name,
            0x00100030: patient.birth_date,
        }
        identity = identity_of(tuple(said.get(tag, "") for tag in PATIENT_TAGS))
        rows = connection.execute(_OF_PATIENT, (identity,))
    elif scope.series_instance_uid:
        rows = connection.execute(_OF_SERIES, (scope.study_instance_uid, scope.series_instance_uid))
    else:
        rows = connection.execute(_OF_STUDY, (scope.study_instance_uid,))
    return [row[0] for row in rows.fetchall()]


def _check_holds(connection: Connection, correction: Correction) -> None:
    studies = [scope.study_instance_uid for scope in correction.scopes if scope.patient is None]
    held = connection.execute(
        f"SELECT study_instance_uid FROM study_hold WHERE study_instance_uid IN {TEXTS}",
        (json_list(studies),),
    ).fetchone()
    if held is not None:
        raise CorrectionRefusedError(
            f"study {held[0]} is held (isocenter hold list): nothing leaves it; take the hold away "
            "first"
        )


def _some(uids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(uids), _AT_ONCE):
        yield uids[start : start + _AT_ONCE]


def _undo(
    connection: Connection, number: int, actor: str, reason: str, at: float, now: float
) -> int:
    undone = connection.execute(
        "UPDATE correction SET undone_at = ?, undone_by = ?, undo_reason = ? "
        "WHERE correction_pk = ? AND undone_at IS NULL RETURNING content",
        (at, replace_surrogates(actor), replace_surrogates(reason), number),
    ).fetchone()
    if undone is None:
        raise CorrectionRefusedError(
            f"there is no correction {number} that could be undone; see isocenter corrections list"
        )
    connection.execute("DELETE FROM correction_scope WHERE correction_pk = ?", (number,))
    rows = connection.execute(
        "SELECT a.sop_instance_uid, study.study_instance_uid FROM applied_correction a "
        "JOIN instance ON instance.sop_instance_uid = a.sop_instance_uid "
        "JOIN series ON series.series_pk = instance.series_pk "
        "JOIN study ON study.study_pk = series.study_pk WHERE a.correction_pk = ?",
        (number,),
    ).fetchall()
    for uid, study in rows:
        connection.execute(
            "UPDATE corrected_instance SET state = 'due', version = version + 1, since = ?, "
            "study_instance_uid = ?, fault = '' WHERE sop_instance_uid = ?",
            (now, study, uid),
        )
        drop_made(connection, uid)
    return len(rows)


def _due(connection: Connection, study: str, limit: int) -> list[CorrectionWork]:
    standing = Standing(connection)
    work = []
    for uid, version, original in connection.execute(DUE, (study, limit)).fetchall():
        record = read(original)
        work.append(
            CorrectionWork(
                sop_instance_uid=uid,
                version=version,
                original=record,
                corrections=standing.of(whole_attributes(record)),
            )
        )
    return work


def _all_made(
    connection: Connection,
    forms: Sequence[tuple[CorrectionWork, InstanceRecord]],
    on_made: Sequence[MadeHook],
) -> list[bool]:
    return [_made(connection, work, record, on_made) for work, record in forms]


def _made(
    connection: Connection,
    work: CorrectionWork,
    record: InstanceRecord,
    on_made: Sequence[MadeHook],
) -> bool:
    values: dict[str, object] = {
        "uid": work.sop_instance_uid,
        "version": work.version,
        "made": written(record),
        "key": record.object_key,
    }
    if not connection.execute(_MADE, values).rowcount:
        return False
    if record.object_key != work.original.object_key:
        for hook in on_made:
            hook(connection, record.object_key)
    connection.execute(
        "DELETE FROM applied_correction WHERE sop_instance_uid = ?", (work.sop_instance_uid,)
    )
    link(connection, record, work.corrections)
    return True


def _failed(connection: Connection, work: CorrectionWork, fault: str) -> None:
    uid, original = work.sop_instance_uid, work.original
    values: dict[str, object] = {"uid": uid, "version": work.version, "fault": fault}
    if not connection.execute(_FAILED, values).rowcount:
        return
    said = get_whole_records(connection, [uid]).get(uid)
    if said is None or said.object_key != original.object_key:
        return
    if whole_attributes(said) != whole_attributes(original):
        # It came just now, and was to be found with values that it will not have.
        put_back(connection, [original])


def _sweep(connection: Connection, uids: Sequence[str]) -> int:
    gone = [
        uid
        for (uid,) in connection.execute(
            f"SELECT sop_instance_uid FROM corrected_instance c WHERE sop_instance_uid IN {TEXTS} "
            "AND NOT EXISTS (SELECT 1 FROM instance i "
            "WHERE i.sop_instance_uid = c.sop_instance_uid) "
            "AND NOT EXISTS (SELECT 1 FROM trash t WHERE t.sop_instance_uid = c.sop_instance_uid)",
            (json_list(uids),),
        ).fetchall()
    ]
    forget(connection, gone)
    return len(gone)


def _kept(connection: Connection, object_keys: Sequence[str]) -> dict[str, StoredInstance]:
    keys = json_list(key for key in object_keys if key.isascii())
    found = {}
    for column, text in connection.execute(
        "SELECT 'original', original FROM corrected_instance WHERE is_corrected = 1 "
        f"AND original_key IN {TEXTS.replace('?', ':keys')} "
        "UNION ALL SELECT 'made', made FROM corrected_instance WHERE made_key <> '' "
        f"AND made_key IN {TEXTS.replace('?', ':keys')}",
        {"keys": keys},
    ).fetchall():
        del column
        record = stored(read(text))
        found[record.object_key] = record
    return found


def _summary(row: Sequence[Any]) -> CorrectionSummary:
    correction = correction_of(row[:6])
    undone_at, undone_by, undo_reason, pending, failed, fault, applied = row[6:]
    return CorrectionSummary(
        correction=correction,
        instances=applied,
        done=applied - pending - failed,
        failed=failed,
        undone_at=undone_at,
        undone_by=undone_by,
        undo_reason=undo_reason,
        fault=fault,
    )
