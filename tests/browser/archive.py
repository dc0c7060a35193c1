"""Served archives, and a browser in front of them, for the tests of the pages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydicom.data import get_testdata_file

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

#: The checker of accessibility, and the folder of the viewer, where ``tox`` has put them.
AXE = os.environ.get("ISOCENTER_AXE", "")
VIEWER = os.environ.get("ISOCENTER_OHIF", "")

SECONDS = 60_000
ISOCENTER = (sys.executable, "-m", "isocenter.services.cli")
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(sys.path),
    "ISOCENTER__MONITORING__PORT": "0",
}
#: The driver's own addresses, and those of a page's own making.
_OWN = ("blob:", "data:", "chrome:", "chrome-extension:")
#: Without a graphics card, and as root in containers.
_FLAGS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
FILES = (
    "CT_small.dcm",
    "MR_small.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "rtplan.dcm",
    "examples_ybr_color.dcm",
)
#: The page of the first file's study.
CT = "/studies/1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"


@dataclass(frozen=True)
class Site:
    """A served archive: where its pages are, and what it is called over DICOM."""

    url: str
    dicom: str


def isocenter(*words: object) -> subprocess.CompletedProcess[str]:
    """Our command, in a process of its own.

    Nothing of it is imported here: it replaces parts of asyncio, on which the driver of the browser
    runs.
    """
    command = [*ISOCENTER, *map(str, words)]
    return subprocess.run(command, env=ENVIRONMENT, text=True, capture_output=True, check=False)


@contextmanager
def served(folder: Path, *options: object) -> Iterator[Site]:
    """An archive on free ports, its log in *folder*; its pages over TLS, where *options* say so."""
    command = [*ISOCENTER, "serve", "--port", "0", "--http-port", "0", *map(str, options)]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            command, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=log
        ) as process,
    ):
        assert process.stdout is not None
        try:
            ready = next(line for line in process.stdout if line.startswith("ready "))
            ports = dict(re.findall(r"\b(dicom|https?)://127\.0\.0\.1:(\d+)", ready))
            scheme = "https" if "https" in ports else "http"
            yield Site(
                f"{scheme}://127.0.0.1:{ports[scheme]}", f"ISOCENTER@127.0.0.1:{ports['dicom']}"
            )
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    assert CHROMIUM is not None, "needs chromium (Debian: apt-get install chromium)"
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        yield found
        found.close()


@contextmanager
def new_page(site: Site, browser: Browser, **options: Any) -> Iterator[Page]:
    """A new page; afterwards there was no error in it, and no request to anybody else."""
    problems: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
    found = context.new_page()
    found.set_default_timeout(SECONDS)
    watch(found, site, problems)
    yield found
    context.close()
    assert problems == []


def watch(page: Page, site: Site, problems: list[str]) -> None:
    """Note errors of the page, and requests to others than *site*."""
    own = (site.url, *_OWN)
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request", lambda asked: None if asked.url.startswith(own) else problems.append(asked.url)
    )


def paths() -> list[Path]:
    """The files that are sent and uploaded."""
    found = []
    for name in FILES:
        path = get_testdata_file(name)
        assert isinstance(path, str)
        found.append(Path(path))
    return found
