"""Statements by which the index is written."""

# ruff: noqa: S608  (names of tables and columns come from constants, values are bound)

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from isocenter.services.archive.index.attributes import Attribute, Level
from isocenter.storage.database.index.columns import (
    STATED,
    STORED_IN,
    key_column,
)
from isocenter.storage.database.index.lookup import (
    FROM_INSTANCES,
    STORED_INSTANCE_COLUMNS,
    WHERE_UIDS,
    WITH_STATEMENTS,
)


def _keys(level: Level) -> tuple[Attribute, ...]:
    return tuple(a for a in STATED[level] if key_column(a) is not None)


def _insert(level: Level, leading: Sequence[str], trailing: Sequence[str] = ()) -> str:
    names = [
        *leading,
        "irregular",
        *(f'"{a.column}"' for a in STATED[level]),
        *(f"{key_column(a)}" for a in _keys(level)),
        *trailing,
    ]
    table = STORED_IN[level]
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"


INSERT_PATIENT: Final = (
    "INSERT INTO patient (identity, patient_id, issuer_of_patient_id) VALUES (?, ?, ?) "
    "RETURNING patient_pk"
)
INSERT_PATIENT_STATEMENT: Final = (
    _insert(Level.PATIENT, ["patient_pk", "fingerprint", "has_name_words"])
    + " RETURNING patient_statement_pk"
)
INSERT_STUDY: Final = "INSERT INTO study (study_instance_uid) VALUES (?) RETURNING study_pk"
INSERT_STUDY_STATEMENT: Final = (
    _insert(
        Level.STUDY,
        ["study_pk", "patient_statement_pk", "fingerprint", "first_said", "last_said"],
    )
    + " RETURNING study_statement_pk"
)
INSERT_SERIES: Final = (
    "INSERT INTO series (study_pk, series_instance_uid) VALUES (?, ?) RETURNING series_pk"
)
INSERT_SERIES_STATEMENT: Final = (
    _insert(Level.SERIES, ["series_pk", "study_pk", "fingerprint", "first_said", "last_said"])
    + " RETURNING series_statement_pk"
)
INSERT_INSTANCE: Final = _insert(
    Level.IMAGE,
    ["series_pk", "study_statement_pk", "series_statement_pk"],
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
SELECT_PATIENT: Final = (
    "SELECT patient.patient_pk, patient_statement_pk FROM patient LEFT JOIN patient_statement "
    "ON patient_statement.patient_pk = patient.patient_pk AND fingerprint = ? WHERE identity = ?"
)
#: With its patient, and whether some of its objects say something else of whom they name.
SELECT_STUDY: Final = (
    "SELECT study.study_pk, num_instances, patient_pk, patient_statement_pk <> "
    "(SELECT max(last.patient_statement_pk) FROM study_statement AS last "
    "WHERE last.study_pk = study.study_pk) "
    "FROM study JOIN patient_statement ON patient_statement_pk = "
    "(SELECT min(first.patient_statement_pk) FROM study_statement AS first "
    "WHERE first.study_pk = study.study_pk) WHERE study_instance_uid = ?"
)
#: Of what an object says of all above it: where it belongs, if all that is there already, and all
#: objects of its study say the same of the patient.
SELECT_PLACE: Final = (
    "SELECT series.series_pk, study.study_pk, patient_pk, series_statement_pk, "
    "study_statement.study_statement_pk, study.num_instances, "
    "patient_statement.patient_statement_pk "
    "FROM study JOIN patient_statement ON patient_statement.patient_statement_pk = "
    "(SELECT min(first.patient_statement_pk) FROM study_statement AS first "
    "WHERE first.study_pk = study.study_pk) AND patient_statement.fingerprint = ? "
    "JOIN study_statement ON study_statement.study_pk = study.study_pk "
    "AND study_statement.patient_statement_pk = patient_statement.patient_statement_pk "
    "AND study_statement.fingerprint = ? "
    "JOIN series ON series_instance_uid = ? AND series.study_pk = study.study_pk "
    "JOIN series_statement ON series_statement.series_pk = series.series_pk "
    "AND series_statement.fingerprint = ? "
    "WHERE study_instance_uid = ? AND patient_statement.patient_statement_pk = "
    "(SELECT max(last.patient_statement_pk) FROM study_statement AS last "
    "WHERE last.study_pk = study.study_pk)"
)
SELECT_PATIENT_PKS: Final = (
    "SELECT DISTINCT patient_pk FROM (SELECT DISTINCT patient_statement_pk FROM study_statement "
    "WHERE study_pk = ?) AS said JOIN patient_statement USING (patient_statement_pk)"
)
#: Of each of its patients how many objects name it, and since when.
SELECT_PATIENTS: Final = (
    "SELECT patient_pk, sum(num_instances), min(first_said) FROM study_statement "
    "JOIN patient_statement USING (patient_statement_pk) WHERE study_pk = ? GROUP BY patient_pk"
)
SELECT_STUDY_STATEMENT: Final = (
    "SELECT study_statement_pk FROM study_statement "
    "WHERE study_pk = ? AND patient_statement_pk = ? AND fingerprint = ?"
)
SELECT_SERIES: Final = (
    "SELECT series.series_pk, series_statement_pk FROM series LEFT JOIN series_statement "
    "ON series_statement.series_pk = series.series_pk AND fingerprint = ? "
    "WHERE series_instance_uid = ? AND series.study_pk = ?"
)
#: Another object of a study that names a patient.
SELECT_OF_PATIENT: Final = (
    "SELECT sop_instance_uid FROM series JOIN instance USING (series_pk) "
    "JOIN study_statement USING (study_statement_pk) "
    "JOIN patient_statement USING (patient_statement_pk) "
    "WHERE series.study_pk = ? AND patient_pk = ? AND sop_instance_uid <> ? LIMIT 1"
)

SELECT_PLACES: Final = (
    f"SELECT {STORED_INSTANCE_COLUMNS}, instance_pk, instance.series_pk, series.study_pk, "
    "patient_pk, instance.series_statement_pk, instance.study_statement_pk "
    f"{FROM_INSTANCES} {WITH_STATEMENTS} {WHERE_UIDS}"
)
