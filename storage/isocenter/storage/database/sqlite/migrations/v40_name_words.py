"""Schema 40: words and sounds of patients' names."""

from __future__ import annotations

from typing import Final

from isocenter.storage.database.sqlite.migrations.migration import Migration

MIGRATION: Final = Migration(
    40,
    "words and sounds of patients' names",
    (
        # 0: none were written; a version before does not, and what is there gets them later
        "ALTER TABLE patient_statement ADD COLUMN has_name_words BIGINT NOT NULL DEFAULT 0",
        """
            CREATE TABLE patient_name_word (
                patient_statement_pk INTEGER NOT NULL
                    REFERENCES patient_statement ON DELETE CASCADE,
                word TEXT NOT NULL,
                PRIMARY KEY (patient_statement_pk, word)
            ) WITHOUT ROWID
            """,
        "CREATE INDEX patient_name_word_by_word ON patient_name_word (word, patient_statement_pk)",
        """
            CREATE INDEX patient_statement_without_words ON patient_statement (has_name_words)
            WHERE has_name_words = 0
            """,
    ),
)
