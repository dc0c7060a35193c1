"""Who may have objects from the imaging document source, and what is recorded of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from isocenter.services.integration.sharing.imaging_document_set import (
    ImagingDocument,
    imaging_request,
)
from isocenter.services.notices import InstancesRead
from isocenter.services.web.imaging_documents.source import PATH
from services.archive_support import SERIES, STUDY, store, uid
from services.web.imaging_documents.test_imaging_documents import EXPLICIT, envelope
from services.web.signed_in import Site, opened
from services.web.ui.people import NOBODY, ONLY, WHO


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    people = (WHO["only-search"], WHO["only-read"], NOBODY)
    async with opened(tmp_path, more=people, roles=ONLY, tells_requests=True) as found:
        await store(found.parts.archive, 1)
        yield found


async def asked(site: Site, headers: dict[str, str]) -> httpx.Response:
    wanted = ImagingDocument(
        study_instance_uid=STUDY, series_instance_uid=SERIES, sop_instance_uid=uid(1),
        place="1.2.3.8",
    )  # fmt: skip
    content = envelope(imaging_request([wanted], [EXPLICIT]))
    headers = {"content-type": "application/soap+xml", "origin": site.root, **headers}
    return await site.client.post(PATH, content=content, headers=headers)


async def test_whoever_may_read_gets_objects_and_that_is_recorded(site: Site) -> None:
    assert (await asked(site, {})).status_code == 401
    for who in ("a-nobody", "a-only-search"):
        response = await asked(site, await site.cookie(who))
        assert (response.status_code, b"DICM" in response.content) == (403, False)
    cookie = await site.cookie("a-only-read")
    response = await asked(site, {**cookie, "origin": "https://evil.example"})
    assert (response.status_code, b"DICM" in response.content) == (403, False)
    assert not [one for one in site.told if isinstance(one, InstancesRead)]
    response = await asked(site, cookie)
    assert response.status_code == 200
    assert b"DICM" in response.content
    (read,) = await site.reads()
    assert (read.study_instance_uid, read.sop_instance_uids) == (STUDY, {uid(1)})
    assert read.is_whole
