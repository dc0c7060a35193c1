"""OHIF in a browser: lists, opens and scrolls what a server of ours has, and asks as expected.

``tox -e ohif`` fetches the viewer and runs this; elsewhere it is skipped.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import numpy as np
import pytest
from imagecodecs import png_decode

from browser import archive
from browser.archive import SECONDS, VIEWER
from isocenter.services.web.viewer.package import PATH
from ohif import objects

if not VIEWER:
    pytest.skip("tox -e ohif fetches the viewer and runs it", allow_module_level=True)

from playwright.sync_api import Browser, Page

FRAMES_ACCEPT = "multipart/related; type=application/octet-stream; transfer-syntax=*"

browser = archive.browser


@dataclass
class Asked:
    """One request that the server got."""

    path: str
    query: dict[str, list[str]]
    status: int
    accept: str
    headers: dict[str, str]
    size: int

    @property
    def step(self) -> str:
        """What of the order of section it belongs to: UIDs left out."""
        return re.sub(r"/[0-9.]+(?=/|$)", "/UID", self.path.removeprefix("/dicomweb"))


@dataclass
class Viewer:
    """A page of the viewer, and what is wrong with it."""

    page: Page
    url: str
    log: Path
    problems: list[str] = field(default_factory=list)

    def asked(self) -> list[Asked]:
        """What DICOMweb was asked since the log was emptied."""
        found = []
        whole_lines = self.log.read_text("utf-8").rpartition("\n")[0]
        for line in whole_lines.splitlines():
            entry: dict[str, Any] = json.loads(line)
            if entry["path"].startswith("/dicomweb"):
                found.append(
                    Asked(
                        path=entry["path"],
                        query=parse_qs(entry["query"]),
                        status=entry["status"],
                        accept=entry["asked"].get("accept", ""),
                        headers=entry["headers"],
                        size=entry["size"],
                    )
                )
        return found

    def open(self, study: str) -> None:
        """The study in the viewer, without its tour."""
        self.page.add_init_script("localStorage.setItem('shownTours', '[\"basicViewerTour\"]')")
        self.page.goto(f"{self.url}{PATH}/viewer?StudyInstanceUIDs={study}")

    def until(self, is_so: Callable[[], bool]) -> None:
        """Until the page has brought it about."""
        for _ in range(SECONDS // 100):
            if is_so():
                return
            self.page.wait_for_timeout(100)
        raise AssertionError("it took too long")

    def place(self, number: int, of: int) -> None:
        """Until the image of this place is the one that is shown."""
        text = re.compile(rf"\({number}/{of}\)")
        self.page.get_by_text(text).first.wait_for(timeout=SECONDS)

    def centre(self) -> tuple[int, int]:
        """The middle of the picture."""
        box = self.page.locator("canvas.cornerstone-canvas").first.bounding_box()
        assert box is not None
        return int(box["x"] + box["width"] / 2), int(box["y"] + box["height"] / 2)

    def colour_at(self, x: int, y: int) -> tuple[int, int, int]:
        """What is seen there."""
        picture = np.asarray(png_decode(self.page.screenshot()))
        red, green, blue = (int(value) for value in picture[y, x, :3])
        return red, green, blue

    def scroll(self, times: int) -> None:
        """The wheel over the picture; each turn is one image."""
        self.page.mouse.move(*self.centre())
        for _ in range(times):
            self.page.mouse.wheel(0, 100)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server of the viewer and of all objects: its address and its log.

    A process of its own, started so that nothing of asyncio is replaced in this one, where the
    driver of the browser runs.
    """
    log = tmp_path_factory.mktemp("ohif") / "requests"
    log.touch()
    command = [sys.executable, "-m", "ohif.server", VIEWER, str(log)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            for item in objects.all_objects():
                answer = httpx.post(
                    f"{url}/dicomweb/studies",
                    content=objects.written(item),
                    headers={"content-type": "application/dicom"},
                    timeout=60,
                )
                assert answer.status_code == 200, answer.text
            yield url, log
        finally:
            process.terminate()


@pytest.fixture
def viewer(served: tuple[str, Path], browser: Browser) -> Iterator[Viewer]:
    """A new page; afterwards there was no error in it, and no request to anybody else."""
    url, log = served
    os.truncate(log, 0)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(SECONDS)
    found = Viewer(page, url, log)
    own = (url, "blob:", "data:", "chrome:", "chrome-extension:")
    page.on("console", lambda m: found.problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: found.problems.append(str(error)))
    page.on(
        "request",
        lambda asked: None if asked.url.startswith(own) else found.problems.append(asked.url),
    )
    yield found
    page.close()
    assert found.problems == []
    assert [(one.path, one.status) for one in found.asked() if one.status not in (200, 304)] == []


def in_order(steps: list[str], *wanted: str) -> bool:
    """Whether these are there, each after the one before."""
    left = iter(steps)
    return all(any(step == one for step in left) for one in wanted)


def check_frames(viewer: Viewer, count: int, syntax: str) -> None:
    """Each frame is asked for, and comes as one part whose length is known."""

    def of_frames() -> list[Asked]:
        return [one for one in viewer.asked() if "/frames/" in one.path]

    viewer.until(lambda: len({one.path for one in of_frames()}) >= count)
    for one in of_frames():
        assert one.accept == FRAMES_ACCEPT
        assert int(one.headers["content-length"]) == one.size
        assert one.headers["content-type"].startswith(
            'multipart/related; type="application/octet-stream"'
        )
    answer = httpx.get(viewer.url + of_frames()[0].path, headers={"accept": FRAMES_ACCEPT})
    head = answer.content[:400]
    assert f"Content-Type: application/octet-stream; transfer-syntax={syntax}".encode() in head


def test_the_list_of_studies(viewer: Viewer) -> None:
    viewer.page.goto(f"{viewer.url}{PATH}/")
    viewer.page.get_by_text("Viewer, Vera").nth(3).wait_for()
    search, *_ = viewer.asked()
    assert search.step == "/studies"
    assert search.query["limit"] == ["101"]
    assert search.query["includefield"] == ["00081030,00080060,00080090,00100030"]
    assert viewer.page.get_by_text("CT\\SEG").count() == 1
    viewer.page.locator("input").first.fill("Ve")
    viewer.until(lambda: any(one.query.get("PatientName") == ["*Ve*"] for one in viewer.asked()))
    viewer.page.get_by_text("Viewer, Vera").nth(3).wait_for()


def test_a_ct_is_opened_and_scrolled(viewer: Viewer) -> None:
    viewer.open(objects.CT)
    viewer.place(1, objects.SLICES)
    check_frames(viewer, objects.SLICES, "1.2.840.10008.1.2.1")
    steps = [one.step for one in viewer.asked()]
    assert in_order(
        steps,
        "/studies",
        "/studies/UID/series",
        "/studies/UID/series/UID/metadata",
        "/studies/UID/series/UID/instances/UID/frames/UID",
    )
    assert steps.count("/studies/UID/series/UID/metadata") == 2
    assert "/studies/UID/series/UID/instances/UID/thumbnail" in steps
    prior = [one.query for one in viewer.asked() if one.query.get("00100020")]
    assert [query["00100020"] for query in prior] == [["V1"]]
    for one in viewer.asked():
        if one.step.endswith("/metadata"):
            assert one.headers["content-encoding"] == "gzip"
            assert "etag" in one.headers
    x, y = viewer.centre()
    assert min(viewer.colour_at(x, y)) > 200  # the disc is white
    viewer.scroll(5)
    viewer.place(6, objects.SLICES)


def test_a_segmentation_is_laid_over_the_ct(viewer: Viewer) -> None:
    viewer.open(objects.CT)
    viewer.place(1, objects.SLICES)
    viewer.page.get_by_text("SEG", exact=True).first.dblclick()
    viewer.page.get_by_text("Do you want to open this Segmentation?").wait_for()
    x, y = viewer.centre()
    viewer.until(lambda: _is_coloured(viewer.colour_at(x, y)))
    (whole,) = [one for one in viewer.asked() if one.step.endswith("/instances/UID")]
    assert whole.accept == 'multipart/related; type="application/dicom"'
    assert whole.path.endswith(".2.1")


def _is_coloured(colour: tuple[int, int, int]) -> bool:
    return max(colour) - min(colour) > 30


def test_an_enhanced_multi_frame_is_opened_and_scrolled(viewer: Viewer) -> None:
    viewer.open(objects.ENHANCED)
    viewer.place(1, objects.SLICES)
    check_frames(viewer, objects.SLICES, "1.2.840.10008.1.2.1")
    numbers = {one.path.rpartition("/")[2] for one in viewer.asked() if "/frames/" in one.path}
    assert numbers == {str(number) for number in range(1, objects.SLICES + 1)}
    viewer.scroll(3)
    viewer.place(4, objects.SLICES)
    x, y = viewer.centre()
    assert min(viewer.colour_at(x, y)) > 200


def test_a_clip_in_colour_is_opened_and_scrolled(viewer: Viewer) -> None:
    viewer.open(objects.ULTRASOUND)
    viewer.place(1, objects.ULTRASOUND_FRAMES)
    check_frames(viewer, objects.ULTRASOUND_FRAMES, "1.2.840.10008.1.2.4.50")
    x, y = viewer.centre()
    viewer.until(lambda: viewer.colour_at(x, y)[1] > 150)  # green
    viewer.scroll(1)
    viewer.place(2, objects.ULTRASOUND_FRAMES)
    viewer.until(lambda: viewer.colour_at(x, y)[2] > 150)  # blue


def test_a_document_is_shown(viewer: Viewer) -> None:
    viewer.open(objects.DOCUMENT)

    def of_document() -> list[Asked]:
        return [one for one in viewer.asked() if one.step.endswith("/rendered")]

    viewer.until(lambda: bool(of_document()))
    first, *_ = of_document()
    assert (first.status, first.headers["content-type"]) == (200, "application/pdf")
    assert first.headers["content-disposition"].startswith("inline")
