"""Fixture of the tests of pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.archive_support import store
from services.web.signed_in import Site, opened
from services.web.ui.people import NOBODY, ONLY, WHO


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """An archive with a study of three instances, and somebody for each role."""
    async with opened(tmp_path, more=(*WHO.values(), NOBODY), roles=ONLY) as found:
        for number in (1, 2, 3):
            await store(found.parts.archive, number)
        yield found
