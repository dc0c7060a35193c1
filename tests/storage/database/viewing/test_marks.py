"""Contract of the ports that keep marks, states of viewers and studies seen, on each database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from isocenter.services.archive.deletion.ports import DeletionRecord, TrashChoice
from isocenter.services.archive.deletion.records import DeletionCause
from isocenter.services.archive.ports import InstanceRecord
from isocenter.services.viewing.ports import (
    Mark,
    MarkChoice,
    MarkKind,
    RecentStudy,
    ViewerState,
)
from isocenter.storage.stores import Stores, join_stores
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")

CT = "1.2.840.10008.5.1.4.1.1.2"
ANNOTATION, KEY_IMAGE = MarkKind.ANNOTATION, MarkKind.KEY_IMAGE


def record(study: int, number: int) -> InstanceRecord:
    return InstanceRecord(
        sop_instance_uid=f"1.{study}.1.{number}",
        sop_class_uid=CT,
        study_instance_uid=f"1.{study}",
        series_instance_uid=f"1.{study}.1",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        object_key=f"{study}-{number}.dcm",
        size=100,
        data_set_offset=10,
        digest="0" * 64,
        attributes={0x00100020: "P1", 0x00080060: "CT"},
    )


def mark(mark_id: str, image: str = "1.1.1.1", **changes: object) -> Mark:
    made = Mark(
        mark_id=mark_id,
        kind=ANNOTATION,
        form="arrow",
        sop_instance_uid=image,
        frame_number=1,
        author="alice",
        content='{"text":"Größe"}',
        created_at=10.0,
        changed_at=10.0,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
async def stores() -> AsyncIterator[Stores]:
    async with open_database() as database:
        opened = join_stores(database)
        await opened.index.add([record(study, number) for study in (1, 2) for number in (1, 2)])
        yield opened


async def delete(stores: Stores, *records: InstanceRecord) -> None:
    deletion = DeletionRecord(
        deletion_id="d1", cause=DeletionCause.REQUESTED, at=1.0, purge_at=2.0, actor="bob",
        reason="asked to",
    )  # fmt: skip
    taken = await stores.trash.take(deletion, records, overrule=False)
    assert taken == len(records)
    await stores.trash.settle([one.number for one in await stores.trash.unfinished(9)])


async def chosen_ids(stores: Stores, **choice: object) -> list[str]:
    asked = MarkChoice(**{"kind": ANNOTATION, **choice})  # type: ignore[arg-type]
    found, total = await stores.marks.chosen(asked, limit=100)
    assert total == len(found)
    return [one.mark_id for one in found]


# -- Marks --------------------------------------------------------------------------------


async def test_a_mark_comes_back_with_the_study_of_its_image(stores: Stores) -> None:
    kept = await stores.marks.add(mark("a"))
    assert kept == mark(
        "a", study_instance_uid="1.1", series_instance_uid="1.1.1", sop_class_uid=CT
    )
    assert await stores.marks.find(ANNOTATION, "a") == kept
    assert await stores.marks.find(KEY_IMAGE, "a") is None
    assert await stores.marks.find(ANNOTATION, "b") is None


async def test_an_image_that_is_not_there_cannot_be_marked(stores: Stores) -> None:
    assert await stores.marks.add(mark("a", "1.9.9")) is None
    assert await chosen_ids(stores) == []


async def test_marks_are_chosen_by_all_that_is_asked_for(stores: Stores) -> None:
    for one in (
        mark("a"),
        mark("b", "1.1.1.2", author="bob"),
        mark("c", "1.2.1.1", form="line", created_at=5.0),
        mark("d", kind=KEY_IMAGE, form="113000"),
    ):
        await stores.marks.add(one)
    assert await chosen_ids(stores) == ["c", "a", "b"]
    assert await chosen_ids(stores, kind=KEY_IMAGE) == ["d"]
    assert await chosen_ids(stores, study_instance_uid="1.1") == ["a", "b"]
    assert await chosen_ids(stores, series_instance_uid="1.2.1") == ["c"]
    assert await chosen_ids(stores, sop_instance_uid="1.1.1.2") == ["b"]
    assert await chosen_ids(stores, author="alice", form="arrow") == ["a"]
    assert await chosen_ids(stores, mark_ids=("b", "c", "x")) == ["c", "b"]
    found, total = await stores.marks.chosen(MarkChoice(kind=ANNOTATION), limit=1, offset=1)
    assert ([one.mark_id for one in found], total) == (["a"], 3)
    place = found[0].created_at, found[0].mark_id
    found, total = await stores.marks.chosen(MarkChoice(kind=ANNOTATION), limit=9, after=place)
    assert ([one.mark_id for one in found], total) == (["b"], 3)


async def test_a_change_counts_only_for_the_version_that_was_seen(stores: Stores) -> None:
    kept = await stores.marks.add(mark("a"))
    assert kept is not None
    changed = replace(kept, content="{}", form="line", frame_number=2, changed_at=20.0)
    assert await stores.marks.change(changed) == replace(changed, version=2)
    assert await stores.marks.change(changed) is None
    assert await stores.marks.change(replace(changed, mark_id="b")) is None
    assert not await stores.marks.remove("a", 1)
    assert await stores.marks.remove("a", 2)
    assert not await stores.marks.remove("a")


async def test_marks_go_into_the_trash_with_their_image_and_come_back(stores: Stores) -> None:
    await stores.marks.add(mark("a"))
    await stores.marks.add(mark("b", "1.1.1.2"))
    await delete(stores, record(1, 1))
    assert await chosen_ids(stores) == ["b"]
    assert await stores.marks.find(ANNOTATION, "a") is None
    (row,) = await stores.trash.chosen(TrashChoice(), limit=9)
    await stores.trash.begin_return({row.number: "1-1.dcm"}, "bob")
    assert await stores.trash.give_back({row.number: record(1, 1)})
    await stores.trash.forget([row.number])
    assert await chosen_ids(stores) == ["a", "b"]


async def test_what_is_purged_takes_what_was_noted_on_it_along(stores: Stores) -> None:
    await stores.marks.add(mark("a"))
    await stores.marks.add(mark("b", "1.2.1.1"))
    await stores.viewer_states.add(state("s"), most=9)
    await stores.recent_studies.note([("alice", RecentStudy(
        study_instance_uid="1.1", accessed_at=1.0))], most=9)  # fmt: skip
    await delete(stores, record(1, 1), record(1, 2))
    numbers = [one.number for one in await stores.trash.chosen(TrashChoice(), limit=9)]
    await stores.trash.purge(numbers, "bob")
    await stores.trash.forget(numbers)
    await stores.index.add([record(1, 1)])  # somebody sends it once more
    assert await chosen_ids(stores) == ["b"]
    assert await stores.viewer_states.find("s") is None
    assert await stores.recent_studies.of("alice", limit=9) == []


# -- States of viewers --------------------------------------------------------------------


def state(state_id: str, study: str = "1.1", **changes: object) -> ViewerState:
    made = ViewerState(
        state_id=state_id, study_instance_uid=study, author="alice", content="{}", created_at=1.0
    )
    return replace(made, **changes)  # type: ignore[arg-type]


async def test_the_last_states_of_a_person_are_kept(stores: Stores) -> None:
    states = stores.viewer_states
    for number in range(4):
        assert await states.add(state(str(number), created_at=float(number)), most=3)
    assert await states.add(state("b", author="bob"), most=3)
    assert not await states.add(state("x", "1.9"), most=3)
    assert [one.state_id for one in await states.chosen(author="alice", limit=9)] == ["3", "2", "1"]
    assert [one.state_id for one in await states.chosen(author="alice", limit=1)] == ["3"]
    assert await states.chosen(author="alice", study_instance_uid="1.2", limit=9) == []
    assert await states.find("b") == state("b", author="bob")
    assert await states.remove("b")
    assert not await states.remove("b")


# -- Studies seen -------------------------------------------------------------------------


async def test_studies_seen_last_come_first(stores: Stores) -> None:
    def seen(user: str, study: str, at: float) -> tuple[str, RecentStudy]:
        return user, RecentStudy(study_instance_uid=study, accessed_at=at)

    recent = stores.recent_studies
    await recent.note([seen("alice", "1.1", 5.0), seen("alice", "1.2", 6.0)], most=9)
    await recent.note([seen("alice", "1.1", 7.0), seen("bob", "1.1", 1.0)], most=9)
    await recent.note([seen("alice", "1.1", 2.0)], most=9)  # of another process, told late
    found = await recent.of("alice", limit=9)
    assert [(one.study_instance_uid, one.accessed_at) for one in found] == [
        ("1.1", 7.0), ("1.2", 6.0),
    ]  # fmt: skip
    assert [one.study_instance_uid for one in await recent.of("alice", limit=1)] == ["1.1"]
    await recent.note([seen("alice", "1.2", 8.0)], most=1)
    assert [one.study_instance_uid for one in await recent.of("alice", limit=9)] == ["1.2"]
    await delete(stores, record(2, 1), record(2, 2))
    assert await recent.of("alice", limit=9) == []


async def test_the_marks_of_a_study_are_found_from_its_images(stores: Stores) -> None:
    """Not by going through those of all studies in their order."""
    for number in range(50):
        await stores.marks.add(mark(f"x{number}", "1.2.1.1", created_at=float(number)))
    await stores.marks.add(mark("a", "1.1.1.2", created_at=99.0))
    assert await chosen_ids(stores, study_instance_uid="1.1") == ["a"]
    assert len(await chosen_ids(stores, study_instance_uid="1.2")) == 50
    assert await chosen_ids(stores, sop_instance_uid="1.1.1.2", form="arrow") == ["a"]
