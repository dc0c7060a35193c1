"""The schema of the SQLite index, as numbered steps that are never changed again.

A change of the schema is a new `Migration` at the end of `MIGRATIONS`; each runs
in a transaction of its own and leaves a line in ``schema_version``.  The text is
written out, not generated from `isocenter.services.archive.index.attributes`: what an old file
holds must not depend on what the program knows today.

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
from typing import Final

from isocenter.engine.fast_init import dataclass

#: ``PRAGMA application_id``: "ISOC" (the file format's magic, see file(1)).
APPLICATION_ID: Final = 0x49534F43


@dataclass(frozen=True, slots=True)
class Migration:
    """One step: from version - 1 to *version*."""

    version: int
    description: str
    statements: tuple[str, ...]


MIGRATIONS: Final = (
    Migration(
        1,
        "patients, studies, series and instances",
        (
            """
            CREATE TABLE patient (
                patient_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                identity TEXT NOT NULL UNIQUE,
                irregular INTEGER NOT NULL,
                patient_id TEXT NOT NULL,
                patient_name TEXT NOT NULL,
                patient_name_key TEXT NOT NULL,
                issuer_of_patient_id TEXT NOT NULL,
                birth_date TEXT NOT NULL,
                birth_time TEXT NOT NULL,
                sex TEXT NOT NULL,
                other_patient_ids TEXT NOT NULL,
                ethnic_group TEXT NOT NULL,
                patient_comments TEXT NOT NULL,
                num_studies INTEGER NOT NULL DEFAULT 0,
                num_series INTEGER NOT NULL DEFAULT 0,
                num_instances INTEGER NOT NULL DEFAULT 0
            )
            """,
            "CREATE INDEX patient_by_id ON patient (patient_id)",
            "CREATE INDEX patient_by_name ON patient (patient_name_key)",
            "CREATE INDEX patient_by_birth_date ON patient (birth_date)",
            "CREATE INDEX patient_irregular ON patient (irregular) WHERE irregular = 1",
            """
            CREATE TABLE study (
                study_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                patient_pk INTEGER NOT NULL REFERENCES patient,
                irregular INTEGER NOT NULL,
                study_instance_uid TEXT NOT NULL UNIQUE,
                study_date TEXT NOT NULL,
                study_time TEXT NOT NULL,
                accession_number TEXT NOT NULL,
                study_id TEXT NOT NULL,
                referring_physician_name TEXT NOT NULL,
                referring_physician_name_key TEXT NOT NULL,
                study_description TEXT NOT NULL,
                reading_physician_name TEXT NOT NULL,
                patient_age TEXT NOT NULL,
                patient_size TEXT NOT NULL,
                patient_weight TEXT NOT NULL,
                num_series INTEGER NOT NULL DEFAULT 0,
                num_instances INTEGER NOT NULL DEFAULT 0
            )
            """,
            "CREATE INDEX study_of_patient ON study (patient_pk)",
            "CREATE INDEX study_by_date ON study (study_date)",
            "CREATE INDEX study_by_accession_number ON study (accession_number)",
            "CREATE INDEX study_irregular ON study (irregular) WHERE irregular = 1",
            """
            CREATE TABLE series (
                series_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                study_pk INTEGER NOT NULL REFERENCES study,
                irregular INTEGER NOT NULL,
                series_instance_uid TEXT NOT NULL,
                modality TEXT NOT NULL,
                series_number TEXT NOT NULL,
                series_description TEXT NOT NULL,
                body_part_examined TEXT NOT NULL,
                laterality TEXT NOT NULL,
                protocol_name TEXT NOT NULL,
                series_date TEXT NOT NULL,
                series_time TEXT NOT NULL,
                manufacturer TEXT NOT NULL,
                institution_name TEXT NOT NULL,
                station_name TEXT NOT NULL,
                performing_physician_name TEXT NOT NULL,
                performed_step_start_date TEXT NOT NULL,
                performed_step_start_time TEXT NOT NULL,
                request_attributes TEXT NOT NULL,
                num_instances INTEGER NOT NULL DEFAULT 0,
                UNIQUE (series_instance_uid, study_pk)
            )
            """,
            "CREATE INDEX series_of_study ON series (study_pk, modality)",
            "CREATE INDEX series_by_modality ON series (modality, study_pk)",
            "CREATE INDEX series_irregular ON series (irregular) WHERE irregular = 1",
            """
            CREATE TABLE instance (
                instance_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                series_pk INTEGER NOT NULL REFERENCES series,
                irregular INTEGER NOT NULL,
                sop_instance_uid TEXT NOT NULL UNIQUE,
                sop_class_uid TEXT NOT NULL,
                instance_number TEXT NOT NULL,
                image_type TEXT NOT NULL,
                acquisition_date TEXT NOT NULL,
                acquisition_time TEXT NOT NULL,
                content_date TEXT NOT NULL,
                content_time TEXT NOT NULL,
                number_of_frames TEXT NOT NULL,
                "rows" TEXT NOT NULL,
                "columns" TEXT NOT NULL,
                bits_allocated TEXT NOT NULL,
                transfer_syntax_uid TEXT NOT NULL,
                object_key TEXT NOT NULL,
                size INTEGER NOT NULL CHECK (size >= 0),
                data_set_offset INTEGER NOT NULL CHECK (data_set_offset >= 0),
                digest TEXT NOT NULL,
                created_at TEXT NOT NULL,
                instance_order INTEGER NOT NULL
            )
            """,
            "CREATE INDEX instance_of_series ON instance (series_pk)",
            "CREATE INDEX instance_irregular ON instance (irregular) WHERE irregular = 1",
            """
            CREATE TABLE study_sop_class (
                study_pk INTEGER NOT NULL REFERENCES study,
                sop_class_uid TEXT NOT NULL,
                num_instances INTEGER NOT NULL,
                PRIMARY KEY (study_pk, sop_class_uid)
            ) WITHOUT ROWID
            """,
            "CREATE INDEX study_by_sop_class ON study_sop_class (sop_class_uid, study_pk)",
            """
            CREATE TABLE totals (
                patients INTEGER NOT NULL,
                studies INTEGER NOT NULL,
                series INTEGER NOT NULL,
                instances INTEGER NOT NULL,
                size INTEGER NOT NULL
            )
            """,
            "INSERT INTO totals VALUES (0, 0, 0, 0, 0)",
        ),
    ),
    Migration(
        2,
        "performed procedure steps, storage commitments, N-EVENT-REPORTs to be delivered",
        (
            # Times are seconds since 1970.  A row that a worker process has claimed is its
            # own until claimed_until, unless the process ends before.
            """
            CREATE TABLE event_report (
                report_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                destination TEXT NOT NULL,
                calling_ae_title TEXT NOT NULL,
                sop_class_uid TEXT NOT NULL,
                sop_instance_uid TEXT NOT NULL,
                event_type INTEGER NOT NULL,
                transaction_uid TEXT NOT NULL,
                data_set BLOB NOT NULL,
                state TEXT NOT NULL CHECK (state IN ('due', 'delivered', 'given up')),
                created_at REAL NOT NULL,
                ended_at REAL,
                attempts INTEGER NOT NULL DEFAULT 0,
                last_fault TEXT NOT NULL DEFAULT '',
                due_at REAL NOT NULL,
                claimed_by TEXT NOT NULL DEFAULT '',
                claimed_until REAL NOT NULL DEFAULT 0
            )
            """,
            "CREATE INDEX event_report_due ON event_report (due_at) WHERE state = 'due'",
            """
            CREATE INDEX event_report_of_transaction ON event_report (transaction_uid)
                WHERE transaction_uid <> ''
            """,
            """
            CREATE TABLE commitment (
                commitment_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                transaction_uid TEXT NOT NULL UNIQUE,
                requester TEXT NOT NULL,
                called_ae_title TEXT NOT NULL,
                state TEXT NOT NULL CHECK (state IN ('pending', 'success', 'partial', 'failed')),
                requested_at REAL NOT NULL,
                completed_at REAL,
                num_references INTEGER NOT NULL,
                num_failed INTEGER NOT NULL DEFAULT 0,
                due_at REAL NOT NULL,
                claimed_by TEXT NOT NULL DEFAULT '',
                claimed_until REAL NOT NULL DEFAULT 0
            )
            """,
            "CREATE INDEX commitment_pending ON commitment (due_at) WHERE state = 'pending'",
            """
            CREATE TABLE commitment_reference (
                commitment_pk INTEGER NOT NULL REFERENCES commitment,
                position INTEGER NOT NULL,
                sop_class_uid TEXT NOT NULL,
                sop_instance_uid TEXT NOT NULL,
                -- Failure Reason (0008,1197); 0: committed; NULL: not known yet
                failure_reason INTEGER,
                PRIMARY KEY (commitment_pk, position)
            ) WITHOUT ROWID
            """,
            "CREATE INDEX commitment_of_instance ON commitment_reference (sop_instance_uid)",
            """
            CREATE TABLE performed_step (
                step_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                sop_instance_uid TEXT NOT NULL UNIQUE,
                state TEXT NOT NULL
                    CHECK (state IN ('IN PROGRESS', 'COMPLETED', 'DISCONTINUED')),
                source_ae_title TEXT NOT NULL,
                station_ae_title TEXT NOT NULL,
                modality TEXT NOT NULL,
                performed_step_id TEXT NOT NULL,
                start_date TEXT NOT NULL,
                start_time TEXT NOT NULL,
                created_at REAL NOT NULL,
                changed_at REAL NOT NULL,
                -- explicit VR little endian, in the character set that it names itself
                data_set BLOB NOT NULL
            )
            """,
            "CREATE INDEX performed_step_by_state ON performed_step (state, start_date)",
            "CREATE INDEX performed_step_by_date ON performed_step (start_date, start_time)",
            """
            CREATE TABLE performed_step_scheduled (
                step_pk INTEGER NOT NULL REFERENCES performed_step,
                position INTEGER NOT NULL,
                study_instance_uid TEXT NOT NULL,
                accession_number TEXT NOT NULL,
                requested_procedure_id TEXT NOT NULL,
                scheduled_step_id TEXT NOT NULL,
                PRIMARY KEY (step_pk, position)
            ) WITHOUT ROWID
            """,
            "CREATE INDEX performed_step_of_study ON performed_step_scheduled (study_instance_uid)",
            """
            CREATE INDEX performed_step_of_scheduled ON performed_step_scheduled
                (scheduled_step_id) WHERE scheduled_step_id <> ''
            """,
            """
            CREATE TABLE performed_step_series (
                step_pk INTEGER NOT NULL REFERENCES performed_step,
                series_instance_uid TEXT NOT NULL,
                PRIMARY KEY (step_pk, series_instance_uid)
            ) WITHOUT ROWID
            """,
            "CREATE INDEX performed_step_by_series ON performed_step_series (series_instance_uid)",
            """
            CREATE TABLE performed_step_instance (
                step_pk INTEGER NOT NULL REFERENCES performed_step,
                sop_instance_uid TEXT NOT NULL,
                sop_class_uid TEXT NOT NULL,
                series_instance_uid TEXT NOT NULL,
                PRIMARY KEY (step_pk, sop_instance_uid)
            ) WITHOUT ROWID
            """,
            "CREATE INDEX performed_step_by_instance ON performed_step_instance (sop_instance_uid)",
        ),
    ),
    Migration(
        3,
        "worklist",
        (
            """
            CREATE TABLE worklist (
                entry_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                step_id TEXT NOT NULL,
                accession_number TEXT NOT NULL,
                state TEXT NOT NULL CHECK
                    (state IN ('SCHEDULED', 'STARTED', 'COMPLETED', 'DISCONTINUED')),
                source TEXT NOT NULL,
                -- as the matcher compares them; a value that is several has a backslash
                station_ae_title TEXT NOT NULL,
                modality TEXT NOT NULL,
                start_date TEXT NOT NULL,
                start_time TEXT NOT NULL,
                patient_id TEXT NOT NULL,
                study_instance_uid TEXT NOT NULL,
                created_at REAL NOT NULL,
                changed_at REAL NOT NULL,
                -- explicit VR little endian, in the character set that it names itself
                data_set BLOB NOT NULL,
                UNIQUE (step_id, accession_number)
            )
            """,
            "CREATE INDEX worklist_by_start ON worklist (state, start_date, start_time)",
            "CREATE INDEX worklist_by_accession ON worklist (accession_number)",
            "CREATE INDEX worklist_by_patient ON worklist (patient_id)",
            "CREATE INDEX worklist_by_source ON worklist (source)",
        ),
    ),
    Migration(
        4,
        "events and their consumers",
        (
            # Numbers are given within write transactions: their order is that of the commits.
            """
            CREATE TABLE event (
                event_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                kind TEXT NOT NULL,
                at REAL NOT NULL,
                -- '': of no study
                study_instance_uid TEXT NOT NULL,
                body TEXT NOT NULL
            )
            """,
            "CREATE INDEX event_of_study ON event (study_instance_uid)",
            """
            CREATE TABLE study_completion (
                study_instance_uid TEXT PRIMARY KEY,
                state TEXT NOT NULL CHECK (state IN ('receiving', 'complete')),
                first_at REAL NOT NULL,
                last_at REAL NOT NULL,
                due_at REAL NOT NULL,
                num_received INTEGER NOT NULL,
                times_complete INTEGER NOT NULL DEFAULT 0,
                completed_at REAL,
                reason TEXT NOT NULL DEFAULT ''
            ) WITHOUT ROWID
            """,
            """
            CREATE INDEX study_completion_due ON study_completion (due_at)
                WHERE state = 'receiving'
            """,
            # Everything up to position was looked at, and what the consumer wants of it and has
            # not got is in its lanes.
            """
            CREATE TABLE event_consumer (
                name TEXT PRIMARY KEY,
                position INTEGER NOT NULL,
                delivered INTEGER NOT NULL DEFAULT 0,
                delivered_at REAL,
                last_fault TEXT NOT NULL DEFAULT '',
                last_fault_at REAL
            ) WITHOUT ROWID
            """,
            """
            CREATE TABLE event_lane (
                consumer TEXT NOT NULL,
                study_instance_uid TEXT NOT NULL,
                from_event INTEGER NOT NULL,
                attempts INTEGER NOT NULL DEFAULT 0,
                failing_since REAL,
                due_at REAL NOT NULL,
                last_fault TEXT NOT NULL DEFAULT '',
                PRIMARY KEY (consumer, study_instance_uid)
            ) WITHOUT ROWID
            """,
            "CREATE INDEX event_lane_due ON event_lane (consumer, due_at)",
            "CREATE INDEX event_lane_of_study ON event_lane (study_instance_uid)",
            """
            CREATE TABLE event_dead (
                dead_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                consumer TEXT NOT NULL,
                event_pk INTEGER NOT NULL,
                kind TEXT NOT NULL,
                study_instance_uid TEXT NOT NULL,
                attempts INTEGER NOT NULL,
                given_up_at REAL NOT NULL,
                fault TEXT NOT NULL
            )
            """,
        ),
    ),
    Migration(
        5,
        "objects to be forwarded",
        (
            # Times and claims as in migration 2.
            """
            CREATE TABLE forward (
                forward_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                sop_instance_uid TEXT NOT NULL,
                sop_class_uid TEXT NOT NULL,
                study_instance_uid TEXT NOT NULL,
                destination TEXT NOT NULL,
                rule TEXT NOT NULL,
                priority INTEGER NOT NULL,
                wants_commitment INTEGER NOT NULL,
                delete_after INTEGER NOT NULL,
                state TEXT NOT NULL CHECK (
                    state IN ('due', 'sent', 'committing', 'deleting', 'done', 'failed')
                ),
                -- one more with each object that takes the place of another
                version INTEGER NOT NULL DEFAULT 0,
                created_at REAL NOT NULL,
                -- when it first was due, or had arrived: from then on it may take so long
                since REAL NOT NULL,
                due_at REAL NOT NULL,
                ended_at REAL,
                attempts INTEGER NOT NULL DEFAULT 0,
                last_fault TEXT NOT NULL DEFAULT '',
                -- of the storage commitment that is asked for
                transaction_uid TEXT NOT NULL DEFAULT '',
                -- key of the object that has left the index, and is yet to leave the store
                leaving TEXT NOT NULL DEFAULT '',
                claimed_by TEXT NOT NULL DEFAULT '',
                claimed_until REAL NOT NULL DEFAULT 0,
                UNIQUE (sop_instance_uid, destination)
            )
            """,
            """
            CREATE INDEX forward_due ON forward (destination, priority, due_at)
                WHERE state = 'due'
            """,
            "CREATE INDEX forward_sent ON forward (destination, due_at) WHERE state = 'sent'",
            "CREATE INDEX forward_asked ON forward (due_at) WHERE state = 'committing'",
            """
            CREATE INDEX forward_deleting ON forward (sop_instance_uid) WHERE state = 'deleting'
            """,
            "CREATE INDEX forward_leaving ON forward (leaving) WHERE leaving <> ''",
            "CREATE INDEX forward_claimed ON forward (claimed_until) WHERE claimed_until > 0",
            "CREATE INDEX forward_open ON forward (state, destination) WHERE state <> 'done'",
            "CREATE INDEX forward_done ON forward (ended_at) WHERE state = 'done'",
            """
            CREATE INDEX forward_of_transaction ON forward (transaction_uid)
                WHERE transaction_uid <> ''
            """,
            """
            CREATE TABLE forward_destination (
                destination TEXT PRIMARY KEY,
                failures INTEGER NOT NULL,
                retry_at REAL NOT NULL,
                last_fault TEXT NOT NULL,
                -- some process tries it, and has until retry_at to say what came of it
                is_tried INTEGER NOT NULL
            ) WITHOUT ROWID
            """,
        ),
    ),
    Migration(
        6,
        "deleted objects, studies that are held",
        (
            # Times as in migration 2.  A deletion stays when nothing of it is in the trash any
            # more: the numbers count all that was ever deleted with it.
            """
            CREATE TABLE deletion (
                deletion_id TEXT PRIMARY KEY,
                cause TEXT NOT NULL,
                at REAL NOT NULL,
                purge_at REAL NOT NULL,
                actor TEXT NOT NULL,
                reason TEXT NOT NULL,
                num_instances INTEGER NOT NULL,
                size INTEGER NOT NULL
            ) WITHOUT ROWID
            """,
            """
            CREATE TABLE trash (
                trash_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                deletion_id TEXT NOT NULL REFERENCES deletion,
                state TEXT NOT NULL CHECK (
                    state IN ('leaving', 'kept', 'returning', 'returned', 'purging')
                ),
                sop_instance_uid TEXT NOT NULL,
                sop_class_uid TEXT NOT NULL,
                study_instance_uid TEXT NOT NULL,
                series_instance_uid TEXT NOT NULL,
                transfer_syntax_uid TEXT NOT NULL,
                object_key TEXT NOT NULL,
                size INTEGER NOT NULL,
                data_set_offset INTEGER NOT NULL,
                digest TEXT NOT NULL,
                patient_id TEXT NOT NULL,
                patient_name TEXT NOT NULL,
                -- objects of the study that were left
                remaining INTEGER NOT NULL,
                -- where one that is returning goes
                target_key TEXT NOT NULL DEFAULT '',
                -- who has it deleted, restored or purged
                actor TEXT NOT NULL,
                UNIQUE (deletion_id, object_key)
            )
            """,
            "CREATE INDEX trash_of_study ON trash (study_instance_uid)",
            "CREATE INDEX trash_of_instance ON trash (sop_instance_uid)",
            "CREATE INDEX trash_unfinished ON trash (trash_pk) WHERE state <> 'kept'",
            """
            CREATE TABLE study_hold (
                study_instance_uid TEXT PRIMARY KEY,
                reason TEXT NOT NULL,
                actor TEXT NOT NULL,
                at REAL NOT NULL
            ) WITHOUT ROWID
            """,
        ),
    ),
    Migration(
        7,
        "what objects say of their patient, study and series, apart from what these are",
        (
            # A statement is one set of values that objects give for their patient, study or
            # series; fingerprint is a hash of them as they are.  Where it is empty the row is
            # of before: the first value of each attribute that any object had.
            # first_said, last_said: microseconds since 1970, no two records at the same.
            """
            CREATE TABLE patient_statement (
                patient_statement_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                patient_pk INTEGER NOT NULL REFERENCES patient,
                fingerprint TEXT NOT NULL,
                irregular INTEGER NOT NULL,
                patient_id TEXT NOT NULL,
                patient_name TEXT NOT NULL,
                patient_name_key TEXT NOT NULL,
                issuer_of_patient_id TEXT NOT NULL,
                birth_date TEXT NOT NULL,
                birth_time TEXT NOT NULL,
                sex TEXT NOT NULL,
                other_patient_ids TEXT NOT NULL,
                ethnic_group TEXT NOT NULL,
                patient_comments TEXT NOT NULL,
                UNIQUE (patient_pk, fingerprint)
            )
            """,
            """
            INSERT INTO patient_statement (
                    patient_statement_pk, patient_pk, fingerprint, irregular,
                    patient_id, patient_name, patient_name_key, issuer_of_patient_id,
                    birth_date, birth_time, sex, other_patient_ids, ethnic_group,
                    patient_comments)
                SELECT patient_pk, patient_pk, '', irregular,
                    patient_id, patient_name, patient_name_key, issuer_of_patient_id,
                    birth_date, birth_time, sex, other_patient_ids, ethnic_group,
                    patient_comments
                FROM patient
            """,
            """
            CREATE TABLE study_statement (
                study_statement_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                study_pk INTEGER NOT NULL REFERENCES study,
                patient_statement_pk INTEGER NOT NULL REFERENCES patient_statement,
                fingerprint TEXT NOT NULL,
                irregular INTEGER NOT NULL,
                study_date TEXT NOT NULL,
                study_time TEXT NOT NULL,
                accession_number TEXT NOT NULL,
                study_id TEXT NOT NULL,
                referring_physician_name TEXT NOT NULL,
                referring_physician_name_key TEXT NOT NULL,
                study_description TEXT NOT NULL,
                reading_physician_name TEXT NOT NULL,
                patient_age TEXT NOT NULL,
                patient_size TEXT NOT NULL,
                patient_weight TEXT NOT NULL,
                num_instances INTEGER NOT NULL DEFAULT 0,
                first_said BIGINT NOT NULL,
                last_said BIGINT NOT NULL,
                UNIQUE (study_pk, patient_statement_pk, fingerprint)
            )
            """,
            """
            INSERT INTO study_statement (
                    study_statement_pk, study_pk, patient_statement_pk, fingerprint, irregular,
                    study_date, study_time, accession_number, study_id,
                    referring_physician_name, referring_physician_name_key, study_description,
                    reading_physician_name, patient_age, patient_size, patient_weight,
                    num_instances, first_said, last_said)
                SELECT study_pk, study_pk, patient_pk, '', irregular,
                    study_date, study_time, accession_number, study_id,
                    referring_physician_name, referring_physician_name_key, study_description,
                    reading_physician_name, patient_age, patient_size, patient_weight,
                    num_instances, study_pk, study_pk
                FROM study
            """,
            """
            CREATE TABLE series_statement (
                series_statement_pk INTEGER PRIMARY KEY AUTOINCREMENT,
                series_pk INTEGER NOT NULL REFERENCES series,
                study_pk INTEGER NOT NULL REFERENCES study,
                fingerprint TEXT NOT NULL,
                irregular INTEGER NOT NULL,
                modality TEXT NOT NULL,
                series_number TEXT NOT NULL,
                series_description TEXT NOT NULL,
                body_part_examined TEXT NOT NULL,
                laterality TEXT NOT NULL,
                protocol_name TEXT NOT NULL,
                series_date TEXT NOT NULL,
                series_time TEXT NOT NULL,
                manufacturer TEXT NOT NULL,
                institution_name TEXT NOT NULL,
                station_name TEXT NOT NULL,
                performing_physician_name TEXT NOT NULL,
                performed_step_start_date TEXT NOT NULL,
                performed_step_start_time TEXT NOT NULL,
                request_attributes TEXT NOT NULL,
                num_instances INTEGER NOT NULL DEFAULT 0,
                first_said BIGINT NOT NULL,
                last_said BIGINT NOT NULL,
                UNIQUE (series_pk, fingerprint)
            )
            """,
            """
            INSERT INTO series_statement (
                    series_statement_pk, series_pk, study_pk, fingerprint, irregular,
                    modality, series_number, series_description, body_part_examined,
                    laterality, protocol_name, series_date, series_time, manufacturer,
                    institution_name, station_name, performing_physician_name,
                    performed_step_start_date, performed_step_start_time, request_attributes,
                    num_instances, first_said, last_said)
                SELECT series_pk, series_pk, study_pk, '', irregular,
                    modality, series_number, series_description, body_part_examined,
                    laterality, protocol_name, series_date, series_time, manufacturer,
                    institution_name, station_name, performing_physician_name,
                    performed_step_start_date, performed_step_start_time, request_attributes,
                    num_instances, series_pk, series_pk
                FROM series
            """,
            # They refer to statements, and say so to nobody: a statement that goes would have
            # all instances looked at.
            "ALTER TABLE instance ADD COLUMN study_statement_pk INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE instance ADD COLUMN series_statement_pk INTEGER NOT NULL DEFAULT 0",
            """
            UPDATE instance SET series_statement_pk = series_pk, study_statement_pk =
                (SELECT study_pk FROM series WHERE series.series_pk = instance.series_pk)
            """,
            "DROP INDEX patient_by_name",
            "DROP INDEX patient_by_birth_date",
            "DROP INDEX patient_irregular",
            "DROP INDEX study_of_patient",
            "DROP INDEX study_by_date",
            "DROP INDEX study_by_accession_number",
            "DROP INDEX study_irregular",
            "DROP INDEX series_of_study",
            "DROP INDEX series_by_modality",
            "DROP INDEX series_irregular",
            "ALTER TABLE patient DROP COLUMN irregular",
            "ALTER TABLE patient DROP COLUMN patient_name",
            "ALTER TABLE patient DROP COLUMN patient_name_key",
            "ALTER TABLE patient DROP COLUMN birth_date",
            "ALTER TABLE patient DROP COLUMN birth_time",
            "ALTER TABLE patient DROP COLUMN sex",
            "ALTER TABLE patient DROP COLUMN other_patient_ids",
            "ALTER TABLE patient DROP COLUMN ethnic_group",
            "ALTER TABLE patient DROP COLUMN patient_comments",
            "ALTER TABLE patient DROP COLUMN num_studies",
            "ALTER TABLE patient DROP COLUMN num_series",
            "ALTER TABLE patient DROP COLUMN num_instances",
            "ALTER TABLE study DROP COLUMN patient_pk",
            "ALTER TABLE study DROP COLUMN irregular",
            "ALTER TABLE study DROP COLUMN study_date",
            "ALTER TABLE study DROP COLUMN study_time",
            "ALTER TABLE study DROP COLUMN accession_number",
            "ALTER TABLE study DROP COLUMN study_id",
            "ALTER TABLE study DROP COLUMN referring_physician_name",
            "ALTER TABLE study DROP COLUMN referring_physician_name_key",
            "ALTER TABLE study DROP COLUMN study_description",
            "ALTER TABLE study DROP COLUMN reading_physician_name",
            "ALTER TABLE study DROP COLUMN patient_age",
            "ALTER TABLE study DROP COLUMN patient_size",
            "ALTER TABLE study DROP COLUMN patient_weight",
            "ALTER TABLE series DROP COLUMN irregular",
            "ALTER TABLE series DROP COLUMN modality",
            "ALTER TABLE series DROP COLUMN series_number",
            "ALTER TABLE series DROP COLUMN series_description",
            "ALTER TABLE series DROP COLUMN body_part_examined",
            "ALTER TABLE series DROP COLUMN laterality",
            "ALTER TABLE series DROP COLUMN protocol_name",
            "ALTER TABLE series DROP COLUMN series_date",
            "ALTER TABLE series DROP COLUMN series_time",
            "ALTER TABLE series DROP COLUMN manufacturer",
            "ALTER TABLE series DROP COLUMN institution_name",
            "ALTER TABLE series DROP COLUMN station_name",
            "ALTER TABLE series DROP COLUMN performing_physician_name",
            "ALTER TABLE series DROP COLUMN performed_step_start_date",
            "ALTER TABLE series DROP COLUMN performed_step_start_time",
            "ALTER TABLE series DROP COLUMN request_attributes",
            "CREATE INDEX patient_statement_by_id ON patient_statement (patient_id)",
            "CREATE INDEX patient_statement_by_name ON patient_statement (patient_name_key)",
            "CREATE INDEX patient_statement_by_birth_date ON patient_statement (birth_date)",
            """
            CREATE INDEX patient_statement_irregular ON patient_statement (irregular)
                WHERE irregular = 1
            """,
            "CREATE INDEX study_statement_of_patient ON study_statement (patient_statement_pk)",
            "CREATE INDEX study_statement_by_date ON study_statement (study_date)",
            """
            CREATE INDEX study_statement_by_accession_number ON study_statement
                (accession_number)
            """,
            """
            CREATE INDEX study_statement_irregular ON study_statement (irregular)
                WHERE irregular = 1
            """,
            "CREATE INDEX series_of_study ON series (study_pk)",
            "CREATE INDEX series_statement_of_study ON series_statement (study_pk, modality)",
            "CREATE INDEX series_statement_by_modality ON series_statement (modality, study_pk)",
            """
            CREATE INDEX series_statement_irregular ON series_statement (irregular)
                WHERE irregular = 1
            """,
            "ALTER TABLE totals ADD COLUMN last_said BIGINT NOT NULL DEFAULT 0",
        ),
    ),
    Migration(
        8,
        "when studies were last retrieved",
        (
            # Days since 1970.  The row of '' says since when it has been recorded.
            """
            CREATE TABLE study_access (
                study_instance_uid TEXT PRIMARY KEY,
                last_day INTEGER NOT NULL
            ) WITHOUT ROWID
            """,
        ),
    ),
)

LATEST_VERSION: Final = MIGRATIONS[-1].version

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


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    connection.execute(_CREATE_SCHEMA_VERSION)
    for statement in migration.statements:
        connection.execute(statement)
    connection.execute(
        "INSERT INTO schema_version VALUES (?, ?, ?)",
        (migration.version, migration.description, datetime.now(UTC).isoformat(timespec="seconds")),
    )
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
