"""Contracts of the ports of reconciliation and of rejection notes, on each database."""

from __future__ import annotations

from collections.abc import AsyncIterator
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
    assert await book.unlink(OTHER, ONE)
    assert not await book.unlink(OTHER, ONE)


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
