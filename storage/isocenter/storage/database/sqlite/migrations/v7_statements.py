"""Schema 7: statements of objects about patient, study and series."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
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
)
