"""What people noted and looked at, on the pages of studies and series."""

from __future__ import annotations

import html
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from isocenter.services.notices import InstanceStored
from isocenter.services.viewing.ports import RecentStudy
from services.web.rest.images import SERIES, STUDY, image, put, uid
from services.web.rest.test_marks import Person
from services.web.signed_in import ALICE, Site, opened

TESS = replace(ALICE, name="tess", roles=("Technologist",))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(tmp_path, more=[TESS]) as found:
        await put(
            found.parts.archive,
            *(image(number) for number in (1, 2, 3)),
            image(1, study="1.2.4", series="1.2.4.1", PatientName="Yeti^<Yo>"),
        )
        yield found


async def text_of(site: Site, path: str, name: str) -> str:
    answer = await site.client.get(path, headers=await site.cookie(name))
    assert answer.status_code == 200, answer.text
    return answer.text


def keys_of(page: str) -> list[dict[str, object]]:
    (found,) = re.findall(r'data-keys="([^"]*)"', page)
    keys: list[dict[str, object]] = json.loads(html.unescape(found))
    return keys


async def test_key_images_are_on_the_pages_of_study_and_series(site: Site) -> None:
    tess = Person(site, await site.cookie("tess"))
    body = {"sop_instance_uid": uid(2), "reason": "<b>why</b>", "document_title": "For Teaching"}
    made = await tess("POST", f"/studies/{STUDY}/key-images", body)
    study = await text_of(site, f"/studies/{STUDY}", "alice")
    assert "For Teaching" in study
    assert "&lt;b&gt;why&lt;/b&gt;" in study
    assert "marked by tess" in study
    (address,) = re.findall(r'href="(/studies/[^"]*\?instance=[^"]*)"', study)
    series = await text_of(site, address, "tess")
    assert 'data-at="2"' in series
    assert keys_of(series) == [{"id": made["id"], "uid": uid(2), "frame": 1, "own": True}]
    assert 'data-does="key"' in series
    assert "key_images" in series
    # Who may not mark sees the mark of others, and no button.
    seen = await text_of(site, f"/studies/{STUDY}/series/{SERIES}", "alice")
    assert keys_of(seen)[0]["own"] is False
    assert 'data-does="key"' not in seen
    assert "key_images" not in seen


async def test_key_images_are_stored_as_a_selection(site: Site) -> None:
    tess = Person(site, await site.cookie("tess"))
    await tess("POST", f"/studies/{STUDY}/key-images", {"sop_instance_uid": uid(2)})
    action = f"/studies/{STUDY}/key-images"
    assert f'action="{action}"' in await text_of(site, f"/studies/{STUDY}", "tess")
    assert f'action="{action}"' not in await text_of(site, f"/studies/{STUDY}", "alice")
    answer = await site.client.post(action, headers=tess.headers)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/studies/{STUDY}")
    assert "KO" in await text_of(site, f"/studies/{STUDY}", "alice")
    (made,) = [one for one in site.told if isinstance(one, InstanceStored)]
    assert made.sop_class_uid == "1.2.840.10008.5.1.4.1.1.88.59"
    answer = await site.client.post("/studies/1.2.4/key-images", headers=tess.headers)
    assert answer.status_code == 404
    alice = {**await site.cookie("alice"), "origin": site.root}
    assert (await site.client.post(action, headers=alice)).status_code == 403


async def test_a_study_without_key_images_says_nothing_of_them(site: Site) -> None:
    assert "Key images" not in await text_of(site, f"/studies/{STUDY}", "alice")


async def test_studies_that_somebody_looked_at_are_offered_again(site: Site) -> None:
    seen = [
        ("alice", RecentStudy(study_instance_uid=study, accessed_at=moment))
        for study, moment in ((STUDY, 1.0), ("1.2.4", 2.0), ("1.9", 3.0))
    ]
    await site.parts.stores.recent_studies.note(seen, most=9)
    page = await text_of(site, "/", "alice")
    (found,) = re.findall(r"(?s)You looked at:(.*?)</p>", page)
    assert re.findall(r'href="/studies/([^"]*)"', found) == ["1.2.4", STUDY]
    assert "&lt;Yo&gt;" in found
    assert "You looked at" not in await text_of(site, "/?modality=CT", "alice")
    assert "You looked at" not in await text_of(site, "/", "tess")
