"""Corrections that hold for an object, within a transaction of whoever asks."""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from isocenter.services.archive.corrections.values import (
    Correction,
    CorrectionKind,
    attributes_after,
    keys_of,
    read_content,
)
from isocenter.services.archive.ports import (
    AddOutcome,
    AddResult,
    InstanceRecord,
    StoredInstance,
)
from isocenter.storage.database.database import Connection
from isocenter.storage.database.dialect import TEXTS, json_list, texts
from isocenter.storage.database.text import replace_surrogates

CORRECTION_COLUMNS: Final = (
    "correction.correction_pk AS number, kind, at, correction.actor AS actor, "
    "correction.reason AS reason, content"
)
_NEXT: Final = (
    f"SELECT {CORRECTION_COLUMNS} FROM correction WHERE correction_pk = "
    "(SELECT min(correction_pk) FROM correction_scope "
    f"WHERE scope_key IN {texts('keys')} AND correction_pk > :after)"
)
_ANY: Final = f"SELECT 1 FROM correction_scope WHERE scope_key IN {TEXTS} LIMIT 1"
_STUDY_UID, _SERIES_UID = 0x0020000D, 0x0020000E

#: A new record; of one that is there the original stays.
PUT: Final = """
    INSERT INTO corrected_instance (sop_instance_uid, study_instance_uid, state, since,
        original_key, received_digest, original_size, original)
    VALUES (:uid, :study, 'due', :now, :key, :digest, :size, :original)
    ON CONFLICT (sop_instance_uid) DO UPDATE SET
        study_instance_uid = excluded.study_instance_uid, state = 'due',
        version = corrected_instance.version + 1, since = excluded.since, fault = ''
"""
_ARRIVED: Final = "UPDATE corrected_instance SET has_arrived = 1 WHERE sop_instance_uid = ?"
_LINK: Final = (
    "INSERT INTO applied_correction (sop_instance_uid, correction_pk) VALUES (?, ?) "
    "ON CONFLICT (sop_instance_uid, correction_pk) DO NOTHING"
)
_LEAVE: Final = (
    "INSERT INTO leaving_object (object_key) VALUES (?) ON CONFLICT (object_key) DO NOTHING"
)


def correction_of(row: Sequence[Any]) -> Correction:
    """A row of `CORRECTION_COLUMNS`."""
    number, kind, at, actor, reason, content = row
    scopes, edits = read_content(content)
    return Correction(
        kind=CorrectionKind(kind),
        scopes=scopes,
        edits=edits,
        at=at,
        actor=actor,
        reason=reason,
        number=number,
    )


