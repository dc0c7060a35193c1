"""Limits of destinations in the database."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isocenter.services.hours import parse_hours
from isocenter.services.workflow.nodes.limits import DestinationLimit
from isocenter.storage.database.destination_limits import DatabaseLimits
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")


async def test_limits_are_kept_and_holding_is_a_matter_of_its_own() -> None:
    async with open_database() as database:
        book = DatabaseLimits(database, now=lambda: 7.0)
        wanted = DestinationLimit(
            destination="PACS",
            associations=1,
            bandwidth=10_000_000_000,
            hours=parse_hours("mon-fri 20:00-06:00"),
        )
        await book.set_limit(wanted)
        assert await book.limits() == [wanted]
        assert not await book.hold("PACS", is_held=False)
        assert await book.hold("PACS", is_held=True)
        assert not await book.hold("PACS", is_held=True)
        await book.set_limit(replace(wanted, associations=2, is_held=False))
        assert await book.limits() == [replace(wanted, associations=2, is_held=True)]
        assert await book.hold("PACS", is_held=False)
        assert await book.limits() == [replace(wanted, associations=2, released_at=7.0)]
        assert await book.hold("OTHER", is_held=True)
        assert [one.destination for one in await book.limits()] == ["OTHER", "PACS"]
