"""Rejection notes (IHE RAD IOCM): what they hide, what of it may come again, how they end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from isocenter.services import composition
from isocenter.services.archive.deletion.ports import TrashChoice
from isocenter.services.archive.deletion.records import DeletionCause
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.deletion.values import NotPermittedError, Requester
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.archive.object_scan import StoreError
from isocenter.services.archive.rejection.ports import NoteState
from isocenter.services.archive.rejection.reasons import KEY_OBJECT_SELECTION, RejectionReason
from isocenter.services.archive.rejection.service import NoSuchNoteError, Rejections
from isocenter.services.archive.store_answers import StoreOutcome
from isocenter.services.composition.archive import ArchiveParts
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.settings.loading import load_settings
from services.archive_support import CT, STUDY, store, uid

ADMIN = Requester(name="root@here")
SERIES = "1.2.3"
NOTE = "1.2.3.4.5"
REJECTED = (DeletionCause.REJECTED,)
EXPLICIT = "1.2.840.10008.1.2.1"


def item(**values: object) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def code(value: str, meaning: str = "x", scheme: str = "DCM") -> Items:
    return Items([item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)])


def note(
    title: str, *numbers: int, name: str = NOTE, study: str = STUDY, scheme: str = "DCM"
) -> bytes:
    """A Key Object Selection as pydicom writes it."""
    references = Items(
        [item(ReferencedSOPClassUID=CT, ReferencedSOPInstanceUID=uid(each)) for each in numbers]
    )
    series = item(SeriesInstanceUID=SERIES, ReferencedSOPSequence=references)
    kos = item(
        SOPClassUID=KEY_OBJECT_SELECTION,
        SOPInstanceUID=name,
        StudyInstanceUID=STUDY,
        SeriesInstanceUID=f"{name}.1",
        Modality="KO",
        PatientID="P1",
        ValueType="CONTAINER",
        ConceptNameCodeSequence=code(title, scheme=scheme),
        CurrentRequestedProcedureEvidenceSequence=Items(
            [item(StudyInstanceUID=study, ReferencedSeriesSequence=Items([series]))]
        ),
    )
    return AttributeList.from_dataset(kos).encode(EXPLICIT)


class Place:
    def __init__(self, parts: ArchiveParts, trash: Trash, rejections: Rejections) -> None:
        self.parts = parts
        self.archive = parts.archive
        self.trash = trash
        self.rejections = rejections

    async def found(self) -> list[str]:
        async with self.archive.index.instances() as blocks:
            return sorted([one.sop_instance_uid async for block in blocks for one in block])

    async def receive(self, data: bytes, name: str = NOTE, sender: str = "WORKSTATION") -> None:
        ingest = await self.archive.receive(
            sop_class_uid=KEY_OBJECT_SELECTION,
            sop_instance_uid=name,
            transfer_syntax_uid=EXPLICIT,
            source_ae_title=sender,
        )
        async with ingest:
            await ingest.write([data])
            await ingest.commit()

    async def states(self) -> Sequence[tuple[str, NoteState, int]]:
        rows = await self.rejections.book.rows(limit=9)
        return [(row.sop_instance_uid, row.state, row.instances) for row in rows]

    async def reject(self, reason: RejectionReason = RejectionReason.QUALITY) -> list[str]:
        criterion = Criterion(0x0020000D, SingleValue(STUDY))
        plan = await self.trash.plan(Query(level=Level.STUDY, criteria=(criterion,)))
        return await self.rejections.reject(plan, reason, ADMIN, "motion")


@asynccontextmanager
async def opened(folder: Path, **changes: object) -> AsyncIterator[Place]:
    values = {"storage.data_dir": str(folder / "data")}
    settings = load_settings(
        None, {}, values | {f"rejection.{name}": value for name, value in changes.items()}
    )
    async with composition.open_archive_parts(settings) as parts:
        trash = composition.trash_of(settings, parts, "a test")
        rejections = composition.rejections_of(settings, parts, "a test")
        assert trash is not None
        assert rejections is not None
        yield Place(parts, trash, rejections)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with opened(tmp_path) as found:
        for number in (1, 2, 3):
            await store(found.archive, number)
        yield found


@pytest.mark.parametrize("title", ["113001", "113037", "113038", "113039"])
async def test_a_note_hides_what_it_rejects_before_its_sender_is_answered(
    place: Place, title: str
) -> None:
    await place.receive(note(title, 1, 2))
    assert await place.found() == sorted([NOTE, uid(3)])
    assert await place.states() == [(NOTE, NoteState.APPLIED, 2)]
    (row,) = await place.trash.book.rows(REJECTED)
    assert (row.instances, row.deletion.actor) == (2, "WORKSTATION")
    assert f"({title}, DCM)" in row.deletion.reason
    assert (row.deletion.purge_at < 4e9) is (title == "113039")


@pytest.mark.parametrize(
    "data",
    [
        note("113000", 1),
        note("113001", 1, scheme="99X"),
        note("113001", 1, study="1.2.99"),
        note("113001", 9),
        note("113001"),
    ],
)
async def test_a_selection_that_rejects_nothing_here_is_an_object_like_any_other(
    place: Place, data: bytes
) -> None:
    await place.receive(data)
    assert await place.found() == sorted([NOTE, uid(1), uid(2), uid(3)])
    assert not await place.trash.book.rows(REJECTED)


@pytest.mark.parametrize(
    ("title", "outcome"),
    [("113001", StoreOutcome.IGNORED), ("113039", StoreOutcome.STORED)],
)
async def test_what_was_rejected_is_sent_again(
    place: Place, title: str, outcome: StoreOutcome
) -> None:
    await place.receive(note(title, 1))
    result = await store(place.archive, 1)
    assert (result.outcome, result.status) == (outcome, 0)
    assert (uid(1) in await place.found()) is (outcome is StoreOutcome.STORED)
    # An accepted one is rejected no more.
    assert (await store(place.archive, 1)).outcome is (
        StoreOutcome.ALREADY_STORED if outcome is StoreOutcome.STORED else outcome
    )
    assert (await store(place.archive, 2)).outcome is StoreOutcome.ALREADY_STORED


@pytest.mark.parametrize("title", ["113037", "113038"])
async def test_what_was_rejected_for_the_patients_sake_is_refused(place: Place, title: str) -> None:
    await place.receive(note(title, 1))
    with pytest.raises(StoreError, match=rf"\({title}, DCM\)") as caught:
        await store(place.archive, 1)
    assert caught.value.status == 0x0124
    assert uid(1) not in await place.found()


async def test_the_note_may_come_before_what_it_rejects(place: Place) -> None:
    await place.receive(note("113037", 8))
    with pytest.raises(StoreError):
        await store(place.archive, 8)
    await place.rejections.revoke(NOTE, ADMIN, "the right patient after all")
    assert (await store(place.archive, 8)).outcome is StoreOutcome.STORED


async def test_a_note_is_taken_back(place: Place) -> None:
    await place.receive(note("113001", 1, 2))
    await place.receive(note("113037", 2, name="1.2.9.9"), "1.2.9.9")
    with pytest.raises(NotPermittedError):
        await place.rejections.revoke(NOTE, Requester(name="me", may_delete=False), "x")
    done = await place.rejections.revoke(NOTE, ADMIN, "it is good enough")
    assert done.instances == 1
    # Another note rejects the other.
    assert await place.found() == sorted([uid(1), uid(3), "1.2.9.9"])
    with pytest.raises(NoSuchNoteError):
        await place.rejections.revoke(NOTE, ADMIN, "again")
    await place.rejections.revoke("1.2.9.9", ADMIN, "that, too")
    assert await place.found() == [uid(1), uid(2), uid(3)]
    # The note lies in the trash; with it comes what it says.
    await place.trash.restore(TrashChoice(sop_instance_uids=(NOTE,)), ADMIN)
    await place.rejections.apply()
    assert await place.found() == sorted([NOTE, uid(3)])


async def test_what_a_note_hides_is_deleted_and_still_refused(place: Place) -> None:
    await place.receive(note("113037", 1, 2))
    with pytest.raises(NotPermittedError):
        await place.rejections.delete(NOTE, Requester(name="me", may_delete=False), "x")
    assert await place.rejections.delete(NOTE, ADMIN, "not needed") == 2
    assert not await place.trash.book.rows(REJECTED)
    (row,) = await place.trash.book.rows()
    assert (row.instances, row.deletion.reason) == (2, "not needed")
    with pytest.raises(NoSuchNoteError):
        await place.rejections.delete(NOTE, ADMIN, "again")
    with pytest.raises(StoreError):
        await store(place.archive, 1)
    assert await place.found() == sorted([NOTE, uid(3)])


async def test_what_is_rejected_may_stay_where_it_is(tmp_path: Path) -> None:
    async with opened(tmp_path, shown=["quality"]) as place:
        await store(place.archive, 1)
        await place.receive(note("113001", 1))
        assert await place.found() == sorted([NOTE, uid(1)])
        assert await place.states() == [(NOTE, NoteState.APPLIED, 1)]
        assert (await store(place.archive, 1)).outcome is StoreOutcome.ALREADY_STORED


async def test_notes_of_strangers_and_notes_at_all_can_be_switched_off(tmp_path: Path) -> None:
    async with opened(tmp_path, senders=["BOSS"]) as place:
        await store(place.archive, 1)
        await place.receive(note("113001", 1), sender="OTHER")
        assert uid(1) in await place.found()
        assert await place.states() == [(NOTE, NoteState.FAILED, 0)]
        await place.receive(note("113001", 1, name="1.2.9.9"), "1.2.9.9", sender="BOSS")
        assert uid(1) not in await place.found()
    async with opened(tmp_path, enabled=False) as place:
        assert (await store(place.archive, 1)).outcome is StoreOutcome.STORED


async def test_a_note_is_made_here_and_is_an_object_that_others_can_read(place: Place) -> None:
    (made,) = await place.reject(RejectionReason.WORKLIST)
    assert await place.found() == [made]
    assert await place.states() == [(made, NoteState.APPLIED, 3)]
    stored = (await place.archive.index.get([made]))[made]
    async with await place.archive.open(stored) as reader:
        kos = pydicom.dcmread(BytesIO(await reader.read(0, reader.size)))
    assert (kos.PatientID, str(kos.PatientName)) == ("P1", "Bäcker^Anna")
    assert kos.StudyInstanceUID == STUDY
    (title,) = kos.ConceptNameCodeSequence
    assert (title.CodeValue, title.CodeMeaning) == ("113038", "Incorrect Modality Worklist Entry")
    (study,) = kos.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    named = sorted(each.ReferencedSOPInstanceUID for each in series.ReferencedSOPSequence)
    assert named == [uid(1), uid(2), uid(3)]
    text, *shown = kos.ContentSequence
    assert text.TextValue == "motion"
    assert [each.ValueType for each in shown] == ["IMAGE"] * 3
    (row,) = await place.trash.book.rows(REJECTED)
    assert row.deletion.actor == "root@here"
    assert row.deletion.reason.endswith("(113038, DCM): motion")
    await place.rejections.revoke(made, ADMIN, "no")
    assert await place.found() == [uid(1), uid(2), uid(3)]


async def test_a_note_that_only_the_server_can_store_is_obeyed_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        await store(place.archive, 1)
        aside = composition.rejections_of(
            load_settings(None, {}, {"storage.data_dir": str(tmp_path / "data")}),
            place.parts,
            "a command",
            can_store=False,
        )
        assert aside is not None
        mine, place.rejections = place.rejections, aside
        (made,) = await place.reject()
        assert await place.found() == []
        assert await place.states() == [(made, NoteState.DUE, 1)]
        assert await mine.apply() == 1
        assert await place.found() == [made]
        assert await place.states() == [(made, NoteState.APPLIED, 1)]


async def test_what_a_crash_interrupts_is_brought_to_its_end(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        for number in (1, 2):
            await store(place.archive, number)
        place.archive.intake.on_note = None
        await place.receive(note("113001", 1))
        assert uid(1) in await place.found()
    async with opened(tmp_path) as place:
        assert await place.rejections.apply() == 1
        assert await place.found() == sorted([NOTE, uid(2)])
        await place.rejections.book.settle(NOTE, NoteState.REVOKING)
    async with opened(tmp_path) as place:
        await place.rejections.apply()
        assert await place.found() == [uid(1), uid(2)]


async def test_notes_that_a_new_index_does_not_know_are_looked_at_again(place: Place) -> None:
    await place.receive(note("113037", 8))
    await place.rejections.book.forget(NOTE)
    assert await place.rejections.book.look_again() == 1
    await place.rejections.apply()
    with pytest.raises(StoreError):
        await store(place.archive, 8)


async def test_a_note_whose_references_are_no_sequence_rejects_nothing(place: Place) -> None:
    broken = note("113001", 1).replace(b"\x40\x00\x75\xa3SQ", b"\x40\x00\x75\xa3UT")
    await place.receive(broken)
    assert uid(1) in await place.found()
