"""Downloads, links to a study, and what arrives meanwhile, in a browser over TLS."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import archive

if not archive.AXE:
    pytest.skip("tox -e browser fetches what it needs and runs it", allow_module_level=True)

from playwright.sync_api import Browser, Page, expect

browser = archive.browser
PASSCODE = "correct horse battery"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[archive.Site]:
    folder = tmp_path_factory.mktemp("shared")
    data = ("--data-dir", folder / "data")
    passcode = folder / "passcode"
    passcode.write_text(PASSCODE)
    archive.isocenter("certs", "init", *data)
    added = archive.isocenter(
        "user", "add", "doc", "--role", "Radiologist", "--passcode-file", passcode, *data
    )
    assert added.returncode == 0, added.stderr
    https = ("--https-host", "127.0.0.1", "--https-port", "0")
    with archive.served(folder, *data, "--tls-port", "0", *https) as found:
        yield found


@pytest.fixture
def page(site: archive.Site, browser: Browser) -> Iterator[Page]:
    """Signed in; afterwards there was no error in it."""
    with archive.new_page(site, browser, ignore_https_errors=True) as found:
        yield found


@pytest.fixture
def stranger(site: archive.Site, browser: Browser) -> Iterator[Page]:
    """In a browser of its own."""
    with archive.new_page(site, browser, ignore_https_errors=True) as found:
        yield found


def sign_in(page: Page, site: archive.Site) -> None:
    page.goto(site.url)
    page.fill("[name=name]", "doc")
    page.fill("[name=passcode]", PASSCODE)
    page.click("main form button")
    page.wait_for_selector("h1:text('Studies')")


def send(site: archive.Site, path: Path) -> None:
    sent = archive.isocenter("storescu", site.dicom, str(path))
    assert sent.returncode == 0, sent.stderr


def test_what_arrives_is_told_and_taken_away(
    page: Page, site: archive.Site, tmp_path: Path
) -> None:
    first, second, *_ = archive.paths()
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
    page: Page, stranger: Page, site: archive.Site, tmp_path: Path
) -> None:
    sign_in(page, site)
    send(site, archive.paths()[0])
    page.goto(site.url + archive.CT)
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
