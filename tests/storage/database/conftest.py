"""Contract suites run on each database that there is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from storage.databases import DATABASES, POSTGRESQL, choose


@pytest.fixture(scope="module", params=list(DATABASES))
def each_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of the database that `open_database` opens in this test."""
    if request.param == "postgresql":
        POSTGRESQL.server = request.getfixturevalue("postgresql_server")
    choose(request.param)
    yield request.param
    if request.param == "postgresql":
        POSTGRESQL.forget()
