"""Contract suites run on each database that there is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from storage.databases import DATABASES, POSTGRESQL, choose

#: Each takes a tenth of a second on PostgreSQL; with the profile ``thorough`` there is no limit.
_MOST_EXAMPLES = 25


@pytest.fixture(scope="module", params=list(DATABASES))
def each_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of the database that `open_database` opens in this test."""
    if request.param == "postgresql":
        POSTGRESQL.server = request.getfixturevalue("postgresql_server")
    choose(request.param)
    yield request.param
    if request.param == "postgresql":
        POSTGRESQL.forget()


@pytest.fixture
def more_examples(each_database: str) -> Callable[[], bool]:
    """Whether a property is to be looked at in one more example."""
    is_limited = each_database == "postgresql" and "HYPOTHESIS_PROFILE" not in os.environ
    numbers = count()
    return lambda: not is_limited or next(numbers) < _MOST_EXAMPLES
