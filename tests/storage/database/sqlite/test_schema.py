"""An index that an older Isocenter wrote is brought up to date with what it knows."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Criterion, Match, Query, SingleValue, WildCard
from isocenter.services.archive.index_figures import IndexStatistics
from isocenter.storage.database.index.columns import is_irregular, key_text
from isocenter.storage.database.index.index import DatabaseIndex
from isocenter.storage.database.sqlite import schema as migrations
from isocenter.storage.database.sqlite.connection import connect, create_database
from isocenter.storage.database.sqlite.database import open_sqlite_database
from storage.index_contract import BY_KEYWORD, find, found, instances, make_record, query, tag

#: Before statements were kept apart from what they are about.
BEFORE_STATEMENTS = 6

#: Patients with their studies with their series, each with a number of instances.
OLD = {
    ("P1", "Doe^Jane"): {"1.1": ("20240102", {"2.1": ("CT", 3), "2.2": ("MR", 1)})},
    ("P2", "Yamada^Tarou=山田^太郎"): {
        "1.2": ("2024.01.03", {"2.1": ("CT", 2)}),
        "1.3": ("", {"2.3": ("US", 1)}),
    },
}


def insert(connection: sqlite3.Connection, table: str, **values: str | int) -> int:
    """A row; the columns that are not named are empty."""
    columns = {
        row[1]: "" if row[2] == "TEXT" else 0
        for row in connection.execute(f"PRAGMA table_info({table})")
        if not row[5]
    }
    columns |= values
    names = ", ".join(f'"{name}"' for name in columns)
    marks = ", ".join("?" * len(columns))
    cursor = connection.execute(
        f"INSERT INTO {table} ({names}) VALUES ({marks})",
        tuple(columns.values()),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def write_old_index(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:BEFORE_STATEMENTS])
        patch.setattr(migrations, "LATEST_VERSION", BEFORE_STATEMENTS)
        migrations.migrate(connection)
    name_of, date_of = BY_KEYWORD["PatientName"], BY_KEYWORD["StudyDate"]
    number = 0
    for (patient_id, name), studies in OLD.items():
        series_of = [series for _, of_study in studies.values() for series in of_study.values()]
        patient_pk = insert(
            connection,
            "patient",
            identity=f'["{patient_id}",""]',
            patient_id=patient_id,
            patient_name=name,
            patient_name_key=key_text(name_of, name),
            num_studies=len(studies),
            num_series=len(series_of),
            num_instances=sum(count for _, count in series_of),
        )
        for study_uid, (date, of_study) in studies.items():
            total = sum(count for _, count in of_study.values())
            study_pk = insert(
                connection,
                "study",
                patient_pk=patient_pk,
                study_instance_uid=study_uid,
                study_date=date,
                irregular=int(bool(date) and is_irregular(date_of, date)),
                num_series=len(of_study),
                num_instances=total,
            )
            insert(
                connection,
                "study_sop_class",
                study_pk=study_pk,
                sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
                num_instances=total,
            )
            for series_uid, (modality, count) in of_study.items():
                series_pk = insert(
                    connection,
                    "series",
                    study_pk=study_pk,
                    series_instance_uid=series_uid,
                    modality=modality,
                    num_instances=count,
                )
                for _ in range(count):
                    number += 1
                    insert(
                        connection,
                        "instance",
                        series_pk=series_pk,
                        sop_instance_uid=f"3.{number}",
                        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
                        transfer_syntax_uid="1.2.840.10008.1.2.1",
                        object_key=f"a/{number}",
                        size=10,
                        digest="0",
                    )
    connection.execute(
        "UPDATE totals SET patients = 2, studies = 3, series = 4, instances = 7, size = 70"
    )
    insert(
        connection,
        "worklist",
        step_id="S1",
        accession_number="A1",
        state="SCHEDULED",
        data_set=b"",
    )
    connection.close()


async def asked(index: DatabaseIndex, level: Level, keyword: str, match: Match) -> list[str]:
    return await found(index, query(level, **{keyword: match}))


async def test_statements_are_made_of_what_was_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "index.db"
    write_old_index(path, monkeypatch)
    async with open_sqlite_database(path) as database:
        index = DatabaseIndex(database)
        assert await database.read(migrations.schema_version) == migrations.LATEST_VERSION
        assert await index.check() == []
        assert await index.statistics() == IndexStatistics(2, 3, 4, 7, 70)
        assert len(await instances(index)) == 7
        assert await asked(index, Level.STUDY, "PatientName", WildCard("doe*")) == ["1.1"]
        studies = await asked(index, Level.STUDY, "PatientName", SingleValue("山田^太郎"))
        assert sorted(studies) == ["1.2", "1.3"]
        assert await asked(index, Level.STUDY, "StudyDate", SingleValue("20240103")) == ["1.2"]
        assert await asked(index, Level.STUDY, "ModalitiesInStudy", SingleValue("MR")) == ["1.1"]
        assert await asked(index, Level.PATIENT, "PatientID", SingleValue("P2")) == ["P2"]
        (answer,) = await find(
            index,
            Query(
                level=Level.IMAGE,
                criteria=(Criterion(tag("SOPInstanceUID"), SingleValue("3.4")),),
                return_tags=(tag("Modality"), tag("NumberOfPatientRelatedInstances")),
            ),
        )
        assert (answer[tag("Modality")], answer[tag("PatientID")]) == ("MR", "P1")
        assert answer[tag("NumberOfPatientRelatedInstances")] == "4"

        # What comes now goes with it, and what is said now is the newest.
        await index.add(
            [make_record("3.8", "2.1", "1.1", PatientID="P1", PatientName="New^Jane", size=10)]
        )
        assert await index.check() == []
        assert await asked(index, Level.STUDY, "PatientName", WildCard("doe*")) == ["1.1"]
        assert await asked(index, Level.STUDY, "PatientName", WildCard("new*")) == ["1.1"]
        (answer,) = await find(index, query(Level.STUDY, want=["PatientName"], **NEW))
        assert answer[tag("PatientName")] == "New^Jane"
        await index.remove([f"3.{number}" for number in range(1, 9)])
        assert await index.statistics() == IndexStatistics(0, 0, 0, 0, 0)
        assert await index.check() == []

        def rows(connection: sqlite3.Connection) -> list[int]:
            tables = ("patient", "patient_statement", "study_statement", "series_statement")
            tables += ("worklist",)
            count = "SELECT count(*) FROM"
            return [connection.execute(f"{count} {table}").fetchone()[0] for table in tables]

        assert await database.read(rows) == [0, 0, 0, 0, 1]


NEW = {"StudyInstanceUID": SingleValue("1.1")}


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_new_index_has_the_schema_that_all_migrations_make(
    tmp_path: Path, in_memory: bool
) -> None:
    by_steps = sqlite3.connect(":memory:", isolation_level=None)
    assert migrations.migrate(by_steps) == 0
    path = None if in_memory else tmp_path / "index.db"
    if path is not None:
        create_database(path)
        assert path.stat().st_mode & 0o777 == 0o600
    made = connect(path, "full", writable=True)

    ask = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_stat%'"
    rows = by_steps.execute(ask).fetchall()
    assert len(rows) > 50
    assert sorted(made.execute(ask).fetchall(), key=str) == sorted(rows, key=str)
    assert made.execute("PRAGMA application_id").fetchone() == (migrations.APPLICATION_ID,)
    assert made.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert migrations.migrate(made) == migrations.LATEST_VERSION
    by_steps.close()
    made.close()
