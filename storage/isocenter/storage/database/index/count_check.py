"""Check of the counts that the index keeps beside what they count."""

# ruff: noqa: S608  (statements are made of constants)

from __future__ import annotations

from typing import Final

from isocenter.storage.database.database import Connection
from isocenter.storage.database.index.totals import ALL_TOTALS

#: What is kept beside what it counts: description and a query for the rows where they differ.
_COUNTS: Final = (
    (
        "series whose metadata nobody makes",
        (
            "SELECT count(*) FROM series WHERE NOT EXISTS (SELECT 1 FROM series_metadata "
            "WHERE series_metadata.series_pk = series.series_pk)"
        ),
    ),
    (
        "series with a wrong number of instances",
        (
            "SELECT count(*) FROM series WHERE num_instances <> "
            "(SELECT count(*) FROM instance WHERE instance.series_pk = series.series_pk)"
        ),
    ),
    (
        "studies with a wrong number of series or instances",
        (
            "SELECT count(*) FROM study WHERE (num_series, num_instances) <> "
            "(SELECT count(*), coalesce(sum(num_instances), 0) FROM series "
            "WHERE series.study_pk = study.study_pk)"
        ),
    ),
    (
        "statements of studies with a wrong number of instances",
        (
            "SELECT count(*) FROM ("
            "SELECT study_statement_pk, study_pk, sum(n) FROM ("
            "SELECT study_statement_pk, study_pk, num_instances AS n FROM study_statement "
            "UNION ALL SELECT study_statement_pk, study_pk, -1 "
            "FROM instance JOIN series USING (series_pk)) AS counted "
            "GROUP BY 1, 2 HAVING sum(n) <> 0) AS wrong"
        ),
    ),
    (
        "statements of series with a wrong number of instances",
        (
            "SELECT count(*) FROM ("
            "SELECT series_statement_pk, series_pk, study_pk, sum(n) FROM ("
            "SELECT series_statement_pk, series_pk, study_pk, num_instances AS n "
            "FROM series_statement UNION ALL SELECT series_statement_pk, series_pk, study_pk, -1 "
            "FROM instance JOIN series USING (series_pk)) AS counted "
            "GROUP BY 1, 2, 3 HAVING sum(n) <> 0) AS wrong"
        ),
    ),
    (
        "SOP classes of studies with a wrong number of instances",
        (
            "SELECT count(*) FROM ("
            "SELECT study_pk, sop_class_uid, sum(n) FROM ("
            "SELECT study_pk, sop_class_uid, num_instances AS n FROM study_sop_class UNION ALL "
            "SELECT study_pk, sop_class_uid, -1 FROM instance JOIN series USING (series_pk)) "
            "AS counted GROUP BY 1, 2 HAVING sum(n) <> 0) AS wrong"
        ),
    ),
    (
        "patients, studies or series without instances",
        (
            "SELECT (SELECT count(*) FROM patient WHERE NOT EXISTS (SELECT 1 FROM "
            "patient_statement WHERE patient_statement.patient_pk = patient.patient_pk)) "
            "+ (SELECT count(*) FROM patient_statement WHERE NOT EXISTS (SELECT 1 FROM "
            "study_statement WHERE study_statement.patient_statement_pk = "
            "patient_statement.patient_statement_pk)) "
            "+ (SELECT count(*) FROM study WHERE num_instances = 0) "
            "+ (SELECT count(*) FROM study_statement WHERE num_instances = 0) "
            "+ (SELECT count(*) FROM series WHERE num_instances = 0) "
            "+ (SELECT count(*) FROM series_statement WHERE num_instances = 0)"
        ),
    ),
    (
        "wrong totals",
        (
            "SELECT count(*) FROM (SELECT sum(patients) AS patients, sum(studies) AS studies, "
            "sum(series) AS series, sum(instances) AS instances, sum(size) AS size "
            f"FROM {ALL_TOTALS}) AS t WHERE (patients, studies, series, instances, size) <> ("
            "(SELECT count(*) FROM patient), (SELECT count(*) FROM study), "
            "(SELECT count(*) FROM series), (SELECT count(*) FROM instance), "
            "(SELECT coalesce(sum(size), 0) FROM instance))"
        ),
    ),
    ("missing totals", "SELECT count(*) <> 1 FROM totals"),
)


def check_counts(connection: Connection) -> list[str]:
    """Which counts are wrong, a line each, without attribute values; reads all of the index."""
    findings: list[str] = []
    for what, query in _COUNTS:
        (number,) = connection.execute(query).fetchone()
        if number:
            findings.append(f"{what}: {number}")
    return findings
