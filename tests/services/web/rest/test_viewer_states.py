"""States of viewers, and studies seen, in the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from isocenter.services.viewing.ports import RecentStudy
from services.web.rest.images import STUDY, image, put
from services.web.rest.test_marks import Person
from services.web.signed_in import ALICE, Site, opened

ADA = replace(ALICE, name="ada", roles=("Administrator",))
VERA = replace(ALICE, name="vera", roles=("Viewer",))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(tmp_path, more=[ADA, VERA]) as found:
        await put(found.parts.archive, image(1))
        yield found


async def test_a_state_is_for_whoever_made_it(site: Site) -> None:
    vera, alice = Person(site, await site.cookie("vera")), Person(site, await site.cookie())
    state = {"layout": "2x2", "viewports": [{"index": 10**30}], "active_viewport": 0.5}
    made = await vera("POST", "/viewer-states", {"study_uid": STUDY, "state": state})
    assert (made["user_id"], made["state"]) == ("vera", state)
    path = f"/viewer-states/{made['id']}"
    assert await vera("GET", path) == made
    assert (await vera("GET", f"/viewer-states?study_uid={STUDY}"))["data"] == [made]
    assert (await vera("GET", "/viewer-states?study_uid=1.9"))["data"] == []
    await alice("GET", path, status=404)
    await alice("DELETE", path, status=404)
    await alice("GET", "/viewer-states?user_id=vera", status=403)
    assert (await alice("GET", "/viewer-states"))["data"] == []
    await vera("DELETE", path)
    await vera("GET", path, status=404)


async def test_what_is_no_state_is_refused(site: Site) -> None:
    vera = Person(site, await site.cookie("vera"))
    assert await vera("POST", "/viewer-states", {"study_uid": "1.9", "state": {}}, 404)
    assert await vera("POST", "/viewer-states", {"study_uid": STUDY, "state": 7}, 400)
    big = {"study_uid": STUDY, "state": {"x": "y" * (300 << 10)}}
    assert (await vera("POST", "/viewer-states", big, 413))["code"] == "TOO_LARGE"
    assert await vera("GET", "/viewer-states?limit=0", status=400)


async def test_studies_seen_are_for_oneself_and_for_who_audits(site: Site) -> None:
    vera, ada = Person(site, await site.cookie("vera")), Person(site, await site.cookie("ada"))
    assert await vera("GET", "/users/vera/recent-studies") == {"data": [], "total": 0}
    seen = RecentStudy(study_instance_uid=STUDY, accessed_at=1_700_000_000.0)
    await site.parts.stores.recent_studies.note([("vera", seen)], most=9)
    expected = [{"study_uid": STUDY, "accessed_at": "2023-11-14T22:13:20.000+00:00"}]
    assert (await vera("GET", "/users/vera/recent-studies?limit=1"))["data"] == expected
    assert (await ada("GET", "/users/vera/recent-studies"))["data"] == expected
    await vera("GET", "/users/ada/recent-studies", status=404)
    await vera("GET", "/users/nobody/recent-studies", status=404)
