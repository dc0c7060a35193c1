"""How long a C-FIND may take, and what is told of how it ended."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
import trio

from isocenter.services import STUDY_ROOT_FIND, studies
from isocenter.services.archive.corrections.values import PatientKey
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Query
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.errors import OperationError
from isocenter.services.notices import Caller, Notice, Notices, QueryAnswered
from isocenter.services.service_classes.query_retrieve.find_scp import FindScp
from isocenter.services.service_classes.query_retrieve.information_models import QueryOptions
from isocenter.services.service_classes.storage.scp import StorageScp
from isocenter.services.testing import SyntheticData, associated, open_test_archive
from isocenter.services.testing.clocks import patient_clock
from isocenter.services.testing.synthetic_data import CT_IMAGE_STORAGE

CONTEXTS = [(uid, BASIC_SYNTAXES) for uid in (CT_IMAGE_STORAGE, STUDY_ROOT_FIND)]
SLOW_SECONDS = 5.0


@pytest.fixture
def clock() -> Iterator[trio.testing.MockClock]:
    with patient_clock() as clock:
        yield clock


class SlowIndex:
    """An index that takes a while between one match and the next."""

    def __init__(self, index: Any) -> None:
        self._index = index

    @asynccontextmanager
    async def find(self, query: Query) -> AsyncIterator[AsyncIterator[Sequence[Mapping[int, str]]]]:
        async def one_by_one() -> AsyncGenerator[Sequence[Mapping[int, str]], None]:
            async with self._index.find(query) as blocks:
                async for block in blocks:
                    for match in block:
                        yield [match]
                        await trio.sleep(SLOW_SECONDS)

        async with aclosing(one_by_one()) as matches:
            yield matches


class SlowLinks:
    """Links that take a while to be looked up."""

    async def linked(self, patient_id: str, issuer: str | None) -> Sequence[PatientKey]:
        await trio.sleep(10 * SLOW_SECONDS)
        return []


class SlowAvailabilities:
    """Availabilities that take a while to be looked up."""

    async def shown(
        self, level: Level, block: Sequence[Mapping[int, str]]
    ) -> Sequence[Mapping[int, str]]:
        await trio.sleep(10 * SLOW_SECONDS)
        return block


async def asked(
    max_seconds: float, *, wanted: int = 10, key: str = "", availabilities: Any = None
) -> tuple[int, QueryAnswered, str]:
    """Matches of three, what was told, and why there were no more."""
    data, told = SyntheticData(), list[Notice]()
    options = QueryOptions(max_seconds=max_seconds, links=SlowLinks())
    async with open_test_archive() as archive:
        index: Any = SlowIndex(archive.index)
        find = FindScp(index, ae_title="TEST_SCP", options=options, availabilities=availabilities)
        services = [StorageScp(archive), find]
        async with associated(services, CONTEXTS, notices=Notices(told.append)) as association:
            for study in (1, 2, 3):
                await association.store(data.ct(study))
            found, why = 0, ""
            try:
                async with association.search(studies(patient_id=key)) as matches:
                    async for _ in matches:
                        found += 1
                        if found == wanted:
                            break
            except OperationError as error:
                why = f"{error.status:04X} {error.comment}"
    (answered,) = [one for one in told if isinstance(one, QueryAnswered)]
    return found, answered, why


async def test_what_takes_too_long_ends_after_what_was_found(
    clock: trio.testing.MockClock,
) -> None:
    found, told, why = await asked(SLOW_SECONDS + 1)
    assert found == 2
    assert why == "A700 it takes longer than 6 s; narrow the query"
    assert (told.outcome, told.matches, told.is_late) == ("timed_out", 2, True)


@pytest.mark.parametrize(
    ("key", "availabilities"), [("P1", None), ("", SlowAvailabilities())], ids=["links", "shown"]
)
async def test_what_is_looked_up_beside_matches_is_bounded_as_well(
    clock: trio.testing.MockClock, key: str, availabilities: Any
) -> None:
    began = trio.current_time()
    found, told, why = await asked(SLOW_SECONDS - 1, key=key, availabilities=availabilities)
    assert trio.current_time() - began < 2 * SLOW_SECONDS
    assert (found, why) == (0, "A700 it takes longer than 4 s; narrow the query")
    assert (told.outcome, told.is_late) == ("timed_out", True)


async def test_without_a_limit_it_takes_its_time(clock: trio.testing.MockClock) -> None:
    found, told, why = await asked(0)
    assert (found, why) == (3, "")
    assert (told.outcome, told.is_late) == ("answered", False)


async def test_who_cancels_is_counted_as_that(clock: trio.testing.MockClock) -> None:
    found, told, _ = await asked(0, wanted=1)
    assert (found, told.outcome) == (1, "cancelled")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(0x0000, "answered"), (0xFE00, "cancelled"), (0xA700, "failed"), (0xC000, "failed"),
     (None, "ended")],
)  # fmt: skip
def test_each_question_has_an_outcome(status: int | None, outcome: str) -> None:
    told = QueryAnswered(
        caller=Caller(association="1", address=""),
        sop_class_uid=STUDY_ROOT_FIND,
        transfer_syntax_uid="",
        identifier=b"",
        matches=0,
        status=status,
    )
    assert told.outcome == outcome
