"""Corrections: what shows them, what stays, what comes later, and taking them back."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
import trio

from isocenter.engine.dataset import EXPLICIT_LITTLE, write_data_set
from isocenter.services.archive.corrections.planning import CorrectionError
from isocenter.services.archive.corrections.ports import CorrectionRefusedError
from isocenter.services.archive.corrections.service import Corrections
from isocenter.services.archive.corrections.values import PatientKey, Scope
from isocenter.services.archive.deletion.ports import StudyHold, TrashChoice
from isocenter.services.archive.deletion.values import NotPermittedError, Requester
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue, ValueList
from isocenter.services.archive.orders import Route
from isocenter.services.archive.ports import DuplicatePolicy
from isocenter.services.archive.reindexing import reindex
from isocenter.services.archive.rules.evaluation import Rule, Rules
from isocenter.services.archive.selection import select
from isocenter.services.archive.store_answers import StoreOutcome
from isocenter.services.archive.verification import verify
from isocenter.services.workflow.forwarding.ports import Delivered
from services.archive.corrections.place import (
    ADMIN,
    ID,
    NAME,
    OTHER_SERIES,
    OTHER_STUDY,
    P1,
    P2,
    WHOLE_STUDY,
    fill,
    place,
)
from services.archive_support import CT, SERIES, STUDY, data_set, store, uid

STUDY_UID = 0x0020000D
OURS = [uid(1), uid(2), uid(3)]


def of_patient(patient_id: str) -> Query:
    return Query(level=Level.PATIENT, criteria=(Criterion(ID, SingleValue(patient_id)),))


async def test_all_that_leaves_and_is_searched_shows_a_correction(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        before = await here.archive.index.get(OURS)
        originals = {
            each.object_key: (tmp_path / "objects" / each.object_key).read_bytes()
            for each in before.values()
        }
        plan = await here.corrections.planner.correct(
            WHOLE_STUDY, {NAME: "Right^Name", ID: "P7", 0x00081030: "Knee"}
        )
        assert (plan.instances, plan.series, plan.studies, plan.changed) == (3, 1, 1, 3)
        assert [(each.name, each.after) for each in plan.differences] == [
            ("PatientName", "Right^Name"),
            ("PatientID", "P7"),
            ("StudyDescription", "Knee"),
        ]
        assert plan.differences[1].before == [("P1", 3)]
        number = await here.do(plan)
        assert await here.said() == dict.fromkeys(OURS, "Right^Name") | {uid(9): "Other^Otto"}
        assert (await select(here.archive.index, of_patient("P7"))).instances == 3
        assert not (await select(here.archive.index, of_patient("P1"))).instances
        statistics = await here.archive.index.statistics()
        assert (statistics.patients, statistics.studies, statistics.instances) == (2, 2, 4)
        content = await here.content(uid(2))
        assert content.PatientName == "Right^Name"
        assert content.StudyDescription == "Knee"
        (item,) = content.OriginalAttributesSequence
        (was,) = item.ModifiedAttributesSequence
        assert (was.PatientName, was.PatientID) == ("Bäcker^Anna", "P1")
        assert item.ReasonForTheAttributeModification == "CORRECT"
        assert item.ModifyingSystem == "Isocenter"
        assert item.AttributeModificationDateTime.startswith("19700101001640")
        assert content.PixelData == b"\1\2\3\4"
        # What came is there as it came.
        for key, data in originals.items():
            assert (tmp_path / "objects" / key).read_bytes() == data
        await here.check()
        (row,) = await here.corrections.book.rows(limit=10)
        assert (row.correction.number, row.instances, row.done, row.failed) == (number, 3, 3, 0)
    (told,) = here.told
    assert (told.is_undone, told.actor, told.reason) == (False, ADMIN.name, "a test")
    assert told.studies == {STUDY: {CT: 3}}


async def test_undone_it_is_what_it_was_byte_for_byte(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        before = await here.archive.index.get(OURS)
        keys = await here.keys()
        number = await here.rename()
        assert len(await here.keys()) == len(keys) + 3
        await here.undo(number)
        assert await here.archive.index.get(OURS) == before
        assert await here.keys() == keys
        await here.check()
        with pytest.raises(CorrectionRefusedError, match="no correction 1 that could be undone"):
            await here.corrections.undo(number, ADMIN, "again")


async def test_of_several_each_can_be_undone(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        first = await here.rename("First^Name")
        second = await here.do(
            await here.corrections.planner.correct(WHOLE_STUDY, {0x00081030: "Knee"})
        )
        content = await here.content(uid(1))
        assert (content.PatientName, content.StudyDescription) == ("First^Name", "Knee")
        assert len(content.OriginalAttributesSequence) == 2
        # One form beside each original.
        assert len(await here.keys()) == 4 + 3
        await here.undo(first)
        content = await here.content(uid(1))
        assert (content.PatientName, content.StudyDescription) == ("Bäcker^Anna", "Knee")
        assert len(content.OriginalAttributesSequence) == 1
        await here.undo(second)
        assert "OriginalAttributesSequence" not in await here.content(uid(1))
        assert len(await here.keys()) == 4
        await here.check()


async def test_what_comes_later_is_corrected_as_it_comes(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        await here.rename()
        result = await store(here.archive, 4)
        assert result.outcome is StoreOutcome.STORED
        assert result.comment == ""
        # It is found so from the first moment on, whether or not its form is made.
        assert (await here.said())[uid(4)] == "Right^Name"
        assert await here.corrections.book.studies(10) == [STUDY]
        await here.corrections.work()
        assert (await here.content(uid(4))).PatientName == "Right^Name"
        (row,) = await here.corrections.book.rows(limit=10)
        assert (row.instances, row.done) == (4, 4)
        await here.check()
        # Of another study nothing is.
        await store(here.archive, 5, data_set(5, study="1.2.77", series="1.2.77.1"))
        assert (await here.said())[uid(5)] == "Bäcker^Anna"
        await here.check()


async def test_what_came_comes_again_and_nothing_happens(tmp_path: Path) -> None:
    for duplicates in DuplicatePolicy.IGNORE, DuplicatePolicy.REPLACE:
        folder = tmp_path / duplicates.value
        async with place(folder, duplicates=duplicates) as here:
            await fill(here.archive)
            await here.rename()
            keys = await here.keys()
            result = await store(here.archive, 1)
            assert result.outcome is StoreOutcome.ALREADY_STORED
        async with place(folder, duplicates=duplicates) as here:
            await here.corrections.work()
            assert await here.keys() == keys
            assert (await here.content(uid(1))).PatientName == "Right^Name"
            await here.check()


async def test_another_object_in_the_place_of_one_is_corrected_as_well(tmp_path: Path) -> None:
    async with place(tmp_path, duplicates=DuplicatePolicy.REPLACE) as here:
        await fill(here.archive)
        number = await here.rename()
        await store(here.archive, 1, data_set(1, pixels=b"\7" * 8))
        await here.corrections.work()
        content = await here.content(uid(1))
        assert (content.PatientName, content.PixelData) == ("Right^Name", b"\7" * 8)
        await here.check()
        assert len(await here.keys()) == 4 + 3
        await here.undo(number)
        assert (await here.content(uid(1))).PixelData == b"\7" * 8
        assert len(await here.keys()) == 4
        await here.check()


async def test_merged_patients_are_one_and_the_other_id_is_kept(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        number = await here.do(await here.corrections.planner.merge_patients(P1, P2))
        assert set((await here.said()).values()) == {"Other^Otto"}
        assert (await here.archive.index.statistics()).patients == 1
        content = await here.content(uid(1))
        assert content.PatientID == "P2"
        assert [item.PatientID for item in content.OtherPatientIDsSequence] == ["P1"]
        # A study of the first that comes only now is of the second, too.
        await store(here.archive, 5, data_set(5, study="1.2.77", series="1.2.77.1"))
        await here.corrections.work()
        assert (await here.content(uid(5))).PatientID == "P2"
        await here.check()
        await here.undo(number)
        assert (await here.archive.index.statistics()).patients == 2
        assert (await here.content(uid(5))).PatientID == "P1"
        await here.check()


async def test_merged_studies_are_one(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        number = await here.do(await here.corrections.planner.merge_studies(STUDY, OTHER_STUDY))
        assert set((await here.said(STUDY_UID)).values()) == {OTHER_STUDY}
        statistics = await here.archive.index.statistics()
        assert (statistics.patients, statistics.studies, statistics.series) == (1, 1, 2)
        content = await here.content(uid(1))
        assert (content.StudyInstanceUID, content.SeriesInstanceUID) == (OTHER_STUDY, SERIES)
        assert content.PatientID == "P2"
        (item,) = content.OriginalAttributesSequence
        assert item.ModifiedAttributesSequence[0].StudyInstanceUID == STUDY
        await store(here.archive, 4)
        await here.corrections.work()
        assert (await here.archive.index.statistics()).studies == 1
        await here.check()
        await here.undo(number)
        assert (await here.archive.index.statistics()).studies == 2
        await here.check()


async def test_a_study_moves_to_another_patient(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        await here.do(await here.corrections.planner.move_study(STUDY, P2))
        content = await here.content(uid(1))
        assert (content.PatientID, content.StudyInstanceUID) == ("P2", STUDY)
        assert "OtherPatientIDsSequence" not in content
        await here.check()


async def test_a_split_study_is_two_and_what_comes_later_goes_where_it_belongs(
    tmp_path: Path,
) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        await store(here.archive, 4, data_set(4, series="1.2.3.5"))
        plan = await here.corrections.planner.split_study(STUDY, ["1.2.3.5"])
        new = plan.new_study_instance_uid
        number = await here.do(plan)
        assert (await here.said(STUDY_UID))[uid(4)] == new
        await store(here.archive, 5, data_set(5, series="1.2.3.5"))
        await store(here.archive, 6)
        await here.corrections.work()
        said = await here.said(STUDY_UID)
        assert (said[uid(5)], said[uid(6)]) == (new, STUDY)
        # The new study can be corrected by itself.
        await here.do(
            await here.corrections.planner.correct(
                Scope(study_instance_uid=new), {0x00080050: "A17"}
            )
        )
        assert (await here.content(uid(5))).AccessionNumber == "A17"
        await here.undo(number)
        # What was said of a study that is no more holds for nothing.
        assert "AccessionNumber" not in await here.content(uid(5))
        assert (await here.archive.index.statistics()).studies == 2
        await here.check()
        with pytest.raises(CorrectionError, match="all of the study"):
            await here.corrections.planner.split_study(OTHER_STUDY, [OTHER_SERIES])


async def test_series_move_to_another_study(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        await here.do(
            await here.corrections.planner.move_series(OTHER_STUDY, [OTHER_SERIES], STUDY)
        )
        assert set((await here.said(STUDY_UID)).values()) == {STUDY}
        assert set((await here.said(ID)).values()) == {"P1"}
        await here.check()


@pytest.mark.parametrize(
    ("scope", "changes", "fault"),
    [
        (WHOLE_STUDY, {STUDY_UID: "1.2"}, "no attribute of patient, study or series"),
        (WHOLE_STUDY, {0x00280010: "512"}, "Rows is no attribute of patient, study or series"),
        (WHOLE_STUDY, {0x00100030: "1970"}, r"\(0010,0030\): a new value is none of VR DA"),
        (WHOLE_STUDY, {0x00080060: "MR"}, "an attribute of the series: name the series"),
        (Scope(patient=P1), {0x00081030: "x"}, "an attribute of the study: name the study"),
        (WHOLE_STUDY, {NAME: "a" * 300}, "none of VR PN"),
        (WHOLE_STUDY, {}, "which attributes"),
    ],
)
async def test_what_cannot_be_corrected_is_named(
    tmp_path: Path, scope: Scope, changes: dict[int, str | None], fault: str
) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        with pytest.raises(CorrectionError, match=fault):
            await here.corrections.planner.correct(scope, changes)


async def test_who_may_not_correct_changes_nothing(tmp_path: Path) -> None:
    viewer = Requester(name="viewer", may_correct=False)
    async with place(tmp_path) as here:
        await fill(here.archive)
        plan = await here.corrections.planner.correct(WHOLE_STUDY, {NAME: "X^Y"})
        with pytest.raises(NotPermittedError, match="viewer lacks study:write"):
            await here.corrections.order(plan, viewer, "a test")
        number = await here.do(plan)
        with pytest.raises(NotPermittedError):
            await here.corrections.undo(number, viewer, "a test")
        assert (await here.said())[uid(1)] == "X^Y"


async def test_nothing_leaves_a_study_that_is_held(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        await here.stores.holds.add(
            StudyHold(study_instance_uid=STUDY, reason="case 7", actor="me", at=1.0)
        )
        plan = await here.corrections.planner.merge_studies(STUDY, OTHER_STUDY)
        with pytest.raises(CorrectionRefusedError, match="is held"):
            await here.corrections.order(plan, ADMIN, "a test")
        # It may be corrected where it is.
        await here.rename()
        assert (await here.said())[uid(1)] == "Right^Name"


async def test_a_deleted_study_comes_back_corrected_and_can_be_undone(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        number = await here.rename()
        query = Query(level=Level.STUDY, criteria=(Criterion(STUDY_UID, ValueList((STUDY,))),))
        await here.trash.delete(await here.trash.plan(query), ADMIN, "a test")
        await here.corrections.sweep()  # what can come back keeps its original
        await here.trash.restore(TrashChoice(), ADMIN)
        assert (await here.content(uid(1))).PatientName == "Right^Name"
        await here.check()
        await here.undo(number)
        assert (await here.content(uid(1))).PatientName == "Bäcker^Anna"
        await here.check()


async def test_what_was_undone_while_it_was_deleted_is_so_when_it_comes_back(
    tmp_path: Path,
) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        number = await here.rename()
        query = Query(level=Level.STUDY, criteria=(Criterion(STUDY_UID, ValueList((STUDY,))),))
        await here.trash.delete(await here.trash.plan(query), ADMIN, "a test")
        await here.undo(number)
        await here.trash.restore(TrashChoice(), ADMIN)
        await here.corrections.work()
        assert (await here.content(uid(1))).PatientName == "Bäcker^Anna"
        await here.check()


async def test_what_was_merged_while_it_was_deleted_is_so_when_it_comes_back(
    tmp_path: Path,
) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        query = Query(level=Level.IMAGE, criteria=(Criterion(0x00080018, ValueList((uid(2),))),))
        await here.trash.delete(await here.trash.plan(query), ADMIN, "a test")
        await here.rename()
        await here.trash.restore(TrashChoice(), ADMIN)
        await here.corrections.work()
        assert (await here.content(uid(2))).PatientName == "Right^Name"
        await here.check()


async def test_what_is_purged_leaves_no_original(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        await here.rename()
        query = Query(level=Level.STUDY, criteria=(Criterion(STUDY_UID, ValueList((STUDY,))),))
        await here.trash.delete(await here.trash.plan(query), ADMIN, "a test")
        await here.trash.purge(TrashChoice(), ADMIN)
        await here.corrections.sweep()
        assert len(await here.keys()) == 1
        await here.check()


async def test_an_index_that_is_made_again_shows_what_is_corrected(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        number = await here.rename()
        report = await reindex(here.archive)
        assert (report.indexed, report.superseded.count) == (4, 0)
        assert (await here.said())[uid(1)] == "Right^Name"
        await here.check()
        await here.undo(number)
        assert (await here.said())[uid(1)] == "Bäcker^Anna"
        await here.check()


async def test_a_patient_without_an_id_is_told_apart_by_the_name(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await store(here.archive, 1, data_set(1, patient_id="", patient_name="One^A"))
        other = data_set(2, patient_id="", patient_name="Two^B", study="1.2.8", series="1.2.8.1")
        await store(here.archive, 2, other)
        scope = Scope(patient=PatientKey("", "", "One^A"))
        await here.do(await here.corrections.planner.correct(scope, {ID: "P8"}))
        assert await here.said(ID) == {uid(1): "P8", uid(2): ""}
        await here.check()


async def test_a_damaged_original_is_found(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        await here.rename()
        original = (await here.corrections.book.originals(after="", limit=1))[0]
        path = tmp_path / "objects" / original.object_key
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        report = await verify(here.archive)
        assert report.wrong_digest.count == 1
        path.unlink()
        report = await verify(here.archive)
        assert report.missing.count == 1


async def test_what_is_corrected_is_an_event(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        await here.do(await here.corrections.planner.merge_studies(STUDY, OTHER_STUDY))
    with sqlite3.connect(tmp_path / "index.db") as connection:
        bodies = connection.execute(
            "SELECT body FROM event WHERE kind = 'study.corrected'"
        ).fetchall()
    assert [json.loads(body) for (body,) in bodies] == [
        {
            "study_instance_uid": OTHER_STUDY,
            "previous_study_instance_uid": STUDY,
            "instances": 3,
            "corrections": [1],
        }
    ]


async def test_what_is_to_be_sent_waits_for_its_corrected_form(tmp_path: Path) -> None:
    rules = Rules([Rule(name="all", routes=(Route(destination="PACS", rule="all"),))])
    async with place(tmp_path, rules=rules) as here:
        queue = here.stores.forwards
        await fill(here.archive)
        sent = await queue.take("PACS", 10)
        assert len(sent) == 4
        await queue.settle([Delivered(record) for record in sent])
        await here.rename()
        await store(here.archive, 4)
        assert await queue.due() == []
        assert await queue.take("PACS", 10) == []
        await here.corrections.work()
        assert await queue.due() == ["PACS"]
        (taken,) = await queue.take("PACS", 10)
        assert taken.sop_instance_uid == uid(4)


@pytest.mark.parametrize(
    ("declared", "name", "says"),
    [
        (b"", "Right^Name", None),
        (b"", "Müller^Äöü", "ISO_IR 100"),
        (b"", "Łukasz^Ż", "ISO_IR 192"),
        (b"ISO_IR 192", "Łukasz^Ż", "ISO_IR 192"),
        (b"ISO_IR 100", "Müller^Äöü", "ISO_IR 100"),
    ],
)
async def test_a_name_is_written_so_that_everybody_reads_it(
    tmp_path: Path, declared: bytes, name: str, says: str | None
) -> None:
    elements = [(0x00080005, "CS", declared)] if declared else []
    elements += [
        (0x00080016, "UI", CT.encode()),
        (0x00080018, "UI", uid(1).encode()),
        (NAME, "PN", b"Old^Name"),
        (ID, "LO", b"P1"),
        (STUDY_UID, "UI", STUDY.encode()),
        (0x0020000E, "UI", SERIES.encode()),
    ]
    async with place(tmp_path) as here:
        await store(here.archive, 1, write_data_set(elements, EXPLICIT_LITTLE))
        await here.rename(name)
        assert await here.said() == {uid(1): name}
        content = await here.content(uid(1))
        assert content.PatientName == name
        assert content.get("SpecificCharacterSet") == says
        await here.check()


async def test_what_cannot_be_written_in_its_character_set_stays_and_is_told(
    tmp_path: Path,
) -> None:
    async with place(tmp_path) as here:
        data = data_set(1).replace(b"ISO_IR 192", b"ISO_IR 100")
        await store(here.archive, 1, data)
        await store(here.archive, 2)
        await here.rename("Łukasz^Ż")
        (row,) = await here.corrections.book.rows(limit=1)
        assert (row.done, row.failed) == (1, 1)
        assert "0010,0010" in row.fault
        assert "ukasz" not in row.fault
        assert (await here.said())[uid(2)] == "Łukasz^Ż"
        await here.check()


def signed_data_set(number: int = 1) -> bytes:
    """With a digital signature over the patient's name."""
    mac = write_data_set([(0x04000020, "AT", b"\x10\x00\x10\x00")], EXPLICIT_LITTLE)
    item = b"\xfe\xff\x00\xe0" + len(mac).to_bytes(4, "little") + mac
    signed = data_set(number)
    at = signed.index(b"\xe0\x7f\x10\x00")
    sequence = write_data_set([(0x4FFE0001, "SQ", item)], EXPLICIT_LITTLE)
    return signed[:at] + sequence + signed[at:]


