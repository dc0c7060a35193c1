"""Print jobs on pages and in the API: a study printed, films looked at, jobs steered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from isocenter.services.dicom.film.composer import compose_film
from isocenter.services.dicom.film.pictures import rendered_picture
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.services.notices import PrintJobChanged
from isocenter.services.service_classes.print import study_films
from isocenter.services.service_classes.print.job import PrintJobState
from isocenter.services.web import print_desk
from services.web.rest.asking import ask, refused
from services.web.rest.images import COLUMNS, ROWS, SERIES, STUDY, image, put
from services.web.signed_in import Site, opened
from services.web.ui.people import ONLY, WHO, post, text_of

PRINT = f"/studies/{STUDY}/print"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with (
        CodecPool(PoolLimits(workers=1)) as pool,
        opened(tmp_path, pool=pool, more=list(WHO.values()), roles=ONLY) as found,
    ):
        black, white = bytes(ROWS * COLUMNS * 2), b"\xff\x3f" * (ROWS * COLUMNS)
        # Neither in the order of their numbers, nor of their series.
        await put(
            found.parts.archive,
            image(2, PixelData=white),
            image(1, PixelData=black),
            image(1, series="1.2.3.9", SeriesNumber=99, PixelData=black),
        )
        yield found


async def test_a_study_is_printed_by_the_api_in_the_order_of_its_images(site: Site) -> None:
    answer = await ask(site, "POST", PRINT, {"layout": "STANDARD\\1,2", "copies": 2})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert (job["state"], job["films"], job["copies"]) == ("pending", 2, 2)
    assert (job["study_instance_uid"], job["originator"]) == (STUDY, "program")
    path = f"/print-jobs/{job['job_uid']}"
    assert (await ask(site, "GET", path)).json() == job
    assert (await ask(site, "GET", "/print-jobs")).json() == {"jobs": [job]}
    assert (await ask(site, "GET", "/print-jobs?state=done")).json() == {"jobs": []}
    answer = await ask(site, "GET", f"{path}/films/1")
    assert answer.headers["content-type"] == "image/png"
    film = np.asarray(imagecodecs.png_decode(answer.content))
    assert film.shape == (1500, 1200)
    assert film[:750].max() < 5, "the first image is black"
    assert (film[750:] > 250).mean() > 0.3, "the second is white"
    answer = await ask(site, "GET", f"{path}/document")
    assert answer.content.startswith(b"%PDF-1.7")
    assert answer.content.count(b"/Type /Page ") == 2
    told = [one for one in site.told if isinstance(one, PrintJobChanged)]
    assert [(one.what, one.films, one.study_instance_uid) for one in told] == [
        ("submitted", 2, STUDY),
        ("shown", 1, STUDY),
        ("downloaded", 2, STUDY),
    ]
    assert all(one.caller is not None for one in told)


async def test_some_of_the_films_are_no_document(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = await ask(site, "POST", PRINT, {"layout": "STANDARD\\1,2"})
    job = answer.json()["job_uid"]
    with monkeypatch.context() as patch:
        patch.setattr(print_desk, "_MOST_FILMS", 1)
        assert await refused(site, "GET", f"/print-jobs/{job}/document") == (409, "CONFLICT")
    films = site.parts.stores.films
    first = await films.get(job, 1)
    assert first is not None
    await films.remove(job)
    await films.put(job, 1, first)
    assert await refused(site, "GET", f"/print-jobs/{job}/document") == (404, "NOT_FOUND")


async def test_the_images_of_one_film_at_a_time_are_in_memory(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    async def render(*values: Any, **options: Any) -> Any:
        done.append("rendered")
        return await rendered_picture(*values, **options)

    async def compose(*values: Any) -> Any:
        done.append("composed")
        return await compose_film(*values)

    monkeypatch.setattr(study_films, "rendered_picture", render)
    monkeypatch.setattr(study_films, "compose_film", compose)
    answer = await ask(site, "POST", PRINT, {"layout": "STANDARD\\1,1"})
    assert answer.json()["films"] == 3
    assert done == ["rendered", "composed"] * 3


async def test_images_that_no_film_can_have_are_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_films.StudyFilms, "_is_too_much", lambda self, shown: any(shown))
    assert await refused(site, "POST", PRINT, {}) == (409, "NOT_PRINTABLE")


async def test_a_series_alone_is_printed(site: Site) -> None:
    body = {"layout": "STANDARD\\1,1", "series": SERIES, "size": "A4", "color": True}
    assert (await ask(site, "POST", PRINT, body)).json()["films"] == 2


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (PRINT, {"layout": "SLIDE"}, 400),
        (PRINT, {"size": "POSTCARD"}, 400),
        (PRINT, {"copies": 0}, 400),
        (PRINT, {"priority": "SOON"}, 400),
        (PRINT, {"size": "A3", "layout": "STANDARD\\1,1", "series": "1.9"}, 409),
        ("/studies/1.9/print", {}, 409),
        ("/print-jobs/1.9/cancel", None, 404),
    ],
)
async def test_what_cannot_be_printed_is_refused(
    site: Site, path: str, body: dict[str, object] | None, status: int
) -> None:
    assert (await refused(site, "POST", path, body))[0] == status


async def test_no_more_jobs_are_taken_than_may_wait(site: Site) -> None:
    for _ in range(3):
        assert (await ask(site, "POST", PRINT, {})).status_code == 202
    assert await refused(site, "POST", PRINT, {}) == (409, "QUEUE_FULL")


async def test_jobs_are_steered_and_films_not_found(site: Site) -> None:
    job = (await ask(site, "POST", PRINT, {})).json()["job_uid"]
    path = f"/print-jobs/{job}"
    assert (await ask(site, "POST", f"{path}/cancel")).status_code == 204
    assert await refused(site, "POST", f"{path}/cancel") == (409, "CONFLICT")
    assert (await ask(site, "POST", f"{path}/retry")).status_code == 204
    for wrong in ("2", "0", "x", "99999"):
        assert (await refused(site, "GET", f"{path}/films/{wrong}"))[0] == 404
    assert (await refused(site, "GET", "/print-jobs?state=lost"))[0] == 400
    what = [one.what for one in site.told if isinstance(one, PrintJobChanged)]
    assert what == ["submitted", "cancelled", "retried"]


async def test_the_pages_print_a_study_and_show_its_films(site: Site) -> None:
    cookie = await site.cookie("a-system")
    assert f"/studies/{STUDY}/print" in await text_of(site, cookie, f"/studies/{STUDY}")
    assert "There is none" in await text_of(site, cookie, "/prints")
    assert "Print this study" in await text_of(site, cookie, f"/studies/{STUDY}/print")
    fields = {"layout": "1,2", "copies": "1", "landscape": "1", "priority": "HIGH"}
    answer = await post(site, cookie, f"/studies/{STUDY}/print", **fields)
    assert answer.status_code == 303, answer.text
    place = answer.headers["location"]
    page = await text_of(site, cookie, place)
    assert f'src="{place}/films/2"' in page
    assert "pending" in page
    assert place in await text_of(site, cookie, "/prints?state=pending")
    film = await site.client.get(f"{place}/films/1", headers=cookie)
    assert film.headers["content-type"] == "image/png"
    assert (await site.client.get(f"{place}/films.pdf", headers=cookie)).status_code == 200
    jobs = site.parts.stores.print_jobs
    job = await jobs.claim("w", 60)
    assert job is not None
    await jobs.settle(job, PrintJobState.FAILED, "no <paper>")
    page = await text_of(site, cookie, place)
    assert "no &lt;paper&gt;" in page
    assert "Try now" in page
    assert (await post(site, cookie, f"{place}/retry")).status_code == 303
    assert (await post(site, cookie, f"{place}/cancel")).status_code == 303
    assert (await post(site, cookie, f"{place}/cancel")).status_code == 409
    for wrong in ({"layout": "x"}, {"size": "POSTCARD"}, {"copies": "0"}, {"priority": "x"}):
        answer = await post(site, cookie, f"/studies/{STUDY}/print", **{**fields, **wrong})
        assert answer.status_code == 400
