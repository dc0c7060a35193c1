"""System in the API: version and state."""

from __future__ import annotations

from services.web.signed_in import DETAILS, Site

AS_PROGRAM = {"x-certificate": "program"}


async def test_version_and_state(site: Site) -> None:
    answer = await site.client.get("/api/v1/system/version", headers=AS_PROGRAM)
    assert answer.json() == {"api_version": "v1", "version": "1.2.3"}
    answer = await site.client.get("/api/v1/system/status", headers=AS_PROGRAM)
    assert answer.json() == {
        "status": "healthy", "messages": [], "version": "1.2.3", "details": DETAILS,
    }  # fmt: skip
    assert answer.headers["cache-control"] == "no-store"
