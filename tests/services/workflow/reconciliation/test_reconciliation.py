"""Reconciliation: demands of other systems become corrections, and every attempt is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from isocenter.services import composition
from isocenter.services.archive.corrections.service import Corrections
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Query
from isocenter.services.archive.reconciled import PatientReconciled
from isocenter.services.composition.archive import ArchiveParts
from isocenter.services.composition.hl7 import reconciliation_of
from isocenter.services.integration.hl7.errors import Hl7Error, Location
from isocenter.services.integration.hl7.message import read_message
from isocenter.services.integration.hl7.patient_messages import PatientMessages
from isocenter.services.notices import Notice, Notices
from isocenter.services.service_classes.worklist.entry import Entry, EntryState
from isocenter.services.service_classes.worklist.order_fields import entry_fields
from isocenter.services.settings.loading import load_settings
from isocenter.services.workflow.reconciliation.service import Reconciliation
from isocenter.services.workflow.reconciliation.values import (
    Attempt,
    AttemptOutcome,
    Demand,
    Identifier,
    ReconciliationError,
    ReconciliationKind,
    UnknownPatientError,
)
from services.archive_support import STUDY, data_set, store
from services.service_classes.worklist.samples import entry

NAME, PATIENT_ID, BIRTH_DATE, SEX = 0x00100010, 0x00100020, 0x00100030, 0x00100040
STUDY_UID, ACCESSION = 0x0020000D, 0x00080050
OTHER_STUDY = "1.2.9"
P1, P2, P3 = Identifier("P1", "HOSPITAL"), Identifier("P2", "HOSPITAL"), Identifier("P3")
UPDATE, MERGE = ReconciliationKind.UPDATE, ReconciliationKind.MERGE
LINK, UNLINK = ReconciliationKind.LINK, ReconciliationKind.UNLINK


class Place:
    def __init__(self, parts: ArchiveParts, corrections: Corrections, does: Reconciliation) -> None:
        self.parts = parts
        self.corrections = corrections
        self.does = does
        self.told: list[Notice] = []

    async def demand(self, kind: ReconciliationKind, *patients: Identifier, **more: Any) -> Attempt:
        demand = Demand(kind=kind, patients=patients, **more)
        attempt = await self.does.do(demand, actor="ADT|HOSPITAL", message="ADT^A08 MSG1")
        await self.corrections.work()
        return attempt

    async def patients(self) -> dict[str, tuple[str, str]]:
        """Name and sex by Study Instance UID and Patient ID."""
        query = Query(level=Level.STUDY, return_tags=(PATIENT_ID, NAME, SEX, BIRTH_DATE))
        async with self.parts.archive.index.find(query) as blocks:
            rows = [row async for block in blocks for row in block]
        return {
            f"{row[STUDY_UID]} {row.get(PATIENT_ID, '')}": (row.get(NAME, ""), row.get(SEX, ""))
            for row in rows
        }

    async def attempts(self, patient_id: str = "") -> list[tuple[ReconciliationKind, str]]:
        rows = await self.does.book.attempts(patient_id=patient_id, limit=9)
        return [(row.kind, row.outcome.value) for row in rows]


@asynccontextmanager
async def opened(folder: Path, unknown: str = "accept") -> AsyncIterator[Place]:
    settings = load_settings(
        None, {}, {"storage.data_dir": str(folder / "data"), "hl7.unknown_patients": unknown}
    )
    notices = Notices()
    async with composition.open_archive_parts(settings) as parts:
        place = Place(
            parts,
            composition.corrections_of(settings, parts, "a test"),
            reconciliation_of(settings, parts, notices),
        )
        notices.subscribe(place.told.append, (PatientReconciled,))
        yield place


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with opened(tmp_path) as found:
        await store(found.parts.archive, 1, data_set(1, patient_id="P1"))
        other = data_set(2, study=OTHER_STUDY, series="1.2.9.1", patient_id="P2",
                         patient_name="Weiß^Wanda")  # fmt: skip
        await store(found.parts.archive, 2, other)
        yield found


async def test_an_update_is_found_and_can_be_undone(place: Place) -> None:
    before = await place.patients()
    attempt = await place.demand(UPDATE, P1, attributes={NAME: "Muster^Erika", SEX: "F"})
    assert (attempt.outcome, attempt.instances) == (AttemptOutcome.DONE, 1)
    after = await place.patients()
    assert after[f"{STUDY} P1"] == ("Muster^Erika", "F")
    (number,) = attempt.corrections
    (summary,) = await place.corrections.book.rows(limit=9)
    assert (summary.correction.number, summary.correction.actor) == (number, "ADT|HOSPITAL")
    # The same once more changes nothing.
    again = await place.demand(UPDATE, P1, attributes={NAME: "Muster^Erika", SEX: "F"})
    assert (again.outcome, again.corrections) == (AttemptOutcome.NOTHING, ())
    await place.corrections.undo(number, Requester(name="root@here"), "it was right")
    await place.corrections.work()
    assert await place.patients() == before


async def test_a_merge_has_all_of_one_patient_be_of_the_other(place: Place) -> None:
    attempt = await place.demand(MERGE, P2, others=(P1,), attributes={NAME: "Weiß^Wanda^M"})
    assert attempt.outcome is AttemptOutcome.DONE
    found = await place.patients()
    assert {key.split()[1] for key in found} == {"P2"}
    assert {name for name, _ in found.values()} == {"Weiß^Wanda^M"}
    # What comes later with the old ID is of the patient that stayed, too.
    await store(place.parts.archive, 3, data_set(3, patient_id="P1"))
    await place.corrections.work()
    assert {key.split()[1] for key in await place.patients()} == {"P2"}
    assert await place.attempts("P1") == [(MERGE, "done")]


async def test_a_patient_may_get_an_id_that_nobody_had(place: Place) -> None:
    await place.demand(MERGE, P3, others=(P1,), attributes={NAME: "Bäcker^Anna"})
    assert {key.split()[1] for key in await place.patients()} == {"P3", "P2"}


async def test_a_study_is_moved_by_its_uid(place: Place) -> None:
    await place.demand(ReconciliationKind.MOVE_STUDY, P1, others=(P2,), studies=(OTHER_STUDY,))
    assert {key.split()[1] for key in await place.patients()} == {"P1"}
    # That of another owner is left alone.
    attempt = await place.demand(
        ReconciliationKind.MOVE_STUDY, P2, others=(P3,), studies=(OTHER_STUDY,)
    )
    assert attempt.outcome is AttemptOutcome.NOTHING


async def test_links_are_kept_and_taken_away(place: Place) -> None:
    assert (await place.demand(LINK, P1, others=(P2,))).outcome is AttemptOutcome.DONE
    assert (await place.demand(LINK, P2, others=(P1,))).outcome is AttemptOutcome.NOTHING
    (link,) = await place.does.book.links(patient_id="P2", limit=9)
    assert (link.one, link.other, link.actor) == (P1, P2, "ADT|HOSPITAL")
    assert (await place.demand(UNLINK, P2, others=(P1,))).outcome is AttemptOutcome.DONE
    assert not await place.does.book.links(limit=9)


async def test_who_was_unlinked_is_linked_by_way_of_nobody(place: Place) -> None:
    assert (await place.demand(LINK, P1, others=(P2,))).outcome is AttemptOutcome.DONE
    assert (await place.demand(UNLINK, P1, others=(P2,))).outcome is AttemptOutcome.DONE
    assert (await place.demand(UNLINK, P1, others=(P2,))).outcome is AttemptOutcome.NOTHING
    assert (await place.demand(LINK, P1, others=(P3,))).outcome is AttemptOutcome.DONE
    with pytest.raises(ReconciliationError, match="told apart"):
        await place.demand(LINK, P2, others=(P3,))
    assert (await place.attempts())[0] == (LINK, "failed")
    assert len(await place.does.book.links(limit=9)) == 1


@pytest.mark.parametrize(("kind", "others"), [(MERGE, (P1,)), (LINK, (P1,)), (UNLINK, (P1,))])
async def test_nobody_is_merged_or_linked_with_oneself(
    place: Place, kind: ReconciliationKind, others: tuple[Identifier, ...]
) -> None:
    before = await place.patients()
    with pytest.raises(ReconciliationError, match="with itself"):
        await place.demand(kind, P1, others=others)
    assert await place.patients() == before
    assert await place.attempts() == [(kind, "failed")]
    (told,) = place.told
    assert isinstance(told, PatientReconciled)
    assert (told.outcome, told.patient_id) == ("failed", "P1")


async def test_an_unknown_patient_is_accepted_or_refused(tmp_path: Path) -> None:
    unknown = Identifier("P9", "HOSPITAL")
    async with opened(tmp_path) as place:
        attempt = await place.demand(UPDATE, unknown, attributes={SEX: "F"})
        assert attempt.outcome is AttemptOutcome.NOTHING
    async with opened(tmp_path, "refuse") as place:
        await store(place.parts.archive, 1, data_set(1, patient_id="P1"))
        with pytest.raises(UnknownPatientError):
            await place.demand(UPDATE, unknown, attributes={SEX: "F"})
        await place.parts.stores.worklist.put([entry(3, patient_id="P9")], source="test")
        await place.demand(UPDATE, unknown, attributes={SEX: "M"})
        # One that is known, and is as it should be, is not unknown.
        await place.demand(UPDATE, P1, attributes={SEX: "F"})
        await place.demand(UPDATE, P1, attributes={SEX: "F"})
        assert [outcome for _, outcome in await place.attempts()] == [
            "nothing to do", "done", "done", "failed", "nothing to do",
        ]  # fmt: skip


async def test_a_message_is_done_as_a_whole_or_not_at_all(place: Place) -> None:
    text = (
        "MSH|^~\\&|ADT|HOSPITAL|||20261124080000||ADT^A40^ADT_A39|MSG1|P|2.5.1\r"
        "PID|1||P2^^^HOSPITAL||Wer^Auch\rMRG|P1^^^HOSPITAL\r"
        "PID|2||P2^^^HOSPITAL\rMRG|P2^^^HOSPITAL\r"
    )
    before = await place.patients()
    messages = PatientMessages(place.does)
    with pytest.raises(Hl7Error, match="with itself") as caught:
        await messages.do(read_message(text.encode()), "10.0.0.9:1")
    assert caught.value.place == Location("PID", 3, 2)
    await place.corrections.work()
    assert await place.patients() == before
    assert await place.attempts() == [(MERGE, "failed")]
    whole = text.split("PID|2", maxsplit=1)[0]
    assert "merge" in await messages.do(read_message(whole.encode()), "10.0.0.9:1")
    (row, *_) = await place.does.book.attempts(limit=1)
    assert (row.actor, row.message) == ("ADT|HOSPITAL at 10.0.0.9:1", "ADT^A40 MSG1")


async def test_entries_of_the_worklist_follow_unless_they_are_over(place: Place) -> None:
    worklist = place.parts.stores.worklist
    mine = [entry(number, patient_id="P1") for number in (1, 2)]
    other = entry(3, patient_id="P9")
    await worklist.put([*mine, other], source="test", states={mine[1].key: EntryState.COMPLETED})

    async def said(of: Entry) -> tuple[str, str]:
        stored = await worklist.get(of.key)
        assert stored is not None
        fields = entry_fields(stored.entry)
        return fields["patient_id"], fields["patient_name"]

    before = [await said(each) for each in (*mine, other)]
    await place.demand(UPDATE, P1, attributes={NAME: "Muster^Erika"})
    assert await said(mine[0]) == ("P1", "Muster^Erika")
    assert [await said(mine[1]), await said(other)] == before[1:]
    await place.demand(MERGE, P2, others=(P1,), attributes={NAME: "Weiß^Wanda"})
    assert await said(mine[0]) == ("P2", "Weiß^Wanda")
    assert [await said(mine[1]), await said(other)] == before[1:]
    # Also of a patient of whom the archive has nothing.
    attempt = await place.demand(UPDATE, Identifier("P9"), attributes={NAME: "Neu^Noch"})
    assert attempt.outcome is AttemptOutcome.DONE
    assert await said(other) == ("P9", "Neu^Noch")
