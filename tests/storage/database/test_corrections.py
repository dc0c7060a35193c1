"""Records of corrections: ordered, made, exchanged, undone, and what comes meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import time

import pytest

from isocenter.services.archive.coercion.edits import MoveToStudy, SetValue
from isocenter.services.archive.corrections.ports import CorrectionRefusedError
from isocenter.services.archive.corrections.values import (
    Correction,
    CorrectionKind,
    PatientKey,
    Scope,
    attributes_after,
)
from isocenter.services.archive.orders import Route
from isocenter.services.archive.ports import InstanceRecord
from isocenter.services.archive.retention.rules import RetentionRule
from isocenter.services.concurrency import Backoff
from isocenter.services.service_classes.commitment.transaction import Reference
from isocenter.services.workflow.forwarding.ports import ForwardState
from isocenter.storage.database.corrections.book import DatabaseCorrections
from isocenter.storage.database.corrections.standing import CorrectedArrivals
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.expiry import expiry_added
from isocenter.storage.database.forwarding.queue import DatabaseForwards
from isocenter.storage.database.index.index import DatabaseIndex
from isocenter.storage.database.retention import DatabaseRetention
from storage.databases import open_database

NAME, ID = 0x00100010, 0x00100020
STUDY_UID = 0x0020000D
BACKOFF = Backoff(give_up_after_seconds=60.0)


@pytest.fixture
async def database(each_database: str, tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(tmp_path / "index.db") as database:
        yield database


@pytest.fixture
def index(database: Database) -> DatabaseIndex:
    return DatabaseIndex(database, arrivals=CorrectedArrivals())


@pytest.fixture
def book(database: Database) -> DatabaseCorrections:
    return DatabaseCorrections(database, now=lambda: 5.0)


def record(number: int, *, study: str = "1.2", patient: str = "P1") -> InstanceRecord:
    uid = f"{study}.1.{number}"
    attributes = {
        NAME: "Wrong^Näme",
        ID: patient,
        STUDY_UID: study,
        0x0020000E: f"{study}.1",
        0x00080018: uid,
        0x00080016: "1.2.840.10008.5.1.4.1.1.2",
    }
    return InstanceRecord(
        sop_instance_uid=uid,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        study_instance_uid=study,
        series_instance_uid=f"{study}.1",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        object_key=f"{uid}.dcm",
        size=1_000,
        data_set_offset=100,
        digest=f"{number:064}",
        attributes=attributes,
    )


def correction(*scopes: Scope, edits: Sequence[SetValue | MoveToStudy]) -> Correction:
    return Correction(
        kind=CorrectionKind.CORRECT,
        scopes=scopes,
        edits=tuple(edits),
        at=4.0,
        actor="me",
        reason="a test",
    )


RENAME = correction(Scope(study_instance_uid="1.2"), edits=[SetValue(NAME, "Right^Näme")])


async def make(book: DatabaseCorrections, study: str, token: str = "00000001") -> None:
    """Make what is due of a study, in name."""
    for work in await book.due(study, 100):
        original = work.original
        attributes: Mapping[int, str] = {
            **original.attributes,
            STUDY_UID: original.study_instance_uid,
        }
        for each in work.corrections:
            attributes = attributes_after(attributes, each.edits)
        form = original
        if work.corrections:
            form = replace(
                original,
                object_key=original.object_key.replace(".dcm", f"~{token}.dcm"),
                digest="f" * 64,
                study_instance_uid=attributes[STUDY_UID],
                attributes=attributes,
            )
        assert await book.made([(work, form)]) == [True]


async def test_a_correction_goes_its_way(index: DatabaseIndex, book: DatabaseCorrections) -> None:
    records = [record(1), record(2), record(3, study="1.3")]
    await index.add(records)
    number, instances = await book.order(RENAME)
    assert (number, instances) == (1, 2)
    assert await book.touched(1) == {"1.2": {"1.2.840.10008.5.1.4.1.1.2": 2}}
    assert await book.studies(10) == ["1.2"]
    assert await book.exchange("1.2") is None
    (first, _) = await book.due("1.2", 10)
    assert first.original == records[0]
    assert [each.number for each in first.corrections] == [1]
    await make(book, "1.2")
    keys = ["1.2.1.1.dcm", "1.2.1.1~00000001.dcm", "1.3.1.3.dcm"]
    assert set(await book.kept(keys)) == {keys[1]}
    exchanged = await book.exchange("1.2")
    assert exchanged is not None
    assert (len(exchanged.instances), exchanged.numbers, exchanged.leaving) == (2, (1,), ())
    assert set(await book.kept(keys)) == {keys[0]}
    assert not await book.studies(10)
    assert await book.kept_size() == 2_000
    found = await index.records(["1.2.1.1", "1.3.1.3"])
    assert found["1.2.1.1"].attributes[NAME] == "Right^Näme"
    assert found["1.2.1.1"].received_digest == records[0].digest
    assert found["1.3.1.3"].attributes[NAME] == "Wrong^Näme"
    assert [each.object_key for each in await book.originals(after="", limit=9)] == [
        "1.2.1.1.dcm",
        "1.2.1.2.dcm",
    ]
    (row,) = await book.rows(limit=10)
    assert (row.correction, row.instances, row.done) == (replace(RENAME, number=1), 2, 2)
    assert not await index.check()

    assert await book.undo(1, actor="me", reason="no", at=6.0) == 2
    with pytest.raises(CorrectionRefusedError):
        await book.undo(1, actor="me", reason="no", at=6.0)
    await make(book, "1.2")
    exchanged = await book.exchange("1.2")
    assert exchanged is not None
    assert sorted(exchanged.leaving) == ["1.2.1.1~00000001.dcm", "1.2.1.2~00000001.dcm"]
    assert sorted(await book.leaving()) == sorted(exchanged.leaving)
    await book.removed(exchanged.leaving)
    assert not await book.leaving()
    assert (await index.records(["1.2.1.1"]))["1.2.1.1"] == records[0]
    assert not await book.kept(keys)
    assert await book.kept_size() == 0
    row = await book.get(1)
    assert row is not None
    assert (row.undone_at, row.undone_by, row.undo_reason) == (6.0, "me", "no")
    assert not await index.check()


async def test_what_comes_is_found_as_it_is_to_be(
    index: DatabaseIndex, book: DatabaseCorrections
) -> None:
    await book.order(RENAME)
    await book.order(
        correction(Scope(patient=PatientKey("P1")), edits=[SetValue(ID, "P2"), MoveToStudy("1.9")])
    )
    await book.order(correction(Scope(patient=PatientKey("P2")), edits=[SetValue(NAME, "Last^N")]))
    await index.add([record(1), record(2, study="1.3", patient="P7")])
    found = await index.records(["1.2.1.1", "1.3.1.2"])
    assert found["1.2.1.1"].study_instance_uid == "1.9"
    assert found["1.2.1.1"].attributes[NAME] == "Last^N"
    assert found["1.3.1.2"].attributes[NAME] == "Wrong^Näme"
    assert await book.studies(10) == ["1.9"]
    (work,) = await book.due("1.9", 10)
    assert [each.number for each in work.corrections] == [1, 2, 3]
    assert work.original == record(1)
    await make(book, "1.9")
    assert await book.exchange("1.9") is not None
    assert not await index.check()


async def test_what_was_made_before_another_correction_is_not_wanted(
    index: DatabaseIndex, book: DatabaseCorrections
) -> None:
    await index.add([record(1)])
    await book.order(RENAME)
    (stale,) = await book.due("1.2", 10)
    await make(book, "1.2")
    await book.order(RENAME)
    # What was made and will never be named leaves.
    assert await book.leaving() == ["1.2.1.1~00000001.dcm"]
    assert await book.made([(stale, record(1))]) == [False]
    await book.failed(stale, "late")
    (work,) = await book.due("1.2", 10)
    assert [each.number for each in work.corrections] == [1, 2]
    await book.failed(work, "it is broken")
    assert not await book.due("1.2", 10)
    row = await book.get(2)
    assert row is not None
    assert (row.failed, row.fault) == (1, "it is broken")
    assert await book.retry(2) == 1
    assert len(await book.due("1.2", 10)) == 1


async def test_what_has_left_the_archive_takes_all_of_it_along(
    index: DatabaseIndex, book: DatabaseCorrections
) -> None:
    await index.add([record(1), record(2)])
    await book.order(RENAME)
    await make(book, "1.2")
    await book.exchange("1.2")
    await index.remove(["1.2.1.1"])
    await book.sweep()
    assert await book.leaving() == ["1.2.1.1.dcm"]
    assert len(await book.originals(after="", limit=9)) == 1


async def test_a_rule_does_not_delete_what_was_corrected_after_it_was_sent(
    database: Database, book: DatabaseCorrections
) -> None:
    forwards = DatabaseForwards(database, now=lambda: 5.0)
    index = DatabaseIndex(
        database, arrivals=CorrectedArrivals(), on_add=[forwards.queue_added, expiry_added]
    )
    retention = DatabaseRetention(database)
    rule = RetentionRule(name="r", routed_by="r", forwarded_days=1)
    later = time() + 9 * 86_400.0

    async def going() -> list[str]:
        found = await retention.candidates(rule, later, limit=9)
        return sorted(one.study_instance_uid for one in found)

    routes = (Route(destination="A", rule="r"),)
    sent, corrected_first = record(1), record(2, study="1.3")
    for one in (sent, corrected_first):
        await index.add([replace(one, expires_by="r", routes=routes)])
        await book.order(
            correction(
                Scope(study_instance_uid=one.study_instance_uid), edits=[SetValue(NAME, "Right")]
            )
        )
        if one is sent:
            await database.write(_send_all)
            assert await going() == ["1.2"]
        await make(book, one.study_instance_uid)
        assert await book.exchange(one.study_instance_uid) is not None
    await database.write(_send_all)
    assert await going() == ["1.3"]


def _send_all(connection: Connection) -> None:
    connection.execute("UPDATE forward SET state = 'done', ended_at = 5.0")


@pytest.mark.parametrize("state", ["sent", "committing", "deleting"])
async def test_what_was_corrected_after_it_was_sent_is_not_deleted_when_it_is_committed(
    database: Database, book: DatabaseCorrections, state: str
) -> None:
    forwards = DatabaseForwards(database, now=lambda: 5.0)
    index = DatabaseIndex(database, arrivals=CorrectedArrivals(), on_add=[forwards.queue_added])
    routes = (Route(destination="A", rule="r", commit=True, delete_after=True),)
    await index.add([replace(record(1), routes=routes)])

    def so(connection: Connection) -> None:
        connection.execute("UPDATE forward SET state = ?, transaction_uid = '1.9'", (state,))

    await database.write(so)
    await book.order(RENAME)
    await make(book, "1.2")
    assert await book.exchange("1.2") is not None
    await forwards.commitment_reported(
        "1.9", "A", [Reference(record(1).sop_class_uid, "1.2.1.1")], [], BACKOFF
    )
    assert not (await forwards.delete_committed(9)).instances
    assert await index.get(["1.2.1.1"])
    (row,) = await forwards.rows(limit=9)
    assert row.state is ForwardState.FAILED
    assert "corrected after it had been sent" in row.last_fault
    # Whoever retries it sends the corrected form, and then it may go.
    assert await forwards.retry() == 1
    await database.write(so)
    if state == "deleting":
        assert len((await forwards.delete_committed(9)).instances) == 1
