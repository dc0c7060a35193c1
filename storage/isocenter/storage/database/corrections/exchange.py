"""Exchange of what the index names: all objects of a study in one transaction."""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from isocenter.services.archive.corrections.ports import CorrectedStudy
from isocenter.services.archive.ports import InstanceRecord, StoredInstance
from isocenter.storage.database.corrections.standing import leave, read, stored
from isocenter.storage.database.database import Connection
from isocenter.storage.database.dialect import TEXTS, json_list
from isocenter.storage.database.expiry import expiry_corrected
from isocenter.storage.database.forwarding.commitment import keep_corrected
from isocenter.storage.database.index.lookup import get_records
from isocenter.storage.database.index.records import add_records, remove_within

#: Called within the transaction, with what it has exchanged.
CorrectHook = Callable[[Connection, CorrectedStudy], None]

#: What is in the index; what is in the trash waits until it is back.
_IS_HERE: Final = "EXISTS (SELECT 1 FROM instance i WHERE i.sop_instance_uid = c.sop_instance_uid)"
STUDIES: Final = (
    "SELECT study_instance_uid FROM corrected_instance c WHERE state IN ('due', 'made') "
    f"AND {_IS_HERE} GROUP BY study_instance_uid ORDER BY min(since) LIMIT ?"
)
DUE: Final = (
    "SELECT sop_instance_uid, version, original FROM corrected_instance c "
    f"WHERE study_instance_uid = ? AND state = 'due' AND {_IS_HERE} "
    "ORDER BY sop_instance_uid LIMIT ?"
)
_MADE: Final = (
    "SELECT sop_instance_uid, original_key, made FROM corrected_instance c "
    f"WHERE study_instance_uid = ? AND state = 'made' AND {_IS_HERE}"
)
_DONE: Final = """
    UPDATE corrected_instance SET state = 'done', study_instance_uid = :study,
        is_corrected = :is_corrected, has_arrived = 0, made = '', made_key = ''
    WHERE sop_instance_uid = :uid
"""
#: What is the original again is corrected no more.
_FORGET: Final = f"""
    DELETE FROM corrected_instance WHERE sop_instance_uid IN {TEXTS} AND is_corrected = 0
    AND NOT EXISTS (SELECT 1 FROM applied_correction a
                    WHERE a.sop_instance_uid = corrected_instance.sop_instance_uid)
"""
#: Tables that name the study of an object.
_NAME_STUDY: Final = ("compression", "forward")


def exchange(
    connection: Connection, study_instance_uid: str, hooks: Sequence[CorrectHook]
) -> CorrectedStudy | None:
    """See `CorrectionBook.exchange`."""
    if connection.execute(DUE, (study_instance_uid, 1)).fetchone() is not None:
        return None
    records: list[InstanceRecord] = []
    originals: dict[str, str] = {}
    for uid, original_key, made in connection.execute(_MADE, (study_instance_uid,)).fetchall():
        originals[uid] = original_key
        records.append(read(made))
    if not records:
        return CorrectedStudy(study_instance_uid=study_instance_uid, instances=(), numbers=())
    uids = list(originals)
    before = get_records(connection, uids)
    put_back(connection, records)
    leaving = tuple(
        old.object_key
        for record in records
        if (old := before[record.sop_instance_uid]).object_key
        not in (record.object_key, originals[record.sop_instance_uid])
    )
    leave(connection, leaving)
    connection.executemany(
        _DONE,
        [
            {
                "uid": record.sop_instance_uid,
                "study": record.study_instance_uid,
                "is_corrected": int(record.object_key != originals[record.sop_instance_uid]),
            }
            for record in records
        ],
    )
    numbers = connection.execute(
        "SELECT DISTINCT correction_pk FROM applied_correction "
        f"WHERE sop_instance_uid IN {TEXTS} ORDER BY correction_pk",
        (json_list(uids),),
    ).fetchall()
    connection.execute(_FORGET, (json_list(uids),))
    _follow(connection, before, records)
    expiry_corrected(connection, uids)
    keep_corrected(connection, uids)
    done = CorrectedStudy(
        study_instance_uid=study_instance_uid,
        instances=[(before[each.sop_instance_uid], stored(each)) for each in records],
        numbers=tuple(number for (number,) in numbers),
        leaving=leaving,
    )
    for hook in hooks:
        hook(connection, done)
    return done


def put_back(connection: Connection, records: Sequence[InstanceRecord]) -> None:
    """Have the index say *records* of instances that it has."""
    uids = [record.sop_instance_uid for record in records]
    created = connection.execute(
        f"SELECT sop_instance_uid, created_at FROM instance WHERE sop_instance_uid IN {TEXTS}",
        (json_list(uids),),
    ).fetchall()
    remove_within(connection, uids)
    add_records(connection, records, False)
    # They came when they came.
    connection.executemany(
        "UPDATE instance SET created_at = ? WHERE sop_instance_uid = ?",
        [(at, uid) for uid, at in created],
    )


def _follow(
    connection: Connection,
    before: dict[str, StoredInstance],
    records: Sequence[InstanceRecord],
) -> None:
    """What is queued of an object follows it into another study."""
    moved = [
        (each.study_instance_uid, each.sop_instance_uid)
        for each in records
        if each.study_instance_uid != before[each.sop_instance_uid].study_instance_uid
    ]
    for table in _NAME_STUDY if moved else ():
        connection.executemany(
            f"UPDATE {table} SET study_instance_uid = ? WHERE sop_instance_uid = ?", moved
        )
