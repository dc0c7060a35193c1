"""Contract suites run on each database that there is."""

from __future__ import annotations

import pytest

from storage.databases import DATABASES, choose


@pytest.fixture(scope="module", params=list(DATABASES))
def each_database(request: pytest.FixtureRequest) -> str:
    """The name of the database that `open_database` opens in this test."""
    choose(request.param)
    return request.param
