"""Storage tiers in the API, and what the storage page shows of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isocenter.services.archive.tiers.mover import MoveReport
from isocenter.services.archive.tiers.worker import work_off_orders
from services.archive_support import STUDY, store
from services.web.rest.asking import ask, refused
from services.web.signed_in import Site, opened


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(tmp_path) as found:
        for number in (1, 2):
            await store(found.parts.archive, number)
        yield found


async def test_studies_are_moved_when_the_server_comes_to_it(site: Site) -> None:
    body = {"study_instance_uids": [STUDY], "tier": "cold"}
    assert (await ask(site, "POST", "/tiers/moves", body)).status_code == 204
    assert (await ask(site, "GET", "/tiers")).json()["waiting"] == 1
    assert site.parts.mover is not None
    await work_off_orders(site.parts.stores.tiers, site.parts.mover, MoveReport())
    shown = (await ask(site, "GET", "/tiers")).json()
    assert shown["waiting"] == 0
    assert [(one["tier"], one["availability"], one["instances"]) for one in shown["tiers"]] == [
        ("hot", "ONLINE", 0),
        ("cold", "NEARLINE", 2),
    ]


async def test_studies_are_pinned_and_let_go(site: Site) -> None:
    path = f"/tiers/pins/{STUDY}"
    body = {"tier": "hot", "reason": "trial 17"}
    assert (await ask(site, "PUT", path, body)).status_code == 204
    (pin,) = (await ask(site, "GET", "/tiers")).json()["pins"]
    assert (pin["study_instance_uid"], pin["tier"], pin["reason"], pin["by"]) == (
        STUDY, "hot", "trial 17", "program",
    )  # fmt: skip
    assert (await ask(site, "DELETE", path)).status_code == 204
    assert await refused(site, "DELETE", path) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    "body",
    [
        {"study_instance_uids": [STUDY], "tier": "warm"},  # the settings name none
        {"study_instance_uids": [STUDY], "tier": "x"},
        {"study_instance_uids": [], "tier": "cold"},
        {"study_instance_uids": ["../x"], "tier": "cold"},
    ],
)
async def test_what_cannot_be_moved_is_refused(site: Site, body: dict[str, object]) -> None:
    assert await refused(site, "POST", "/tiers/moves", body) == (400, "INVALID_REQUEST")
    assert await site.parts.stores.tiers.orders(limit=9) == []


async def test_a_pin_has_a_reason(site: Site) -> None:
    body = {"tier": "cold", "reason": " "}
    assert await refused(site, "PUT", f"/tiers/pins/{STUDY}", body) == (400, "INVALID_REQUEST")
