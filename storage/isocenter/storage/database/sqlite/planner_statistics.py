"""Planner statistics for SQLite, so that it plans for large archives.

Without statistics it takes all tables for equally large, and may look at every instance to
find those of one patient.  Statistics of its own (``ANALYZE``) would depend on when they
were taken.  These are fixed, so a question has one plan for ever, which tests look at
(`tests/storage/database/index/test_query_plans.py`): 50,000 patients, two studies each, four series
of a study, 100 instances of a series, which all say the same.
"""

from __future__ import annotations

import sqlite3
from typing import Final

#: Table, index, and as ``ANALYZE`` writes it: rows, then rows for each value of the first
#: column of the index, of the first two …
_STATISTICS: Final = (
    ("patient", "patient_by_id", "50000 1"),
    ("patient", "sqlite_autoindex_patient_1", "50000 1"),
    ("patient_statement", "patient_statement_by_id", "50000 1"),
    ("patient_statement", "patient_statement_by_name", "50000 2"),
    ("patient_statement", "patient_statement_by_birth_date", "50000 3"),
    ("patient_statement", "sqlite_autoindex_patient_statement_1", "50000 1 1"),
    ("patient_name_word", "patient_name_word", "250000 5 1"),
    ("patient_name_word", "patient_name_word_by_word", "250000 20 1"),
    ("study", "sqlite_autoindex_study_1", "100000 1"),
    ("study_statement", "study_statement_of_patient", "100000 2 1 1 1"),
    ("study_statement", "study_statement_in_order", "100000 30 1 1 1"),
    ("study_statement", "study_statement_by_accession_number", "100000 2"),
    ("study_statement", "sqlite_autoindex_study_statement_1", "100000 1 1 1"),
    ("series", "series_of_study", "400000 4"),
    ("series", "sqlite_autoindex_series_1", "400000 1 1"),
    ("series_statement", "series_statement_of_study", "400000 4 4"),
    ("series_statement", "series_statement_by_modality", "400000 2000 4"),
    ("series_statement", "sqlite_autoindex_series_statement_1", "400000 1 1"),
    ("instance", "instance_of_series", "40000000 100"),
    ("instance", "sqlite_autoindex_instance_1", "40000000 1"),
    ("study_sop_class", "study_by_sop_class", "110000 2000 1"),
    ("study_sop_class", "study_sop_class", "110000 1 1"),
)


def write_statistics(connection: sqlite3.Connection) -> None:
    """Put them into the database, unless they are there."""
    if _written(connection) == sorted(_STATISTICS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("ANALYZE sqlite_schema")  # makes the table
        connection.execute("DELETE FROM sqlite_stat1")
        connection.executemany(
            "INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (?, ?, ?)", _STATISTICS
        )
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    # Read them again: they are looked at when a connection opens.
    connection.execute("ANALYZE sqlite_schema")


def _written(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    try:
        return sorted(connection.execute("SELECT tbl, idx, stat FROM sqlite_stat1").fetchall())
    except sqlite3.OperationalError:
        return []  # there is no such table yet
