"""Contracts of the ports of reconciliation and of rejection notes, on each database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from isocenter.services.archive.ports import AddOutcome, InstanceRecord
from isocenter.services.archive.rejection.ports import NoteRow, NoteState
from isocenter.services.archive.rejection.reasons import KEY_OBJECT_SELECTION, RejectionReason
from isocenter.services.workflow.reconciliation.values import (
    Attempt,
    AttemptOutcome,
    Identifier,
    PatientLink,
    ReconciliationKind,
    ToldApartError,
)
from isocenter.storage.stores import Stores, StoresOptions, join_stores
from storage.database.test_trash import STUDY, record, uid
from storage.databases import open_database

DAY = 86_400.0
ONE, OTHER = Identifier("P1", "HOSPITAL"), Identifier("P2")


@pytest.fixture
async def stores(each_database: str) -> AsyncIterator[Stores]:
    async with open_database() as database:
        yield join_stores(database, StoresOptions(now=lambda: 1_000.0))


def attempt(at: float, outcome: AttemptOutcome = AttemptOutcome.DONE) -> Attempt:
    return Attempt(
        kind=ReconciliationKind.MERGE,
        patient=ONE,
        other=OTHER,
        actor="ADT|HOSPITAL",
        message="ADT^A40 1",
        at=at,
        outcome=outcome,
        instances=3,
        corrections=(4, 5),
        fault="",
    )


async def test_attempts_are_kept_and_found_by_either_patient(stores: Stores) -> None:
    book = stores.reconciliation
    numbers = [await book.note(attempt(at)) for at in (1.0, 2.0)]
    rows = await book.attempts(limit=9)
    assert [row.number for row in rows] == sorted(numbers, reverse=True)
    assert rows[1] == replace(attempt(1.0), number=numbers[0])
    for patient_id, count in (("P1", 2), ("P2", 2), ("P3", 0)):
        assert len(await book.attempts(patient_id=patient_id, limit=9)) == count
    assert [row.number for row in await book.attempts(before=numbers[1], limit=9)] == numbers[:1]


async def test_what_was_in_vain_is_forgotten_and_nothing_else(stores: Stores) -> None:
    book = stores.reconciliation
    await book.note(attempt(1.0))
    await book.note(attempt(1.0, AttemptOutcome.FAILED))
    await book.note(attempt(1.0, AttemptOutcome.NOTHING))
    await book.note(attempt(31 * DAY, AttemptOutcome.NOTHING))
    outcomes = [row.outcome for row in await book.attempts(limit=9)]
    assert outcomes == [AttemptOutcome.NOTHING, AttemptOutcome.FAILED, AttemptOutcome.DONE]


async def test_a_link_is_one_from_both_sides(stores: Stores) -> None:
    book = stores.reconciliation
    link = PatientLink(one=OTHER, other=ONE, actor="someone", at=1.0)
    assert await book.link(link)
    assert not await book.link(replace(link, one=ONE, other=OTHER))
    assert await book.links(patient_id="P2", limit=9) == [replace(link, one=ONE, other=OTHER)]
    assert not await book.links(patient_id="P3", limit=9)
    assert await book.unlink(link)
    assert not await book.unlink(link)


async def test_who_is_unlinked_does_not_meet_by_way_of_others(stores: Stores) -> None:
    book, third = stores.reconciliation, Identifier("P3")
    between = PatientLink(one=ONE, other=OTHER, actor="someone", at=1.0)
    around = [replace(between, one=each, other=third) for each in (ONE, OTHER)]
    for link in (between, *around):
        assert await book.link(link)
    assert len(await stores.links.linked("P1", "HOSPITAL")) == 2
    assert await book.contradictions(limit=9) == []
    assert await book.unlink(between)
    # One of the others is wrong as well: nobody is answered for anybody else until it is gone.
    for patient_id, issuer in (("P1", "HOSPITAL"), ("P1", None), ("P2", ""), ("P3", "")):
        assert await stores.links.linked(patient_id, issuer) == []
    (found,) = await book.contradictions(limit=9)
    assert (found.one, found.other) == (ONE, OTHER)
    assert {frozenset((link.one, link.other)) for link in found.links} == {
        frozenset((ONE, third)), frozenset((OTHER, third)),
    }  # fmt: skip
    assert await book.unlink(around[0])
    assert await book.contradictions(limit=9) == []
    assert [each.patient_id for each in await stores.links.linked("P3", "")] == ["P2"]
    with pytest.raises(ToldApartError, match="told apart"):
        await book.link(around[0])
    # Whoever links those two themselves has thought better of it.
    assert await book.link(between)
    assert await book.link(around[0])
    assert len(await stores.links.linked("P3", "")) == 2


def selection(number: int) -> InstanceRecord:
    return replace(
        record(number), sop_class_uid=KEY_OBJECT_SELECTION, source_ae_title="WORKSTATION"
    )


async def test_a_selection_is_due_from_when_it_was_added(stores: Stores) -> None:
    await stores.index.add([record(1), selection(9)])
    (row,) = await stores.rejections.unfinished(9)
    assert (row.sop_instance_uid, row.actor, row.state, row.reason) == (
        uid(9), "WORKSTATION", NoteState.DUE, None,
    )  # fmt: skip
    assert not await stores.rejections.rows(limit=9)
    await stores.rejections.reject(uid(9), RejectionReason.PATIENT_SAFETY, [uid(2), uid(3)])
    await stores.rejections.settle(uid(9), NoteState.APPLIED)
    (row,) = await stores.rejections.rows(limit=9)
    assert (row.instances, row.reason) == (2, RejectionReason.PATIENT_SAFETY)
    assert not await stores.rejections.unfinished(9)
    (result,) = await stores.index.add([record(2)])
    assert (result.outcome, result.rejection) == (AddOutcome.REFUSED, "113037")
    assert uid(2) not in await stores.index.get([uid(2)])
    await stores.rejections.forget(uid(9))
    (result,) = await stores.index.add([record(2)])
    assert result.outcome is AddOutcome.ADDED


async def test_an_announced_note_has_its_data_set_until_it_is_added(stores: Stores) -> None:
    note = NoteRow(
        sop_instance_uid=uid(9), study_instance_uid=STUDY, state=NoteState.DUE,
        reason=RejectionReason.QUALITY, actor="someone", text="motion", at=5.0,
    )  # fmt: skip
    await stores.rejections.announce(note, b"\x00\x01data")
    assert await stores.rejections.announced(uid(9)) == b"\x00\x01data"
    await stores.index.add([selection(9)])
    assert await stores.rejections.announced(uid(9)) is None
    assert await stores.rejections.one(uid(9)) == note
    assert await stores.rejections.one(uid(8)) is None


async def test_what_two_notes_reject_is_of_neither_alone(stores: Stores) -> None:
    book = stores.rejections
    await stores.index.add([selection(8), selection(9)])
    await book.reject(uid(8), RejectionReason.QUALITY, [uid(1), uid(2)])
    await book.reject(uid(9), RejectionReason.WORKLIST, [uid(2)])
    assert await book.rejected_by(uid(8), alone=True) == [uid(1)]
    assert await book.rejected_by(uid(8), alone=False) == [uid(1), uid(2)]
    await book.forget(uid(9))
    assert await book.look_again() == 1


def named(number: int, patient_id: str, **changes: str) -> InstanceRecord:
    """An object of a study of its own, of a patient who is called as the others are."""
    attributes = {
        0x0020000D: f"1.2.{number}",
        0x0020000E: f"1.2.{number}.1",
        0x00080018: f"1.2.{number}.1.1",
        0x00100020: patient_id,
        0x00100021: changes.get("issuer", ""),
        0x00100010: changes.get("name", "Roe^Jo"),
        0x00100030: changes.get("born", "19700101"),
        0x00100040: changes.get("sex", "F"),
    }
    made = record(number)
    return replace(
        made,
        sop_instance_uid=attributes[0x00080018],
        study_instance_uid=attributes[0x0020000D],
        series_instance_uid=attributes[0x0020000E],
        attributes=made.attributes | attributes,
    )


async def pairs(stores: Stores, after: Sequence[str] = (), limit: int = 9) -> list[tuple[str, str]]:
    found = await stores.reconciliation.conflicts(after=after, limit=limit)
    return [(row.one.identifier.patient_id, row.other.identifier.patient_id) for row in found]


async def test_patients_of_one_name_and_birth_date_are_a_conflict(stores: Stores) -> None:
    await stores.index.add(
        [
            named(1, "P1"),
            named(2, "P2", name="ROE^JO", sex="M"),
            named(3, "P2", name="ROE^JO", sex="M"),
            named(4, "P3", born="19710101"),
            named(5, "P4", name="Roe^Jane"),
            named(6, "P1", born="", name="Roe^Jo"),
        ]
    )
    (found,) = await stores.reconciliation.conflicts(limit=9)
    assert (found.one.identifier, found.other.identifier) == (Identifier("P1"), Identifier("P2"))
    assert (found.one.studies, found.other.studies) == (1, 2)
    assert found.is_contradicted
    assert found.one.birth_date == "19700101"


async def test_who_is_linked_or_told_apart_is_no_conflict(stores: Stores) -> None:
    await stores.index.add([named(number, f"P{number}") for number in (1, 2, 3)])
    assert await pairs(stores) == [("P1", "P2"), ("P1", "P3"), ("P2", "P3")]
    link = PatientLink(one=Identifier("P2"), other=Identifier("P1"), actor="al", at=1.0)
    assert await stores.reconciliation.link(link)
    apart = replace(link, one=Identifier("P3"))
    assert await stores.reconciliation.tell_apart(apart)
    assert not await stores.reconciliation.tell_apart(apart)
    assert await pairs(stores) == [("P2", "P3")]


async def test_conflicts_go_on_behind_a_place(stores: Stores) -> None:
    await stores.index.add([named(number, f"P{number}") for number in (1, 2, 3, 4)])
    seen: list[tuple[str, str]] = []
    after: Sequence[str] = ()
    while rows := await stores.reconciliation.conflicts(after=after, limit=2):
        seen += [(row.one.identifier.patient_id, row.other.identifier.patient_id) for row in rows]
        after = rows[-1].place
    assert seen == await pairs(stores)
    assert len(seen) == 6


async def test_one_id_of_two_issuers_is_a_conflict_and_of_nobody_it_is_none(
    stores: Stores,
) -> None:
    await stores.index.add(
        [named(1, "P1", issuer="A"), named(2, "P1", issuer="B"), named(3, "P1", issuer="")]
    )
    (found,) = await stores.reconciliation.conflicts(limit=9)
    assert (found.one.identifier, found.other.identifier) == (
        Identifier("P1", "A"),
        Identifier("P1", "B"),
    )
