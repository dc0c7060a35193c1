"""Rules of retention: what they may be, what they delete, and what they leave alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from isocenter.services.archive.deletion.records import DeletionCause
from isocenter.services.archive.retention.fullness import Fullness
from isocenter.services.archive.retention.last_use import WRITE_SECONDS, UseRecorder
from isocenter.services.archive.retention.rules import RetentionRule
from isocenter.services.archive.retention.service import keep_to, look
from isocenter.services.notices import Caller, InstancesSent
from isocenter.services.settings.retention_rules import (
    RETENTION_RULES,
    RetentionFault,
    parse_retention_rule,
)
from isocenter.services.testing.clocks import patient_clock
from isocenter.storage.database.retention import DatabaseRetention
from services.archive.test_deleting import ask_for_commitment, events, instance, place, queue, write
from services.archive_support import data_set, store, uid

NOW = 1_800_000_000.0
RULE = RetentionRule(name="old", study_days=365)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("x", "each rule of retention is a table"),
        ({}, "needs a name"),
        ({"name": "a" * 65}, "needs a name"),
        ({"name": "r"}, "say what is past its time"),
        ({"name": "r", "modalities": ["US"]}, "say what is past its time"),
        ({"name": "r", "days": 5}, "there is no 'days'; there are although_promised, "),
        ({"name": "r", "study_days": 0}, "study_days is a whole number from 1 to 36500"),
        ({"name": "r", "study_days": True}, "study_days is a whole number"),
        ({"name": "r", "keep_newest": 1.5}, "keep_newest is a whole number from 1 to 10000"),
        ({"name": "r", "disk_percent": 100}, "disk_percent is a whole number from 1 to 99"),
        ({"name": "r", "study_days": 1, "modalities": "US"}, "modalities is a list"),
        ({"name": "r", "study_days": 1, "modalities": ["us"]}, "modalities is a list"),
        ({"name": "r", "study_days": 1, "modalities": []}, "modalities is empty"),
        ({"name": "r", "study_days": 1, "although_promised": 1}, "true or false"),
    ],
)
def test_a_rule_that_cannot_be_says_why(table: Any, words: str) -> None:
    with pytest.raises(RetentionFault) as caught:
        parse_retention_rule(table)
    assert words in str(caught.value)


def test_rules_are_written_as_they_are_read() -> None:
    kind = RETENTION_RULES
    text = (
        '[{ name = "a", modalities = ["US", "XA"], study_days = 3650, keep_newest = 2, '
        'although_promised = true }, { name = "b", unused_days = 30, disk_percent = 85 }]'
    )
    rules = kind.from_text(text)
    assert kind.to_toml(rules) == text
    assert rules[0].although_promised
    with pytest.raises(RetentionFault, match="have the name"):
        kind.from_text('[{ name = "a", study_days = 1 }, { name = "a", study_days = 2 }]')
    with pytest.raises(RetentionFault, match="not TOML"):
        kind.from_text("[{ name = ]")


@pytest.fixture
def clock() -> Iterator[trio.testing.MockClock]:
    with patient_clock(0.05) as clock:
        yield clock


async def test_what_is_past_its_time_goes_so_many_a_minute(
    tmp_path: Path, clock: trio.testing.MockClock
) -> None:
    async with place(tmp_path, now=NOW) as here:
        for number in range(1, 6):
            study = f"1.5.{number}"
            await store(here.archive, number, data_set(number, study=study, series=f"{study}.1"))
        fresh = data_set(9, study="1.5.9", series="1.5.9.1", study_date="20270101")
        await store(here.archive, 9, fresh)
        await ask_for_commitment(here.database, 1)
        write(tmp_path, "UPDATE commitment SET state = 'success'")
        write(tmp_path, "UPDATE commitment_reference SET failure_reason = 0")
        queue(tmp_path, 2, "due")
        write(tmp_path, "INSERT INTO study_hold VALUES ('1.5.3', 'x', 'y', 0)")
        async with trio.open_nursery() as nursery:

            async def duty(rule: RetentionRule) -> None:
                await keep_to(
                    lambda: [rule],
                    DatabaseRetention(here.database),
                    here.trash,
                    studies_per_minute=1,
                    now=lambda: NOW,
                )

            nursery.start_soon(duty, RULE)
            await trio.sleep(50)
            assert len(await here.instances()) == 5
            await trio.sleep(300)
            kept = {uid(n) for n in (1, 2, 3, 9)}
            assert await here.instances() == kept
            nursery.cancel_scope.cancel()
        rows = await here.trash.book.rows()
        assert {row.deletion.cause for row in rows} == {DeletionCause.RETENTION}
        assert {row.deletion.reason for row in rows} == {"retention rule old"}
        async with trio.open_nursery() as nursery:
            brave = RetentionRule(name="old", study_days=365, although_promised=True)
            nursery.start_soon(duty, brave)
            await trio.sleep(300)
            assert await here.instances() == {uid(n) for n in (2, 3, 9)}
            nursery.cancel_scope.cancel()
        await here.check()
    assert events(tmp_path).count(("instances.deleted", "1.5.4")) == 1


async def test_a_rule_that_is_switched_off_deletes_no_more(
    tmp_path: Path, clock: trio.testing.MockClock
) -> None:
    async with place(tmp_path, now=NOW) as here:
        for number in (1, 2):
            study = f"1.5.{number}"
            await store(here.archive, number, data_set(number, study=study, series=f"{study}.1"))
        rules = [RULE]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(
                    keep_to,
                    lambda: rules,
                    DatabaseRetention(here.database),
                    here.trash,
                    studies_per_minute=1,
                    now=lambda: NOW,
                )
            )
            await trio.sleep(50)
            assert len(await here.instances()) == 1
            rules.clear()
            await trio.sleep(300)
            nursery.cancel_scope.cancel()
        assert len(await here.instances()) == 1


class Book:
    def __init__(self) -> None:
        self.written: list[list[str]] = []

    async def note_use(self, studies: Any, now: float) -> None:
        self.written.append(sorted(studies))


def sent(command: str, *studies: str) -> InstancesSent:
    return InstancesSent(
        caller=Caller(association="a", address="127.0.0.1:1"),
        command=command,
        destination="WS",
        destination_address="127.0.0.1:2",
        studies=dict.fromkeys(studies, 1),
        sop_classes=frozenset(),
        completed=1,
        failed=0,
        warning=0,
        status=0,
    )


async def test_a_study_that_is_used_all_day_costs_one_row(
    autojump_clock: trio.testing.MockClock,
) -> None:
    book = Book()
    day = 0.0
    recorder = UseRecorder(book, now=lambda: day * 86_400 + trio.current_time())  # type: ignore[arg-type]
    recorder.on_notice(sent("C-STORE", "9"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recorder.run)
        # Between two writings: which of two tasks that wake at one moment comes first is open.
        await trio.sleep(WRITE_SECONDS / 2)
        for _ in range(3):
            recorder.on_notice(sent("C-GET", "1", "2"))
            recorder.on_notice(sent("C-MOVE", "2"))
            await trio.sleep(WRITE_SECONDS)
        assert book.written == [["1", "2"]]
        day = 1.0
        recorder.on_notice(sent("C-GET", "1"))
        await trio.sleep(2 * WRITE_SECONDS)
        assert book.written[-2:] == [[], ["1"]]
        nursery.cancel_scope.cancel()


# -- Disk level -------------------------------------------------------------------------


BY_LEVEL = RetentionRule(name="room", disk_percent=80)


async def _five(here: Any) -> list[int]:
    """Five studies, of which the second was used; the size of each."""
    for number in range(1, 6):
        study = f"1.5.{number}"
        await store(here.archive, number, data_set(number, study=study, series=f"{study}.1"))
    await DatabaseRetention(here.database).note_use(["1.5.2"], NOW)
    rows = await DatabaseRetention(here.database).candidates(BY_LEVEL, NOW, limit=9)
    assert [row.study_instance_uid for row in rows] == [f"1.5.{n}" for n in (1, 3, 4, 5, 2)]
    return [row.size for row in rows]


async def test_a_rule_about_the_disk_takes_no_more_than_is_too_much(
    tmp_path: Path, clock: trio.testing.MockClock
) -> None:
    async with place(tmp_path, now=NOW) as here:
        sizes = await _five(here)
        write(tmp_path, "INSERT INTO study_hold VALUES ('1.5.1', 'x', 'y', 0)")
        asked: list[int] = []

        async def excess(percent: int) -> int:
            asked.append(percent)
            gone = 5 - len(await here.instances())
            return 2 * sizes[0] - 1 - gone * sizes[0]

        found = await look(
            BY_LEVEL, DatabaseRetention(here.database), here.trash, excess, NOW, limit=9
        )
        # Which is held is no candidate at all.
        assert [each.study_instance_uid for each in found.going] == ["1.5.3", "1.5.4"]
        assert (found.size, found.is_cut) == (2 * sizes[0], False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(
                    keep_to,
                    lambda: [BY_LEVEL],
                    DatabaseRetention(here.database),
                    here.trash,
                    studies_per_minute=10,
                    excess=excess,
                    now=lambda: NOW,
                )
            )
            await trio.sleep(300)
            nursery.cancel_scope.cancel()
        assert await here.instances() == {uid(n) for n in (1, 2, 5)}
        assert set(asked) == {80}


async def test_what_is_promised_does_not_stop_a_rule_about_the_disk(tmp_path: Path) -> None:
    async with place(tmp_path, now=NOW) as here:
        sizes = await _five(here)
        await ask_for_commitment(here.database, 1)
        write(tmp_path, "UPDATE commitment SET state = 'success'")
        write(tmp_path, "UPDATE commitment_reference SET failure_reason = 0")

        async def excess(_: int) -> int:
            return sizes[0]

        book = DatabaseRetention(here.database)
        found = await look(BY_LEVEL, book, here.trash, excess, NOW, limit=9)
        assert [each.study_instance_uid for each in found.going] == ["1.5.3"]
        assert [each.study_instance_uid for each, _ in found.kept] == ["1.5.1"]


async def test_fullness_counts_what_lies_in_the_trash_as_gone(tmp_path: Path) -> None:
    async with place(tmp_path, now=NOW) as here:
        sizes = await _five(here)
        all_of_it = sum(sizes)
        book = here.trash.book
        fullness = Fullness(here.archive.index, book, folder=None, quota=all_of_it)
        assert await fullness.excess(100) == 0
        assert await fullness.excess(50) == all_of_it - all_of_it // 2
        await here.delete(instance(1), cause=DeletionCause.QUARANTINED)
        assert await fullness.excess(100) == 0
        await here.delete(instance(2))
        assert await fullness.excess(100) == -sizes[0]
        on_disk = Fullness(here.archive.index, book, folder=tmp_path)
        assert await on_disk.excess(99) < await on_disk.excess(1)
