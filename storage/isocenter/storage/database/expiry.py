"""Marks of objects that rules delete after some days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from isocenter.services.archive.deletion.records import DeletedStudy, DeletionCause
from isocenter.services.archive.ports import AddOutcome, AddResult, InstanceRecord
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import TEXTS, json_list
from isocenter.storage.database.rule_history import count_deleted
from isocenter.storage.database.text import replace_surrogates

#: It is to be at all destinations that it was ever queued for, this time and before: what one has
#: of an earlier object of its UID says nothing of what another has of this.
_NOTE: Final = """
    INSERT INTO instance_expiry (sop_instance_uid, rule, conditions, sender, destinations)
    VALUES (?, ?, ?, ?, (SELECT count(*) FROM forward WHERE sop_instance_uid = ?))
    ON CONFLICT (sop_instance_uid) DO UPDATE SET rule = excluded.rule,
        conditions = excluded.conditions, destinations = excluded.destinations,
        sender = CASE WHEN instance_expiry.sender = excluded.sender THEN excluded.sender
                 ELSE '' END
"""
#: What a destination has, and is not sent now, was an earlier object of that UID: what it commits,
#: or has committed, is that one.
_HAD_BEFORE: Final = f"""
    UPDATE forward SET wants_commitment = -1
    WHERE sop_instance_uid IN {TEXTS} AND state = 'done' AND wants_commitment >= 0
"""  # noqa: S608
_FORGET: Final = f"DELETE FROM instance_expiry WHERE sop_instance_uid IN {TEXTS}"  # noqa: S608
#: What a destination has is the form before.
_WERE_SENT: Final = f"""
    DELETE FROM instance_expiry WHERE sop_instance_uid IN {TEXTS}
      AND EXISTS (SELECT 1 FROM forward f
                  WHERE f.sop_instance_uid = instance_expiry.sop_instance_uid
                    AND f.state NOT IN ('due', 'failed'))
"""  # noqa: S608
#: Some of those that a rule has marked; not when there is another rule of its name meanwhile.
_FORGET_RULE: Final = """
    DELETE FROM instance_expiry WHERE sop_instance_uid IN (
        SELECT sop_instance_uid FROM instance_expiry WHERE rule = :rule
          AND NOT EXISTS (SELECT 1 FROM routing_rule WHERE name = :rule)
        LIMIT 1000)
"""
#: It came again, and not from who sent it.
_CAME_BACK: Final = """
    sop_instance_uid = :uid AND came_back = 0 AND (:sender = '' OR sender <> :sender)
"""
_COUNTS: Final = (
    "SELECT rule, count(*) FROM instance_expiry "  # noqa: S608
    f"WHERE sop_instance_uid IN {TEXTS} GROUP BY rule"
)


class DatabaseExpiry:
    """See `isocenter.services.archive.retention.ports.ExpiryMarks`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def came_again(self, sop_instance_uid: str, sender: str) -> bool:
        """See `ExpiryMarks.came_again`."""
        values = {"uid": sop_instance_uid, "sender": replace_surrogates(sender)}
        # Most of what comes again is not deleted by a rule, or its sender has missed an answer.
        if not await self._database.read(_may_have_come_back, values):
            return False
        return await self._database.write(_came_back, values)


def _may_have_come_back(connection: Connection, values: Mapping[str, str]) -> bool:
    statement = f"SELECT 1 FROM instance_expiry WHERE {_CAME_BACK}"  # noqa: S608
    return connection.execute(statement, values).fetchone() is not None


def _came_back(connection: Connection, values: Mapping[str, str]) -> bool:
    statement = f"UPDATE instance_expiry SET came_back = 1 WHERE {_CAME_BACK}"  # noqa: S608
    return connection.execute(statement, values).rowcount > 0


def expiry_added(connection: Connection, added: Sequence[tuple[InstanceRecord, AddResult]]) -> None:
    """Note what is added, within the transaction of the caller, who adds it, and has queued it."""
    marks = [
        (
            uid := record.sop_instance_uid,
            replace_surrogates(record.expires_by),
            record.expires_under,
            replace_surrogates(record.source_ae_title),
            uid,
        )
        for record, _ in added
        if record.expires_by
    ]
    if marks:
        connection.executemany(_NOTE, marks)
        connection.execute(_HAD_BEFORE, (json_list(uid for uid, *_ in marks),))
    # Another object has the name of one that was to go.
    stays = [
        record.sop_instance_uid
        for record, result in added
        if result.outcome is AddOutcome.REPLACED and not record.expires_by
    ]
    if stays:
        connection.execute(_FORGET, (json_list(stays),))


def expiry_deleted(
    connection: Connection, studies: Sequence[DeletedStudy], cause: DeletionCause
) -> None:
    """What has left is past its time no more: who has it restored wants to keep it."""
    uids = json_list([one.sop_instance_uid for study in studies for one in study.gone])
    if cause is DeletionCause.RETENTION:
        rows = connection.execute(_COUNTS, (uids,)).fetchall()
        count_deleted(connection, dict(rows))
    connection.execute(_FORGET, (uids,))


def expiry_corrected(connection: Connection, sop_instance_uids: Sequence[str]) -> None:
    """Nobody else has the corrected form of what was sent before: it stays."""
    connection.execute(_WERE_SENT, (json_list(sop_instance_uids),))


def rule_gone(connection: Connection, rule: str) -> bool:
    """What a rule had matched stays, though another rule had its name some time; False: that was
    all of it."""
    return connection.execute(_FORGET_RULE, {"rule": rule}).rowcount > 0
