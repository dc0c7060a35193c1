"""Links to studies in the API: made, listed, revoked, each by whom it may be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from isocenter.services.security.access.share_links import ShareLinkChanged
from services.archive_support import STUDY, store
from services.web.signed_in import ALICE, Site, opened

DOCTOR = replace(ALICE, name="doctor", roles=("Radiologist",))
OTHER = replace(ALICE, name="other", roles=("Radiologist",))
PATH = "/api/v1/share-links"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(tmp_path, more=(DOCTOR, OTHER)) as found:
        await store(found.parts.archive, 1)
        yield found


async def made(site: Site, headers: dict[str, str], **members: Any) -> Any:
    body = {"study_instance_uid": STUDY, **members}
    answer = await site.client.post(PATH, json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_link_is_made_opens_its_study_and_is_revoked(site: Site) -> None:
    headers = await site.token(user="doctor")
    link = await made(site, headers, label="Dr. X", days=3, may_download=True)
    (kept,) = await site.parts.stores.share_links.all(1)
    assert kept.user == "doctor", "without whom it is worth nothing"
    assert link["kept"]["state"] == "valid"
    path = link["address"].partition("/share/")[2]
    assert link["address"].startswith("https://")
    assert (await site.client.get(f"/share/{path}")).status_code == 200
    (listed,) = (await site.client.get(PATH, headers=headers)).json()["data"]
    assert listed == link["kept"]
    one = f"{PATH}/{listed['id']}"
    others = await site.token(user="other")
    assert (await site.client.get(PATH, headers=others)).json()["data"] == []
    assert (await site.client.delete(one, headers=others)).status_code == 404
    assert (await site.client.delete(one, headers=headers)).status_code == 204
    assert (await site.client.delete(one, headers=headers)).status_code == 404
    assert (await site.client.get(f"/share/{path}")).status_code == 404
    changed = [one for one in site.told if isinstance(one, ShareLinkChanged)]
    assert [(one.is_new, one.caller.user) for one in changed] == [
        (True, "doctor"),
        (False, "doctor"),
    ]


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({"study_instance_uid": "1.2.99"}, 404),
        ({"study_instance_uid": ""}, 404),
        ({"days": 0}, 400),
        ({"days": 366}, 400),
        ({"passcode": "short"}, 400),
        ({"label": "x" * 101}, 400),
        ({"lable": "x"}, 400),
    ],
)
async def test_what_makes_no_link_is_told(site: Site, members: dict[str, Any], status: int) -> None:
    headers = await site.token(user="doctor")
    answer = await site.client.post(
        PATH, json={"study_instance_uid": STUDY, **members}, headers=headers
    )
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert not await site.parts.stores.share_links.all(10)