async def test_what_comes_and_cannot_be_corrected_is_found_as_it_is(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        await here.do(await here.corrections.planner.merge_studies(STUDY, OTHER_STUDY))
        await store(here.archive, 4, signed_data_set(4))
        await here.corrections.work()
        assert (await here.said(STUDY_UID))[uid(4)] == STUDY
        assert (await here.content(uid(4))).PatientName == "Bäcker^Anna"
        (row,) = await here.corrections.book.rows(limit=1)
        assert (row.done, row.failed) == (3, 1)
        await here.check()


async def test_what_is_signed_stays_unless_that_is_set(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await store(here.archive, 1, signed_data_set())
        number = await here.rename()
        (row,) = await here.corrections.book.rows(limit=1)
        assert (row.done, row.failed) == (0, 1)
        assert "a digital signature covers (0010,0010)" in row.fault
        assert (await here.content(uid(1))).PatientName == "Bäcker^Anna"
        await here.check()
        bold = Corrections(here.archive, here.stores.corrections, breaks_signatures=True)
        assert await bold.book.retry(number) == 1
        await bold.work()
        assert (await here.content(uid(1))).PatientName == "Right^Name"
        await here.check()


async def test_what_was_corrected_twice_is_still_sent_to_whom_asked_before(
    tmp_path: Path,
) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        await here.rename("First^Name")
        asked = (await here.archive.index.get([uid(1)]))[uid(1)]
        await here.rename("Second^Name")
        with pytest.raises(KeyError):
            await here.archive.open(asked)
        now = await here.archive.compressed_since(asked)
        assert now is not None
        async with await here.archive.open(now) as reader:
            assert reader.size == now.size


async def test_what_waits_for_its_form_is_no_damage(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        await here.rename()
        await store(here.archive, 4)
        report = await verify(here.archive)
        assert report.is_good, report
        assert report.instances == 5


async def test_a_correction_and_another_one_that_comes_while_it_is_made(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        first = await here.corrections.planner.correct(WHOLE_STUDY, {NAME: "First^Name"})
        second = await here.corrections.planner.correct(WHOLE_STUDY, {0x00081030: "Knee"})
        await here.corrections.order(first, ADMIN, "a test")

        todo = [second]

        def meanwhile(instances: int) -> None:
            del instances
            if todo:
                nursery.start_soon(here.corrections.order, todo.pop(), ADMIN, "a test")

        async with trio.open_nursery() as nursery, trio.open_nursery() as workers:
            workers.start_soon(here.corrections.work, meanwhile)
            workers.start_soon(here.corrections.work)
        await here.corrections.work()
        content = await here.content(uid(1))
        assert (content.PatientName, content.StudyDescription) == ("First^Name", "Knee")
        await here.check()


async def test_who_retrieves_waits_for_what_came_just_now(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        await fill(here.archive)
        await here.rename()
        await store(here.archive, 4)
        assert await here.archive.is_awaited(uid(4))
        assert not await here.archive.is_awaited(uid(1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.corrections.work)
            await here.archive.until_corrected()
            assert (await here.content(uid(4))).PatientName == "Right^Name"
        # What is corrected anew is retrieved as it is until then.
        await here.corrections.order(
            await here.corrections.planner.correct(WHOLE_STUDY, {NAME: "Other^N"}), ADMIN, "a"
        )
        assert await here.corrections.book.studies(1)
        assert not await here.corrections.book.awaited()
