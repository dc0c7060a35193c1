"""The schema of the SQLite index, as numbered steps that are never changed again.

A change of the schema is a module more in `isocenter.storage.database.sqlite.migrations`, and a
line more at the end of `MIGRATIONS`; each runs in a transaction of its own and leaves a line in
``schema_version``.  The text is written out, not generated from
`isocenter.services.archive.index.attributes`: what an old file holds must not depend on what the
program knows today.

How the tables are read:

* A missing value is ``''``; all DICOM values are text, several joined by a backslash.
* ``irregular`` is 1 where some value of the row cannot be compared as it stands (see
  `isocenter.storage.database.index.query`); such rows are few and have an index of their own.
* ``patient_name_key`` and its like hold the name as `isocenter.services.archive.index.matching`
  compares it.
* One Series Instance UID in two studies is two series: an instance stays in the study that
  its data set names.
* ``patient``, ``study`` and ``series`` are what there is; what objects say of them is in
  ``patient_statement`` and its like, a row for each set of values that differs.  An instance
  refers to the statements that it makes.  A study is of each patient that its statements name.
* Counts are kept by the transaction that adds or removes; ``AUTOINCREMENT`` because a find
  remembers row numbers between two blocks and none may come to mean something else.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from functools import cache
from typing import Final

from isocenter.storage.database.sqlite.migrations import (
    v1_index,
    v2_workflow,
    v3_worklist,
    v4_events,
    v5_forwarding,
    v6_deletion,
    v7_statements,
    v8_study_access,
    v9_compression,
    v10_api_tokens,
    v11_commitment_places,
    v12_pages,
    v13_metadata,
    v14_web_sessions,
    v15_viewing,
    v16_corrections,
    v17_nodes_and_jobs,
    v18_rejection_notes,
    v19_share_links,
    v20_staged_objects,
    v21_reconciliation,
    v22_provider_sessions,
    v23_original_sizes,
    v24_corrected_arrivals,
    v25_study_locks,
    v26_rules,
    v27_destinations,
    v28_tasks,
    v29_workitems,
    v30_arrivals,
    v31_cluster,
    v32_validation,
    v33_tiers,
    v34_synchronization,
    v35_deidentification,
    v36_web_subscribers,
    v37_totals,
    v38_analyses,
    v39_steps,
    v40_name_words,
    v41_token_places,
    v42_print_jobs,
    v43_job_results,
    v44_signature_marks,
    v45_assessments,
    v46_validation_counts,
    v47_lock_counts,
    v48_publications,
    v49_same_patients,
    v50_forward_projects,
    v51_publication_upkeep,
    v52_kept_signatures,
    v53_forward_changes,
    v54_print_film_files,
    v55_expiry,
    v56_assessment_claims,
    v57_job_askers,
    v58_publication_under_way,
    v59_assessments_begun,
    v60_expiry_conditions,
    v61_node_server_names,
)
from isocenter.storage.database.sqlite.migrations.migration import Migration

#: ``PRAGMA application_id``: "ISOC" (the file format's magic, see file(1)).
APPLICATION_ID: Final = 0x49534F43

MIGRATIONS: Final = (
    v1_index.MIGRATION,
    v2_workflow.MIGRATION,
    v3_worklist.MIGRATION,
    v4_events.MIGRATION,
    v5_forwarding.MIGRATION,
    v6_deletion.MIGRATION,
    v7_statements.MIGRATION,
    v8_study_access.MIGRATION,
    v9_compression.MIGRATION,
    v10_api_tokens.MIGRATION,
    v11_commitment_places.MIGRATION,
    v12_pages.MIGRATION,
    v13_metadata.MIGRATION,
    v14_web_sessions.MIGRATION,
    v15_viewing.MIGRATION,
    v16_corrections.MIGRATION,
    v17_nodes_and_jobs.MIGRATION,
    v18_rejection_notes.MIGRATION,
    v19_share_links.MIGRATION,
    v20_staged_objects.MIGRATION,
    v21_reconciliation.MIGRATION,
    v22_provider_sessions.MIGRATION,
    v23_original_sizes.MIGRATION,
    v24_corrected_arrivals.MIGRATION,
    v25_study_locks.MIGRATION,
    v26_rules.MIGRATION,
    v27_destinations.MIGRATION,
    v28_tasks.MIGRATION,
    v29_workitems.MIGRATION,
    v30_arrivals.MIGRATION,
    v31_cluster.MIGRATION,
    v32_validation.MIGRATION,
    v33_tiers.MIGRATION,
    v34_synchronization.MIGRATION,
    v35_deidentification.MIGRATION,
    v36_web_subscribers.MIGRATION,
    v37_totals.MIGRATION,
    v38_analyses.MIGRATION,
    v39_steps.MIGRATION,
    v40_name_words.MIGRATION,
    v41_token_places.MIGRATION,
    v42_print_jobs.MIGRATION,
    v43_job_results.MIGRATION,
    v44_signature_marks.MIGRATION,
    v45_assessments.MIGRATION,
    v46_validation_counts.MIGRATION,
    v47_lock_counts.MIGRATION,
    v48_publications.MIGRATION,
    v49_same_patients.MIGRATION,
    v50_forward_projects.MIGRATION,
    v51_publication_upkeep.MIGRATION,
    v52_kept_signatures.MIGRATION,
    v53_forward_changes.MIGRATION,
    v54_print_film_files.MIGRATION,
    v55_expiry.MIGRATION,
    v56_assessment_claims.MIGRATION,
    v57_job_askers.MIGRATION,
    v58_publication_under_way.MIGRATION,
    v59_assessments_begun.MIGRATION,
    v60_expiry_conditions.MIGRATION,
    v61_node_server_names.MIGRATION,
)

LATEST_VERSION: Final = MIGRATIONS[-1].version
#: From this version on a database says which steps earlier programs go on with.
NOTES_EXPANSIONS: Final = v39_steps.MIGRATION.version

_CREATE_SCHEMA_VERSION: Final = """
CREATE TABLE IF NOT EXISTS schema_version (
    version INTEGER PRIMARY KEY,
    description TEXT NOT NULL,
    applied_at TEXT NOT NULL
)
"""


class WrongFileError(Exception):
    """The file is not an index that this program can use; the message says why and what to do."""


class NewerIndexError(WrongFileError):
    """A newer Isocenter wrote it."""


def schema_version(connection: sqlite3.Connection) -> int:
    """The number of the last migration that ran on this database; 0 on an empty one.

    Raises:
        WrongFileError: it is a database of another program, or of a newer Isocenter.
    """
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application_id == 0 and tables == 0:
        return 0
    if application_id != APPLICATION_ID:
        raise WrongFileError(
            f"it is an SQLite database of another program (application_id {application_id:#x}); "
            "name another file"
        )
    (version,) = connection.execute(
        "SELECT coalesce(max(version), 0) FROM schema_version"
    ).fetchone()
    if version > LATEST_VERSION:
        raise NewerIndexError(
            f"a newer Isocenter wrote it (schema version {version}, this program knows "
            f"{LATEST_VERSION}); use that version, or restore a backup from before. A new index "
            "(move the file away, `isocenter db reindex`) knows the objects, and loses the "
            "worklist, procedure steps, commitments, queues and events"
        )
    return int(version)


def migrate(connection: sqlite3.Connection) -> int:
    """Bring the database to `LATEST_VERSION`; returns the version it had.

    *connection* is in autocommit mode (``isolation_level=None``).  Several processes may do
    this at the same time: each step looks again once it holds the write lock.

    Raises:
        WrongFileError: as `schema_version`.
    """
    before = schema_version(connection)
    version = before
    while version < LATEST_VERSION:
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = schema_version(connection)
            if version < LATEST_VERSION:
                _apply(connection, MIGRATIONS[version])
                version += 1
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return before


def empty_database() -> bytes:
    """The file of a database with the schema of today and without rows.

    To run all migrations takes a tenth of a second, to write what they made a hundredth of that.
    """
    return _migrated(LATEST_VERSION)


@cache
def _migrated(version: int) -> bytes:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        migrate(connection)
        assert schema_version(connection) == version
        return connection.serialize()
    finally:
        connection.close()


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    connection.execute(_CREATE_SCHEMA_VERSION)
    for statement in migration.statements:
        connection.execute(statement)
    connection.execute(
        "INSERT INTO schema_version (version, description, applied_at) VALUES (?, ?, ?)",
        (migration.version, migration.description, datetime.now(UTC).isoformat(timespec="seconds")),
    )
    if migration.version >= NOTES_EXPANSIONS and migration.is_expansion:
        connection.execute(
            "UPDATE schema_version SET is_expansion = 1 WHERE version = ?", (migration.version,)
        )
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
