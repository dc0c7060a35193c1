"""What objects that come cost in messages to PostgreSQL and back, and in statements."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from isocenter.services.archive.ports import AddOutcome, InstanceRecord
from isocenter.services.workflow.events.study_completion import CompletionRules
from isocenter.storage.database.postgresql.database import open_postgresql_database
from isocenter.storage.database.postgresql.opening import Place
from isocenter.storage.database.postgresql.pipeline import Pipeline
from isocenter.storage.stores import Stores, StoresOptions, join_stores
from support.postgresql import Server

DEADLINE = 60
#: As `serve` has it where several nodes share a folder.
OPTIONS = StoresOptions(completion=CompletionRules(), notes_keys=True, node="one")


def record(number: int, *, study: int = 1, series: int = 1) -> InstanceRecord:
    return InstanceRecord(
        sop_instance_uid=f"1.2.3.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        study_instance_uid=f"1.2.1.{study}",
        series_instance_uid=f"1.2.2.{study}.{series}",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        object_key=f"ab/1.2.3.{number}~00000001.dcm",
        size=1000,
        data_set_offset=350,
        digest=f"{number:064x}",
        attributes={0x00100020: f"ID{study}", 0x00080060: "CT"},
    )


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many messages were answered, and statements sent, from now on."""
    counted = Counter[str]()

    def count(method: str, what: str) -> None:
        original = getattr(Pipeline, method)

        def counting(self: Pipeline, *args: Any) -> Any:
            counted[what] += 1
            return original(self, *args)

        monkeypatch.setattr(Pipeline, method, counting)

    count("_receive", "answers")
    count("_send", "statements")
    return counted


@asynccontextmanager
async def archive(server: Server) -> AsyncIterator[Stores]:
    place = Place(server.conninfo(server.new_database()))
    with trio.fail_after(DEADLINE):
        async with open_postgresql_database(place) as database:
            yield join_stores(database, OPTIONS)


async def test_a_round_takes_three_messages_there_and_back(
    postgresql_server: Server, told: Counter[str]
) -> None:
    async with archive(postgresql_server) as stores:

        async def come(records: list[InstanceRecord]) -> Counter[str]:
            noted = await stores.staged_keys.announce(
                [(each.object_key, each.sop_instance_uid, each.digest) for each in records]
            )
            assert all(each.is_noted for each in noted)
            told.clear()
            added = await stores.index.add(records)
            assert [each.outcome for each in added] == [AddOutcome.ADDED] * len(records)
            return told.copy()

        await come([record(1), record(2, series=2), record(3, study=2)])
        # What they are about is asked, it is written, it is committed.
        one = await come([record(4)])
        assert one["answers"] == 3
        some = await come([record(5), record(6, series=2), record(7, study=2), record(8)])
        assert some["answers"] == 3
        # Beside what a transaction costs, an object is asked for, and its place; it is written with
        # all counts; its study is asked for and changed; an event tells of it.
        assert one["statements"] <= 14
        assert some["statements"] <= 14 + 3 * 6
        assert await stores.index.check() == []
        statistics = await stores.index.statistics()
        assert (statistics.studies, statistics.series, statistics.instances) == (2, 3, 8)


async def test_keys_are_noted_in_two_messages_after_asking_for_their_objects(
    postgresql_server: Server, told: Counter[str]
) -> None:
    async with archive(postgresql_server) as stores:
        await stores.staged_keys.begin(["first"])
        told.clear()
        wanted = [(key, f"1.2.{number}", "0" * 64) for number, key in enumerate(("first", "b"))]
        noted = await stores.staged_keys.announce(wanted)
        assert [each.is_noted for each in noted] == [False, True]
        assert told["answers"] == 2