class Standing:
    """What holds for objects; remembers it for those of which the same holds.

    For one transaction.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._found: dict[tuple[tuple[str, ...], int], Correction | None] = {}

    def of(self, attributes: Mapping[int, str]) -> tuple[Correction, ...]:
        """The corrections that hold for an object which says this, in their order."""
        chain: list[Correction] = []
        while True:
            correction = self._next(keys_of(attributes), chain[-1].number if chain else 0)
            if correction is None:
                return tuple(chain)
            chain.append(correction)
            attributes = attributes_after(attributes, correction.edits)

    def _next(self, keys: tuple[str, ...], after: int) -> Correction | None:
        if (keys, after) not in self._found:
            row = self._connection.execute(
                _NEXT, {"keys": json_list(keys), "after": after}
            ).fetchone()
            self._found[keys, after] = None if row is None else correction_of(row)
        return self._found[keys, after]


class CorrectedArrivals:
    """Has what comes found with the values that it is to have (`records.Arrivals`)."""

    def ask(
        self, connection: Connection, records: Sequence[InstanceRecord]
    ) -> Callable[[], Sequence[InstanceRecord]]:
        """What gives what the index is to say of *records*."""
        keys = {key for record in records for key in keys_of(whole_attributes(record))}
        asked = connection.execute(_ANY, (json_list(keys),))

        def corrected() -> Sequence[InstanceRecord]:
            if asked.fetchone() is None:
                return records
            connection.need_turn()
            standing = Standing(connection)
            return [_corrected(record, standing) for record in records]

        return corrected

    def added(
        self,
        connection: Connection,
        added: Sequence[tuple[InstanceRecord, InstanceRecord, AddResult]],
        now: float,
    ) -> None:
        """Of what was added: as it came, as the index says it, and what became of it."""
        replaced = [
            came.sop_instance_uid
            for came, _, result in added
            if result.outcome is AddOutcome.REPLACED
        ]
        if replaced:
            forget(connection, replaced)
        standing = Standing(connection)
        for came, said, _ in added:
            if said is not came:
                put(connection, came, said.study_instance_uid, now)
                link(connection, came, standing.of(whole_attributes(came)))
                connection.execute(_ARRIVED, (came.sop_instance_uid,))


def restored(connection: Connection, records: Sequence[InstanceRecord], now: float) -> None:
    """Objects are back in the index, as they were when they left it: what holds for them now, and
    is not in them, is to be made."""
    standing = Standing(connection)
    for record in records:
        uid = record.sop_instance_uid
        row = connection.execute(
            "SELECT original, is_corrected FROM corrected_instance WHERE sop_instance_uid = ?",
            (uid,),
        ).fetchone()
        if row is None:
            chain = standing.of(whole_attributes(record))
            if chain:
                put(connection, record, record.study_instance_uid, now)
                link(connection, record, chain)
            continue
        text, is_corrected = row
        if not is_corrected:
            # It may have another key now.
            text = written(record)
            connection.execute(
                "UPDATE corrected_instance SET original_key = ?, original = ? "
                "WHERE sop_instance_uid = ?",
                (record.object_key, text, uid),
            )
        chain = standing.of(whole_attributes(read(text)))
        applied = connection.execute(
            "SELECT correction_pk FROM applied_correction WHERE sop_instance_uid = ? "
            "ORDER BY correction_pk",
            (uid,),
        ).fetchall()
        if [number for (number,) in applied] != [each.number for each in chain]:
            put(connection, record, record.study_instance_uid, now)


def _corrected(record: InstanceRecord, standing: Standing) -> InstanceRecord:
    attributes = whole_attributes(record)
    chain = standing.of(attributes)
    if not chain:
        return record
    for correction in chain:
        attributes = attributes_after(attributes, correction.edits)
    return replace(
        record,
        attributes=attributes,
        study_instance_uid=attributes[_STUDY_UID],
        series_instance_uid=attributes[_SERIES_UID],
    )


def whole_attributes(record: InstanceRecord) -> dict[int, str]:
    """What a record says, its UIDs with it."""
    return {
        **record.attributes,
        _STUDY_UID: record.study_instance_uid,
        _SERIES_UID: record.series_instance_uid,
    }


def put(connection: Connection, record: InstanceRecord, study: str, now: float) -> None:
    """What an object is to be has to be made; *record* is what it is, should nothing be known.

    Args:
        study: under which the index has it.
    """
    connection.execute(
        PUT,
        {
            "uid": record.sop_instance_uid,
            "study": study,
            "now": now,
            "key": record.object_key,
            "digest": record.received_digest or record.digest,
            "size": record.size,
            "original": written(record),
        },
    )
    drop_made(connection, record.sop_instance_uid)


def link(connection: Connection, record: InstanceRecord, corrections: Sequence[Correction]) -> None:
    """These hold for the object."""
    uid = record.sop_instance_uid
    connection.executemany(_LINK, [(uid, correction.number) for correction in corrections])


def drop_made(connection: Connection, uid: str) -> None:
    """What was made of an object for an exchange is not wanted any more."""
    row = connection.execute(
        "SELECT made_key, original_key FROM corrected_instance "
        "WHERE sop_instance_uid = ? AND made_key <> ''",
        (uid,),
    ).fetchone()
    if row is None:
        return
    if row[0] != row[1]:
        leave(connection, [row[0]])
    connection.execute(
        "UPDATE corrected_instance SET made_key = '', made = '' WHERE sop_instance_uid = ?", (uid,)
    )


def leave(connection: Connection, keys: Sequence[str]) -> None:
    """Objects are to leave the store."""
    connection.executemany(_LEAVE, [(key,) for key in keys])


def forget(connection: Connection, uids: Sequence[str]) -> None:
    """Objects have left the index for good, and what was beside them goes with them.

    The file that the index named is the business of whoever removed it.
    """
    rows = connection.execute(
        "SELECT sop_instance_uid, original_key, made_key, is_corrected FROM corrected_instance "
        f"WHERE sop_instance_uid IN {TEXTS}",
        (json_list(uids),),
    ).fetchall()
    for uid, original_key, made_key, is_corrected in rows:
        if made_key and made_key != original_key:
            leave(connection, [made_key])
        if is_corrected:
            leave(connection, [original_key])
        connection.execute("DELETE FROM applied_correction WHERE sop_instance_uid = ?", (uid,))
        connection.execute("DELETE FROM corrected_instance WHERE sop_instance_uid = ?", (uid,))


_OF_STORED: Final = tuple(StoredInstance.__dataclass_fields__)


def written(record: InstanceRecord) -> str:
    """A record as JSON: what the index keeps of an object."""
    values = {name: replace_surrogates(str(getattr(record, name))) for name in _OF_STORED}
    said = {str(tag): replace_surrogates(text) for tag, text in record.attributes.items()}
    return orjson.dumps(
        {**values, "size": record.size, "data_set_offset": record.data_set_offset, "said": said}
    ).decode()


def read(text: str) -> InstanceRecord:
    """What `written` wrote."""
    values = orjson.loads(text)
    said = {int(tag): value for tag, value in values.pop("said").items()}
    return InstanceRecord(**values, attributes=said)


def stored(record: InstanceRecord) -> StoredInstance:
    """Without what it says."""
    return StoredInstance(**{name: getattr(record, name) for name in _OF_STORED})
