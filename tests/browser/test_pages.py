"""Each page in a browser: whether everybody can use it, and whether it keeps its own policy.

``tox -e browser`` fetches what it needs and runs this; elsewhere it is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest

from browser import archive
from browser.archive import AXE, CT, SECONDS, Site, isocenter, paths

if not AXE:
    pytest.skip("tox -e browser fetches what it needs and runs it", allow_module_level=True)

from playwright.sync_api import Browser, Page

WIDTHS = (1280, 400)
SCHEMES = ("light", "dark")
#: A name as long as they may be.
FAR = "a-node-in-another-department-with-a-name-that-is-as-long-as-any"

browser = archive.browser


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
    config = folder / "settings.toml"
    config.write_text(
        '[[rules]]\nname = "no comments"\ncoerce = [{ remove = "PatientComments" }]\n'
    )
    with archive.served(folder, "--config", config, *data, "--no-tls") as found:
        yield found


@pytest.fixture
def page(site: Site, browser: Browser) -> Iterator[Page]:
    """A new page; afterwards there was no error in it, and no request to anybody else."""
    with archive.new_page(site, browser) as found:
        yield found


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
    """With all files in it."""
    done = isocenter("storescu", site.dicom, "-aet", "CT1", *paths())
    assert done.returncode == 0, done.stderr
    return site


@pytest.fixture(scope="module")
def worked_with(site: Site, browser: Browser) -> list[str]:
    """Something to show on each page: all addresses of pages."""
    done = isocenter("storescu", site.dicom, "-aet", "CT1", *paths())
    assert done.returncode == 0, done.stderr
    assert isocenter("echoscu", site.dicom.replace("ISOCENTER", "OTHER")).returncode != 0
    context = browser.new_context()
    page = context.new_page()
    _, mr, third, plan, _ = (pydicom.dcmread(path, stop_before_pixels=True) for path in paths())
    study = f"/studies/{mr.StudyInstanceUID}"

    def say(path: str, **form: str) -> None:
        answer = page.request.post(f"{site.url}{path}", form=form, headers={"origin": site.url})
        assert answer.status == 200, path

    say("/nodes", address="FAR@127.0.0.1:1", name=FAR)
    say(f"/nodes/{FAR}/verify")
    say("/send", study=mr.StudyInstanceUID, node=FAR)
    correction = {"kind": "correct", "step": "apply", "reason": "a wrong name was typed"}
    say(f"{study}/correct", PatientName="Newman^Nora", **correction)
    say(f"{study}/hold", reason="a trial needs it")
    say(f"{study}/share", label="Dr. Roe", days="7")
    say(f"/studies/{plan.StudyInstanceUID}/quarantine", reason="not ours, it seems")
    say(f"/studies/{third.StudyInstanceUID}/reject", **{"for": "quality", "reason": "blurred"})
    marked = page.request.post(
        f"{site.url}/api/v1{study}/key-images",
        data={"sop_instance_uid": mr.SOPInstanceUID, "frame_number": 1},
        headers={"origin": site.url},
    )
    assert marked.status == 201, marked.text()
    found = [
        *addresses(), study, f"{study}/series/{mr.SeriesInstanceUID}", f"/nodes/{FAR}",
        f"/send?study={mr.StudyInstanceUID}",
        f"/send?study={mr.StudyInstanceUID}&study={CT.removeprefix('/studies/')}",
    ]  # fmt: skip
    # Those whose addresses the lists tell.
    for each in ("/jobs", "/quarantine"):
        page.goto(f"{site.url}{each}")
        address = page.locator("tbody a").first.get_attribute("href")
        assert address is not None
        found.append(address)
    context.close()
    return found


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
    site: Site, worked_with: list[str], browser: Browser, width: int, scheme: Any
) -> None:
    """No violation of WCAG 2.1 A and AA that axe knows of, and nothing wider than the screen."""
    context = browser.new_context(
        bypass_csp=True, viewport={"width": width, "height": 800}, color_scheme=scheme
    )
    page = context.new_page()
    page.set_default_timeout(SECONDS)
    violations = []
    for address in worked_with:
        page.goto(f"{site.url}{address}")
        violations += violations_of(page, address)
    context.close()
    assert violations == []


def violations_of(page: Page, name: str) -> list[tuple[str, str, list[str]]]:
    """What the checker finds in a page, which must not be wider than the screen either."""
    page.evaluate(Path(AXE).read_text("utf-8"))
    rules = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
    result = page.evaluate("rules => axe.run(document, rules)", rules)
    assert len(result["passes"]) > 5, "the checker has looked"
    too_wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert not too_wide, f"{name} is wider than the screen"
    return [
        (name, one["id"], [node["html"] for node in one["nodes"]][:3])
        for one in result["violations"]
    ]


def preview_correction(page: Page) -> None:
    page.get_by_label("Patient’s name").fill("Newer^Norbert")
    page.get_by_role("button", name="Preview").first.click()


def preview_move(page: Page) -> None:
    page.get_by_label("Patient ID", exact=True).last.fill("4MR1")
    page.get_by_role("button", name="Preview").nth(1).click()


def preview_merge(page: Page) -> None:
    page.get_by_label("ID that is to go").fill("1CT1")
    page.get_by_label("ID that is to stay").fill("4MR1")
    page.get_by_role("button", name="Preview").click()


def make_secret(page: Page) -> None:
    page.get_by_role("button", name=re.compile("Ask for codes|Make a new secret")).click()
    page.get_by_role("img", name="QR code").wait_for()


#: Pages that are answers to forms: where the form is, how it is filled in, and the heading.
ANSWERS = {
    "correction": (f"{CT}/correct", preview_correction, "Correct this study?"),
    "move": (f"{CT}/correct", preview_move, "Give this study to another patient?"),
    "merge": ("/patients/merge", preview_merge, "Merge these patients?"),
    "one-time codes": ("/users/eve", make_secret, "eve"),
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_everybody_can_use_what_forms_answer(
    site: Site, worked_with: list[str], browser: Browser, width: int, scheme: Any
) -> None:
    context = browser.new_context(
        bypass_csp=True, viewport={"width": width, "height": 800}, color_scheme=scheme
    )
    page = context.new_page()
    page.set_default_timeout(SECONDS)
    violations = []
    for name, (address, fill, heading) in ANSWERS.items():
        page.goto(f"{site.url}{address}")
        fill(page)
        page.get_by_role("heading", name=heading).first.wait_for()
        violations += violations_of(page, name)
    context.close()
    assert violations == []


def test_no_page_breaks_its_own_policy(
    site: Site, worked_with: list[str], browser: Browser
) -> None:
    """Nothing that the Content Security Policy would have to keep from running or loading."""
    context = browser.new_context()
    context.add_init_script(
        "window.refused = []; document.addEventListener('securitypolicyviolation', "
        "event => window.refused.push(event.violatedDirective + ' ' + event.blockedURI));"
    )
    page = context.new_page()
    page.set_default_timeout(SECONDS)
    refused = {}
    for address in worked_with:
        page.goto(f"{site.url}{address}")
        page.wait_for_load_state("networkidle")
        refused[address] = page.evaluate("window.refused")
    for name, (address, fill, _) in ANSWERS.items():
        page.goto(f"{site.url}{address}")
        fill(page)
        page.wait_for_load_state("networkidle")
        refused[name] = page.evaluate("window.refused")
    context.close()
    assert {address: found for address, found in refused.items() if found} == {}
