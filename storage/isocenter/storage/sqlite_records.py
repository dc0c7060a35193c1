"""Writing the index: what one transaction does, as plain functions on a `sqlite3.Connection`.

They run on the thread of `isocenter.storage.sqlite_connection.SqliteConnection`; all
statements of one `add` or `remove` are one transaction.  Counts are carried along as
differences and written once per touched row at the end, where parents that have
become empty also go.
"""

# ruff: noqa: S608  (names of tables and columns come from constants, values are bound)

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import orjson

from isocenter.services.index.attributes import Attribute, Level
from isocenter.services.index.matching import normalize
from isocenter.services.ports import (
    Added,
    IndexStatistics,
    InstanceRecord,
    Outcome,
    StorageError,
    StoredInstance,
)
from isocenter.storage.query_sql import (
    STORED_COLUMNS,
    TABLE,
    is_irregular,
    key_column,
    key_text,
    sound,
)

#: Attributes of a parent that a later instance may still fill in: not its identity.
_IDENTITY: Final = frozenset({0x00100020, 0x00100021, 0x0020000D, 0x0020000E})
_PATIENT_ID, _ISSUER, _PATIENT_NAME, _BIRTH_DATE = 0x00100020, 0x00100021, 0x00100010, 0x00100030
_STUDY_UID, _SERIES_UID = 0x0020000D, 0x0020000E
_SOP_UID, _SOP_CLASS, _INSTANCE_NUMBER = 0x00080018, 0x00080016, 0x00200013

#: What an INTEGER column holds.
_LARGEST_INTEGER: Final = 2**63 - 1


def _keys(level: Level) -> tuple[Attribute, ...]:
    return tuple(a for a in STORED_COLUMNS[level] if key_column(a) is not None)


def _insert(level: Level, leading: Sequence[str], trailing: Sequence[str] = ()) -> str:
    names = [
        *leading,
        "irregular",
        *(f'"{a.column}"' for a in STORED_COLUMNS[level]),
        *(f"{key_column(a)}" for a in _keys(level)),
        *trailing,
    ]
    return f"INSERT INTO {TABLE[level]} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"


def _select(level: Level) -> str:
    return ", ".join(f'{TABLE[level]}."{a.column}"' for a in STORED_COLUMNS[level])


_INSERT_PATIENT: Final = _insert(Level.PATIENT, ["identity"])
_INSERT_STUDY: Final = _insert(Level.STUDY, ["patient_pk"])
_INSERT_SERIES: Final = _insert(Level.SERIES, ["study_pk"])
_INSERT_INSTANCE: Final = _insert(
    Level.IMAGE,
    ["series_pk"],
    [
        "transfer_syntax_uid",
        "object_key",
        "size",
        "data_set_offset",
        "digest",
        "created_at",
        "instance_order",
    ],
)
_SELECT_PATIENT: Final = (
    f"SELECT patient_pk, {_select(Level.PATIENT)} FROM patient WHERE patient_pk = ?"
)
_SELECT_STUDY: Final = (
    f"SELECT study_pk, {_select(Level.STUDY)}, patient_pk FROM study WHERE study_instance_uid = ?"
)
_SELECT_SERIES: Final = (
    f"SELECT series_pk, {_select(Level.SERIES)} FROM series "
    "WHERE series_instance_uid = ? AND study_pk = ?"
)

