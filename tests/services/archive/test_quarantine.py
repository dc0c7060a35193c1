"""Quarantine: what is kept, byte for byte, and nobody finds until somebody releases it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from isocenter.services import composition
from isocenter.services.archive.deletion.ports import (
    DeletionRefusedError,
    StudyHold,
    TrashChoice,
)
from isocenter.services.archive.deletion.records import DeletionCause
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.archive.rules.evaluation import Rules
from isocenter.services.archive.store_answers import StoreOutcome
from isocenter.services.composition.archive import ArchiveParts
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.rules import parse_rule
from isocenter.services.workflow.events.ports import EventSelection
from services.archive_support import STUDY, data_set, data_set_of, store, uid

ADMIN = Requester(name="root@here")
WHOLE_STUDY = Query(level=Level.STUDY, criteria=(Criterion(0x0020000D, SingleValue(STUDY)),))
QUARANTINED = (DeletionCause.QUARANTINED,)
ALL = TrashChoice(causes=QUARANTINED)
RULES = """
[[rules]]
name = "strangers"
when = { patient_id = "" }
quarantine = "no Patient ID"

[[rules]]
name = "on"
forward = "ELSEWHERE"

[[peers]]
ae_title = "ELSEWHERE"
host = "127.0.0.1"
port = 104
"""
NAMELESS = data_set(7, patient_id="")


class Place:
    def __init__(self, parts: ArchiveParts, trash: Trash) -> None:
        self.parts = parts
        self.archive = parts.archive
        self.trash = trash

    async def found(self) -> list[str]:
        async with self.archive.index.instances() as blocks:
            return sorted([one.sop_instance_uid async for block in blocks for one in block])

    async def kinds(self) -> list[str]:
        rows = await self.parts.stores.event_log.events(EventSelection(limit=100))
        return [row.kind for row in sorted(rows, key=lambda row: row.number)]

    async def due(self) -> list[str]:
        claimed = await self.parts.stores.forwards.take("ELSEWHERE", 100)
        return sorted(one.sop_instance_uid for one in claimed)

    async def quarantine(self) -> str:
        plan = await self.trash.plan(WHOLE_STUDY)
        done = await self.trash.delete(plan, ADMIN, "whose is it?", cause=DeletionCause.QUARANTINED)
        return done.deletion_id

    async def reasons(self) -> Sequence[tuple[str, str, int]]:
        rows = await self.trash.book.rows(QUARANTINED)
        return [(row.deletion.reason, row.deletion.actor, row.instances) for row in rows]


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Place]:
    config = folder / "isocenter.toml"
    config.write_text(RULES)
    arguments = {"storage.data_dir": str(folder / "data")}
    settings = load_settings(config, {}, arguments)
    async with composition.open_archive_parts(settings) as parts:
        trash = composition.trash_of(settings, parts, "a test")
        assert trash is not None
        yield Place(parts, trash)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with opened(tmp_path) as found:
        yield found


async def test_what_a_rule_quarantines_is_never_found_and_kept_as_it_came(place: Place) -> None:
    await store(place.archive, 1)
    result = await store(place.archive, 7, NAMELESS)
    assert (result.outcome, result.status) == (StoreOutcome.QUARANTINED, 0)
    assert await place.found() == [uid(1)]
    assert (await place.archive.index.statistics()).patients == 1
    assert await place.due() == [uid(1)]
    assert await place.reasons() == [("no Patient ID", "", 1)]
    await place.trash.finish()
    (row,) = await place.trash.book.chosen(ALL, limit=9)
    async with await place.trash.files.open(row.deletion_id, row.stored.object_key) as reader:
        assert await reader.read(row.stored.data_set_offset, reader.size) == NAMELESS
    assert not await place.trash.book.chosen(TrashChoice(), limit=9)
    assert not await place.trash.book.rows()
    statistics = await place.trash.book.statistics()
    assert (statistics.quarantined, statistics.deleted) == (1, 0)


async def test_what_is_released_is_found_and_goes_the_way_of_what_arrives(place: Place) -> None:
    await store(place.archive, 7, NAMELESS)
    before = await place.kinds()
    assert before == ["instances.deleted"]
    await place.trash.finish()
    done = await place.trash.restore(ALL, ADMIN)
    assert done.instances == 1
    assert await place.found() == [uid(7)]
    known = await place.archive.index.get([uid(7)])
    assert await data_set_of(place.archive, known[uid(7)]) == NAMELESS
    assert await place.due() == [uid(7)]
    assert (await place.kinds())[1:] == ["study.opened", "series.opened", "instance.stored"]
    assert not await place.trash.book.rows(QUARANTINED)
    # Sent once more, it is what the archive has.
    assert (await store(place.archive, 7, NAMELESS)).outcome is StoreOutcome.ALREADY_STORED


async def test_what_is_released_is_kept_in_the_form_that_rules_want(place: Place) -> None:
    compressions = place.parts.stores.compressions
    rules = [
        {"name": "strangers", "when": {"patient_id": ""}, "quarantine": "no Patient ID"},
        {"name": "small", "compress": "jpeg-ls"},
        {"name": "sealed", "sign": True},
    ]
    place.archive.exchange_rules(Rules([parse_rule(rule) for rule in rules]))
    await store(place.archive, 7, NAMELESS)
    await place.trash.finish()
    assert await compressions.due(9) == []
    await place.trash.restore(ALL, ADMIN)
    (job,) = await compressions.due(9)
    assert (job.sop_instance_uid, job.rule, job.signs) == (uid(7), "small", True)
    # Another object of that UID is doubtful; what is to become of the first one stays.
    place.archive.exchange_rules(Rules([parse_rule(rules[0] | {"when": {}, "sign": True})]))
    other = data_set(7, patient_id="X", study="1.9")
    assert (await store(place.archive, 7, other)).outcome is StoreOutcome.QUARANTINED
    assert await compressions.due(9) == [job]
    (row,) = await compressions.rows(limit=9)
    assert (row.rule, row.transfer_syntax_uid) == ("small", "1.2.840.10008.1.2.4.80")


async def test_what_is_sent_again_stays_in_quarantine_once(place: Place) -> None:
    await store(place.archive, 7, NAMELESS)
    assert (await store(place.archive, 7, NAMELESS)).outcome is StoreOutcome.QUARANTINED
    assert await place.reasons() == [("no Patient ID", "", 1)]
    await place.trash.finish()
    assert (await store(place.archive, 7, NAMELESS)).outcome is StoreOutcome.QUARANTINED
    assert await place.reasons() == [("no Patient ID", "", 1)]
    # Another object of that name is as doubtful.
    assert (await store(place.archive, 7)).outcome is StoreOutcome.QUARANTINED
    assert await place.reasons() == [("no Patient ID", "", 1)] * 2
    await place.trash.finish()
    assert len(await place.trash.book.chosen(ALL, limit=9)) == 2
    assert not (await place.trash.verify()).count
    assert await place.found() == []


async def test_a_person_quarantines_and_releases_a_study(place: Place) -> None:
    for number in (1, 2):
        await store(place.archive, number)
    name = await place.quarantine()
    assert await place.found() == []
    assert await place.due() == []
    assert await place.parts.stores.forwards.due() == []
    assert await place.reasons() == [("whose is it?", "root@here", 2)]
    # Whoever sends it once more does not bring it back.
    assert (await store(place.archive, 1)).outcome is StoreOutcome.QUARANTINED
    assert await place.found() == []
    done = await place.trash.restore(TrashChoice(deletion_ids=(name,), causes=QUARANTINED), ADMIN)
    assert done.instances == 2
    assert await place.found() == [uid(1), uid(2)]
    assert await place.due() == [uid(1), uid(2)]
    assert (await place.kinds())[-2:] == ["instances.deleted", "instances.restored"]


async def test_what_is_quarantined_neither_expires_nor_is_emptied_with_the_trash(
    place: Place,
) -> None:
    await store(place.archive, 1)
    await place.quarantine()
    assert await place.trash.purge(TrashChoice(expired_at=4e9), ADMIN) == 0
    expired = TrashChoice(expired_at=4e9, causes=tuple(DeletionCause))
    assert await place.trash.purge(expired, ADMIN) == 0
    assert await place.reasons() == [("whose is it?", "root@here", 1)]


async def test_what_is_deleted_from_quarantine_lies_in_the_trash(place: Place) -> None:
    await store(place.archive, 1)
    name = await place.quarantine()
    with pytest.raises(ValueError, match="has a reason"):
        await place.trash.discard(name, ADMIN, " ")
    assert await place.trash.discard(name, ADMIN, "a test scan") == 1
    assert await place.trash.discard(name, ADMIN, "a test scan") == 0
    assert await place.reasons() == []
    (row,) = await place.trash.book.rows()
    assert (row.deletion.reason, row.deletion.cause) == ("a test scan", DeletionCause.REQUESTED)
    assert row.deletion.purge_at < 4e9
    (forward,) = await place.parts.stores.forwards.rows(limit=9)
    assert forward.state.value == "failed"
    await place.trash.restore(TrashChoice(deletion_ids=(name,)), ADMIN)
    assert await place.found() == [uid(1)]


async def test_what_is_held_is_quarantined_but_not_deleted_from_there(place: Place) -> None:
    await store(place.archive, 1)
    hold = StudyHold(study_instance_uid=STUDY, reason="case 17", actor="someone", at=1.0)
    await place.parts.stores.holds.add(hold)
    name = await place.quarantine()
    with pytest.raises(DeletionRefusedError, match="held"):
        await place.trash.discard(name, ADMIN, "a test scan")
    assert await place.reasons() == [("whose is it?", "root@here", 1)]


async def test_what_was_quarantined_before_a_crash_is_so_after_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        await store(place.archive, 7, NAMELESS)
    async with opened(tmp_path) as place:
        assert await place.found() == []
        (row,) = await place.trash.book.chosen(ALL, limit=9)
        async with await place.trash.files.open(row.deletion_id, row.stored.object_key) as reader:
            assert reader.size == row.stored.size
        assert not (await place.trash.verify()).count
        await place.trash.restore(ALL, ADMIN)
        assert await place.found() == [uid(7)]


async def test_the_trash_keeps_what_is_held(place: Place) -> None:
    await store(place.archive, 1)
    await place.trash.delete(await place.trash.plan(WHOLE_STUDY), ADMIN, "x", overrule=True)
    hold = StudyHold(study_instance_uid=STUDY, reason="case 17", actor="someone", at=1.0)
    await place.parts.stores.holds.add(hold)
    expired = TrashChoice(expired_at=4e9)
    assert await place.trash.purge(expired, ADMIN) == 0
    await place.parts.stores.holds.remove(STUDY)
    assert await place.trash.purge(expired, ADMIN) == 1
