"""Mappings of de-identified UIDs in a database: kept, and found in both directions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isocenter.services.archive.deidentification.ports import (
    DeidentificationMapping,
    MappingConflictError,
)
from isocenter.storage.database.deidentification import DatabaseDeidentificationMapping
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")


@pytest.fixture
async def mapping(tmp_path: Path) -> AsyncIterator[DeidentificationMapping]:
    async with open_database(tmp_path / "index.db") as database:
        yield DatabaseDeidentificationMapping(database)


async def test_pairs_are_found_in_both_directions_by_project(
    mapping: DeidentificationMapping,
) -> None:
    assert await mapping.add("a", [("1.2", "2.25.1"), ("1.3", "2.25.2")]) == 2
    assert await mapping.add("a", [("1.2", "2.25.1"), ("1.4", "2.25.3")]) == 1
    assert await mapping.add("a", [("1.2", "2.25.1")]) == 0
    assert await mapping.add("b", [("1.2", "2.25.1")]) == 1
    assert await mapping.pseudonyms("a", ["1.2", "1.9", "1.4"]) == {
        "1.2": "2.25.1", "1.4": "2.25.3",
    }  # fmt: skip
    assert await mapping.pseudonyms("a", []) == {}
    assert await mapping.original("a", "2.25.3") == "1.4"
    assert await mapping.original("b", "2.25.3") is None
    assert await mapping.count("a") == 3
    assert list(await mapping.page("a", "1.2", 1)) == [("1.3", "2.25.2")]
    assert list(await mapping.page("a", "1.4", 9)) == []


async def test_many_are_looked_up_at_once(mapping: DeidentificationMapping) -> None:
    pairs = {f"1.2.{number}": f"2.25.{number}" for number in range(1_001)}
    assert await mapping.add("a", pairs.items()) == 1_001
    assert await mapping.pseudonyms("a", pairs) == pairs


@pytest.mark.parametrize("pair", [("1.2", "2.25.9"), ("1.9", "2.25.1")])
async def test_what_contradicts_is_refused_as_a_whole(
    mapping: DeidentificationMapping, pair: tuple[str, str]
) -> None:
    await mapping.add("a", [("1.2", "2.25.1")])
    with pytest.raises(MappingConflictError):
        await mapping.add("a", [("1.5", "2.25.5"), pair])
    assert await mapping.count("a") == 1