STORED_INSTANCE_COLUMNS: Final = (
    "instance.sop_instance_uid, instance.sop_class_uid, study.study_instance_uid, "
    "series.series_instance_uid, instance.transfer_syntax_uid, instance.object_key, "
    "instance.size, instance.data_set_offset, instance.digest"
)
#: One parameter, a JSON list of row numbers; rows come in that order.
SELECT_STORED_INSTANCES: Final = (
    f"SELECT {STORED_INSTANCE_COLUMNS} FROM json_each(?) AS wanted "
    "CROSS JOIN instance ON instance_pk = wanted.value "
    "JOIN series USING (series_pk) JOIN study USING (study_pk) ORDER BY wanted.key"
)
_SELECT_INSTANCES: Final = (
    f"SELECT {STORED_INSTANCE_COLUMNS}, instance_pk, series_pk, study_pk, patient_pk "
    "FROM instance JOIN series USING (series_pk) JOIN study USING (study_pk) "
    "WHERE sop_instance_uid IN (SELECT value FROM json_each(?))"
)
_STORED_INSTANCE_WIDTH: Final = 9


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
    )


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """BEGIN IMMEDIATE … COMMIT; rolled back when anything raises, also the COMMIT itself."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@dataclass(slots=True)
class _Entity:
    """A patient, study or series of this transaction."""

    level: Level
    pk: int
    parent: _Entity | None
    #: Attributes without a value so far.
    missing: list[Attribute]

    def fill(self, connection: sqlite3.Connection, attributes: Mapping[int, str]) -> None:
        """Take values that this entity lacks from one of its instances."""
        found = [a for a in self.missing if attributes.get(a.tag)]
        if not found:
            return
        self.missing = [a for a in self.missing if a not in found]
        names: list[str] = []
        values: list[str | int] = []
        irregular = False
        for attribute in found:
            text = sound(attributes[attribute.tag])
            irregular = irregular or is_irregular(attribute, text)
            names.append(f'"{attribute.column}" = ?')
            values.append(text)
            key = key_column(attribute)
            if key is not None:
                names.append(f"{key} = ?")
                values.append(key_text(attribute, text))
        if irregular:
            names.append("irregular = 1")
        table = TABLE[self.level]
        connection.execute(
            f"UPDATE {table} SET {', '.join(names)} WHERE {table}_pk = ?", (*values, self.pk)
        )


@dataclass(slots=True)
class _Differences:
    """What a transaction changes in counts; written by `write`."""

    series: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    #: study → [series, instances]
    studies: dict[int, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    #: patient → [studies, series, instances]
    patients: dict[int, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0, 0]))
    sop_classes: dict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))
    size: int = 0

    def instance(
        self, sign: int, keys: tuple[int, int, int], sop_class_uid: str, size: int
    ) -> None:
        """One instance more (*sign* 1) or less (-1); *keys* of its series, study and patient."""
        series_pk, study_pk, patient_pk = keys
        self.series[series_pk] += sign
        self.studies[study_pk][1] += sign
        self.patients[patient_pk][2] += sign
        self.sop_classes[study_pk, sop_class_uid] += sign
        self.size += sign * size

    def write(self, connection: sqlite3.Connection, totals: list[int]) -> None:
        """Write counts, remove what is empty.

        *totals* are what came or went: [patients, studies, series, instances].
        """
        execute = connection.execute
        for (study_pk, uid), number in self.sop_classes.items():
            if number > 0:
                execute(
                    "INSERT INTO study_sop_class VALUES (?, ?, ?) ON CONFLICT "
                    "DO UPDATE SET num_instances = num_instances + excluded.num_instances",
                    (study_pk, uid, number),
                )
            elif number < 0:
                (left,) = execute(
                    "UPDATE study_sop_class SET num_instances = num_instances + ? "
                    "WHERE study_pk = ? AND sop_class_uid = ? RETURNING num_instances",
                    (number, study_pk, uid),
                ).fetchone()
                if not left:
                    execute(
                        "DELETE FROM study_sop_class WHERE study_pk = ? AND sop_class_uid = ?",
                        (study_pk, uid),
                    )
        for series_pk, number in self.series.items():
            left, study_pk, patient_pk = execute(
                "UPDATE series SET num_instances = num_instances + ? WHERE series_pk = ? "
                "RETURNING num_instances, study_pk, "
                "(SELECT patient_pk FROM study WHERE study.study_pk = series.study_pk)",
                (number, series_pk),
            ).fetchone()
            totals[3] += number
            if not left:
                execute("DELETE FROM series WHERE series_pk = ?", (series_pk,))
                self.studies[study_pk][0] -= 1
                self.patients[patient_pk][1] -= 1
                totals[2] -= 1
        for study_pk, numbers in self.studies.items():
            left, patient_pk = execute(
                "UPDATE study SET num_series = num_series + ?, num_instances = num_instances + ? "
                "WHERE study_pk = ? RETURNING num_instances, patient_pk",
                (*numbers, study_pk),
            ).fetchone()
            if not left:
                execute("DELETE FROM study WHERE study_pk = ?", (study_pk,))
                self.patients[patient_pk][0] -= 1
                totals[1] -= 1
        for patient_pk, numbers in self.patients.items():
            (left,) = execute(
                "UPDATE patient SET num_studies = num_studies + ?, num_series = num_series + ?, "
                "num_instances = num_instances + ? WHERE patient_pk = ? RETURNING num_instances",
                (*numbers, patient_pk),
            ).fetchone()
            if not left:
                execute("DELETE FROM patient WHERE patient_pk = ?", (patient_pk,))
                totals[0] -= 1
        execute(
            "UPDATE totals SET patients = patients + ?, studies = studies + ?, "
            "series = series + ?, instances = instances + ?, size = size + ?",
            (*totals, self.size),
        )


class _Transaction:
    """The entities that one call of `add_records` has seen."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._series: dict[tuple[str, str], _Entity] = {}
        self._studies: dict[str, _Entity] = {}
        self._patients: dict[int, _Entity] = {}
        self.differences = _Differences()
        self.totals = [0, 0, 0, 0]
        self.rows: list[list[str | int]] = []
        self.now = datetime.now(UTC).isoformat(timespec="milliseconds")

    def add(self, record: InstanceRecord) -> None:
        attributes = {
            **record.attributes,
            _STUDY_UID: record.study_instance_uid,
            _SERIES_UID: record.series_instance_uid,
            _SOP_UID: record.sop_instance_uid,
            _SOP_CLASS: record.sop_class_uid,
        }
        key = (record.study_instance_uid, record.series_instance_uid)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._find_series(attributes)
        study = series.parent
        assert study is not None
        patient = study.parent
        assert patient is not None
        for entity in (series, study, patient):
            if entity.missing:
                entity.fill(self._connection, attributes)
        self.rows.append(
            [
                series.pk,
                *_values(Level.IMAGE, attributes),
                record.transfer_syntax_uid,
                sound(record.object_key),
                record.size,
                record.data_set_offset,
                record.digest,
                self.now,
                _instance_order(record.attributes.get(_INSTANCE_NUMBER, "")),
            ]
        )
        self.differences.instance(
            1, (series.pk, study.pk, patient.pk), record.sop_class_uid, record.size
        )

    def _find_series(self, attributes: Mapping[int, str]) -> _Entity:
        study = self._find_study(attributes)
        uid = attributes[_SERIES_UID]
        row = self._connection.execute(_SELECT_SERIES, (uid, study.pk)).fetchone()
        if row is not None:
            return self._known(Level.SERIES, study, row)
        patient = study.parent
        assert patient is not None
        self.differences.studies[study.pk][0] += 1
        self.differences.patients[patient.pk][1] += 1
        self.totals[2] += 1
        return self._new(Level.SERIES, _INSERT_SERIES, study.pk, study, attributes)

    def _find_study(self, attributes: Mapping[int, str]) -> _Entity:
        uid = attributes[_STUDY_UID]
        entity = self._studies.get(uid)
        if entity is not None:
            return entity
        row = self._connection.execute(_SELECT_STUDY, (uid,)).fetchone()
        if row is not None:
            *rest, patient_pk = row
            entity = self._known(Level.STUDY, self._patient_by_pk(patient_pk), rest)
        else:
            patient = self._find_patient(attributes)
            entity = self._new(Level.STUDY, _INSERT_STUDY, patient.pk, patient, attributes)
            self.differences.patients[patient.pk][0] += 1
            self.totals[1] += 1
        self._studies[uid] = entity
        return entity

    def _find_patient(self, attributes: Mapping[int, str]) -> _Entity:
        identity = patient_identity(attributes)
        row = self._connection.execute(
            "SELECT patient_pk FROM patient WHERE identity = ?", (identity,)
        ).fetchone()
        if row is not None:
            return self._patient_by_pk(row[0])
        entity = self._new(Level.PATIENT, _INSERT_PATIENT, identity, None, attributes)
        self._patients[entity.pk] = entity
        self.totals[0] += 1
        return entity

    def _patient_by_pk(self, patient_pk: int) -> _Entity:
        entity = self._patients.get(patient_pk)
        if entity is None:
            row = self._connection.execute(_SELECT_PATIENT, (patient_pk,)).fetchone()
            entity = self._patients[patient_pk] = self._known(Level.PATIENT, None, row)
        return entity

    def _new(
        self,
        level: Level,
        insert: str,
        leading: str | int,
        parent: _Entity | None,
        attributes: Mapping[int, str],
    ) -> _Entity:
        cursor = self._connection.execute(insert, (leading, *_values(level, attributes)))
        assert cursor.lastrowid is not None
        missing = [
            a for a in STORED_COLUMNS[level] if a.tag not in _IDENTITY and not attributes.get(a.tag)
        ]
        return _Entity(level, cursor.lastrowid, parent, missing)

    @staticmethod
    def _known(level: Level, parent: _Entity | None, row: Sequence[str | int]) -> _Entity:
        """*row*: its number, and its values as in `STORED_COLUMNS`."""
        pk, *values = row
        missing = [
            a
            for a, value in zip(STORED_COLUMNS[level], values, strict=True)
            if not value and a.tag not in _IDENTITY
        ]
        return _Entity(level, int(pk), parent, missing)


