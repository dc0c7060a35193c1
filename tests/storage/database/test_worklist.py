"""The worklist in the index database: keys, sources, states, and questions against the matcher."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.service_classes.mpps.performed_step import PerformedStep, StepState
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.worklist.entry import (
    Entry,
    EntryKey,
    EntryState,
    InvalidEntryError,
)
from isocenter.services.service_classes.worklist.ports import (
    EntryConflictError,
    PutResult,
    StoredEntry,
    with_state,
)
from isocenter.services.service_classes.worklist.query_keys import Keys, parse_keys
from isocenter.services.service_classes.worklist.retention import remove_expired
from isocenter.storage.database import worklist as worklist_module
from isocenter.storage.database.database import Database
from isocenter.storage.database.performed_steps import DatabaseSteps
from isocenter.storage.database.worklist import DatabaseWorklist, FollowSteps
from services.service_classes.worklist.samples import entry
from storage.databases import open_database

ALL = tuple(EntryState)
pytestmark = pytest.mark.usefixtures("each_database")


def keys_of(*keys: tuple[str, str]) -> Keys:
    identifier = build_identifier(keys, None, EXPLICIT_VR_LITTLE_ENDIAN)
    return parse_keys(identifier, EXPLICIT_VR_LITTLE_ENDIAN)


@pytest.fixture
async def database(each_database: str, tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(tmp_path / "index.db") as opened:
        yield opened


async def found(
    worklist: DatabaseWorklist, *keys: tuple[str, str], states: tuple[EntryState, ...] = ALL
) -> list[StoredEntry]:
    entries: list[StoredEntry] = []
    async with worklist.find(keys_of(*keys), states) as blocks:
        async for block in blocks:
            assert block
            entries += block
    return entries


def steps_of(entries: list[StoredEntry]) -> list[str]:
    return [stored.entry.key.step_id for stored in entries]


async def test_entries_come_back_as_they_went_in(database: Database) -> None:
    worklist = DatabaseWorklist(database, now=lambda: 17.0)
    late, early = entry(1, scheduled_datetime="20261125080000"), entry(2, patient_name="Ö^Ä")
    assert await worklist.put([late, early], source="a") == PutResult(added=2)
    stored = await found(worklist)
    assert [each.entry for each in stored] == [early, late]  # the earliest first
    assert (stored[0].state, stored[0].source, stored[0].created_at) == (
        EntryState.SCHEDULED, "a", 17.0,
    )  # fmt: skip
    assert await worklist.get(EntryKey("SPS1", "A1")) == stored[1]
    assert await worklist.get(EntryKey("SPS1", "A2")) is None
    assert await worklist.find_by_accession_number("A2") == [stored[0]]


async def test_the_same_entry_again_changes_nothing_and_another_takes_its_place(
    database: Database,
) -> None:
    heard: list[tuple[StoredEntry | None, StoredEntry | None]] = []
    worklist = DatabaseWorklist(database, on_change=[lambda _, *change: heard.append(change)])
    await worklist.put([entry()], source="a")
    assert await worklist.put([entry()], source="a") == PutResult(unchanged=1)
    assert len(heard) == 1
    await worklist.set_state(entry().key, EntryState.STARTED)
    assert await worklist.put([entry(modality="MR")], source="b") == PutResult(changed=1)
    (stored,) = await found(worklist)
    assert (stored.state, stored.source) == (EntryState.STARTED, "b")  # what is begun stays begun
    assert stored.entry.step_text(0x00080060) == "MR"
    assert [before is None for before, _ in heard] == [True, False, False]
    await worklist.put([entry()], source="b", states={entry().key: EntryState.SCHEDULED})
    assert (await found(worklist))[0].state is EntryState.SCHEDULED


async def test_what_a_source_no_longer_has_goes_unless_it_was_started(
    database: Database,
) -> None:
    worklist = DatabaseWorklist(database)
    await worklist.put([entry(1), entry(2), entry(3)], source="file", whole=True)
    await worklist.put([entry(9)], source="other")
    await worklist.set_state(entry(2).key, EntryState.STARTED)
    assert await worklist.put([entry(1)], source="file", whole=True) == PutResult(
        unchanged=1, removed=1
    )
    left = await found(worklist)
    assert steps_of(left) == ["SPS1", "SPS2", "SPS9"]
    assert [stored.source for stored in left] == ["file", "", "other"]


async def test_removing(database: Database) -> None:
    gone: list[str] = []

    def note(_: object, before: StoredEntry | None, after: StoredEntry | None) -> None:
        if after is None:
            assert before is not None
            gone.append(before.entry.key.step_id)

    worklist = DatabaseWorklist(database, on_change=[note])
    two = [entry(1), entry(2, accession_no="A1")]
    await worklist.put([*two, entry(3)], source="a")
    await worklist.set_state(two[1].key, EntryState.STARTED)
    keys = [each.key for each in two]
    assert await worklist.remove([*keys, keys[1], EntryKey("no", "")]) == 2
    assert gone == ["SPS1", "SPS2"]
    assert steps_of(await found(worklist)) == ["SPS3"]


async def test_what_has_ended_is_removed_after_its_time(database: Database) -> None:
    worklist = DatabaseWorklist(database, now=lambda: 100.0)
    await worklist.put([entry(1), entry(2), entry(3)], source="a")
    await worklist.set_state(entry(1).key, EntryState.COMPLETED)
    await worklist.set_state(entry(2).key, EntryState.STARTED)
    assert await worklist.remove_ended(100.0) == 0
    assert await worklist.remove_ended(100.5) == 1
    assert steps_of(await found(worklist)) == ["SPS2", "SPS3"]


async def test_many_that_have_ended_are_removed_some_at_a_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worklist_module, "_REMOVED", 2)
    worklist = DatabaseWorklist(database, now=lambda: 100.0)
    entries = [entry(number) for number in range(1, 6)]
    await worklist.put(
        entries, source="a", states={each.key: EntryState.COMPLETED for each in entries}
    )
    removed: list[int] = []

    async def some(before: float) -> int:
        removed.append(await worklist.remove_ended(before))
        if not removed[-1]:
            scope.cancel()
        return removed[-1]

    with trio.fail_after(60), trio.CancelScope() as scope:
        await remove_expired(some, 1)
    assert removed == [2, 2, 1, 0]
    assert await found(worklist) == []


async def test_nothing_is_done_when_an_entry_is_not_as_it_was_found(
    database: Database,
) -> None:
    worklist = DatabaseWorklist(database)
    one, two, three = entry(1), entry(2), entry(3)
    await worklist.put([one, two], source="a")
    seen = {one.key: EntryState.SCHEDULED, two.key: EntryState.SCHEDULED}
    await worklist.set_state(two.key, EntryState.STARTED)
    with pytest.raises(EntryConflictError):
        await worklist.put([three], source="a", cancel=[one.key, two.key], found=seen)
    assert steps_of(await found(worklist)) == ["SPS1", "SPS2"]
    # What has gone by itself is no obstacle.
    await worklist.remove([two.key])
    assert await worklist.put([], source="a", cancel=[one.key], found=seen) == PutResult(removed=1)


async def test_what_is_cancelled_and_ordered_again_is_a_new_entry(database: Database) -> None:
    worklist = DatabaseWorklist(database)
    await worklist.put([entry(1)], source="a")
    done = await worklist.put([entry(1)], source="a", cancel=[entry(1).key])
    assert done == PutResult(added=1, removed=1)
    assert steps_of(await found(worklist)) == ["SPS1"]


async def test_what_the_folder_has_ends_with_its_file(database: Database) -> None:
    worklist = DatabaseWorklist(database, now=lambda: 100.0)
    await worklist.put([entry(1)], source="folder:1.wl", whole=True)
    await worklist.set_state(entry(1).key, EntryState.COMPLETED)
    assert await worklist.remove_ended(200.0) == 0
    await worklist.put([], source="folder:1.wl", whole=True)
    assert steps_of(await found(worklist)) == ["SPS1"]
    assert await worklist.remove_ended(200.0) == 1


async def test_changing_one_entry(database: Database) -> None:
    worklist = DatabaseWorklist(database)
    await worklist.put([entry(1), entry(2)], source="a")
    key = entry(1).key
    assert await worklist.change(key, lambda _: entry(7), EntryState.COMPLETED)
    assert await worklist.get(key) is None
    changed = await worklist.get(entry(7).key)
    assert changed is not None
    assert (changed.state, changed.source) == (EntryState.COMPLETED, "a")
    assert not await worklist.change(key, lambda _: entry(8))
    with pytest.raises(InvalidEntryError, match="another one"):
        await worklist.change(entry(7).key, lambda _: entry(2))
    assert await worklist.get(entry(7).key) == changed


async def test_a_put_that_fails_leaves_nothing(database: Database) -> None:
    def fail(*_: object) -> None:
        if len(seen) == 1:
            raise InvalidEntryError("no")
        seen.append(1)

    seen: list[int] = []
    worklist = DatabaseWorklist(database, on_change=[fail])
    with pytest.raises(InvalidEntryError):
        await worklist.put([entry(1), entry(2)], source="a")
    assert await found(worklist) == []


# -- Performed steps ------------------------------------------------------------------


def performed(uid: str, state: StepState, step: Entry) -> PerformedStep:
    """A step that answers *step*, with nothing else in it."""
    identifier = build_identifier(
        [
            ("(0040,0270)[0].ScheduledProcedureStepID", step.key.step_id),
            ("(0040,0270)[0].AccessionNumber", step.key.accession_number),
            ("(0040,0270)[0].StudyInstanceUID", "1.2"),
        ],
        None,
        EXPLICIT_VR_LITTLE_ENDIAN,
    )
    return PerformedStep(
        sop_instance_uid=uid,
        state=state,
        source_ae_title="CT_01",
        created_at=1.0,
        changed_at=1.0,
        attributes=AttributeList.read(identifier, EXPLICIT_VR_LITTLE_ENDIAN),
    )


@pytest.mark.parametrize("discontinued", [EntryState.SCHEDULED, EntryState.DISCONTINUED])
async def test_entries_follow_what_is_performed(
    database: Database, discontinued: EntryState
) -> None:
    heard: list[EntryState] = []

    def note(_: object, before: object, after: StoredEntry | None) -> None:
        assert before is not None
        assert after is not None
        heard.append(after.state)

    worklist = DatabaseWorklist(database)
    steps = DatabaseSteps(
        database, on_change=[FollowSteps(discontinued, on_change=[note]).step_changed]
    )
    await worklist.put([entry(1), entry(2)], source="a")

    async def state() -> EntryState:
        stored = await worklist.get(entry(1).key)
        assert stored is not None
        return stored.state

    async def become(uid: str, to: StepState) -> EntryState:
        await steps.change(uid, lambda _: performed(uid, to, entry(1)), notify=(), as_ae_title="X")
        return await state()

    await steps.create(
        performed("1.1", StepState.IN_PROGRESS, entry(1)), notify=(), as_ae_title="X"
    )
    assert await state() is EntryState.STARTED
    assert await become("1.1", StepState.DISCONTINUED) is discontinued
    # The step is begun a second time, and in two parts.
    for uid in ("1.2", "1.3"):
        await steps.create(
            performed(uid, StepState.IN_PROGRESS, entry(1)), notify=(), as_ae_title="X"
        )
    assert await become("1.2", StepState.COMPLETED) is EntryState.STARTED
    assert await become("1.3", StepState.COMPLETED) is EntryState.COMPLETED
    assert heard == [
        EntryState.STARTED, discontinued, EntryState.STARTED, EntryState.COMPLETED,
    ]  # fmt: skip
    other = await worklist.get(entry(2).key)
    assert other is not None
    assert other.state is EntryState.SCHEDULED


# -- Questions against the matcher -----------------------------------------------------

STEP = "(0040,0100)[0]."
#: Values in the list, usual and unusual, and what is asked for them.
STATIONS = ("CT_01", "CT_02", "CT_01\\CT_02", "MR 1")
DATES = ("20261123", "20261124", "20261201", "2026.11.24")
TIMES = ("0930", "093000", "235959.5", "00")
PATIENTS = ("PAT1", "PAT2", "00PAT1")
KEYS = {
    f"{STEP}ScheduledStationAETitle": ("", "CT_01", "CT_*", "ct_01", "CT_01\\MR 1"),
    f"{STEP}Modality": ("", "CT", "MR", "CT\\MR", "C?"),
    f"{STEP}ScheduledProcedureStepStartDate": (
        "", "20261124", "20261124-", "-20261123", "20261123-20261124", "2026.11.24",
    ),
    f"{STEP}ScheduledProcedureStepStartTime": ("", "0930", "09-10", "1200-0800", "-2359"),
    "PatientID": ("", "PAT1", "PAT?", "PAT1\\PAT2", '""'),
    "AccessionNumber": ("", "A1", "*1", '""'),
    "StudyInstanceUID": ("", "1.2.1", "1.2.1\\1.2.2"),
}  # fmt: skip

entries = st.lists(
    st.tuples(
        st.sampled_from(STATIONS), st.sampled_from(["CT", "MR"]), st.sampled_from(DATES),
        st.sampled_from(TIMES), st.sampled_from(PATIENTS), st.sampled_from(["", "A1", "B1"]),
        st.sampled_from(["1.2.1", "1.2.2"]), st.sampled_from(ALL),
    ),
    max_size=8,
)  # fmt: skip
questions = st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in KEYS.items()})


def made(number: int, row: tuple[str, str, str, str, str, str, str, EntryState]) -> Entry:
    station, modality, date, time, patient, accession, study, _ = row
    return entry(
        number, station_ae=station, modality=modality, patient_id=patient,
        accession_no=accession, study_uid=study,
        attributes={
            f"{STEP}ScheduledProcedureStepStartDate": date,
            f"{STEP}ScheduledProcedureStepStartTime": time,
        },
    )  # fmt: skip


@given(entries, questions, st.sets(st.sampled_from(ALL), min_size=1))
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_the_database_answers_what_the_matcher_does(
    more_examples: Callable[[], bool],
    rows: list[tuple[str, str, str, str, str, str, str, EntryState]],
    question: dict[str, str],
    states: set[EntryState],
) -> None:
    async def check() -> None:
        if not more_examples():
            return
        async with open_database() as database:
            worklist = DatabaseWorklist(database)
            given = [made(number, row) for number, row in enumerate(rows)]
            await worklist.put(
                given,
                source="a",
                states={each.key: row[-1] for each, row in zip(given, rows, strict=True)},
            )
            everything = await found(worklist)
            assert len(everything) == len(rows)
            keys = keys_of(*question.items())
            expected = {
                each.number
                for each in everything
                if each.state in states and keys.matches(with_state(each))
            }
            answered = await found(worklist, *question.items(), states=tuple(states))
            assert {each.number for each in answered} == expected

    trio.run(check)
