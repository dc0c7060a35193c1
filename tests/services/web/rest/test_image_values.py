"""Attributes, windows, frames and order of images in the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from isocenter.services.archive.metadata.maker import MetadataMaker
from isocenter.services.viewing.series_order import SeriesOrders
from isocenter.services.web.dicomweb.urls import instance_url
from services.web.rest.images import SERIES, STUDY, image, put, uid
from services.web.signed_in import Site, opened

AS_PROGRAM = {"x-certificate": "program"}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(tmp_path, tells_requests=True) as found:
        await put(found.parts.archive, *(image(number) for number in (1, 2, 3)))
        yield found


async def get(site: Site, path: str, status: int = 200) -> Any:
    answer = await site.client.get(f"/api/v1{path}", headers=AS_PROGRAM)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_attributes_are_those_that_are_asked_for(site: Site) -> None:
    path = f"/instances/{uid(1)}/metadata"
    assert await get(site, f"{path}?tags=Rows,00280011,PixelSpacing,PatientBirthTime") == {
        "tags": {"Rows": 32, "Columns": 48, "PixelSpacing": [0.5, 0.25]}
    }
    found = await get(site, f"{path}?preset=window_level")
    assert found["tags"]["WindowCenter"] == 40
    assert "Rows" not in found["tags"]
    both = await get(site, f"{path}?preset=positioning,patient_info")
    assert both["tags"]["ImagePositionPatient"] == [0, 0, 95]
    assert both["tags"]["PatientName"] == "Zenobia^Wanda"
    everything = (await get(site, path))["tags"]
    assert everything["SOPInstanceUID"] == uid(1)
    assert "PixelData" not in everything
    assert not any(name[0].isdigit() for name in everything)
    private = (await get(site, f"{path}?include_private=true"))["tags"]
    assert private["00090010"] == "GEMS_IDEN_01"


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        (f"/instances/{uid(1)}/metadata?tags=Row", 400, "write Rows"),
        (f"/instances/{uid(1)}/metadata?preset=all", 400, "presets are image_display"),
        (f"/instances/{uid(1)}/metadata?include_private=maybe", 400, "false, true"),
        (f"/instances/{uid(1)}/metadata?tags=" + "Rows," * 501, 400, "at most 500"),
        (f"/instances/{uid(1)}/voi-lut?frame=2", 404, "has 1 frames"),
        (f"/instances/{uid(1)}/voi-lut?frame=0", 400, "from 1 on"),
        (f"/instances/{uid(1)}/navigation?sort_by=size", 400, "sort_by is one of position"),
        (f"/series/{SERIES}/instances/sorted?direction=up", 400, "asc, desc"),
        (f"/instances/{uid(9)}/metadata", 404, "no such instance"),
        (f"/instances/{uid(9)}/navigation", 404, "no such instance"),
        ("/series/1.9/instances/sorted", 404, "no such series"),
    ],
)
async def test_what_cannot_be_answered_is_told(
    site: Site, path: str, status: int, said: str
) -> None:
    assert said in (await get(site, path, status))["detail"]


async def test_windows_and_frames(site: Site) -> None:
    found = await get(site, f"/instances/{uid(1)}/voi-lut")
    assert (found["window_center"], found["window_width"]) == ([40], [400])
    assert (found["rescale_slope"], found["rescale_intercept"]) == (1, -1024)
    found = await get(site, f"/instances/{uid(1)}/frame-info")
    assert found == {
        "total_frames": 1, "frame_time": None, "frame_rate": None, "rows": 32, "columns": 48,
    }  # fmt: skip
    found = await get(site, "/presets/window-level?modality=ct")
    assert found["modality"] == "CT"
    assert found["presets"][0] == {"name": "Lung", "center": -600, "width": 1500}


async def test_images_are_sorted_by_where_they_lie(site: Site) -> None:
    """Their numbers run the other way."""
    path = f"/series/{SERIES}/instances/sorted"
    found = await get(site, path)
    assert [one["sop_instance_uid"] for one in found["instances"]] == [uid(3), uid(2), uid(1)]
    assert [one["position"] for one in found["instances"]] == [85, 90, 95]
    assert found["total"] == 3
    found = await get(site, f"{path}?sort_by=instance_number&direction=desc")
    assert [one["instance_number"] for one in found["instances"]] == [3, 2, 1]


async def test_one_leads_to_the_next(site: Site) -> None:
    assert await get(site, f"/instances/{uid(2)}/navigation") == {
        "previous": uid(3), "next": uid(1), "index": 1, "total": 3, "first": uid(3),
        "last": uid(1),
    }  # fmt: skip
    found = await get(site, f"/instances/{uid(3)}/navigation")
    assert (found["previous"], found["next"]) == (None, uid(2))
    # What comes is seen at once, though the order was remembered.
    await put(site.parts.archive, image(4))
    found = await get(site, f"/instances/{uid(3)}/navigation")
    assert (found["previous"], found["total"]) == (uid(4), 4)


async def test_the_order_is_the_same_from_what_was_made_beforehand(site: Site) -> None:
    archive, book = site.parts.archive, site.parts.stores.metadata
    before = await SeriesOrders(archive, book).slices(STUDY, SERIES)
    await book.order()
    await MetadataMaker(book, archive, base="http://x", url_of=instance_url, rest=0).make_due()
    (known,) = await book.series(STUDY, SERIES)
    assert all(one.metadata is not None and one.metadata.fragment for one in known.instances)
    assert await SeriesOrders(archive, book).slices(STUDY, SERIES) == before
    assert await SeriesOrders(archive, None).slices(STUDY, SERIES) == before


async def test_whoever_reads_an_instance_is_told(site: Site) -> None:
    await get(site, f"/instances/{uid(1)}/metadata?tags=Rows")
    (read,) = await site.reads()
    assert (read.study_instance_uid, read.sop_instance_uids) == (STUDY, frozenset({uid(1)}))
