"""Schema 1: patients, studies, series and instances."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
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
)
