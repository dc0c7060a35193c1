"""System in the API: version and state."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.web.signed_in import DETAILS, Site, opened

AS_PROGRAM = {"x-certificate": "program"}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(tmp_path) as found:
        yield found


async def test_version_and_state(site: Site) -> None:
    answer = await site.client.get("/api/v1/system/version", headers=AS_PROGRAM)
    assert answer.json() == {"api_version": "v1", "version": "1.2.3"}
    answer = await site.client.get("/api/v1/system/status", headers=AS_PROGRAM)
    assert answer.json() == {
        "status": "healthy", "messages": [], "version": "1.2.3", "details": DETAILS,
    }  # fmt: skip
    assert answer.headers["cache-control"] == "no-store"
