"""Which studies are past their time, and which are held."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from isocenter.services.archive.deletion.ports import StudyHold
from isocenter.services.archive.deletion.records import DeletionCause
from isocenter.services.archive.orders import Route
from isocenter.services.archive.ports import InstanceRecord
from isocenter.services.archive.retention.ports import Unproven
from isocenter.services.archive.retention.rules import RetentionRule
from isocenter.services.archive.rules.ports import StoredRule
from isocenter.services.archive.sent_form import SentForm
from isocenter.services.concurrency import Backoff
from isocenter.services.service_classes.worklist.entry import EntryState
from isocenter.services.workflow.forwarding.ports import Delivered, Failed, ForwardState
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.deletion import delete_within
from isocenter.storage.database.expiry import DatabaseExpiry, expiry_added, expiry_deleted
from isocenter.storage.database.forwarding.queue import DatabaseForwards
from isocenter.storage.database.index.index import AddHook, DatabaseIndex
from isocenter.storage.database.retention import DatabaseHolds, DatabaseRetention
from isocenter.storage.database.rule_history import DatabaseRuleHistory
from isocenter.storage.database.rules import DatabaseRules
from isocenter.storage.database.worklist import DatabaseWorklist
from services.service_classes.worklist.samples import entry
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
    on_add: Sequence[AddHook] = (),
    expires_by: str = "",
    expires_under: str = "c",
    source_ae_title: str = "CT1",
    routes: tuple[Route, ...] = (),
    digest: str = "0",
    date: str = "20200101",
    modality: str = "CT",
    patient: str = "P1",
    number: int = 1,
) -> None:
    uid = f"{study}.{number}"
    await DatabaseIndex(database, on_add=on_add).add(
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
                digest=digest * 64,
                expires_by=expires_by,
                expires_under=expires_under,
                source_ae_title=source_ae_title,
                routes=routes,
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
        ],
        replace=True,
    )


async def arrived(database: Database, study: str, *, days_ago: float) -> None:
    when = datetime.fromtimestamp(NOW - days_ago * DAY, UTC).isoformat(timespec="milliseconds")

    def arrive(connection: Connection) -> None:
        connection.execute(
            "UPDATE instance SET created_at = ? WHERE sop_instance_uid LIKE ?", (when, f"{study}.%")
        )

    await database.write(arrive)


async def candidates(database: Database, **conditions: object) -> list[str]:
    under = {"conditions": "c"} if "routed_by" in conditions else {}
    rule = RetentionRule(name="r", **under | conditions)  # type: ignore[arg-type]
    found = await DatabaseRetention(database).candidates(rule, NOW, limit=100)
    return sorted(each.study_instance_uid for each in found)


async def unproven(database: Database, **conditions: object) -> Sequence[Unproven]:
    under = {"conditions": "c"} if "routed_by" in conditions else {}
    rule = RetentionRule(name="r", **under | conditions)  # type: ignore[arg-type]
    return await DatabaseRetention(database).unproven(rule, NOW, limit=100)


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


async def test_priors_of_who_is_scheduled_stay(database: Database) -> None:
    for number, patient in enumerate(("P1", "P2", "P3", ""), 1):
        await add(database, f"1.{number}", patient=patient)
    assert await candidates(database, study_days=30) == ["1.1", "1.2", "1.3", "1.4"]
    worklist = DatabaseWorklist(database)
    entries = [
        entry(step_id=f"S{number}", accession_no=f"A{number}", patient_id=patient,
              scheduled_datetime=f"{day}090000")
        for number, (patient, day) in enumerate(
            (("P1", "20261128"), ("P2", "20261127"), ("P3", "20261231"))
        )
    ]  # fmt: skip
    await worklist.put(entries, source="command")
    # What was not done the day before yesterday is not coming.
    assert await candidates(database, study_days=30) == ["1.2", "1.4"]
    await worklist.set_state(entries[2].key, EntryState.COMPLETED)
    assert await candidates(database, study_days=30) == ["1.2", "1.3", "1.4"]


async def test_what_a_rule_has_matched_goes_when_all_of_its_study_is_meant(
    database: Database,
) -> None:
    routed = partial(add, database, on_add=[expiry_added])
    for study in ("1.1", "1.2", "1.3"):
        await routed(study, expires_by="short")
        await routed(study, number=2, expires_by="long" if study == "1.2" else "short")
        await arrived(database, study, days_ago=40)
    await routed("1.4")
    await arrived(database, "1.4", days_ago=40)
    assert await candidates(database, routed_by="short", arrived_days=30) == ["1.1", "1.3"]
    assert await candidates(database, routed_by="long", arrived_days=30) == []
    # Another object of the same UID, that the rule does not mean.
    await routed("1.3", number=2, digest="1")
    await arrived(database, "1.3", days_ago=40)
    assert await candidates(database, routed_by="short", arrived_days=30) == ["1.1"]
    # And one more of it, that came today.
    await routed("1.1", number=3, expires_by="short")
    assert await candidates(database, routed_by="short", arrived_days=30) == []


async def test_what_all_destinations_have_had_for_long_goes(database: Database) -> None:
    clock = [NOW - 40 * DAY]
    forwards = DatabaseForwards(database, now=lambda: clock[0])
    routed = partial(add, database, on_add=[forwards.queue_added, expiry_added])
    to_a, to_b = (Route(destination=name, rule="r") for name in "AB")
    for study in ("1.1", "1.2", "1.3"):
        await routed(study, expires_by="r", routes=(to_a, to_b))
    await routed("1.4", expires_by="r")  # nobody was to be sent it
    for study in ("1.1", "1.2", "1.3", "1.4"):
        await arrived(database, study, days_ago=40)
    goes = partial(candidates, database, routed_by="r", forwarded_days=30)
    assert await goes() == []
    for destination in "AB":
        due = await forwards.take(destination, 9)
        outcomes = [
            Failed(record, "no", None)
            if (destination, record.sop_instance_uid) == ("B", "1.2.1")
            else Delivered(record)
            for record in due
        ]
        await forwards.settle(outcomes)
        # The second destination has it for a shorter time than the first.
        clock[0] = NOW - 35 * DAY
    assert await goes() == ["1.1", "1.3"]
    assert await candidates(database, routed_by="r", forwarded_days=36) == []
    # By arrival what was given up stays as well: nobody else has it.
    assert await candidates(database, routed_by="r", arrived_days=30) == ["1.1", "1.3", "1.4"]
    # What is known of their sending is not forgotten before, though by now it is old.
    clock[0] = NOW
    assert await forwards.purge_done(NOW) == 0
    assert await goes() == ["1.1", "1.3"]
    # The dead letter is forgotten by hand: it never arrived there.
    (dead,) = [row for row in await forwards.rows(limit=9) if row.state.value == "failed"]
    assert await forwards.purge(dead.state, [dead.number]) == 1
    assert await goes() == ["1.1", "1.3"]


async def test_who_had_an_earlier_object_of_a_uid_does_not_stand_for_another(
    database: Database,
) -> None:
    clock = [NOW - 60 * DAY]
    forwards = DatabaseForwards(database, now=lambda: clock[0])
    routed = partial(add, database, on_add=[forwards.queue_added, expiry_added])
    to_a, to_b = (Route(destination=name, rule="r") for name in "AB")
    await routed("1.1", routes=(to_a,))
    await forwards.settle([Delivered(record) for record in await forwards.take("A", 9)])
    # Another object of its UID is for somebody else, and what waits for that is forgotten by hand.
    await routed("1.1", digest="1", expires_by="r", routes=(to_b,))
    await arrived(database, "1.1", days_ago=40)
    (waiting,) = await forwards.rows(state=ForwardState.DUE, limit=9)
    goes = partial(candidates, database, routed_by="r", forwarded_days=30)
    assert await goes() == []
    assert await forwards.purge(ForwardState.DUE, [waiting.number]) == 1
    assert await goes() == []


async def test_what_came_back_from_a_destination_stays(database: Database) -> None:
    clock = [NOW - 40 * DAY]
    forwards = DatabaseForwards(database, now=lambda: clock[0])
    marks = DatabaseExpiry(database)
    routed = partial(add, database, on_add=[forwards.queue_added, expiry_added], expires_by="r")
    to_a, commits = Route(destination="A", rule="r"), Route(destination="A", rule="r", commit=True)
    for study in ("1.1", "1.2", "1.3"):
        await routed(study, routes=(to_a,))
    await routed("1.4", routes=(commits,))
    for study in ("1.1", "1.2", "1.3", "1.4"):
        await arrived(database, study, days_ago=40)
    await forwards.settle([Delivered(record) for record in await forwards.take("A", 9)])
    asked = await forwards.begin_commitment("A", "1.9", wait=60.0, limit=9)
    backoff = Backoff(first_seconds=1, longest_seconds=1, give_up_after_seconds=1)
    assert await forwards.commitment_reported("1.9", "A", asked, [], backoff)
    goes = partial(candidates, database, routed_by="r", forwarded_days=30)
    assert await goes() == ["1.1", "1.2", "1.3", "1.4"]
    # Its sender sends it again, or another one does, or nobody knows who.
    assert not await marks.came_again("1.1.1", "CT1")
    assert not await marks.came_again("1.9.1", "A")
    assert await goes() == ["1.1", "1.2", "1.3", "1.4"]
    for uid, sender in (("1.2.1", "A"), ("1.3.1", ""), ("1.4.1", "A")):
        assert await marks.came_again(uid, sender)
        assert not await marks.came_again(uid, sender)
    # Who has committed one has it.
    assert await goes() == ["1.1", "1.4"]
    # The others are shown, and why they stay.
    stays = partial(unproven, database, routed_by="r", forwarded_days=30)
    assert [(one.study_instance_uid, one.came_again, one.unsent) for one in await stays()] == [
        ("1.2", 1, 0),
        ("1.3", 1, 0),
    ]
    assert "isocenter queue commit" in (await stays())[0].texts()[0]
    assert not await unproven(database, routed_by="r", forwarded_days=41)
    assert not await unproven(database, arrived_days=1)
    # By age it goes, whoever has it.
    assert await candidates(database, routed_by="r", arrived_days=30) == [
        "1.1",
        "1.2",
        "1.3",
        "1.4",
    ]
    # Another object of its UID came from somebody else: of several senders none is the first.
    await routed("1.1", routes=(to_a,), digest="1", source_ae_title="CT2")
    await arrived(database, "1.1", days_ago=40)
    await forwards.settle([Delivered(record) for record in await forwards.take("A", 9)])
    assert await goes() == ["1.1", "1.4"]
    assert await marks.came_again("1.1.1", "CT2")
    assert await goes() == ["1.4"]
    # What one has committed was an earlier object of its UID.
    await routed("1.4", routes=(Route(destination="B", rule="r"),), digest="1")
    await arrived(database, "1.4", days_ago=40)
    await forwards.settle([Delivered(record) for record in await forwards.take("B", 9)])
    assert await goes() == []


async def test_what_came_back_goes_when_a_destination_that_is_asked_has_it(
    database: Database,
) -> None:
    clock = [NOW - 40 * DAY]
    forwards = DatabaseForwards(database, now=lambda: clock[0])
    marks = DatabaseExpiry(database)
    routed = partial(add, database, on_add=[forwards.queue_added, expiry_added], expires_by="r")
    to_a, to_b = (Route(destination=name, rule="r") for name in "AB")
    otherwise = Route(destination="C", rule="r", form=SentForm(project="trial"))
    for study in ("1.1", "1.2"):
        await routed(study, routes=(to_a, to_b, otherwise))
        await arrived(database, study, days_ago=40)
    await routed("1.3")
    await arrived(database, "1.3", days_ago=40)
    for name in "ABC":
        await forwards.settle([Delivered(record) for record in await forwards.take(name, 9)])
    for uid in ("1.1.1", "1.2.1"):
        assert await marks.came_again(uid, "A")
    goes = partial(candidates, database, routed_by="r", forwarded_days=30)
    stays = partial(unproven, database, routed_by="r", forwarded_days=30)
    assert await goes() == []
    assert [(one.study_instance_uid, one.came_again, one.unsent) for one in await stays()] == [
        ("1.1", 1, 0),
        ("1.2", 1, 0),
        ("1.3", 0, 1),
    ]
    # Nobody else has what it is sent; nobody has what nobody was sent.
    assert await forwards.commit("C", "1.1") == 0
    assert await forwards.commit("A", "1.3") == 0
    assert await forwards.commit("A", "1") == 0
    assert await forwards.commit("A", "1.1") == 1
    assert await forwards.commit("A", "1.1") == 0
    assert await forwards.due() == ["A"]
    assert [row.study_instance_uid for row in await stays()] == ["1.2", "1.3"]
    backoff = Backoff(first_seconds=1, longest_seconds=1, give_up_after_seconds=9 * DAY)
    asked = await forwards.begin_commitment("A", "1.8", wait=60.0, limit=9)
    assert [one.sop_instance_uid for one in asked] == ["1.1.1"]
    # It has it no more, and is sent it again.
    assert await forwards.commitment_reported("1.8", "A", [], [(asked[0], 0x0112)], backoff)
    assert await goes() == []
    clock[0] += 2
    (again,) = await forwards.take("A", 9)
    assert again.sop_instance_uid == "1.1.1"
    await forwards.settle([Delivered(again)])
    asked = await forwards.begin_commitment("A", "1.9", wait=60.0, limit=9)
    assert await forwards.commitment_reported("1.9", "A", asked, [], backoff)
    assert await goes() == ["1.1"]
    assert [row.study_instance_uid for row in await stays()] == ["1.2", "1.3"]


async def test_who_had_an_earlier_object_of_a_uid_is_not_asked_whether_it_has_another(
    database: Database,
) -> None:
    clock = [NOW - 40 * DAY]
    forwards = DatabaseForwards(database, now=lambda: clock[0])
    routed = partial(add, database, on_add=[forwards.queue_added, expiry_added], expires_by="r")
    for name, digest in (("A", "0"), ("B", "1")):
        await routed("1.1", routes=(Route(destination=name, rule="r"),), digest=digest)
        await forwards.settle([Delivered(record) for record in await forwards.take(name, 9)])
    await arrived(database, "1.1", days_ago=40)
    assert await DatabaseExpiry(database).came_again("1.1.1", "B")
    assert await forwards.commit("A", "1.1") == 0
    assert await forwards.commit("B", "1.1") == 1
    # Once it is sent this one, it may be asked, too.
    await routed("1.1", routes=(Route(destination="A", rule="r"),), digest="2")
    await forwards.settle([Delivered(record) for record in await forwards.take("A", 9)])
    assert await forwards.commit("A", "1.1") == 1


async def test_a_rule_of_other_conditions_deletes_nothing_of_another_of_its_name(
    database: Database,
) -> None:
    for study, under in (("1.1", "ct"), ("1.2", "mr"), ("1.3", "")):
        await add(database, study, on_add=[expiry_added], expires_by="r", expires_under=under)
        await arrived(database, study, days_ago=40)
    goes = partial(candidates, database, routed_by="r", arrived_days=30)
    # Of one that an earlier program has marked nobody knows the conditions.
    assert await goes(conditions="ct") == ["1.1", "1.3"]
    assert await goes(conditions="us") == ["1.3"]
    await add(database, "1.1", number=2, on_add=[expiry_added], expires_by="r", expires_under="mr")
    await arrived(database, "1.1", days_ago=40)
    assert await goes(conditions="ct") == ["1.3"]


async def test_a_new_rule_deletes_nothing_that_an_earlier_one_of_its_name_matched(
    database: Database,
) -> None:
    rules = DatabaseRules(database)
    rule, other = (StoredRule(name=name, definition="{}") for name in ("r", "s"))
    for one, study in ((rule, "1.1"), (other, "1.2")):
        assert await rules.add(one, 9)
        await add(database, study, on_add=[expiry_added], expires_by=one.name)
        await arrived(database, study, days_ago=40)
    assert await candidates(database, routed_by="r", arrived_days=30) == ["1.1"]
    assert await rules.remove("r")
    assert await rules.add(rule, 9)
    assert await candidates(database, routed_by="r", arrived_days=30) == []
    assert await candidates(database, routed_by="s", arrived_days=30) == ["1.2"]


async def test_what_has_gone_is_counted_and_what_comes_back_stays(database: Database) -> None:
    for number in (1, 2):
        await add(database, "1.1", number=number, on_add=[expiry_added], expires_by="r")
    await arrived(database, "1.1", days_ago=40)
    delete = partial(delete_within, on_delete=[expiry_deleted])
    await database.write(delete, ["1.1.1", "1.1.2"], DeletionCause.RETENTION)
    assert (await DatabaseRuleHistory(database).counts())["r"].deleted == 2
    # Restored from the trash: nobody has matched it now.
    await add(database, "1.1")
    await arrived(database, "1.1", days_ago=40)
    assert await candidates(database, routed_by="r", arrived_days=30) == []