def _instance_order(text: str) -> int:
    """Instance Number as a number to sort by, 0 where it is none."""
    number = normalize("IS", text)
    if number.isascii() and number.lstrip("-").isdecimal():
        return max(-_LARGEST_INTEGER, min(int(number), _LARGEST_INTEGER))
    return 0


def patient_identity(attributes: Mapping[int, str]) -> str:
    """What tells patients apart: ID and issuer; without an ID also name and birth date."""
    get = attributes.get
    identity = [get(_PATIENT_ID) or "", get(_ISSUER) or ""]
    if not identity[0]:
        identity += [get(_PATIENT_NAME) or "", get(_BIRTH_DATE) or ""]
    return orjson.dumps([sound(text) for text in identity]).decode()


def _values(level: Level, attributes: Mapping[int, str]) -> list[str | int]:
    """The values for `_insert` between its leading and its trailing columns."""
    get = attributes.get
    values: list[str | int] = [0]
    for attribute in STORED_COLUMNS[level]:
        text = get(attribute.tag)
        if not text:
            values.append("")
            continue
        if not text.isascii():
            text = sound(text)
        if not values[0] and is_irregular(attribute, text):
            values[0] = 1
        values.append(text)
    values.extend(key_text(a, sound(get(a.tag) or "")) for a in _keys(level))
    return values


