"""Which studies are past their time, and which are held."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from isocenter.services.archive.deletion.ports import StudyHold
from isocenter.services.archive.ports import InstanceRecord
from isocenter.services.archive.retention.rules import RetentionRule
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.index.index import DatabaseIndex
from isocenter.storage.database.retention import DatabaseHolds, DatabaseRetention
from storage.databases import open_database

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp()
DAY = 86_400.0


@pytest.fixture
async def database(each_database: str, tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(tmp_path / "index.db") as database:
        yield database


async def add(
    database: Database,
    study: str,
    *,
    date: str = "20200101",
    modality: str = "CT",
    patient: str = "P1",
    number: int = 1,
) -> None:
    uid = f"{study}.{number}"
    await DatabaseIndex(database).add(
        [
            InstanceRecord(
                sop_instance_uid=uid,
                sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
                study_instance_uid=study,
                series_instance_uid=f"{study}.{modality}".replace(modality, str(len(modality))),
                transfer_syntax_uid="1.2.840.10008.1.2",
                object_key=f"{uid}.dcm",
                size=1_000,
                data_set_offset=100,
                digest="0" * 64,
                attributes={
                    0x00080020: date,
                    0x00080060: modality,
                    0x00100020: patient,
                    0x00100010: "Zenobia^Wanda",
                    0x0020000D: study,
                    0x0020000E: f"{study}.{len(modality)}",
                    0x00080018: uid,
                    0x00080016: "1.2.840.10008.5.1.4.1.1.2",
                },
            )
        ]
    )


async def arrived(database: Database, study: str, *, days_ago: float) -> None:
    when = datetime.fromtimestamp(NOW - days_ago * DAY, UTC).isoformat(timespec="milliseconds")

    def arrive(connection: Connection) -> None:
        connection.execute(
            "UPDATE instance SET created_at = ? WHERE sop_instance_uid LIKE ?", (when, f"{study}.%")
        )

    await database.write(arrive)


async def candidates(database: Database, **conditions: object) -> list[str]:
    rule = RetentionRule(name="r", **conditions)  # type: ignore[arg-type]
    found = await DatabaseRetention(database).candidates(rule, NOW, limit=100)
    return sorted(each.study_instance_uid for each in found)


async def test_by_study_date(database: Database) -> None:
    for study, date in (
        ("1.1", "20201128"),
        ("1.2", "20201129"),
        ("1.3", "2020.11.01"),
        ("1.4", ""),
        ("1.5", "UNKNOWN"),
        ("1.6", "20990101"),
    ):
        await add(database, study, date=date)
    six_years = (datetime(2026, 11, 29) - datetime(2020, 11, 29)).days  # noqa: DTZ001
    # Exactly so long ago is not longer ago; what has no date is kept.
    assert await candidates(database, study_days=six_years) == ["1.1", "1.3"]
    # All that its objects say has to be so long ago.
    await add(database, "1.1", date="20261101", number=2)
    assert await candidates(database, study_days=six_years) == ["1.3"]


async def test_by_modality_all_of_them_have_to_be_meant(database: Database) -> None:
    await add(database, "1.1", modality="CT")
    await add(database, "1.2", modality="US")
    await add(database, "1.3", modality="US")
    await add(database, "1.3", modality="OPT", number=2)
    assert await candidates(database, modalities=("US",), study_days=1) == ["1.2"]
    assert await candidates(database, modalities=("US", "OPT"), study_days=1) == ["1.2", "1.3"]


async def test_by_arrival(database: Database) -> None:
    for study, days in (("1.1", 31), ("1.2", 29)):
        await add(database, study)
        await arrived(database, study, days_ago=days)
    assert await candidates(database, arrived_days=30) == ["1.1"]
    await add(database, "1.1", number=2)  # now, as far as the clock of this machine goes
    assert await candidates(database, arrived_days=30) == []


async def test_by_use(database: Database) -> None:
    book = DatabaseRetention(database)
    for study in ("1.1", "1.2", "1.3"):
        await add(database, study)
        await arrived(database, study, days_ago=400)
    # Nobody knows what was used before it was recorded.
    assert await candidates(database, unused_days=30) == []
    await book.note_use([], NOW - 31 * DAY)
    assert await candidates(database, unused_days=30) == ["1.1", "1.2", "1.3"]
    await book.note_use(["1.1"], NOW - 31 * DAY)
    await book.note_use(["1.2"], NOW - 29 * DAY)
    await book.note_use(["1.2"], NOW - 90 * DAY)  # the clock was wrong
    assert await candidates(database, unused_days=30) == ["1.1", "1.3"]
    await arrived(database, "1.3", days_ago=1)
    assert await candidates(database, unused_days=30) == ["1.1"]


async def test_the_newest_of_each_patient_stay(database: Database) -> None:
    for number, date in enumerate(("20200101", "20210101", "20220101", "20230101"), 1):
        await add(database, f"1.{number}", date=date)
        await add(database, f"2.{number}", date=date, patient="P2")
    await add(database, "1.9", date="", patient="P1")
    assert await candidates(database, keep_newest=3) == ["1.1", "2.1"]
    assert await candidates(database, keep_newest=1, study_days=365 * 4 + 1) == [
        "1.1", "1.2", "1.3", "2.1", "2.2", "2.3",
    ]  # fmt: skip
    # Of those that the rule is about.
    await add(database, "1.5", date="20240101", modality="US")
    assert await candidates(database, keep_newest=4, modalities=("CT",)) == []
    assert await candidates(database, keep_newest=4) == ["1.1"]


async def test_what_is_held_is_no_candidate(database: Database) -> None:
    holds = DatabaseHolds(database)
    await add(database, "1.1")
    await add(database, "1.2")
    hold = StudyHold(study_instance_uid="1.1", reason="court", actor="me", at=NOW)
    assert await holds.add(hold)
    assert not await holds.add(hold)
    assert await holds.add(StudyHold(study_instance_uid="9", reason="x", actor="me", at=NOW + 1))
    assert [(each.study_instance_uid, each.is_here) for each in await holds.all()] == [
        ("1.1", True),
        ("9", False),
    ]
    assert await candidates(database, study_days=1) == ["1.2"]
    assert await holds.remove("1.1")
    assert not await holds.remove("1.1")
    assert await candidates(database, study_days=1) == ["1.1", "1.2"]
