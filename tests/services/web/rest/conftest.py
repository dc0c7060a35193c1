"""What the tests of the API share."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.web.signed_in import Site, opened


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """An archive with pages and API."""
    async with opened(tmp_path) as found:
        yield found


@pytest.fixture
def quiet_again() -> Iterator[None]:
    """Reading settings sets the level of the log, which is the process's."""
    root = logging.getLogger("isocenter")
    before = root.level, root.handlers[:], root.propagate
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    root.propagate = before[2]
