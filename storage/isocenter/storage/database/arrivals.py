"""Gate of arriving objects: what is quarantined, or was rejected, stays outside.

Decided in the transaction that adds objects, so that nothing of them is ever found.
"""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from time import time
from typing import Final

from isocenter.services.archive.deletion.ports import NEVER, DeletionRecord
from isocenter.services.archive.deletion.records import DeletedStudy, DeletionCause
from isocenter.services.archive.ports import AddOutcome, AddResult, InstanceRecord
from isocenter.storage.database.database import Connection, Cursor
from isocenter.storage.database.deletion import DeleteHook
from isocenter.storage.database.dialect import TEXTS, json_list
from isocenter.storage.database.index.index import KeepOut
from isocenter.storage.database.index.lookup import get_records
from isocenter.storage.database.index.records import AddHook, call_add_hooks
from isocenter.storage.database.trash_rows import insert_trash

_PATIENT_ID, _PATIENT_NAME = 0x00100020, 0x00100010
_ACCESSION_NUMBER, _BIRTH_DATE = 0x00080050, 0x00100030

#: Most objects were neither rejected nor deleted before: one question tells it of all of them.
_ONE_KNOWN: Final = """
    SELECT sop_instance_uid FROM rejected_instance WHERE sop_instance_uid = ?
    UNION ALL SELECT sop_instance_uid FROM trash WHERE sop_instance_uid = ? LIMIT 1
"""
_SOME_KNOWN: Final = f"""
    SELECT sop_instance_uid FROM rejected_instance WHERE sop_instance_uid IN {TEXTS}
    UNION ALL SELECT sop_instance_uid FROM trash WHERE sop_instance_uid IN {TEXTS} LIMIT 1
"""
_WITHHELD: Final = f"""
    SELECT sop_instance_uid, digest, deletion_id, reason
    FROM trash JOIN deletion USING (deletion_id)
    WHERE sop_instance_uid IN {TEXTS} AND cause = 'quarantined' AND state IN ('leaving', 'kept')
    ORDER BY trash_pk
"""
_REMAINING: Final = "SELECT num_instances FROM study WHERE study_instance_uid = ?"
#: What a rule has quarantined of a study for the same reason is one row of the list.
_OPEN: Final = """
    SELECT deletion_id FROM deletion
    WHERE cause = 'quarantined' AND actor = '' AND reason = ? AND EXISTS (
        SELECT 1 FROM trash WHERE trash.deletion_id = deletion.deletion_id
        AND trash.study_instance_uid = ? AND state IN ('leaving', 'kept'))
      AND NOT EXISTS (SELECT 1 FROM trash WHERE trash.deletion_id = deletion.deletion_id
        AND trash.object_key = ?)
    ORDER BY at LIMIT 1
"""


