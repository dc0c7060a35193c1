"""Thumbnails in the API: of instances, series and studies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import imagecodecs
import pytest

from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.services.web.rest.thumbnails import ThumbnailCache, _Wanted, placeholder
from services.web.rest.images import SERIES, STUDY, image, put, uid
from services.web.signed_in import Site, opened

AS_PROGRAM = {"x-certificate": "program"}
SR = "1.2.840.10008.5.1.4.1.1.88.33"


def report(number: int, series: str) -> Any:
    made = image(number, series=series, SOPClassUID=SR, Modality="SR")
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(made, keyword)
    return made


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with (
        CodecPool(PoolLimits(workers=1)) as pool,
        opened(tmp_path, pool=pool) as found,
    ):
        black = image(9).PixelData
        # Of three, the one in the middle is white.
        await put(
            found.parts.archive,
            image(1, PixelData=bytes(len(black))),
            image(2, PixelData=b"\xff\x3f" * (len(black) // 2)),
            image(3, PixelData=bytes(len(black))),
            image(1, series="1.2.3.2"),
            *(report(number, "1.2.3.3") for number in range(1, 6)),
        )
        yield found


async def get(site: Site, path: str, **headers: str) -> httpx.Response:
    return await site.client.get(
        f"/api/v1/thumbnails{path}", headers={**AS_PROGRAM, "accept": "*/*", **headers}
    )


async def pixels(site: Site, path: str) -> Any:
    answer = await get(site, path)
    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"] == "image/png":
        return imagecodecs.png_decode(answer.content)
    assert answer.headers["content-type"] == "image/jpeg"
    return imagecodecs.jpeg8_decode(answer.content)


async def test_sizes_formats_and_the_instance_in_the_middle(site: Site) -> None:
    # Pixels are twice as high as they are wide: 32 rows are 64 columns high.
    assert (await pixels(site, f"/instances/{uid(1)}?format=png")).shape[:2] == (128, 96)
    assert (await pixels(site, f"/instances/{uid(1)}?size=64")).shape[:2] == (64, 48)
    assert (await pixels(site, f"/series/{SERIES}?format=png")).min() > 250
    # The series with most instances has no pictures, so it is the next one.
    assert (await pixels(site, f"/studies/{STUDY}?format=png")).min() > 250
    assert (await pixels(site, f"/instances/{uid(1)}?format=png&frame=1")).max() < 5
    rough = await get(site, f"/instances/{uid(1, '1.2.3.2')}?quality=1")
    fine = await get(site, f"/instances/{uid(1, '1.2.3.2')}?quality=100")
    assert len(rough.content) < len(fine.content)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (f"/instances/{uid(1)}?size=100", 400, "INVALID_REQUEST"),
        (f"/instances/{uid(1)}?format=gif", 400, "INVALID_REQUEST"),
        (f"/instances/{uid(1)}?quality=0", 400, "INVALID_REQUEST"),
        (f"/instances/{uid(1)}?frame=x", 400, "INVALID_REQUEST"),
        (f"/instances/{uid(1)}?frame=2", 406, "NOT_SHOWN"),
        (f"/instances/{uid(1, '1.2.3.3')}", 404, "NO_PICTURE"),
        ("/series/1.2.3.3", 404, "NO_PICTURE"),
        ("/instances/1.9", 404, "NOT_FOUND"),
        ("/series/1.9", 404, "NOT_FOUND"),
        ("/studies/1.9", 404, "NOT_FOUND"),
        ("/studies/1.9?placeholder=true", 404, "NOT_FOUND"),
    ],
)
async def test_what_is_no_picture_is_told(site: Site, path: str, status: int, code: str) -> None:
    answer = await get(site, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_tile_stands_for_what_has_no_picture(site: Site) -> None:
    tile = await pixels(site, "/series/1.2.3.3?size=64&placeholder=true")
    assert tile.shape == (64, 64)
    assert (tile[0, 0], tile[32, 32]) == (0x60, 0xA0)


async def test_pictures_are_held_and_can_be_let_go(site: Site) -> None:
    path = f"/instances/{uid(1)}"
    first = await get(site, path)
    assert (await get(site, path)).content == first.content
    answer = await get(site, path, **{"if-none-match": first.headers["etag"]})
    assert answer.status_code == 304
    told = (await get(site, "/cache/stats")).json()
    assert (told["entry_count"], told["hits"], told["misses"]) == (1, 1, 1)
    assert told["cache_size"] == len(first.content) <= told["max_size"]
    cleared = await site.client.delete("/api/v1/thumbnails/cache", headers=AS_PROGRAM)
    assert cleared.status_code == 204
    told = (await get(site, "/cache/stats")).json()
    assert (told["entry_count"], told["cache_size"]) == (0, 0)


async def test_the_cache_holds_no_more_than_it_may(site: Site) -> None:
    cache = ThumbnailCache(most=10)
    (stored,) = (await site.parts.archive.index.get([uid(1)])).values()

    async def take(size: int, length: int) -> None:
        async def make() -> tuple[bytes, str]:
            return bytes(length), "image/png"

        wanted = _Wanted(size=size, media_type="image/png", quality=60, frame=None)
        await cache.get(stored, wanted, make)

    await take(1, 6)
    await take(2, 4)
    assert (len(cache), cache.size) == (2, 10)
    await take(1, 6)  # it was used last, and stays
    await take(3, 1)
    assert (len(cache), cache.size, cache.hits) == (2, 7, 1)
    await take(4, 11)  # larger than all of it
    assert (len(cache), cache.size) == (2, 7)


async def test_without_codecs_there_are_no_pictures(tmp_path: Path) -> None:
    async with opened(tmp_path) as found:
        await put(found.parts.archive, image(1))
        answer = await get(found, f"/instances/{uid(1)}")
        assert (answer.status_code, answer.json()["code"]) == (406, "NO_CODECS")


@pytest.mark.parametrize("size", [64, 512])
def test_a_tile_is_a_png(size: int) -> None:
    assert imagecodecs.png_decode(placeholder(size)).shape == (size, size)
