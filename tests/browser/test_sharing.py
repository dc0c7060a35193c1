"""Downloads, links to a study, and what arrives meanwhile, in a browser over TLS."""

from __future__ import annotations

import re
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import test_pages as pages

if pages.AXE:
    from playwright.sync_api import Browser, Page, expect

browser = pages.browser
PASSCODE = "correct horse battery"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pages.Site]:
    folder = tmp_path_factory.mktemp("shared")
    data = ("--data-dir", str(folder / "data"))
    passcode = folder / "passcode"
    passcode.write_text(PASSCODE)
    pages.isocenter("certs", "init", *data)
    added = pages.isocenter(
        "user", "add", "doc", "--role", "Radiologist", "--passcode-file", passcode, *data
    )
    assert added.returncode == 0, added.stderr
    ports = ["--port", "0", "--tls-port", "0", "--http-port", "0"]
    https = ["--https-host", "127.0.0.1", "--https-port", "0"]
    command = [*pages.ISOCENTER, "serve", *data, *ports, *https]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            command, env=pages.ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=log
        ) as process,
    ):
        assert process.stdout is not None
        try:
            ready = next(line for line in process.stdout if line.startswith("ready "))
            (dicom,) = re.findall(r"dicom://127\.0\.0\.1:(\d+)", ready)
            (web,) = re.findall(r"https://127\.0\.0\.1:(\d+)", ready)
            yield pages.Site(f"https://127.0.0.1:{web}", f"ISOCENTER@127.0.0.1:{dicom}")
        finally:
            process.terminate()


@pytest.fixture
def page(site: pages.Site, browser: Browser) -> Iterator[Page]:
    """Signed in; afterwards there was no error in it."""
    yield from _watched(site, browser)


@pytest.fixture
def stranger(site: pages.Site, browser: Browser) -> Iterator[Page]:
    """In a browser of its own."""
    yield from _watched(site, browser)


def _watched(site: pages.Site, browser: Browser) -> Iterator[Page]:
    problems: list[str] = []
    context = browser.new_context(ignore_https_errors=True)
    found = context.new_page()
    found.set_default_timeout(pages.SECONDS)
    found.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    found.on("pageerror", lambda error: problems.append(str(error)))
    yield found
    context.close()
    assert problems == []


def sign_in(page: Page, site: pages.Site) -> None:
    page.goto(site.url)
    page.fill("[name=name]", "doc")
    page.fill("[name=passcode]", PASSCODE)
    page.click("main form button")
    page.wait_for_selector("h1:text('Studies')")


def send(site: pages.Site, path: Path) -> None:
    sent = pages.isocenter("storescu", site.dicom, str(path))
    assert sent.returncode == 0, sent.stderr


def test_what_arrives_is_told_and_taken_away(page: Page, site: pages.Site, tmp_path: Path) -> None:
    first, second, *_ = pages.paths()
    sign_in(page, site)
    for path in (first, second):
        send(site, path)
    told = page.locator("#arrivals a")
    expect(told).to_have_text("2 studies have arrived or changed: show them")
    told.click()
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.locator("#arrivals")).to_be_hidden()
    for box in page.locator("tbody input[name=study]").all():
        box.check()
    with page.expect_download() as started:
        page.click("text=Download the chosen")
    started.value.save_as(tmp_path / "chosen.zip")
    with zipfile.ZipFile(tmp_path / "chosen.zip") as opened:
        assert opened.testzip() is None
        assert len(opened.namelist()) == 2


def test_somebody_without_an_account_gets_one_study(
    page: Page, stranger: Page, site: pages.Site, tmp_path: Path
) -> None:
    sign_in(page, site)
    send(site, pages.paths()[0])
    page.goto(site.url + pages.CT)
    page.click("text=Share…")
    page.fill("[name=label]", "Dr. Roe")
    page.fill("[name=passcode]", "seven words of it")
    page.check("[name=download]")
    page.click("text=Make the link")
    link = page.locator("main pre").inner_text()
    stranger.goto(link)
    stranger.fill("[name=passcode]", "seven words of it")
    stranger.click("main button")
    with stranger.expect_download() as started:
        stranger.click("text=Download it")
    started.value.save_as(tmp_path / "study.zip")
    with zipfile.ZipFile(tmp_path / "study.zip") as opened:
        assert opened.testzip() is None
    page.goto(f"{site.url}/shares")
    expect(page.locator("tbody tr")).to_contain_text("Dr. Roe")
    page.click("text=Revoke")
    expect(page.locator("tbody tr")).to_contain_text("revoked")
    assert stranger.request.get(link).status == 404
