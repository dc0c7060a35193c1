"""De-identification in the API and on its page: what becomes of an object, before it leaves."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import imagecodecs
import numpy as np
import pydicom
import pytest

from isocenter.services.archive.deidentification.project import Project
from isocenter.services.archive.deidentification.service import Deidentification
from isocenter.services.dicom.deidentification.device_rules import parse_device_rules
from isocenter.services.dicom.deidentification.options import Option
from isocenter.services.dicom.deidentification.pixel_cleaning import PixelOptions
from isocenter.services.dicom.deidentification.profile import Profile
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.storage.stores import open_sqlite_stores
from services.web.rest.images import SERIES, STUDY, image, put, uid
from services.web.signed_in import Site, opened
from support.deidentification import KEY

AS_PROGRAM = {"x-certificate": "program"}
PDF = "1.2.840.10008.5.1.4.1.1.104.1"
BLACK = PixelOptions(rules=parse_device_rules("Modality=CT\t0,0,4096,4096\n"))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with (
        CodecPool(PoolLimits(workers=1)) as pool,
        open_sqlite_stores(":memory:") as stores,
        opened(tmp_path, pool=pool, tells_requests=True) as found,
    ):
        archive = found.parts.archive
        projects = (
            Project(name="basic", destinations=("TRIAL",)),
            Project(
                name="black", profile=Profile(options=frozenset([Option.PIXELS])), pixels=BLACK
            ),
        )
        archive.deidentification = Deidentification(
            projects, {"basic": KEY, "black": KEY}, stores.deidentification, pool
        )
        made = image(1, PatientName="Quixotebaum^Zenobia", Modality="CT")
        shown = np.frombuffer(made.PixelData, "<u2") + 1000
        made.PixelData = shown.astype("<u2").tobytes()
        document = image(2, SOPClassUID=PDF, EncapsulatedDocument=b"%PDF",
                         MIMETypeOfEncapsulatedDocument="application/pdf")  # fmt: skip
        await put(archive, made, document)
        yield found


async def get(site: Site, path: str) -> httpx.Response:
    headers = {**AS_PROGRAM, "accept": "*/*"}
    return await site.client.get(f"/api/v1/deidentification{path}", headers=headers)


async def test_projects_are_listed(site: Site) -> None:
    answer = await get(site, "")
    assert answer.json()["projects"] == [
        {
            "name": "basic",
            "profile": "basic",
            "options": [],
            "destinations": ["TRIAL"],
            "roles": [],
            "addresses": [],
        },
        {
            "name": "black",
            "profile": "basic",
            "options": ["pixels"],
            "destinations": [],
            "roles": [],
            "addresses": [],
        },
    ]


async def test_a_look_says_what_becomes_of_each_attribute_without_values(site: Site) -> None:
    answer = await get(site, f"/basic/instances/{uid(1)}")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["sop_instance_uid"].startswith("2.25.")
    assert {"path": "(0010,0010)", "keyword": "PatientName", "action": "replaced"} in (
        found["changes"]
    )
    assert "Zenobia" not in answer.text
    assert (await get(site, f"/none/instances/{uid(1)}")).status_code == 404
    assert (await get(site, "/basic/instances/1.9.9")).status_code == 404
    refused = await get(site, f"/basic/instances/{uid(2)}")
    assert refused.status_code == 409
    assert "policy for documents" in refused.text


async def test_the_file_and_its_picture_are_those_that_would_leave(site: Site) -> None:
    answer = await get(site, f"/black/instances/{uid(1)}/file")
    made = pydicom.dcmread(io.BytesIO(answer.content))
    assert made.PatientIdentityRemoved == "YES"
    assert len(set(made.PixelData)) <= 2
    assert f"{made.SOPInstanceUID}.dcm" in answer.headers["content-disposition"]
    picture = await get(site, f"/black/instances/{uid(1)}/picture")
    assert picture.status_code == 200, picture.text
    shown = imagecodecs.jpeg8_decode(picture.content)
    assert int(shown.max()) - int(shown.min()) <= 2
    assert (await get(site, f"/basic/instances/{uid(2)}/file")).status_code == 409
    assert (await get(site, f"/basic/instances/{uid(1)}/picture?frame=x")).status_code == 400
    told = await site.reads(2)
    assert [(one.study_instance_uid, one.sop_instance_uids) for one in told] == (
        [(STUDY, {uid(1)})] * 2
    ), "the file is told as the picture is"


async def test_the_page_shows_before_and_after(site: Site) -> None:
    path = f"/studies/{STUDY}/series/{SERIES}/instances/{uid(1)}"
    instance = await site.client.get(path, headers=AS_PROGRAM)
    assert f"{path}/deidentified" in instance.text
    answer = await site.client.get(f"{path}/deidentified?project=black", headers=AS_PROGRAM)
    assert answer.status_code == 200, answer.text
    assert "Quixotebaum^Zenobia" in answer.text
    assert "ANONYMOUS^" in answer.text
    assert f"/api/v1/deidentification/black/instances/{uid(1)}/picture" in answer.text
    document = path.replace(uid(1), uid(2))
    refused = await site.client.get(f"{document}/deidentified", headers=AS_PROGRAM)
    assert "policy for documents" in refused.text
    unknown = await site.client.get(f"{path}/deidentified?project=none", headers=AS_PROGRAM)
    assert unknown.status_code == 404
    elsewhere = path.replace(SERIES, "1.9.9")
    other = await site.client.get(f"{elsewhere}/deidentified", headers=AS_PROGRAM)
    assert other.status_code == 404