class ArrivalGate:
    """Says which of the objects that arrive are kept from the index, and keeps them there.

    Args:
        on_quarantine: called with what is withheld now, as when it is deleted.
        on_add: called with the same, as when it is added: what waits for its release.
        not_wanted: says which were rejected and are sent again in vain.
        now: seconds since 1970.
        token: a new name for what is withheld together.
    """

    def __init__(
        self,
        *,
        on_quarantine: Sequence[DeleteHook] = (),
        on_add: Sequence[AddHook] = (),
        not_wanted: KeepOut | None = None,
        now: Callable[[], float] = time,
        token: Callable[[], str] = lambda: secrets.token_hex(4),
    ) -> None:
        self._on_quarantine = on_quarantine
        self._on_add = on_add
        self._not_wanted = not_wanted
        self._now = now
        self._token = token

    def ask(
        self, connection: Connection, records: Sequence[InstanceRecord]
    ) -> Callable[[], Mapping[str, AddResult]]:
        """What gives, by their SOP Instance UIDs, what becomes of those that are kept out.

        What is asked before it is called is asked in one message.
        """
        asked = _ask_whether_known(connection, records)

        def kept_out() -> Mapping[str, AddResult]:
            if asked.fetchone() is None and not any(each.quarantine for each in records):
                return {}
            return self._keep_out(connection, records)

        return kept_out

    def _keep_out(
        self, connection: Connection, records: Sequence[InstanceRecord]
    ) -> Mapping[str, AddResult]:
        connection.need_turn()
        if self._not_wanted is None:
            return self._quarantine(connection, records)
        rejected = self._not_wanted(connection, records)
        left = [each for each in records if each.sop_instance_uid not in rejected]
        return {**rejected, **self._quarantine(connection, left)}

    def _quarantine(
        self, connection: Connection, records: Sequence[InstanceRecord]
    ) -> Mapping[str, AddResult]:
        uids = json_list(record.sop_instance_uid for record in records)
        there: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
        for uid, digest, deletion_id, reason in connection.execute(_WITHHELD, (uids,)):
            there[uid].append((digest, deletion_id, reason))
        meant = [each for each in records if each.quarantine or each.sop_instance_uid in there]
        if not meant:
            return {}
        known = get_records(connection, [each.sop_instance_uid for each in meant])
        found: dict[str, AddResult] = {}
        new: list[tuple[InstanceRecord, DeletionRecord]] = []
        for record in meant:
            uid = record.sop_instance_uid
            in_index = known.get(uid)
            if in_index is not None and (
                not record.quarantine
                or record.digest in (in_index.digest, in_index.received_digest)
            ):
                continue  # a person has released it, or nobody has ever doubted it
            if any(digest == record.digest for digest, *_ in there[uid]):
                found[uid] = AddResult(AddOutcome.ALREADY_QUARANTINED)
                continue
            # Another object of that name is as doubtful as the one that is withheld.
            reason = record.quarantine or there[uid][0][2]
            new.append((record, self._deletion_of(connection, record, reason)))
            found[uid] = AddResult(AddOutcome.QUARANTINED)
            insert_trash(
                connection,
                new[-1][1],
                "leaving",
                [
                    (
                        record,
                        _remaining(connection, record.study_instance_uid),
                        record.attributes.get(_PATIENT_ID, ""),
                        record.attributes.get(_PATIENT_NAME, ""),
                    )
                ],
            )
        if new:
            self._tell(connection, [record for record, _ in new])
        return found

    def _deletion_of(
        self, connection: Connection, record: InstanceRecord, reason: str
    ) -> DeletionRecord:
        values = (reason, record.study_instance_uid, record.object_key)
        row = connection.execute(_OPEN, values).fetchone()
        return DeletionRecord(
            deletion_id=self._token() if row is None else row[0],
            cause=DeletionCause.QUARANTINED,
            at=self._now(),
            purge_at=NEVER,
            actor="",
            reason=reason,
        )

    def _tell(self, connection: Connection, records: Sequence[InstanceRecord]) -> None:
        by_study: dict[str, list[InstanceRecord]] = defaultdict(list)
        for record in records:
            by_study[record.study_instance_uid].append(record)
        studies = [
            DeletedStudy(
                study_instance_uid=study,
                accession_number=some[0].attributes.get(_ACCESSION_NUMBER, ""),
                sop_classes=Counter(each.sop_class_uid for each in some),
                remaining=_remaining(connection, study),
                gone=some,
                patient_id=some[0].attributes.get(_PATIENT_ID, ""),
                patient_name=some[0].attributes.get(_PATIENT_NAME, ""),
                birth_date=some[0].attributes.get(_BIRTH_DATE, ""),
            )
            for study, some in by_study.items()
        ]
        for each in self._on_quarantine:
            each(connection, studies, DeletionCause.QUARANTINED)
        added = [(record, AddResult(AddOutcome.ADDED)) for record in records]
        call_add_hooks(self._on_add, connection, added)


def _ask_whether_known(connection: Connection, records: Sequence[InstanceRecord]) -> Cursor:
    """A row: some of them were rejected, or are out of the index for another cause."""
    if len(records) == 1:
        statement, asked = _ONE_KNOWN, records[0].sop_instance_uid
    else:
        statement, asked = _SOME_KNOWN, json_list(each.sop_instance_uid for each in records)
    return connection.execute(statement, (asked, asked))


def _remaining(connection: Connection, study: str) -> int:
    row = connection.execute(_REMAINING, (study,)).fetchone()
    return 0 if row is None else int(row[0])
