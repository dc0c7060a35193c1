"""The pages in a browser, as somebody uses them; and whether everybody can.

``tox -e browser`` fetches what it needs and runs this; elsewhere it is skipped.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file

AXE = os.environ.get("ISOCENTER_AXE", "")
if not AXE:
    pytest.skip("tox -e browser fetches what it needs and runs it", allow_module_level=True)

from playwright.sync_api import Browser, Page, sync_playwright  # noqa: E402

SECONDS = 60_000
ISOCENTER = (sys.executable, "-m", "isocenter.services.cli")
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(sys.path),
    "ISOCENTER__MONITORING__PORT": "0",
}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
FILES = (
    "CT_small.dcm",
    "MR_small.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "rtplan.dcm",
    "examples_ybr_color.dcm",
)
WIDTHS = (1280, 400)
SCHEMES = ("light", "dark")
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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("served")
    data = ("--data-dir", folder / "data")
    passcode = folder / "passcode"
    passcode.write_text("correct horse battery")
    isocenter("certs", "init", *data)
    isocenter("certs", "issue", "CT1", *data)
    isocenter("user", "add", "eve", "--role", "Viewer", "--passcode-file", passcode, *data)
    isocenter("token", "add", "loader", "--user", "eve", *data)
    ports = ["--port", "0", "--no-tls", "--http-port", "0"]
    config = folder / "settings.toml"
    config.write_text(
        '[[rules]]\nname = "no comments"\ncoerce = [{ remove = "PatientComments" }]\n'
    )
    command = [
        *ISOCENTER,
        "serve",
        "--config",
        str(config),
        "--data-dir",
        str(folder / "data"),
        *ports,
    ]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            command, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=log
        ) as process,
    ):
        assert process.stdout is not None
        try:
            ready = next(line for line in process.stdout if line.startswith("ready "))
            dicom, web = re.findall(r"(?:dicom|http)://127\.0\.0\.1:(\d+)", ready)
            yield Site(f"http://127.0.0.1:{web}", f"ISOCENTER@127.0.0.1:{dicom}")
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None, "needs chromium (Debian: apt-get install chromium)"
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(site: Site, browser: Browser) -> Iterator[Page]:
    """A new page; afterwards there was no error in it, and no request to anybody else."""
    problems: list[str] = []
    found = browser.new_page(viewport={"width": 1280, "height": 900})
    found.set_default_timeout(SECONDS)
    own = (site.url, "blob:", "data:")
    found.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    found.on("pageerror", lambda error: problems.append(str(error)))
    found.on(
        "request", lambda asked: None if asked.url.startswith(own) else problems.append(asked.url)
    )
    yield found
    found.close()
    assert problems == []


def paths() -> list[Path]:
    found = []
    for name in FILES:
        path = get_testdata_file(name)
        assert isinstance(path, str)
        found.append(Path(path))
    return found


def go(page: Page, group: str, name: str = "") -> None:
    """To a page by the navigation; without *name* to the first of its group."""
    page.get_by_label("Groups of pages").get_by_role("link", name=group).click()
    if name:
        page.get_by_label("Pages", exact=True).get_by_role("link", name=name, exact=True).click()


def test_a_day(site: Site, page: Page, tmp_path: Path) -> None:
    """An empty archive, an upload, a look at images, a deletion that is taken back, a device."""
    count = len(FILES)
    page.goto(site.url)
    page.get_by_text("Nothing has arrived yet").wait_for()
    assert f"isocenter storescu {site.dicom} FILE" in page.inner_text("main")

    # A folder with something else in it.
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in paths():
        shutil.copy(path, folder / path.name)
    (folder / "notes.txt").write_text("no DICOM")
    page.get_by_role("link", name="upload files").click()
    page.set_input_files("#folder", folder)
    page.locator("#state", has_text="done").wait_for()
    assert (
        page.inner_text("#state") == f"{len(FILES)} of {len(FILES) + 1} files stored, 1 not, done"
    )
    assert "notes.txt" in page.inner_text("#failures")

    # The list, its filter, and a series of several frames.
    go(page, "Studies")
    assert page.locator("tbody tr").count() == count
    page.get_by_label("Modality").fill("mr")
    page.get_by_role("button", name="Find").click()
    page.get_by_role("link", name="CompressedSamples, MR1").first.wait_for()
    assert "modality=mr" in page.url
    moving = pydicom.dcmread(paths()[-1], stop_before_pixels=True)
    page.goto(f"{site.url}/studies/{moving.StudyInstanceUID}")
    page.locator(".series a").first.click()
    frames = int(moving.NumberOfFrames)
    page.locator("figcaption", has_text=f"1 / {frames}").wait_for()
    page.locator("figure").hover()
    page.mouse.wheel(0, 100)
    page.get_by_text(f"2 / {frames}").wait_for()
    page.locator("figure").focus()
    page.keyboard.press("End")
    page.get_by_text(f"{frames} / {frames}").wait_for()
    page.locator(f"figure img[src*='/frames/{frames}/rendered']").wait_for()

    # Contrast by dragging, and back.
    page.goto(f"{site.url}{CT}")
    page.locator(".series a").first.click()
    box = page.locator("figure").bounding_box()
    assert box is not None
    with page.expect_response(re.compile("/metadata$")):
        page.mouse.move(box["x"] + 300, box["y"] + 200)
        page.mouse.down()
    image = page.locator("figure img[src*='window=']")
    for step in range(200):
        page.mouse.move(box["x"] + 300 + step, box["y"] + 200)
        if image.count():
            break
    page.mouse.up()
    image.wait_for()
    assert float(page.get_by_label("Window").input_value()) > 0
    page.get_by_role("button", name="As stored").click()
    page.locator("figure img:not([src*='window='])").wait_for()
    page.get_by_role("link", name="Attributes").click()
    page.get_by_text("Patient's Name").wait_for()
    with page.expect_download() as loading:
        page.get_by_role("link", name="Download").click()
    assert loading.value.path().read_bytes()[128:132] == b"DICM"

    # Deleted, seen by nobody, and put back.
    page.goto(f"{site.url}{CT}")
    page.get_by_role("link", name="Delete this study").click()
    page.get_by_label("Reason").fill("sent twice")
    page.get_by_role("button", name="Delete").click()
    page.get_by_text("sent twice").wait_for()
    found = isocenter("findscu", site.dicom, "-S", "-L", "STUDY", "-k", "StudyInstanceUID")
    assert CT.removeprefix("/studies/") not in found.stdout
    page.get_by_role("button", name="Restore").click()
    go(page, "Studies")
    assert page.locator("tbody tr").count() == count

    # A scanner is admitted, then another calls in vain and is admitted by its button.
    go(page, "Network", "Devices")
    page.get_by_label("AE title").fill("CT1")
    page.get_by_role("button", name="Admit", exact=True).click()
    page.get_by_role("cell", name="CT1", exact=True).wait_for()
    assert isocenter("echoscu", site.dicom, "-aet", "MR7").returncode != 0
    page.reload()
    row = page.get_by_role("region", name="Turned away").get_by_role("row", name="MR7")
    row.get_by_role("button", name="Admit").click()
    page.get_by_role("region", name="Admitted devices").get_by_text("MR7").wait_for()
    assert isocenter("echoscu", site.dicom, "-aet", "MR7").returncode == 0

    # A colleague, a token that is shown once, a certificate that is taken away, and a setting.
    go(page, "Access", "Users")
    page.get_by_label("Name").fill("carol")
    page.get_by_label("Passcode").fill("a long passcode of carol")
    page.get_by_role("button", name="Add").click()
    page.get_by_role("link", name="carol").wait_for()
    go(page, "Access", "API tokens")
    page.get_by_label("Name").fill("reports")
    page.get_by_label("user").select_option("carol")
    page.get_by_role("button", name="Make").click()
    assert re.search(r"iso_[0-9a-f]{8}_[0-9a-f]{64}", page.inner_text("main"))
    go(page, "Access", "API tokens")
    assert "iso_" not in page.inner_text("main")
    go(page, "Network", "Certificates")
    page.get_by_label("AE title").first.fill("US4")
    with page.expect_download() as issuing:
        page.get_by_role("button", name="Issue", exact=True).click()
    with zipfile.ZipFile(issuing.value.path()) as bundle:
        assert "US4.key" in bundle.namelist()
    go(page, "System", "Settings")
    page.get_by_label("Key or purpose").fill("web.max_results")
    page.get_by_role("button", name="Find").click()
    page.get_by_role("link", name="web.max_results").click()
    page.get_by_label("Value").fill("77")
    page.get_by_role("button", name="Change").click()
    page.get_by_text("in use after a restart only").wait_for()

    # What the rules would do with a study, and what came last.
    page.goto(f"{site.url}{CT}")
    page.get_by_text("For programs").click()
    page.get_by_role("link", name="Try the rules").click()
    page.get_by_text("1 instance", exact=True).wait_for()
    page.get_by_text("(0010,4000)").wait_for()
    go(page, "Studies", "Arrivals")
    assert page.locator("tbody tr").count() == count
    with page.expect_download() as saving:
        page.get_by_role("button", name="As CSV").click()
    rows = list(csv.reader(saving.value.path().read_text("utf-8-sig").splitlines()))
    assert rows[0][:3] == ["Last", "Patient", "ID"]
    assert len(rows) == count + 1
    assert "CompressedSamples, MR1" in {row[1] for row in rows}

    # All of it is in the audit trail.
    page.goto(f"{site.url}/audit?event=security+alert")
    for done in (
        "application entity MR7 admitted", "user carol added", "the API token reports was made",
        "certificate US4 issued", "settings changed: web.max_results",
    ):  # fmt: skip
        page.get_by_text(done).first.wait_for()


def addresses() -> list[str]:
    ct = pydicom.dcmread(paths()[0], stop_before_pixels=True)
    series = f"{CT}/series/{ct.SeriesInstanceUID}"
    other = pydicom.dcmread(paths()[1], stop_before_pixels=True).SOPInstanceUID
    return [
        f"/compare?one={ct.SOPInstanceUID}&other={other}&all=yes",
        "/patients", "/patients?name=x", "/arrivals", "/steps",
        f"/delete?study={CT.removeprefix('/studies/')}",
        "/", "/?name=nobody", "/?first=soon", CT, series, f"{series}/instances/{ct.SOPInstanceUID}",
        f"{CT}/share", "/shares", "/share/none",
        f"{CT}/correct", "/corrections", "/patients/merge",
        f"{CT}/quarantine", f"{CT}/reject", f"{CT}/hold",
        "/quarantine", "/rejections", "/retention", "/reconciliation",
        "/upload", f"{CT}/delete", "/trash", "/associations", "/devices", "/certificates",
        "/users", "/users/eve", "/tokens", "/worklist", "/worklist/new", "/queue", "/jobs",
        "/nodes",
        "/rules", f"/rules?study={CT.removeprefix('/studies/')}",
        "/audit", "/status", "/storage", "/checks", "/log", "/about",
        "/settings", "/settings/log.level", "/settings/web.cors_origins",
        "/settings/storage.data_dir", "/nothing",
    ]  # fmt: skip


@pytest.fixture
def filled(site: Site) -> Site:
    """With all files in it; as the scanner that was admitted, if one was before."""
    done = isocenter("storescu", site.dicom, "-aet", "CT1", *paths())
    assert done.returncode == 0, done.stderr
    return site


def test_an_image_is_marked_and_the_mark_taken_away(filled: Site, page: Page) -> None:
    page.goto(f"{filled.url}{CT}")
    page.locator(".series a").first.click()
    button = page.get_by_role("button", name="Key image")
    with page.expect_response(re.compile("/key-images$")) as answered:
        button.click()
    assert answered.value.status == 201
    page.locator("[aria-pressed=true]").wait_for()
    page.goto(f"{filled.url}{CT}")
    page.get_by_role("link", name="Of Interest").wait_for()
    page.locator("img[src*='/api/v1/thumbnails/']").wait_for()
    page.get_by_role("button", name="key object selection").click()
    page.locator(".thumbnail", has_text="KO").first.wait_for()
    page.get_by_role("link", name="Of Interest").click()
    page.locator("[aria-pressed=true]").wait_for()
    page.get_by_role("button", name="Key image").click()
    page.locator("[aria-pressed=false]").wait_for()
    page.goto(f"{filled.url}{CT}")
    assert page.get_by_role("heading", name="Key images").count() == 0


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_everybody_can_use_every_page(
    filled: Site, browser: Browser, width: int, scheme: Any
) -> None:
    """No violation of WCAG 2.1 A and AA that axe knows of, and nothing wider than the screen."""
    context = browser.new_context(
        bypass_csp=True, viewport={"width": width, "height": 800}, color_scheme=scheme
    )
    page = context.new_page()
    page.set_default_timeout(SECONDS)
    checker = Path(AXE).read_text("utf-8")
    rules = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
    violations = []
    for address in addresses():
        page.goto(f"{filled.url}{address}")
        page.evaluate(checker)
        result = page.evaluate("rules => axe.run(document, rules)", rules)
        assert len(result["passes"]) > 5, "the checker has looked"
        violations += [
            (address, one["id"], [node["html"] for node in one["nodes"]][:3])
            for one in result["violations"]
        ]
        too_wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
        assert not too_wide, f"{address} is wider than {width} pixels"
    context.close()
    assert violations == []


def test_no_page_breaks_its_own_policy(filled: Site, browser: Browser) -> None:
    """Nothing that the Content Security Policy would have to keep from running or loading."""
    context = browser.new_context()
    context.add_init_script(
        "window.refused = []; document.addEventListener('securitypolicyviolation', "
        "event => window.refused.push(event.violatedDirective + ' ' + event.blockedURI));"
    )
    page = context.new_page()
    page.set_default_timeout(SECONDS)
    refused = {}
    for address in addresses():
        page.goto(f"{filled.url}{address}")
        page.wait_for_load_state("networkidle")
        refused[address] = page.evaluate("window.refused")
    context.close()
    assert {address: found for address, found in refused.items() if found} == {}