#: What else the transaction of an `add` writes: given the records that it added, or put in the
#: place of others, with what became of each.
BesideAdd = Callable[[sqlite3.Connection, Sequence[tuple[InstanceRecord, Added]]], None]


def add_records(
    connection: sqlite3.Connection,
    records: Sequence[InstanceRecord],
    replace: bool,
    beside: Sequence[BesideAdd] = (),
) -> list[Added]:
    """`isocenter.services.ports.Index.add`, as one transaction."""
    with transaction(connection):
        known = _known_instances(connection, [record.sop_instance_uid for record in records])
        work = _Transaction(connection)
        outcomes: list[Added] = []
        for record in records:
            row = known.get(record.sop_instance_uid)
            if row is None:
                outcomes.append(_ADDED)
            elif replace:
                outcomes.append(Added(Outcome.REPLACED, stored_instance(row)))
                _forget(connection, row, work.differences)
            else:
                outcomes.append(Added(Outcome.DUPLICATE, stored_instance(row)))
                continue
            work.add(record)
        if work.rows:
            connection.executemany(_INSERT_INSTANCE, work.rows)
            work.differences.write(connection, work.totals)
            if beside:
                added = [
                    (record, outcome)
                    for record, outcome in zip(records, outcomes, strict=True)
                    if outcome.outcome is not Outcome.DUPLICATE
                ]
                for each in beside:
                    each(connection, added)
    return outcomes


_ADDED: Final = Added(Outcome.ADDED)

_Row = tuple[str | int, ...]


def _known_instances(connection: sqlite3.Connection, uids: Sequence[str]) -> dict[str, _Row]:
    # Whatever a peer asks for: what is not ASCII is no UID, and is not known.
    plain = [uid for uid in uids if uid.isascii()]
    rows = connection.execute(_SELECT_INSTANCES, (orjson.dumps(plain).decode(),))
    return {row[0]: row for row in rows}


def _forget(connection: sqlite3.Connection, row: _Row, differences: _Differences) -> None:
    instance_pk, series_pk, study_pk, patient_pk = map(int, row[_STORED_INSTANCE_WIDTH:])
    connection.execute("DELETE FROM instance WHERE instance_pk = ?", (instance_pk,))
    differences.instance(-1, (series_pk, study_pk, patient_pk), str(row[1]), int(row[6]))


def remove_records(connection: sqlite3.Connection, uids: Sequence[str]) -> None:
    """`isocenter.services.ports.Index.remove`, as one transaction."""
    with transaction(connection):
        remove_within(connection, uids)


def remove_within(connection: sqlite3.Connection, uids: Sequence[str]) -> list[StoredInstance]:
    """Forget instances within the caller's transaction; those that there were."""
    differences = _Differences()
    rows = _known_instances(connection, uids)
    for row in rows.values():
        _forget(connection, row, differences)
    if rows:
        differences.write(connection, [0, 0, 0, 0])
    return [stored_instance(row) for row in rows.values()]


def get_records(connection: sqlite3.Connection, uids: Sequence[str]) -> dict[str, StoredInstance]:
    """`isocenter.services.ports.Index.get`."""
    return {uid: stored_instance(row) for uid, row in _known_instances(connection, uids).items()}


def read_statistics(connection: sqlite3.Connection) -> IndexStatistics:
    """`isocenter.services.ports.Index.statistics`.

    Raises:
        StorageError: the one row is gone.
    """
    row = connection.execute(
        "SELECT patients, studies, series, instances, size FROM totals"
    ).fetchone()
    if row is None:
        raise StorageError("the index has lost its totals; run `isocenter db reindex`")
    return IndexStatistics(*row)


def clear_records(connection: sqlite3.Connection) -> None:
    """Forget everything, in one transaction."""
    with transaction(connection):
        for table in ("instance", "series", "study_sop_class", "study", "patient"):
            connection.execute(f"DELETE FROM {table}")
        connection.execute(
            "UPDATE totals SET patients = 0, studies = 0, series = 0, instances = 0, size = 0"
        )
