"""Reading the index: instances, and their records."""

# ruff: noqa: S608  (names of tables and columns come from constants, values are bound)

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.ports import (
    InstanceRecord,
    StoredInstance,
)
from isocenter.storage.database.database import Connection, Cursor
from isocenter.storage.database.dialect import IN_ORDER, LOOKED_UP, TEXTS, json_list
from isocenter.storage.database.index.columns import (
    STATED,
    STORED_IN,
)

_STUDY_UID, _SERIES_UID = 0x0020000D, 0x0020000E


def _select(level: Level) -> str:
    return ", ".join(f'{STORED_IN[level]}."{a.column}"' for a in STATED[level])


STORED_INSTANCE_COLUMNS: Final = (
    "instance.sop_instance_uid, instance.sop_class_uid, study.study_instance_uid, "
    "series.series_instance_uid, instance.transfer_syntax_uid, instance.object_key, "
    "instance.size, instance.data_set_offset, instance.digest, "
    # What it was when it came: before it was corrected, or else compressed.
    "coalesce((SELECT corrected_instance.received_digest FROM corrected_instance "
    "WHERE corrected_instance.sop_instance_uid = instance.sop_instance_uid "
    "AND corrected_instance.is_corrected = 1), "
    # Of another object that had the UID before it says nothing.
    "(SELECT compression.received_digest FROM compression "
    "WHERE compression.sop_instance_uid = instance.sop_instance_uid "
    "AND compression.digest = instance.digest), '')"
)

#: One parameter, a JSON list of row numbers; rows come in that order.
SELECT_STORED_INSTANCES: Final = (
    f"SELECT {STORED_INSTANCE_COLUMNS} FROM {IN_ORDER} "
    f"{LOOKED_UP} instance ON instance_pk = wanted.value "
    "JOIN series USING (series_pk) JOIN study USING (study_pk) ORDER BY wanted.key"
)

FROM_INSTANCES: Final = (
    "FROM instance JOIN series ON series.series_pk = instance.series_pk "
    "JOIN study ON study.study_pk = series.study_pk"
)

WITH_STATEMENTS: Final = (
    "JOIN study_statement ON study_statement.study_statement_pk = instance.study_statement_pk "
    "JOIN patient_statement "
    "ON patient_statement.patient_statement_pk = study_statement.patient_statement_pk"
)

WHERE_UIDS: Final = f"WHERE sop_instance_uid IN {TEXTS}"

SELECT_INSTANCES: Final = f"SELECT {STORED_INSTANCE_COLUMNS} {FROM_INSTANCES} {WHERE_UIDS}"

_SELECT_RECORDS: Final = (
    f"SELECT {STORED_INSTANCE_COLUMNS}, {', '.join(map(_select, Level))} "
    f"{FROM_INSTANCES} {WITH_STATEMENTS} JOIN series_statement "
    f"ON series_statement.series_statement_pk = instance.series_statement_pk {WHERE_UIDS}"
)

#: FROM: studies, each with what was said last of it and of its patient.
STUDY_AS_SAID_LAST: Final = (
    "study JOIN study_statement ON study_statement.study_statement_pk = "
    "(SELECT said.study_statement_pk FROM study_statement AS said "
    "WHERE said.study_pk = study.study_pk ORDER BY said.last_said DESC LIMIT 1) "
    "JOIN patient_statement "
    "ON patient_statement.patient_statement_pk = study_statement.patient_statement_pk"
)

_RECORD_TAGS: Final = tuple(a.tag for level in Level for a in STATED[level])

STORED_INSTANCE_WIDTH: Final = 10


def stored_instance(row: Sequence[str | int]) -> StoredInstance:
    """A row of `STORED_INSTANCE_COLUMNS` (more columns after them do no harm)."""
    return StoredInstance(
        sop_instance_uid=str(row[0]),
        sop_class_uid=str(row[1]),
        study_instance_uid=str(row[2]),
        series_instance_uid=str(row[3]),
        transfer_syntax_uid=str(row[4]),
        object_key=str(row[5]),
        size=int(row[6]),
        data_set_offset=int(row[7]),
        digest=str(row[8]),
        received_digest=str(row[9]),
    )


def _record(row: Sequence[str | int]) -> InstanceRecord:
    """A row of `_SELECT_RECORDS`."""
    texts = zip(_RECORD_TAGS, row[STORED_INSTANCE_WIDTH:], strict=True)
    attributes = {tag: str(text) for tag, text in texts if text}
    attributes[_STUDY_UID], attributes[_SERIES_UID] = str(row[2]), str(row[3])
    stored = stored_instance(row)
    return InstanceRecord(
        **{name: getattr(stored, name) for name in StoredInstance.__dataclass_fields__},
        attributes=attributes,
    )


Row = tuple[str | int, ...]


#: So many are asked for one by one, all at once.
_FEW: Final = 16


def rows_of(connection: Connection, select: str, uids: Sequence[str]) -> dict[str, Row]:
    """Rows of *select* by SOP Instance UID."""
    return {row[0]: row for cursor in ask_rows(connection, select, uids) for row in cursor}


def ask_rows(connection: Connection, select: str, uids: Sequence[str]) -> Sequence[Cursor]:
    """Ask for the rows of *select* of these SOP Instance UIDs."""
    # Whatever a peer asks for: what is not ASCII is no UID, and is not known.
    plain = [uid for uid in uids if uid.isascii()]
    if len(plain) <= _FEW:
        # Of a list PostgreSQL does not know how long it is, and plans anew each time.
        return [connection.execute(_of_one(select), (uid,)) for uid in dict.fromkeys(plain)]
    return [connection.execute(select, (json_list(plain),))]


@cache
def _of_one(select: str) -> str:
    return select.replace(WHERE_UIDS, "WHERE sop_instance_uid = ?")


def get_records(connection: Connection, uids: Sequence[str]) -> dict[str, StoredInstance]:
    """`isocenter.services.archive.ports.Index.get`."""
    rows = rows_of(connection, SELECT_INSTANCES, uids)
    return {uid: stored_instance(row) for uid, row in rows.items()}


def get_whole_records(connection: Connection, uids: Sequence[str]) -> dict[str, InstanceRecord]:
    """`isocenter.services.archive.ports.Index.records`."""
    return {uid: _record(row) for uid, row in rows_of(connection, _SELECT_RECORDS, uids).items()}
